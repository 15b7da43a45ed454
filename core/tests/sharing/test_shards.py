"""Exclusive shards: one holder at a time, drained before they change hands, and none left behind."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest
from flock import GRACE, SOON, TTL, Bird, Flock, Gate
from support import Background

import drumbeat
from drumbeat import State, Vacant, hookimpl
from drumbeat._partition import seats
from drumbeat._tenure import ShardCallbacks, Tenure
from drumbeat.testing import Faults, freeze, lose, memory_session

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from drumbeat.hookspecs import Waiting, Won


@pytest.fixture
def flock() -> Iterator[Flock]:
    """Members of one group on one fake clock."""
    made = Flock()
    yield made
    made.close()


def by_right(flock: Flock, **weights: float) -> dict[str, set[int]]:
    """Return the shards that each of the members should have."""
    found: dict[str, set[int]] = {name: set() for name in weights}
    for number, (owner, _) in enumerate(seats(weights, flock.count, min(weights)) or []):
        found[owner].add(number)
    return found


def owned(flock: Flock, *names: str) -> dict[str, set[int]]:
    """Return the shards that each of the members has."""
    return {name: flock.birds[name].numbers for name in names}


def settle(flock: Flock, *names: str) -> None:
    """Let members join, and everything come to rest."""
    for name in names:
        flock.add(name)
    flock.clock.advance(SOON)


# Who has what ---------------------------------------------------------------------------------------------------


def test_members_hold_their_own_shards(flock: Flock) -> None:
    """PART-1 and 3: in a stable group each shard is held by its owner alone, with a token of its own."""
    settle(flock, "a", "b", "c")
    assert owned(flock, "a", "b", "c") == by_right(flock, a=1, b=1, c=1)
    assert flock.is_shared()
    for bird in flock.birds.values():
        for number, term in bird.shards.owned.items():
            assert (term.name, term.held, term.token > 0) == (f"flock/{number}", True, True)


def test_a_join_moves_the_new_members_shards_alone(flock: Flock) -> None:
    """PART-2: the terms of all other shards are those of before."""
    settle(flock, "a", "b")
    before = {**flock.birds["a"].shards.owned, **flock.birds["b"].shards.owned}
    settle(flock, "c")
    mine = by_right(flock, a=1, b=1, c=1)["c"]
    assert flock.birds["c"].numbers == mine
    after = {**flock.birds["a"].shards.owned, **flock.birds["b"].shards.owned}
    assert after == {number: term for number, term in before.items() if number not in mine}
    for number, term in flock.birds["c"].shards.owned.items():
        assert term.token > before[number].token


def test_who_leaves_the_group_hands_over(flock: Flock) -> None:
    """A leave drains and releases all; the others take it, and a new join brings back the same shards."""
    settle(flock, "a", "b")
    mine = flock.birds["a"].numbers
    flock.calls.clear()
    flock.birds["a"].group.leave()
    flock.clock.advance(SOON)
    assert owned(flock, "a", "b") == {"a": set(), "b": set(range(12))}
    assert sorted(flock.called("a", "drain")) == sorted(mine)
    flock.birds["a"].group.join()
    flock.clock.advance(SOON)
    assert owned(flock, "a", "b") == by_right(flock, a=1, b=1)


def test_weights_move_shards(flock: Flock) -> None:
    """A member of weight 0 holds nothing and takes nothing; an update of the weight moves shards."""
    idle = flock.add("idle", {"weight": 0})
    settle(flock, "a")
    assert owned(flock, "a", "idle") == {"a": set(range(12)), "idle": set()}
    idle.group.update({"weight": 2})
    flock.clock.advance(SOON)
    assert owned(flock, "a", "idle") == by_right(flock, a=1, idle=2)
    idle.group.update({"weight": 0})
    flock.clock.advance(SOON)
    assert idle.numbers == set()
    assert flock.is_shared()


def test_a_rule_of_ones_own_gives_the_weights(flock: Flock) -> None:
    """`weight` decides in place of the metadata; one that raises is logged, and what is held stays held."""
    broken = False

    def weight(member: drumbeat.Member) -> float:
        if broken:
            raise LookupError("no such zone")
        return 1.0 if member.member_id == "a" else 3.0

    a = flock.add("a", weight=weight)
    flock.add("b", weight=weight)
    flock.clock.advance(SOON)
    assert owned(flock, "a", "b") == by_right(flock, a=1, b=3)
    broken = True
    mine = a.numbers
    a.group.update({"zone": "x"})
    flock.clock.advance(SOON)
    assert a.numbers == mine
    assert a.seen.warnings() == ["the last view that could be read goes on counting: LookupError('no such zone')"]


def test_metadata_that_is_no_weight_is_told_once(flock: Flock, caplog: pytest.LogCaptureFixture) -> None:
    """A weight that is none counts as 1 for all members, with one warning each."""
    flock.add("a", {"weight": "heavy"})
    settle(flock, "b")
    flock.clock.advance(TTL)
    assert owned(flock, "a", "b") == by_right(flock, a=1, b=1)
    assert [text.split(",")[0] for text in flock.birds["b"].seen.warnings()] == [
        "the metadata of member 'a' of group 'flock' has the weight 'heavy'"
    ]
    assert "counts as 1" in caplog.text


# Handing over ---------------------------------------------------------------------------------------------------


def test_a_shard_is_drained_before_it_changes_hands(flock: Flock) -> None:
    """While its old holder drains a shard it holds it still; the new one has it after the drain has returned."""
    gate = Gate(flock.clock)
    a = flock.add("a", drain=flock.noting("a", "drain", gate))
    flock.clock.advance(SOON)
    settle(flock, "b")
    moving = by_right(flock, a=1, b=1)["b"]
    flock.clock.advance(TTL / 2)
    assert set(a.shards.draining) == moving
    assert all(term.held for term in a.shards.draining.values())
    assert a.numbers == set(range(12)) - moving
    assert flock.birds["b"].numbers == set()
    gate.open()
    flock.clock.advance(SOON)
    assert owned(flock, "a", "b") == by_right(flock, a=1, b=1)
    assert sorted(flock.called("a", "drain")) == sorted(moving)
    assert all(call.held for call in flock.calls if call.what == "drain")


def test_a_drain_that_runs_out_of_time_is_not_waited_for(flock: Flock) -> None:
    """A shard whose drain blocks is released at `drain_timeout`, with a warning; others, and heartbeats, go on."""
    stuck = min(by_right(flock, a=1, b=1)["b"])
    gate = Gate(flock.clock)

    def drain(number: int, _term: drumbeat.Term) -> None:
        if number == stuck:
            gate()

    a = flock.add("a", drain=drain, drain_timeout=2 * TTL)
    flock.clock.advance(SOON)
    settle(flock, "b")
    b = flock.birds["b"]
    assert b.numbers == by_right(flock, a=1, b=1)["b"] - {stuck}
    flock.clock.advance(2 * TTL - SOON - 1)
    assert set(a.shards.draining) == {stuck}
    assert a.session.state is State.CONNECTED
    assert a.seen.warnings() == []
    flock.clock.advance(1 + SOON)
    assert owned(flock, "a", "b") == by_right(flock, a=1, b=1)
    assert a.seen.warnings() == ["the drain callback has not returned in time; the shard is released without"]
    gate.open()


def test_a_blocked_drain_does_not_keep_new_shards_away(flock: Flock) -> None:
    """While one shard's drain blocks, the same session gains others."""
    stuck = min(by_right(flock, a=1, b=1)["b"])
    gate = Gate(flock.clock)
    a = flock.add("a", drain=lambda number, _term: gate() if number == stuck else None, drain_timeout=100 * TTL)
    flock.clock.advance(SOON)
    settle(flock, "b")
    flock.birds["b"].group.leave()
    flock.clock.advance(SOON)
    assert (a.numbers, set(a.shards.draining)) == (set(range(12)) - {stuck}, {stuck})
    gate.open()
    flock.clock.advance(SOON)
    assert a.numbers == set(range(12))


