"""Which server is meant: this machine's own, or one on another machine, and how to get there.

    --server / ZYGO_SERVER  ->  the profile named by ZYGO_PROFILE  ->  the active profile  ->  this machine's own

`ssh://user@host:port` needs nothing but an account there; `https://host:port` needs a token (ZYGO_TOKEN, or the profile's).
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from zygo.errors import InvalidError

if TYPE_CHECKING:
    import ssl

LOCAL = "local"
"""As a server: this machine's own, whatever the profile says."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Remote:
    """A server on another machine. `scheme` is ssh, https or http; `port` 0 is the scheme's own."""

    scheme: str
    host: str
    port: int = 0
    user: str = ""
    token: str = ""

    @property
    def name(self) -> str:
        """The address as it is shown: without the token."""
        user, host = f"{self.user}@" if self.user else "", f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{user}{host}{f':{self.port}' if self.port else ''}"

    @property
    def tcp_port(self) -> int:
        """Where to connect."""
        return self.port or {"ssh": 22, "https": 443, "http": 80}[self.scheme]


def parse(text: str, token: str = "") -> Remote:
    """The server that an address names. Raises InvalidError."""
    try:
        parts = urlsplit(text)
        port = parts.port or 0
    except ValueError:
        raise InvalidError(f"{text!r} is not a server's address: its port or host is wrong.") from None
    host = parts.hostname or ""
    if (
        parts.scheme not in ("ssh", "https", "http")
        or not host
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
    ):
        raise InvalidError(f"{text!r} is not a server's address. Write ssh://user@host, https://host or {LOCAL!r}.")
    if parts.password is not None or (parts.username and parts.scheme != "ssh"):
        raise InvalidError("A server's address holds no password. Give the token as ZYGO_TOKEN or in a profile.")
    user = parts.username or ""
    if host.startswith("-") or user.startswith("-"):
        raise InvalidError(f"{text!r} is not a server's address: no host or user begins with a dash.")
    if parts.scheme == "http" and host not in _LOOPBACK:
        raise InvalidError(f"{text} would send the token in the clear. Use https://, or ssh://.")
    if parts.scheme != "ssh" and not token:
        raise InvalidError(
            f"{text} needs a token. Make one on the server with `zygo token create NAME --scope deploy`, and give it as "
            "ZYGO_TOKEN or with `zygo profile create`."
        )
    return Remote(parts.scheme, host, port, user, "" if parts.scheme == "ssh" else token)


def server() -> Remote | None:
    """The server that commands and calls of this process use; None: this machine's own. Raises InvalidError."""
    text, token = os.environ.get("ZYGO_SERVER", ""), os.environ.get("ZYGO_TOKEN", "")
    if not text:
        from zygo.sdk import profiles

        profile = profiles.active()
        if profile is None:
            return None
        text, token = profile.server, token or profile.token
    return None if text == LOCAL else parse(text, token)


def environment() -> str:
    """The environment that commands and calls of this process mean; "" is the server's first one. Raises InvalidError.

    ZYGO_ENVIRONMENT, else what the profile says that names the server. In a container it is the container's own.
    """
    name = os.environ.get("ZYGO_ENVIRONMENT", "")
    if name or os.environ.get("ZYGO_SERVER", ""):
        return name
    from zygo.sdk import profiles

    profile = profiles.active()
    return profile.environment if profile is not None else ""


def tls(remote: Remote) -> ssl.SSLContext | None:
    """For a connection to `remote`: the certificate authorities of this machine, or those in SSL_CERT_FILE."""
    if remote.scheme != "https":
        return None
    import ssl

    context = ssl.create_default_context()
    if not context.get_ca_certs() and not os.environ.get("SSL_CERT_FILE"):
        # A Python that was built elsewhere looks for them where this system has none; a folder is only read when needed.
        for path in ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"):
            if os.path.exists(path):
                context.load_verify_locations(path)
                break
    return context


SILENT_SECONDS = 20
"""A server that acknowledges nothing for so long is taken for gone: a cut cable sends no word."""


def socket_options() -> list[tuple[int, int, int]]:
    """For a TCP connection to a server: it ends when the other machine is gone, also while nothing is sent."""
    import socket

    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    for name, value in (
        ("TCP_KEEPIDLE", SILENT_SECONDS // 2),
        ("TCP_KEEPINTVL", SILENT_SECONDS // 4),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", SILENT_SECONDS * 1000),
    ):
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


def unreachable(remote: Remote, error: BaseException) -> str:
    """Why no connection could be made, and where to look."""
    import ssl

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return (
                f"The certificate of {remote.name} is not to be trusted: {cause.verify_message}. If it comes from a CA of "
                "your own, name its file in SSL_CERT_FILE."
            )
        if isinstance(cause, ssl.SSLError):
            reason = getattr(cause, "reason", None) or cause
            return f"{remote.name} does not speak TLS as it should: {reason}. Is it the right port?"
        cause = cause.__cause__ or cause.__context__
    return f"No server answers at {remote.name}: {_reason(remote, error)}"


def _reason(remote: Remote, error: BaseException) -> str:
    import asyncio
    import socket

    host, port = remote.host, remote.tcp_port
    if isinstance(error, socket.gaierror):
        return f"the name {host} is not known ({error.strerror}). Check how it is written, and its DNS record."
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ECONNREFUSED:
        return (
            f"the connection was refused, so nothing listens at its port {port}. See `zygo server status` there: it must have "
            f"been started with --control, or installed with --domain."
        )
    if code in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN):
        return f"there is no route to {host} from here. Check this machine's network, and the address."
    if isinstance(error, asyncio.TimeoutError) or code == errno.ETIMEDOUT:
        return (
            f"{host} sent nothing back. It is off or away, or a firewall drops what comes for its port {port} "
            "(a network of a provider often has one of its own)."
        )
    if code in (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED):
        return f"it closed the connection at once. Something else may listen at its port {port}, or a proxy without its server."
    return f"{str(error) or type(error).__name__}."


def silent(path: str, error: OSError) -> str:
    """Why the server's socket on this machine cannot be used, and where to look."""
    if error.errno == errno.ENOENT:
        reason = (
            "there is no such socket. Start one with `zygo server start`; ZYGO_RUNTIME_DIR says where it is otherwise."
        )
    elif error.errno == errno.ECONNREFUSED:
        reason = "the server that made this socket has ended. `zygo server logs` shows its last words."
    elif error.errno in (errno.EACCES, errno.EPERM):
        reason = "it belongs to another user. Set ZYGO_RUNTIME_DIR to your own server's."
    else:
        reason = f"{error.strerror or error}."
    return f"No server answers at {path}: {reason}"
