"""`zygo run`: an ephemeral app around one call: of the program's local entrypoint here, or of a function in a container.

connect to the server (beside it)  +  import the program in this process  ->  read its options
  -> bring up the app (`program.running`)  ->  call, with what functions print shown  ->  end the app, show the rest
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
import sys
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zygo import errors, loader
from zygo.cli import output as printing
from zygo.cli import report
from zygo.program import entry
from zygo.program.connecting import connect
from zygo.program.running import Plan, Run
from zygo.program.screen import Lines, Silent
from zygo.sdk import background, failures, where

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from zygo.cli.output import Output
    from zygo.program.screen import Screen

END_SECONDS = 12.0
"""After Ctrl-C, for the containers to end and for what they printed; a second Ctrl-C does not wait."""

INTERRUPTED = 130


@dataclass(frozen=True)
class Options:
    """What the user asked for."""

    ref: str
    module: bool = False
    name: str | None = None
    quiet: bool = False
    detach: bool = False
    write_result: str | None = None
    timestamps: bool = False
    verbose: bool = False


def run(options: Options, words: Sequence[str]) -> int:
    """Run the program with the arguments `words`; the exit code. Raises what keeps it from running."""
    ref = loader.parse_ref(options.ref, as_module=options.module, command="zygo run")
    # Progress goes to stderr: stdout is the program's.
    out = printing.make(sys.stderr, sys.stderr, timestamps=options.timestamps)
    lines = Lines(timestamps=options.timestamps, quiet=options.quiet)
    screen: Screen = Silent(lines) if options.quiet else _Shown(out, lines)
    connecting = _submit(connect(screen))
    try:
        loaded = loader.load(ref, choose=entry.choose, argv=words)
        chosen: entry.Entry = loaded.chosen
        args, kwargs = _arguments(options, chosen, words)
        running = Run(
            loaded,
            screen,
            Plan(options.name, options.detach, options.verbose),
            asyncio.wrap_future(connecting, loop=background.loop()),
        )
        try:
            with out.working(f"Starting {running.name}..."):
                background.run(running.start(), "zygo run")
        except (KeyboardInterrupt, CancelledError):
            out.line("Aborted before the app was up.")
            return INTERRUPTED
        return _Call(options, running, chosen, loaded.target.root, out).end_with(args, kwargs)
    except BaseException:
        connecting.cancel()
        raise


def _arguments(options: Options, chosen: entry.Entry, words: Sequence[str]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    from zygo.cli import arguments

    return arguments.read(chosen.raw, f"zygo run {'-m ' if options.module else ''}{options.ref}", words)


class _Call:
    """The call while the app is up."""

    def __init__(self, options: Options, running: Run, chosen: entry.Entry, root: str, out: Output) -> None:
        self._options, self._running, self._entry, self._out = options, running, chosen, out
        self._root = root

    def end_with(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """Call, end the app; the exit code."""
        code = 1
        try:
            code = self._call(args, kwargs)
        finally:
            interrupted = code == INTERRUPTED
            if interrupted and not self._options.detach:
                self._out.line("Aborting: the app ends. Ctrl-C again does not wait for it.")
            if not self._finish(END_SECONDS if interrupted else None):
                code = code or 1
        if not self._options.quiet:
            self._say_end(code)
        return code

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        try:
            if self._entry.function is not None:
                result = self._entry.function.remote(*args, **kwargs)
            else:
                result = self._entry.raw(*args, **kwargs)
                if inspect.iscoroutine(result):
                    result = asyncio.run(result)
        except (KeyboardInterrupt, CancelledError):
            return INTERRUPTED
        except SystemExit as end:
            return self._exit_code(end)
        except BaseException as error:
            _flush()
            sys.stderr.write(failures.shown(error, self._root))
            return 1
        finally:
            _flush()
        return self._write(result)

    def _exit_code(self, end: SystemExit) -> int:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1

    def _write(self, result: Any) -> int:
        path = self._options.write_result
        if path is None:
            return 0
        if not isinstance(result, (str, bytes)):
            self._out.error(
                f"--write-result takes a str or bytes, and {self._entry.name} returned {type(result).__name__}."
            )
            return 1
        try:
            with open(path, "wb") as file:
                file.write(result.encode() if isinstance(result, str) else result)
        except OSError as error:
            self._out.error(f"The result cannot be written to {path}: {error.strerror}.")
            return 1
        return 0

    def _finish(self, seconds: float | None) -> bool:
        """Whether the app had not ended before."""
        future = _submit(self._running.finish())
        try:
            future.result(seconds)
        except KeyboardInterrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os._exit(INTERRUPTED)
        except (TimeoutError, CancelledError):
            self._out.warning("The containers take long to end; the server goes on with that.")
        except errors.Error as error:
            report.show(error, self._out)
            return False
        return not self._running.ended

    def _say_end(self, code: int) -> None:
        name = self._running.name
        if self._options.detach:
            self._out.line(f"The app {name} goes on until its functions have nothing left to do.")
            place = f" -e {environment}" if (environment := where.environment()) else ""
            self._out.line(f"  Its output: zygo app logs {name}-dev -f{place}")
            self._out.line(f"  End it now: zygo app stop {name}{place}")
        elif code == 0:
            self._out.success(f"{name} is done.")
        elif code == INTERRUPTED:
            self._out.line(f"Aborted. {name} has ended.")


class _Shown:
    """The command's own output for progress, the plain one for what functions print."""

    def __init__(self, out: Output, lines: Lines) -> None:
        self.line, self.success, self.hint = out.line, out.success, out.hint
        self.warning, self.build = out.warning, out.build
        self.log = lines.log


def _submit(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run_coroutine_threadsafe(work, background.loop())


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