def test_a_drain_that_raises_releases_the_shard(flock: Flock, caplog: pytest.LogCaptureFixture) -> None:
    """An error in the drain callback is logged and told, and the shard changes hands."""

    def drain(_number: int, _term: drumbeat.Term) -> None:
        raise OSError("disk full")

    a = flock.add("a", drain=drain)
    flock.clock.advance(SOON)
    assert a.numbers == set(range(12))
    settle(flock, "b")
    assert owned(flock, "a", "b") == by_right(flock, a=1, b=1)
    assert set(a.seen.warnings()) == {"the drain callback raised OSError('disk full'); the shard is released"}
    assert "disk full" in caplog.text


def test_a_shard_that_comes_back_waits_for_its_own_drain(flock: Flock, caplog: pytest.LogCaptureFixture) -> None:
    """A shard whose drain ran out of time is not taken again while that drain runs, but for a TTL at most."""
    gate = Gate(flock.clock)
    a = flock.add("a", drain=flock.noting("a", "drain", gate), drain_timeout=1.0)
    flock.clock.advance(SOON)
    settle(flock, "b")
    moved = flock.birds["b"].numbers
    assert moved
    flock.birds["b"].session.close()
    flock.clock.advance(SOON)
    assert a.numbers == set(range(12)) - moved
    flock.clock.advance(TTL)
    assert a.numbers == set(range(12))
    assert "taken again, although the drain callback of its last term has not returned" in caplog.text
    gate.open()


