"""Further pools of a function or class: one for each set of parameters, and one for each handle with options of its own.

A variant is made when a caller first names it, has its own waiting line, containers and limits, follows the app through its
revisions, and is forgotten when it has neither containers nor callers for a while.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from zygo.errors import InvalidError, ResourceExhaustedError
from zygo.model import BatchPolicy, FunctionSpec, Resources, RetryPolicy, Variant, decode, encode
from zygo.server import scaling

if TYPE_CHECKING:
    from collections.abc import Callable

    from zygo.gateway.routes import Endpoint
    from zygo.model import ParameterSpec
    from zygo.server.apps import Apps
    from zygo.server.live import LiveApp, LiveFunction

MOST = 200
"""Variants of one function or class at a time. Each one that is used has at least one container."""

KEPT_SECONDS = 60.0
"""For which one without containers is remembered after its last use: longer than callers remember its id."""

_KEYS = {"parameters", "init", "options"}
_OPTIONS = {"policy", "resources", "env", "timeout", "retries", "batch"}
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def derive(base: FunctionSpec, said: dict[str, Any]) -> FunctionSpec:
    """The record of `base`'s variant; `base` itself when nothing is different. Raises InvalidError."""
    owner = f"{'Class' if base.is_class else 'Function'} {base.name!r}"
    if not isinstance(said, dict) or set(said) - _KEYS:
        raise InvalidError(f"{owner}: a variant has parameters, init and options, not {sorted(set(said) - _KEYS)}.")
    parameters = _parameters(owner, base, said.get("parameters") or {})
    options = said.get("options") or {}
    init = said.get("init") or ""
    if not isinstance(options, dict) or set(options) - _OPTIONS or not isinstance(init, str):
        raise InvalidError(f"{owner}: these are no options: {said!r:.200}.")
    if not (parameters or options or init):
        return base
    canonical = json.dumps({"parameters": parameters, "init": init, "options": options}, sort_keys=True)
    key = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    try:
        made = _with_options(owner, base, options)
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidError(f"{owner}: these options cannot be read: {error}") from None
    env = options.get("env") or {}
    variant = Variant(key, base.name, parameters, init, {name: str(value) for name, value in env.items()})
    return replace(made, name=f"{base.name}@{key}", parameters=(), needs_values=False, variant=variant)


def _parameters(owner: str, base: FunctionSpec, given: dict[str, Any]) -> dict[str, Any]:
    """All parameters by name; {} when they are the defaults."""
    known = {spec.name: spec for spec in base.parameters if spec.init}
    for name in given:
        if name not in known:
            raise InvalidError(f"{owner} has no parameter {name!r}. It has: {', '.join(known) or 'none'}.")
    values = {}
    for spec in known.values():
        if spec.name in given:
            values[spec.name] = _typed(owner, spec, given[spec.name])
        elif spec.required:
            raise InvalidError(f"{owner} needs a value for its parameter {spec.name!r} ({spec.type}).")
        else:
            values[spec.name] = spec.default
    return values if any(spec.required or values[spec.name] != spec.default for spec in known.values()) else {}


def _typed(owner: str, spec: ParameterSpec, value: Any) -> Any:
    kinds: dict[str, type] = {"str": str, "bytes": str, "int": int, "bool": bool}
    wrong = not isinstance(value, kinds[spec.type]) or (isinstance(value, bool) and spec.type != "bool")
    if wrong or (isinstance(value, str) and len(value) > 65536):
        raise InvalidError(f"{owner}: {spec.name}={value!r:.100} must be of type {spec.type}.")
    return value


def _with_options(owner: str, base: FunctionSpec, options: dict[str, Any]) -> FunctionSpec:
    made = base
    policy = dict(options.get("policy") or {})
    inputs = {name: policy.pop(name) for name in ("max_inputs", "target_inputs") if name in policy}
    most, target = (
        inputs.get("max_inputs", base.policy.max_inputs),
        inputs.get("target_inputs", base.policy.target_inputs),
    )
    if not 1 <= int(target) <= int(most) <= 1000:
        raise InvalidError(f"{owner}: {target} of {most} inputs at once is not possible (1 to 1000).")
    scaled = scaling.changed(owner, base.policy, policy)
    made = replace(made, policy=replace(scaled, max_inputs=int(most), target_inputs=int(target)))
    if options.get("resources"):
        made = replace(made, resources=decode(Resources, {**encode(base.resources), **options["resources"]}))
    if options.get("timeout") is not None:
        seconds = float(options["timeout"])
        if not 0 < seconds < float("inf"):
            raise InvalidError(f"{owner}: timeout={seconds!r} must be seconds above 0.")
        made = replace(made, timeout=seconds)
    if options.get("retries"):
        made = replace(made, retries=decode(RetryPolicy, options["retries"]))
    if options.get("batch"):
        made = replace(made, batch=decode(BatchPolicy, options["batch"]))
    for name in options.get("env") or {}:
        if not _ENV_NAME.fullmatch(name):
            raise InvalidError(f"{owner}: {name!r} is not the name of an environment variable.")
    return made


