"""What comes before what: the order of losing and telling, of looking and watching, and what falls in between."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, final

import pytest

import drumbeat
from drumbeat import State, Unavailable
from drumbeat.hookspecs import Capability, hookimpl
from drumbeat.testing import Faults, lose
from drumbeat_conformance.actor import TIMEOUT
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._witnesses import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from drumbeat import Group, GroupWatch, Term
    from drumbeat_conformance.arena import Arena


@final
class _Between:
    """An interceptor that does something once: right after a view was read, or before something is sent."""

    def __init__(self) -> None:
        self.before_a_join: list[Callable[[], object]] = []
        self.before_a_heartbeat: list[Callable[[], object]] = []
        self.after_a_look: list[Callable[[], object]] = []
        self.before_a_release: list[Callable[[], object]] = []

    @hookimpl(wrapper=True)
    def read_group(self) -> Generator[None, object, object]:
        """Act when the server has answered, and the session does not know it yet."""
        answer = yield
        while self.after_a_look:
            self.after_a_look.pop()()
        return answer

    @hookimpl(wrapper=True)
    def join_group(self) -> Generator[None, object, object]:
        """Act when the session has listed what it wants, and nothing is sent."""
        while self.before_a_join:
            self.before_a_join.pop()()
        return (yield)

    @hookimpl(wrapper=True)
    def heartbeat(self) -> Generator[None, object, object]:
        """Act when the session has read the clock, and nothing is sent."""
        while self.before_a_heartbeat:
            self.before_a_heartbeat.pop()()
        return (yield)

    @hookimpl(wrapper=True)
    def resign(self) -> Generator[None, object, object]:
        """Act before anything is sent."""
        while self.before_a_release:
            self.before_a_release.pop()()
        return (yield)

    @hookimpl(wrapper=True)
    def close_session(self) -> Generator[None, object, object]:
        """Act before anything is sent."""
        while self.before_a_release:
            self.before_a_release.pop()()
        return (yield)


@guarantee("BEAT-31")
def a_heartbeat_that_crosses_a_join_of_a_member_takes_nothing(arena: Arena) -> None:
    """A heartbeat that is sent while a member joins again leaves its membership alone, whichever of the two comes
    first, and also if the join fails then.
    """
    between, faults = _Between(), Faults(arena.clock)
    session = arena.connect("one", interceptors=[between, faults], heartbeat="manual", lease_ttl=LONG)
    group = session.group("g")
    group.join({"n": 1})
    seen: list[tuple[str, ...]] = []

    def beat() -> None:
        session.beat()
        seen.append(group.members().ids)

    between.before_a_join.append(beat)
    with faults.failing("join_group"), pytest.raises(Unavailable):
        group.join({"n": 2})
    between.before_a_join.append(beat)
    group.join({"n": 3})
    beat()
    assert seen == [("one",)] * 3
    assert [member.metadata for member in group.members()] == [{"n": 3}]


@guarantee("BEAT-32")
def an_answer_that_comes_late_takes_no_time_back(arena: Arena) -> None:
    """The answer to a heartbeat, coming after that to a later one, leaves the lease as the later one has made it."""
    between = _Between()
    session = arena.connect("one", interceptors=[between], heartbeat="manual", lease_ttl=LONG)
    term = session.election("e").campaign()
    deadlines: list[float] = []

    def overtake() -> None:
        arena.wait(arena.ttl / 4)
        session.beat()
        deadlines.append(term.deadline)

    between.before_a_heartbeat.append(overtake)
    session.beat()
    assert deadlines == [term.deadline]


@guarantee("LEAD-39")
def a_seat_that_vanished_is_told_once(arena: Arena) -> None:
    """The holder of a seat that has vanished from the store is told by `on_lost` once, by a term that is over then."""
    session = arena.connect("one", heartbeat="manual", lease_ttl=LONG)
    told: list[tuple[Term, bool]] = []
    term = session.election("e").campaign(on_lost=lambda term: told.append((term, term.held)))
    keeper = session._keeper  # noqa: SLF001 - the store is changed behind the session's back
    assert keeper.incarnation is not None
    keeper.backend.resign(keeper.incarnation.lease, term._seat, timeout=TIMEOUT)  # noqa: SLF001 - as above
    for _ in range(3):
        session.beat()
    session.close()
    assert [(term, False)] == told


@guarantee("LEAD-40")
def a_term_is_over_before_its_release_is_sent(arena: Arena) -> None:
    """A term says that it is over before the first byte of its resign, or of its session's close, is sent."""
    between = _Between()
    session = arena.connect("one", interceptors=[between])
    seen: list[bool] = []
    for release in (drumbeat.Term.resign, lambda _: session.close()):
        term = session.election("e").campaign()
        between.before_a_release.append(lambda term=term: seen.append(term.held))  # type: ignore[misc]
        release(term)
    assert seen == [False, False]


