"""`zygo server`: start, stop and look at the server by hand. Commands start it by themselves when they need it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import importlib
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zygo import errors
from zygo.cli import output
from zygo.program.place import client as server_client
from zygo.program.place import own, place, refuse_remote

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from zygo.cli.install import Service
    from zygo.cli.output import Output
    from zygo.sdk.client import Client

app = typer.Typer(help="Start, stop and look at the server.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def start(
    foreground: Annotated[bool, typer.Option("--foreground", help="Run it in this terminal, until Ctrl-C.")] = False,
    control: Annotated[
        str | None,
        typer.Option("--control", metavar="[HOST:]PORT", help="Let commands of other machines in there, with tokens."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start the server in the background, or do nothing when it runs."""
    refuse_remote("zygo server start")
    if control:
        host, _, port = control.rpartition(":")
        os.environ["ZYGO_CONTROL_PORT"] = port
        os.environ["ZYGO_CONTROL_HOST"] = host.strip("[]") or os.environ.get("ZYGO_CONTROL_HOST", "127.0.0.1")
    if foreground:
        _run_in_place()
        return
    _end(_start(as_json, _output()))


@app.command()
def stop(as_json: AsJson = False) -> None:
    """End the server and every app that it serves."""
    refuse_remote("zygo server stop")
    _end(_stop(as_json, _output()))


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show the server, its apps and their containers; exit 1 when none runs."""
    _end(_status(as_json, _output()))


@app.command()
def logs(
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines.")] = 100,
) -> None:
    """Show the server's own log."""
    _end(_logs(follow, lines, _output()))


@app.command()
def install(
    show: Annotated[bool, typer.Option("--print", help="Show the unit, and do nothing.")] = False,
    now: Annotated[bool, typer.Option("--now/--no-start", help="Start it, or only from the next boot on.")] = True,
    domain: Annotated[
        str | None,
        typer.Option(
            "--domain", metavar="NAME", help="Make it public there: HTTPS by Caddy, with its own certificates."
        ),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user", metavar="NAME", help="System user that it runs as, made if there is none: zygo; or root."
        ),
    ] = None,
) -> None:
    """Make the server a systemd service with the settings of this command: it comes back after a crash and a reboot."""
    from zygo.cli import install as installing

    refuse_remote("zygo server install")
    out = _output()
    service = installing.Service.of_machine()
    if domain is not None:
        _install_public(domain, service, out, show=show, now=now, user=user)
    unit = installing.unit_of(service, os.environ, user=installing.account_of(service, user))
    if show:
        out.line(unit.text().rstrip("\n"))
        raise typer.Exit(0)
    installing.refuse(unit, "sudo zygo server install")
    if now and service.running:
        asyncio.run(_make_way(out))
    raise typer.Exit(installing.install(service, unit, out, start=now))


def _install_public(domain: str, service: Service, out: Output, *, show: bool, now: bool, user: str | None) -> None:
    from zygo.cli import caddy, public
    from zygo.cli import install as installing

    place()  # refuses bad settings by name
    wanted = public.Public(caddy.check_domain(domain))
    public_user = "" if service.user else installing.account_of(service, user)
    unit = installing.unit_of(service, os.environ, wanted.settings(), public_user)
    if show:
        out.line(f"# {service.path}\n{unit.text()}\n# {wanted.file}\n{wanted.configuration()}".rstrip("\n"))
        public.show_records(wanted, out)
        raise typer.Exit(0)
    public.refuse(wanted, service)
    installing.refuse(unit, f"sudo zygo server install --domain {wanted.domain}")
    if now and service.running:
        asyncio.run(_make_way(out))
    raise typer.Exit(public.set_up(wanted, service, unit, out, start=now))


@app.command()
def uninstall() -> None:
    """Stop the systemd service and remove it, and what was set up in front of it. Images, apps and logs stay."""
    from zygo.cli import install as installing
    from zygo.cli import public

    refuse_remote("zygo server uninstall")
    out, service = _output(), installing.Service.of_machine()
    code = installing.uninstall(service, out)
    if not service.user and (commands := public.remove(out)):
        code = installing.run(service, commands, out, log_of="caddy") or code
    raise typer.Exit(code)


