"""Functions as their callers see them: found by the names of their apps, looked at, and kept within other bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zygo.errors import InvalidError, NotFoundError
from zygo.gateway.backlog import Callee
from zygo.model import MAIN, ScalePolicy, encode
from zygo.server import scaling

if TYPE_CHECKING:
    from zygo.gateway.container import Backend
    from zygo.model import FunctionSpec
    from zygo.server.apps import Apps
    from zygo.server.environments import Environment, Environments
    from zygo.server.live import LiveApp, LiveFunction


class CalledFunctions:
    """Every function of the live apps. Of two apps of one name, one deployed and one served, the deployed one is meant."""

    def __init__(self, apps: Apps, environments: Environments) -> None:
        self._apps = apps
        self._environments = environments

    def describe(
        self, app_name: str, name: str, variant: dict[str, Any] | None = None, environment: str = ""
    ) -> dict[str, Any]:
        """What a caller must know of a function, or of a variant of it. The app is told by its id, or by its name in an
        environment, "" for the first one.

        Raises NotFoundError, InvalidError.
        """
        app = self._apps.get(app_name) or self._named(app_name, self._environments.named(environment))
        function = app.functions.get(name)
        if function is None or function.spec is None:
            known = ", ".join(sorted(f.name for f in app.functions.values() if f.name == f.shown)) or "none"
            raise NotFoundError(f"The app {app_name!r} has no function {name!r}. It has: {known}.")
        if variant is not None or self._has_parameters(app, function):
            function = self._apps.variants.ensure(app, function, variant or {})
        spec = function.spec
        assert spec is not None
        return {
            "id": function.id,
            "app": app.name,
            "name": function.shown,
            "web_url": function.url if spec.web is not None else None,
            "generator": spec.is_generator,
            "retries": encode(spec.retries),
            "capacity": self._capacity(spec),
            "parallel": spec.policy.max_inputs,
            "single_use": spec.policy.single_use,
        }

    def _named(self, name: str, environment: Environment) -> LiveApp:
        app = self._apps.find(name, "deployed", environment) or self._apps.find(name, "ephemeral", environment)
        if app is None:
            names = sorted({app.name for app in self._apps.all if app.environment is environment})
            there = f"There are: {', '.join(names)}." if names else "None is."
            others = sorted({app.environment.name for app in self._apps.all if app.name == name})
            elsewhere = f" It is in {', '.join(others)}: say environment_name=." if others else ""
            place = "" if environment.id == MAIN else f" in the environment {environment.name!r}"
            raise NotFoundError(f"No app called {name!r} is deployed or served{place}. {there}{elsewhere}")
        return app

    def stats(self, identifier: str) -> dict[str, int]:
        """How busy a function is. Raises NotFoundError."""
        app, function = self._find(identifier)
        pools = [g.pools[function.pool] for g in app.generations if function.pool in g.pools]
        policy = function.spec.policy if function.spec is not None else ScalePolicy()
        ready, at_work = sum(pool.ready for pool in pools), function.admission.in_flight
        return {
            "backlog": function.admission.waiting + self._apps.spawned(function.id),
            "num_total_runners": ready,
            "num_running_inputs": at_work,
            "input_headroom": max(0, ready * policy.max_inputs - at_work),
        }

    def update_autoscaler(self, identifier: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Keep a function's containers within other bounds until its next revision. Returns all of them.

        Raises NotFoundError, InvalidError.
        """
        app, function = self._find(identifier)
        if function.owner:
            raise InvalidError(
                f"{function.shown} shares its containers with the other methods of its class. "
                f"Use update_autoscaler() of the object."
            )
        if not app.generations:
            raise InvalidError(f"The app {app.name!r} sleeps. Call one of its functions first.")
        scheduler, pool = self._apps.scheduler, app.generations[-1].pools[function.pool]
        policy = scaling.changed(f"Function {function.name!r}", scheduler.policy(pool), settings)
        scheduler.add(pool, policy)
        return {name: getattr(policy, name) for name in scaling.SETTINGS}

    # -- spawned calls ------------------------------------------------------------------------------------------------

    def is_live(self, owner: str) -> bool:
        """Whether the app that owns a call is there."""
        return self._apps.get(owner) is not None

    def spawnable(self, identifier: str) -> tuple[LiveApp, LiveFunction]:
        """A function whose results are kept when it is called. Raises NotFoundError, InvalidError."""
        app, function = self._find(identifier)
        if function.spec is None or function.spec.web is not None or function.spec.is_generator:
            raise InvalidError(f"{app.name}.{function.name} is a web function or a generator, which cannot be spawned.")
        return app, function

    def callee(self, identifier: str) -> Callee | None:
        """Where spawned inputs of a function go now; None while it is not there."""
        found = self._apps.called.get(identifier)
        if found is None:
            return None
        app, function = found
        spec, endpoint = function.spec, function.endpoint
        if spec is None or endpoint is None:
            return None

        def kill(backend: Backend) -> None:
            for generation in app.generations:
                if function.pool in generation.pools:
                    generation.pools[function.pool].kill(
                        backend.id, f"{function.name} was cancelled with its container."
                    )

        return Callee(endpoint, spec.retries, self._capacity(spec), spec.policy.max_inputs, kill)

    def _capacity(self, spec: FunctionSpec) -> int:
        """Inputs that can be at work at once."""
        most = self._apps.scheduler.max_containers
        return min(spec.policy.max_containers or most, most) * spec.policy.max_inputs

    def _has_parameters(self, app: LiveApp, function: LiveFunction) -> bool:
        owner = app.functions[function.pool].spec
        return owner is not None and bool(owner.parameters)

    def _find(self, identifier: str) -> tuple[LiveApp, LiveFunction]:
        for app in self._apps.all:
            for function in app.functions.values():
                if function.id == identifier:
                    return app, function
        raise NotFoundError(f"There is no function {identifier[:40]!r}.")
