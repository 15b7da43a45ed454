"""Who watches sees what is: all of it in the end, and soon where it is pushed."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

import drumbeat
from drumbeat import SessionLost, State, Vacant
from drumbeat.hookspecs import CandidacySubject, Capability, GroupSubject, LeaderSubject, ReapTicket, hookimpl
from drumbeat.testing import Faults, freeze
from drumbeat_conformance.actor import TIMEOUT, Actor
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lapse import long_ttl
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.guarantees._witnesses import LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drumbeat import Event, GroupWatch, Member, Session, View
    from drumbeat._streams import Stream
    from drumbeat.hookspecs import Subject
    from drumbeat_conformance.arena import Arena

T = TypeVar("T")

#: More changes than a queue holds that is short, and that nobody empties.
_MANY: Final = 25


def _next(arena: Arena, stream: Stream[T]) -> T:
    """Return the next item, or fail if none comes or the stream ends."""
    try:
        return arena.run(partial(stream.next, 8 * arena.ttl), within=10 * arena.ttl)
    except (drumbeat.Timeout, drumbeat.Closed) as error:
        raise AssertionError(f"the watch gave no next item: {error}") from error


class _Hints:
    """Counts hints, which may come late, on any thread, and more often than needed."""

    def __init__(self, arena: Arena, actor: Actor, subject: Subject) -> None:
        self.count = 0
        self._arena = arena
        self.cancel = actor.backend.watch(actor.lease, subject, self._hint, timeout=TIMEOUT)

    def wait_for_one_after(self, count: int, what: str) -> None:
        """Fail unless there are more hints than `count` within the time that a push may take."""
        until = self._arena.clock.now() + TIMEOUT
        while self.count == count:
            assert self._arena.clock.now() < until, f"no hint was given of {what}"
            self._arena.wait(0.002)

    def _hint(self) -> None:
        self.count += 1


# Groups, as sessions see them -------------------------------------------------------------------------------


@guarantee("WATCH-1")
def the_first_item_is_the_whole_view(arena: Arena) -> None:
    """The first item of a watch carries everybody, also where there is nobody; later ones carry what changed, though
    several changes may come as one.
    """
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", lease_ttl=LONG)
    with two.group("g").watch() as empty:
        assert _next(arena, empty) == drumbeat.Change(view=drumbeat.View("g"))
    one.group("g").join({"n": 1})
    with two.group("g").watch() as changes:
        first = _next(arena, changes)
        assert [member.member_id for member in first.joined] == ["one"]
        assert first.view == two.group("g").members()
        for metadata in ({"n": 2}, {}):
            one.group("g").update(metadata)
            assert [member.metadata for member in _next(arena, changes).updated] == [metadata]
        one.group("g").leave()
        assert [member.member_id for member in _next(arena, changes).left] == ["one"]


def _act_at_random(arena: Arena, session: Session, number: int) -> None:
    group = session.group("g")
    act = arena.draw.choice(["join", "leave", "update"])
    if act == "leave":
        group.leave()
    elif act == "join":
        group.join({"n": number})
    else:
        group.update({"n": number})


@guarantee("WATCH-2")
def a_watched_view_converges_on_the_servers(arena: Arena) -> None:
    """After any sequence of joins, leaves, updates, closes and deaths, the watched view equals the server's."""
    faults = Faults(arena.clock)
    watcher, dying = arena.connect("w"), arena.connect("dying", interceptors=[faults])
    sessions = [arena.connect(f"m{number}") for number in range(3)]
    with watcher.group("g").watch() as changes:
        latest = _next(arena, changes).view
        for number in range(20):
            _act_at_random(arena, arena.draw.choice([dying, *sessions]), number)
        dying.group("g").join()
        sessions[0].group("g").join()
        with faults.failing():
            for number in range(20):
                _act_at_random(arena, arena.draw.choice(sessions), number)
            sessions[-1].close()
            arena.eventually(lambda: "dying" not in watcher.group("g").members(), within=8 * arena.ttl)
            sessions[0].group("g").join({"n": "back"})
            latest = _follow(arena, changes, latest, watcher.group("g").members())
            sessions[0].group("g").update({"n": "last"})
            _follow(arena, changes, latest, watcher.group("g").members())


