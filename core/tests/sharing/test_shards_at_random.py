"""Any sequence of joins, leaves, deaths and freezes: never two holders, and all shards held in the end."""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from flock import GRACE, TTL, Bird, Flock, Gate
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from drumbeat import Term
from drumbeat._partition import seats
from drumbeat.testing import freeze, lose

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ["a", "b", "c", "d"]
names = st.sampled_from(NAMES)


class Sharing(RuleBasedStateMachine):
    """Members come, go, hang and drain slowly, while the clock moves."""

    def __init__(self) -> None:
        super().__init__()
        self.flock = Flock(count=8)
        self.frozen: dict[str, ExitStack] = {}
        self.gates: dict[str, Gate] = {}

    def awake(self, name: str) -> Bird | None:
        """Return a member that a test may call."""
        return None if name in self.frozen else self.flock.birds.get(name)

    @rule(name=names, weight=st.sampled_from([1, 1, 3]), slow=st.booleans())
    def come(self, name: str, weight: int, slow: bool) -> None:
        """A member joins; a slow one drains only when its gate is opened."""
        if name in self.flock.birds:
            return
        gate = self.gates[name] = Gate(self.flock.clock)
        if not slow:
            gate.open()
        drain = self.flock.noting(name, "drain", gate)
        self.flock.add(name, {"weight": weight}, drain=drain, drain_timeout=TTL / 2)

    @rule(name=names)
    def leave_or_join(self, name: str) -> None:
        """A member leaves the group, or comes back to it."""
        bird = self.awake(name)
        if bird is not None and not bird.group.leave():
            bird.group.join({"weight": 1})

    @rule(name=names)
    def go(self, name: str) -> None:
        """A member drains and closes its session."""
        bird = self.awake(name)
        if bird is not None:
            self.gates[name].open()
            bird.session.close(timeout=1.0)
            self.flock.flown.append(self.flock.birds.pop(name))

    @rule(name=names)
    def hang_or_wake(self, name: str) -> None:
        """A member's requests stand still, or go on."""
        if name in self.frozen:
            self.frozen.pop(name).close()
        elif name in self.flock.birds:
            stack = self.frozen[name] = ExitStack()
            stack.enter_context(freeze(self.flock.birds[name].session))

    @rule(name=names)
    def lose_session(self, name: str) -> None:
        """The server ends a session."""
        bird = self.awake(name)
        if bird is not None:
            lose(bird.session)

    @rule(name=names, number=st.integers(0, 7))
    def lose_shard(self, name: str, number: int) -> None:
        """The store forgets one seat."""
        bird = self.awake(name)
        if bird is not None and number in bird.shards.owned:
            lose(bird.shards.owned[number])

    @rule(name=names)
    def drain_quickly(self, name: str) -> None:
        """A slow member's drains return."""
        if name in self.gates:
            self.gates[name].open()

    @precondition(lambda self: self.flock.birds)
    @rule(seconds=st.sampled_from([0.02, 1.0, TTL / 2, TTL, 2 * GRACE]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.flock.clock.advance(seconds)

    @invariant()
    def has_one_holder(self) -> None:
        """PART-3: no two terms of a shard are held at once, and none was."""
        self.flock.clock.settle()
        held: dict[int, Term] = {}
        for bird in self.flock.birds.values():
            for number, term in (*bird.shards.owned.items(), *bird.shards.draining.items()):
                assert number not in held, f"{term} and {held[number]}"
                held[number] = term
        assert self.flock.overlaps() == []

    def teardown(self) -> None:
        """In the end every shard is with its owner."""
        try:
            for gate in self.gates.values():
                gate.open()
            for stack in self.frozen.values():
                stack.close()
            for bird in self.flock.birds.values():
                bird.group.join({"weight": 1})
            self.flock.clock.advance(2 * TTL)
            self.has_one_holder()
            self.have_their_shards()
        finally:
            self.flock.close()

    def have_their_shards(self) -> None:
        """PART-1 and 4: the members of the group hold their own shards, and so all of them."""
        if not self.flock.birds:
            return
        some = next(iter(self.flock.birds.values()))
        view = some.group.members()
        weights = {member.member_id: float(member.metadata["weight"]) for member in view}  # type: ignore[arg-type]
        plan = seats(weights, 8, min(weights)) if weights else None
        for name, bird in self.flock.birds.items():
            expected = {number for number, (owner, _) in enumerate(plan or []) if owner == name}
            assert bird.numbers == expected


TestSharing = Sharing.TestCase
TestSharing.settings = settings(max_examples=50, stateful_step_count=25)


@pytest.mark.parametrize("seed", range(3))
def test_a_long_churn(seed: int) -> None:
    """PART-3: 300 joins, leaves, deaths and hangs of one group, with hardly a pause, make no two holders."""
    choose = random.Random(seed)
    sharing = Sharing()
    actions: list[Callable[[str], object]] = [
        lambda name: sharing.come(name, choose.choice([1, 3]), choose.random() < 1 / 3),
        sharing.leave_or_join,
        sharing.go,
        sharing.hang_or_wake,
        sharing.lose_session,
        lambda name: sharing.lose_shard(name, choose.randrange(8)),
        sharing.drain_quickly,
    ]
    weights = [8, 1, 1, 2, 1, 4, 2]
    try:
        for _ in range(300):
            choose.choices(actions, weights)[0](choose.choice(NAMES))
            sharing.wait(choose.choice([0.02, 0.5, 1.0, TTL / 2, TTL]))
            sharing.has_one_holder()
        wins = [event for bird in sharing.flock.flown for event in bird.seen.events if event.kind == "won"]
        assert len(wins) > 100
    finally:
        sharing.teardown()
