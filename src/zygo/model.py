"""The records that cross a boundary: what an app *is*, frozen and without behaviour.

`sdk` makes them (on Python 3.9 and later), JSON carries them, the server reads them. `encode` and `decode` are the only
way in and out; `decode` runs on the host side alone, since it resolves annotations that Python 3.9 cannot.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class ImageStep:
    """One build step. `kind` is the Image method that made it; `args` holds its JSON-able arguments, normalised.

    Kinds built here: `pip_install` {packages, find_links, index_url, extra_index_url, pre, extra_options},
    `uv_pip_install` (the same), `pip_install_from_requirements` {path, content, ...}, `env` {vars}, `workdir` {path},
    `add_local` {copy: true, files: [[remote_path, sha256, mode], ...]}.
    """

    kind: str
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageSpec:
    """An image: a base and the steps on it. `python_version` is "3.X", None for the version of the client."""

    python_version: str
    base: str = "debian_slim"
    steps: tuple[ImageStep, ...] = ()


@dataclass(frozen=True)
class WebSpec:
    """How a web function answers. `kind`: fastapi_endpoint, asgi_app, wsgi_app, web_server.

    `port`, `startup_timeout` (seconds) and `health_path` are of a web_server: where it listens, how long that may take, and the
    path that must answer then, "" for none.
    """

    kind: str
    method: str = "GET"
    path: str = "/"
    docs: bool = False
    label: str | None = None
    requires_proxy_auth: bool = False
    custom_domains: tuple[str, ...] = ()
    sample: str = ""
    """The rest of a curl line to paste, made from the signature: `?x=1` or `-H ... -d '{...}'`, see `loader`."""
    port: int = 0
    startup_timeout: float = 5.0
    health_path: str = ""


@dataclass(frozen=True)
class BatchPolicy:
    """Inputs of one container run as one list: so many at most, collected for so many seconds at most."""

    max_batch_size: int
    wait: float


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter of a class. `type`: str, int, bool or bytes; `default` as JSON has it (of bytes: base64)."""

    name: str
    type: str
    required: bool = True
    default: Any = None
    init: bool = True


@dataclass(frozen=True)
class Variant:
    """What tells one pool of a function or class from its others: the values of its parameters, as JSON has them;
    what its __init__ got, pickled, as base64; and variables on top of the revision's own."""

    key: str
    of: str
    parameters: dict[str, Any] = field(default_factory=dict)
    init: str = ""
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ScalePolicy:
    """How many containers, of what concurrency. Seconds; the defaults are Modal's (modal docs, guide/scale)."""

    min_containers: int = 0
    max_containers: int | None = None
    buffer_containers: int = 0
    scaledown_window: float = 60.0
    max_inputs: int = 1
    target_inputs: int = 1
    single_use: bool = False
    """A container takes one input and is replaced."""


@dataclass(frozen=True)
class Resources:
    """What one container may use. MiB and physical cores; None: no limit of its own."""

    cpu_request: float | None = None
    cpu_limit: float | None = None
    memory_request: int | None = None
    memory_limit: int | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class RetryPolicy:
    """How often an input that failed is tried again, and after which delays in seconds. See `retry_delay`."""

    max_retries: int
    backoff_coefficient: float = 1.0
    initial_delay: float = 1.0
    max_delay: float = 60.0


def retry_delay(policy: RetryPolicy | None, failures: int) -> float | None:
    """Seconds until the next attempt of an input that failed `failures` times so far; None when there is none.

    The one rule, for whoever repeats: the n-th repetition comes initial_delay * backoff_coefficient ** (n - 1) seconds after
    the failure, max_delay at most.
    """
    if policy is None or failures > policy.max_retries:
        return None
    # Above 64 doublings the power overflows long after max_delay has won.
    delay = policy.initial_delay * policy.backoff_coefficient ** min(failures - 1, 64)
    return min(delay, policy.max_delay)


