"""Every exception of zygo, in one tree.

    Exception
     +-- Error                          exit 1, HTTP 500
          +-- InvalidError              the caller's mistake: bad argument, wrong decorator order (400)
          |    +-- ConflictError        the name or label belongs to another app (409)
          |    +-- UnsupportedError     known, but not built yet (501)
          +-- LoadError                 the user's file could not be turned into an App
          |    +-- AppReferenceError    the reference itself is wrong (file, module or attribute absent); exit 2
          |    +-- UserCodeError        the file was found and failed while it was executed
          +-- NotFoundError             404
          +-- AlreadyExistsError        409
          +-- AuthError                 401
          +-- PermissionDeniedError     403
          +-- ResourceExhaustedError    a queue or a quota is full (429)
          +-- RemoteError
          |    +-- ImageBuildError      a step of an image failed
          |    +-- ContainerError       a container or a zygote died or never became ready (502)
          +-- ExecutionError
          +-- TimeoutError (also builtins.TimeoutError)
          |    +-- FunctionTimeoutError
          |    +-- OutputExpiredError   the result of a call is no longer kept
          +-- ConnectionError           no server, or it went away
          +-- StoreError                the database cannot be opened, reached or written (503)
          +-- VersionError              command and server are of different versions
          +-- SerializationError, DeserializationError, RequestSizeError, InternalFailure

    BaseException
     +-- InputCancellation              raised inside a handler whose input was cancelled

The names and meanings are Modal's where Modal has them. `exit_code` is what the command line ends with, `http_status`
what the control API answers. A bare `raise X` prints the first line of the class's docstring.
"""

from __future__ import annotations

import builtins
from typing import Any


class Error(Exception):
    """Something went wrong in zygo."""

    exit_code = 1
    http_status = 500

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else (type(self).__doc__ or "").split("\n")[0])


class InvalidError(Error):
    """The request or the program is not valid."""

    http_status = 400


class ConflictError(InvalidError):
    """The name is taken by another app."""

    http_status = 409


class UnsupportedError(InvalidError):
    """This is not supported yet."""

    http_status = 501


class LoadError(Error):
    """The file could not be loaded as an app."""


class AppReferenceError(LoadError):
    """There is no such file, module or app."""

    exit_code = 2


class UserCodeError(LoadError):
    """The user's file was found and failed while it was executed.

    `traceback` is the user's own traceback, trimmed to start at their file; `file` and `line` name the innermost
    frame in the user's code when it is known.
    """

    def __init__(self, message: str, traceback: str = "", file: str | None = None, line: int | None = None) -> None:
        super().__init__(message)
        self.traceback = traceback
        self.file = file
        self.line = line


class NotFoundError(Error):
    """There is no such object."""

    http_status = 404


class AlreadyExistsError(Error):
    """An object of that name exists."""

    http_status = 409


class AuthError(Error):
    """The credentials are missing or wrong."""

    http_status = 401


class PermissionDeniedError(Error):
    """The credentials do not allow this."""

    http_status = 403


class ResourceExhaustedError(Error):
    """A queue or a quota is full."""

    http_status = 429


class RemoteError(Error):
    """Something failed on the server."""


class ImageBuildError(RemoteError):
    """A step of an image failed.

    `step` is the step as the user wrote it, `command` what was run, `output` the last lines that it printed.
    """

    def __init__(self, message: str, step: str = "", command: str = "", output: str = "") -> None:
        super().__init__(message)
        self.step = step
        self.command = command
        self.output = output


class ContainerError(RemoteError):
    """A container died or never became ready.

    `traceback` is the user's traceback when the reason was an exception in their code.
    """

    http_status = 502

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class ExecutionError(Error):
    """The program is used in a way that cannot work."""


class TimeoutError(Error, builtins.TimeoutError):
    """The time was up."""

    http_status = 504


class FunctionTimeoutError(TimeoutError):
    """The function took longer than its timeout."""


class OutputExpiredError(TimeoutError):
    """The result is no longer kept."""


class ConnectionError(Error):
    """The server cannot be reached."""

    http_status = 503


class StoreError(Error):
    """The server's database cannot be used."""

    http_status = 503


class VersionError(Error):
    """The command and the server are of different versions."""


class SerializationError(Error):
    """A value could not be serialised."""


class DeserializationError(Error):
    """A value could not be read back."""


class RequestSizeError(Error):
    """The request is too large."""

    http_status = 413


class InternalFailure(Error):
    """zygo itself failed; please report it."""


class InputCancellation(BaseException):
    """Raised inside a handler whose input was cancelled; not an Exception, so that a broad except lets it pass."""


class DeprecationError(UserWarning):
    """A spelling that still works and has a newer one."""


class PlacementWarning(UserWarning):
    """A parameter that only places or reserves, and which this machine cannot honour."""


class ServerWarning(UserWarning):
    """Something the server wants its users to know."""


class AsyncUsageWarning(UserWarning):
    """A blocking call inside a running event loop."""


def to_json(error: BaseException) -> dict[str, Any]:
    """`error` as JSON-able values, its cause included: what crosses a pipe or the control API. See `from_json`."""
    data: dict[str, Any] = {
        key: value for key, value in vars(error).items() if isinstance(value, (str, int, float, bool))
    }
    data["kind"] = type(error).__name__
    data["message"] = str(error)
    if error.__cause__ is not None:
        data["cause"] = to_json(error.__cause__)
    return data


def from_json(data: dict[str, Any]) -> Error:
    """The error that `to_json` described. A kind from outside this tree becomes an Error that names it."""
    kind, message = str(data.get("kind", "")), str(data.get("message", ""))
    cls = globals().get(kind)
    error = Error(f"{kind}: {message}" if kind else message)
    if isinstance(cls, type) and issubclass(cls, Error):
        error = cls(message)
    for key, value in data.items():
        if key not in ("kind", "message", "cause"):
            setattr(error, key, value)
    if isinstance(data.get("cause"), dict):
        error.__cause__ = from_json(data["cause"])
    return error