def from_query(owner: str, specs: tuple[ParameterSpec, ...], query: bytes) -> dict[str, Any]:
    """The parameters that a URL's query gives, of those there are. Raises InvalidError."""
    # Each byte as one character, so that what is no UTF-8 survives for a parameter that takes bytes.
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    raw = {name.encode("latin-1").decode("utf-8", "replace"): value.encode("latin-1") for name, value in pairs}
    values: dict[str, Any] = {}
    for spec in specs:
        if not spec.init or spec.name not in raw:
            continue
        data = raw[spec.name]
        text = data.decode("utf-8", "replace")
        if spec.type == "bytes":
            values[spec.name] = base64.b64encode(data).decode()
        elif spec.type == "int":
            if not re.fullmatch(r"[+-]?[0-9]{1,4000}", text):
                raise InvalidError(f"{owner}: the query's {spec.name}={text[:100]!r} must be a whole number.")
            values[spec.name] = int(text)
        elif spec.type == "bool":
            if text.lower() not in ("true", "false", "1", "0"):
                raise InvalidError(f"{owner}: the query's {spec.name}={text[:100]!r} must be true or false.")
            values[spec.name] = text.lower() in ("true", "1")
        else:
            values[spec.name] = text
    return values


class Variants:
    """Makes variants of the live apps' functions when they are asked for, and forgets them."""

    def __init__(self, apps: Apps) -> None:
        self._apps = apps
        self._timer: asyncio.TimerHandle | None = None

    def ensure(self, app: LiveApp, function: LiveFunction, said: dict[str, Any]) -> LiveFunction:
        """The live function for that variant of `function`. Raises InvalidError, ResourceExhaustedError."""
        owner = app.functions[function.owner] if function.owner else function
        assert owner.spec is not None
        spec = derive(owner.spec, said)
        if spec.variant is None:
            return function
        name = f"{function.name}@{spec.variant.key}"
        found = app.functions.get(name)
        if found is None:
            self._make_room(app, owner)
            self._add(app, owner, spec, said)
            found = app.functions[name]
        self._used(app.functions[spec.name])
        return found

    def selector(self, app: LiveApp, method: LiveFunction) -> Callable[[bytes], Endpoint]:
        """For a web method of a class with parameters: the endpoint that a request's target is for."""
        owner = app.functions[method.owner]
        assert owner.spec is not None
        specs = owner.spec.parameters

        def select(target: bytes) -> Endpoint:
            values = from_query(method.name, specs, target.partition(b"?")[2])
            endpoint = self.ensure(app, method, {"parameters": values}).endpoint
            assert endpoint is not None
            return endpoint

        return select

    def specs(self, app: LiveApp, functions: dict[str, FunctionSpec]) -> list[tuple[LiveFunction, FunctionSpec]]:
        """The app's variants as a revision with these functions has them; one that does not fit it any more is left out."""
        found = []
        for live in app.functions.values():
            base = functions.get(live.variant_of)
            if live.variant is None or base is None:
                continue
            try:
                spec = derive(base, live.variant)
            except InvalidError:
                continue
            if spec.name != live.name:
                continue
            found.append((live, spec))
            found += [
                (app.functions[name], _method(method, spec))
                for method in functions.values()
                if method.owner == base.name and (name := _method(method, spec).name) in app.functions
            ]
        return found

    def _add(self, app: LiveApp, owner: LiveFunction, spec: FunctionSpec, said: dict[str, Any]) -> None:
        assert spec.variant is not None
        live = self._apps.function(app, spec)
        live.variant, live.variant_of = said, owner.name
        added = [(live, spec)]
        for method in list(app.functions.values()):
            if method.owner == owner.name and method.spec is not None:
                own = _method(method.spec, spec)
                added.append((self._apps.function(app, own, {live.name: live}), own))
        for function, record in added:
            function.spec = record
            app.functions[function.name] = function
        for function, _ in added:
            function.endpoint = self._apps.endpoint(app, function)
        if app.generations:
            self._apps.open_pool(app, app.generations[-1], live, spec)
        self._apps.update_routes()

    def _make_room(self, app: LiveApp, owner: LiveFunction) -> None:
        variants = [f for f in app.functions.values() if f.variant is not None and f.variant_of == owner.name]
        if len(variants) < MOST:
            return
        idle = [f for f in variants if not (f.admission.waiting or f.admission.in_flight)]
        if not idle:
            raise ResourceExhaustedError(
                f"{owner.name} has {len(variants)} sets of parameters in use, which is the limit; try again later"
            )
        self._forget(app, min(idle, key=_last_used))
        self._apps.update_routes()

    def _used(self, function: LiveFunction) -> None:
        loop = asyncio.get_running_loop()
        function.used = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(KEPT_SECONDS, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        left = gone = 0
        for app in self._apps.all:
            for function in [f for f in app.functions.values() if f.variant is not None]:
                pools = [g.pools[function.name] for g in app.generations if function.name in g.pools]
                unused = loop.time() - _last_used(function) > KEPT_SECONDS
                if unused and all(pool.empty for pool in pools):
                    self._forget(app, function)
                    gone += 1
                else:
                    left += 1
        if gone:
            self._apps.update_routes()
        if left:
            self._timer = loop.call_later(KEPT_SECONDS, self._sweep)

    def _forget(self, app: LiveApp, function: LiveFunction) -> None:
        for name in [f.name for f in app.functions.values() if f.owner == function.name]:
            del app.functions[name]
        del app.functions[function.name]
        for generation in app.generations:
            if function.name in generation.pools:
                self._apps.close_pool(generation, function.name)

    def close(self) -> None:
        """Stop looking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _last_used(function: LiveFunction) -> float:
    return max(function.used, function.admission.last_active or 0.0)


def _method(method: FunctionSpec, owner: FunctionSpec) -> FunctionSpec:
    """The record of a method of the variant `owner` of its class."""
    assert owner.variant is not None
    return replace(
        method,
        name=f"{method.name}@{owner.variant.key}",
        owner=owner.name,
        policy=owner.policy,
        resources=owner.resources,
        timeout=owner.timeout,
        retries=owner.retries if method.retries is not None else None,
        variant=owner.variant,
    )
