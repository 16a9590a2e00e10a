"""Point 4: started by the first request, kept while there is traffic, multiplied when there is a lot, gone after it."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

from e2e.http_kit import HOLD, Held, Many, burst, function_status, overlap
from zygo.testing.harness import Place, until

if TYPE_CHECKING:
    from pathlib import Path

    import httpx


PROGRAM = (
    """
import os, time
import zygo

app = zygo.App("containers")
"""
    + HOLD
    + """
web = zygo.asgi_app()


@app.function(scaledown_window=1)
@zygo.fastapi_endpoint()
def soon():
    return os.environ["ZYGO_CONTAINER_ID"]


many = app.function(name="many")(web(hold))
two = app.function(name="two", max_containers=2)(web(hold))
spare = app.function(name="spare", buffer_containers=1)(web(hold))
shared = app.function(name="shared")(zygo.concurrent(max_inputs=4)(web(hold)))
aimed = app.function(name="aimed")(zygo.concurrent(max_inputs=4, target_inputs=2)(web(hold)))


@app.function(min_containers=2)
@zygo.fastapi_endpoint()
def floor():
    return os.environ["ZYGO_CONTAINER_ID"]


@app.function(timeout=1)
@zygo.fastapi_endpoint()
def slow(seconds: float = 0):
    time.sleep(seconds)
    return os.environ["ZYGO_CONTAINER_ID"]


@app.function(startup_timeout=1)
@zygo.asgi_app()
def never():
    time.sleep(600)
"""
)


def write(tmp_path: Path, text: str = PROGRAM, name: str = "containers.py") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_the_first_request_starts_one_the_next_meets_it_and_after_the_window_another(
    place: Place, tmp_path: Path
) -> None:
    with place.serve(write(tmp_path)) as serve:
        assert function_status(place, "soon")["containers"] == 0
        first = serve.get("soon")
        again = [serve.get("soon").json() for _ in range(3)]
        assert first.headers["server-timing"].startswith("start;desc=cold")
        assert again == [first.json()] * 3
        until(lambda: function_status(place, "soon")["containers"] == 0, what="the end of an idle container")
        assert serve.get("soon").json() != first.json()
        assert serve.seen(r"GET /  200  cold .*soon")
        assert serve.seen(r"GET /  200  warm .*soon")


def test_blocking_requests_at_once_are_served_at_once_each_by_its_own(place: Place, tmp_path: Path) -> None:
    with place.serve(write(tmp_path)) as serve, Many(serve.url("many"), 8) as held:
        # Every one of them is in the middle of its handler now: none waited for another to end.
        ids = {each.container for each in held}
        assert len(ids) == 8
        assert {each.finish() for each in held} == ids


def test_max_containers_holds_and_the_rest_waits_its_turn(place: Place, tmp_path: Path) -> None:
    with place.serve(write(tmp_path)) as serve, Many(serve.url("two"), 5) as held:
        until(lambda: function_status(place, "two") == {"containers": 2, "waiting": 3})
        served: list[str] = []
        threads = [threading.Thread(target=lambda each=each: served.append(each.finish())) for each in held]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(served) == 5
        assert len(set(served)) == 2


def test_requests_share_a_container_as_far_as_they_may(place: Place, tmp_path: Path) -> None:
    with place.serve(write(tmp_path)) as serve:
        with Many(serve.url("shared"), 5) as held:
            ids = [each.container for each in held]
            assert sorted(ids.count(each) for each in set(ids)) == [1, 4]
        with Many(serve.url("aimed"), 4) as held:
            [each.container for each in held]
            until(lambda: function_status(place, "aimed")["containers"] == 2)


def test_min_containers_are_there_before_any_request(place: Place, tmp_path: Path) -> None:
    with place.serve(write(tmp_path)) as serve:
        until(lambda: function_status(place, "floor")["containers"] == 2)
        assert serve.get("floor").headers["server-timing"].startswith("start;desc=warm")


def test_a_buffer_is_kept_ahead_of_the_traffic_and_goes_with_it(place: Place, tmp_path: Path) -> None:
    text = PROGRAM.replace("buffer_containers=1", "buffer_containers=1, scaledown_window=1")
    with place.serve(write(tmp_path, text)) as serve:
        with Many(serve.url("spare"), 2) as held:
            assert len({each.container for each in held}) == 2
            until(lambda: function_status(place, "spare")["containers"] == 3)
            for each in held:
                each.finish()
        until(lambda: function_status(place, "spare")["containers"] == 0)


def test_timeout_ends_the_request_and_its_container_and_the_next_meets_another(place: Place, tmp_path: Path) -> None:
    with place.serve(write(tmp_path)) as serve:
        before = serve.get("slow").json()
        late = serve.get("slow", params={"seconds": 600})
        assert late.status_code == 504
        assert "timeout of 1 s" in late.text
        assert serve.get("slow").json() != before


def test_startup_timeout_ends_a_start_that_hangs_and_says_what_would_help(place: Place, tmp_path: Path) -> None:
    with place.serve(write(tmp_path)) as serve:
        answer = serve.get("never")
        assert answer.status_code == 502, answer.text
        assert "never was not ready in 1 s" in answer.text
        assert "startup_timeout" in answer.text
        serve.wait_for("never was not ready in 1 s")
        assert serve.get("floor").status_code == 200


CAPPED = (
    """
