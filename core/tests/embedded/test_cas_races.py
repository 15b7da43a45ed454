"""Compare-and-set under rivals, lost answers and late writes, at every single write of an operation."""

from __future__ import annotations

from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Literal

import pytest
from rig import RiggedBackend, RiggedWorld, store_of

from drumbeat._errors import Conflict, SessionLost, Unavailable
from drumbeat.hookspecs import Holdings, LeaderRecord, ReapTicket, Vacant, Waiting, Won
from drumbeat_conformance.actor import TIMEOUT, Actor, leader_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from drumbeat.hookspecs import Seat


@pytest.fixture(autouse=True, params=[False, True], ids=["numbers", "values"])
def _versions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything here runs on a store with numbers for versions, and on one whose values are their own versions."""
    monkeypatch.setattr(RiggedBackend, "versions_are_values", request.param)


@pytest.fixture
def world(tmp_path: Path) -> RiggedWorld:
    """A fresh store that can be tampered with."""
    return RiggedWorld(tmp_path)


def worlds(folder: Path) -> Iterator[tuple[RiggedWorld, int]]:
    """Give a fresh store for each write that an operation may have, with the number of the write."""
    for number in count():
        yield RiggedWorld(folder), number


def pair(world: RiggedWorld) -> tuple[Actor, Actor]:
    """Return two sessions."""
    return world.actor("a"), world.actor("b")


def interrupted(store: RiggedBackend, number: int, rival: Callable[[], object]) -> Callable[[], bool]:
    """Let a rival act before one write; the function that is returned tells whether there was such a write."""
    acted: list[bool] = []

    def act() -> None:
        acted.append(True)
        rival()

    store.before_write(number, act)
    return lambda: bool(acted)


# Rivals -----------------------------------------------------------------------------------------------------


def test_two_candidates_never_both_win(tmp_path: Path) -> None:
    """LEAD-1: a candidate that is overtaken between its look and its write waits, and is told who has won."""
    for world, number in worlds(tmp_path):
        one, two = pair(world)
        happened = interrupted(store_of(one), number, partial(two.win, "e"))
        answer = one.campaign("e")
        if not happened():
            assert number == 1
            break
        assert isinstance(answer, Waiting)
        assert leader_id(answer.holder) == "b"
        assert one.leader("e") == answer.holder
        assert two.beat().lost == ()


def test_two_heirs_never_both_win(tmp_path: Path) -> None:
    """LEAD-1: of two candidates that see the same leader dead, one wins at whatever point the other cuts in."""
    for world, number in worlds(tmp_path):
        one, two = pair(world)
        world.actor("dead").win("e")
        one.wait_for("e")
        two.wait_for("e")
        world.pass_time(1.25, one, two)
        happened = interrupted(store_of(one), number, partial(two.campaign, "e"))
        answer = one.campaign("e")
        winners = [actor for actor in (one, two) if "e" in actor.seats]
        assert len(winners) == 1
        assert leader_id(one.leader("e")) == winners[0].member_id
        assert isinstance(answer, Won) == (winners == [one])
        if not happened():
            break


def test_a_leader_that_beats_in_the_last_moment_keeps_its_seat(world: RiggedWorld) -> None:
    """BEAT-3: a heartbeat that reaches the store before the mark of death does keeps session and seat."""
    leader, heir = pair(world)
    seat = leader.win("e")
    heir.wait_for("e")
    world.wait(1.01 * world.ttl)
    happened = interrupted(store_of(heir), 0, leader.beat)
    heir.wait_for("e")
    assert happened()
    assert leader.beat().lost == ()
    assert leader.proclaim(seat, b"alive")


def test_a_heartbeat_after_the_mark_of_death_is_refused(world: RiggedWorld) -> None:
    """BEAT-4: between the mark of death and the win of its successor a leader is told that it is lost."""
    leader, heir = pair(world)
    leader.win("e")
    heir.wait_for("e")
    world.wait(1.01 * world.ttl)
    told: list[str] = []

    def beat() -> None:
        with pytest.raises(SessionLost, match="silent for its TTL"):
            leader.beat()
        told.append("lost")

    store_of(heir).before_write(1, beat)
    heir.win("e")
    assert told == ["lost"]


def test_a_deposed_leader_never_writes_over_its_successor(tmp_path: Path) -> None:
    """LEAD-4: resign, proclaim and withdraw that were overtaken by the successor's win do nothing."""
    operations: dict[str, Callable[[Actor, Seat], bool]] = {
        "resign": lambda actor, seat: actor.resign(seat),
        "proclaim": lambda actor, seat: actor.proclaim(seat, b"ghost"),
        "withdraw": lambda actor, seat: actor.withdraw("e", seat.attempt),
    }
    for operation in operations.values():
        world = RiggedWorld(tmp_path)
        leader, heir = pair(world)
        seat = leader.win("e")

        def depose(leader: Actor = leader, heir: Actor = heir) -> None:
            heir.backend.reap_session(ReapTicket(leader.lease.incarnation, "a"), timeout=TIMEOUT)
            heir.win("e", b"mine")

        store_of(leader).before_write(0, depose)
        assert operation(leader, seat) is False
        found = heir.leader("e")
        assert isinstance(found, LeaderRecord)
        assert (found.token, found.value) == (heir.seats["e"].token, b"mine")
        assert heir.beat().lost == ()