def test_who_was_not_told_of_a_shard_is_not_asked_to_drain_it(flock: Flock) -> None:
    """A shard that goes before `on_gained` had its turn is released without any callback."""
    gate = Gate(flock.clock)
    a = flock.add("a", on_gained=flock.noting("a", "on_gained", gate), drain_timeout=TTL / 2)
    flock.clock.advance(SOON)
    assert flock.called("a", "on_gained") == [0]
    settle(flock, "b")
    moved = by_right(flock, a=1, b=1)["b"]
    assert flock.birds["b"].numbers == moved - {0}
    assert flock.called("a", "drain") == []
    gate.open()
    flock.clock.advance(SOON)
    assert set(flock.called("a", "on_gained")) == a.numbers | {0}
    assert flock.called("a", "drain") == sorted(moved & {0})
    assert owned(flock, "a", "b") == by_right(flock, a=1, b=1)


def test_who_was_not_told_of_a_shard_is_not_told_of_its_loss(flock: Flock) -> None:
    """A shard that is lost before `on_gained` had its turn is lost without any callback, and regained with one."""
    gate = Gate(flock.clock)
    a = flock.add("a", on_gained=flock.noting("a", "on_gained", gate))
    flock.clock.advance(SOON)
    lose(a.shards.owned[5])
    gate.open()
    flock.clock.advance(SOON)
    assert flock.called("a", "on_lost") == []
    assert flock.called("a", "on_gained") == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 5]


def test_a_drain_comes_before_an_on_gained_that_waits() -> None:
    """Once a drain was asked for, an `on_gained` that had no turn yet is not called, though the term is still held."""
    called: list[str] = []
    gate = threading.Event()
    with memory_session() as session:
        keeper = session._keeper
        assert keeper.incarnation is not None
        keeper.dispatcher.call(gate.wait)  # type: ignore[arg-type]
        tenure = Tenure(
            keeper,
            keeper.incarnation,
            "shard/g/0",
            number=0,
            callbacks=ShardCallbacks(
                on_gained=lambda *_: called.append("on_gained"),
                drain=lambda *_: called.append("drain"),
                on_lost=None,
            ),
            on_change=lambda _number: None,
        )
        assert tenure.ask() is None
        tenure.drain(float("inf"))
        assert tenure.drained
        gate.set()
        last = threading.Event()
        keeper.dispatcher.call(last.set)
        assert last.wait(TTL)
        assert tenure.term is not None
        assert tenure.term.held
    assert called == []


