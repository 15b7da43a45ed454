"""What a CompareAndSetBackend promises beyond the contract: empty and rubbish stores, requests, and its subclasses."""

from __future__ import annotations

import fcntl
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from harness import KINDS, World
from rig import RiggedWorld, store_of

from drumbeat._cas.observations import MAX_NAMES
from drumbeat._cas.records import Birth, GroupIndex, MemberValue, Record, Roster, SeatRecord, Session
from drumbeat._errors import BadData, ConfigurationError, Conflict, SessionLost, Unavailable
from drumbeat.cas import CompareAndSetBackend, MemoryCasBackend
from drumbeat.hookspecs import Capability, Holdings, Membership, Vacant
from drumbeat_conformance.actor import TIMEOUT, Actor, leader_id

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence
    from pathlib import Path

    from drumbeat.hookspecs import Seat

#: The longest TTL of the default settings, in TTLs of these tests.
LONGEST = MemoryCasBackend.longest_ttl / 10.0


@pytest.fixture
def world(tmp_path: Path) -> RiggedWorld:
    """A fresh durable store that can be tampered with."""
    return RiggedWorld(tmp_path)


@pytest.fixture
def volatile(tmp_path: Path) -> RiggedWorld:
    """A fresh store that may lose everything, but says that it has not."""
    world = RiggedWorld(tmp_path, volatile=True)
    world.say_of_losses("nothing was lost")
    return world


# Observation leases -----------------------------------------------------------------------------------------


def test_nobody_is_judged_by_a_single_look(world: RiggedWorld) -> None:
    """BEAT-3: who comes late and finds a silent session waits one TTL from its own first look."""
    silent = world.actor("a")
    silent.join("g")
    silent.win("e")
    world.wait(50 * world.ttl)
    late = world.actor("b")
    assert set(late.members("g")) == {"a"}
    assert late.wait_for("e").retry_after == pytest.approx(1.001 * world.ttl)
    world.pass_time(1.0, late)
    assert leader_id(late.leader("e")) == "a"
    world.wait(0.002 * world.ttl)
    late.win("e")
    assert late.members("g") == {}


def test_one_beat_starts_the_observation_anew(world: RiggedWorld) -> None:
    """BEAT-3: the TTL counts from the last change that was seen, however long the session was watched before."""
    slow, other = world.actor("a"), world.actor("b")
    slow.win("e")
    for _ in range(5):
        other.wait_for("e")
        world.wait(0.99 * world.ttl)
        slow.beat()
    retry_after = other.wait_for("e").retry_after
    assert retry_after == pytest.approx(1.001 * world.ttl)


def test_the_ttl_of_the_observed_session_counts(world: RiggedWorld) -> None:
    """BEAT-3: a session with a long TTL is not judged by the short one of its observer."""
    slow, other = world.actor("a"), world.actor("b")
    slow.backend.close_session(slow.lease, timeout=TIMEOUT)
    slow.open(replace(slow.request(), ttl=3 * world.ttl))
    slow.win("e")
    other.wait_for("e")
    world.pass_time(2.9, other)
    other.wait_for("e")
    world.pass_time(0.25, other)
    other.win("e")


def test_a_conflict_is_observed_across_calls(world: RiggedWorld) -> None:
    """GROUP-9: repeated openings by one backend object count the silence of the session in their way."""
    world.actor("a")
    second = Actor(world, "a", backend=world.backend())
    left = []
    for _ in range(3):
        with pytest.raises(Conflict) as refusal:
            second.open()
        left.append(refusal.value.retry_after)
        world.wait(world.ttl / 4)
    assert left == pytest.approx([1.001 * world.ttl - part * world.ttl for part in (0, 0.25, 0.5)])
    world.wait(world.ttl / 3)
    second.open()


