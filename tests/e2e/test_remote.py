"""A server on another machine, worked with from a laptop: over ssh and over HTTPS, with a cable that is pulled."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from e2e import machines as kit
from e2e.machines import SERVER, Machines
from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.skipif(bool(kit.why_not()), reason=kit.why_not() or "-"),
    pytest.mark.timeout(180),
]
needs_ssh = pytest.mark.skipif(not kit.has_sshd(), reason="openssh-server and openssh-client are not installed")

CONTROL = 8443

BACK_AND_FORTH = 1.0
"""Seconds there and back, of the line over which ways are counted."""

PROGRAM = """\
import zygo

app = zygo.App("hello")


@app.function()
@zygo.fastapi_endpoint()
def greet(name: str = "you"):
    print("greeting", name)
    return {"hello": name, "version": VERSION}


@app.function()
def double(x: int) -> int:
    return 2 * x


@app.function()
def count(n: int):
    yield from range(n)


@app.function()
def fail():
    raise KeyError("no such thing")
"""

CALLER = """\
import zygo

double = zygo.Function.from_name("hello", "double")
print("double", double.remote(21))
print("map", sorted(double.map(range(5))))
print("items", list(zygo.Function.from_name("hello", "count").remote_gen(3)))
try:
    zygo.Function.from_name("hello", "fail").remote()
except KeyError as error:
    print("raised", error)
print("large", len(zygo.Function.from_name("hello", "double").remote("x" * 3_000_000)))
"""


CALLED = ["double 42", "map [0, 2, 4, 6, 8]", "items [0, 1, 2]", "raised 'no such thing'", "large 6000000"]


def called(machines: Machines, caller: Path, env: dict[str, str]) -> list[str]:
    """What CALLER prints on the laptop."""
    command = [*machines.within("laptop"), sys.executable, str(caller)]
    done = subprocess.run(
        command, env={**machines.laptop.environment, **env}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def program(version: int) -> str:
    return PROGRAM.replace("VERSION", str(version))


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with Machines({"ZYGO_CONTROL_HOST": SERVER, "ZYGO_CONTROL_PORT": str(CONTROL)}) as made:
        ca, cert, key = made.certificate()
        made.server.environment |= {"ZYGO_CONTROL_CERT": str(cert), "ZYGO_CONTROL_KEY": str(key)}
        made.laptop.environment["SSL_CERT_FILE"] = str(ca)
        build_image(made)
        made.server.start_server()
        if kit.has_sshd():
            made.sshd()
        yield made


def build_image(machines: Machines) -> None:
    """The server's machine has no way to a package index: its image is built before, outside."""
    outside = Place(root=machines.server.root)
    file = machines.laptop.root / "hello.py"
    file.write_text(program(0))
    outside.deploy(file, "--name", "first")
    assert outside.zygo("app", "stop", "first", "--yes").code == 0
    outside.stop_server()


@pytest.fixture(params=[pytest.param("ssh", marks=needs_ssh), "https"])
def address(request: pytest.FixtureRequest, machines: Machines) -> Iterator[str]:
    """The server's address; the laptop's environment has a token when it needs one."""
    if request.param == "ssh":
        yield machines.ssh_address
        return
    machines.laptop.environment["ZYGO_TOKEN"] = token(machines, "laptop")
    yield f"https://{SERVER}:{CONTROL}"
    del machines.laptop.environment["ZYGO_TOKEN"]


def token(machines: Machines, name: str, *options: str) -> str:
    machines.server.zygo("token", "delete", name)
    made = machines.server.zygo("token", "create", name, "--json", *options)
    assert made.code == 0, made.text
    return str(json.loads(made.text)["token"])


def test_serve_follows_saves_and_survives_a_cut(machines: Machines, address: str, tmp_path: Path) -> None:
    file = tmp_path / "hello.py"
    file.write_text(program(1))
    with machines.laptop.serve(file, "--force", env={"ZYGO_SERVER": address}) as serve:
        url = serve.url("greet")
        assert ".apps.test:8000" in url
        assert machines.get(url) == (200, '{"hello":"you","version":1}')
        serve.wait_for("greeting you")
        serve.save("hello.py", program(2))
        serve.wait_for(r"Updated hello in")
        assert machines.get(url)[1].endswith('"version":2}')

        machines.cut()
        began = time.monotonic()
        try:
            serve.save("hello.py", program(3))
            serve.wait_for("Taking the connection up again", 60)
            # The app itself goes on, and what it prints meanwhile is kept.
            inside = [*machines.within("server"), "curl", "-sS", "-H", f"Host: {url.split('/')[2]}"]
            subprocess.run([*inside, f"http://{SERVER}:8000/?name=meanwhile"], check=True, capture_output=True)
            time.sleep(max(0.0, 30 - (time.monotonic() - began)))  # the length of the cut is what is tested
        finally:
            machines.mend()
        serve.wait_for("The connection is there again", 60)
        serve.wait_for("greeting meanwhile", anywhere=True)
        serve.wait_for(r"Updated hello in", 60)
        assert machines.get(url)[1].endswith('"version":3}')
        assert serve.stop() == 0
    # Ctrl-C said goodbye: the app is gone at once, not a minute later.
    until(lambda: not (machines.server.status() or {})["apps"], 5, "the app's end")


