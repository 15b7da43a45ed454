"""Whether any order explains what was answered: the search of Wing and Gong, as Lowe made it, step by step in time.

An order explains a history if each operation happened at one moment between its call and its answer. All that may be
true at a time is kept as a set of configurations: a state, and which of the operations under way have happened. Only
when an operation is answered must it have happened, so only then are orders tried, and what remains forgets it. Equal
configurations are one; so the work grows with the number of operations under way at once, not with the length. An
operation that is never answered may happen at any later time or never, so of two configurations that differ in such
operations alone, the one in which fewer have happened leaves open all that the other does, and stands for both.

The search counts its steps, and gives up after so many: then the history is neither good nor bad, but not decided.

- Wing, Gong: "Testing and Verifying Concurrent Objects", 1993.
- Lowe: "Testing for Linearizability", 2017, whose just-in-time algorithm this is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar, final

from drumbeat_conformance.checker._operation import Operation

S = TypeVar("S", bound=Hashable)
#: What may be true at a moment: a state, and the numbers of the operations that have happened: of those under way, and
#: of those that are never answered.
Configuration = tuple[S, frozenset[int], frozenset[int]]


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


@final
@dataclass(frozen=True, slots=True)
class Undecided:
    """The first operation that more orders may explain than the search may try."""

    operation: Operation
    #: How many steps were taken.
    effort: int


def find_unexplained(search: Search[S]) -> Unexplained[S] | Undecided | None:
    """Return the first operation that cannot have happened as it was answered, or None if all are explained.

    An operation without an answer may happen at any time after its call, or never. At equal times a call counts as
    before an answer: a clock cannot tell. Returns `Undecided` if the search has come to the end of its effort.
    """
    for number in _answers_and_calls(search.operations):
        if number >= 0:
            search.call(number)
            continue
        try:
            unexplained = search.answer(~number)
        except _TooMuch:
            return Undecided(search.operations[~number], search.effort)
        if unexplained is not None:
            return unexplained
    return None


class _TooMuch(Exception):
    """The search has taken all the steps that it may."""


def _answers_and_calls(operations: Sequence[Operation]) -> Iterable[int]:
    """Return the number of each operation at its call, and its complement at its answer, in the order of time."""
    moments = [(one.called, 0, number) for number, one in enumerate(operations)]
    moments += [(one.returned, 1, ~number) for number, one in enumerate(operations) if one.returned is not None]
    return [number for _, _, number in sorted(moments)]


class Search(Generic[S]):
    """All that may be true at one moment of a history; it takes at most `effort` steps."""

    def __init__(self, operations: Sequence[Operation], model: Model[S], *, effort: int) -> None:
        self.operations = operations
        self.effort = effort
        self._left = effort
        self._model = model
        self._configurations: set[Configuration[S]] = {(model.initial, frozenset(), frozenset())}
        self._under_way: dict[int, None] = {}
        #: Operations that are never answered, by twins, in the order of their calls.
        self._unanswered: defaultdict[Hashable, list[int]] = defaultdict(list)

    def call(self, number: int) -> None:
        """Let an operation begin."""
        operation = self.operations[number]
        if operation.answered:
            self._under_way[number] = None
        else:
            self._unanswered[self._model.twin(operation)].append(number)

    def answer(self, number: int) -> Unexplained[S] | None:
        """Let an operation have happened; return it if it cannot have."""
        left: set[Configuration[S]] = set()
        reached = _Reached(self._configurations)
        for configuration in reached:
            state, happened, unanswered = configuration
            if number in happened:
                left.add((state, happened - {number}, unanswered))
            else:
                reached.add(self._followers(configuration))
        if not left:
            return self._unexplained(number, reached.states)
        del self._under_way[number]
        self._configurations = left
        self._forget_spent()
        return None

    def tell(self, state: S) -> str:
        """Return a state in words."""
        return self._model.tell(state)

    def _followers(self, configuration: Configuration[S]) -> Iterable[Configuration[S]]:
        """Return what may be true after one more operation."""
        state, happened, unanswered = configuration
        waiting = [number for number in self._under_way if number not in happened]
        # What changes nothing, then or later, may as well happen first: no other order is lost by it.
        free = [number for number in waiting if self._is_free(configuration, number)]
        if free:
            return [(state, happened.union(free), unanswered)]
        found: list[Configuration[S]] = []
        for number in self._candidates(waiting):
            after = self._step(state, number)
            if after is not None:
                found += self._reach(configuration, after, number, waiting)
        for number in self._never_answered(unanswered):
            after = self._step(state, number)
            if after is not None and after != state:
                found += self._reach(configuration, after, number, waiting)
        return found

    def _is_free(self, configuration: Configuration[S], number: int) -> bool:
        """Return whether an operation under way can happen now, and nothing is lost if it does."""
        one = self.operations[number]
        # A value that is written once more may have been hidden, and needed, in between.
        return (one.op != "write" or one.outcome == "refused") and self._step(
            configuration[0], number
        ) == configuration[0]

    def _candidates(self, waiting: Sequence[int]) -> Sequence[int]:
        """Return the answered operations to go on with: those whose turn it may be."""
        return waiting

    def _reach(
        self, before: Configuration[S], after: S, number: int, waiting: Sequence[int]
    ) -> Iterable[Configuration[S]]:
        """Return what may be true after an operation, unless another one could never happen any more."""
        _, happened, unanswered = before
        if any(self._spent(after, other) for other in waiting if other != number):
            return
        if self.operations[number].answered:
            yield after, happened | {number}, unanswered
        else:
            yield after, happened, unanswered | {number}

    def _never_answered(self, happened: frozenset[int]) -> Iterable[int]:
        """Return the first of each kind of twins that has not happened."""
        firsts = (next((n for n in twins if n not in happened), None) for twins in self._unanswered.values())
        return [number for number in firsts if number is not None]

    def _forget_spent(self) -> None:
        """Leave out the unanswered operations that can never happen any more, whatever is true."""
        for twin, numbers in list(self._unanswered.items()):
            if all(self._spent(state, numbers[0]) for state, _, _ in self._configurations):
                del self._unanswered[twin]
                gone = frozenset(numbers)
                self._configurations = {(state, ours, others - gone) for state, ours, others in self._configurations}

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _TooMuch

    def _step(self, state: S, number: int) -> S | None:
        self._spend(1)
        return self._model.step(state, self.operations[number])

    def _spent(self, state: S, number: int) -> bool:
        return self._model.spent(state, self.operations[number])

    def _unexplained(self, number: int, states: frozenset[S]) -> Unexplained[S]:
        others = [n for n in self._under_way if n != number]
        others += [n for twins in self._unanswered.values() for n in twins]
        return Unexplained(self.operations[number], states, tuple(self.operations[n] for n in sorted(others)))


@final
class _Reached(Generic[S]):
    """The configurations that can be reached, each given once, and none for which another one stands.

    Those in which fewer unanswered operations have happened come first, so that nothing is given that is not needed.
    """

    def __init__(self, first: Iterable[Configuration[S]]) -> None:
        self._levels: defaultdict[int, list[Configuration[S]]] = defaultdict(list)
        self._given: defaultdict[tuple[S, frozenset[int]], list[frozenset[int]]] = defaultdict(list)
        self.add(first)

    def add(self, configurations: Iterable[Configuration[S]]) -> None:
        """Reach some more."""
        for configuration in configurations:
            self._levels[len(configuration[2])].append(configuration)

    @property
    def states(self) -> frozenset[S]:
        """The states of all that was reached."""
        return frozenset(state for state, _ in self._given)

    def __iter__(self) -> Iterator[Configuration[S]]:
        while self._levels:
            level = min(self._levels)
            waiting = self._levels[level]
            while waiting:
                configuration = waiting.pop()
                state, happened, unanswered = configuration
                known = self._given[state, happened]
                if not any(other <= unanswered for other in known):
                    known.append(unanswered)
                    yield configuration
            del self._levels[level]
