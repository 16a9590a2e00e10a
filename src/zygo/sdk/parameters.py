"""What the parameters of `app.function` mean: checked, with their old names, and said plainly when they cannot work.

`read` turns the values as given into `Options`. Its messages name the function, the value and the mend.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from zygo.errors import InvalidError
from zygo.model import BatchPolicy, Resources, RetryPolicy, ScalePolicy
from zygo.sdk import retries
from zygo.sdk.unsupported import refusal

if TYPE_CHECKING:
    from zygo.sdk.image import Image
    from zygo.sdk.secret import Secret

RENAMED = {
    "keep_warm": "min_containers",
    "concurrency_limit": "max_containers",
    "container_idle_timeout": "scaledown_window",
}
"""Old name -> the name it has now. `allow_concurrent_inputs` became a decorator and is handled apart."""

NOT_HONOURED = {
    "gpu": "no GPU is reserved; the container sees none",
    "cloud": "every container runs on this machine",
    "region": "every container runs on this machine",
    "routing_region": "requests go straight to this machine",
    "nonpreemptible": "containers are not preempted here",
    "ephemeral_disk": "disk space is not reserved; a container writes to memory-backed files",
    "experimental_options": "there are no experimental options",
}
"""Parameters that only place or reserve: accepted, and told once."""

REFUSED = {
    "schedule": "Let cron or a systemd timer call the function's URL with curl.",
    "volumes": "Ship files that are only read with image.add_local_dir(); keep data in a database or a service.",
    "serialized": "Define the function at the top level of a module, from where the container imports it.",
    "network_file_systems": "Keep data in a database or a service.",
    "proxy": "Requests to the outside leave from this machine's own address.",
    "enable_memory_snapshot": "Leave it out: every container is forked from a process that has imported your module.",
    "i6pn": "Leave it out: containers do not reach each other.",
    "restrict_modal_access": "Use block_network=True to cut a function off from the network.",
    "mounts": "Use image.add_local_dir(), add_local_file() or add_local_python_source().",
    "max_inputs": "Start a subprocess for what must not be shared between requests.",
    "interactive": "Run the function with .local() in a debugger.",
    "cluster_size": "Every function runs in one container at a time per request.",
}
"""Parameters that change what a program does, and which therefore are not silently ignored."""

KNOWN = frozenset(
    {
        *("image", "env", "secrets", "min_containers", "max_containers", "buffer_containers", "scaledown_window"),
        *("timeout", "startup_timeout", "name", "block_network", "include_source", "cpu", "memory", "is_generator"),
        *("retries", "single_use_containers"),
        *RENAMED,
        *NOT_HONOURED,
        *REFUSED,
        "allow_concurrent_inputs",
    }
)
_NAME = re.compile(r"[a-zA-Z0-9._-]+")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_NAME = 63


@dataclass(frozen=True)
class Options:
    """What one `@app.function(...)` asked for. Times in seconds; `notices` are warnings without the function's name."""

    image: Image | None = None
    secrets: tuple[Secret, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    policy: ScalePolicy = field(default_factory=ScalePolicy)
    resources: Resources = field(default_factory=Resources)
    timeout: float = 300.0
    startup_timeout: float | None = None
    block_network: bool = False
    include_source: bool | None = None
    retries: RetryPolicy | None = None
    notices: tuple[str, ...] = ()


def read(owner: str, given: Mapping[str, Any], concurrency: tuple[int, int] | None, *, web: bool) -> Options:
    """Check the parameters of one function and say what they mean.

    Arguments:
        owner: the function in messages, such as "Function 'resize'".
        given: the parameters that are not None, by name.
        concurrency: (max_inputs, target_inputs) of `@concurrent`, None without it.
        web: whether it is a web function.

    Raises InvalidError, and UnsupportedError for what a later release brings.
    """
    notices: list[str] = []
    values = _renamed(owner, given, notices)
    _refuse(owner, values, web=web)
    old = values.pop("allow_concurrent_inputs", None)
    if old is not None:
        concurrency = _old_concurrency(owner, old, concurrency, notices)
    for name, text in NOT_HONOURED.items():
        if values.get(name):
            notices.append(f"{name}={values[name]!r} is not honoured: {text}")
    return Options(
        image=_image(owner, values.get("image")),
        secrets=_secrets(owner, values.get("secrets", ())),
        env=check_env(owner, values.get("env", {})),
        policy=_policy(owner, values, concurrency or (1, 1)),
        resources=_resources(owner, values),
        timeout=_seconds(owner, "timeout", values.get("timeout", 300)),
        startup_timeout=_optional_seconds(owner, "startup_timeout", values.get("startup_timeout")),
        block_network=_flag(owner, "block_network", values.get("block_network", False)),
        include_source=values.get("include_source"),
        retries=retries.read(owner, values.get("retries")),
        notices=tuple(notices),
    )


def check_names(given: Mapping[str, Any]) -> None:
    """Raises InvalidError for a parameter that nobody knows, with the nearest that exists."""
    for name in given:
        if name not in KNOWN:
            near = difflib.get_close_matches(name, sorted(KNOWN - set(RENAMED) - set(REFUSED)), 1)
            mend = f" Did you mean {near[0]}=?" if near else ""
            raise InvalidError(f"@app.function() has no parameter {name!r}.{mend}")


def check_name(what: str, name: object) -> str:
    """`name` when an app or a function may be called so. Raises InvalidError with a name that would do."""
    if isinstance(name, str) and _NAME.fullmatch(name) and len(name) <= MAX_NAME:
        return name
    if not isinstance(name, str) or not name:
        raise InvalidError(f"{what} name={name!r} is not a name. Give a text such as 'my-{what.lower()}'.")
    mended = re.sub(r"[^a-zA-Z0-9._-]+", "-", name)[:MAX_NAME].strip("-") or f"my-{what.lower()}"
    raise InvalidError(
        f"{what} name {name!r} may only have letters, digits, dashes, dots and underscores, "
        f"{MAX_NAME} characters at most. Use {mended!r}."
    )


def check_env(owner: str, env: object) -> dict[str, str]:
    """The environment variables that `env=` or a Secret sets; those with None are left out."""
    if not isinstance(env, Mapping):
        raise InvalidError(f"{owner}: env={env!r} is not a dict. Give env={{'NAME': 'value'}}.")
    for name, value in env.items():
        if not isinstance(name, str) or not _ENV_NAME.fullmatch(name):
            raise InvalidError(f"{owner}: {name!r} is not the name of an environment variable (A-Z, 0-9 and _).")
        # The value may be a secret: it is not shown.
        if value is not None and (not isinstance(value, str) or "\0" in value):
            raise InvalidError(
                f"{owner}: the value of {name} is of type {type(value).__name__}, environment variables are text. "
                f"Use str(...)."
            )
    return {name: value for name, value in env.items() if value is not None}


def check_seconds(owner: str, name: str, value: object) -> float:
    """`value` as seconds above 0. Raises InvalidError."""
    return _seconds(owner, name, value)


def check_health_path(owner: str, path: object) -> str:
    """The path of a web_server's health, "" for none. Raises InvalidError."""
    if path is None:
        return ""
    if not isinstance(path, str) or not re.fullmatch(r"/[!-\"$-~]*", path):
        stem = re.sub(r"^.*?://[^/]*|#.*|[^!-~]", "", path).lstrip("/") if isinstance(path, str) else ""
        raise InvalidError(
            f"{owner}: health_path={path!r} must be a path on the server's port that starts with a slash, in ASCII "
            f'without blanks. Use health_path="/{stem or "health"}".'
        )
    return path


def check_batch(owner: str, size: object, wait_ms: object) -> BatchPolicy:
    """What `@batched` asks for, checked."""
    for name, value, least, most in (("max_batch_size", size, 1, 1000), ("wait_ms", wait_ms, 0, 600_000)):
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidError(
                f"{owner}: {name}={value!r} must be a whole number from {least} to {most}. "
                f"Use @zygo.batched(max_batch_size=8, wait_ms=100)."
            )
    assert isinstance(size, int)
    assert isinstance(wait_ms, int)
    return BatchPolicy(size, wait_ms / 1000)


def check_concurrency(owner: str, max_inputs: object, target_inputs: object) -> tuple[int, int]:
    """What `@concurrent` asks for, checked: (max_inputs, target_inputs)."""
    maximum = _count(owner, "max_inputs", max_inputs, least=1)
    target = maximum if target_inputs is None else _count(owner, "target_inputs", target_inputs, least=1)
    if target > maximum:
        raise InvalidError(
            f"{owner}: target_inputs={target} is above max_inputs={maximum}. "
            f"Use @zygo.concurrent(max_inputs={target}, target_inputs={target}) or lower target_inputs."
        )
    return maximum, target


def _renamed(owner: str, given: Mapping[str, Any], notices: list[str]) -> dict[str, Any]:
    values = dict(given)
    for old, new in RENAMED.items():
        if old not in values:
            continue
        value = values.pop(old)
        value = int(value) if isinstance(value, bool) else value  # keep_warm was a flag once
        if new in values:
            raise InvalidError(f"{owner}: {old}= is the old name of {new}=; give only {new}={values[new]!r}.")
        values[new] = value
        notices.append(f"{old}= is an old name; write {new}={value!r}")
    return values


def _old_concurrency(
    owner: str, value: Any, concurrency: tuple[int, int] | None, notices: list[str]
) -> tuple[int, int]:
    if concurrency is not None:
        raise InvalidError(
            f"{owner}: allow_concurrent_inputs= and @zygo.concurrent say the same; keep @zygo.concurrent."
        )
    notices.append(
        f"allow_concurrent_inputs= is an old name; write @zygo.concurrent(max_inputs={value!r}) below @app.function()"
    )
    return check_concurrency(owner, value, None)


def _refuse(owner: str, values: Mapping[str, Any], *, web: bool) -> None:
    if web and values.get("retries"):
        raise InvalidError(
            f"{owner}: retries={values['retries']!r} has no meaning for a web function. "
            f"Leave it out and let the caller repeat the request."
        )
    for name, instead in REFUSED.items():
        if values.get(name):
            raise refusal(f"{owner}: {name}= of @app.function()", instead)


def _policy(owner: str, values: Mapping[str, Any], concurrency: tuple[int, int]) -> ScalePolicy:
    least = _count(owner, "min_containers", values.get("min_containers", 0), least=0)
    most = values.get("max_containers")
    most = None if most is None else _count(owner, "max_containers", most, least=1)
    if most is not None and least > most:
        raise InvalidError(
            f"{owner}: min_containers={least} is above max_containers={most}. "
            f"Use @app.function(min_containers={least}, max_containers={least}) or lower min_containers."
        )
    single_use = _flag(owner, "single_use_containers", values.get("single_use_containers", False))
    if single_use and concurrency[0] > 1:
        raise InvalidError(
            f"{owner}: single_use_containers=True lets a container take one input, @concurrent {concurrency[0]} at once. "
            f"Leave one of them out."
        )
    window = values.get("scaledown_window", 60)
    return ScalePolicy(
        min_containers=least,
        max_containers=most,
        buffer_containers=_count(owner, "buffer_containers", values.get("buffer_containers", 0), least=0),
        scaledown_window=_seconds(owner, "scaledown_window", window),
        max_inputs=concurrency[0],
        target_inputs=concurrency[1],
        single_use=single_use,
    )


def _resources(owner: str, values: Mapping[str, Any]) -> Resources:
    cpu_request, cpu_limit = _pair(owner, "cpu", values.get("cpu"), "physical cores", "(0.5, 2.0)")
    memory_request, memory_limit = _pair(owner, "memory", values.get("memory"), "MiB", "(256, 1024)")
    gpu = values.get("gpu")
    if gpu is not None and not isinstance(gpu, str):
        if not isinstance(gpu, Sequence) or not all(isinstance(g, str) for g in gpu):
            raise InvalidError(f"{owner}: gpu={gpu!r} is not a text such as gpu='H100'.")
        gpu = ",".join(gpu)
    return Resources(
        cpu_request=cpu_request,
        cpu_limit=cpu_limit,
        memory_request=None if memory_request is None else int(memory_request),
        memory_limit=None if memory_limit is None else int(memory_limit),
        gpu=gpu or None,
    )


def _pair(owner: str, name: str, value: Any, unit: str, example: str) -> tuple[float | None, float | None]:
    if value is None:
        return None, None
    parts = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if not 1 <= len(parts) <= 2 or not all(_is_number(p) and p > 0 for p in parts):
        _bad(owner, name, value, f"{unit} above 0, or (request, limit) such as {name}={example}")
    request = float(parts[0])
    limit = float(parts[1]) if len(parts) == 2 else None
    if limit is not None and limit < request:
        raise InvalidError(
            f"{owner}: {name}={value!r} has a limit below its request. Use {name}=({parts[1]}, {parts[0]})."
        )
    return request, limit


def _image(owner: str, image: Any) -> Image | None:
    from zygo.sdk.image import Image

    if image is not None and not isinstance(image, Image):
        raise InvalidError(f"{owner}: image={image!r} is not an Image. Use image=zygo.Image.debian_slim().")
    return image


def _secrets(owner: str, secrets: Any) -> tuple[Secret, ...]:
    from zygo.sdk.secret import Secret

    if isinstance(secrets, Secret):
        raise InvalidError(f"{owner}: secrets= takes a list. Use secrets=[secret].")
    for secret in secrets:
        if not isinstance(secret, Secret):
            raise InvalidError(
                f"{owner}: secrets= holds {type(secret).__name__} {secret!r}. "
                f"Use secrets=[zygo.Secret.from_dict({{'NAME': 'value'}})]."
            )
    return tuple(secrets)


def _count(owner: str, name: str, value: Any, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        _bad(owner, name, value, f"a whole number, {least} or more")
    return int(value)


def _seconds(owner: str, name: str, value: Any) -> float:
    if not _is_number(value) or not 0 < value < float("inf"):
        _bad(owner, name, value, f"seconds above 0, such as {name}=300")
    return float(value)


def _optional_seconds(owner: str, name: str, value: Any) -> float | None:
    return None if value is None else _seconds(owner, name, value)


def _flag(owner: str, name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        _bad(owner, name, value, "True or False")
    return bool(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _bad(owner: str, name: str, value: Any, wanted: str) -> NoReturn:
    raise InvalidError(f"{owner}: {name}={value!r} must be {wanted}.")