def test_a_drain_waits_for_on_gained(flock: Flock) -> None:
    """`drain` is not called while `on_gained` of the same shard runs."""
    first = min(by_right(flock, a=1, b=1)["b"])
    gate = Gate(flock.clock)

    def on_gained(number: int, term: drumbeat.Term) -> None:
        flock.noting("a", "begins")(number, term)
        if number == first:
            gate()
        flock.noting("a", "ends")(number, term)

    flock.add("a", on_gained=on_gained, drain_timeout=3 * TTL)
    flock.clock.advance(SOON)
    settle(flock, "b")
    assert flock.called("a", "begins")[-1] == first
    assert flock.called("a", "drain") == [
        number for number in flock.called("a", "ends") if number in by_right(flock, a=1, b=1)["b"]
    ]
    gate.open()
    flock.clock.advance(SOON)
    whats = [call.what for call in flock.calls if (call.who, call.number) == ("a", first)]
    assert whats == ["begins", "ends", "drain"]


# Losing ---------------------------------------------------------------------------------------------------------


def test_a_lost_session_has_lost_all_its_shards_at_once(flock: Flock) -> None:
    """At the deadline nothing is held; the others take over when the lease is over, and it comes back for its part."""
    settle(flock, "a", "b")
    a, b = flock.birds["a"], flock.birds["b"]
    mine = a.numbers
    terms = list(a.shards.owned.values())
    flock.calls.clear()
    with freeze(a.session):
        flock.clock.advance(TTL)
        assert a.session.state is State.LOST
        assert (a.numbers, len(a.shards.draining)) == (set(), 0)
        flock.clock.advance(SOON)
        assert b.numbers == set(range(12))
    flock.clock.advance(SOON)
    assert owned(flock, "a", "b") == by_right(flock, a=1, b=1)
    assert sorted(flock.called("a", "on_lost")) == sorted(mine)
    assert flock.called("a", "drain") == []
    assert not any(term.held for term in terms)


def test_a_dead_members_shards_are_reassigned_in_time(flock: Flock) -> None:
    """PART-4: they are held again when the failover bound has passed since its last heartbeat."""
    settle(flock, "a", "b")
    a = flock.birds["a"]
    a.session.beat()
    with freeze(a.session):
        flock.clock.advance(a.session.failover_bound)
        assert flock.birds["b"].numbers == set(range(12))


def test_a_seat_that_vanishes_is_taken_again_by_its_owner(flock: Flock) -> None:
    """One lost term is told once and regained with a greater token; the others stay."""
    settle(flock, "a")
    a = flock.birds["a"]
    before = dict(a.shards.owned)
    lose(before[5])
    flock.clock.advance(SOON)
    after = dict(a.shards.owned)
    assert after.pop(5).token > before.pop(5).token
    assert after == before
    assert flock.called("a", "on_lost") == [5]
    assert flock.called("a", "on_gained")[12:] == [5]


def test_a_term_resigned_by_hand_is_taken_again(flock: Flock) -> None:
    """Resigning a shard's term gives it up for a moment only."""
    settle(flock, "a")
    term = flock.birds["a"].shards.owned[3]
    term.resign()
    assert 3 not in flock.birds["a"].shards.owned
    flock.clock.advance(SOON)
    assert flock.birds["a"].shards.owned[3].token > term.token


def test_a_regained_shard_waits_for_on_lost(flock: Flock, caplog: pytest.LogCaptureFixture) -> None:
    """The next win of a shard in this process waits until `on_lost` has returned, but for a TTL at most."""
    gate = Gate(flock.clock)
    a = flock.add("a", on_lost=flock.noting("a", "on_lost", gate), on_gained=None)
    flock.clock.advance(SOON)
    lose(a.shards.owned[5])
    flock.clock.advance(TTL - 1)
    assert a.numbers == set(range(12)) - {5}
    flock.clock.advance(1 + SOON)
    assert a.numbers == set(range(12))
    assert "although an on_lost callback of its last term has not returned" in caplog.text
    gate.open()
    flock.clock.settle()
    lose(a.shards.owned[6])
    flock.clock.advance(SOON)
    assert a.numbers == set(range(12))