import os, time
import zygo

app = zygo.App("capped")
"""
    + HOLD
    + """

@app.function()
@zygo.fastapi_endpoint()
def work():
    began = time.monotonic()
    time.sleep(0.02)
    return [os.environ["ZYGO_CONTAINER_ID"], began, time.monotonic()]


held = app.function(name="held")(zygo.asgi_app()(hold))


@app.function()
@zygo.fastapi_endpoint()
def other():
    return "here"
"""
)


def test_the_machines_cap_holds_and_no_request_is_lost(tmp_path: Path) -> None:
    with Place({"ZYGO_MAX_CONTAINERS": "6"}) as own:
        with own.serve(write(tmp_path, CAPPED, "capped.py")) as serve:
            done = threading.Event()
            seen: list[int] = []

            def look() -> None:
                while not done.wait(0.01):
                    status = own.status()
                    seen.append(int(status["containers"]) if status else 0)

            looking = threading.Thread(target=look)
            looking.start()
            try:
                answers = burst(serve.url("work"), 300)
            finally:
                done.set()
                looking.join()
            assert [a.status for a in answers] == [200] * 300
            served = [json.loads(a.body) for a in answers]
            assert 2 <= overlap([(began, ended) for _, began, ended in served]) <= 6
            assert len({container for container, _, _ in served}) <= 6
            assert max(seen) <= 6
        own.settle()


def test_a_function_whose_requests_fill_the_machine_leaves_room_for_another(tmp_path: Path) -> None:
    with Place({"ZYGO_MAX_CONTAINERS": "3"}) as own:
        with own.serve(write(tmp_path, CAPPED, "capped.py")) as serve, Many(serve.url("held"), 20) as held:
            until(lambda: function_status(own, "held") == {"containers": 3, "waiting": 17})
            answers: list[httpx.Response] = []
            asking = threading.Thread(target=lambda: answers.append(serve.get("other")))
            asking.start()
            until(lambda: function_status(own, "other")["waiting"] == 1)
            # It gets the first place that frees up, although seventeen waited before it.
            until(lambda: function_status(own, "held")["containers"] == 2, what="a container that is given up")
            ending = threading.Thread(target=_finish_all, args=(held[:3],))
            ending.start()
            asking.join(30)
            assert [a.json() for a in answers] == ["here"]
            assert function_status(own, "held")["waiting"] >= 14
            ending.join(30)
        own.settle()


def _finish_all(held: list[Held]) -> None:
    for each in held:
        each.finish()


def test_two_apps_at_once_have_containers_of_their_own(place: Place, tmp_path: Path) -> None:
    other = write(tmp_path, PROGRAM.replace('"containers"', '"others"'), "others.py")
    with place.serve(write(tmp_path)) as one, place.serve(other) as two:
        assert one.get("soon").json() != two.get("soon").json()
        assert one.stop() == 0
        assert two.get("soon").status_code == 200