def test_joins_that_cross_are_both_seen(tmp_path: Path) -> None:
    """GROUP-6: a join that is overtaken by another one, at any of its writes, loses neither."""
    for world, number in worlds(tmp_path):
        one, two = pair(world)
        happened = interrupted(store_of(one), number, partial(two.join, "g", b"2"))
        one.join("g", b"1")
        if not happened():
            break
        assert one.members("g") == {"a": b"1", "b": b"2"}
        assert one.groups() == {"g"}
        assert (one.beat().lost, two.beat().lost) == ((), ())


def test_a_join_that_lost_a_race_stores_its_value_once(world: RiggedWorld) -> None:
    """GROUP-6: what a join repeats after a lost race is the entry in the roster, not the value."""
    one, two = pair(world)
    two.join("other")
    two.join("g")
    store_of(one).requests.clear()
    store_of(one).before_write(1, partial(two.leave, "g"))
    one.join("g")
    assert store_of(one).requests["compare_and_set"] == 3


def test_a_value_of_a_member_that_comes_back_is_not_cleaned_away(world: RiggedWorld) -> None:
    """GROUP-9: a reader that removes a dead member leaves alone what its next incarnation has just stored."""
    dead, reader = pair(world)
    dead.join("g")
    dead.close()
    reborn = world.actor("a")
    assert broken(reborn, 1, "late", partial(reborn.join, "g", b"new"))
    assert reader.members("g") == {}
    assert "db:value:tests:g:a" in store_of(reader).contents
    reborn.join("g", b"new")
    assert reader.members("g") == {"a": b"new"}


def test_a_win_in_a_store_that_was_just_emptied_is_none(tmp_path: Path) -> None:
    """FAULT-2: a win that is written after a loss of all data, but decided before it, is not believed."""
    world = RiggedWorld(tmp_path, policy="wait")
    world.set_longest_ttl(world.ttl)
    world.say_of_losses("nothing was lost")
    one, two = pair(world)
    one.wait_for("e")
    world.pass_time(1.25, one, two)

    def win_and_wipe() -> None:
        two.win("f")
        world.wipe()

    one.win("e")
    store_of(one).before_write(0, win_and_wipe)
    with pytest.raises(SessionLost):
        one.campaign("f")


def test_a_join_that_crosses_a_leave_keeps_both_true(tmp_path: Path) -> None:
    """GROUP-1 and 2: a member that leaves while another joins is gone, and the other one is there."""
    for world, number in worlds(tmp_path):
        one, two = pair(world)
        two.join("g")
        happened = interrupted(store_of(one), number, partial(two.leave, "g"))
        one.join("g", b"1")
        if not happened():
            break
        assert two.members("g") == {"a": b"1"}


def test_a_leave_that_crosses_a_join_keeps_both_true(tmp_path: Path) -> None:
    """GROUP-1 and 2: the same the other way round, at every write of the leave."""
    for world, number in worlds(tmp_path):
        one, two = pair(world)
        one.join("g")
        happened = interrupted(store_of(one), number, partial(two.join, "g", b"2"))
        assert one.leave("g") is True
        if not happened():
            break
        assert one.members("g") == {"b": b"2"}


def test_a_join_that_crosses_the_removal_of_an_empty_group_is_listed(tmp_path: Path) -> None:
    """A group that is joined while somebody takes it off the index for being empty is listed afterwards."""
    for world, number in worlds(tmp_path):
        one, two = pair(world)
        one.join("g")
        one.leave("g")
        happened = interrupted(store_of(one), number, two.groups)
        one.join("g")
        assert two.groups() == {"g"}
        if not happened():
            break