# Standing in ----------------------------------------------------------------------------------------------------


def absent(flock: Flock, name: str = "absent") -> drumbeat.Group:
    """Join a member that is in the group but shares no shards."""
    session = flock.session(name)
    flock.clock.settle()
    group = session.group("flock")
    group.join()
    flock.others.append(session)
    return group


def test_a_shard_that_its_owner_leaves_vacant_is_taken_after_a_grace(flock: Flock) -> None:
    """The second in order takes it two graces after the change at the latest, and not before one."""
    absent(flock)
    settle(flock, "a", "b")
    right = by_right(flock, a=1, b=1, absent=1)
    flock.clock.advance(GRACE - SOON)
    assert owned(flock, "a", "b") == {"a": right["a"], "b": right["b"]}
    flock.clock.advance(GRACE + SOON)
    assert flock.is_shared()
    heirs = by_right(flock, a=1, b=1)
    assert owned(flock, "a", "b") == heirs
    told = {text for bird in flock.birds.values() for text in bird.seen.warnings()}
    assert told == {"taken over, since its owner 'absent' has left it vacant for 10.5 s"}


def test_who_stands_in_for_two_absent_ones(flock: Flock) -> None:
    """If the second in order does not take it either, the third does, one grace later."""
    absent(flock, "x")
    absent(flock, "y")
    settle(flock, "a")
    flock.clock.advance(2 * GRACE)
    assert flock.birds["a"].numbers < set(range(12))
    flock.clock.advance(GRACE)
    assert flock.birds["a"].numbers == set(range(12))


def test_a_late_owner_gets_its_shards_back(flock: Flock) -> None:
    """What was taken in an absent owner's place is drained and offered to it every ten graces."""
    group = absent(flock)
    settle(flock, "a", "b")
    flock.clock.advance(2 * GRACE)
    right = by_right(flock, a=1, b=1, absent=1)
    shards = group.shards(flock.count)
    flock.clock.advance(9 * GRACE)
    assert set(shards.owned) == set()
    flock.clock.advance(GRACE + SOON)
    assert set(shards.owned) == right["absent"]
    flock.birds["absent"] = Bird(flock.others[0], group, shards, flock.birds["a"].seen)
    assert flock.is_shared()
    assert set(flock.called("a", "drain") + flock.called("b", "drain")) >= right["absent"]


def test_an_offer_that_nobody_takes_is_taken_back(flock: Flock) -> None:
    """If the owner is still absent, an offered shard is held again two polls later."""
    absent(flock)
    settle(flock, "a")
    flock.clock.advance(2 * GRACE)
    assert flock.is_shared()
    tokens = {number: term.token for number, term in flock.birds["a"].shards.owned.items()}
    flock.clock.advance(10 * GRACE + SOON)
    assert flock.is_shared()
    offered = by_right(flock, a=1, absent=1)["absent"]
    again = {number for number, term in flock.birds["a"].shards.owned.items() if term.token > tokens[number]}
    assert again == offered


def test_shards_closed_by_a_member_that_stays_are_taken(flock: Flock) -> None:
    """A member that closes its shards and stays in the group leaves none vacant for more than two graces."""
    settle(flock, "a", "b")
    flock.clock.advance(3 * GRACE)
    flock.birds["a"].shards.close()
    assert flock.birds["b"].numbers == by_right(flock, a=1, b=1)["b"]
    flock.clock.advance(2 * GRACE + SOON)
    assert flock.birds["b"].numbers == set(range(12))


def test_the_death_of_a_stand_in_is_noticed(flock: Flock) -> None:
    """A shard that was taken in an absent owner's place, and whose holder then leaves, is taken by the next."""
    absent(flock)
    settle(flock, "a", "b")
    flock.clock.advance(2 * GRACE)
    assert flock.birds["a"].numbers > by_right(flock, a=1, b=1, absent=1)["a"]
    flock.birds["a"].session.close()
    flock.clock.advance(2 * GRACE + SOON)
    assert flock.birds["b"].numbers == set(range(12))


