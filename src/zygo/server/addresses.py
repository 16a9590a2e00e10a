"""The names under which a web function answers: its hostname, its own loopback port, the URL that is printed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from zygo.errors import ExecutionError
from zygo.sdk import labels

if TYPE_CHECKING:
    from zygo.gateway.proxy import Gateway
    from zygo.model import FunctionSpec
    from zygo.sdk.labels import Label
    from zygo.server.live import LiveApp, LiveFunction
    from zygo.server.ports import PortBook
    from zygo.settings import Settings

log = logging.getLogger("zygo.apps")


class Addresses:
    """Gives functions their addresses and takes them back.

    Arguments:
        gateway_port: where the gateway listens for every hostname.
        names_resolve: whether this machine's C library knows `*.localhost`; else the URL that is printed has a port.
    """

    def __init__(
        self, settings: Settings, gateway: Gateway, book: PortBook, gateway_port: int, *, names_resolve: bool
    ) -> None:
        self._settings = settings
        self._gateway = gateway
        self._book = book
        self._gateway_port = gateway_port
        self._names_resolve = names_resolve

    def label(self, app: LiveApp, spec: FunctionSpec, suffix: str) -> Label:
        """The label of a function; `suffix` tells the app's kind, or a version for a preview."""
        assert spec.web is not None
        source = app.environment.source(self._settings.workspace)
        return labels.label(app.name, spec.name, custom=spec.web.label, dev_suffix=suffix, workspace=source)

    def hostname(self, label: Label) -> str:
        """The whole hostname."""
        return f"{label.text}.{self._settings.domain}"

    def url(self, hostname: str) -> str:
        """The URL by name: by https where TLS is spoken, here or by a proxy in front."""
        secure = self._settings.proxy_port or self._gateway.secure_port
        scheme, port, usual = ("https", secure, 443) if secure else ("http", self._gateway_port, 80)
        return f"{scheme}://{hostname}" if port == usual else f"{scheme}://{hostname}:{port}"

    async def give(self, app: LiveApp, function: LiveFunction) -> None:
        """Give it its port and URL; requests meet 404 until it is routed. Undone by `withdraw`. Raises ExecutionError."""
        if not function.hostname:
            return
        function.hostname_url = self.url(function.hostname)
        if self._settings.domain != "localhost" or app.kind == "preview":
            function.url = function.hostname_url
            return
        if function.port is None:
            function.port = await self._own_port(function.hostname)
        function.url = function.hostname_url if self._names_resolve else f"http://127.0.0.1:{function.port}"

    def keep(self, function: LiveFunction) -> None:
        """It is published: its port is its own from now on, also after a restart of the server."""
        if function.port is None:
            return
        try:
            self._book.remember(function.hostname, function.port)
        except OSError as error:  # it is published in any case, and may have another port after a restart
            log.warning("the port of %s cannot be remembered: %s", function.hostname, error)

    def withdraw(self, function: LiveFunction) -> None:
        """Take back its port. May be called twice."""
        if function.port is not None:
            self._gateway.remove_listener(function.port)
            function.port = None

    async def _own_port(self, hostname: str) -> int:
        for port in self._book.candidates(hostname):
            try:
                await self._gateway.add_listener(port)
            except OSError:
                continue
            return port
        raise ExecutionError(f"None of the ports tried for {hostname} is free on 127.0.0.1.")
