"""Leases live while they are renewed, and no longer: as each hook must keep it."""

from __future__ import annotations

import os
import signal
import warnings
from contextlib import suppress
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Final

import pytest

from drumbeat import ConfigurationError, Conflict, SessionLost, State, Vacant
from drumbeat.hookspecs import (
    Candidacy,
    Capability,
    Holdings,
    Lease,
    Membership,
    ReapTicket,
    Seat,
    Waiting,
)
from drumbeat_conformance.actor import TIMEOUT, Actor, leader_id
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lapse import long_ttl, see_group_end
from drumbeat_conformance.guarantees._lasting import lasting_actor

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat_conformance.arena import Arena

#: How often a busy machine may be too late for a look that must come before a TTL has passed.
_LOOKS: Final = 6


@guarantee("BEAT-1")
def a_session_that_beats_lives_on(arena: Arena) -> None:
    """A session that keeps beating stays alive for many TTLs, the same incarnation with all that it holds."""
    actor, other, session = arena.actor("a"), arena.actor("b"), arena.connect("c")
    actor.join("g")
    seat = actor.win("e")
    session.group("g").join()
    incarnation = session.incarnation
    for _ in range(5):
        arena.pass_time(1, actor, other)
        assert {"a", "c"} == set(other.members("g"))
        assert seat.token == getattr(other.leader("e"), "token", None)
        assert session.state is State.CONNECTED
    assert actor.beat().lost == ()
    assert incarnation == session.incarnation


@guarantee("BEAT-2")
def a_silent_session_is_gone_within_the_bound(arena: Arena) -> None:
    """A session that stops beating is gone for every session that was there, within the stated bound."""
    silent, reader, beater = arena.actor("a"), arena.actor("b"), arena.actor("c")
    silent.join("g")
    silent.win("e")
    assert {"a"} == set(reader.members("g"))
    assert leader_id(reader.leader("e")) == "a"
    beater.join("g")
    beater.beat()
    silent.beat()
    last = arena.clock.now()
    bound = arena.profile.eviction.seconds(arena.ttl)
    while arena.clock.now() < last + bound - arena.ttl / 4:
        arena.pass_time(0.25, reader, beater)
    arena.wait(max(0.0, last + bound - arena.clock.now()))
    assert {"c"} == set(reader.members("g"))
    assert {"c"} == set(beater.members("g"))
    assert reader.leader("e") == Vacant()
    with pytest.raises(SessionLost):
        silent.beat()


@guarantee("BEAT-3")
def nobody_is_dead_before_its_ttl(arena: Arena) -> None:
    """Until a TTL has passed since its last heartbeat was sent, a silent session is seen alive and may beat again."""
    in_time = 0
    for number in range(_LOOKS):
        in_time += _is_alive_just_before_its_ttl(arena, str(number))
        if in_time == 2:
            return
    raise AssertionError(f"only {in_time} of {_LOOKS} looks came in time, on a machine that is too busy to tell")


def _is_alive_just_before_its_ttl(arena: Arena, number: str) -> bool:
    """Look before the TTL of a silent session has passed; return whether that was in time, and so a proof."""
    silent, other = arena.actor(f"a{number}"), arena.actor(f"b{number}")
    group, election = f"g{number}", f"e{number}"
    silent.join(group)
    seat = silent.win(election)
    sent = arena.clock.now()
    silent.beat()
    seen: object = "SessionLost"
    with suppress(SessionLost):
        arena.pass_time(0.7, other)
        seen = (set(other.members(group)), type(other.campaign(election)), leader_id(other.leader(election)))
        seen = (*seen, silent.beat().lost, silent.proclaim(seat, b"alive"))
    if arena.clock.now() - sent >= 0.99 * arena.ttl:
        return False
    assert ({silent.member_id}, Waiting, silent.member_id, (), True) == seen
    return True


@guarantee("BEAT-4")
def a_heartbeat_after_the_end_is_refused_and_creates_nothing(arena: Arena) -> None:
    """The heartbeat of a dead session is refused with SessionLost, as are its joins and campaigns, and no trace of the
    session comes back.
    """
    dead, other = arena.actor("a"), arena.actor("b")
    dead.join("g")
    dead.win("e")
    other.leader("e")
    see_group_end(arena, "g", by=other)
    for _ in range(2):
        with pytest.raises(SessionLost):
            dead.beat()
    with pytest.raises(SessionLost):
        dead.join("g")
    with pytest.raises(SessionLost):
        dead.campaign("e")
    assert other.members("g") == {}
    assert other.groups() == set()
    assert other.leader("e") == Vacant()
    arena.actor("a")