def test_heartbeats_alone_notice_the_death_of_others(world: RiggedWorld) -> None:
    """BEAT-2: sessions that only beat mark a dead member of their group, so that a newcomer never sees it."""
    silent, member = world.actor("a"), world.actor("b")
    silent.join("g")
    member.join("g")
    member.beat()
    world.pass_time(1.5, member)
    newcomer = world.actor("c")
    assert set(newcomer.members("g")) == {"b"}
    with pytest.raises(SessionLost, match="silent for its TTL of 10 s"):
        silent.beat()


def test_heartbeats_notice_the_death_of_leaders_that_were_looked_at(world: RiggedWorld) -> None:
    """LEAD-6: a session that has read who leads observes that leader with its heartbeats alone."""
    silent, other = world.actor("a"), world.actor("b")
    silent.win("e")
    other.leader("e")
    world.pass_time(1.5, other)
    world.actor("c").win("e")


def test_a_stale_look_at_a_session_frees_no_seat(world: RiggedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """LEAD-1: a session's record that was read before the seat was won does not make its new seat free."""
    first, other = world.actor("a"), world.actor("b")
    first.win("e")
    other.wait_for("e")
    first.close()
    store = store_of(other)
    stale = store.contents["db:session:tests:a"]
    reborn = world.actor("a")
    seat = reborn.win("e")
    fresh = store.read_many

    def read_many(keys: Sequence[str], timeout: float) -> Mapping[str, tuple[bytes, Hashable]]:
        found = dict(fresh(keys, timeout))
        return found | {"db:session:tests:a": stale} if len(keys) > 1 else found

    monkeypatch.setattr(store, "read_many", read_many)
    assert leader_id(other.wait_for("e").holder) == "a"
    assert leader_id(other.leader("e")) == "a"
    monkeypatch.undo()
    assert reborn.proclaim(seat, b"mine")


def test_a_holder_that_is_neither_here_nor_there_is_observed(
    volatile: RiggedWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LEAD-1: if the second look finds no record, the first one, which was of an earlier time, counts no more."""
    holder, other = volatile.actor("a"), volatile.actor("b")
    holder.wait_for("e")
    volatile.pass_time(LONGEST + 0.25, holder, other)
    holder.win("e")
    other.wait_for("e")
    holder.close()
    store = store_of(other)
    stale = store.contents["db:session:tests:a"]
    reborn = volatile.actor("a")
    reborn.win("e")
    store.evict("db:session:tests:a")
    fresh = store.read_many

    def read_many(keys: Sequence[str], timeout: float) -> Mapping[str, tuple[bytes, Hashable]]:
        stored = json.loads(stale[0][1:]) | {"previous": reborn.lease.incarnation}
        found = dict(fresh(keys, timeout))
        return found | {"db:session:tests:a": (b"1" + json.dumps(stored).encode(), 0)} if len(keys) > 1 else found

    monkeypatch.setattr(store, "read_many", read_many)
    assert other.wait_for("e").retry_after == pytest.approx(1.001 * volatile.ttl)


def test_a_durable_store_knows_the_dead_of_long_ago(world: RiggedWorld) -> None:
    """LEAD-6: a seat of an incarnation before the last is free at once where nothing is lost silently."""
    actor, other = world.actor("a"), world.actor("b")
    actor.win("e")
    actor.join("g")
    for _ in range(2):
        actor.open(actor.request(supersedes=actor.lease.incarnation))
    assert other.members("g") == {}
    other.win("e")


# What a store loses -----------------------------------------------------------------------------------------


def test_a_new_durable_store_grants_at_once(world: RiggedWorld) -> None:
    """Where nothing is lost silently, the first session of all leads at once."""
    world.actor("a").win("e")


@pytest.mark.parametrize("mark", ["nothing was lost", None])
def test_a_new_volatile_store_makes_everybody_wait_once(volatile: RiggedWorld, mark: str | None) -> None:
    """FAULT-2: with "wait" nothing is granted for the longest TTL; after it only one that cannot tell makes wait."""
    volatile.say_of_losses(mark)
    one, two = volatile.actor("a"), volatile.actor("b")
    one.join("g")
    assert set(two.members("g")) == {"a"}
    for waited in range(6):
        waiting = one.wait_for("e")
        assert waiting.holder == Vacant()
        assert waiting.retry_after == pytest.approx(1.001 * 60 - 10 * waited)
        volatile.pass_time(1, one, two)
    volatile.pass_time(0.25, one, two)
    one.resign(one.win("e"))
    late = volatile.actor("c")
    late.win("e")
    if mark is None:
        late.wait_for("new")
    else:
        late.win("new")


def test_the_wait_of_a_new_store_is_told(volatile: RiggedWorld, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever opens a session while no seat is granted is told for how long, and how to do without; not later."""
    one = volatile.actor("a")
    assert "no seat is granted for up to 60.1 s" in caplog.text
    assert "on_empty_store='trust'" in caplog.text
    volatile.pass_time(LONGEST + 0.25, one)
    one.win("e")
    caplog.clear()
    volatile.actor("b")
    assert caplog.text == ""


@pytest.mark.parametrize("policy", ["wait", "trust"])
def test_the_policy_can_be_set(tmp_path: Path, policy: str) -> None:
    """on_empty_store decides, whatever the backend claims of itself."""
    for is_volatile in (True, False):
        actor = RiggedWorld(tmp_path, volatile=is_volatile, policy=policy).actor("a")  # type: ignore[arg-type]
        if policy == "trust":
            actor.win("e")
        else:
            assert actor.wait_for("e").retry_after == pytest.approx(60.06)


def test_a_wiped_store_makes_no_second_leader(volatile: RiggedWorld) -> None:
    """FAULT-2: after a loss of all data nobody wins before the old leader, though it hears nothing, has stopped."""
    leader, other = volatile.actor("a"), volatile.actor("b")
    other.wait_for("e")
    volatile.pass_time(LONGEST + 0.25, leader, other)
    seat = leader.win("e")
    leader.beat()
    volatile.wipe()
    with pytest.raises(SessionLost, match="lost its data"):
        other.campaign("e")
    with pytest.raises(SessionLost, match="not in the store"):
        other.beat()
    other.open()
    for _ in range(6):
        other.wait_for("e")
        volatile.pass_time(1, other)
    volatile.pass_time(0.25, other)
    assert other.win("e").token > seat.token
    with pytest.raises(SessionLost):
        leader.beat()


def test_a_wiped_store_that_is_trusted_grants_at_once(world: RiggedWorld) -> None:
    """FAULT-2: with "trust" every session is told of the loss at its next heartbeat, and the first one leads."""
    leader, other = world.actor("a"), world.actor("b")
    seat = leader.win("e")
    world.wait(1)
    world.wipe()
    for actor in (leader, other):
        with pytest.raises(SessionLost):
            actor.beat()
    other.open()
    assert other.win("e").token > seat.token
    leader.open()
    leader.wait_for("e")


def test_a_session_is_lost_with_the_birth_record_alone(volatile: RiggedWorld) -> None:
    """FAULT-2: if the birth record has gone or is another one, every session is told, though all else is there."""
    one, two = volatile.actor("a"), volatile.actor("b")
    one.join("g")
    store_of(one).evict("db:birth:tests")
    with pytest.raises(SessionLost, match="birth record is gone"):
        one.beat()
    newcomer = volatile.actor("c")
    with pytest.raises(SessionLost, match="birth record is new"):
        two.beat()
    with pytest.raises(SessionLost, match="birth record is new"):
        two.join("g")
    newcomer.wait_for("e")


def test_a_lost_seat_is_noticed_and_not_given_away_too_early(volatile: RiggedWorld) -> None:
    """BEAT-10: a seat that a volatile store lost alone is gone for its holder at once, for others after a long wait."""
    leader, other = volatile.actor("a"), volatile.actor("b")
    leader.wait_for("e")
    volatile.pass_time(LONGEST + 0.25, leader, other)
    seat = leader.win("e")
    store_of(leader).evict("db:seat:tests:e")
    volatile.say_of_losses("something was evicted")
    for waited in range(6):
        waiting = other.wait_for("e")
        assert waiting.retry_after == pytest.approx(1.001 * 60 - 10 * waited)
        volatile.pass_time(1, other)
        if waited == 0:
            assert leader.beat().lost == (seat,)
    volatile.pass_time(0.25, other)
    assert other.win("e").token > seat.token


def test_a_seat_that_was_lost_twice_is_observed_anew(volatile: RiggedWorld) -> None:
    """LEAD-1: the wait for a lost seat starts again if the store has lost it again meanwhile."""
    volatile.say_of_losses(None)
    one, two = volatile.actor("a"), volatile.actor("b")
    one.wait_for("e")
    volatile.pass_time(LONGEST + 0.25, one, two)
    for _ in range(3):
        assert one.wait_for("f").retry_after == pytest.approx(60.06)
        volatile.pass_time(LONGEST - 1, one, two)
        store_of(one).evict("db:seat:tests:f")


def test_a_lost_session_is_told_and_waited_for(volatile: RiggedWorld) -> None:
    """BEAT-3: a session whose record a volatile store lost is lost; others count its whole TTL before they inherit."""
    holder, other = volatile.actor("a"), volatile.actor("b")
    holder.wait_for("e")
    volatile.pass_time(LONGEST + 0.25, holder, other)
    holder.win("e")
    holder.join("g")
    store_of(holder).evict("db:session:tests:a")
    assert set(other.members("g")) == {"a"}
    assert other.wait_for("e").retry_after == pytest.approx(1.001 * volatile.ttl)
    volatile.pass_time(1, other)
    other.wait_for("e")
    with pytest.raises(SessionLost, match="not in the store"):
        holder.beat()
    volatile.pass_time(0.25, other)
    other.win("e")
    assert other.members("g") == {}


def test_a_member_id_taken_over_unknowingly_frees_nothing_at_once(volatile: RiggedWorld) -> None:
    """LEAD-1: a session that finds no record of its living namesake does not set that one's seats free."""
    holder, other = volatile.actor("a"), volatile.actor("b")
    holder.wait_for("e")
    volatile.pass_time(LONGEST + 0.25, holder, other)
    holder.win("e")
    store_of(holder).evict("db:session:tests:a")
    namesake = volatile.actor("a")
    assert leader_id(other.wait_for("e").holder) == "a"
    volatile.pass_time(1, other, namesake)
    other.wait_for("e")
    with pytest.raises(SessionLost, match="was replaced by"):
        holder.beat()
    volatile.pass_time(0.25, other, namesake)
    other.win("e")


def test_a_volatile_store_knows_who_was_succeeded(volatile: RiggedWorld) -> None:
    """LEAD-6: a seat is free at once when the next incarnation knew that the holder was over, also after a loss."""
    holder, other = volatile.actor("a"), volatile.actor("b")
    holder.wait_for("e")
    volatile.pass_time(LONGEST + 0.25, holder, other)
    for lost in (False, True):
        holder.win("e")
        if lost:
            store_of(holder).evict("db:session:tests:a")
        holder.open(holder.request(supersedes=holder.lease.incarnation))
        other.resign(other.win("e"))


def test_a_lost_roster_or_value_is_noticed_by_its_members(volatile: RiggedWorld) -> None:
    """BEAT-10: a membership whose roster or value was lost comes back as lost, and joining again mends it."""
    actor, other = volatile.actor("a"), volatile.actor("b")
    for kind in ("db:roster:tests:g", "db:value:tests:g:a"):
        actor.join("g")
        assert actor.beat().lost == ()
        store_of(actor).evict(kind)
        assert other.members("g") == {}
        assert actor.beat().lost == (Membership("g", actor.places["g"]),)
    actor.join("g")
    assert set(other.members("g")) == {"a"}


def test_a_lost_index_is_restored_by_heartbeats(volatile: RiggedWorld) -> None:
    """The index of groups, should the store lose it, is whole again after one heartbeat of each member, or a join."""
    one, two = volatile.actor("a"), volatile.actor("b")
    one.join("g")
    two.join("h")
    store_of(one).evict("db:groups:tests")
    assert one.groups() == set()
    one.beat()
    two.beat()
    assert one.groups() == {"g", "h"}
    store_of(one).evict("db:groups:tests")
    volatile.actor("c").join("h")
    assert one.groups() == {"h"}


def test_a_ttl_that_outlives_the_wait_is_refused(tmp_path: Path) -> None:
    """A TTL above the longest that the store was born with, or that a volatile store can wait for, is refused."""
    for is_volatile in (True, False):
        world = RiggedWorld(tmp_path, volatile=is_volatile)
        first = Actor(world, "a", backend=world.backend())
        long = replace(first.request(), ttl=90.0)
        if is_volatile:
            assert world.profile().limits.max_ttl == 60.0
        else:
            first.open(long)
        with pytest.raises(ConfigurationError, match=f"90.5 s is outside .* 0.5 to {60 if is_volatile else 90} s"):
            Actor(world, "b", backend=world.backend()).open(replace(long, member_id="b", ttl=90.5))


# Rubbish ----------------------------------------------------------------------------------------------------

RUBBISH = (
    b"",  # stands for a newer format of the very record
    b"rubbish",
    b'2{"written by": "a newer version"}',
    b"1{",
    b"1[]",
    b"1{}",
    b"1\xff\xfe",
    b'1{"incarnation":1,"ttl":"x","beat":true,"state":"odd","token":null,"owner":5,"listed":0,"members":{},"groups":[1]}',
)


def spoiled(world: RiggedWorld) -> tuple[Actor, Actor, Seat]:
    """Return a session that holds something of everything, and another one."""
    actor, other = world.actor("a"), world.actor("b")
    actor.join("g")
    return actor, other, actor.win("e")


@pytest.mark.parametrize("rubbish", RUBBISH, ids=range(len(RUBBISH)))
@pytest.mark.parametrize("kind", ["birth:tests", "session:tests:a", "seat:tests:e", "roster:tests:g", "groups:tests"])
def test_rubbish_is_named_and_left_alone(world: RiggedWorld, kind: str, rubbish: bytes) -> None:
    """SAFE-2: whoever needs a record that is rubbish is told its key, and nobody writes over it."""
    actor, other, seat = spoiled(world)
    operations: dict[str, list[Callable[[], object]]] = {
        "birth": [lambda: world.actor("c"), lambda: other.join("g"), lambda: other.campaign("f"), other.beat],
        "session": [lambda: world.actor("a"), lambda: actor.join("g"), actor.close, actor.beat],
        "seat": [lambda: other.campaign("e"), lambda: other.leader("e"), lambda: actor.resign(seat)],
        "roster": [lambda: other.join("g"), lambda: other.members("g"), lambda: actor.leave("g"), other.groups],
        "groups": [lambda: other.join("h"), other.groups],
    }
    key = f"db:{kind}"
    store = store_of(actor)
    rubbish = rubbish or b"2" + store.contents[key][0][1:]
    store.put(key, rubbish)
    for operation in operations[kind.partition(":")[0]]:
        with pytest.raises(BadData) as failure:
            operation()
        assert failure.value.key == key
        assert store.contents[key][0] == rubbish


def test_rubbish_in_a_value_is_named_and_left_alone(world: RiggedWorld) -> None:
    """SAFE-2: a view with a value that cannot be read raises BadData with its key."""
    actor, other, _ = spoiled(world)
    newer = b"2" + store_of(actor).contents["db:value:tests:g:a"][0][1:]
    for rubbish in (newer, *RUBBISH[1:]):
        store_of(actor).put("db:value:tests:g:a", rubbish)
        with pytest.raises(BadData, match="db:value:tests:g:a"):
            other.members("g")
        assert store_of(actor).contents["db:value:tests:g:a"][0] == rubbish


def test_rubbish_ends_no_session(world: RiggedWorld) -> None:
    """SAFE-2: rubbish in a seat or roster loses that alone; the session and all else that it holds go on."""
    actor, other, seat = spoiled(world)
    actor.join("h")
    other.join("h")
    kept = actor.win("f")
    actor.beat()
    other.members("g")
    for key in ("db:seat:tests:e", "db:roster:tests:g", "db:groups:tests", "db:session:tests:b"):
        store_of(actor).put(key, b"rubbish")
    assert set(actor.beat().lost) == {seat, Membership("g", actor.places["g"])}
    world.pass_time(2, actor)
    assert actor.proclaim(kept, b"still")
    assert store_of(actor).contents["db:groups:tests"][0] == b"rubbish"


# Requests ---------------------------------------------------------------------------------------------------


def test_a_heartbeat_is_one_request(world: RiggedWorld) -> None:
    """BEAT-6: with nothing or with fifty groups and fifty seats, a heartbeat is one swap_and_read."""
    actor, other = world.actor("a"), world.actor("b")
    requests = store_of(actor).requests
    for held in (0, 50):
        for number in range(held):
            actor.join(f"g{number}")
            other.join(f"g{number}")
            actor.win(f"e{number}")
        actor.beat()
        requests.clear()
        actor.beat()
        assert dict(requests) == {"swap_and_read": 1}


def test_a_view_is_two_requests(world: RiggedWorld) -> None:
    """A view takes two reads, with one or with fifty members."""
    reader = world.actor("reader")
    for size in (1, 50):
        for number in range(size):
            world.actor(f"member-{size}-{number}").join(f"g{size}")
        store_of(reader).requests.clear()
        assert len(reader.members(f"g{size}")) == size
        assert dict(store_of(reader).requests) == {"read_many": 2}


def test_waiting_is_one_request_and_winning_is_two(world: RiggedWorld) -> None:
    """A candidate that waits reads once for each look; a win is a read and a write."""
    one, two = world.actor("a"), world.actor("b")
    one.win("e")
    two.wait_for("e")
    requests = store_of(two).requests
    requests.clear()
    two.wait_for("e")
    assert dict(requests) == {"read_many": 1}
    one.resign(one.seats["e"])
    requests.clear()
    two.win("e")
    assert dict(requests) == {"read_many": 1, "compare_and_set": 1}


def test_interest_is_bounded(world: RiggedWorld) -> None:
    """A session that looks at ever new names observes the last of them, and the groups that it is in."""
    actor, other = world.actor("a"), world.actor("b")
    actor.join("mine")
    other.join("mine")
    for number in range(MAX_NAMES + 50):
        actor.members(f"g{number}")
        actor.leader(f"e{number}")
    actor.beat()
    store = store_of(actor)
    store.keys.clear()
    actor.beat()
    keys = store.keys
    assert len(keys) <= MAX_NAMES + 10
    assert {"db:roster:tests:mine", "db:session:tests:b"} <= set(keys)
    assert f"db:roster:tests:g{MAX_NAMES + 49}" in keys


# What is stored ---------------------------------------------------------------------------------------------


def test_keys_and_values_suit_narrow_stores(world: RiggedWorld) -> None:
    """GROUP-7: keys are printable ASCII of at most 200 characters without spaces, values ASCII without line breaks."""
    long = "é\u3000" * 20
    actor = Actor(world, long, backend=world.backend(namespace=long))
    actor.open()
    actor.join(long, bytes(range(256)))
    actor.win(long, b"\r\n")
    contents = store_of(actor).contents
    assert {key.split(":")[1] for key in contents} == {"birth", "session", "roster", "value", "groups", "seat"}
    for key, (value, _) in contents.items():
        assert len(key) <= 200
        assert all("!" <= character <= "~" for character in key)
        assert all(32 <= byte < 127 for byte in value)
        assert value[:1] == b"1"
        json.loads(value[1:])


def test_nothing_is_written_twice_with_the_same_bytes(tmp_path: Path) -> None:
    """A store may take a key's value for its version: no key returns to bytes that it held before."""
    world = RiggedWorld(tmp_path)
    one, two = world.actor("a"), world.actor("b")
    for _ in range(3):
        for actor in (one, two):
            actor.join("g", b"same")
            actor.update("g", b"other")
            actor.update("g", b"same")
            seat = actor.win("e", b"same")
            actor.proclaim(seat, b"other")
            actor.proclaim(seat, b"same")
            actor.resign(seat)
            actor.beat()
            actor.leave("g")
            one.groups()
    written = [*store_of(one).written, *store_of(two).written]
    assert len({key for key, _ in written}) == 8
    assert len(written) == len(set(written))


OWNER = {"member": "a", "incarnation": "i", "ttl": 10.0}
DOCUMENTS: dict[type[Record], dict[str, object]] = {
    Birth: {"epoch": "x", "longest_ttl": 60.0, "born": 1, "settled": True, "loss_mark": "x"},
    Session: {"incarnation": "i", "ttl": 10, "beat": 1, "state": "alive", "previous": "x"},
    SeatRecord: {"token": 1, "owner": OWNER, "attempt": 1, "value": "eA==", "proven": True, "changes": 1},
    Roster: {"members": [{**OWNER, "attempt": 1}], "listed": True, "changes": 1},
    MemberValue: {"incarnation": "i", "attempt": 1, "value": "eA==", "changes": 1},
    GroupIndex: {"groups": ["g"], "changes": 1},
}


@pytest.mark.parametrize("kind", DOCUMENTS, ids=lambda kind: kind.__name__)
def test_each_field_must_have_its_type(kind: type[Record]) -> None:
    """SAFE-2: a record is rubbish if one of its fields is missing, of another type, or out of range."""
    document = DOCUMENTS[kind]
    record = kind.decode("key", b"1" + json.dumps(document).encode())
    assert json.loads(record.encode()[1:]) == document
    for name, value in document.items():
        wrong: list[object] = [True, 7, "text", [7], {"text": 7}]
        wrong = [other for other in wrong if type(other) is not type(value)]
        wrong = [other for other in wrong if not (isinstance(value, float) and other == 7)]
        wrong += [0, -1.0, float("inf")] if name in {"ttl", "longest_ttl"} else []
        wrong += ["no such state"] if name == "state" else []
        wrong += ["no base64"] if name == "value" else []
        for other in wrong:
            stored = b"1" + json.dumps(document | {name: other}).encode()
            with pytest.raises(BadData, match="key: holds a"):
                kind.decode("key", stored)


def test_a_group_without_members_leaves_the_index(world: RiggedWorld) -> None:
    """Groups that are listed once after their last member left take no more room in the index."""
    actor = world.actor("a")
    for number in range(5):
        actor.join(f"g{number}")
        actor.leave(f"g{number}")
    actor.join("g")
    actor.groups()
    index = store_of(actor).contents["db:groups:tests"][0]
    assert json.loads(index[1:])["groups"] == ["g"]


def test_a_finished_group_leaves_no_values(world: RiggedWorld) -> None:
    """FAULT-7: what members leave behind, by leaving, closing or dying, is removed when the group is next read."""
    reader, leaving, closing, dying = (world.actor(name) for name in "abcd")
    for actor in (leaving, closing, dying):
        actor.join("g")
    reader.members("g")
    leaving.leave("g")
    closing.close()
    world.pass_time(1.25, reader)
    assert reader.members("g") == {}
    contents = store_of(reader).contents
    assert not [key for key in contents if key.startswith("db:value:")]
    assert json.loads(contents["db:roster:tests:g"][0][1:])["members"] == []


def test_sessions_are_asked_to_expire_and_nothing_else(world: RiggedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store may drop the records of sessions long after their end, and no others."""
    expiries: dict[str, set[float | None]] = {}
    actor = Actor(world, "a", backend=world.backend())
    store = store_of(actor)
    write = store.compare_and_set

    def compare_and_set(
        key: str, value: bytes, version: Hashable | None, *, expire: float | None = None, timeout: float
    ) -> Hashable | None:
        expiries.setdefault(key.split(":")[1], set()).add(expire)
        return write(key, value, version, expire=expire, timeout=timeout)

    monkeypatch.setattr(store, "compare_and_set", compare_and_set)
    actor.open()
    actor.join("g")
    actor.win("e")
    actor.beat()
    actor.close()
    sessions = expiries.pop("session")
    assert set().union(*expiries.values()) == {None}
    assert all(expire is not None and expire > 2 * world.ttl for expire in sessions)


# Subclasses -------------------------------------------------------------------------------------------------


def test_two_methods_are_all_that_a_subclass_must_give() -> None:
    """Reading and comparing is abstract; everything else has a default."""
    assert CompareAndSetBackend.__abstractmethods__ == {"read_many", "compare_and_set"}


def test_a_delete_that_is_not_provided_stores_nothing_of_the_value(tmp_path: Path) -> None:
    """Without `delete` an empty value takes its place, which counts as absent and may be written again."""
    (kind,) = (kind for kind in KINDS if kind.name == "example")
    world = World(kind, tmp_path)
    actor = world.actor("a")
    for value in (b"1", b"2"):
        actor.join("g", value)
        assert actor.members("g") == {"a": value}
        actor.leave("g")
        assert (tmp_path / "db:value:tests:g:a").read_bytes() == b""


def test_the_example_says_what_is_wrong_with_its_folder(tmp_path: Path) -> None:
    """The example refuses a folder that is missing, and waits no longer than it may for a lock."""
    (kind,) = (kind for kind in KINDS if kind.name == "example")
    missing = World(kind, tmp_path / "missing")
    with pytest.raises(ConfigurationError, match="missing is no folder; make it first"):
        missing.actor("a")
    world = World(kind, tmp_path)
    actor = world.actor("a")
    with (tmp_path / "lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match=r"lock is locked \(nothing was changed"):
            actor.backend.close_session(actor.lease, timeout=0.02)
    assert actor.close()


def test_the_profile_adds_what_the_store_can_do(world: RiggedWorld, volatile: RiggedWorld) -> None:
    """Tokens and reaping come with the class; the bound of eviction leaves room for two heartbeats and one TTL."""
    profile, other = world.profile(), volatile.profile()
    brought = {Capability.REAPING, Capability.TOKENS_SURVIVE_RESTART, Capability.TOKENS_SURVIVE_DATA_LOSS}
    assert set(profile.capabilities) == brought
    assert set(other.capabilities) == brought | {Capability.VOLATILE}
    assert profile.eviction.factor > 0.25 + 1.001 + 0.25
    assert profile.failover.seconds(10.0) < profile.eviction.seconds(10.0)


def test_a_session_of_another_object_is_unknown(world: RiggedWorld) -> None:
    """A lease that this backend object did not open, or has dropped, is lost; nothing is sent for it."""
    actor, other = world.actor("a"), world.actor("b")
    store_of(other).requests.clear()
    with pytest.raises(SessionLost, match="let go by this process"):
        other.backend.heartbeat(actor.lease, Holdings(), timeout=TIMEOUT)
    assert dict(store_of(other).requests) == {}
    assert actor.beat().lost == ()
