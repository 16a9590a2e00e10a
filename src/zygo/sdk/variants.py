"""Handles with pools of their own: what `with_options` and its kin ask for, as plain values that the server understands.

A variant is a dict: `parameters` and `init` of a class's object, `options` over those of the decorator. An empty one is the
function or class as it is deployed.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

from zygo.errors import InvalidError
from zygo.model import encode
from zygo.sdk import parameters
from zygo.sdk.unsupported import refusal

OPTIONS = (
    *("cpu", "memory", "gpu", "env", "secrets", "retries", "max_containers", "buffer_containers"),
    *("scaledown_window", "timeout"),
)
_PLACES = ("region", "cloud", "routing_region")
_POLICY = ("max_containers", "buffer_containers", "scaledown_window", "min_containers")


def address(app_name: str, environment_name: str | None) -> str:
    """Where the server is to look for a function: see `calls.find`. Raises InvalidError."""
    if isinstance(app_name, str) and "/" in app_name:
        raise InvalidError(f"{app_name!r} is not the name of an app. Say environment_name= for one in an environment.")
    if environment_name is None:
        return app_name
    if not isinstance(environment_name, str) or not environment_name or "/" in environment_name:
        raise InvalidError(
            f"environment_name={environment_name!r} is not the name of an environment, such as 'staging'."
        )
    return f"{environment_name}/{app_name}"


def shown_address(text: str) -> str:
    """An address as the arguments of from_name."""
    environment, _, app = text.rpartition("/")
    return f"{app!r}, environment_name={environment!r}" if environment else repr(app)


def with_options(
    owner: str, before: dict[str, Any] | None, args: tuple[Any, ...], given: dict[str, Any]
) -> dict[str, Any]:
    """`before` with the options that are given. Raises InvalidError, and UnsupportedError for volumes."""
    if args:
        raise InvalidError(f"{owner}: with_options() only takes keyword arguments, such as max_containers=10.")
    given = {name: value for name, value in given.items() if value is not None}
    for name in given:
        if name not in (*OPTIONS, *_POLICY, *_PLACES, "volumes"):
            raise InvalidError(f"{owner}: with_options() has no parameter {name!r}: {', '.join(OPTIONS)}.")
    options = parameters.read(owner, {"timeout": 300, **given}, None, web=False)
    said: dict[str, Any] = {}
    policy = encode(options.policy)
    said["policy"] = {name: policy[name] for name in _POLICY if name in given}
    resources = encode(options.resources)
    said["resources"] = {
        field: resources[field]
        for name, fields in (
            ("cpu", ("cpu_request", "cpu_limit")),
            ("memory", ("memory_request", "memory_limit")),
            ("gpu", ("gpu",)),
        )
        if name in given
        for field in fields
    }
    env: dict[str, str] = {}
    for secret in options.secrets:
        if secret.use is not None:
            raise refusal(
                f"{owner}: {secret!r} in with_options()", "Name it where the function is defined: secrets=[...]."
            )
        env.update(secret.resolve().values)
    said["env"] = {**env, **options.env}
    if "timeout" in given:
        said["timeout"] = options.timeout
    if "retries" in given:
        said["retries"] = encode(options.retries)
    return _merged(before, {name: value for name, value in said.items() if value != {}})


def with_concurrency(
    owner: str, before: dict[str, Any] | None, args: tuple[Any, ...], given: dict[str, Any]
) -> dict[str, Any]:
    """`before` with so many inputs at once in each container."""
    values = _two(owner, "with_concurrency", ("max_inputs", "target_inputs"), args, given)
    most, target = parameters.check_concurrency(owner, values.get("max_inputs"), values.get("target_inputs"))
    return _merged(before, {"policy": {"max_inputs": most, "target_inputs": target}})


def with_batching(
    owner: str, before: dict[str, Any] | None, args: tuple[Any, ...], given: dict[str, Any]
) -> dict[str, Any]:
    """`before` with batches of that size."""
    values = _two(owner, "with_batching", ("max_batch_size", "wait_ms"), args, given)
    batch = parameters.check_batch(owner, values.get("max_batch_size"), values.get("wait_ms"))
    size = batch.max_batch_size
    return _merged(before, {"batch": encode(batch), "policy": {"max_inputs": size, "target_inputs": size}})


def _two(
    owner: str, method: str, names: tuple[str, ...], args: tuple[Any, ...], given: dict[str, Any]
) -> dict[str, Any]:
    if args or set(given) - set(names):
        raise InvalidError(f"{owner}: {method}() takes {' and '.join(f'{name}=' for name in names)}.")
    return given


def _merged(before: dict[str, Any] | None, said: dict[str, Any]) -> dict[str, Any]:
    options = dict((before or {}).get("options") or {})
    for name, value in said.items():
        options[name] = {**options[name], **value} if isinstance(value, dict) and name in options else value
    return {**(before or {}), "options": options}


T = TypeVar("T")


def duplicate(handle: T) -> T:
    """A handle like `handle`, which pickle (and so copy.copy) would send by name."""
    made = object.__new__(type(handle))
    vars(made).update(vars(handle))
    return made


def refuse_call(owner: str, name: str) -> NoReturn:
    """A class is called to make an object, an object's method with .remote()."""
    raise InvalidError(
        f"{owner}: {name} is not called directly. Use .remote(...), or .local(...) to run it in this process."
    )
