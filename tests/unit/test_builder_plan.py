"""Planning is pure: what is hashed, what makes a layer, what uv will be told, and which specs are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zygo.builder.interpreters import Interpreter
from zygo.builder.plan import Plan, mask, plan
from zygo.errors import InvalidError, UnsupportedError
from zygo.model import ImageSpec, ImageStep

PYTHON = Interpreter(Path("/usr/bin/python3.11"), "3.11.2", Path("/usr"))


def step(kind: str, **args: Any) -> ImageStep:
    return ImageStep(kind, args)


def pip(*packages: str, **args: Any) -> ImageStep:
    return step("pip_install", packages=list(packages), **args)


def planned(*steps: ImageStep, interpreter: Interpreter = PYTHON) -> Plan:
    return plan(ImageSpec("3.11", steps=steps), interpreter)


def test_the_hash_is_the_same_in_every_process_and_release() -> None:
    # A changed hash rebuilds everybody's images: raise plan.FORMAT when that is meant, and correct this.
    assert planned(pip("six")).image_hash == "acce6a3fc21a0839a1fb"


def test_an_image_without_steps_is_its_base_layer() -> None:
    result = planned()
    assert [layer.kind for layer in result.layers] == ["base"]
    assert result.layers[0].parent is None
    assert (result.env, result.workdir) == ({}, None)


def test_each_layer_stands_on_the_one_before() -> None:
    layers = planned(pip("six"), pip("idna")).layers
    assert [layer.kind for layer in layers] == ["base", "install", "install"]
    assert [layer.parent for layer in layers] == [None, layers[0].hash, layers[1].hash]


def test_the_order_of_steps_matters() -> None:
    assert planned(pip("six"), pip("idna")).image_hash != planned(pip("idna"), pip("six")).image_hash


def test_a_common_beginning_is_shared() -> None:
    one, other = planned(pip("six"), pip("idna")), planned(pip("six"), pip("attrs"))
    assert one.layers[:2] == other.layers[:2]
    assert one.layers[2].hash != other.layers[2].hash


def test_another_interpreter_makes_other_layers() -> None:
    patched = Interpreter(PYTHON.path, "3.11.9", PYTHON.prefix)
    assert planned(pip("six")).layers[0].hash != planned(pip("six"), interpreter=patched).layers[0].hash


def test_env_and_workdir_make_no_layer_but_another_image() -> None:
    plain = planned(pip("six"))
    result = planned(pip("six"), step("env", vars={"A": "1"}), step("workdir", path="/srv"))
    assert result.layers == plain.layers
    assert result.image_hash != plain.image_hash
    assert (result.env, result.workdir) == ({"A": "1"}, "/srv")


def test_env_that_is_set_earlier_is_part_of_an_installation() -> None:
    before = planned(step("env", vars={"CFLAGS": "-O3"}), pip("six")).layers[-1]
    assert before.env == {"CFLAGS": "-O3"}
    assert before.hash != planned(pip("six"), step("env", vars={"CFLAGS": "-O3"})).layers[-1].hash


def test_the_later_env_and_workdir_win() -> None:
    result = planned(
        step("env", vars={"A": "1", "B": "1"}),
        step("workdir", path="/srv"),
        step("env", vars={"B": "2"}),
        step("workdir", path="data"),
    )
    assert (result.env, result.workdir) == ({"A": "1", "B": "2"}, "/srv/data")


def test_the_order_in_which_variables_are_written_does_not_matter() -> None:
    assert (
        planned(step("env", vars={"A": "1", "B": "2"})).image_hash
        == planned(step("env", vars={"B": "2", "A": "1"})).image_hash
    )


def test_pip_options_become_those_of_uv() -> None:
    layer = planned(
        pip(
            "torch>=2",
            "six",
            find_links="https://links.example",
            index_url="https://index.example",
            extra_index_url="https://extra.example",
            pre=True,
            extra_options="--no-deps --no-build-isolation",
        )
    ).layers[-1]
    assert layer.arguments == (
        *("--find-links", "https://links.example"),
        *("--index-url", "https://index.example"),
        *("--extra-index-url", "https://extra.example"),
        *("--index-strategy", "unsafe-best-match"),
        *("--prerelease", "allow"),
        *("--no-deps", "--no-build-isolation"),
        *("--", "torch>=2", "six"),
    )


def test_a_package_is_never_taken_for_an_option() -> None:
    assert planned(pip("--help")).layers[-1].arguments == ("--", "--help")


def test_uv_pip_install_keeps_uvs_own_index_strategy() -> None:
    layer = planned(step("uv_pip_install", packages=["six"], extra_index_url="https://extra.example")).layers[-1]
    assert "--index-strategy" not in layer.arguments


def test_a_requirements_file_is_its_content_without_comments() -> None:
    def of(content: str) -> Plan:
        return planned(step("pip_install_from_requirements", path="reqs/all.txt", content=content))

    layer = of("# what we need\nsix==1.17.0  # pinned\n\nidna\n").layers[-1]
    assert layer.requirements == ("six==1.17.0  # pinned\nidna\n",)
    assert layer.arguments == ("--requirement", "requirements-0.txt")
    assert layer.step == 'pip_install_from_requirements("reqs/all.txt")'
    assert of("six\n# new\n").image_hash == of("six\n").image_hash
    assert of("six\n").image_hash != of("six==1.0\n").image_hash


@pytest.mark.parametrize("item", [["r.txt", "six\n"], {"path": "r.txt", "content": "six\n"}])
def test_uv_pip_install_takes_packages_and_requirements_files(item: Any) -> None:
    layer = planned(step("uv_pip_install", packages=["idna"], requirements=[item])).layers[-1]
    assert layer.arguments == ("--requirement", "requirements-0.txt", "--", "idna")
    assert layer.requirements == ("six\n",)


def test_added_files_are_a_layer() -> None:
    files = [["/root/b.txt", "b" * 64, 0o755], ["/root/a.txt", "a" * 64, 0o644]]
    layer = planned(step("add_local", copy=True, files=files)).layers[-1]
    assert layer.kind == "files"
    assert layer.files == (("/root/a.txt", "a" * 64, 0o644), ("/root/b.txt", "b" * 64, 0o755))
    assert layer.step == "add_local(2 files)"


@pytest.mark.parametrize("path", ["data.txt", "/root/../../etc/passwd", ""])
def test_a_file_outside_the_root_is_refused(path: str) -> None:
    with pytest.raises(InvalidError, match="absolute path"):
        planned(step("add_local", copy=True, files=[[path, "a" * 64, 0o644]]))


def test_an_empty_installation_is_refused_with_an_example() -> None:
    with pytest.raises(InvalidError, match=r"names no package.*pip_install\('fastapi'\)"):
        planned(pip())


def test_what_cannot_be_built_yet_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match=r"Image\.apt_install\(\)"):
        planned(step("apt_install", packages=["ffmpeg"]))
    with pytest.raises(UnsupportedError, match=r"Image\.from_registry\(\)"):
        plan(ImageSpec("3.11", base="from_registry"), PYTHON)


def test_credentials_are_not_shown() -> None:
    layer = planned(pip("six", index_url="https://user:secret@index.example/simple")).layers[-1]
    assert layer.step == "pip_install(\"six\", index_url='https://****@index.example/simple')"
    assert "https://user:secret@index.example/simple" in layer.arguments
    assert mask("see https://a@b.example/c and mail@b.example") == "see https://****@b.example/c and mail@b.example"
