"""Histories by chance: of a world that keeps every promise, and of one that breaks some."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any, TypeVar, get_args

from checker.world import Move, Step, World
from hypothesis import given, settings
from hypothesis import strategies as st

from drumbeat_conformance.checker import EFFORT, Answer, Kind, Op, Operation, Recording, check
from drumbeat_conformance.checker._linear import Model, Search, find_unexplained
from drumbeat_conformance.checker._models import CounterModel, LockModel, RegisterModel
from drumbeat_conformance.checker._overwriting import RegisterSearch

S = TypeVar("S", bound=Hashable)

CLIENTS = 4
ANSWERS: tuple[Answer, ...] = ("done", "refused")
OPS: dict[str, tuple[Op, ...]] = {
    "lock": ("acquire", "acquire", "release", "lapse"),
    "register": ("read", "write"),
    "counter": ("read", "increment", "increment"),
}
STEPS: tuple[Step, ...] = get_args(Step)
#: Answers are more common than deaths.
MOVE: st.SearchStrategy[Move] = st.tuples(
    st.integers(0, CLIENTS - 1),
    st.sampled_from([*STEPS, "call", "call", "call", "answer", "answer", "answer"]),
    st.integers(0, 1),
    st.integers(0, 999),
)
MOVES = st.lists(MOVE, max_size=120)
MANY = settings(max_examples=300, deadline=None)


def found(operations: list[Operation]) -> set[Kind]:
    """Return the kinds of violations in some operations."""
    return {violation.kind for violation in check(Recording(operations=tuple(operations)))}


@MANY
@given(MOVES)
def test_a_world_that_keeps_its_promises_is_never_blamed(moves: list[Move]) -> None:
    """Whatever is unknown, late or simultaneous: nothing is found in what may have happened rightly."""
    assert found(World().play(moves)) == set()


def two_of(operations: list[Operation], op: str, draw: st.DataObject) -> tuple[int, int] | None:
    """Return two answered operations of a kind, or None if there are too few."""
    done = [n for n, one in enumerate(operations) if one.op == op and one.outcome == "done"]
    if len(done) < 2:
        return None
    first, second = sorted(draw.draw(st.permutations(done))[:2])
    return first, second


@MANY
@given(MOVES, st.data())
def test_two_increments_to_one_number_are_found(moves: list[Move], data: st.DataObject) -> None:
    """An increment that answers what another one did has overwritten it."""
    operations = World().play(moves)
    pair = two_of(operations, "increment", data)
    if pair is not None:
        first, second = pair
        operations[second] = replace(operations[second], value=operations[first].value)
        assert found(operations) == {Kind.COUNTER}


@MANY
@given(MOVES, st.data())
def test_two_holders_with_one_token_are_found(moves: list[Move], data: st.DataObject) -> None:
    """A token that two acquires answer is one that did not rise."""
    operations = World().play(moves)
    pair = two_of(operations, "acquire", data)
    if pair is not None:
        first, second = pair
        operations[second] = replace(operations[second], token=operations[first].token)
        assert found(operations) == {Kind.LOCK}


@MANY
@given(MOVES, st.data())
def test_exchanged_tokens_are_found(moves: list[Move], data: st.DataObject) -> None:
    """Of two acquires, one of which was answered before the other was called, the later one has the greater token."""
    operations = World().play(moves)
    pair = two_of(operations, "acquire", data)
    if pair is None:
        return
    one, other = operations[pair[0]], operations[pair[1]]
    if one.returned is not None and one.returned < other.called:
        operations[pair[0]], operations[pair[1]] = replace(one, token=other.token), replace(other, token=one.token)
        assert found(operations) == {Kind.LOCK}


@MANY
@given(MOVES, st.data())
def test_two_reads_of_what_nobody_wrote_are_found(moves: list[Move], data: st.DataObject) -> None:
    """A value from nowhere is not explained by any order."""
    operations = World().play(moves)
    reads = [n for n, one in enumerate(operations) if one.op == "read" and one.outcome == "done"]
    for number in data.draw(st.permutations(reads))[:2]:
        operations[number] = replace(operations[number], value=-1)
    kinds = {Kind.COUNTER, Kind.REGISTER}
    assert found(operations) <= kinds
    assert bool(found(operations)) is bool(reads)


@st.composite
def some_operations(draw: st.DrawFn, name: str) -> list[Operation]:
    """Return a few operations on one object that may or may not be explained."""
    operations: list[Operation] = []
    for number in range(draw(st.integers(1, 6))):
        op = draw(st.sampled_from(OPS[name.partition("/")[0]]))
        called = draw(st.integers(0, 8))
        operation = Operation(op=op, object=name, client=f"c{draw(st.integers(0, 1))}", called=called, id=str(number))
        if op != "increment" and name != "counter/c":
            tokens = st.integers(0, 2)
            operation = replace(operation, token=draw(st.none() | tokens if op == "read" else tokens))
        if draw(st.integers(0, 3)):
            fenced = name == "register/r" and operation.token is not None
            outcome: Answer = draw(st.sampled_from(("done", *ANSWERS))) if fenced else "done"
            value = draw(st.sampled_from([None, 1, 2])) if name == "register/r" else draw(st.integers(0, 4))
            operation = replace(operation, returned=called + draw(st.integers(0, 4)), outcome=outcome, value=value)
        elif op == "write":
            operation = replace(operation, value=draw(st.sampled_from([1, 2])))
        operations.append(operation)
    return operations


def some_order_explains(operations: list[Operation], model: Model[S], state: S) -> bool:
    """Return whether any order at all does, by trying each."""
    if not any(one.answered for one in operations):
        return True
    ended = [one.returned for one in operations if one.returned is not None]
    for number, one in enumerate(operations):
        after = model.step(state, one) if one.called <= min(ended) else None
        rest = operations[:number] + operations[number + 1 :]
        if after is not None and some_order_explains(rest, model, after):
            return True
    return False


@settings(max_examples=1500, deadline=None)
@given(st.data())
def test_the_search_agrees_with_trying_every_order(data: st.DataObject) -> None:
    """Whether few operations, made up by chance, are explained is what trying all their orders gives."""
    models: dict[str, Model[Any]] = {"lock/l": LockModel(), "register/r": RegisterModel(), "counter/c": CounterModel()}
    name = data.draw(st.sampled_from(sorted(models)))
    operations = sorted(data.draw(some_operations(name)), key=lambda one: one.called)
    if name == "counter/c":
        operations = [one for one in operations if one.answered or one.op == "increment"]
    model = models[name]
    explained = some_order_explains(operations, model, model.initial)
    assert (find_unexplained(Search(operations, model, effort=EFFORT)) is None) is explained
    if name == "register/r":
        assert (find_unexplained(RegisterSearch(operations, effort=EFFORT)) is None) is explained
    if any(one.op == "acquire" for one in operations) or name != "lock/l":
        assert bool(found(operations)) is not explained