# Cost -----------------------------------------------------------------------------------------------------------


def test_balanced_shards_cost_no_polling_of_each() -> None:
    """At rest a session reads the group at each poll, and looks at one shard in a grace, however many there are."""
    flock = Flock(count=64)
    faults = Faults(flock.clock)
    try:
        flock.add("a", interceptors=[faults])
        settle(flock, "b", "c")
        flock.clock.advance(10 * GRACE)
        before = faults.calls.copy()
        graces = 60
        flock.clock.advance(graces * GRACE)
        spent = faults.calls - before
        assert flock.is_shared()
        assert set(spent) <= {"heartbeat", "read_group", "read_leader"}
        assert spent["read_group"] <= graces * GRACE + 10
        assert spent["read_leader"] <= 2 * graces
    finally:
        flock.close()


# Watching -------------------------------------------------------------------------------------------------------


def test_a_watch_begins_with_everything_and_tells_the_rest(flock: Flock) -> None:
    """The first item carries all that is held; later ones what was gained, is being drained, and was lost."""
    gate = Gate(flock.clock)
    a = flock.add("a", drain=flock.noting("a", "drain", gate))
    flock.clock.advance(SOON)
    with a.shards.watch() as changes:
        first = changes.next(0)
        assert (set(first.gained), first.draining, first.lost) == (set(range(12)), (), ())
        assert first.owned == a.shards.owned
        with pytest.raises(drumbeat.Timeout, match="no shard changed within 0 s"):
            changes.next(0)
        settle(flock, "b")
        moved = by_right(flock, a=1, b=1)["b"]
        second = changes.next(0)
        assert (second.gained, set(second.draining), second.lost) == ({}, moved, ())
        gate.open()
        flock.clock.advance(SOON)
        third = changes.next(0)
        assert (third.gained, third.draining, set(third.lost)) == ({}, (), moved)
        lose(a.shards.owned[min(a.numbers)])
        flock.clock.advance(SOON)
        fourth = changes.next(0)
        assert set(fourth.gained) == set(fourth.lost)
        assert fourth.owned == a.shards.owned


def test_a_watch_ends_with_the_shards(flock: Flock) -> None:
    """A close tells the loss of everything, then the iteration ends; a closed watch ends at once."""
    settle(flock, "a")
    a = flock.birds["a"]
    changes, other = a.shards.watch(), a.shards.watch()
    changes.next(0)
    a.shards.close()
    assert set(changes.next(0).lost) == set(range(12))
    assert list(changes) == []
    with pytest.raises(drumbeat.Closed):
        changes.next()
    other.close()
    assert list(other) == []


def test_waiting_for_balance(flock: Flock) -> None:
    """It returns what is held once that is the whole part, and names what is missing at its timeout."""
    gate = Gate(flock.clock)
    a = flock.add("a", drain=flock.noting("a", "drain", gate))
    flock.clock.advance(SOON)
    assert set(a.shards.wait_balanced(0)) == set(range(12))
    settle(flock, "b")
    moved = by_right(flock, a=1, b=1)["b"]
    with pytest.raises(drumbeat.Timeout, match=f"still to be gained: {', '.join(map(str, sorted(moved)))}; "):
        flock.birds["b"].shards.wait_balanced(0)
    with pytest.raises(drumbeat.Timeout, match=r"still to be gained: none; still draining: \d"):
        a.shards.wait_balanced(0)
    waiting = Background(flock.birds["b"].shards.wait_balanced)
    gate.open()
    flock.clock.advance(SOON)
    assert waiting.result() == flock.birds["b"].shards.owned
    a.shards.close()
    with pytest.raises(drumbeat.Closed, match="shards of 'flock' are closed"):
        a.shards.wait_balanced()


def test_items_fall_into_shards(flock: Flock) -> None:
    """Every process computes the same shard for an item, from its key alone."""
    settle(flock, "a", "b")
    a, b = (flock.birds[name].shards for name in "ab")
    numbers = [a.number_of(f"item {item}") for item in range(200)]
    assert numbers == [b.number_of(item, key=lambda item: f"item {item}") for item in range(200)]
    assert set(numbers) == set(range(12))
    assert (a.count, repr(b)) == (12, f"<Shards of 'flock': {', '.join(map(str, sorted(b.owned)))} of 12>")


