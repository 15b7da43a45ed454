"""Histories by chance: of a world that keeps every promise, and of one that breaks some."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from checker.world import Move, Step, World
from hypothesis import given, settings
from hypothesis import strategies as st

from drumbeat_conformance.checker import Kind, Operation, Recording, check

CLIENTS = 4
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


@given(st.lists(st.booleans(), min_size=1, max_size=9))
@settings(max_examples=50, deadline=None)
def test_what_the_search_finds_is_what_all_orders_give(answered: list[bool]) -> None:
    """Of some increments at once, each answered its own number or nothing: no more unknown ones than there are."""
    unknown = answered.count(False)
    operations = [Operation(op="increment", object="counter/c", client=f"c{n}", called=0.0) for n in range(unknown)] + [
        Operation(
            op="increment",
            object="counter/c",
            client="k",
            called=0.0,
            returned=1.0,
            outcome="done",
            value=n + 1 + unknown,
        )
        for n in range(answered.count(True))
    ]
    assert found(operations) == set()
    if operations[unknown:]:
        beyond = replace(operations[-1], value=len(answered) + 1)
        assert found([*operations[:-1], beyond]) == {Kind.COUNTER}