def test_deploy_call_look_and_stop(machines: Machines, address: str, tmp_path: Path) -> None:
    env = {"ZYGO_SERVER": address}
    (tmp_path / "hello.py").write_text(program(1))
    (tmp_path / "caller.py").write_text(CALLER)
    result = machines.laptop.deploy(tmp_path / "hello.py", env=env)
    assert result["type"] == "published"
    assert machines.get(result["urls"]["greet"])[0] == 200

    assert called(machines, tmp_path / "caller.py", env) == CALLED
    by = json.loads(machines.laptop.zygo("app", "history", "hello", "--json", env=env).text)["revisions"][0]["by"]
    audit = json.loads(machines.server.zygo("server", "audit", "hello", "--json").text)["entries"][0]
    assert (audit["action"], audit["outcome"]) == ("deploy", "published")
    if address.startswith("https"):
        assert by["deployed_by"] == audit["who"] == "laptop"
        assert audit["address"] == kit.LAPTOP
    else:
        assert audit["who"].startswith("local:")
    logs = machines.laptop.zygo("app", "logs", "hello", env=env)
    assert "GET" in logs.text, logs.text
    assert "hello" in machines.laptop.zygo("server", "status", env=env).text
    refused = machines.laptop.zygo("server", "stop", env=env)
    assert refused.code == 1
    assert "is for the server of the machine it is run on" in refused.text
    assert machines.laptop.zygo("app", "stop", "hello", "--yes", env=env).code == 0


def test_environments_and_secrets(machines: Machines, address: str, tmp_path: Path) -> None:
    there = {"ZYGO_SERVER": address}
    # Making one is for admin, which whoever comes over ssh is, but not a token for deploys.
    made = machines.server.zygo("environment", "create", "staging")
    assert made.code == 0, made.text
    if address.startswith("https"):
        denied = machines.laptop.zygo("environment", "create", "other", env=there)
        assert denied.code == 1
        assert "needs the scope 'admin'" in " ".join(denied.text.split())
    try:
        made = machines.laptop.zygo("secret", "create", "greeting", "WORD=sesame", "--env", "staging", env=there)
        assert made.code == 0, made.text
        file = tmp_path / "hello.py"
        text = program(1).replace("return 2 * x", "import os; return os.environ['WORD']")
        file.write_text(
            text.replace('zygo.App("hello")', 'zygo.App("hello", secrets=[zygo.Secret.from_name("greeting")])')
        )
        refused = machines.laptop.zygo("deploy", str(file), env=there)
        assert refused.code == 1
        assert "zygo secret create greeting KEY=VALUE" in " ".join(refused.text.split())
        done = machines.laptop.deploy(file, "-e", "staging", env=there)
        assert "//local-staging--hello-greet." in done["urls"]["greet"]
        assert machines.get(done["urls"]["greet"])[0] == 200
        caller = tmp_path / "caller.py"
        caller.write_text('import zygo; print(zygo.Function.from_name("hello", "double").remote(1))')
        called = machines.laptop.zygo("python", "-e", "staging", str(caller), env=there)
        assert called.text.strip() == "sesame"
        listed = machines.laptop.zygo("secret", "list", "-e", "staging", "--json", env=there)
        assert [secret["keys"] for secret in json.loads(listed.text)] == [["WORD"]]
    finally:
        gone = machines.server.zygo("environment", "delete", "staging", "--yes")
        assert gone.code == 0, gone.text


@pytest.mark.skipif(not kit.has_tun(), reason="there is no /dev/net/tun")
def test_a_line_that_loses_packets(machines: Machines, address: str, tmp_path: Path) -> None:
    """One of ten each way: all is slower, and nothing is lost."""
    env = {"ZYGO_SERVER": address}
    file = tmp_path / "hello.py"
    file.write_text(program(1))
    (tmp_path / "caller.py").write_text(CALLER)
    with machines.lossy_line(0.1) as dropped:
        with machines.laptop.serve(file, env=env) as serve:
            for number in (2, 3, 4):
                serve.save("hello.py", program(number))
                serve.wait_for(r"Updated hello in")
                assert machines.get(serve.url("greet"))[1].endswith(f'"version":{number}}}')
            assert serve.stop() == 0
        result = machines.laptop.deploy(file, env=env)
        assert machines.get(result["urls"]["greet"])[0] == 200
        assert called(machines, tmp_path / "caller.py", env) == CALLED
        assert machines.laptop.zygo("app", "stop", "hello", "--yes", env=env).code == 0
        assert dropped() > 10