# Ending ---------------------------------------------------------------------------------------------------------


def test_closing_drains_and_releases_everything(flock: Flock) -> None:
    """A `with` block ends with every shard drained and free; the session goes on, and a second close is harmless."""
    a = flock.add("a")
    with a.shards as shards:
        flock.clock.advance(SOON)
    assert (shards.owned, shards.draining) == ({}, {})
    assert sorted(flock.called("a", "drain")) == list(range(12))
    assert a.session.state is State.CONNECTED
    assert "a" in a.group.members()
    shards.close()
    again = a.group.shards(12)
    flock.clock.advance(SOON)
    assert set(again.owned) == set(range(12))


def test_closing_the_session_drains_first(flock: Flock) -> None:
    """`Session.close` has every shard drained while its term is held, then ends the session."""
    settle(flock, "a", "b")
    a = flock.birds["a"]
    mine = a.numbers
    flock.calls.clear()
    a.session.close()
    drained = [call for call in flock.calls if (call.who, call.what) == ("a", "drain")]
    assert {call.number for call in drained} == mine
    assert all(call.held for call in drained)
    flock.clock.advance(SOON)
    assert flock.birds["b"].numbers == set(range(12))


def test_closing_is_bounded_when_a_drain_blocks(flock: Flock) -> None:
    """At the timeout of close everything is released, drained or not."""
    gate = Gate(flock.clock)
    a = flock.add("a", drain=flock.noting("a", "drain", gate), drain_timeout=100 * TTL)
    flock.clock.advance(SOON)
    closing = Background(lambda: a.shards.close(timeout=2.0))
    flock.clock.advance(1.9)
    assert closing.running
    assert len(a.shards.draining) == 12
    flock.clock.advance(0.2)
    closing.result()
    assert (a.shards.owned, a.shards.draining) == ({}, {})
    assert a.session.election("x").leader() is None
    gate.open()


def test_closing_is_bounded_when_the_server_is_silent(flock: Flock) -> None:
    """Without an answer nothing is held here when close returns, and the next heartbeat frees the shards."""
    faults = Faults(flock.clock)
    a = flock.add("a", interceptors=[faults])
    flock.clock.advance(SOON)
    with faults.hanging("resign", "withdraw", "campaign", "read_group"):
        closing = Background(lambda: a.shards.close(timeout=1.0))
        flock.clock.advance(1.0 + TTL / 5 + 0.1)
        closing.result()
        assert (a.shards.owned, a.shards.draining) == ({}, {})
        assert a.session.state is State.CONNECTED
    flock.clock.advance(TTL / 4 + 0.1)
    lease = a.session._keeper.incarnation
    assert lease is not None
    backend = a.session._keeper.backend
    for number in range(12):
        assert backend.read_leader(lease.lease, f"shard/flock/{number}", timeout=1.0) == Vacant()


@pytest.mark.parametrize("what", ["on_gained", "drain", "on_lost"])
@pytest.mark.parametrize("which", ["shards", "session"])
def test_callbacks_may_close(flock: Flock, what: str, which: str) -> None:
    """A callback that closes the shards, or the session, does not wait for itself."""
    a: Bird | None = None
    took: list[float] = []

    def close() -> None:
        assert a is not None
        began = flock.clock.now()
        (a.shards if which == "shards" else a.session).close()
        took.append(flock.clock.now() - began)

    options: dict[str, object] = {what: flock.noting("a", what, close)}
    a = flock.add("a", None, drain_timeout=TTL, **options)
    flock.clock.advance(SOON)
    settle(flock, "b")
    for term in list(a.shards.owned.values())[:1]:
        lose(term)
    flock.clock.advance(TTL + SOON)
    assert (a.shards.owned, a.shards.draining) == ({}, {})
    assert took
    assert max(took) < TTL / 2