@dataclass(frozen=True)
class SecretUse:
    """A named secret of a function: the server puts its values into the function's env.

    `environment` is the name of the one that it is in, "" for the app's own; `over` are the variables of the function's env
    that it wins over, since they stand before it; `stamp` tells which values a deploy has seen.
    """

    name: str
    environment: str = ""
    required_keys: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    stamp: str = ""


@dataclass(frozen=True)
class FunctionSpec:
    """One function of an app. `timeout` and `startup_timeout` in seconds; `env` is what env= and the secrets whose values are
    known here add up to, `secrets` those that the server has.

    A class is one record (`is_class`), which has the containers, and one for each of its methods, whose `owner` is the
    class's name: a method has a name and perhaps a URL of its own, and no containers. `needs_values`: no instance of it can be
    made without some, so only its variants have containers. `lasting_exit`: its containers have
    work to do at their end; `own_network`: they listen on ports, and each has its own. `variant` is set by the server
    alone, in the record of one of its further pools.
    """

    name: str
    module: str
    qualname: str
    image: ImageSpec
    web: WebSpec | None = None
    env: dict[str, str] = field(default_factory=dict)
    policy: ScalePolicy = field(default_factory=ScalePolicy)
    resources: Resources = field(default_factory=Resources)
    timeout: float = 300.0
    startup_timeout: float | None = None
    block_network: bool = False
    is_async: bool = False
    line: int = 0
    is_generator: bool = False
    retries: RetryPolicy | None = None
    owner: str = ""
    is_class: bool = False
    parameters: tuple[ParameterSpec, ...] = ()
    needs_values: bool = False
    lasting_exit: bool = False
    batch: BatchPolicy | None = None
    variant: Variant | None = None
    own_network: bool = False
    secrets: tuple[SecretUse, ...] = ()


@dataclass(frozen=True)
class SourceFile:
    """One file that every container of the revision sees: absolute path in the sandbox, content hash, mode bits."""

    remote_path: str
    sha256: str
    size: int
    mode: int = 0o644


@dataclass(frozen=True)
class AppSpec:
    """What one evaluation of the user's file says: the app, its functions, and the files its containers get.

    `module` is the name under which the containers import the user's file; `app_variable` the name of the App in it.
    `files` are the user's sources and the files added to images with copy=False. `third_party` are the top-level
    modules from outside that the file imported, for the image zygote to import ahead.
    """

    name: str
    module: str
    app_variable: str = "app"
    functions: tuple[FunctionSpec, ...] = ()
    files: tuple[SourceFile, ...] = ()
    third_party: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class ContainerState(enum.Enum):
    """starting -> ready <-> busy -> draining -> stopped; any -> failed."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    DRAINING = "draining"
    STOPPED = "stopped"
    FAILED = "failed"


class CallState(enum.Enum):
    """Of an input: pending -> running -> succeeded | failed | cancelled | timed_out; running -> pending when it is tried
    again. A call is as far as its least advanced input."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


MAIN = "main"
"""The id of the environment that is there from the beginning, and its name until somebody changes it."""


class AppState(enum.Enum):
    """deployed -> stopped, for good; what is deployed under the name afterwards is another app."""

    DEPLOYED = "deployed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class AppRecord:
    """A deployed app, or one that was. Times are seconds since the epoch; `version` is the active revision's number,
    `environment` the id of the environment that it is in."""

    id: str
    name: str
    state: AppState
    created_at: float
    version: int
    stopped_at: float | None = None
    environment: str = MAIN


@dataclass(frozen=True)
class EnvironmentRecord:
    """An environment: a space of names for apps and secrets. `id` stays when the name changes; `web_suffix` comes after the
    workspace in the hostnames of its apps, "" adds nothing."""

    id: str
    name: str
    web_suffix: str
    created_at: float


@dataclass(frozen=True)
class SecretRecord:
    """A named secret without its values: `keys` are their names, `stamp` is another text each time they change."""

    environment: str
    name: str
    keys: tuple[str, ...]
    stamp: str
    created_at: float
    updated_at: float