@app.command()
def audit(
    app_name: Annotated[str | None, typer.Argument(metavar="[APP]", help="Of this app, or token, alone.")] = None,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=1000, help="How many of the last entries.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show who changed what, the newest first."""
    _end(_audit(app_name or "", lines, as_json, _output()))


@app.command(hidden=True)
def attach() -> None:
    """The other end of a command's ssh connection: start the server here, tell where its sockets are, stay."""
    from zygo.cli import attached

    raise typer.Exit(attached.run())


async def _make_way(out: Output) -> None:
    """End a server that was started by hand: it holds the data directory that the service needs."""
    from zygo.sdk import launch
    from zygo.sdk.client import Client

    async with Client(own().socket) as client:
        status = await launch.probe(client)
        if status is not None and not status.get("managed"):
            out.hint(f"The server that runs (pid {status.get('pid')}) makes way for the service.")
            await launch.stop(client, int(status.get("pid", 0)), replaced=True)


def _run_in_place() -> None:
    module = importlib.import_module("zygo.server.main")
    code = module.main(["--foreground"])
    raise typer.Exit(code if isinstance(code, int) else 0)


def _output() -> Output:
    return output.make(sys.stdout, sys.stderr)


def _end(command: Coroutine[Any, Any, int]) -> None:
    raise typer.Exit(asyncio.run(command))


async def _start(as_json: bool, out: Output) -> int:
    from zygo.sdk import launch

    async with await launch.connect(dataclasses.replace(own(), on_demand=False), say=out.hint) as client:
        status = await client.status()
    if as_json:
        out.line(json.dumps(status, indent=2))
    else:
        gateway = status["gateway"]
        out.success(f"The server runs (pid {status['pid']}); its gateway is {gateway['host']}:{gateway['port']}.")
        for text in status.get("warnings", []):
            out.warning(text)
    return 0


async def _stop(as_json: bool, out: Output) -> int:
    from zygo.sdk import launch
    from zygo.sdk.client import Client

    async with Client(own().socket) as client:
        status = await launch.probe(client)
        if status is not None:
            with out.working("Stopping the server..."):
                await launch.stop(client, int(status.get("pid", 0)))
    if as_json:
        out.line(json.dumps({"stopped": status is not None}))
    else:
        out.line("The server has ended." if status is not None else "No server runs.")
        if status is not None and status.get("managed"):
            out.hint("A service manager starts it again; to keep it ended: systemctl stop zygo (--user for your own)")
    return 0


async def _status(as_json: bool, out: Output) -> int:
    from zygo.sdk import launch

    async with server_client() as client:
        if client.remote is not None:
            await client.reconnect()
            status: dict[str, Any] | None = await client.status()
        else:
            status = await launch.probe(client)
    if as_json:
        out.line(json.dumps({"running": status is not None, **(status or {})}, indent=2))
    elif status is None:
        out.line("No server runs; the first `zygo serve` starts one.")
    else:
        _show(status, out)
    return 0 if status is not None else 1


def _show(status: dict[str, Any], out: Output) -> None:
    gateway = status["gateway"]
    age = time.time() - float(status.get("started_at") or time.time())
    out.line(f"zygo {status['version']}, pid {status['pid']}, up {_duration(age)}")
    wanted = gateway.get("requested_port")
    port = f" (port {wanted} was taken)" if wanted and wanted != gateway["port"] else ""
    out.line(f"gateway http://{gateway['host']}:{gateway['port']}{port}, domain {status.get('domain')}")
    if status.get("https_port"):
        out.line(f"https at port {status['https_port']}")
    for key in ("sandbox", "network", "limits"):
        if status.get(key):
            out.line(f"{key}: {status[key]}")
    several = len({item.get("environment") for item in status.get("apps", [])}) > 1
    for item in status.get("apps", []):
        place = f", {item.get('environment')}" if several else ""
        out.line(f"{item['name']} ({item.get('state', '?')}{place})", "bold")
        for function in item.get("functions", []):
            counts = f"{function.get('containers', 0)} containers, {function.get('waiting', 0)} waiting"
            where = f" => {function['url']}" if function["url"] else ""
            out.line(f"  {function['name']}{where}  {counts}")
    if not status.get("apps"):
        out.line("no apps")
    for text in status.get("warnings", []):
        out.warning(text)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


async def _logs(follow: bool, lines: int, out: Output) -> int:
    reading = asyncio.ensure_future(_read_logs(follow, lines, out))
    loop = asyncio.get_running_loop()

    def end() -> None:
        reading.cancel()

    out.on_broken = end
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    try:
        await reading
    except asyncio.CancelledError:
        return 0
    except errors.ConnectionError:
        # Without a server its file still tells what it said, which is when it is wanted most.
        log, remote = place().log, place().remote
        if remote is not None or follow or not log.exists():
            raise
        with contextlib.suppress(OSError):
            for line in log.read_text("utf-8", "replace").splitlines()[-lines:] if lines else []:
                out.line(output.clean(line, colours=False))
    return 0


async def _read_logs(follow: bool, lines: int, out: Output) -> None:
    async with server_client() as client:
        if client.remote is not None:
            await client.reconnect()
        await _print_logs(client, follow, lines, out)


async def _print_logs(client: Client, follow: bool, lines: int, out: Output) -> None:
    async with client.logs(tail=lines, follow=follow) as found:
        async for line in found:
            out.line(output.clean(line, colours=False))


async def _audit(target: str, lines: int, as_json: bool, out: Output) -> int:
    from zygo.cli.apps import ago
    from zygo.sdk import launch

    async with await launch.connect(place(), say=out.hint) as client:
        entries = await client.audit(lines, target)
    if as_json:
        out.line(json.dumps({"entries": entries}, indent=2))
    elif not entries:
        out.line("Nothing has been changed yet.")
    else:
        rows = []
        for entry in entries:
            detail = " ".join(f"{key}={value}" for key, value in entry["detail"].items())
            what = f"{entry['action']} {entry['target']}".strip()
            rows.append([ago(entry["at"]), entry["who"], entry["address"], what, entry["outcome"], detail])
        out.table(["When", "Who", "From", "What", "Outcome", ""], rows)
    return 0