@guarantee("BEAT-5")
def a_lease_ends_after_its_ttl_and_in_time(arena: Arena) -> None:
    """A lease ends neither before the granted TTL (less the early expiry that the backend states) nor late, counted
    from its last heartbeat, however many came before and however shortly.
    """
    silent, other = arena.actor("a"), arena.actor("b")
    silent.join("g")
    arena.pass_time(1, silent, other)
    arena.wait(arena.ttl / 10)
    _see_it_last(arena, silent, other)


def _see_it_last(arena: Arena, silent: Actor, other: Actor) -> None:
    """Let a member of `g` beat for the last time, and fail if it is gone before its TTL or later than is stated."""
    ttl = silent.lease.ttl
    sent = arena.clock.now()
    silent.beat()
    answered = next_beat = asked = arena.clock.now()
    while other.members("g"):
        seen = asked
        if asked >= next_beat:
            other.beat()
            next_beat = asked + other.lease.ttl / 4
        arena.wait(ttl / 50)
        asked = arena.clock.now()
        assert seen - answered <= arena.profile.eviction.seconds(ttl), "a silent session lives on"
    lasted = arena.clock.now() - sent
    assert lasted >= 0.999 * ttl - arena.profile.limits.early_expiry, f"a lease of {ttl} s was over after {lasted} s"


@guarantee("BEAT-34")
def a_ttl_counts_to_the_fraction_also_of_one_that_reopens(arena: Arena) -> None:
    """A session whose TTL is no whole number of seconds, and another one than that of its incarnation before, lasts as
    long as it was granted.
    """
    silent, other = arena.actor("a"), arena.actor("b")
    ttl = ceil(max(1.0, arena.profile.limits.min_ttl)) + 0.5
    short = max(ttl - 0.5, arena.profile.limits.min_ttl)
    silent.open(replace(silent.request(supersedes=silent.lease.incarnation), ttl=short))
    granted = silent.open(replace(silent.request(supersedes=silent.lease.incarnation), ttl=ttl)).ttl
    assert ttl <= granted < ttl + 1
    silent.join("g")
    _see_it_last(arena, silent, other)


@guarantee("BEAT-35")
def the_limits_of_a_ttl_are_granted(arena: Arena) -> None:
    """The longest and the shortest TTL that a backend states are granted, and the longest lasts."""
    limits = arena.profile.limits
    longest, shortest = (Actor(arena, name, backend=arena.backend()) for name in ("longest", "shortest"))
    # The first session of a namespace may decide which TTL is the longest there.
    longest.open(replace(longest.request(), ttl=limits.max_ttl))
    assert shortest.open(replace(shortest.request(), ttl=limits.min_ttl)).ttl >= limits.min_ttl
    longest.join("g")
    assert longest.beat().lost == ()
    # No test waits for an hour where time is real.
    arena.wait(0.99 * longest.lease.ttl if arena.target.fake_time else arena.ttl)
    assert {"longest"} == set(arena.actor("late").members("g"))
    assert longest.beat().lost == ()
    assert longest.close()


@guarantee("BEAT-36")
def a_conflict_says_when_the_other_session_can_lapse(arena: Arena) -> None:
    """Who is refused a member id is told how long the other session has left of its own TTL, not of the asker's."""
    holder = lasting_actor(arena, "a")
    asker = Actor(arena, "a", backend=arena.backend())
    with pytest.raises(Conflict) as refusal:
        asker.open()
    assert refusal.value.retry_after is not None
    assert 0.8 * holder.lease.ttl <= refusal.value.retry_after <= 1.01 * holder.lease.ttl


@guarantee("BEAT-33")
def each_session_has_a_ttl_of_its_own(arena: Arena) -> None:
    """Sessions of one namespace last as long as they were each granted, whatever the others were."""
    before, short, after = lasting_actor(arena, "before"), arena.actor("short"), lasting_actor(arena, "after")
    for actor in (before, short, after):
        actor.join("g")
        actor.beat()
    watcher = arena.actor("watcher")
    until = arena.clock.now() + arena.profile.eviction.seconds(arena.ttl) + arena.ttl
    while "short" in watcher.members("g"):
        assert arena.clock.now() < until, "a session outlived its TTL beside others with longer ones"
        arena.pass_time(0.25, watcher)
    assert {"before", "after"} == set(watcher.members("g"))
    assert [before.beat().lost, after.beat().lost] == [(), ()]


@guarantee("BEAT-18")
def ending_a_session_frees_all_that_it_held(arena: Arena) -> None:
    """The hook ends memberships, seats and candidacies before it returns; a second call says that nothing was open."""
    actor, other = arena.actor("a"), arena.actor("b")
    for number in range(12):
        actor.join(f"g{number}")
        actor.win(f"e{number}")
    seat = actor.win("e")
    other.wait_for("e")
    assert actor.close()
    assert not actor.close()
    assert other.groups() == set()
    assert {Vacant()} == {other.leader(f"e{number}") for number in range(12)}
    assert other.win("e").token > seat.token
    arena.actor("a")


