"""Sessions as users hold them: suspended, lost, reopened and closed, with all that they hold."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, final

import pytest

from drumbeat import Closed, State, Unavailable
from drumbeat._clock import Signal
from drumbeat.hookspecs import hookimpl
from drumbeat.testing import Faults, freeze
from drumbeat_conformance.actor import TIMEOUT
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lapse import long_ttl

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from drumbeat import Session
    from drumbeat._clock import Clock
    from drumbeat_conformance.arena import Arena


@guarantee("BEAT-7")
def close_releases_everything_at_once_and_is_bounded(arena: Arena) -> None:
    """Close releases members, candidacies and terms at once; twice is harmless; bounded when no answer comes."""
    faults = Faults(arena.clock)
    lease = long_ttl(arena)
    session, other = arena.connect("a", lease_ttl=lease), arena.connect("b", lease_ttl=lease)
    stuck = arena.connect("c", lease_ttl=lease, interceptors=[faults])
    session.group("g").join()
    terms = [session.election("e").campaign(), stuck.election("f").campaign()]
    waiting = arena.background(lambda: other.election("e").campaign(timeout=20 * arena.ttl))
    session.close()
    assert not terms[0].held
    assert other.group("g").members().ids == ()
    assert waiting.result(within=10 * arena.ttl).token > terms[0].token
    session.close()
    with faults.hanging():
        arena.run(lambda: stuck.close(timeout=arena.ttl), within=3 * arena.ttl)
        assert [term.held for term in terms] == [False, False]
        assert [session.state, stuck.state] == [State.CLOSED, State.CLOSED]


@guarantee("BEAT-8")
def a_lost_session_reopens_and_rejoins(arena: Arena) -> None:
    """A session that was LOST reopens with a new incarnation and rejoins its groups; its old terms stay lost."""
    faults = Faults(arena.clock)
    session = arena.connect("a", interceptors=[faults])
    session.group("g").join({"n": 1})
    session.group("g").update({"n": 2})
    session.group("h").join()
    session.group("h").leave()
    session.group("i").join()
    term = session.election("e").campaign()
    before = session.incarnation
    with faults.failing():
        arena.eventually(lambda: session.state is State.LOST, within=3 * arena.ttl)
        assert not term.held
    arena.eventually(lambda: session.state is State.CONNECTED, within=10 * arena.ttl)
    arena.eventually(lambda: session.groups() == ("g", "i"), within=5 * arena.ttl)
    assert session.incarnation != before
    assert session.group("g").members()["a"].metadata == {"n": 2}
    assert session.group("h").members().ids == ()
    assert not term.held
    assert term.lost.is_set()


@guarantee("BEAT-10")
def a_seat_that_vanished_is_noticed_by_the_next_heartbeat(arena: Arena) -> None:
    """A held seat that vanishes from the store alone is noticed by its holder within one heartbeat."""
    session = arena.connect("a", heartbeat="manual", lease_ttl=long_ttl(arena))
    gone, kept = session.election("gone").campaign(), session.election("kept").campaign()
    keeper = session._keeper  # noqa: SLF001 - the store is changed behind the session's back
    assert keeper.incarnation is not None
    keeper.backend.resign(keeper.incarnation.lease, gone._seat, timeout=TIMEOUT)  # noqa: SLF001 - as above
    assert gone.held
    session.beat()
    assert not gone.held
    assert kept.held


@guarantee("BEAT-16")
def a_silent_member_leaves_the_view_in_time_and_not_before(arena: Arena) -> None:
    """In the views that users read, a member that falls silent is there until its TTL has passed, and gone in time."""
    watcher, silent = arena.connect("watcher"), arena.connect("silent", heartbeat="manual")
    silent.group("g").join()
    view = watcher.group("g")
    view.join()
    for pause in (arena.ttl / 4, arena.ttl / 4, arena.ttl / 10):
        silent.beat()
        arena.wait(pause)
    sent = arena.clock.now()
    silent.beat()
    bound = arena.profile.eviction.seconds(arena.ttl)
    with freeze(silent):
        assert "silent" in view.members()
        arena.eventually(lambda: "silent" not in view.members(), within=bound + arena.ttl)
        lasted = arena.clock.now() - sent
    assert lasted >= 0.999 * arena.ttl - arena.profile.limits.early_expiry


_USES: Final[dict[str, Callable[[Session], object]]] = {
    "join": lambda session: session.group("g").join(),
    "members": lambda session: session.group("g").members(),
    "watch": lambda session: session.group("g").watch(),
    "campaign": lambda session: session.election("e").campaign(),
    "leader": lambda session: session.election("e").leader(),
    "acquire": lambda session: session.lock("l").acquire(),
    "groups": lambda session: session.groups(),
    "beat": lambda session: session.beat(),
}


@guarantee("BEAT-27")
def a_closed_session_says_so(arena: Arena) -> None:
    """Whatever is asked of a closed session, it raises Closed at once and says to connect again."""
    session = arena.connect("a")
    session.close()
    said = {name: _refusal(arena, session, use) for name, use in _USES.items()}
    assert [name for name, text in said.items() if "connect again" not in text] == []


def _refusal(arena: Arena, session: Session, use: Callable[[Session], object]) -> str:
    try:
        arena.run(lambda: use(session), within=2 * arena.ttl)
    except Closed as error:
        return str(error)
    return "nothing was raised"


@guarantee("BEAT-28")
def a_short_silence_loses_nothing(arena: Arena) -> None:
    """An outage that is shorter than the TTL suspends the session, says so, and takes nothing from it; soon after it
    the session is connected again.
    """
    faults = Faults(arena.clock)
    session = arena.connect(
        "a", interceptors=[faults], lease_ttl=6 * arena.ttl, heartbeat_interval=arena.ttl / 4, request_timeout=arena.ttl
    )
    term = session.election("e").campaign()
    states: list[State] = []
    session.on_state(states.append)
    with faults.failing():
        arena.eventually(lambda: session.state is State.SUSPENDED, within=3 * arena.ttl)
        assert term.held
    # The next heartbeat is due after a twentieth of the TTL, and not only when half of it is over.
    arena.eventually(lambda: session.state is State.CONNECTED, within=1.5 * arena.ttl)
    assert term.held
    arena.eventually(lambda: states == [State.SUSPENDED, State.CONNECTED], within=arena.ttl)


@guarantee("BEAT-37")
def one_lost_answer_ends_nothing_whatever_the_timeout(arena: Arena) -> None:
    """A request gets no longer than its timeout: with the longest one that the TTL has room for, a heartbeat whose
    answer does not come in time leaves enough for the next one.
    """
    faults = Faults(arena.clock)
    lease = 6 * arena.ttl
    session = arena.connect(
        "a", interceptors=[faults], lease_ttl=lease, heartbeat_interval=lease / 4, request_timeout=0.33 * lease
    )
    term = session.election("e").campaign()
    with faults.hanging("heartbeat"):
        arena.eventually(lambda: session.state is not State.CONNECTED, within=lease)
    assert session.state is State.SUSPENDED
    arena.eventually(lambda: session.state is State.CONNECTED, within=lease)
    assert term.held


@guarantee("BEAT-29")
def a_call_without_an_answer_is_unavailable(arena: Arena) -> None:
    """An old view is never passed off as a new one: without an answer a call raises Unavailable."""
    faults = Faults(arena.clock)
    session = arena.connect("a", interceptors=[faults], lease_ttl=6 * arena.ttl)
    session.group("g").join()
    assert session.group("g").members().ids == ("a",)
    with faults.failing(), pytest.raises(Unavailable, match="nothing was changed"):
        session.group("g").members()


@guarantee("BEAT-30")
def one_heartbeat_is_one_call_whatever_is_held(arena: Arena) -> None:
    """A heartbeat is one call of the backend's hook, also with 50 groups and 50 terms."""
    faults = Faults(arena.clock)
    session = arena.connect("a", interceptors=[faults], heartbeat="manual", lease_ttl=long_ttl(arena))
    for number in range(50):
        session.group(f"g{number}").join()
        session.election(f"e{number}").campaign()
    faults.calls.clear()
    session.beat()
    assert faults.calls == Counter({"heartbeat": 1})