def test_a_session_that_ends_takes_its_shards_along(flock: Flock) -> None:
    """After the session is closed, its shards are closed too, and calls say so."""
    settle(flock, "a")
    a = flock.birds["a"]
    a.session.close()
    assert a.shards.owned == {}
    a.shards.close()
    with pytest.raises(drumbeat.Closed):
        a.shards.watch()
    with pytest.raises(drumbeat.Closed):
        a.shards.wait_balanced()
    with pytest.raises(drumbeat.Closed):
        a.group.shards(12)


# Bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, -1, 1025, 2.0, True, "64"])
def test_a_number_of_shards_that_makes_no_sense_is_refused(flock: Flock, count: object) -> None:
    """The error names the range; nothing is started."""
    settle(flock, "a")
    with pytest.raises(drumbeat.ConfigurationError, match=r"number of shards must be from 1 to 1024, not"):
        flock.birds["a"].group.shards(count)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["drain_timeout", "grace"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, "5"])
def test_durations_that_are_none_are_refused(flock: Flock, name: str, value: object) -> None:
    """The error names the option and what it may be."""
    settle(flock, "a")
    with pytest.raises(drumbeat.ConfigurationError, match=f"{name} must be a number of seconds from 0, not"):
        flock.birds["a"].group.shards(4, **{name: value})  # type: ignore[arg-type]


def test_who_has_not_joined_has_no_shards(flock: Flock) -> None:
    """Shards need a membership first; the error says so."""
    settle(flock, "a")
    with pytest.raises(drumbeat.ConfigurationError, match=r"not joined 'other'.*call join\(\) first"):
        flock.birds["a"].session.group("other").shards(4)


def test_an_unreadable_group_is_told_and_changes_nothing(flock: Flock, caplog: pytest.LogCaptureFixture) -> None:
    """Rubbish in a member's metadata is logged once; what is held stays held, and it goes on when that is mended."""
    settle(flock, "a")
    a = flock.birds["a"]
    stranger = flock.session("stranger")
    flock.others.append(stranger)
    keeper = stranger._keeper
    assert keeper.incarnation is not None
    lease = keeper.incarnation.lease
    keeper.backend.join_group(
        lease, "flock", attempt=keeper.incarnation.new_place("flock"), value=b"rubbish", timeout=1
    )
    with caplog.at_level(logging.WARNING):
        flock.clock.advance(SOON)
    assert caplog.text.count("member 'stranger' of group 'flock': holds a value of unknown format") == 1
    assert a.numbers == set(range(12))
    lose(a.shards.owned[3])
    flock.clock.advance(SOON)
    assert a.numbers == set(range(12))
    keeper.backend.leave_group(lease, "flock", timeout=1)
    keeper.incarnation.end_place("flock")
    settle(flock, "b")
    assert owned(flock, "a", "b") == by_right(flock, a=1, b=1)


class Sick:
    """An interceptor: whatever concerns one shard fails."""

    def __init__(self, number: int, error: Exception | None) -> None:
        self.number = number
        self.error = error

    @hookimpl(wrapper=True)
    def campaign(self, election: str) -> Generator[None, Won | Waiting, Won | Waiting]:
        if self.error is not None and election == f"shard/flock/{self.number}":
            raise self.error
        return (yield)


@pytest.mark.parametrize("error", [drumbeat.BadData("shard/flock/3", "is rubbish"), drumbeat.Unavailable("too slow")])
def test_one_sick_shard_does_not_stop_the_others(flock: Flock, error: Exception) -> None:
    """A shard whose seat cannot be read, or is never answered for, stays vacant alone, until it is mended."""
    sick = Sick(3, error)
    a = flock.add("a", interceptors=[sick])
    flock.clock.advance(SOON + TTL)
    assert a.numbers == set(range(12)) - {3}
    told = [] if isinstance(error, drumbeat.Unavailable) else [f"shard 3: {error}"]
    assert a.seen.warnings() == told
    sick.error = None
    flock.clock.advance(SOON)
    assert a.numbers == set(range(12))
