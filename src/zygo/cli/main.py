"""The command tree, and the end of every command: its exit code.

0 done (also when Ctrl-C ended a `serve`), 1 failed, 2 used wrongly (a bad option, a reference to nothing).
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from zygo import errors
from zygo.cli import apps, doctor, environment, later, profile, report, secret, server, token, workspace
from zygo.cli.arguments import Env  # noqa: TC001  typer looks at it
from zygo.version import version

app = typer.Typer(
    name="zygo",
    help="Turn a Python function into a web endpoint on machines you own.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(server.app, name="server")
app.add_typer(apps.app, name="app")
app.add_typer(environment.app, name="environment")
app.add_typer(profile.app, name="profile")
app.add_typer(secret.app, name="secret")
app.add_typer(token.app, name="token")
app.add_typer(workspace.app, name="workspace")
app.command("doctor")(doctor.doctor)
later.register(app)


def main() -> None:
    """The `zygo` command."""
    sys.exit(run())


def run() -> int:
    """Run the command that `sys.argv` names; its exit code."""
    try:
        app(prog_name="zygo")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not try to flush into it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        return report.fatal(error)
    return 0


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"zygo {version()}")
        raise typer.Exit


def _set_debug(wanted: bool) -> None:
    if wanted:
        report.debug = True


Debug = Annotated[
    bool,
    typer.Option("--debug", "--traceback", callback=_set_debug, help="Show zygo's own traceback with an error."),
]


def _set_server(address: str | None) -> None:
    if address:
        # The user's program, in processes of its own, calls functions there too.
        os.environ["ZYGO_SERVER"] = address


At = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="ADDRESS",
        callback=_set_server,
        help="The server to use: ssh://user@host, https://host with ZYGO_TOKEN, or local.",
    ),
]


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
    at: At = None,
    debug: Debug = False,
) -> None:
    """Turn a Python function into a web endpoint on machines you own."""


@app.command()
def serve(
    ref: Annotated[str, typer.Argument(metavar="REF", help="file.py, file.py::app, or with -m a module: pkg.mod")],
    name: Annotated[str | None, typer.Option("-n", "--name", help="Name of the app; else its own.")] = None,
    module: Annotated[bool, typer.Option("-m", help="REF is a module, not a file.")] = False,
    no_reload: Annotated[bool, typer.Option("--no-reload", help="Do not follow changes of the files.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Take over from another serve of the same app.")] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECS", min=0.0, help="End after this many seconds.")
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Open a tunnel, so that the endpoints have public URLs while this runs.")
    ] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Show when each line was written.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every step.")] = False,
    env: Env = None,
    at: At = None,
    debug: Debug = False,
) -> None:
    """Serve an app at a temporary URL and follow every save, until Ctrl-C.

    Examples: zygo serve hello.py | zygo serve hello.py::app | zygo serve -m package.module
    """
    from zygo.cli import output
    from zygo.cli import serve as serving

    options = serving.Options(ref, module, name, not no_reload, force, timeout, verbose, share)
    out = output.make(sys.stdout, sys.stderr, timestamps=timestamps)
    try:
        code = serving.run(options, out)
    except errors.Error as error:
        code = report.show(error, out)
    raise typer.Exit(code)


@app.command()
def deploy(
    ref: Annotated[str, typer.Argument(metavar="REF", help="file.py, file.py::app, or with -m a module: pkg.mod")],
    name: Annotated[str | None, typer.Option("-n", "--name", help="Name of the app; else its own.")] = None,
    tag: Annotated[str, typer.Option("--tag", help="A word for the history: a release's number, a ticket.")] = "",
    strategy: Annotated[
        str,
        typer.Option("--strategy", help="rolling: new containers beside the old; recreate: the old ones end first."),
    ] = "rolling",
    module: Annotated[bool, typer.Option("-m", help="REF is a module, not a file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON; all else goes to stderr.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every step.")] = False,
    env: Env = None,
    at: At = None,
    debug: Debug = False,
) -> None:
    """Deploy an app at persistent URLs, or update it without losing a request.

    Examples: zygo deploy app.py | zygo deploy app.py --name shop --tag 1.2 | zygo deploy -m package.module
    """
    import json

    from zygo.cli import deploy as deploying
    from zygo.cli import output

    options = deploying.Options(ref, module, name, tag, strategy, verbose)
    out = output.make(sys.stderr if as_json else sys.stdout, sys.stderr)
    result = deploying.run(options, out)
    if as_json:
        sys.stdout.write(json.dumps(result, indent=2) + "\n")


@app.command("run", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
def run_program(
    ref: Annotated[str, typer.Argument(metavar="REF", help="file.py, file.py::function, or with -m a module.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[ARGS]...", help="Options of what is run: its parameters.")
    ] = None,
    module: Annotated[bool, typer.Option("-m", help="REF is a module, not a file.")] = False,
    name: Annotated[str | None, typer.Option("-n", "--name", help="Name of the app; else its own.")] = None,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Show what the program prints alone.")] = False,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="The app goes on until its functions have nothing left to do.")
    ] = False,
    write_result: Annotated[
        str | None, typer.Option("-w", "--write-result", metavar="PATH", help="Write the returned str or bytes there.")
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Show when each line was written.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every step.")] = False,
    env: Env = None,
    debug: Debug = False,
) -> None:
    """Run a program: its local entrypoint here, or one of its functions in a container, then end the app.

    Examples: zygo run hello.py | zygo run hello.py::train --rows 100 | zygo run -m package.module
    """
    from zygo.cli import run as running

    options = running.Options(ref, module, name, quiet, detach, write_result, timestamps, verbose)
    raise typer.Exit(running.run(options, arguments or []))


@app.command(
    "python",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []},
)
def run_python(
    arguments: Annotated[list[str] | None, typer.Argument(metavar="FILE [ARGS]... | -m MODULE | -c CODE")] = None,
) -> None:
    """Run a program with Python as it is, with `import modal` giving zygo.

    Examples: zygo python program.py --rows 3 | zygo python -m package.module
    """
    from zygo.cli import python

    raise typer.Exit(python.run(arguments or []))


if __name__ == "__main__":
    main()
