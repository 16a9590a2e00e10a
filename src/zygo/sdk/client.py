"""The control plane's client: HTTP over the server's unix socket, or to a server on another machine; one method per route,
errors as our own classes.

A client of a server elsewhere holds connections: close it with `aclose` or use it as an async context manager. Every request
has a time limit, and every stream a limit on its silence (the server sends a ping every 5 s).
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from zygo import errors
from zygo.sdk import where
from zygo.sdk.transport import LocalTransport, over_tcp, tunnelled

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Awaitable, Iterable
    from types import TracebackType
    from typing import Callable

    from zygo.sdk.transport import Reply, Transport
    from zygo.sdk.where import Remote

REQUEST_SECONDS = 30.0
"""For one small request. The server does no heavy work on its loop, so this is already generous."""

SILENCE_SECONDS = 20.0
"""A stream without even a ping for four ping intervals belongs to a server that hangs."""

BUILD_SILENCE_SECONDS = 3600.0
"""A revision's stream has no pings: between two lines of an image's build anything may pass up to its own limit."""

STOP_APP_SECONDS = 120.0
"""Requests in flight have the server's grace period, 30 s unless set, before their containers are ended."""

_BY_STATUS: dict[int, type[errors.Error]] = {
    400: errors.InvalidError,
    401: errors.AuthError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    413: errors.RequestSizeError,
    429: errors.ResourceExhaustedError,
    501: errors.UnsupportedError,
    502: errors.ContainerError,
    503: errors.ConnectionError,
    504: errors.TimeoutError,
}


def error_of(status: int, body: bytes) -> errors.Error:
    """The error that an answer of the control API stands for: its own description, or else what its status means."""
    with contextlib.suppress(ValueError):
        described = json.loads(body).get("error")
        if isinstance(described, dict):
            return errors.from_json(described)
    text = body.decode("utf-8", "replace").strip()[:500]
    if status == 401:
        return errors.AuthError(
            "The server does not accept the token: it is wrong, deleted, rotated or expired. Make one there with "
            "`zygo token create NAME --scope deploy`, and give it as ZYGO_TOKEN or with `zygo profile create`."
        )
    return _BY_STATUS.get(status, errors.Error)(f"The server answered {status}: {text or 'no explanation'}")


