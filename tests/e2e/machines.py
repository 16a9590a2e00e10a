"""Two machines for tests: network namespaces joined by a cable that can be pulled, with sshd, a CA, and a slow line.

    with Machines() as machines:
        machines.server, machines.laptop         Places: the server's, with its own directories, and the laptop's
        machines.cut(); machines.mend()           the cable
        machines.sshd()                           starts one in the server's namespace; machines.ssh is ZYGO_SSH for it

        machines.lossy_line(0.1)                  as long as the block runs, the cable loses so many of the packets each way

Needs root, iproute2, and for ssh Debian's openssh-server. Many kernels have no netem, so slow and lossy lines are processes here:
a relay of TCP connections that delays what it passes on, and one of IP packets between two TUN devices that drops some.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVER, LAPTOP = "10.203.77.1", "10.203.77.2"
SSH_PORT = 2222


def why_not() -> str:
    """Why there are no two machines here; "" when there can be."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    name = f"zgprobe{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"no network namespace can be made: {done.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return ""


def has_sshd() -> bool:
    return os.path.exists("/usr/sbin/sshd") and shutil.which("ssh") is not None


def has_tun() -> bool:
    """Whether a lossy line can be made."""
    return os.path.exists("/dev/net/tun")


class Machines:
    """See above. `close` takes everything away."""

    def __init__(self, env: dict[str, str] | None = None) -> None:
        mark = os.getpid()
        self._spaces = {"server": f"zgs{mark}", "laptop": f"zgl{mark}"}
        self._stack = contextlib.ExitStack()
        try:
            self._make(env or {})
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Machines:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _make(self, env: dict[str, str]) -> None:
        for name in self._spaces.values():
            ip("netns", "add", name)
            self._stack.callback(ip, "netns", "del", name, check=False)
        here, there = self._spaces["server"], self._spaces["laptop"]
        ip("link", "add", "name", "cable0", "netns", here, "type", "veth", "peer", "name", "cable0", "netns", there)
        for space, address in ((here, SERVER), (there, LAPTOP)):
            ip("-n", space, "addr", "add", f"{address}/24", "dev", "cable0")
            ip("-n", space, "link", "set", "cable0", "up")
            ip("-n", space, "link", "set", "lo", "up")
        self.server = self._stack.enter_context(
            Place(
                {"ZYGO_HOST": SERVER, "ZYGO_PORT": "8000", "ZYGO_DOMAIN": "apps.test", **env},
                prefix=self.within("server"),
            )
        )
        self.laptop = self._stack.enter_context(Place(prefix=self.within("laptop")))
        home = self.laptop.root / "home"
        home.mkdir()
        self.laptop.environment |= {"XDG_CONFIG_HOME": str(home), "XDG_RUNTIME_DIR": str(home)}

    def within(self, machine: str) -> list[str]:
        """The words before a command that is to run on that machine."""
        return ["ip", "netns", "exec", self._spaces[machine]]

    def cut(self) -> None:
        """Pull the cable, at the laptop: what is sent is lost, and the server is told nothing."""
        ip("-n", self._spaces["laptop"], "link", "set", "cable0", "down")

    def mend(self) -> None:
        """Plug it in again."""
        ip("-n", self._spaces["laptop"], "link", "set", "cable0", "up")

    def get(self, url: str) -> tuple[int, str]:
        """Status and text of a request from the laptop to the server's gateway."""
        host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
        command = [
            "curl",
            "-sS",
            "--max-time",
            "20",
            "-w",
            "\n%{http_code}",
            "--resolve",
            f"{host}:{port or 80}:{SERVER}",
            url,
        ]
        done = subprocess.run([*self.within("laptop"), *command], capture_output=True, text=True, check=False)
        text, _, status = done.stdout.rpartition("\n")
        return int(status or 0), text or done.stderr

    def sshd(self) -> None:
        """Start an sshd on the server with keys of its own; its sessions have the server's environment."""
        folder = self.server.root / "ssh"
        folder.mkdir(mode=0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        places = ("ZYGO_DATA_DIR", "ZYGO_RUNTIME_DIR", "ZYGO_HOST", "ZYGO_PORT", "ZYGO_DOMAIN")
        variables = " ".join(f"{name}={self.server.environment[name]}" for name in places)
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin"
        (folder / "config").write_text(
            f"Port {SSH_PORT}\nListenAddress {SERVER}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
            f"StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
            f"PidFile none\nSetEnv PATH={path} {variables}\n"
        )
        os.makedirs("/run/sshd", exist_ok=True)
        command = [*self.within("server"), "/usr/sbin/sshd", "-D", "-e", "-f", str(folder / "config")]
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        self._stack.callback(_end, daemon)
        until(lambda: "Server listening" in (folder / "log").read_text(), 10, "an sshd that listens")
        public = (folder / "host.pub").read_text().split()
        (folder / "known").write_text(f"[{SERVER}]:{SSH_PORT} {public[0]} {public[1]}\n")
        (folder / "client").write_text(
            f"IdentityFile {folder}/user\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known\n"
            "GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n"
        )
        self.keys = folder
        self.laptop.environment["ZYGO_SSH"] = f"ssh -F {folder}/client"

    @property
    def ssh_address(self) -> str:
        return f"ssh://root@{SERVER}:{SSH_PORT}"

    @property
    def ssh_by_another_name(self) -> str:
        """ZYGO_SSH for an sshd that is reached at another address than its own."""
        return f"{self.laptop.environment['ZYGO_SSH']} -o HostKeyAlias=[{SERVER}]:{SSH_PORT}"

    def certificate(self) -> tuple[Path, Path, Path]:
        """A throwaway CA and a certificate of it for the server's address: the CA's file, the certificate's, the key's."""
        folder = self.server.root / "tls"
        folder.mkdir(exist_ok=True)
        return make_certificate(folder, SERVER)

    @contextlib.contextmanager
    def slow_line(self, port: int, one_way: float) -> Iterator[int]:
        """A port on the laptop's loopback that leads to the server's, with so many seconds of delay each way."""
        command = [*self.within("laptop"), sys.executable, __file__, SERVER, str(port), str(one_way)]
        relay = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert relay.stdout is not None
            yield int(relay.stdout.readline())
        finally:
            _end(relay)
            assert relay.stdout is not None
            relay.stdout.close()

    @contextlib.contextmanager
    def lossy_line(self, loss: float) -> Iterator[Callable[[], int]]:
        """See above. The value tells how many packets were dropped so far."""
        spaces = self._spaces["server"], self._spaces["laptop"]
        count = self.server.root / "dropped"
        command = [sys.executable, __file__, "lossy", *spaces, str(loss), str(count)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            for space, own, other in ((spaces[0], SERVER, LAPTOP), (spaces[1], LAPTOP, SERVER)):
                ip("-n", space, "link", "set", "lossy0", "up")
                # More exact than the cable's own route; it goes with the device, which goes with the process.
                ip("-n", space, "route", "add", f"{other}/32", "dev", "lossy0", "src", own)
            yield lambda: count.stat().st_size
        finally:
            _end(process)
            assert process.stdout is not None
            process.stdout.close()


def make_certificate(folder: Path, address: str) -> tuple[Path, Path, Path]:
    """See Machines.certificate."""
    import ipaddress

    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "zygo tests")])

    def build(subject: str, public: Any, extra: list[tuple[x509.ExtensionType, bool]]) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, subject)])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(ca_name).public_key(public)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(hours=2))
        for extension, critical in extra:
            builder = builder.add_extension(extension, critical)
        return builder.sign(ca_key, hashes.SHA256())

    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(each)) for each in (address, "127.0.0.1")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    subject_key = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    is_ca = x509.BasicConstraints(True, None)
    ca = build("zygo tests", ca_key.public_key(), [(is_ca, True), (usage, True), (subject_key, False)])
    leaf = build("server", key.public_key(), [(names, False), (own, False)])
    files = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files[2].write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    return files