@guarantee("BEAT-9", level="should", claim=Capability.REAPING)
def reaping_ends_one_incarnation_and_no_other(arena: Arena) -> None:
    """Reaping another process's session frees all that this incarnation held, at once, and no later incarnation."""
    actor, other, bystander = arena.actor("a"), arena.actor("b"), arena.actor("c")
    actor.join("g")
    actor.win("e")
    bystander.join("g")
    ticket = ReapTicket(actor.lease.incarnation, "a")
    assert other.backend.reap_session(ticket, timeout=TIMEOUT).was_open
    assert {"c"} == set(other.members("g"))
    assert other.leader("e") == Vacant()
    with pytest.raises(SessionLost):
        actor.beat()
    reborn = arena.actor("a")
    reborn.join("g")
    assert not other.backend.reap_session(ticket, timeout=TIMEOUT).was_open
    assert reborn.beat().lost == ()
    assert {"a", "c"} == set(other.members("g"))


@guarantee("BEAT-12")
def a_lease_is_granted_as_it_was_asked_for(arena: Arena) -> None:
    """A lease names the incarnation and the member that were asked for, and their TTL where the server can grant it: at
    the opening, when a session reopens, and in the answer to each heartbeat.
    """
    actor = Actor(arena, "a", backend=arena.backend())
    for _ in range(2):
        request = actor.request(supersedes=actor.lease.incarnation or None)
        wanted = Lease(request.incarnation, "a", arena.ttl)
        assert wanted == actor.open(request)
        assert wanted == actor.beat().lease


@guarantee("BEAT-13")
def an_opening_repeated_is_the_same_session_renewed(arena: Arena) -> None:
    """A repeated request to open, as after a lost answer, gives the same session, whose TTL counts from then on; also
    one that replaced or superseded another.
    """
    watcher, actor = arena.actor("watcher"), arena.actor("a")
    request = actor.request(supersedes=actor.lease.incarnation, replace=True)
    actor.open(request)
    actor.join("g")
    assert {"a"} == set(watcher.members("g"))
    arena.pass_time(0.6, watcher)
    assert actor.lease == actor.backend.open_session(request, timeout=TIMEOUT)
    arena.pass_time(0.6, watcher)
    assert {"a"} == set(watcher.members("g"))
    assert actor.beat().lost == ()


@guarantee("BEAT-14")
def supersedes_ends_the_own_earlier_incarnation_at_once(arena: Arena) -> None:
    """A session that reopens does not wait for its own old lease, whose seats and memberships are gone at once; what is
    still sent for the old one changes nothing of the new.
    """
    actor, other = arena.actor("a"), arena.actor("other")
    actor.join("g")
    seat = actor.win("e")
    old = actor.lease
    actor.open(actor.request(supersedes=old.incarnation))
    assert other.members("g") == {}
    assert other.win("e").token > seat.token
    with pytest.raises(SessionLost):
        actor.backend.heartbeat(old, Holdings(), timeout=TIMEOUT)
    actor.join("g")
    assert not actor.backend.leave_group(old, "g", timeout=TIMEOUT).was_member
    assert not actor.backend.close_session(old, timeout=TIMEOUT).was_open
    assert {"a"} == set(other.members("g"))
    assert actor.beat().lost == ()


@guarantee("BEAT-15")
def a_ttl_outside_the_limits_is_refused_with_the_numbers(arena: Arena) -> None:
    """A TTL that the server cannot grant is a ConfigurationError that names the limit, opens nothing, and ends nothing
    of what the session was to supersede or to replace.
    """
    limits = arena.profile.limits
    actor = arena.actor("a")
    actor.join("g")
    old = actor.lease.incarnation
    for ttl, limit in ((limits.min_ttl / 2, limits.min_ttl), (limits.max_ttl * 2, limits.max_ttl)):
        wishes = (
            replace(actor.request(), member_id="b"),
            actor.request(supersedes=old),
            actor.request(replace=True),
        )
        for wish in wishes:
            with pytest.raises(ConfigurationError, match=f"{limit:g}"):
                arena.backend().open_session(replace(wish, ttl=ttl), timeout=TIMEOUT)
    assert {"a"} == set(arena.actor("b").members("g"))
    assert actor.beat().lost == ()


@guarantee("BEAT-17")
def a_dead_session_can_do_nothing(arena: Arena) -> None:
    """A session that is gone neither joins nor campaigns, and what else it asks for changes nothing."""
    dead, other = arena.actor("a"), arena.actor("b")
    dead.join("g")
    seat = dead.win("e")
    dead.close()
    with pytest.raises(SessionLost):
        dead.join("g")
    with pytest.raises(SessionLost):
        dead.campaign("f")
    assert not dead.update("g", b"ghost")
    assert not dead.leave("g")
    assert not dead.proclaim(seat, b"ghost")
    assert not dead.resign(seat)
    assert not dead.withdraw("e", seat.attempt)
    assert other.members("g") == {}
    assert (other.leader("e"), other.leader("f")) == (Vacant(), Vacant())