class Client:
    """Speaks to the server behind `socket`, the path of its control socket, or to the one on another machine.

    `environment` is the name of the one that its apps are looked for in, "" for the server's first one; unless given the
    one that this process means (where.py).

    Arguments:
        remote: the other machine's server. `socket` is then this machine's end of the tunnel for ssh, and "" otherwise.
        prepare: awaited before connections are made anew: brings the tunnel back.

    Each method raises ConnectionError when no server answers there or it goes away, TimeoutError when it does not
    answer in time, and otherwise the error that the server described.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str],
        *,
        remote: Remote | None = None,
        prepare: Callable[[], Awaitable[None]] | None = None,
        environment: str | None = None,
    ) -> None:
        self.socket = str(socket)
        self.environment = where.environment() if environment is None else environment
        self.remote = remote
        self._prepare = prepare
        self._transport: Transport | None = None
        self._carried: dict[str, bytes] = {}

    @property
    def shown(self) -> str:
        """Where the server is, for messages."""
        return self.remote.name if self.remote is not None else self.socket

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection. May be called twice."""
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    async def status(self, *, seconds: float = REQUEST_SECONDS) -> dict[str, Any]:
        """What the server is, where its gateway listens, its apps and their containers."""
        return await self._json("GET", "/v1/status", seconds=seconds)

    async def stop(self, *, replaced: bool = False) -> None:
        """Ask the server to end; it still runs when this returns. `replaced`: another one follows at once."""
        await self._json("POST", "/v1/stop", {"replaced": replaced})

    async def missing_blobs(self, hashes: Iterable[str]) -> list[str]:
        """Those of the SHA-256 `hashes` whose content the server does not have."""
        answer = await self._json("POST", "/v1/blobs/missing", {"sha256": list(hashes)})
        return [str(item) for item in answer["missing"]]

    async def put_blob(self, sha256: str, content: bytes) -> None:
        """Give the server the content whose hash is `sha256`."""
        await self._request("PUT", f"/v1/blobs/{sha256}", content=content, seconds=300.0)

    def carry(self, sha256: str, content: bytes) -> None:
        """Send this content along with the next revision or change, which saves a request for it."""
        self._carried[sha256] = content

    async def hold(self, session: str, change: int) -> None:
        """Say that the session's change of that number was seen: new requests wait (at most half a second) for what comes of
        it, unless that has come already."""
        await self._json("POST", f"/v1/sessions/{session}/hold", {"change": change})

    async def release(self, session: str, change: int) -> None:
        """Say that nothing came of the change: the old code goes on."""
        await self._json("POST", f"/v1/sessions/{session}/release", {"change": change})

    def keep_ready(self, count: int) -> None:
        """Have so many connections to a server elsewhere before they are needed, until `aclose`."""
        self._carrier().keep_ready(count)

    @contextlib.asynccontextmanager
    async def session(
        self, *, app: str, file: str, force: bool = False, running: bool = False, detached: bool = False
    ) -> AsyncIterator[Session]:
        """Open the session of an ephemeral app, which lives exactly as long as this context.

        Arguments:
            force: take over from another session that serves `app`; else ConflictError is raised when there is one.
            running: it is for one run of a program, beside any other app of that name; `finish` ends it in order.
            detached: the app outlives this context until its functions have nothing to do.

        The session of a server on another machine survives a connection that is cut: see resuming.py.
        """
        body = {"app": app, "file": file, "force": force, "running": running, "detached": detached}
        if self.remote is not None:
            from zygo.sdk.resuming import RemoteSession

            session = RemoteSession(self, {**body, "remote": True})
            async with session:
                yield session
            return
        async with self.open_session(self.placed("/v1/sessions"), body) as (first, lines):
            yield Session(str(first["id"]), lines)

    @contextlib.asynccontextmanager
    async def open_session(
        self, path: str, body: dict[str, Any]
    ) -> AsyncIterator[tuple[dict[str, Any], AsyncIterator[dict[str, Any]]]]:
        """The stream of a session, opened or resumed: its first event, and those that follow."""
        async with self._stream("POST", path, body, SILENCE_SECONDS) as lines:
            async for first in lines:
                if first.get("type") == "session":
                    yield first, lines
                    return
                break
            raise errors.ConnectionError("The server did not open a session")

    async def reconnect(self) -> None:
        """Forget every connection; the next request makes a new one."""
        await self.aclose()
        if self._prepare is not None:
            await self._prepare()

    async def tell_session(self, session: str, what: str, body: dict[str, Any], seconds: float) -> None:
        """`seen`: this command lives, and has the events up to `after`. `end`: the app is to end at once."""
        await self._json("POST", f"/v1/sessions/{session}/{what}", body, seconds=seconds)

    async def finish(self, session: str) -> None:
        """End the app of a session whose program is done; the session's last event follows when all is gone."""
        await self._json("POST", f"/v1/sessions/{session}/finish", {}, seconds=STOP_APP_SECONDS)

    @contextlib.asynccontextmanager
    async def publish(
        self, session: str, app: dict[str, Any], change: int = 0
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Send an encoded AppSpec as a new revision, which came of the changes up to that number; the context's value yields the
        events of making it."""
        path = f"/v1/sessions/{session}/revisions"
        body = self._with_content({"app": app, "change": change})
        async with self._stream("POST", path, body, BUILD_SILENCE_SECONDS) as lines:
            yield lines

    async def apps(self) -> dict[str, Any]:
        """`apps`: those that are served and deployed, of every environment; `stopped`: those that were deployed once;
        `environment`: the name of the one that is meant where none is named."""
        return await self._json("GET", "/v1/apps")

    async def environments(self) -> list[dict[str, Any]]:
        """The environments, with the names of what is live in each."""
        return list((await self._json("GET", "/v1/environments"))["environments"])

    async def create_environment(self, name: str, web_suffix: str | None) -> dict[str, Any]:
        """A new environment. Raises InvalidError, AlreadyExistsError, ConflictError."""
        return await self._json("POST", "/v1/environments", {"name": name, "web_suffix": web_suffix})

    async def update_environment(self, name: str, set_name: str | None, web_suffix: str | None) -> dict[str, Any]:
        """Give it another name or web suffix; `failed` says which apps could not be moved, and why."""
        body = {"name": set_name, "web_suffix": web_suffix}
        return await self._json("PATCH", _of_environment(name), body, seconds=BUILD_SILENCE_SECONDS)

    async def delete_environment(self, name: str, *, stop_apps: bool) -> dict[str, Any]:
        """Delete it with its secrets. Raises ConflictError when something is live there, unless that is to be stopped."""
        path = f"{_of_environment(name)}{'?apps=stop' if stop_apps else ''}"
        return await self._json("DELETE", path, seconds=BUILD_SILENCE_SECONDS)

    async def secrets(self) -> list[dict[str, Any]]:
        """The secrets of this client's environment, without their values."""
        return list((await self._json("GET", self.placed("/v1/secrets")))["secrets"])

    async def create_secret(self, name: str, values: dict[str, str], *, force: bool) -> dict[str, Any]:
        """Make a secret. Raises InvalidError, and AlreadyExistsError unless `force`."""
        body = {"name": name, "values": values, "force": force}
        return await self._json("POST", self.placed("/v1/secrets"), body)

    async def delete_secret(self, name: str) -> dict[str, Any]:
        """Raises NotFoundError."""
        if "/" in name or name in (".", "..", ""):  # these would be another path
            raise errors.NotFoundError(f"There is no secret {name!r}: one cannot be called so.")
        return await self._json("DELETE", self.placed(f"/v1/secrets/{quote(name, safe='')}"))

    def placed(self, path: str) -> str:
        """`path`, meaning this client's environment."""
        return f"{path}?{urlencode({'environment': self.environment})}" if self.environment else path

    async def proxy_tokens(self) -> list[dict[str, Any]]:
        """The proxy tokens, without their secrets."""
        return list((await self._json("GET", "/v1/proxy-tokens"))["tokens"])

    async def create_proxy_token(self) -> dict[str, Any]:
        """A new proxy token, with its secret."""
        return await self._json("POST", "/v1/proxy-tokens", {})

    async def delete_proxy_token(self, identifier: str) -> None:
        """Delete a proxy token. Raises NotFoundError."""
        await self._json("DELETE", f"/v1/proxy-tokens/{quote(identifier, safe='')}")

    async def history(self, name: str) -> list[dict[str, Any]]:
        """The revisions of a deployed app, newest first. Raises NotFoundError."""
        path = self.placed(_of_app(name, "revisions"))
        return list((await self._json("GET", path))["revisions"])

    async def stop_app(self, name: str) -> dict[str, Any]:
        """Stop a deployed app for good; returns once its containers are gone. Raises NotFoundError."""
        return await self._json("POST", self.placed(_of_app(name, "stop")), {}, seconds=STOP_APP_SECONDS)

    @contextlib.asynccontextmanager
    async def change(self, name: str, what: str, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """Change a deployed app; the context's value yields the events of it.

        `what` is `deployments` (with `app`, `by`, `strategy`), `rollback` (`version`, `by`, `strategy`) or `rollover`
        (`strategy`). An error that comes after the first event is raised by the iteration.
        """
        path = self.placed(_of_app(name, what))
        async with self._stream("POST", path, self._with_content(body), BUILD_SILENCE_SECONDS) as lines:
            yield _raising(lines)

    def _with_content(self, body: dict[str, Any]) -> dict[str, Any]:
        carried, self._carried = self._carried, {}
        if not carried:
            return body
        from base64 import b64encode

        return {**body, "content": {sha256: b64encode(data).decode() for sha256, data in carried.items()}}

    async def tokens(self) -> list[dict[str, Any]]:
        """The server's tokens, without their secrets."""
        return list((await self._json("GET", "/v1/tokens"))["tokens"])

    async def create_token(self, name: str, scopes: list[str], expires_in: float | None) -> dict[str, Any]:
        """A new token; `token` is its text, which is never shown again. Raises AlreadyExistsError, InvalidError."""
        return await self._json("POST", "/v1/tokens", {"name": name, "scopes": scopes, "expires_in": expires_in})

    async def rotate_token(self, name: str, overlap: float) -> dict[str, Any]:
        """A new secret for a token; the old one is good for `overlap` more seconds. Raises NotFoundError."""
        return await self._json("POST", f"/v1/tokens/{quote(name, safe='')}/rotate", {"overlap": overlap})

    async def delete_token(self, name: str) -> dict[str, Any]:
        """Raises NotFoundError."""
        return await self._json("DELETE", f"/v1/tokens/{quote(name, safe='')}")

    async def audit(self, limit: int, target: str = "") -> list[dict[str, Any]]:
        """Who changed what, the newest first; with `target` of one app or token."""
        query = urlencode({"limit": limit, "target": target})
        return list((await self._json("GET", f"/v1/audit?{query}"))["entries"])

    @contextlib.asynccontextmanager
    async def logs(self, *, tail: int, follow: bool) -> AsyncIterator[AsyncIterator[str]]:
        """The server's own log: its last `tail` lines, and those to come with `follow`."""
        path = f"/v1/logs?tail={tail}&follow={'true' if follow else 'false'}"
        # A quiet server's log says nothing for hours: only the connection's end ends this.
        async with self._open("GET", path, None, None if follow else REQUEST_SECONDS) as response:
            yield (line.decode("utf-8", "replace") async for line in _split(response))

    @contextlib.asynccontextmanager
    async def app_logs(
        self, app: str, query: Iterable[tuple[str, str]] = (), *, follow: bool = False
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The log of an app, or of the one that is served under the name; with `follow` also the lines to come.

        `query`: `since`, `until` (seconds since 1970), `tail` (lines), `search`, `container`, `function`, `stream` (the last
        two may be repeated). The first object says whose log it is (`app`, `ephemeral`, `live`), every other one is a line.
        Raises NotFoundError that lists names which are near.
        """
        values = [*query, *([("follow", "true")] if follow else [])]
        values += [("environment", self.environment)] if self.environment else []
        path = f"/v1/apps/{quote(app, safe='')}/logs?{urlencode(values)}"
        # A quiet app says nothing for hours, and a search for a rare text in a large log nothing for seconds.
        async with self._stream("GET", path, None, None if follow else BUILD_SILENCE_SECONDS) as lines:
            yield lines

    async def _json(
        self, method: str, path: str, body: Any = None, *, seconds: float = REQUEST_SECONDS
    ) -> dict[str, Any]:
        content = None if body is None else json.dumps(body).encode()
        answer = await self._request(method, path, content=content, seconds=seconds)
        if not answer:
            return {}
        try:
            decoded = json.loads(answer)
        except ValueError:
            raise errors.InternalFailure(f"{method} {path}: the server's answer is not JSON") from None
        return decoded if isinstance(decoded, dict) else {}

    async def _request(self, method: str, path: str, *, content: bytes | None, seconds: float) -> bytes:
        async with self._open(method, path, content, seconds) as reply:
            return await reply.read()

    @contextlib.asynccontextmanager
    async def _open(self, method: str, path: str, content: bytes | None, silence: float | None) -> AsyncIterator[Reply]:
        async with self._carrier().open(method, path, content, silence) as reply:
            if reply.status >= 400:
                raise error_of(reply.status, await reply.read())
            yield reply

    @contextlib.asynccontextmanager
    async def _stream(
        self, method: str, path: str, body: Any, silence: float | None
    ) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        content = None if body is None else json.dumps(body).encode()
        async with self._open(method, path, content, silence) as reply:
            yield _records(reply)

    def _carrier(self) -> Transport:
        if self._transport is None:
            if self.remote is None:
                self._transport = LocalTransport(self.socket)
            else:
                self._transport = tunnelled(self.socket) if self.socket else over_tcp(self.remote)
        return self._transport


class Session:
    """A live session: `id`, and `events()`, which ends when the server closes it.

    A `resumable` one outlives its connection: `healthy()` returns once that is there again.
    """

    resumable = False

    def __init__(self, identifier: str, lines: AsyncIterator[dict[str, Any]]) -> None:
        self.id = identifier
        self._lines = lines

    async def healthy(self) -> None:
        """Return once the connection is there."""

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Every event but the pings, as they come."""
        async for event in self._lines:
            if event.get("type") != "ping":
                yield event


async def _raising(lines: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
    async for event in lines:
        if event.get("type") == "error":
            raise errors.from_json(event["error"])
        yield event


async def _split(reply: Reply) -> AsyncIterator[bytes]:
    # Not the library's own line iterator: it also splits at U+2028, which JSON may carry unescaped.
    rest = b""
    async for chunk in reply.chunks():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


async def _records(reply: Reply) -> AsyncIterator[dict[str, Any]]:
    async for line in _split(reply):
        if line.strip():
            try:
                record = json.loads(line)
            except ValueError:
                raise errors.ConnectionError("The server went away in the middle of a message") from None
            if isinstance(record, dict):
                yield record


def _of_environment(name: str) -> str:
    if "/" in name or name in (".", "..", ""):  # these would be another path
        raise errors.NotFoundError(f"There is no environment {name!r}: one cannot be called so.")
    return f"/v1/environments/{quote(name, safe='')}"


def _of_app(name: str, what: str) -> str:
    """The path of `what` of the app `name`."""
    if "/" in name or name in (".", "..", ""):  # these would be another path
        raise errors.NotFoundError(f"There is no deployed app {name!r}: an app cannot be called so.")
    return f"/v1/apps/{quote(name, safe='')}/{what}"
