"""What an App does on the developer's machine: run around a program, and be deployed by it.

The work is `zygo.program`'s, which the developer's machine has and containers do not; there it is refused before.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from zygo.errors import InvalidError
from zygo.sdk import background, context
from zygo.sdk.unsupported import refusal

if TYPE_CHECKING:
    import concurrent.futures
    from collections.abc import Coroutine
    from types import TracebackType

    from zygo.sdk.app import App


class AppRun:
    """The context of `app.run()`: `with` it in blocking code, `async with` it in async code. Its value is the App."""

    def __init__(self, app: App, name: str | None, detach: bool, environment: str | None) -> None:
        self._app, self._name, self._detach, self._environment = app, name, detach, environment
        self._run: Any = None

    def __enter__(self) -> App:
        self._begin()
        try:
            background.run(self._run.start(), "app.run()")
        except BaseException as error:
            self._app.starting = False
            raise _told(error) from error.__cause__
        return self._app

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._app.starting = False
        _blocking(self._run.finish())

    async def __aenter__(self) -> App:
        self._begin()
        try:
            await asyncio.wrap_future(_submit(self._run.start()))
        except BaseException as error:
            self._app.starting = False
            raise _told(error) from error.__cause__
        return self._app

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._app.starting = False
        await asyncio.wrap_future(_submit(self._run.finish()))

    def _begin(self) -> None:
        app = self._app
        refuse_elsewhere("app.run()")
        if app.starting or app.running_as is not None:
            raise InvalidError(
                f"{app!r} is running already. Call its functions; there is no need for a second app.run()."
            )
        from zygo.program import running

        self._run = running.of_program(app, running.Plan(self._name, self._detach, environment=self._environment))
        app.starting = True


class RunMethod:
    """`app.run(...)`, and `app.run.aio(...)` for programs that write it so."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(
        self,
        *,
        name: str | None = None,
        client: Any = None,
        detach: bool = False,
        interactive: bool = False,
        environment_name: str | None = None,
    ) -> AppRun:
        """Run the app for as long as the context lasts: `with app.run(): ...` or `async with app.run(): ...`.

        Arguments:
            name: instead of its own.
            detach: it goes on afterwards until its functions have nothing left to do.
            environment_name: of the environment in which it runs; else that of ZYGO_ENVIRONMENT or of the profile.
            client: there for programs that give it.
            interactive: not supported.

        Entering raises InvalidError in a container, at a module's top level while it is imported for its app, and when the
        app is running already.
        """
        if interactive:
            raise refusal("app.run(interactive=True)", "Run the function with .local() in a debugger.")
        return AppRun(self._app, name, detach, environment_name)

    aio = __call__


class DeployMethod:
    """`app.deploy(...)`, and `await app.deploy.aio(...)`."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(
        self,
        name: str | None = None,
        *,
        environment_name: str | None = None,
        tag: str = "",
        client: Any = None,
        strategy: str = "rolling",
    ) -> App:
        """Deploy the app from its file, which is evaluated anew; what was deployed before is replaced.

        Arguments:
            name: instead of its own; one of them is needed.
            tag: a word for the history.
            strategy: "rolling", or "recreate": the old containers end before the first new one starts.
            environment_name: of the environment into which it goes; else that of ZYGO_ENVIRONMENT or of the profile.
            client: there for programs that give it.

        Returns the App, whose functions are the deployed ones then. Raises InvalidError in a container and while the
        module is imported for its app, and otherwise what makes the deploy fail, after nothing was changed.
        """
        try:
            background.run(self._deploy(name, tag, strategy, environment_name), "app.deploy()")
        except BaseException as error:
            raise _told(error) from error.__cause__
        return self._app

    async def aio(
        self,
        name: str | None = None,
        *,
        environment_name: str | None = None,
        tag: str = "",
        client: Any = None,
        strategy: str = "rolling",
    ) -> App:
        """The same for async code."""
        try:
            await asyncio.wrap_future(_submit(self._deploy(name, tag, strategy, environment_name)))
        except BaseException as error:
            raise _told(error) from error.__cause__
        return self._app

    def _deploy(self, name: str | None, tag: str, strategy: str, environment: str | None) -> Coroutine[Any, Any, None]:
        refuse_elsewhere("app.deploy()")
        if self._app.running_as is not None:
            raise InvalidError(f"{self._app!r} is running. Deploy it before or after.")
        from zygo.program import running

        return running.deploy(self._app, name, tag, strategy, environment)


def refuse_elsewhere(what: str) -> None:
    """Raises InvalidError where the module is only imported for its functions."""
    if context.is_loading() or not context.is_local():
        where = "while the module is imported for its app" if context.is_loading() else "in a container"
        raise InvalidError(
            f"{what} is reached {where}, where it would start the app again. "
            'Put it under `if __name__ == "__main__":`, or into a function that is only called there.'
        )


def _told(error: BaseException) -> BaseException:
    """`error` without the steps in here; what a container or an evaluation says of the user's code is part of its text."""
    details = str(getattr(error, "traceback", "") or "").rstrip()
    if details and details not in str(error):
        error.args = (f"{error}\n\n{details}", *error.args[1:])
    return error.with_traceback(None)


def _submit(work: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
    return asyncio.run_coroutine_threadsafe(work, background.loop())


def _blocking(work: Coroutine[Any, Any, Any]) -> None:
    future = _submit(work)
    try:
        future.result()
    except BaseException:
        future.cancel()
        raise
