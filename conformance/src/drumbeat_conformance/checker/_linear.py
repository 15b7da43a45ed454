"""Whether any order explains what was answered: the search of Wing and Gong, as Lowe made it, step by step in time.

An order explains a history if each operation happened at one moment between its call and its answer. All that may be
true at a time is kept as a set of configurations: a state, and which of the operations under way have happened. Only
when an operation is answered must it have happened, so only then are orders tried, and what remains forgets it. Equal
configurations are one; so the work grows with the number of operations under way at once, not with the length.

- Wing, Gong: "Testing and Verifying Concurrent Objects", 1993.
- Lowe: "Testing for Linearizability", 2017, whose just-in-time algorithm this is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, final

from drumbeat_conformance.checker._operation import Operation

S = TypeVar("S", bound=Hashable)
#: What may be true at a moment: a state, and the operations under way that have happened, by their numbers.
_Configuration = tuple[S, frozenset[int]]


class Model(Protocol[S]):
    """How an object behaves that does one operation after the other."""

    @property
    def initial(self) -> S:
        """The state before all operations."""
        ...

    def step(self, state: S, operation: Operation) -> S | None:
        """Return the state after an operation, or None if it cannot happen in this state with this answer."""
        ...

    def spent(self, state: S, operation: Operation) -> bool:
        """Return whether an operation can never happen any more, whatever else does first."""
        ...

    def twin(self, operation: Operation) -> Hashable:
        """Return what is equal for unanswered operations that differ in nothing but the time of their call."""
        ...

    def tell(self, state: S) -> str:
        """Return a state in words."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Unexplained(Generic[S]):
    """The first operation whose answer no order explains."""

    operation: Operation
    #: The states that were possible until it was answered.
    states: frozenset[S]
    #: The operations that were under way with it, or never answered.
    beside: tuple[Operation, ...]


def find_unexplained(operations: Sequence[Operation], model: Model[S]) -> Unexplained[S] | None:
    """Return the first operation that cannot have happened as it was answered, or None if all are explained.

    An operation without an answer may happen at any time after its call, or never. At equal times a call counts as
    before an answer: a clock cannot tell.
    """
    search = _Search(operations, model)
    for number in _answers_and_calls(operations):
        if number >= 0:
            search.call(number)
        elif (unexplained := search.answer(~number)) is not None:
            return unexplained
    return None


def _answers_and_calls(operations: Sequence[Operation]) -> Iterable[int]:
    """Return the number of each operation at its call, and its complement at its answer, in the order of time."""
    moments = [(one.called, 0, number) for number, one in enumerate(operations)]
    moments += [(one.returned, 1, ~number) for number, one in enumerate(operations) if one.returned is not None]
    return [number for _, _, number in sorted(moments)]


@final
class _Search(Generic[S]):
    """All that may be true at one moment of a history."""

    def __init__(self, operations: Sequence[Operation], model: Model[S]) -> None:
        self._operations = operations
        self._model = model
        self._configurations: set[_Configuration[S]] = {(model.initial, frozenset())}
        self._under_way: dict[int, None] = {}
        #: Operations that are never answered, by twins, in the order of their calls.
        self._unanswered: defaultdict[Hashable, list[int]] = defaultdict(list)

    def call(self, number: int) -> None:
        """Let an operation begin."""
        operation = self._operations[number]
        if operation.answered:
            self._under_way[number] = None
        else:
            self._unanswered[self._model.twin(operation)].append(number)

    def answer(self, number: int) -> Unexplained[S] | None:
        """Let an operation have happened; return it if it cannot have."""
        seen = set(self._configurations)
        left: set[_Configuration[S]] = set()
        stack = list(seen)
        while stack:
            configuration = stack.pop()
            if number in configuration[1]:
                left.add((configuration[0], configuration[1] - {number}))
                continue
            fresh = self._followers(configuration) - seen
            seen |= fresh
            stack.extend(fresh)
        if not left:
            return self._unexplained(number, frozenset(state for state, _ in seen))
        del self._under_way[number]
        self._configurations = left
        self._forget_spent()
        return None

    def _followers(self, configuration: _Configuration[S]) -> set[_Configuration[S]]:
        """Return what may be true after one more operation."""
        state, happened = configuration
        # What changes nothing may as well happen first: no other order is lost by it.
        free = {n for n in self._under_way if n not in happened and self._step(state, n) == state}
        if free:
            return {(state, happened | free)}
        found: set[_Configuration[S]] = set()
        for number in self._candidates(happened):
            after = self._step(state, number)
            if after is None or after == state:
                continue
            then = happened | {number}
            if not any(self._spent(after, n) for n in self._under_way if n not in then):
                found.add((after, then))
        return found

    def _candidates(self, happened: frozenset[int]) -> list[int]:
        found = [number for number in self._under_way if number not in happened]
        for twins in self._unanswered.values():
            found += [number for number in twins if number not in happened][:1]
        return found

    def _forget_spent(self) -> None:
        """Leave out the unanswered operations that can never happen any more, whatever is true."""
        for twin, numbers in list(self._unanswered.items()):
            if all(self._spent(state, numbers[0]) for state, _ in self._configurations):
                del self._unanswered[twin]
                gone = frozenset(numbers)
                self._configurations = {(state, happened - gone) for state, happened in self._configurations}

    def _step(self, state: S, number: int) -> S | None:
        return self._model.step(state, self._operations[number])

    def _spent(self, state: S, number: int) -> bool:
        return self._model.spent(state, self._operations[number])

    def _unexplained(self, number: int, states: frozenset[S]) -> Unexplained[S]:
        others = [n for n in self._under_way if n != number]
        others += [n for twins in self._unanswered.values() for n in twins]
        return Unexplained(self._operations[number], states, tuple(self._operations[n] for n in sorted(others)))
