"""What a program did to a seat, a register, a counter or a group: one operation, and the lines that tell of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Final, Literal, final

from drumbeat.history import BadLine, FieldTypes, parse_object, take_fields

#: What can be done.
Op = Literal["acquire", "release", "lapse", "use", "read", "write", "increment", "watch"]
#: What was answered; see `Operation.outcome`.
Answer = Literal["done", "refused"]
#: What a register or counter holds.
Value = int | str | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of one client on one object; times are in seconds of CLOCK_BOOTTIME.

    An operation whose answer never came, because the client was killed or the server did not tell, has no `returned`:
    it may have happened at any moment after its call, or never.
    """

    op: Op
    #: What it was done to, by its kind: `lock/NAME`, `election/NAME`, `shard/GROUP/NUMBER`, `register/NAME`,
    #: `counter/NAME` or `group/NAME`.
    object: str
    #: Who did it: the member id, where events tell of the same member.
    client: str
    called: float
    returned: float | None = None
    #: None if and only if there is no answer.
    outcome: Answer | None = None
    token: int | None = None
    value: Value = None
    namespace: str = ""
    #: A later line with the same id tells of the same operation.
    id: str = ""

    @property
    def answered(self) -> bool:
        """Whether an answer came."""
        return self.returned is not None

    @property
    def kind(self) -> str:
        """The kind of the object."""
        return self.object.partition("/")[0]


_SEAT_OPS: Final = frozenset({"acquire", "release", "lapse", "use"})
_OPS: Final[Mapping[str, frozenset[str]]] = {
    "lock": _SEAT_OPS,
    "election": _SEAT_OPS,
    "shard": _SEAT_OPS,
    "register": frozenset({"read", "write"}),
    "counter": frozenset({"read", "increment"}),
    "group": frozenset({"watch"}),
}
_TYPES: Final[Mapping[str, FieldTypes]] = {
    "op": (str,),
    "object": (str,),
    "client": (str,),
    "called": (float,),
    "returned": (float,),
    "outcome": (str,),
    "token": (int,),
    "value": (int, str, type(None)),
    "namespace": (str,),
    "id": (str,),
}
_ALWAYS: Final = ("op", "object", "client", "called")
_SAME: Final = ("op", "object", "client", "called", "namespace")


def parse_operation(line: bytes, *, where: str) -> Operation:
    """Return the operation that a line tells of; raise BadLine naming `where` if it is none."""
    return operation_of(parse_object(line, where=where), where=where)


def operation_of(found: Mapping[str, object], *, where: str) -> Operation:
    """Return the operation that the object of a line is; raise BadLine naming `where` if it is none."""
    known = take_fields(found, _TYPES, where=where)
    missing = [name for name in _ALWAYS if name not in known]
    if missing:
        raise BadLine(where, f"is no operation: it has no {', '.join(missing)}")
    operation = Operation(**known)  # type: ignore[arg-type]
    for problem in _problems(operation):
        raise BadLine(where, problem)
    return operation


def merge(operations: Iterable[tuple[str, Operation]]) -> list[Operation]:
    """Return the operations, each once, in the order of their calls, given with where each stands.

    A line with the id of an earlier one takes its place. Raises BadLine if two lines of an id tell of different calls,
    or if both have an answer.
    """
    found: dict[object, Operation] = {}
    for number, (where, operation) in enumerate(operations):
        key: object = operation.id or number
        earlier = found.get(key)
        if earlier is not None:
            _refuse_other(earlier, operation, where=where)
        found[key] = operation
    return sorted(found.values(), key=lambda operation: operation.called)


def as_line(operation: Operation) -> dict[str, object]:
    """Return what to give to `drumbeat.history.append_line`; `parse_operation` is the way back."""
    line = {field.name: getattr(operation, field.name) for field in fields(operation)}
    return {name: value for name, value in line.items() if value not in {None, ""}}


def _problems(operation: Operation) -> Iterable[str]:
    if operation.kind not in _OPS or "/" not in operation.object:
        yield f"has the object {operation.object!r}, which must be one of {', '.join(sorted(_OPS))}, a slash and a name"
    elif operation.op not in _OPS[operation.kind]:
        known = ", ".join(sorted(_OPS[operation.kind]))
        yield f"has op = {operation.op!r}, but to a {operation.kind} can be done: {known}"
    if operation.outcome not in {None, "done", "refused"}:
        yield f"has outcome = {operation.outcome!r}, which must be 'done' or 'refused'"
    if (operation.outcome is None) is operation.answered:
        yield "has only one of returned and outcome; an operation has both once it was answered, and neither before"
    if operation.returned is not None and operation.returned < operation.called:
        yield f"returned at {operation.returned!r}, before it was called at {operation.called!r}"
    if operation.token is None and _needs_token(operation):
        yield f"has no token, which this {operation.op} needs"
    if operation.op == "increment" and operation.outcome == "done" and not isinstance(operation.value, int):
        yield "has no value, which is the number that the counter was raised to"


def _needs_token(operation: Operation) -> bool:
    if operation.op == "acquire":
        return operation.outcome == "done"
    return operation.op in {"release", "lapse", "use", "write"} or (
        operation.op == "read" and operation.outcome == "refused"
    )


def _refuse_other(earlier: Operation, later: Operation, *, where: str) -> None:
    for name in _SAME:
        if getattr(earlier, name) != getattr(later, name):
            raise BadLine(
                where,
                f"has the id {later.id!r} of another operation: {name} is {getattr(later, name)!r}, "
                f"and was {getattr(earlier, name)!r}",
            )
    if earlier.answered:
        raise BadLine(where, f"answers the operation {later.id!r} once more")