@dataclass(frozen=True)
class Provenance:
    """Who made a revision, and from what. `commit` is the one the program's repository was at, `dirty` whether it had
    changes that were not committed; `rollback_of` is the version whose state was taken again."""

    client_version: str
    deployed_by: str
    commit: str = ""
    dirty: bool = False
    tag: str = ""
    rollback_of: int | None = None


@dataclass(frozen=True)
class RevisionRecord:
    """One revision of a deployed app. `digest` tells whether two are the same; `kept` whether one can go back to it."""

    app_id: str
    version: int
    digest: str
    deployed_at: float
    by: Provenance
    kept: bool = True


@dataclass(frozen=True)
class TokenRecord:
    """A token as the server keeps it: `hash` and not the secret. Times are seconds since the epoch, None: never.

    `old_hash` is that of the secret before the last rotation, which is accepted until `old_until`.
    """

    id: str
    name: str
    scopes: tuple[str, ...]
    hash: str
    created_at: float
    created_by: str
    expires_at: float | None = None
    last_used_at: float | None = None
    old_hash: str | None = None
    old_until: float | None = None


@dataclass(frozen=True)
class AuditEntry:
    """Who changed what. `who` is a token's name, or `local:` and the user of the server's machine; `target` the app or token
    that was changed, `outcome` what became of it, `detail` JSON."""

    id: str
    at: float
    who: str
    token_id: str
    address: str
    action: str
    target: str
    outcome: str
    detail: str = "{}"


@dataclass(frozen=True)
class ProxyToken:
    """A token that lets callers through to endpoints which ask for one; `digest` is all that is kept of its secret."""

    id: str
    digest: str
    created_at: float


@dataclass(frozen=True)
class RequestTiming:
    """Where the time of one request went, in seconds. `start` is "cold" or "warm"; `fork` is 0 on a warm one."""

    start: str
    queue: float
    fork: float
    first: float
    total: float


def encode(record: Any) -> Any:
    """A record as JSON-able values."""
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {f.name: encode(getattr(record, f.name)) for f in dataclasses.fields(record)}
    if isinstance(record, enum.Enum):
        return record.value
    if isinstance(record, (list, tuple)):
        return [encode(item) for item in record]
    if isinstance(record, dict):
        return {key: encode(value) for key, value in record.items()}
    return record


def decode(cls: type[T], data: Any) -> T:
    """The record of type `cls` that `data` describes. Unknown keys are ignored (a newer client), missing ones take
    their default. Raises TypeError when a value has the wrong shape."""
    return typing.cast("T", _decode(cls, data))


@functools.cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    """Resolved once per class: it compiles every annotation, which took most of the time of reading a spec."""
    return typing.get_type_hints(cls)


def _decode(hint: Any, data: Any) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return data
    if origin is typing.Union or str(type(hint)) == "<class 'types.UnionType'>":
        if data is None:
            return None
        return _decode(next(a for a in typing.get_args(hint) if a is not type(None)), data)
    if origin is tuple:
        if not isinstance(data, list):
            raise TypeError(f"expected a list, got {type(data).__name__}")
        return tuple(_decode(typing.get_args(hint)[0], item) for item in data)
    if origin is dict:
        if not isinstance(data, dict):
            raise TypeError(f"expected an object, got {type(data).__name__}")
        return {key: _decode(typing.get_args(hint)[1], value) for key, value in data.items()}
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(data, dict):
            raise TypeError(f"expected an object for {hint.__name__}, got {type(data).__name__}")
        hints = _hints(hint)
        known = {f.name for f in dataclasses.fields(hint)}
        return hint(**{key: _decode(hints[key], value) for key, value in data.items() if key in known})
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(data)
    if hint is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if isinstance(hint, type) and not isinstance(data, hint):
        raise TypeError(f"expected {hint.__name__}, got {type(data).__name__}")
    return data