def ip(*arguments: str, check: bool = True) -> None:
    """Run iproute2's command."""
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


def _end(process: subprocess.Popen[Any]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def relay(host: str, port: int, delay: float) -> None:
    """Pass TCP connections on to host:port; what comes is sent on `delay` seconds later, in order."""
    import asyncio

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            data = await reader.read(65536)
            last = max(last, loop.time() + delay)
            if not data:
                loop.call_at(last, writer.close)
                return
            loop.call_at(last, writer.write, data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * delay)  # the handshake of the connection itself
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(main())


def lose(server: str, laptop: str, loss: float, count: str) -> None:
    """Pass IP packets on between a TUN device in each of the two namespaces, but not all of them. Each that is dropped is a byte
    in the file `count`."""
    import ctypes
    import fcntl
    import random
    import select
    import struct

    libc = ctypes.CDLL(None, use_errno=True)
    ends = []
    for space in (server, laptop):
        with open(f"/var/run/netns/{space}") as namespace:
            if libc.setns(namespace.fileno(), 0x40000000):  # CLONE_NEWNET
                raise OSError(ctypes.get_errno(), "setns")
        end = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(end, 0x400454CA, struct.pack("16sH", b"lossy0", 0x1001))  # TUNSETIFF, IFF_TUN | IFF_NO_PI
        ends.append(end)
    across = {ends[0]: ends[1], ends[1]: ends[0]}
    chance = random.Random(7)
    with open(count, "wb", buffering=0) as dropped:
        print("ready", flush=True)
        while True:
            for end in select.select(ends, [], [])[0]:
                with contextlib.suppress(OSError):  # a device that is not up yet
                    packet = os.read(end, 65536)
                    if chance.random() < loss:
                        dropped.write(b".")
                    else:
                        os.write(across[end], packet)


if __name__ == "__main__" and sys.argv[1] == "lossy":
    lose(sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5])
elif __name__ == "__main__":
    relay(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
