"""What a function can see and do from inside its container: a list of attempts, each of them refused or seeing nothing.

The attempts are in attempts.py, which is the program that is served. They are only made where a sandbox is in place.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from e2e.http_kit import function_status, host_pids
from zygo.testing.harness import Place, Serve, until

if TYPE_CHECKING:
    from collections.abc import Iterator

ATTEMPTS = Path(__file__).with_name("attempts.py")


@pytest.fixture(scope="module")
def own() -> Iterator[Place]:
    """A server whose environment has something to hide."""
    with Place({"HOST_SECRET": "do not tell"}) as place:
        place.start_server()
        status = place.status()
        if status is None or status["sandbox"] != "bubblewrap":
            pytest.skip("containers are not sandboxed on this machine")
        yield place
        place.settle()


@pytest.fixture(scope="module")
def serve(own: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    path = tmp_path_factory.mktemp("attempts") / "attempts.py"
    path.write_text(ATTEMPTS.read_text())
    with own.serve(path) as found:
        yield found


def attempt(serve: Serve, name: str, argument: str = "") -> str:
    """What the attempt got hold of; "" when nothing."""
    answer = serve.post("attempt", params={"name": name, "argument": argument})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["got"])


SEEN_FROM_INSIDE = (
    *("read_shadow", "read_other_revisions", "read_through_proc_root", "inherited_files", "environment_of_the_server"),
    *("write_to_host_directories", "make_device", "open_devices", "open_by_handle"),
    *("see_other_processes", "signal_everyone", "trace_process", "read_memory_of_process", "steal_descriptor"),
    *("raise_priority", "escape_oom"),
    *("mount_tmpfs", "mount_proc", "mount_sysfs", "remount_usr_writable", "unmount_proc", "unmount_root", "pivot_root"),
    *(
        "change_root",
        "new_mount_api",
        "unshare_namespaces",
        "clone_namespaces",
        "clone3_namespaces",
        "enter_namespaces",
    ),
    *("hold_capabilities", "raise_capabilities", "ambient_capability", "gain_by_executing", "become_another_user"),
    *("add_groups", "map_users", "give_file_away"),
    *("write_proc_sys", "press_sysrq", "write_sys", "forbidden_calls", "other_architecture"),
    *("raw_socket", "packet_socket", "hypervisor_socket", "change_network"),
)


@pytest.mark.parametrize("name", SEEN_FROM_INSIDE)
def test_refused_or_nothing_to_see(serve: Serve, name: str) -> None:
    assert attempt(serve, name) == ""


def test_the_hosts_files_are_not_there(serve: Serve, own: Place, tmp_path: Path) -> None:
    secret = secrets.token_hex(8)
    (tmp_path / "secret").write_text(secret)
    (own.root / "secret").write_text(secret)
    for path in (tmp_path / "secret", own.root / "secret", own.data / "server.lock", own.data / "ports.json"):
        assert attempt(serve, "read_host_file", str(path)) == ""
    for path in (own.data, own.runtime, own.data / "logs", own.data / "blobs", own.data / "revisions"):
        shown = set(attempt(serve, "list_host_directory", str(path)).split())
        assert shown <= {"images", "runtime", "guest"}, path
    for name in ("/home", "/root", "/srv", "/opt", "/boot", "/mnt", "/media", "/var/log", "/var/lib"):
        on_host = {each for each in os.listdir(name) if not each.startswith(".")} if os.path.isdir(name) else set()
        seen = set(attempt(serve, "list_host_directory", name).split())
        assert not on_host & seen, name
    assert attempt(serve, "read_host_file", "/etc/passwd").count("\n") == 2


def test_the_interpreter_and_libraries_of_the_host_stay_as_they_are(serve: Serve, own: Place) -> None:
    attempt(serve, "write_to_interpreter")
    where = Path(os.__file__).parent
    assert not list(where.glob("zygo_was_here*"))
    assert not list(own.data.rglob("zygo_was_here*"))


def test_the_hosts_processes_are_out_of_reach(serve: Serve, own: Place) -> None:
    for pid in (own.server_pid(), os.getpid(), os.getppid()):
        assert attempt(serve, "signal_host_process", str(pid)) == ""


def test_the_hosts_loopback_and_sockets_are_out_of_reach(serve: Serve, own: Place) -> None:
    status = own.status()
    assert status is not None
    name = f"zygo-test-{secrets.token_hex(4)}"
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + name)
        abstract.listen()
        assert attempt(serve, "control_socket", str(own.runtime / "control.sock")) == ""
        if status["network"] != "isolated":
            pytest.skip("functions share the host's network here, as the server warns")
        for port in (tcp.getsockname()[1], status["gateway"]["port"]):
            assert attempt(serve, "host_loopback", str(port)) == ""
            assert attempt(serve, "host_loopback_through_gateway", str(port)) == ""
        assert attempt(serve, "host_abstract_socket", name) == ""


def test_what_one_container_leaves_no_other_sees_and_neither_does_the_host(
    serve: Serve, own: Place, tmp_path: Path
) -> None:
    token = secrets.token_hex(8)
    first = serve.post("one", params={"token": token}).json()
    assert {"/tmp", "/root", "/dev/shm"} <= set(first["wrote"])
    assert first["sees"]
    second = serve.get("other", params={"token": token}).json()
    assert second["id"] != first["id"]
    assert second["sees"] == []
    path = tmp_path / "again.py"
    path.write_text(ATTEMPTS.read_text().replace('zygo.App("attempts")', 'zygo.App("again")'))
    with own.serve(path) as again:
        assert again.get("other", params={"token": token}).json()["sees"] == []
    assert not list(own.root.rglob(f"trace-{token}"))
    for place in ("/tmp", "/root", "/dev/shm", "/run", "/var/tmp", "/home"):
        assert not Path(place, f"trace-{token}").exists()
    assert token not in ATTEMPTS.read_text()


def test_nothing_sandboxed_is_root_on_the_host(serve: Serve, own: Place) -> None:
    name = serve.get("other", params={"token": "x"}).json()["id"]
    guests = [p for p in own.processes() if p.kind in ("revision", "container")]
    assert {"revision", "container"} <= {p.kind for p in guests}
    for process in guests:
        fields = _status(process.pid)
        assert "0" not in fields["Uid"].split(), f"{process} runs as root"
        assert "0" not in fields["Gid"].split(), f"{process} is in root's group"
        if os.geteuid() == 0:
            assert fields["Groups"].split() in ([], [fields["Gid"].split()[0]]), process
    if own.cgroups():
        for pid in host_pids(own, name):
            fields = _status(pid)
            assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == int(fields["CapPrm"], 16) == 0
            assert (fields["NoNewPrivs"], fields["Seccomp"]) == ("1", "2")


def _status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


@pytest.mark.parametrize("name", ["flood_control_socket", "lie_on_control_socket", "flood_output"])
def test_the_server_bears_what_a_container_sends_it(serve: Serve, name: str) -> None:
    before = serve.get("other", params={"token": "x"}).json()["id"]
    answers: list[int] = []
    asking = threading.Thread(
        target=lambda: answers.append(serve.post("attempt", params={"name": name}, timeout=60).status_code)
    )
    asking.start()
    for _ in range(20):
        assert serve.get("other", params={"token": "x"}).json()["id"] == before
    asking.join(60)
    assert answers == [200]
    assert serve.get("other", params={"token": "x"}).json()["id"] == before


def test_a_fork_bomb_is_bounded_and_gone_with_its_container(serve: Serve, own: Place) -> None:
    status = own.status()
    assert status is not None
    if not status["limits"].startswith("cgroups"):
        pytest.skip("without control groups and without a sandbox nothing counts processes")
    before = serve.get("other", params={"token": "x"}).json()["id"]
    assert 10 < int(attempt(serve, "fork_bomb")) < 4096
    assert serve.get("other", params={"token": "x"}).json()["id"] == before
    until(lambda: function_status(own, "attempt")["containers"] == 0)