@guarantee("BEAT-20")
def close_of_a_candidate_takes_it_out_of_the_way(arena: Arena) -> None:
    """A candidate that closed its session never wins, and nobody waits for it."""
    leader, gone, other = arena.actor("a"), arena.actor("b"), arena.actor("c")
    seat = leader.win("e")
    gone.wait_for("e")
    other.wait_for("e")
    gone.close()
    leader.resign(seat)
    other.win("e")


@guarantee("BEAT-21", alone=True)
def a_forked_child_that_drops_the_session_ends_nothing(arena: Arena) -> None:
    """A forked child lets go of the session without ending it, and without freeing anything that it holds."""
    actor, other = arena.actor("a"), arena.actor("b")
    actor.join("g")
    seat = actor.win("e")
    code = _exit_code_of_child(lambda: actor.backend.drop_session(actor.lease, forked=True))
    assert code == 0, f"the child could not let go of the session: it ended with {code}"
    assert {"a"} == set(other.members("g"))
    assert leader_id(other.leader("e")) == "a"
    assert actor.beat().lost == ()
    assert actor.proclaim(seat, b"mine")


def _exit_code_of_child(act: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        # What newer Pythons warn of is what is tested: a child of a process with threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(int(TIMEOUT))
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@guarantee("BEAT-22")
def what_was_dropped_is_let_go_once(arena: Arena) -> None:
    """Dropping a session that is closed is harmless, and there is nothing left to let go of the second time."""
    actor = arena.actor("a")
    actor.close()
    actor.backend.drop_session(actor.lease)
    assert actor.backend.drop_session(actor.lease).was_open is False
    with pytest.raises(SessionLost):
        actor.beat()


@guarantee("BEAT-23")
def a_heartbeat_verifies_fifty_groups_and_fifty_seats(arena: Arena) -> None:
    """All holdings, however many, are verified together, and exactly those that are gone come back as lost; all groups
    are listed.
    """
    arena.ttl = long_ttl(arena)  # nobody beats here, and a hundred requests may take a while
    actor = arena.actor("a")
    for number in range(50):
        actor.join(f"g{number}")
        actor.win(f"e{number}")
    assert actor.beat().lost == ()
    assert actor.groups() == set(actor.places)
    gone = (actor.seats["e7"], Membership("g9", actor.places["g9"]))
    holdings = actor.holdings()
    actor.resign(actor.seats["e7"])
    actor.leave("g9")
    assert set(gone) == set(actor.backend.heartbeat(actor.lease, holdings, timeout=TIMEOUT).lost)
    assert actor.beat().lost == ()


@guarantee("BEAT-24")
def a_seat_with_a_newer_term_is_lost(arena: Arena) -> None:
    """A holder is told at its next heartbeat of a seat that has a newer term, also if that is its own session's."""
    actor = arena.actor("a")
    old = actor.win("e")
    actor.resign(old)
    new = actor.win("e")
    holdings = replace(actor.holdings(), seats=(old, new))
    assert actor.backend.heartbeat(actor.lease, holdings, timeout=TIMEOUT).lost == (old,)


@guarantee("BEAT-25")
def a_heartbeat_leaves_newer_attempts_alone(arena: Arena) -> None:
    """What was won or joined after the holdings of a heartbeat were listed is neither lost nor abandoned."""
    actor, other = arena.actor("a"), arena.actor("b")
    actor.join("g")
    before = actor.holdings()
    actor.join("g", b"again")
    actor.win("e")
    assert actor.backend.heartbeat(actor.lease, before, timeout=TIMEOUT).lost == ()
    assert other.members("g") == {"a": b"again"}
    assert leader_id(other.leader("e")) == "a"
    assert actor.beat().lost == ()


@guarantee("BEAT-26")
def holdings_that_were_never_held_are_lost(arena: Arena) -> None:
    """A heartbeat creates none of what it is asked about: unknown seats and memberships come back as lost."""
    actor = arena.actor("a")
    invented = Holdings(
        memberships=(Membership("g", 1),),
        candidacies=(Candidacy("f", 2),),
        seats=(Seat("e", 3, 12345),),
        newest_attempt=3,
    )
    lost = actor.backend.heartbeat(actor.lease, invented, timeout=TIMEOUT).lost
    assert {Membership("g", 1), Seat("e", 3, 12345)} == set(lost)
    assert (actor.members("g"), actor.leader("e"), actor.leader("f")) == ({}, Vacant(), Vacant())
    assert actor.groups() == set()
