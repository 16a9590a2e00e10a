"""Calls whose results are kept: one method per query. Part of the store, see `Store.calls`.

What is running is not written down. Only the server that runs an input knows, and when that server dies the input is pending,
which is what its row says all the time. So an attempt costs one write, its result, and a restart has nothing to repair.

A result is written where there is none yet, and only there: of two attempts, or of a result and a cancellation, the first one
counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from zygo.errors import ConflictError, NotFoundError
from zygo.model import CallState
from zygo.store.tables import calls, inputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zygo.store.payloads import PayloadFiles
    from zygo.store.reader import Reader
    from zygo.store.writer import Writer

KEPT_SECONDS = 7 * 86400.0
"""How long results are kept after the last one of their call."""

REMEMBERED_SECONDS = 30 * 86400.0
"""How long it is remembered after that that there was such a call."""

SWEPT = 1000
"""Calls that expire in one transaction: others wait for it."""

INPUT = "i"
"""The kind of a payload that is not a result yet."""

SAID = "s"
"""The kind of a result that is the server's own: JSON of an error, see zygo.errors.to_json."""

OPEN = CallState.PENDING.value


@dataclass(frozen=True)
class Payload:
    """Bytes, or the hash of the file that has them."""

    data: bytes | None = None
    file: str | None = None


@dataclass(frozen=True)
class NewCall:
    """A call to be added; or more inputs of one, from number `first` on. `python` is the version that pickled them."""

    id: str
    owner: str
    app: str
    function: str
    function_id: str
    python: str
    payloads: tuple[Payload, ...]
    first: int = 0


