"""The text of Caddy's configuration in front of the server, and of the DNS records that lead to it. Pure."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zygo.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MARK = "# Written by `zygo server install --domain`, which replaces it."

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")

_TEXT = """\
{mark} Sites of your own go into {sites}.
{{
{options}	# A certificate is got when a name is first asked for; for which names, the server says.
	on_demand_tls {{
		ask http://127.0.0.1:{ask}/
	}}
	servers {{
		protocols h1 h2 h3
	}}
}}

(zygo_tls) {{
	tls {{
		on_demand
	}}
}}

https:// {{
	import zygo_tls
	reverse_proxy 127.0.0.1:{gateway} {{
		# Server-sent events and streams go out as they come. Written as -1 it would also mean that the server is not told
		# when a client leaves.
		flush_interval -2ns
		# A server that restarts is away for a moment; its requests wait.
		lb_try_duration 10s
		lb_try_interval 100ms
		transport http {{
			# Below the 75 s after which the server closes: the two must not meet.
			keepalive 60s
		}}
	}}
}}
{hosts}
import {sites}
"""

_HOST = """
{name} {{
	import zygo_tls
	reverse_proxy 127.0.0.1:{port} {{
		flush_interval -2ns
		lb_try_duration 10s
		lb_try_interval 100ms
		transport http {{
			# Below the 60 s after which the control API closes.
			keepalive 30s
		}}
	}}
}}
"""


@dataclass(frozen=True)
class Caddy:
    """What the configuration is made from.

    Arguments:
        gateway, ask: the server's loopback ports for requests and for questions about names.
        hosts: hostnames that lead to other loopback ports. The server must know them too, for their certificates.
        http, https: Caddy's own ports.
        email: told to the certificate authority, which warns of certificates that end; "" for none.
        storage: where certificates are kept; None for Caddy's own place.
        internal: certificates from Caddy's own authority, which nobody else trusts, and no way to change it while it runs.
        sites: files with further sites.
    """

    gateway: int
    ask: int
    hosts: Mapping[str, int] = field(default_factory=dict)
    http: int = 80
    https: int = 443
    email: str = ""
    storage: Path | None = None
    internal: bool = False
    sites: str = "/etc/caddy/sites/*.caddy"

    def text(self) -> str:
        """The Caddyfile."""
        options = [f"http_port {self.http}"] if self.http != 80 else []
        options += [f"https_port {self.https}"] if self.https != 443 else []
        options += [f"email {self.email}"] if self.email else []
        options += [f'storage file_system "{self.storage}"'] if self.storage is not None else []
        options += ["admin off", "local_certs", "skip_install_trust"] if self.internal else []
        return _TEXT.format(
            mark=MARK,
            options="".join(f"\t{option}\n" for option in options),
            ask=self.ask,
            gateway=self.gateway,
            hosts="".join(_HOST.format(name=name, port=port) for name, port in sorted(self.hosts.items())),
            sites=self.sites,
        )


def is_ours(text: str) -> bool:
    """Whether a Caddyfile is one that `Caddy.text` made."""
    return text.startswith(MARK)


def is_packaged(text: str, conffiles: str) -> bool:
    """Whether a Caddyfile is as the package brought it; `conffiles` is what dpkg says of that: `path md5` lines."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() in conffiles.split()


def check_domain(domain: str) -> str:
    """`domain` in lower case, if a server can have it. Raises InvalidError."""
    name = domain.strip().rstrip(".").lower()
    parts = name.split(".")
    if len(parts) < 2 or len(name) > 180 or parts[-1].isdigit() or not all(_LABEL.fullmatch(part) for part in parts):
        raise InvalidError(f"{domain!r} is not a domain for a server. Give one that you own, such as apps.example.com.")
    if parts[-1] == "localhost":
        raise InvalidError("Names below localhost never leave the machine, and the server has them without --domain.")
    return name


def records(domain: str, addresses: Sequence[str]) -> list[str]:
    """The lines for a zone file that lead `domain` and every name right below it to `addresses`."""
    shown = list(addresses) or ["<public IPv4 address of this machine>", "<public IPv6 address, if it has one>"]
    lines = []
    for name in (domain, f"*.{domain}"):
        lines += [f"{name}.  {'AAAA' if ':' in a or 'IPv6' in a else 'A':<4}  {a}" for a in shown]
    return lines