def _follow(arena: Arena, changes: GroupWatch, latest: View, wanted: View) -> View:
    """Take changes until they have led to a view, and return it."""
    until = arena.clock.now() + 8 * arena.ttl
    while latest != wanted:
        assert arena.clock.now() < until, f"the watch stays at {latest}, the server has {wanted}"
        try:
            latest = arena.run(partial(changes.next, arena.ttl), within=3 * arena.ttl).view
        except drumbeat.Timeout:
            continue
    return latest


class _Complaining:
    """An observer that raises whatever it is told."""

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Raise."""
        raise RuntimeError(f"the observer does not like {event.kind} of {event.namespace}")


@contextmanager
def _log() -> Iterator[list[str]]:
    """Give what is logged in the block, by whomever."""
    texts: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: texts.append(f"{record.getMessage()} {record.exc_info}")  # type: ignore[method-assign]
    logger = logging.getLogger("drumbeat")
    logger.addHandler(handler)
    try:
        yield texts
    finally:
        logger.removeHandler(handler)


@guarantee("WATCH-3")
def a_callback_that_raises_stops_no_later_event(arena: Arena) -> None:
    """What a callback or an observer raises is logged, and stops neither other callbacks nor later events."""
    faults = Faults(arena.clock)
    seen: list[Event] = []
    states: list[State] = []
    told: list[object] = []
    purpose = f"on purpose in {arena.namespace()}"

    def fail(what: object) -> None:
        told.append(what)
        raise drumbeat.TermLost(purpose)

    with _log() as texts:
        session = arena.connect("one", interceptors=[faults], observers=[_Complaining(), _Witness(seen)])
        session.on_state(fail)
        session.on_state(states.append)
        terms = [session.election(name).campaign(on_lost=fail) for name in "ef"]
        with faults.failing():
            arena.eventually(lambda: State.LOST in states, within=3 * arena.ttl)
        arena.eventually(lambda: State.CONNECTED in states, within=10 * arena.ttl)
        session.close()
    assert all(term in told for term in terms)
    assert [state for state in told if isinstance(state, State)] == states
    assert states[:3] == [State.SUSPENDED, State.LOST, State.CONNECTED]
    assert {"lost", "term_lost", "closed"} <= {event.kind for event in seen}
    assert any(purpose in text for text in texts), "what a callback raised was not logged"


class _Witness:
    """An observer that keeps what it is told."""

    def __init__(self, seen: list[Event]) -> None:
        self._seen = seen

    @hookimpl
    def on_event(self, event: Event) -> None:
        """Keep an event."""
        self._seen.append(event)


@guarantee("WATCH-10")
def observers_of_an_election_see_who_leads(arena: Arena) -> None:
    """`observe()` starts with who leads now, or `Vacant()`, and then gives every change: a win, a new value, an end."""
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", lease_ttl=LONG)
    with two.election("e").observe() as leaders:
        assert _next(arena, leaders) == Vacant()
        term = one.election("e").campaign("first")
        seen = _next(arena, leaders)
        assert isinstance(seen, drumbeat.Leader)
        assert (seen.member_id, seen.token, seen.value) == ("one", term.token, "first")
        term.proclaim("second")
        changed = _next(arena, leaders)
        assert isinstance(changed, drumbeat.Leader)
        assert (term.token, "second") == (changed.token, changed.value)
        term.resign()
        assert _next(arena, leaders) == Vacant()


@guarantee("WATCH-11")
def wait_for_returns_the_first_fitting_view(arena: Arena) -> None:
    """`wait_for` waits until the group is as wanted, which it may be already, or raises Timeout when time is over."""
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", lease_ttl=LONG)
    waiting = arena.background(lambda: one.group("g").wait_for(lambda view: "two" in view, timeout=20 * arena.ttl))
    arena.wait(arena.ttl / 10)
    assert waiting.running
    two.group("g").join()
    assert waiting.result(within=10 * arena.ttl).ids == ("two",)
    already = arena.background(lambda: one.group("g").wait_for(lambda view: len(view) == 1, timeout=10 * arena.ttl))
    assert already.result(within=2 * arena.ttl).ids == ("two",)
    started = arena.clock.now()
    late = arena.background(lambda: one.group("g").wait_for(lambda view: len(view) == 5, timeout=arena.ttl))
    with pytest.raises(drumbeat.Timeout):
        late.result(within=3 * arena.ttl)
    waited = arena.clock.now() - started
    assert arena.ttl <= waited < 1.8 * arena.ttl, f"a wait of {arena.ttl:g} s took {waited:g} s"


@guarantee("WATCH-12")
def a_watch_ends_with_its_session(arena: Arena) -> None:
    """Iterating a watch stops, without an error, when the watch or its session is closed, and wakes who waits for it
    in another thread.
    """
    session = arena.connect("a", lease_ttl=LONG)
    second = session.group("g").watch()
    by_session = arena.background(partial(_exhaust, second))
    delays = [_seconds_to_end(arena, session.group("g").watch()) for _ in range(4)]
    assert min(delays) < session.backend.limits.poll_interval / 2, f"a closed watch ended {delays} s later"
    assert by_session.running
    session.close()
    assert by_session.result(within=3 * arena.ttl) == "1 items"


def _seconds_to_end(arena: Arena, changes: GroupWatch) -> float:
    """Close a watch for which another thread waits; return how long that one went on."""

    def exhaust() -> tuple[str, float]:
        return _exhaust(changes), arena.clock.now()

    waiting = arena.background(exhaust)
    arena.wait(arena.ttl / 20)
    assert waiting.running
    asked = arena.clock.now()
    changes.close()
    found, ended = waiting.result(within=3 * arena.ttl)
    assert found == "1 items"
    return ended - asked


def _exhaust(changes: GroupWatch) -> str:
    try:
        return f"{len(list(changes))} items"
    except drumbeat.DrumbeatError as error:
        return repr(error)


@guarantee("WATCH-13")
def a_watch_outlives_a_lost_session(arena: Arena) -> None:
    """A watch waits out a LOST session, and then gives what has changed meanwhile and later."""
    faults = Faults(arena.clock)
    watcher, other = arena.connect("w", interceptors=[faults]), arena.connect("o")
    with watcher.group("g").watch() as changes:
        _next(arena, changes)
        with faults.failing():
            arena.eventually(lambda: watcher.state is State.LOST, within=3 * arena.ttl)
            other.group("g").join({"n": 1})
        assert [member.member_id for member in _next(arena, changes).joined] == ["o"]
        other.group("g").update({"n": 2})
        assert [member.metadata for member in _next(arena, changes).updated] == [{"n": 2}]


@guarantee("WATCH-14")
def a_quick_restart_shows_as_left_and_joined(arena: Arena) -> None:
    """Identity is member id and incarnation: a member that has restarted between two reads shows as left and joined."""
    watcher, member = arena.connect("w", lease_ttl=LONG), arena.connect("m", lease_ttl=LONG)
    member.group("g").join()
    with watcher.group("g").watch() as changes:
        first = _next(arena, changes)
        member.close()
        arena.connect("m", lease_ttl=LONG).group("g").join()
        joined: list[Member] = []
        left: list[Member] = []
        while not joined:
            change = _next(arena, changes)
            joined += change.joined
            left += change.left
    assert [member.member_id for member in joined] == ["m"]
    assert [member.identity for member in left] == [member.identity for member in first.joined]


@guarantee("WATCH-19")
def watchers_learn_in_time_of_a_silent_session(arena: Arena) -> None:
    """Who watches a group or an election learns within the stated bound that a session has fallen silent, pushed or
    not.
    """
    silent, watcher = arena.connect("silent", heartbeat="manual"), arena.connect("watcher")
    silent.group("g").join()
    silent.election("e").campaign()
    with watcher.group("g").watch() as changes, watcher.election("e").observe() as leaders, freeze(silent):
        assert _next(arena, changes).view.ids == ("silent",)
        assert isinstance(_next(arena, leaders), drumbeat.Leader)
        told = arena.background(partial(changes.next, LONG)), arena.background(partial(leaders.next, LONG))
        within = arena.profile.eviction.seconds(arena.ttl) + arena.ttl
        arena.eventually(lambda: not any(waiting.running for waiting in told), within=within)
        assert [member.member_id for member in told[0].result().left] == ["silent"]
        assert told[1].result() == Vacant()


# Push, as backends give it ----------------------------------------------------------------------------------


@guarantee("WATCH-4", level="should", claim=Capability.PUSH_WATCH)
def a_change_arrives_faster_than_by_polling(arena: Arena) -> None:
    """A change is pushed: it reaches a watch well before the next time at which it would poll."""
    one, two = arena.connect("one", lease_ttl=LONG), arena.connect("two", lease_ttl=LONG)
    poll = two.backend.limits.poll_interval
    seen: list[float] = []
    delays: list[float] = []

    def watch() -> None:
        seen.extend(arena.clock.now() for _ in changes)

    with two.group("g").watch() as changes:
        arena.background(watch)
        arena.eventually(lambda: seen, within=arena.ttl)
        for number in range(5):
            # Right after a look, so that the next one by polling is a whole interval away.
            before, sent = len(seen), arena.clock.now()
            one.group("g").join({"n": number})
            arena.eventually(lambda before=before: len(seen) > before, within=3 * poll + arena.ttl)  # type: ignore[misc]
            delays.append(seen[before] - sent)
    assert min(delays) < poll / 2, f"seen after {delays} s, and polled every {poll:g} s"


@guarantee("WATCH-5", level="should", claim=Capability.PUSH_WATCH)
def every_change_of_a_group_is_hinted_at(arena: Arena) -> None:
    """Join, update, leave and close of a member each cause a hint to who watches the group, also a join of one that is
    a member already.
    """
    one, two = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    hints = _Hints(arena, two, GroupSubject("g"))
    changes: tuple[tuple[str, Callable[[], object]], ...] = (
        ("a join", lambda: one.join("g")),
        ("a join of a member", lambda: one.join("g", b"1")),
        ("an update", lambda: one.update("g", b"2")),
        ("a leave", lambda: one.leave("g")),
        ("another join", lambda: one.join("g")),
        ("a close", one.close),
    )
    for what, change in changes:
        count = hints.count
        change()
        hints.wait_for_one_after(count, what)


@guarantee("WATCH-18", level="should", claim=Capability.PUSH_WATCH)
def each_watch_is_hinted_at_by_itself(arena: Arena) -> None:
    """All watches on one subject are hinted at, be they of one session, of several, or of the one that makes the
    change, whatever else is watched; and when one is cancelled or its session closed, the others go on, however many
    changes there are.
    """
    one, two, three = (lasting_actor(arena, name) for name in "abc")
    one.join("g [é]*/")
    watches = {
        name: _Hints(arena, actor, GroupSubject("g [é]*/"))
        for name, actor in (("own", one), ("first", two), ("second", two), ("other", three))
    }
    _Hints(arena, two, GroupSubject("another"))
    for number, end in enumerate((lambda: None, watches["first"].cancel, three.close)):
        end()
        if number:
            watches.pop("first" if number == 1 else "other")
        counts = {name: hints.count for name, hints in watches.items()}
        one.update("g [é]*/", f"{number}".encode())
        for name, hints in watches.items():
            hints.wait_for_one_after(counts[name], f"an update, to the {name} watch,")
    for number in range(_MANY):
        count = watches["second"].count
        one.update("g [é]*/", f"again {number}".encode())
        watches["second"].wait_for_one_after(count, f"update {number} of many")


@guarantee("WATCH-6", level="should", claim=Capability.PUSH_WATCH)
def every_change_of_a_leader_is_hinted_at(arena: Arena) -> None:
    """A win, a proclaimed value, a resign, the withdrawal of who has won and a close each cause a hint to who watches
    the leader.
    """
    one, two = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    hints = _Hints(arena, two, LeaderSubject("e"))
    assert two.leader("e") == Vacant()
    changes: tuple[tuple[str, Callable[[], object]], ...] = (
        ("a win", lambda: one.win("e")),
        ("a proclaimed value", lambda: one.proclaim(one.seats["e"], b"2")),
        ("a resign", lambda: one.resign(one.seats["e"])),
        ("another win", lambda: one.win("e")),
        ("the withdrawal of the winner", lambda: one.withdraw("e", one.seats["e"].attempt)),
        ("a third win", lambda: one.win("e")),
        ("a close", one.close),
    )
    for what, change in changes:
        count = hints.count
        change()
        hints.wait_for_one_after(count, what)


def _abandon(actor: Actor) -> None:
    actor.places, actor.seats = {}, {}
    actor.beat()


def _supersede(actor: Actor) -> None:
    actor.open(replace(actor.request(supersedes=actor.lease.incarnation), ttl=actor.lease.ttl))


def _replace_by_another(actor: Actor, arena: Arena) -> None:
    other = Actor(arena, actor.member_id, backend=arena.backend())
    other.open(replace(other.request(replace=True), ttl=actor.lease.ttl))


@guarantee("WATCH-20", level="should", claim=Capability.PUSH_WATCH)
def an_end_that_nobody_asked_for_is_hinted_at(arena: Arena) -> None:
    """A heartbeat that removes what was abandoned, a session that supersedes or replaces another, and a reap each
    cause a hint to who watches the group, who watches the leader, and to the candidate whose turn it is.
    """
    watcher = lasting_actor(arena, "watcher")
    ends: dict[str, Callable[[Actor], object]] = {
        "a heartbeat that removes": _abandon,
        "a session that supersedes": _supersede,
        "a session that replaces": partial(_replace_by_another, arena=arena),
    }
    if Capability.REAPING in arena.profile.capabilities:
        ends["a reap"] = lambda actor: watcher.backend.reap_session(
            ReapTicket(actor.lease.incarnation, actor.member_id), timeout=TIMEOUT
        )
    for number, (what, end) in enumerate(ends.items()):
        name, actor = f"x{number}", lasting_actor(arena, f"a{number}")
        actor.join(name)
        actor.win(name)
        watcher.wait_for(name)
        subjects = GroupSubject(name), LeaderSubject(name), CandidacySubject(name, watcher.candidacies[name])
        hints = {subject: _Hints(arena, watcher, subject) for subject in subjects}
        counts = {subject: hints[subject].count for subject in subjects}
        end(actor)
        for subject in subjects:
            hints[subject].wait_for_one_after(counts[subject], f"{what}, to the watch on {subject}")


@guarantee("WATCH-7", level="should", claim=Capability.PUSH_WATCH)
def a_candidate_is_hinted_at_when_it_may_win(arena: Arena) -> None:
    """The candidate whose turn it is gets a hint, by the resign of the leader and by the withdrawal of the candidate
    before it.
    """
    leader, second, third = (lasting_actor(arena, name) for name in "abc")
    seat = leader.win("e")
    hints = {}
    for candidate in (second, third):
        candidate.wait_for("e")
        subject = CandidacySubject("e", candidate.newest_attempt)
        hints[candidate.member_id] = _Hints(arena, candidate, subject)
    count = hints["b"].count
    leader.resign(seat)
    hints["b"].wait_for_one_after(count, "the leader's resign")
    count = hints["c"].count
    second.withdraw("e", second.newest_attempt)
    hints["c"].wait_for_one_after(count, "the withdrawal of the one before")


@guarantee("WATCH-8", level="should", claim=Capability.PUSH_WATCH)
def who_gets_a_hint_may_read_at_once(arena: Arena) -> None:
    """A watcher that calls the backend from inside the hint sees the change, may cancel its watch there, and nothing
    blocks.
    """
    one, two = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    seen: SimpleQueue[dict[str, bytes]] = SimpleQueue()
    two.backend.watch(two.lease, GroupSubject("g"), lambda: seen.put(two.members("g")), timeout=TIMEOUT)
    arena.run(lambda: one.join("g", b"1"), within=TIMEOUT)
    arena.eventually(lambda: not seen.empty(), within=TIMEOUT)
    assert seen.get() == {"a": b"1"}
    cancels: list[Callable[[], object]] = []
    ended: SimpleQueue[None] = SimpleQueue()

    def end() -> None:
        for cancel in cancels:
            cancel()
            ended.put(None)

    cancels.append(two.backend.watch(two.lease, GroupSubject("h"), end, timeout=TIMEOUT))
    arena.run(lambda: one.join("h"), within=TIMEOUT)
    arena.eventually(lambda: not ended.empty(), within=TIMEOUT)


@guarantee("WATCH-9", level="should", claim=Capability.PUSH_WATCH)
def a_watch_that_is_over_gives_no_hints(arena: Arena) -> None:
    """A cancelled watch, one of a dropped session and one of a closed session give no more hints; cancelling twice is
    harmless, and a closed session can watch nothing.
    """
    one, cancelling, dropping, closing, staying = (lasting_actor(arena, name) for name in "abcde")
    ended = [_Hints(arena, actor, GroupSubject("g")) for actor in (cancelling, dropping, closing)]
    lasting = _Hints(arena, staying, GroupSubject("g"))
    one.join("g")
    for hints in (*ended, lasting):
        hints.wait_for_one_after(0, "a join")
    ended[0].cancel()
    ended[0].cancel()
    assert dropping.backend.drop_session(dropping.lease).was_open
    closing.close()
    # What was under way when a watch ended has come by the time that a later change is told.
    count = lasting.count
    one.update("g", b"2")
    lasting.wait_for_one_after(count, "an update")
    counts, count = [hints.count for hints in ended], lasting.count
    one.leave("g")
    lasting.wait_for_one_after(count, "a leave")
    assert counts == [hints.count for hints in ended]
    ended[2].cancel()
    with pytest.raises(SessionLost):
        _Hints(arena, closing, GroupSubject("g"))


@guarantee("WATCH-21", level="should", claim=Capability.PUSH_WATCH)
def a_watch_of_a_session_that_others_ended_is_let_go(arena: Arena) -> None:
    """When a session that is over is dropped, its watches give no more hints, had it ended by time, by a session that
    replaces or supersedes it, or by a reap; the watches of others go on.
    """
    one, staying = lasting_actor(arena, "one"), lasting_actor(arena, "staying")
    expiring = arena.actor("expiring")
    replaced, superseded, reaped = (lasting_actor(arena, name) for name in ("replaced", "superseded", "reaped"))
    ended = [expiring, replaced, superseded]
    if Capability.REAPING in arena.profile.capabilities:
        ended.append(reaped)
    hints = [_Hints(arena, actor, GroupSubject("g")) for actor in ended]
    lasting = _Hints(arena, staying, GroupSubject("g"))
    one.join("g")
    for watch in (*hints, lasting):
        watch.wait_for_one_after(0, "a join")
    _replace_by_another(replaced, arena)
    other = Actor(arena, "superseded", backend=arena.backend())
    other.open(replace(other.request(supersedes=superseded.lease.incarnation), ttl=long_ttl(arena)))
    if reaped in ended:
        staying.backend.reap_session(ReapTicket(reaped.lease.incarnation, "reaped"), timeout=TIMEOUT)
    arena.wait(arena.profile.eviction.seconds(arena.ttl))
    for actor in ended:
        actor.backend.drop_session(actor.lease)
    count = lasting.count
    one.update("g", b"2")
    lasting.wait_for_one_after(count, "an update")
    counts, count = [watch.count for watch in hints], lasting.count
    one.leave("g")
    lasting.wait_for_one_after(count, "a leave")
    told = {actor.member_id for actor, watch, before in zip(ended, hints, counts, strict=True) if watch.count > before}
    assert not told, f"sessions that are over and dropped are told: {sorted(told)}"
