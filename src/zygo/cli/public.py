"""`zygo server install --domain`: besides the service, Caddy in front of it, which gets certificates by itself."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zygo import errors
from zygo.cli import caddy, install
from zygo.interfaces import public_addresses
from zygo.settings import Settings

if TYPE_CHECKING:
    from zygo.cli.output import Output
    from zygo.cli.unit import Unit

ASK_PORT = 8010
"""Unless ZYGO_ASK_PORT says another."""

CONTROL_PORT = 8401
"""Unless ZYGO_CONTROL_PORT says another."""

HTTPS_PORT = 443


@dataclass(frozen=True)
class Public:
    """A server that is to be public under `domain`, its control API at that name itself. `file` is the Caddyfile."""

    domain: str
    file: Path = Path("/etc/caddy/Caddyfile")

    @property
    def control_port(self) -> int:
        """The control API's loopback port; 0 when it has a certificate, and so a port to the outside, of its own."""
        known = Settings()
        return 0 if known.control_cert else known.control_port or CONTROL_PORT

    def settings(self) -> dict[str, str]:
        """The server's settings that differ from its defaults."""
        known = Settings()
        control = {"ZYGO_CONTROL_HOST": "127.0.0.1", "ZYGO_CONTROL_PORT": str(self.control_port)}
        return {
            **(control if self.control_port else {}),
            "ZYGO_DOMAIN": self.domain,
            "ZYGO_HOST": "127.0.0.1",
            "ZYGO_TRUSTED_PROXIES": "127.0.0.1,::1",
            "ZYGO_PROXY_PORT": str(known.proxy_port or HTTPS_PORT),
            "ZYGO_ASK_PORT": str(known.ask_port or ASK_PORT),
        }

    def configuration(self) -> str:
        """The Caddyfile's text."""
        known = Settings()
        hosts = {self.domain: self.control_port} if self.control_port else {}
        return caddy.Caddy(known.port, known.ask_port or ASK_PORT, hosts).text()


def refuse(public: Public, service: install.Service) -> None:
    """Raises ExecutionError with the commands to type when this cannot be done here; nothing was changed then."""
    again = f"sudo {shlex.join(['zygo', 'server', 'install', '--domain', public.domain])}"
    if service.user:
        raise errors.ExecutionError(
            f"Ports 80 and 443 and Caddy's configuration are root's. Run this as root:\n\n    {again}"
        )
    if shutil.which("caddy") is None:
        raise errors.ExecutionError(
            "Caddy, which gets the certificates and speaks HTTP/2 and 3, is not installed. Install it, and run this again:"
            f"\n\n    sudo apt-get install caddy\n    {again}"
        )
    known = Settings()
    if known.tls_cert:
        raise errors.InvalidError(
            "ZYGO_TLS_CERT is set: with certificates of your own the gateway speaks TLS without Caddy."
        )
    if known.port in (0, HTTPS_PORT, 80):
        raise errors.InvalidError(
            f"ZYGO_PORT={known.port}: Caddy has 80 and 443, and must know the gateway's. Leave it unset."
        )
    text = _read(public.file)
    if text.strip() and not caddy.is_ours(text) and not caddy.is_packaged(text, _conffiles()):
        sites = public.file.parent / "sites" / "mine.caddy"
        raise errors.ExecutionError(
            f"{public.file} has sites of your own, which are not overwritten. Move them to where zygo's includes them, and run "
            "this again (global options do not fit there):\n\n"
            f"    sudo mkdir -p {sites.parent}\n    sudo mv {public.file} {sites}\n    {again}"
        )


def set_up(public: Public, service: install.Service, unit: Unit, out: Output, *, start: bool) -> int:
    """Install the service and Caddy's configuration; say what DNS needs. Exit status. May be repeated."""
    refuse(public, service)
    text = public.configuration()
    _validate(text)
    code = install.install(service, unit, out, start=start)
    if code:
        return code
    sites = public.file.parent / "sites"
    try:
        sites.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise errors.ExecutionError(f"{sites} cannot be made: {error.strerror}.") from None
    install.write(public.file, text, 0o644)
    out.success(f"Wrote {public.file}.")
    commands = [["systemctl", "enable", "caddy"], *([["systemctl", "reload-or-restart", "caddy"]] if start else [])]
    code = install.run(service, commands, out, log_of="caddy")
    show_records(public, out)
    return code


def show_records(public: Public, out: Output) -> None:
    """What to put into DNS, and what may still be in the way."""
    out.line()
    out.line("Make these DNS records:", "bold")
    for line in caddy.records(public.domain, public_addresses()):
        out.line(f"  {line}")
    out.hint("Ports 80 and 443 (TCP) and 443 (UDP, for HTTP/3) must be open from outside.")
    out.hint(f"Then every endpoint has a URL such as https://{Settings().workspace}--app-function.{public.domain}")
    if public.control_port:
        out.line()
        out.line("To work with it from a laptop, make a token here, and there a profile:", "bold")
        out.line("  sudo zygo token create laptop --scope deploy")
        out.line(f"  zygo profile create {public.domain} --server https://{public.domain} --token - --activate")


def remove(out: Output, file: Path = Path("/etc/caddy/Caddyfile")) -> list[list[str]]:
    """Take our configuration away, if it is there; the commands that end what used it."""
    if not caddy.is_ours(_read(file)):
        return []
    file.unlink()
    out.success(f"Removed {file}.")
    return [["systemctl", "disable", "--now", "caddy"]]


def _validate(text: str) -> None:
    """Raises ExecutionError when this machine's Caddy does not take it: it would not start again."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "Caddyfile"
        file.write_text(text)
        command = ["caddy", "validate", "--adapter", "caddyfile", "--config", str(file)]
        try:
            # It makes folders for its data, which must not be root's.
            environment = {**os.environ, "XDG_DATA_HOME": folder, "XDG_CONFIG_HOME": folder}
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise errors.ExecutionError(f"{shlex.join(command)} failed: {error}.") from None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise errors.ExecutionError(
            f"This machine's Caddy refuses the configuration; 2.6 or newer is needed. {''.join(last)}"
        )


def _conffiles() -> str:
    try:
        command = ["dpkg-query", "-W", "-f=${Conffiles}", "caddy"]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
