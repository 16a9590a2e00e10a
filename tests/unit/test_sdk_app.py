"""App and app.function: what the parameters mean, and what is refused with which words."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

import zygo
from zygo.errors import ExecutionError, InvalidError, UnsupportedError
from zygo.model import FunctionSpec, Resources, RetryPolicy, ScalePolicy
from zygo.sdk import app as registry
from zygo.sdk import context

if TYPE_CHECKING:
    from collections.abc import Iterator

app = zygo.App("photos")


def resize(width: int = 1) -> int:
    return width * 2


def spec_of(**parameters: Any) -> FunctionSpec:
    return zygo.App("photos").function(**parameters)(resize).spec()


def refusal_of(**parameters: Any) -> str:
    with pytest.raises(InvalidError) as caught:
        zygo.App("photos").function(**parameters)(resize)
    return str(caught.value)


def test_defaults_are_those_of_the_reference() -> None:
    spec = spec_of()
    assert spec.policy == ScalePolicy(0, None, 0, 60.0, 1, 1)
    assert spec.resources == Resources()
    assert (spec.timeout, spec.startup_timeout, spec.block_network) == (300.0, None, False)
    assert (spec.name, spec.qualname, spec.module, spec.web) == ("resize", "resize", __name__, None)


def test_every_working_parameter_reaches_the_record() -> None:
    spec = spec_of(
        name="shrink",
        min_containers=1,
        max_containers=4,
        buffer_containers=2,
        scaledown_window=5,
        timeout=10,
        startup_timeout=20,
        block_network=True,
        cpu=(0.5, 2),
        memory=(128, 512),
        gpu=["H100", "A100:2"],
        env={"A": "1", "B": None},
        image=zygo.Image.debian_slim("3.12").pip_install("numpy"),
    )
    assert spec.name == "shrink"
    assert spec.policy == ScalePolicy(1, 4, 2, 5.0, 1, 1)
    assert (spec.timeout, spec.startup_timeout, spec.block_network) == (10.0, 20.0, True)
    assert spec.resources == Resources(0.5, 2.0, 128, 512, "H100,A100:2")
    assert spec.env == {"A": "1"}
    assert spec.image.python_version == "3.12"


def test_a_plain_number_is_a_request_without_a_limit() -> None:
    assert spec_of(cpu=2, memory=256).resources == Resources(cpu_request=2.0, memory_request=256)


def test_later_secrets_win_and_env_wins_over_all() -> None:
    first, second = zygo.Secret.from_dict({"A": "1", "B": "1", "C": "1"}), zygo.Secret.from_dict({"B": "2", "C": "2"})
    spec = zygo.App(secrets=[first]).function(secrets=[second], env={"C": "3"})(resize).spec()
    assert spec.env == {"A": "1", "B": "2", "C": "3"}


def test_the_apps_image_is_the_default_one() -> None:
    image = zygo.Image.debian_slim().pip_install("numpy")
    photos = zygo.App(image=image)
    assert photos.function()(resize).image is image
    assert photos.image is image
    other = zygo.Image.debian_slim()
    assert photos.function(image=other, name="b")(resize).image is other


@pytest.mark.parametrize(
    ("old", "new", "field", "value"),
    [
        ("keep_warm", "min_containers", "min_containers", 2),
        ("concurrency_limit", "max_containers", "max_containers", 3),
        ("container_idle_timeout", "scaledown_window", "scaledown_window", 9.0),
    ],
)
def test_old_names_work_and_are_told(old: str, new: str, field: str, value: Any) -> None:
    photos = zygo.App("photos")
    spec = photos.function(**{old: value})(resize).spec()
    assert getattr(spec.policy, field) == value
    assert photos.warnings() == (f"resize: {old}= is an old name; write {new}={value!r}",)


def test_the_old_flag_keep_warm() -> None:
    assert spec_of(keep_warm=True).policy.min_containers == 1


def test_allow_concurrent_inputs_works_and_shows_the_decorator() -> None:
    photos = zygo.App("photos")
    spec = photos.function(allow_concurrent_inputs=7)(resize).spec()
    assert (spec.policy.max_inputs, spec.policy.target_inputs) == (7, 7)
    assert "@zygo.concurrent(max_inputs=7)" in photos.warnings()[0]


def test_an_old_and_a_new_name_at_once() -> None:
    assert "min_containers" in refusal_of(keep_warm=1, min_containers=2)


@pytest.mark.parametrize(
    "given",
    [
        {"gpu": "H100"},
        {"region": "eu"},
        {"cloud": "gcp"},
        {"routing_region": "eu"},
        {"nonpreemptible": True},
        {"ephemeral_disk": 1024},
        {"experimental_options": {"x": True}},
    ],
)
def test_what_only_places_is_accepted_and_told_once_for_all_functions(given: dict[str, Any]) -> None:
    photos = zygo.App("photos")
    photos.function(**given)(resize)
    photos.function(name="other", **given)(resize)
    (text,) = photos.warnings()
    assert text.startswith("resize, other: ")
    assert next(iter(given)) + "=" in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schedule", "daily"),
        ("volumes", {"/data": object()}),
        ("serialized", True),
        ("network_file_systems", {"/data": object()}),
        ("proxy", object()),
        ("enable_memory_snapshot", True),
        ("i6pn", True),
        ("restrict_modal_access", True),
        ("mounts", [object()]),
        ("max_inputs", 1),
    ],
)
def test_what_cannot_work_is_refused_by_name_with_an_alternative(name: str, value: Any) -> None:
    with pytest.raises(UnsupportedError, match=rf"^Function 'resize': {name}= .* not supported yet\. \w+"):
        zygo.App("photos").function(**{name: value})(resize)


@pytest.mark.parametrize("name", ["schedule", "volumes", "serialized", "proxy", "i6pn"])
def test_the_default_value_of_a_refused_parameter_is_fine(name: str) -> None:
    values: tuple[Any, ...] = (None, False, 0, {})
    for value in values:
        spec_of(**{name: value})


def test_an_unknown_parameter_names_the_nearest() -> None:
    assert "Did you mean min_containers=?" in refusal_of(min_container=1)


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        (
            {"min_containers": 5, "max_containers": 2},
            ["'resize'", "min_containers=5 is above max_containers=2", "max_containers=5"],
        ),
        ({"timeout": None}, ["timeout=None", "timeout=300"]),
        ({"timeout": 0}, ["timeout=0"]),
        ({"timeout": -1}, ["timeout=-1"]),
        ({"timeout": float("inf")}, ["timeout=inf"]),
        ({"startup_timeout": 0}, ["startup_timeout=0"]),
        ({"scaledown_window": 0}, ["scaledown_window=0"]),
        ({"min_containers": -1}, ["min_containers=-1", "0 or more"]),
        ({"max_containers": 0}, ["max_containers=0", "1 or more"]),
        ({"min_containers": 1.5}, ["min_containers=1.5"]),
        ({"buffer_containers": "2"}, ["buffer_containers='2'"]),
        ({"cpu": 0}, ["cpu=0"]),
        ({"cpu": (2, 1)}, ["cpu=(2, 1)", "limit below its request", "cpu=(1, 2)"]),
        ({"memory": (1, 2, 3)}, ["memory=(1, 2, 3)"]),
        ({"memory": "1G"}, ["memory='1G'", "MiB"]),
        ({"gpu": 3}, ["gpu=3"]),
        ({"block_network": "yes"}, ["block_network='yes'"]),
        ({"image": "debian"}, ["image='debian'", "zygo.Image.debian_slim()"]),
        ({"secrets": zygo.Secret.from_dict({})}, ["secrets=[secret]"]),
        ({"secrets": ["KEY"]}, ["zygo.Secret.from_dict"]),
        ({"env": ["A"]}, ["env="]),
        ({"env": {"A-B": "1"}}, ["'A-B'"]),
        ({"name": "a b"}, ["'a b'", "Use 'a-b'"]),
        ({"name": "x" * 64}, ["63 characters"]),
        ({"is_generator": True}, ["is_generator=True"]),
    ],
)
def test_values_that_cannot_work_are_named_with_the_mend(given: dict[str, Any], texts: list[str]) -> None:
    message = refusal_of(**given)
    for text in texts:
        assert text in message


def test_the_value_of_an_environment_variable_is_not_shown() -> None:
    message = refusal_of(env={"PASSWORD": 271828})
    assert "PASSWORD" in message
    assert "271828" not in message


@pytest.mark.parametrize("name", ["with space", "a/b", "x" * 64, "ü"])
def test_app_names_are_checked(name: str) -> None:
    with pytest.raises(InvalidError, match="Use '"):
        zygo.App(name)


def test_app_refuses_volumes() -> None:
    with pytest.raises(UnsupportedError, match="volumes="):
        zygo.App("photos", volumes={"/data": object()})


def test_apps_are_registered_in_order() -> None:
    before = registry.registered_apps()
    first, second = zygo.App("first"), zygo.App("second")
    assert registry.registered_apps() == [*before, first, second]


def test_functions_are_registered_by_name() -> None:
    photos = zygo.App("photos")
    function = photos.function()(resize)
    assert photos.registered_functions == {"resize": function}
    assert photos.registered_web_endpoints == []


def test_a_second_function_of_a_name_replaces_the_first_and_is_told() -> None:
    photos = zygo.App("photos")
    photos.function()(resize)
    last = photos.function()(resize)
    assert photos.registered_functions == {"resize": last}
    assert photos.warnings() == ("resize: defined more than once; the last definition counts",)


def test_include_takes_functions_over_and_refuses_a_clash() -> None:
    photos, tools = zygo.App("photos"), zygo.App("tools", tags={"a": "1"})
    function = tools.function()(resize)
    assert photos.include(tools) is photos
    assert photos.registered_functions == {"resize": function}
    assert photos.get_tags() == {"a": "1"}
    third = zygo.App("third")
    third.function()(resize)
    with pytest.raises(InvalidError, match="'resize'"):
        photos.include(third)


def test_a_local_entrypoint_stays_a_function() -> None:
    photos = zygo.App("photos")

    @photos.local_entrypoint()
    def main() -> int:
        return 3

    assert main() == 3
    assert photos.registered_entrypoints == {"main": main}
    with pytest.raises(InvalidError, match="main"):
        photos.local_entrypoint()(main)


def test_a_function_runs_locally_and_is_not_called() -> None:
    function = zygo.App("photos").function()(resize)
    assert function.local(4) == 8
    assert function.get_raw_f() is resize
    assert function.get_web_url() is None
    with pytest.raises(InvalidError, match=r"resize\.local\(\.\.\.\)"):
        function(4)


@pytest.mark.parametrize("method", ["remote", "map", "for_each", "update_autoscaler", "get_current_stats"])
def test_a_function_that_is_not_served_from_here_says_how_to_call_it(method: str) -> None:
    function = zygo.App("photos").function()(resize)
    arguments: tuple[Any, ...] = ([4],) if method in ("map", "for_each") else (4,) if method == "remote" else ()
    with pytest.raises(ExecutionError, match=r"from_name\('photos', 'resize'\).*resize\.local"):
        list(getattr(function, method)(*arguments))


def test_a_generator_is_not_called_like_a_function() -> None:
    def pages(count: int) -> Iterator[int]:
        yield from range(count)

    pages.__qualname__ = "pages"
    photos = zygo.App("photos")
    function = photos.function()(pages)
    with pytest.raises(InvalidError, match=r"is a generator.*pages\.remote_gen"):
        function.remote(4)
    with pytest.raises(InvalidError, match=r"retries= has no meaning for a generator"):
        photos.function(retries=3)(pages)


@pytest.mark.parametrize("method", ["remote", "spawn", "map", "for_each"])
def test_a_web_function_is_not_called_but_requested(method: str) -> None:
    function = zygo.App("photos").function()(zygo.fastapi_endpoint()(resize))
    with pytest.raises(InvalidError, match="web function") as caught:
        getattr(function, method)(4)
    assert not isinstance(caught.value, UnsupportedError)


@pytest.mark.parametrize("use", ["server", "lookup", "get_dashboard_url"])
def test_what_an_app_cannot_do_yet(use: str) -> None:
    with pytest.raises(UnsupportedError, match="not supported yet"):
        getattr(app, use)()


def test_a_function_by_its_name_asks_nobody() -> None:
    function = zygo.Function.from_name("photos", "resize")
    assert isinstance(function, zygo.Function)
    assert pickle.loads(pickle.dumps(function)).app_name == "photos"
    with pytest.raises(ExecutionError, match="only known by its name"):
        function.local(4)
    with pytest.raises(InvalidError, match=r"is a method.*Cls\.from_name"):
        zygo.Function.from_name("photos", "Model.predict")


def test_retries_and_single_use() -> None:
    assert spec_of(retries=3).retries == RetryPolicy(3)
    assert spec_of(retries=zygo.Retries(max_retries=2)).retries == RetryPolicy(2, 2.0, 1.0, 60.0)
    assert spec_of(retries=0).retries is None
    assert spec_of(single_use_containers=True).policy.single_use
    assert "retries=11" in refusal_of(retries=11)
    assert "retries='3'" in refusal_of(retries="3")


@pytest.mark.parametrize("use", ["run", "deploy"])
def test_an_app_starts_itself_only_from_a_program(use: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> None:
        if use == "run":
            with app.run():
                pass
        else:
            app.deploy()

    monkeypatch.setattr(context, "_remote", True)
    with pytest.raises(InvalidError, match=r"in a container.*__main__"):
        start()
    monkeypatch.setattr(context, "_remote", False)
    monkeypatch.setattr(context, "_loading", True)
    with pytest.raises(InvalidError, match=r"imported for its app.*__main__"):
        start()


def test_output_is_enabled_inside_the_context() -> None:
    assert not context.progress_shown()
    with zygo.enable_output():
        assert context.progress_shown()
        assert context.functions_shown()
    with zygo.enable_output(show_progress=False):
        assert not context.progress_shown()
        assert context.functions_shown()
    assert not context.functions_shown()