def test_a_command_that_is_killed_leaves_an_app_that_ends(machines: Machines, tmp_path: Path) -> None:
    machines.laptop.environment["ZYGO_TOKEN"] = token(machines, "killed")
    file = tmp_path / "hello.py"
    file.write_text(program(1))
    serve = machines.laptop.serve(file, env={"ZYGO_SERVER": f"https://{SERVER}:{CONTROL}"})
    with serve:
        serve.signal(signal.SIGKILL)
        serve.exit_status()
    assert [app["name"] for app in (machines.server.status() or {})["apps"]] == ["hello"]
    until(lambda: not (machines.server.status() or {})["apps"], 75, "the end of an app whose command is gone")


@pytest.mark.parametrize("scheme", [pytest.param("ssh", marks=needs_ssh), "https"])
def test_a_reload_costs_one_way_there_and_back(machines: Machines, tmp_path: Path, scheme: str) -> None:
    """Over a line so long that a busy machine's own time is little beside it."""
    file = tmp_path / "hello.py"
    file.write_text(program(0))
    token_ = token(machines, "far")
    with machines.slow_line(kit.SSH_PORT if scheme == "ssh" else CONTROL, BACK_AND_FORTH / 2) as port:
        env = {"ZYGO_SERVER": f"ssh://root@127.0.0.1:{port}", "ZYGO_SSH": machines.ssh_by_another_name}
        if scheme == "https":
            env = {"ZYGO_SERVER": f"https://127.0.0.1:{port}", "ZYGO_TOKEN": token_}
        with machines.laptop.serve(file, env=env) as serve:
            ways = []
            for number in range(1, 6):
                serve.save("hello.py", program(number))
                ways.append(int(serve.wait_for(r"Updated .* in (\d+) ms")[1]) / 1000 / BACK_AND_FORTH)
    # One way more would be in all of them; a machine that is busy elsewhere makes one or two late.
    assert min(ways) >= 1, ways
    assert sorted(ways)[len(ways) // 2] < 1.9, ways


@needs_ssh
def test_what_is_wrong_with_ssh_is_said(machines: Machines) -> None:
    def said(**env: str) -> str:
        done = machines.laptop.zygo("app", "list", env={"ZYGO_SERVER": machines.ssh_address, **env})
        assert done.code == 1
        return done.text

    plain = f"ssh -F {machines.keys}/client"
    assert "does not trust the host key" in said(ZYGO_SSH=f"{plain} -o UserKnownHostsFile=/dev/null")
    assert "needs a key that ssh finds" in said(ZYGO_SSH=f"{plain} -o PubkeyAuthentication=no")
    unheard = said(ZYGO_SERVER=f"ssh://root@{SERVER}:1")
    assert "cannot reach" in unheard
    assert "see that sshd runs, and that 1 is its port" in unheard


def test_what_is_wrong_with_https_is_said(machines: Machines) -> None:
    good = token(machines, "reader", "--scope", "read")

    def said(**env: str) -> str:
        wanted = {"ZYGO_SERVER": f"https://{SERVER}:{CONTROL}", "ZYGO_TOKEN": good, **env}
        done = machines.laptop.zygo(
            "app", "stop", "never-there", "--yes", env={k: v for k, v in wanted.items() if v is not None}
        )
        assert done.code == 1
        return " ".join(done.text.split())

    assert "needs the scope 'deploy'; the token 'reader' has read" in said()
    assert "does not accept the token" in said(ZYGO_TOKEN="zygo_0123_wrong")
    assert "is not to be trusted" in said(SSL_CERT_FILE="/dev/null")
    assert "the connection was refused" in said(ZYGO_SERVER=f"https://{SERVER}:1")
    assert "is not known" in said(ZYGO_SERVER="https://name.invalid")
    assert "needs a token" in said(ZYGO_TOKEN="")
    assert "would send the token in the clear" in said(ZYGO_SERVER=f"http://{SERVER}:{CONTROL}")


def test_nothing_answers_over_tcp_without_a_token(machines: Machines) -> None:
    """Whatever is asked, also what does not exist: one and the same empty answer."""
    asked = [
        ["/v1/status"],
        ["/v1/apps"],
        ["/calls/zygo/v1/functions"],
        ["/calls/fu-1/"],
        ["/nothing"],
        ["-X", "PUT", "/v1/blobs/x"],
    ]
    for *options, path in asked:
        command = [
            "curl",
            "-sS",
            "-k",
            "--max-time",
            "20",
            "-w",
            "%{http_code}",
            *options,
            f"https://{SERVER}:{CONTROL}{path}",
        ]
        done = subprocess.run([*machines.within("laptop"), *command], capture_output=True, text=True, check=False)
        assert done.stdout in ("401", "429"), (path, done.stderr)
    plain = [*machines.within("laptop"), "curl", "-sS", "--max-time", "20", f"http://{SERVER}:{CONTROL}/v1/status"]
    assert subprocess.run(plain, capture_output=True, text=True, check=False).stdout == ""