def test_a_removal_of_an_empty_group_that_crosses_a_join_leaves_it_listed(tmp_path: Path) -> None:
    """The same the other way round: a join during the removal wins, at every write of it."""
    for world, number in worlds(tmp_path):
        one, two = pair(world)
        for group in ("g", "h"):
            one.join(group)
            one.leave(group)
        happened = interrupted(store_of(two), number, partial(one.join, "g"))
        two.groups()
        if not happened():
            break
        assert two.groups() == {"g"}
        assert one.groups() == {"g"}


def test_a_dead_member_is_cleaned_away_beside_joins(tmp_path: Path) -> None:
    """GROUP-1: a reader that removes a dead member from the roster loses no member that joins meanwhile."""
    for world, number in worlds(tmp_path):
        reader, joiner = pair(world)
        world.actor("dead").join("g")
        reader.members("g")
        world.pass_time(1.25, reader, joiner)
        happened = interrupted(store_of(reader), number, partial(joiner.join, "g"))
        reader.members("g")
        assert set(reader.members("g")) <= {"b"}
        if not happened():
            break
        assert set(reader.members("g")) == {"b"}


def test_an_update_that_crosses_a_leave_brings_nobody_back(tmp_path: Path) -> None:
    """GROUP-2: an update of another thread that is overtaken by the leave writes nothing."""
    for world, number in worlds(tmp_path):
        one, two = pair(world)
        one.join("g", b"1")
        happened = interrupted(store_of(one), number, partial(one.leave, "g"))
        updated = one.update("g", b"2")
        if not happened():
            break
        assert updated is False
        assert two.members("g") == {}


def test_two_sessions_that_open_at_once_share_one_birth(tmp_path: Path) -> None:
    """Sessions that find a store empty at the same moment agree on its birth record."""
    for world, number in worlds(tmp_path):
        one = Actor(world, "a", backend=world.backend())
        two = Actor(world, "b", backend=world.backend())
        happened = interrupted(store_of(one), number, two.open)
        one.open()
        if not happened():
            break
        assert (one.beat().lost, two.beat().lost) == ((), ())


def test_two_sessions_with_one_member_id_never_both_open(tmp_path: Path) -> None:
    """GROUP-5: of two sessions that open with one member id at the same moment the second is refused."""
    for world, number in worlds(tmp_path):
        one = Actor(world, "a", backend=world.backend())
        two = Actor(world, "a", backend=world.backend())
        happened = interrupted(store_of(one), number, two.open)
        if number < 2:
            with pytest.raises(Conflict):
                one.open()
            assert two.beat().lost == ()
        else:
            one.open()
        if not happened():
            break


def test_a_heartbeat_that_crosses_the_end_of_its_session_is_refused(world: RiggedWorld) -> None:
    """BEAT-4: a session that is reaped while its heartbeat is under way is told so by that heartbeat."""
    actor, reaper = pair(world)
    ticket = ReapTicket(actor.lease.incarnation, "a")
    store_of(actor).before_write(0, lambda: reaper.backend.reap_session(ticket, timeout=TIMEOUT))
    with pytest.raises(SessionLost):
        actor.beat()


def test_a_close_that_crosses_a_heartbeat_closes(world: RiggedWorld) -> None:
    """BEAT-7: a close on one thread and a heartbeat on another end in a closed session."""
    actor, other = pair(world)
    actor.win("e")
    store_of(actor).before_write(0, actor.beat)
    assert actor.close() is True
    assert other.leader("e") == Vacant()
    with pytest.raises(SessionLost):
        actor.beat()


# Lost answers and late writes -------------------------------------------------------------------------------

Fault = Literal["lost reply", "late", "refused"]
FAULTS: tuple[Fault, ...] = ("lost reply", "late", "refused")


def broken(actor: Actor, number: int, fault: Fault, operation: Callable[[], object]) -> bool:
    """Run an operation one of whose writes fails; return whether it has that many."""
    with store_of(actor).failing(number, fault):
        try:
            operation()
        except Unavailable as error:
            outcome = error.outcome
        else:
            return False
    # What was written before stays written; a refused first write has changed nothing.
    assert outcome == ("not_applied" if fault == "refused" and number == 0 else "unknown")
    return True


def arrive(actor: Actor) -> list[bool]:
    """Let the writes that are under way arrive; return which of them were applied."""
    store = store_of(actor)
    arrived = [write.arrive() for write in store.late]
    store.late.clear()
    return arrived


