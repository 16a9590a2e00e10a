"""How the gateway is reached from outside: its TLS listener, a proxy in front of it, and the URLs that follow from both."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from zygo.errors import ExecutionError, InvalidError
from zygo.gateway.certificates import Certificates, pairs_of
from zygo.server import ask
from zygo.settings import files_of

if TYPE_CHECKING:
    from zygo.gateway.proxy import Gateway
    from zygo.settings import Settings

log = logging.getLogger("zygo.front")

LOOK_SECONDS = 2.0
"""Between two looks at the certificate files: two calls of stat each."""


class Front:
    """The gateway's way to the outside. `open` before the first URL is made; `close` may be called twice.

    `extra_names` are hostnames besides the apps' own for which a proxy in front may get certificates.
    """

    def __init__(self, settings: Settings, gateway: Gateway) -> None:
        self._settings = settings
        self._gateway = gateway
        self._certificates: Certificates | None = None
        self._ask: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self.extra_names: set[str] = set() if settings.domain == "localhost" else {settings.domain}

    async def open(self, plain_port: int) -> None:
        """Listen for TLS and for a proxy's questions, as the settings say. Raises InvalidError, ExecutionError."""
        settings = self._settings
        if settings.tls_cert:
            if settings.proxy_port:
                raise InvalidError(
                    "ZYGO_TLS_CERT and ZYGO_PROXY_PORT are both set: either the gateway or a proxy speaks TLS."
                )
            self._certificates = Certificates(pairs_of(files_of(settings.tls_cert), files_of(settings.tls_key)))
            try:
                await self._gateway.listen_securely(settings.host, settings.tls_port, self._certificates)
            except OSError as error:
                raise _cannot_listen(settings.host, settings.tls_port, "ZYGO_TLS_PORT", error) from None
            if settings.tls_redirect:
                self._gateway.redirected_port = plain_port
            for text in self.warnings():
                log.warning(text)
            self._watch = asyncio.create_task(self._look(self._certificates), name="certificate files")
        elif settings.tls_key or settings.tls_redirect:
            name = "ZYGO_TLS_KEY" if settings.tls_key else "ZYGO_TLS_REDIRECT"
            raise InvalidError(f"{name} is set, and ZYGO_TLS_CERT is not. Name the file of the certificate too.")
        if settings.ask_port:
            try:
                self._ask = await ask.listen(settings.ask_port, self.serves)
            except OSError as error:
                raise _cannot_listen("127.0.0.1", settings.ask_port, "ZYGO_ASK_PORT", error) from None

    async def close(self) -> None:
        """Stop looking and listening; the gateway closes its own listener."""
        if self._ask is not None:
            self._ask.close()
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])

    def serves(self, name: str) -> bool:
        """Whether `name` leads to something here."""
        return name in self.extra_names or self._gateway.routes.serves(name)

    def warnings(self) -> list[str]:
        """What is wrong with the certificates now."""
        found = self._certificates
        if found is None:
            return []
        domain = self._settings.domain
        texts = found.warnings()
        if domain != "localhost" and not found.covers(f"*.{domain}"):
            names = ", ".join(sorted(found.names)) or "none"
            texts.append(
                f"No certificate is good for the hostnames *.{domain} (it has the names {names}), so clients refuse them."
            )
        return texts

    async def _look(self, certificates: Certificates) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                # Reading keys takes a millisecond or two, after a change alone.
                certificates.refresh()
            except Exception:
                log.exception("looking after the certificates failed")


def _cannot_listen(host: str, port: int, setting: str, error: OSError) -> ExecutionError:
    return ExecutionError(
        f"The server cannot listen on {host}:{port}: {error.strerror or error}. Set {setting} to another."
    )
