"""FunctionCall: the handle of a call whose result is kept. Nothing is asked of a server before a method is called."""

from __future__ import annotations

from typing import Any

from zygo.errors import InvalidError
from zygo.sdk.methods import Method
from zygo.sdk.unsupported import refusal


class _Gather:
    """`FunctionCall.gather`, and its `.aio`."""

    def __call__(self, *function_calls: FunctionCall) -> list[Any]:
        """The results of some calls in their order, once all are there; the first failure is raised."""
        return self._operation().blocking(_several(function_calls), (), {})  # type: ignore[no-any-return]

    def aio(self, *function_calls: FunctionCall) -> Any:
        """The same for async code."""
        return self._operation().asynchronous(_several(function_calls), (), {})

    def _operation(self) -> Any:
        from zygo.sdk import spawning

        return spawning.OPERATIONS["gather"]


class FunctionCall:
    """A call that was spawned. Made by `.spawn()`, `.spawn_map()` and `from_id`; holds no resources.

    It may be pickled, or its `object_id` be passed on: whoever has the id may ask for the results, for 7 days.
    """

    def __init__(self, object_id: str, name: str = "") -> None:
        self._id = object_id
        self._name = name

    def __repr__(self) -> str:
        return f"FunctionCall.from_id({self._id!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FunctionCall) and other._id == self._id

    def __hash__(self) -> int:
        return hash(self._id)

    @property
    def object_id(self) -> str:
        """Its id, `fc-...`."""
        return self._id

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._name or self._id

    @staticmethod
    def from_id(function_call_id: str, client: Any = None) -> FunctionCall:
        """The call with that id. `client` is there for programs that give it. Raises InvalidError for what is no id."""
        if not isinstance(function_call_id, str) or not function_call_id.startswith("fc-"):
            raise InvalidError(f"{function_call_id!r} is not the id of a call, such as fc-0123456789abcdef012345.")
        return FunctionCall(function_call_id)

    get = Method(
        "Its result, when it is there within `timeout` seconds (None: however long, 0: now), else TimeoutError; raises what the "
        "function raised, OutputExpiredError when it is no longer kept. `index`: of which input."
    )
    iter = Method("The results of its inputs from number `start` up to `end`, in their order, as they come.")
    num_inputs = Method("How many inputs it has.")
    cancel = Method(
        "Cancel it: inputs that wait never begin, those that run are stopped. With terminate_containers=True their containers "
        "are ended, too."
    )
    gather = _Gather()

    def get_call_graph(self) -> Any:
        """Not supported yet."""
        raise refusal("FunctionCall.get_call_graph()", "Note the object_id of each call where it is spawned.")


class Several:
    """Calls that are waited for together."""

    def __init__(self, calls: tuple[FunctionCall, ...]) -> None:
        self.calls = calls
        self.name = "FunctionCall"


def _several(calls: tuple[Any, ...]) -> Several:
    for call in calls:
        if not isinstance(call, FunctionCall):
            raise InvalidError(f"FunctionCall.gather() takes calls, such as f.spawn(1); {call!r} is none.")
    return Several(calls)