@pytest.mark.parametrize("fault", FAULTS)
def test_a_campaign_is_repeated_after_a_lost_answer(world: RiggedWorld, fault: Fault) -> None:
    """LEAD-9: repeated after a failure, a campaign wins one seat, and the store agrees about its token."""
    actor, other = pair(world)
    assert broken(actor, 0, fault, lambda: actor.campaign("e"))
    seat = actor.win("e")
    arrive(actor)
    found = other.leader("e")
    assert isinstance(found, LeaderRecord)
    assert found.token == seat.token
    assert actor.beat().lost == ()
    assert actor.resign(seat) is True
    other.win("e")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("withdraws", [True, False])
@pytest.mark.parametrize("used", [True, False])
def test_an_abandoned_campaign_leaves_nothing(world: RiggedWorld, fault: Fault, *, withdraws: bool, used: bool) -> None:
    """LEAD-10 and 15: after a withdrawal, or one heartbeat, nothing of a failed campaign is or becomes a term."""
    actor, other = pair(world)
    if used:
        other.resign(other.win("e"))
    assert broken(actor, 0, fault, lambda: actor.campaign("e"))
    attempt = actor.candidacies.pop("e")
    if withdraws:
        assert actor.withdraw("e", attempt) is (fault == "lost reply")
    else:
        actor.beat()
    assert not any(arrive(actor))
    assert other.leader("e") == Vacant()
    other.win("e")
    assert store_of(actor).requests["swap_and_read"] == (0 if withdraws else 1)


def test_a_write_that_arrives_between_heartbeats_is_undone(world: RiggedWorld) -> None:
    """LEAD-15: a win that is applied after its attempt was abandoned is freed by the next heartbeat."""
    actor, other = pair(world)
    assert broken(actor, 0, "late", lambda: actor.campaign("e"))
    actor.candidacies.clear()
    assert arrive(actor) == [True]
    assert leader_id(other.leader("e")) == "a"
    actor.beat()
    assert other.leader("e") == Vacant()


def test_a_wanted_win_that_arrives_late_is_found(world: RiggedWorld) -> None:
    """LEAD-9: a win that is applied late, for an attempt that is still wanted, is kept and told."""
    actor, other = pair(world)
    assert broken(actor, 0, "late", lambda: actor.campaign("e"))
    assert arrive(actor) == [True]
    actor.beat()
    seat = actor.win("e")
    assert getattr(other.leader("e"), "token", None) == seat.token


def test_a_join_is_repeated_after_a_lost_answer(tmp_path: Path) -> None:
    """FAULT-7: repeated after a failure of any of its writes, a join makes one member with the last value."""
    for fault in FAULTS:
        for world, number in worlds(tmp_path):
            actor, other = pair(world)
            failed = broken(actor, number, fault, partial(actor.join, "g", b"1"))
            actor.join("g", b"2")
            arrive(actor)
            assert other.members("g") == {"a": b"2"}
            assert actor.beat().lost == ()
            assert other.members("g") == {"a": b"2"}
            assert actor.leave("g") is True
            assert other.members("g") == {}
            if not failed:
                assert number == 3
                break


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("leaves", [True, False])
@pytest.mark.parametrize("used", [True, False])
def test_an_abandoned_join_leaves_nothing(tmp_path: Path, fault: Fault, *, leaves: bool, used: bool) -> None:
    """FAULT-7: after a leave, or one heartbeat, a failed join makes no member, now or later, and leaves no value."""
    for world, number in worlds(tmp_path):
        actor, other = pair(world)
        if used:
            other.join("g")
        writes = ("value", "roster") if used else ("groups", "value", "roster")
        failed = broken(actor, number, fault, partial(actor.join, "g"))
        if leaves:
            actor.leave("g")
        else:
            actor.places.clear()
            actor.beat()
        if not failed:
            assert number == len(writes)
            break
        late = store_of(actor).late[:]
        assert [write.key.split(":")[1] for write in late] == ([writes[number]] if fault == "late" else [])
        assert not any(arrived and writes[number] == "roster" for arrived in arrive(actor))
        assert set(other.members("g")) == ({"b"} if used else set())
        if not late or writes[number] == "roster":
            assert "db:value:tests:g:a" not in store_of(actor).contents