@dataclass(frozen=True)
class PendingInput:
    """An input without a result, with what an attempt needs."""

    position: int
    call_id: str
    number: int
    failures: int
    losses: int
    python: str
    payload: Payload


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt: a result (`state`, `kind` of its frame and `payload`), or another attempt at `due_at`
    (then `state` is pending)."""

    position: int
    call_id: str
    state: CallState
    kind: str = ""
    payload: Payload = Payload()
    failures: int = 0
    losses: int = 0
    due_at: float = 0.0


@dataclass(frozen=True)
class Result:
    """The result of one input; `state` is pending while there is none."""

    state: CallState
    kind: str = ""
    payload: Payload = Payload()


@dataclass(frozen=True)
class CallRecord:
    """A call. `states` counts its inputs by state."""

    id: str
    app: str
    function: str
    function_id: str
    created_at: float
    inputs: int
    states: dict[str, int]
    expires_at: float | None
    expired: bool


@dataclass(frozen=True)
class Cancelled:
    """What a cancellation ended: inputs by function id, and the calls they were of."""

    inputs: dict[str, int]
    call_ids: tuple[str, ...]


class CallStore:
    """Made by the store. `files` has the payloads that are too large for a row."""

    def __init__(self, writer: Writer, reader: Reader, files: PayloadFiles) -> None:
        self._writer = writer
        self._reader = reader
        self.files = files

    # -- accepting ----------------------------------------------------------------------------------------------------

    async def last_position(self) -> int:
        """The highest position that was given to an input."""
        return await self._reader.run(
            lambda connection: connection.scalar(sa.select(sa.func.max(inputs.c.position))) or 0
        )

    async def backlog(self) -> dict[str, int]:
        """Inputs without a result, by function id."""
        query = sa.select(inputs.c.function_id, sa.func.count()).where(inputs.c.state == OPEN)
        query = query.group_by(inputs.c.function_id)
        return await self._reader.run(lambda connection: {name: count for name, count in connection.execute(query)})

    async def add(self, new: Sequence[NewCall], now: float, position: int) -> list[int | ConflictError]:
        """Add them in one transaction, with positions from `position` on in their order.

        Returns for each how many inputs were added: 0 when they were there already, since it is asked again when an answer
        was lost; ConflictError when they do not fit what is there.
        """
        ids = {call.id for call in new}
        there = sa.select(calls.c.id, calls.c.function_id, calls.c.inputs).where(calls.c.id.in_(ids))

        def change(connection: sa.Connection) -> list[int | ConflictError]:
            known = {row.id: (row.function_id, row.inputs) for row in connection.execute(there)}
            rows: list[dict[str, Any]] = []
            more: list[dict[str, Any]] = []
            added: list[int | ConflictError] = []
            at = position
            for call in new:
                function_id, count = known.get(call.id, (call.function_id, 0))
                if function_id != call.function_id or count < call.first:
                    added.append(ConflictError(f"There is another call {call.id}, or its first inputs are missing."))
                    continue
                if count >= call.first + len(call.payloads):
                    added.append(0)
                    continue
                if count > call.first:
                    added.append(ConflictError(f"The inputs of the call {call.id} overlap."))
                    continue
                if call.first:
                    change = {"which": call.id, "more": len(call.payloads)}
                    connection.execute(_GROW, change)
                else:
                    rows.append(_call_row(call, now))
                known[call.id] = (call.function_id, call.first + len(call.payloads))
                more += _input_rows(call, at, now)
                at += len(call.payloads)
                added.append(len(call.payloads))
            if rows:
                connection.execute(sa.insert(calls), rows)
            if more:
                connection.execute(sa.insert(inputs), more)
            return added

        return await self._writer.run(change)

    # -- attempts -----------------------------------------------------------------------------------------------------

    async def due(
        self, function_id: str, now: float, limit: int, taken: frozenset[int]
    ) -> tuple[list[PendingInput], float | None]:
        """The first `limit` inputs of a function that may be tried at `now` and are not `taken`, and when the next one
        beyond them may."""
        heads = (
            sa.select(inputs.c.position, inputs.c.due_at)
            .where(inputs.c.function_id == function_id, inputs.c.state == OPEN)
            .order_by(inputs.c.due_at, inputs.c.position)
            .limit(limit + len(taken) + 1)
        )

        def question(connection: sa.Connection) -> tuple[list[PendingInput], float | None]:
            rest = [(p, due) for p, due in connection.execute(heads) if p not in taken]
            ready = [p for p, due in rest if due <= now][:limit]
            later = next((due for p, due in rest if due > now), None)
            if not ready:
                return [], later
            rows = connection.execute(_LOAD.where(inputs.c.position.in_(ready)))
            found = {row.position: _pending(row) for row in rows}
            return [found[p] for p in ready], later

        return await self._reader.run(question)

    async def record(self, outcomes: Sequence[Outcome], now: float) -> list[bool]:
        """Write down what became of attempts; at most one of each input. Returns for each whether it counted."""
        positions = [outcome.position for outcome in outcomes]
        still_open = sa.select(inputs.c.position).where(inputs.c.position.in_(positions), inputs.c.state == OPEN)

        def change(connection: sa.Connection) -> list[bool]:
            counted = set(connection.scalars(still_open))
            valid = [outcome for outcome in outcomes if outcome.position in counted]
            finished = [outcome for outcome in valid if outcome.state is not CallState.PENDING]
            again = [outcome for outcome in valid if outcome.state is CallState.PENDING]
            if again:
                connection.execute(_AGAIN, [_again_values(outcome) for outcome in again])
            if finished:
                connection.execute(_FINISH, [_result_values(outcome) for outcome in finished])
                closed = Counter(outcome.call_id for outcome in finished)
                connection.execute(_CLOSE, [_close_values(call, count, now) for call, count in closed.items()])
            return [outcome.position in counted for outcome in outcomes]

        return await self._writer.run(change)

    async def cancel(self, which: sa.ColumnElement[bool], said: bytes, now: float) -> Cancelled:
        """Give every input that has no result and whose call is one of `which` the result `said`."""
        mine = sa.select(calls.c.id).where(calls.c.open > 0, which)
        open_ = (inputs.c.state == OPEN, inputs.c.call_id.in_(mine))
        counts = sa.select(inputs.c.function_id, sa.func.count()).where(*open_).group_by(inputs.c.function_id)
        values = {"state": CallState.CANCELLED.value, "kind": SAID, "payload": said, "payload_file": None}

        def change(connection: sa.Connection) -> Cancelled:
            ids = tuple(connection.scalars(mine))
            ended = {function_id: count for function_id, count in connection.execute(counts)}
            if ids:
                connection.execute(sa.update(inputs).where(*open_).values(values))
                closed = {"open": 0, "finished_at": now, "expires_at": now + KEPT_SECONDS}
                connection.execute(sa.update(calls).where(calls.c.open > 0, which).values(closed))
            return Cancelled(ended, ids)

        return await self._writer.run(change)

    async def cancel_call(self, call_id: str, said: bytes, now: float) -> Cancelled:
        """Cancel one call. Raises NotFoundError."""
        await self.call(call_id)
        return await self.cancel(calls.c.id == call_id, said, now)

    async def cancel_owner(self, owner: str, said: bytes, now: float) -> Cancelled:
        """Cancel the calls of one app."""
        return await self.cancel(calls.c.owner == owner, said, now)

    async def cancel_function(self, function_id: str, said: bytes, now: float) -> Cancelled:
        """Cancel the calls of one function."""
        return await self.cancel(calls.c.function_id == function_id, said, now)

    async def cancel_all_but(self, owners: Iterable[str], said: bytes, now: float) -> Cancelled:
        """Cancel the calls of apps that are gone."""
        return await self.cancel(calls.c.owner.not_in(list(owners)), said, now)

    # -- looking ------------------------------------------------------------------------------------------------------

    async def call(self, call_id: str) -> CallRecord:
        """One call. Raises NotFoundError."""
        query = sa.select(calls).where(calls.c.id == call_id)
        by_state = (
            sa.select(inputs.c.state, sa.func.count()).where(inputs.c.call_id == call_id).group_by(inputs.c.state)
        )

        def question(connection: sa.Connection) -> CallRecord:
            row = connection.execute(query).first()
            if row is None:
                raise NotFoundError(unknown(call_id))
            states = {state: count for state, count in connection.execute(by_state)}
            return CallRecord(
                *(row.id, row.app, row.function, row.function_id, row.created_at, row.inputs, states),
                row.expires_at if not row.open else None,
                row.expired,
            )

        return await self._reader.run(question)

    async def results(self, wanted: Sequence[tuple[str, int]]) -> list[Result | None]:
        """The results of inputs, by call and number; None where there is no such input (any more)."""
        ids, numbers = {call_id for call_id, _ in wanted}, {number for _, number in wanted}
        query = sa.select(*_RESULT).where(inputs.c.call_id.in_(ids), inputs.c.number.in_(numbers))

        def question(connection: sa.Connection) -> list[Result | None]:
            found = {}
            for row in connection.execute(query):
                state = CallState(row.state)
                payload = Payload(row.payload, row.payload_file) if state is not CallState.PENDING else Payload()
                found[row.call_id, row.number] = Result(state, row.kind or "", payload)
            return [found.get(each) for each in wanted]

        return await self._reader.run(question)

    # -- sweeping -----------------------------------------------------------------------------------------------------

    async def expire(self, now: float) -> int:
        """Let go of results that were kept long enough, some at a time. Returns how many calls."""
        over = sa.select(calls.c.id).where(calls.c.expires_at < now, calls.c.open == 0, ~calls.c.expired).limit(SWEPT)
        forgotten = (
            sa.select(calls.c.id).where(calls.c.expires_at < now - REMEMBERED_SECONDS, calls.c.expired).limit(SWEPT)
        )

        def change(connection: sa.Connection) -> int:
            ids = list(connection.scalars(over))
            old = list(connection.scalars(forgotten))
            connection.execute(sa.delete(inputs).where(inputs.c.call_id.in_(ids)))
            connection.execute(sa.update(calls).where(calls.c.id.in_(ids)).values(expired=True))
            connection.execute(sa.delete(calls).where(calls.c.id.in_(old)))
            return len(ids)

        return await self._writer.run(change)

    async def named_files(self) -> set[str]:
        """The files that some input needs."""
        query = sa.select(inputs.c.payload_file).where(inputs.c.payload_file.is_not(None)).distinct()
        return await self._reader.run(lambda connection: {str(name) for name in connection.scalars(query)})


def unknown(call_id: str) -> str:
    """What is said of a call that is not known."""
    return f"There is no call {call_id[:40]!r}. Results are kept for 7 days, and the calls of an app that is served end with it."


_RESULT = (
    inputs.c.call_id,
    inputs.c.number,
    inputs.c.state,
    inputs.c.kind,
    inputs.c.payload,
    inputs.c.payload_file,
)
_LOAD = sa.select(
    inputs.c.position,
    inputs.c.call_id,
    inputs.c.number,
    inputs.c.failures,
    inputs.c.losses,
    inputs.c.payload,
    inputs.c.payload_file,
    calls.c.python,
).join(calls, calls.c.id == inputs.c.call_id)
_GROW = (
    sa.update(calls)
    .where(calls.c.id == sa.bindparam("which"))
    .values(inputs=calls.c.inputs + sa.bindparam("more"), open=calls.c.open + sa.bindparam("more"), finished_at=None)
)
_AT = inputs.c.position == sa.bindparam("at")
_AGAIN = (
    sa.update(inputs)
    .where(_AT)
    .values(due_at=sa.bindparam("due"), failures=sa.bindparam("failed"), losses=sa.bindparam("lost"))
)
_FINISH = (
    sa.update(inputs)
    .where(_AT)
    .values(
        state=sa.bindparam("new_state"),
        kind=sa.bindparam("new_kind"),
        payload=sa.bindparam("new_payload"),
        payload_file=sa.bindparam("new_file"),
    )
)
_CLOSE = (
    sa.update(calls)
    .where(calls.c.id == sa.bindparam("which"))
    .values(
        open=calls.c.open - sa.bindparam("closed"),
        finished_at=sa.bindparam("at"),
        expires_at=sa.bindparam("until"),
    )
)


def _call_row(call: NewCall, now: float) -> dict[str, Any]:
    return {
        "id": call.id,
        "owner": call.owner,
        "app": call.app,
        "function": call.function,
        "function_id": call.function_id,
        "python": call.python,
        "created_at": now,
        "inputs": len(call.payloads),
        "open": len(call.payloads),
        "expired": False,
    }


def _input_rows(call: NewCall, position: int, now: float) -> list[dict[str, Any]]:
    return [
        {
            "position": position + place,
            "call_id": call.id,
            "number": call.first + place,
            "function_id": call.function_id,
            "state": OPEN,
            "due_at": now,
            "failures": 0,
            "losses": 0,
            "kind": INPUT,
            "payload": payload.data,
            "payload_file": payload.file,
        }
        for place, payload in enumerate(call.payloads)
    ]


def _pending(row: Any) -> PendingInput:
    payload = Payload(row.payload, row.payload_file)
    return PendingInput(row.position, row.call_id, row.number, row.failures, row.losses, row.python, payload)


def _again_values(outcome: Outcome) -> dict[str, Any]:
    return {"at": outcome.position, "due": outcome.due_at, "failed": outcome.failures, "lost": outcome.losses}


def _result_values(outcome: Outcome) -> dict[str, Any]:
    return {
        "at": outcome.position,
        "new_state": outcome.state.value,
        "new_kind": outcome.kind,
        "new_payload": outcome.payload.data,
        "new_file": outcome.payload.file,
    }


def _close_values(call_id: str, count: int, now: float) -> dict[str, Any]:
    return {"which": call_id, "closed": count, "at": now, "until": now + KEPT_SECONDS}
