"""`zygo serve --share`: a public URL for a web function, through a tunnel that another program keeps.

cloudflared    a quick tunnel: no account, a random name below trycloudflare.com
ssh -R         a machine of one's own that can be reached from outside (ZYGO_SHARE_SSH)

A tunnel leads to the function's own loopback port, ends with the command, and is opened again when it breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import shutil
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zygo import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zygo.cli.output import Output

OPEN_SECONDS = 30.0
"""For a tunnel to say its URL: cloudflared takes about five."""

END_SECONDS = 2.0
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Before each attempt to open a tunnel again that broke; the last one over and over."""

KEPT_LINES = 5

HOW = """\
No tunnel can be opened: neither of these is here.

    cloudflared    install it, then serve with --share again; it needs no account:
                   https://github.com/cloudflare/cloudflared/releases
    ssh            to a machine of yours with a public address:  ZYGO_SHARE_SSH=user@host zygo serve --share ...
                   (in its sshd_config: GatewayPorts clientspecified)"""

_CLOUDFLARED = re.compile(r"https://[a-z0-9-]+(?:\.[a-z0-9-]+)+")
_NOT_A_TUNNEL = re.compile(r"https://(?:(?:www|developers|api|update)\.)?(?:cloudflare|argotunnel|trycloudflare)\.com")
_ALLOCATED = re.compile(r"Allocated port (\d+) for remote forward")


@dataclass(frozen=True)
class Way:
    """A program that opens tunnels: `command` for a local port, and `url` that finds the public URL in a line of its output."""

    name: str
    command: Callable[[int], list[str]]
    url: Callable[[str], str | None]


def way(ssh: str, which: Callable[[str], str | None] = shutil.which) -> Way:
    """How tunnels are opened here: by ssh when `ssh` says where to, else by cloudflared. Raises ExecutionError."""
    if ssh:
        program = which("ssh")
        if program is None:
            raise errors.ExecutionError(
                "ZYGO_SHARE_SSH is set, and ssh is not installed: apt-get install openssh-client"
            )
        return _ssh(program, ssh)
    program = which("cloudflared")
    if program is None:
        raise errors.ExecutionError(HOW)
    return _cloudflared(program)


def find_way() -> Way:
    """`way` by the settings. Raises InvalidError for a bad one, ExecutionError when there is none."""
    from zygo.settings import Settings  # not for a command that shares nothing: it takes 100 ms to import

    return way(Settings().share_ssh)


def _cloudflared(program: str) -> Way:
    def command(port: int) -> list[str]:
        return [program, "tunnel", "--no-autoupdate", "--url", f"http://127.0.0.1:{port}"]

    def url(line: str) -> str | None:
        found = _CLOUDFLARED.search(line)
        return found[0] if found is not None and not _NOT_A_TUNNEL.match(found[0]) else None

    return Way("cloudflared", command, url)


def _ssh(program: str, where: str) -> Way:
    try:
        *options, destination = shlex.split(where)
    except ValueError as error:
        raise errors.InvalidError(f"ZYGO_SHARE_SSH={where!r} cannot be split into words ({error}).") from None
    host = destination.removeprefix("ssh://").rpartition("@")[2].partition("/")[0]
    host = host.partition(":")[0] if not host.startswith("[") else host

    def command(port: int) -> list[str]:
        own = ["-N", "-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=15"]
        return [program, *own, "-R", f"*:0:127.0.0.1:{port}", *options, destination]

    def url(line: str) -> str | None:
        found = _ALLOCATED.search(line)
        return f"http://{host}:{found[1]}" if found is not None else None

    return Way("ssh", command, url)


class Shares:
    """The tunnels of one `zygo serve`. `follow` after each publication; `close` ends them all and may be called twice."""

    def __init__(self, way: Way, output: Output) -> None:
        self._way = way
        self._output = output
        self._told = False
        self._tunnels: dict[str, tuple[int, asyncio.Task[None]]] = {}

    async def follow(self, ports: Mapping[str, int | None]) -> None:
        """Have a tunnel for each function in `ports` (name and loopback port), and no other. A function without a port of its
        own is reached by its hostname alone."""
        if any(port is None for port in ports.values()) and not self._told:
            self._told = True
            self._output.warning(
                "Nothing is shared: this server has a domain (ZYGO_DOMAIN), and its URLs are reached from wherever that leads."
            )
        for name, (port, _) in list(self._tunnels.items()):
            if ports.get(name) != port:
                await _cancelled(self._tunnels.pop(name)[1])
        for name, wanted in ports.items():
            if wanted is not None and name not in self._tunnels:
                task = asyncio.create_task(self._keep(name, wanted), name=f"tunnel {name}")
                self._tunnels[name] = (wanted, task)

    async def close(self) -> None:
        """End every tunnel."""
        tunnels, self._tunnels = list(self._tunnels.values()), {}
        await asyncio.gather(*(_cancelled(task) for _, task in tunnels))

    async def _keep(self, name: str, port: int) -> None:
        """Keep one tunnel open until cancelled."""
        attempt = 0
        while True:
            opened, reason = await self._once(name, port)
            attempt = 0 if opened else attempt + 1
            if attempt > len(RETRY_SECONDS):
                self._output.warning(f"{name} is not shared: {self._way.name} fails again and again. {reason}")
                return
            pause = RETRY_SECONDS[max(0, attempt - 1)]
            self._output.warning(f"The tunnel of {name} ended; it is opened again in {pause:g} s. {reason}")
            await asyncio.sleep(pause)

    async def _once(self, name: str, port: int) -> tuple[bool, str]:
        """One life of a tunnel: whether it was open, and what its program said last."""
        command = self._way.command(port)
        setpriv = shutil.which("setpriv")
        if setpriv is not None:  # also when this command is killed
            command = [setpriv, "--pdeathsig", "TERM", "--", *command]
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=pipe,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us; we end it then
            )
        except OSError as error:
            return False, str(error)
        lines: deque[str] = deque(maxlen=KEPT_LINES)
        assert process.stdout is not None
        opened = False
        try:
            async with asyncio.timeout(OPEN_SECONDS) as limit:
                while line := await _line(process.stdout):
                    lines.append(line.rstrip())
                    if not opened and (url := self._way.url(line)):
                        opened = True
                        limit.reschedule(None)
                        self._output.success(f"{name} is shared at {url}")
        except TimeoutError:
            lines.append(f"it did not say a URL within {OPEN_SECONDS:g} s")
        finally:
            await _ended(process)
        return opened, "\n".join(filter(None, lines))


async def _line(stream: asyncio.StreamReader) -> str:
    """The next line, longer ones in pieces; "" at the end."""
    try:
        line = await stream.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        line = error.partial
    except asyncio.LimitOverrunError as error:
        line = await stream.read(error.consumed)
    return line.decode("utf-8", "replace")


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End it, and see that it is gone."""
    for signal in (process.terminate, process.kill):
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), END_SECONDS)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
