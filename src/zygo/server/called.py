"""Functions as their callers see them: found by the names of their apps, looked at, and kept within other bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zygo.errors import InvalidError, NotFoundError
from zygo.model import ScalePolicy, encode
from zygo.server import scaling

if TYPE_CHECKING:
    from zygo.server.apps import Apps
    from zygo.server.live import LiveApp, LiveFunction


class CalledFunctions:
    """Every function of the live apps. Of two apps of one name, one deployed and one served, the deployed one is meant."""

    def __init__(self, apps: Apps) -> None:
        self._apps = apps

    def describe(self, app_name: str, name: str) -> dict[str, Any]:
        """What a caller must know of a function of the app with that name, or id. Raises NotFoundError."""
        app = (
            self._apps.get(app_name) or self._apps.find(app_name, "deployed") or self._apps.find(app_name, "ephemeral")
        )
        if app is None:
            names = sorted({app.name for app in self._apps.all})
            there = f"There are: {', '.join(names)}." if names else "None is."
            raise NotFoundError(f"No app called {app_name!r} is deployed or served. {there}")
        function = app.functions.get(name)
        if function is None or function.spec is None:
            known = ", ".join(sorted(app.functions)) or "none"
            raise NotFoundError(f"The app {app_name!r} has no function {name!r}. It has: {known}.")
        spec, most = function.spec, self._apps.scheduler.max_containers
        return {
            "id": function.id,
            "app": app.name,
            "name": function.name,
            "web_url": function.url if spec.web is not None else None,
            "generator": spec.is_generator,
            "retries": encode(spec.retries),
            "capacity": min(spec.policy.max_containers or most, most) * spec.policy.max_inputs,
            "parallel": spec.policy.max_inputs,
            "single_use": spec.policy.single_use,
        }

    def stats(self, identifier: str) -> dict[str, int]:
        """How busy a function is. Raises NotFoundError."""
        app, function = self._find(identifier)
        pools = [g.pools[function.name] for g in app.generations if function.name in g.pools]
        policy = function.spec.policy if function.spec is not None else ScalePolicy()
        ready, at_work = sum(pool.ready for pool in pools), function.admission.in_flight
        return {
            "backlog": function.admission.waiting,
            "num_total_runners": ready,
            "num_running_inputs": at_work,
            "input_headroom": max(0, ready * policy.max_inputs - at_work),
        }

    def update_autoscaler(self, identifier: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Keep a function's containers within other bounds until its next revision. Returns all of them.

        Raises NotFoundError, InvalidError.
        """
        app, function = self._find(identifier)
        if not app.generations:
            raise InvalidError(f"The app {app.name!r} sleeps. Call one of its functions first.")
        scheduler, pool = self._apps.scheduler, app.generations[-1].pools[function.name]
        policy = scaling.changed(f"Function {function.name!r}", scheduler.policy(pool), settings)
        scheduler.add(pool, policy)
        return {name: getattr(policy, name) for name in scaling.SETTINGS}

    def _find(self, identifier: str) -> tuple[LiveApp, LiveFunction]:
        for app in self._apps.all:
            for function in app.functions.values():
                if function.id == identifier:
                    return app, function
        raise NotFoundError(f"There is no function {identifier[:40]!r}.")