@guarantee("LEAD-41")
def a_term_leaves_room_for_clocks_that_drift(arena: Arena) -> None:
    """A term is over a twentieth of the TTL, and at least 50 ms, before the server may end it: the clocks of two
    machines do not run alike, and a check takes a moment to be acted on.
    """
    session = arena.connect("one", heartbeat="manual")
    term = session.election("e").campaign()
    session.beat()
    ttl, early = session.lease_ttl, arena.profile.limits.early_expiry
    assert term.deadline <= arena.clock.now() + 0.999 * ttl - early - max(0.05, ttl / 20)


@guarantee("LEAD-42")
def a_jump_of_the_wall_clock_makes_a_session_ask(arena: Arena) -> None:
    """After a jump of wall time against the session's own clock, as when a machine's snapshot is restored, a term asks
    the server before it says that it is held.
    """
    faults = Faults(arena.clock)
    session = arena.connect("one", interceptors=[faults], heartbeat="manual", lease_ttl=LONG)
    term = session.election("e").campaign()
    wall, jump = arena.clock.wall, LONG
    arena.clock.wall = lambda: wall() + jump  # type: ignore[method-assign]
    before = faults.calls["heartbeat"]
    assert term.held
    assert before + 1 == faults.calls["heartbeat"]
    assert term.held
    assert before + 1 == faults.calls["heartbeat"]
    jump = -LONG
    with faults.failing():
        assert not term.held
    assert term.held


@guarantee("WATCH-15")
def a_change_that_crosses_a_look_is_told(arena: Arena) -> None:
    """A change that comes right after a look, before its view is with the user, is told by the next item."""
    between = _Between()
    watcher, other = arena.connect("watcher", interceptors=[between]), arena.connect("other")
    with watcher.group("g").watch() as changes:
        between.after_a_look.append(other.group("g").join)
        first = arena.run(partial(changes.next, 10 * arena.ttl), within=11 * arena.ttl)
        assert first.view.ids == ()
        second = arena.run(partial(changes.next, 10 * arena.ttl), within=11 * arena.ttl)
        assert [member.member_id for member in second.joined] == ["other"]


@guarantee("WATCH-16", level="should", claim=Capability.PUSH_WATCH)
def a_reopened_session_is_pushed_to(arena: Arena) -> None:
    """After a session was lost and opened again, changes reach its watches by push as before."""
    watcher, other = arena.connect("watcher", lease_ttl=LONG), arena.connect("other", lease_ttl=LONG)
    with watcher.group("g").watch() as changes:
        assert arena.run(partial(changes.next, LONG), within=LONG).view.ids == ()
        before = watcher.incarnation
        lose(watcher)
        arena.eventually(
            lambda: watcher.state is State.CONNECTED and watcher.incarnation != before, within=10 * arena.ttl
        )
        delays = _delays(arena, changes, other.group("g"))
    assert min(delays) < watcher.backend.limits.poll_interval / 2, f"seen after {delays} s"


def _delays(arena: Arena, changes: GroupWatch, group: Group) -> list[float]:
    """Return the seconds from each of some changes to its look."""
    delays: list[float] = []
    for number in range(5):
        waiting = arena.background(partial(changes.next, LONG))
        arena.wait(arena.ttl / 20)
        sent = arena.clock.now()
        group.join({"n": number})
        waiting.result(within=3 * arena.profile.limits.poll_interval + arena.ttl)
        delays.append(arena.clock.now() - sent)
    return delays


@guarantee("WATCH-17", level="should", claim=Capability.PUSH_WATCH)
def a_change_that_crosses_a_look_is_pushed(arena: Arena) -> None:
    """A change that comes right after a look which found nothing new is pushed, not found by the next polling."""
    between = _Between()
    watcher = arena.connect("watcher", lease_ttl=LONG, interceptors=[between])
    other = arena.connect("other", lease_ttl=LONG).group("g")
    poll = watcher.backend.limits.poll_interval
    delays: list[float] = []
    with watcher.group("g").watch() as changes:
        arena.run(partial(changes.next, LONG), within=LONG)
        for number in range(5):
            joined: list[float] = []

            def join(number: int = number, joined: list[float] = joined) -> None:
                other.join({"n": number})
                joined.append(arena.clock.now())

            between.after_a_look.append(join)
            arena.run(partial(changes.next, LONG), within=3 * poll + arena.ttl)
            delays.append(arena.clock.now() - joined[0])
    assert min(delays) < poll / 2, f"seen after {delays} s, and polled every {poll:g} s"