@final
class _SlowViews:
    """An interceptor under which a view takes its time, whatever its timeout."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds

    @hookimpl(wrapper=True)
    def read_group(self) -> Generator[None, object, object]:
        """Wait, then let the view be read."""
        Signal(self._clock).wait(self._seconds)
        return (yield)


@guarantee("BEAT-19")
def a_slow_view_delays_no_heartbeat(arena: Arena) -> None:
    """While a view takes two TTLs to be read, the session goes on beating and stays alive."""
    faults = Faults(arena.clock)
    session = arena.connect("a", interceptors=[faults, _SlowViews(arena.clock, 2 * arena.ttl)])
    before = session.incarnation
    reading = arena.background(session.group("g").members)
    reading.result(within=6 * arena.ttl)
    assert session.incarnation == before
    assert session.state is State.CONNECTED
    assert faults.calls["heartbeat"] > 2


@final
class _OneGroupRefused:
    """An interceptor under which one group cannot be joined, once it is switched on."""

    def __init__(self, group: str) -> None:
        self._group = group
        self.on = False

    @hookimpl(wrapper=True)
    def join_group(self, group: str) -> Generator[None, object, object]:
        """Refuse the group, and let others be joined."""
        if self.on and group == self._group:
            raise Unavailable("a test refuses this group", outcome="not_applied")
        return (yield)


@guarantee("BEAT-38")
def each_group_is_rejoined_whatever_becomes_of_others(arena: Arena) -> None:
    """A reopened session rejoins all groups that can be joined, though another one cannot, and with the value that was
    set last, be it in an outage; the other one is joined as soon as that is possible.
    """
    faults, refused = Faults(arena.clock), _OneGroupRefused("a")
    session, other = arena.connect("m", interceptors=[faults, refused]), arena.connect("other")
    for name in "abc":
        session.group(name).join({"n": 1})
    refused.on = True
    before = session.incarnation
    with faults.failing("heartbeat", "open_session"):
        arena.eventually(lambda: session.state is State.SUSPENDED, within=2 * arena.ttl)
        session.group("b").update({"n": 2})
        arena.eventually(lambda: session.state is State.LOST, within=3 * arena.ttl)
    arena.eventually(lambda: session.incarnation != before, within=10 * arena.ttl)
    for name, wanted in {"b": {"n": 2}, "c": {"n": 1}}.items():
        view = other.group(name)
        arena.eventually(lambda: "m" in view.members(), within=5 * arena.ttl)  # noqa: B023 - called at once
        assert view.members()["m"].metadata == wanted
    assert other.group("a").members().ids == ()
    refused.on = False
    arena.eventually(lambda: "m" in other.group("a").members(), within=5 * arena.ttl)
