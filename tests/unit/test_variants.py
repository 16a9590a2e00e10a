"""Variants: what tells one pool of a function or class from its others, checked before anything is made."""

from __future__ import annotations

from typing import Any

import pytest

from zygo.errors import InvalidError
from zygo.model import FunctionSpec, ImageSpec, ParameterSpec, Resources, ScalePolicy
from zygo.server.variants import derive, from_query

PARAMETERS = (
    ParameterSpec("name", "str"),
    ParameterSpec("count", "int", required=False, default=2),
    ParameterSpec("loud", "bool", required=False, default=False),
    ParameterSpec("raw", "bytes", required=False, default=""),
    ParameterSpec("hidden", "int", required=False, default=1, init=False),
)


def spec(*parameters: ParameterSpec) -> FunctionSpec:
    return FunctionSpec(
        name="Model",
        module="app",
        qualname="Model",
        image=ImageSpec("3.11"),
        policy=ScalePolicy(max_containers=5),
        resources=Resources(memory_limit=100),
        is_class=True,
        parameters=parameters,
    )


def test_values_make_a_variant_and_defaults_that_are_said_the_same() -> None:
    made = derive(spec(*PARAMETERS), {"parameters": {"name": "x"}})
    assert made.variant is not None
    assert made.name == f"Model@{made.variant.key}"
    assert made.variant.parameters == {"name": "x", "count": 2, "loud": False, "raw": ""}
    assert derive(spec(*PARAMETERS), {"parameters": {"name": "x", "count": 2}}) == made
    assert derive(spec(*PARAMETERS), {"parameters": {"name": "x", "count": 3}}).name != made.name


def test_only_defaults_are_the_class_itself() -> None:
    base = spec(PARAMETERS[1])
    assert derive(base, {}) is base
    assert derive(base, {"parameters": {"count": 2}}) is base


def test_options_replace_what_the_decorator_said() -> None:
    options = {
        "policy": {"max_containers": 9, "max_inputs": 4, "target_inputs": 2},
        "resources": {"cpu_limit": 2.0},
        "timeout": 7,
        "env": {"A": "b"},
        "retries": {"max_retries": 3},
        "batch": {"max_batch_size": 4, "wait": 0.5},
    }
    made = derive(spec(), {"options": options})
    assert (made.policy.max_containers, made.policy.max_inputs, made.policy.target_inputs) == (9, 4, 2)
    assert (made.resources.cpu_limit, made.resources.memory_limit) == (2.0, 100)
    assert made.timeout == 7.0
    assert made.variant is not None
    assert made.variant.env == {"A": "b"}
    assert made.retries is not None
    assert made.batch is not None


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"parameters": {}}, "needs a value for its parameter 'name'"),
        ({"parameters": {"name": 3}}, "name=3 must be of type str"),
        ({"parameters": {"name": "x", "count": True}}, "count=True must be of type int"),
        ({"parameters": {"name": "x", "hidden": 2}}, "no parameter 'hidden'"),
        ({"parameters": {"name": "x"}, "more": 1}, "not ['more']"),
        ({"parameters": {"name": "x"}, "options": {"gpu": 1}}, "these are no options"),
        ({"parameters": {"name": "x"}, "options": {"policy": {"max_inputs": 0}}}, "not possible"),
        ({"parameters": {"name": "x"}, "options": {"policy": {"max_inputs": "many"}}}, "cannot be read"),
        ({"parameters": {"name": "x"}, "options": {"policy": {"colour": 1}}}, "no setting 'colour'"),
        ({"parameters": {"name": "x"}, "options": {"resources": {"cpu_limit": "x"}}}, "cannot be read"),
        ({"parameters": {"name": "x"}, "options": {"timeout": -1}}, "seconds above 0"),
        ({"parameters": {"name": "x"}, "options": {"env": {"A=B": "x"}}}, "not the name of an environment variable"),
        ({"parameters": {"name": "x"}, "init": 3}, "these are no options"),
    ],
)
def test_what_a_caller_says_is_checked(said: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        derive(spec(*PARAMETERS), said)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (b"name=x", {"name": "x"}),
        (b"name=%C3%A4+b&count=-3&other=1", {"name": "ä b", "count": -3}),
        (b"name=&loud=TRUE", {"name": "", "loud": True}),
        (b"name=a&name=b&loud=0", {"name": "b", "loud": False}),
        (b"raw=%ff%00a", {"raw": "/wBh"}),
        (b"hidden=3&", {}),
        ("name=ä".encode(), {"name": "ä"}),
        (b"", {}),
    ],
)
def test_parameters_of_a_query(query: bytes, values: dict[str, Any]) -> None:
    assert from_query("Model.web", PARAMETERS, query) == values


@pytest.mark.parametrize("query", [b"count=x", b"count=", b"count=1.5", b"loud=yes"])
def test_a_query_of_the_wrong_type(query: bytes) -> None:
    with pytest.raises(InvalidError):
        from_query("Model.web", PARAMETERS, query)