def test_a_leave_is_repeated_after_a_lost_answer(tmp_path: Path) -> None:
    """GROUP-2: repeated after a failure, a leave has ended the membership, and its value is gone."""
    for fault in FAULTS:
        world = RiggedWorld(tmp_path)
        actor, other = pair(world)
        actor.join("g")
        assert broken(actor, 0, fault, partial(actor.leave, "g"))
        actor.leave("g")
        arrive(actor)
        assert other.members("g") == {}
        assert not [key for key in store_of(actor).contents if key.startswith("db:value:")]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_heartbeat_is_repeated_after_a_lost_answer(world: RiggedWorld, fault: Fault) -> None:
    """FAULT-7: a heartbeat whose answer was lost costs nothing, whether it is applied at once, late or never."""
    actor, other = pair(world)
    seat = actor.win("e")
    for _ in range(3):
        assert broken(actor, 0, fault, actor.beat)
        assert actor.beat().lost == ()
        arrive(actor)
    assert actor.beat().lost == ()
    assert other.leader("e") == LeaderRecord(
        member_id="a", incarnation=actor.lease.incarnation, token=seat.token, value=b""
    )


@pytest.mark.parametrize("fault", FAULTS)
def test_an_opening_is_repeated_after_a_lost_answer(tmp_path: Path, fault: Fault) -> None:
    """A session whose opening failed at any of its writes opens when the same request is repeated."""
    for world, number in worlds(tmp_path):
        actor = Actor(world, "a", backend=world.backend())
        request = actor.request()
        failed = broken(actor, number, fault, partial(actor.open, request))
        actor.open(request)
        arrive(actor)
        actor.win("e")
        assert actor.beat().lost == ()
        if not failed:
            assert number == 2
            break


@pytest.mark.parametrize("fault", FAULTS)
def test_closing_is_repeated_after_a_lost_answer(world: RiggedWorld, fault: Fault) -> None:
    """BEAT-7: a close that is repeated has closed, and nothing that arrives later opens the session again."""
    actor, other = pair(world)
    actor.win("e")
    assert broken(actor, 0, fault, actor.close)
    assert actor.close() is (fault != "lost reply")
    assert not any(arrive(actor))
    assert other.leader("e") == Vacant()
    with pytest.raises(SessionLost):
        actor.beat()


@pytest.mark.parametrize("fault", FAULTS)
def test_resign_and_proclaim_are_repeated_after_a_lost_answer(world: RiggedWorld, fault: Fault) -> None:
    """LEAD-4: a proclaim or resign that is repeated has its effect once, and none on the next term."""
    actor, other = pair(world)
    seat = actor.win("e")
    assert broken(actor, 0, fault, lambda: actor.proclaim(seat, b"2"))
    assert actor.proclaim(seat, b"2") is True
    arrive(actor)
    assert getattr(other.leader("e"), "value", None) == b"2"
    assert broken(actor, 0, fault, lambda: actor.resign(seat))
    assert actor.resign(seat) is (fault != "lost reply")
    successor = other.win("e")
    assert not any(arrive(actor))
    assert getattr(other.leader("e"), "token", None) == successor.token


def test_a_mark_of_death_that_arrives_late_kills_nobody(world: RiggedWorld) -> None:
    """BEAT-3: a mark of death that is under way while its session beats again has no effect."""
    leader, heir = pair(world)
    leader.win("e")
    heir.wait_for("e")
    world.wait(1.01 * world.ttl)
    assert broken(heir, 0, "late", lambda: heir.campaign("e"))
    leader.beat()
    assert arrive(heir) == [False]
    assert leader.beat().lost == ()


def test_reading_fails_without_having_changed_anything(world: RiggedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that fails says "not applied", unless the call has written before."""
    actor, _ = pair(world)

    def fail(*_arguments: object, **_options: object) -> None:
        raise Unavailable("no answer")

    monkeypatch.setattr(store_of(actor), "read_many", fail)
    for operation in (lambda: actor.join("g"), lambda: actor.campaign("e"), lambda: actor.members("g"), actor.close):
        with pytest.raises(Unavailable) as failure:
            operation()
        assert failure.value.outcome == "not_applied"
    with pytest.raises(Unavailable) as failure:
        actor.beat()
    assert failure.value.outcome == "unknown"


def test_an_endless_race_ends_with_the_timeout(world: RiggedWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that loses every race gives up in time, and says that nothing was changed."""
    actor, _ = pair(world)
    monkeypatch.setattr(store_of(actor), "compare_and_set", lambda *_arguments, **_options: None)
    with pytest.raises(Unavailable, match=r"no result within 0\.2 s, after [0-9]+ lost races") as failure:
        actor.backend.campaign(actor.lease, "e", attempt=1, value=b"", timeout=0.2)
    assert failure.value.outcome == "not_applied"
    with pytest.raises(Unavailable, match="no result within"):
        actor.backend.heartbeat(actor.lease, Holdings(), timeout=0.0)
