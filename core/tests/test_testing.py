"""The clock that tests move, and the helpers for tests of code that uses Drumbeat."""

from __future__ import annotations

import doctest
import random
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from support import Background, eventually

import drumbeat
from drumbeat import ConfigurationError, Session, Signal, State, Unavailable, _fakeclock, history, testing
from drumbeat._election import AFTER_LAPSE
from drumbeat._timing import DRIFT
from drumbeat.testing import FakeClock, Faults, freeze, lose, memory_session, memory_url, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from drumbeat import Election

TTL = 10.0
#: What a session may believe in after a heartbeat was sent: drift and margin off the TTL.
USABLE = TTL * (1 - DRIFT) - TTL / 20
#: How often a test repeats what a race would break now and then.
TIMES = 50


@pytest.fixture
def clock() -> FakeClock:
    """Time stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def open_session(clock: FakeClock) -> Iterator[Callable[..., Session]]:
    """Open sessions on one fresh store and the clock, and close them afterwards."""
    url = memory_url()
    sessions: list[Session] = []

    def connect(member_id: str = "one", **options: object) -> Session:
        given = {"lease_ttl": TTL, "clock": clock} | options
        session = memory_session(url, member_id=member_id, **given)  # type: ignore[arg-type]
        sessions.append(session)
        return session

    yield connect
    for session in sessions:
        session.close(timeout=1.0)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the clock give up soon on threads that stay busy, so that a test of just that is quick."""
    monkeypatch.setattr(_fakeclock, "STANDSTILL", 50)


# The clock --------------------------------------------------------------------------------------------------


def test_time_stands_still(clock: FakeClock) -> None:
    """Both times stay as they are until the clock is moved, and then move by the same amount."""
    assert (clock.now(), clock.wall()) == (1000.0, 1_700_000_000.0)
    clock.advance(2.5)
    assert (clock.now(), clock.wall()) == (1002.5, 1_700_000_002.5)


def test_wall_time_can_be_stepped_alone(clock: FakeClock) -> None:
    """A step of the wall clock, back as well as on, leaves the session's clock alone."""
    clock.step_wall(-60.0)
    assert (clock.now(), clock.wall()) == (1000.0, 1_699_999_940.0)


def test_the_clock_never_steps_back(clock: FakeClock) -> None:
    """Moving the clock by a negative amount is refused, and it stays where it is."""
    with pytest.raises(ValueError, match="never steps back"):
        clock.advance(-1.0)
    assert clock.now() == 1000.0


def test_a_wait_ends_exactly_when_its_time_has_come(clock: FakeClock) -> None:
    """A thread that waits is woken when the clock shows its moment, however far one call moves the clock."""
    woken = Background(lambda: (Signal(clock).wait(3.25), clock.now()))
    clock.advance(3.0)
    assert woken.running
    clock.advance(100.0)
    assert woken.result() == (False, 1003.25)


def test_a_wait_for_no_time_returns_at_once(clock: FakeClock) -> None:
    """Waiting for zero or fewer seconds does not depend on anybody who moves the clock."""
    assert not Signal(clock).wait(0.0)
    assert not Signal(clock).wait(-1.0)
    condition = threading.Condition()
    with condition:
        clock.wait(condition, 0.0)


def test_threads_wake_in_the_order_of_their_times(clock: FakeClock) -> None:
    """One call that moves the clock past many waits ends them one after another, each at its own time."""
    seconds = [random.Random(7).randrange(1, 400) / 8 for _ in range(40)]
    woken: list[float] = []

    def sleep(pause: float) -> None:
        Signal(clock).wait(pause)
        woken.append(clock.now() - 1000.0)

    sleepers = [Background(lambda pause=pause: sleep(pause)) for pause in seconds]  # type: ignore[misc]
    clock.advance(60.0)
    assert woken == sorted(seconds)
    assert not any(sleeper.running for sleeper in sleepers)


def test_a_thread_that_waits_again_and_again_misses_nothing(clock: FakeClock) -> None:
    """Something done every second is done a hundred times within one hundred seconds, at each full second."""
    times: list[float] = []

    def tick() -> None:
        for _ in range(100):
            Signal(clock).wait(1.0)
            times.append(clock.now())

    ticking = Background(tick)
    clock.advance(100.0)
    assert times == [1000.0 + second for second in range(1, 101)]
    ticking.result()


def test_a_thread_that_was_just_started_is_waited_for(clock: FakeClock) -> None:
    """A thread that was started just before has done all it can do when the clock returns."""
    for _ in range(TIMES):
        reached: list[int] = []
        signal = Signal(clock)
        waiting = Background(lambda reached=reached, signal=signal: (reached.append(1), signal.wait()))  # type: ignore[misc]
        clock.settle()
        assert reached == [1]
        signal.set()
        waiting.result()


@pytest.mark.parametrize("length", [2, 10])
def test_what_threads_set_off_in_others_is_waited_for(clock: FakeClock, length: int) -> None:
    """A message that goes from thread to thread has reached the last one when the clock returns."""
    signals = [Signal(clock) for _ in range(length + 1)]

    def pass_on(here: int) -> None:
        for _ in range(TIMES):
            signals[here].take(None)
            signals[here + 1].set()

    relays = [Background(lambda here=here: pass_on(here)) for here in range(length)]  # type: ignore[misc]
    clock.settle()
    for _ in range(TIMES):
        signals[0].set()
        clock.settle()
        assert signals[-1].is_set()
        signals[-1].clear()
    for relay in relays:
        relay.result()


def test_a_busy_thread_is_not_waited_for_for_ever(clock: FakeClock, no_patience: None) -> None:
    """A thread that does not come to rest holds the clock up for a bounded time once, and then not at all."""
    release = threading.Event()
    busy = Background(lambda: release.wait(20))
    clock.advance(1.0)
    assert busy.running
    assert busy._thread in clock._strangers
    release.set()
    busy.result()


def test_a_thread_that_gets_on_is_waited_for_however_long_it_takes(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that takes longer than a thread may stand still holds the clock until it is done."""
    monkeypatch.setattr(_fakeclock, "STANDSTILL", 150)

    def fibonacci(number: int) -> int:
        return number if number < 2 else fibonacci(number - 1) + fibonacci(number - 2)

    def work() -> float:
        until = time.monotonic() + 4.0
        while time.monotonic() < until:
            fibonacci(12)
        return clock.now()

    working = Background(work)
    clock.advance(1.0)
    assert working.result() == 1000.0


def test_no_thread_is_waited_for_for_ever(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that moves without an end holds the clock up once, for a bounded number of looks."""
    monkeypatch.setattr(_fakeclock, "PATIENCE", 100)
    over = threading.Event()

    def visit(depth: int) -> None:
        if not over.wait(0.001) and depth:
            visit(depth - 1)

    def wander() -> None:
        while not over.is_set():
            visit(30)

    wandering = Background(wander)
    clock.advance(1.0)
    assert wandering._thread in clock._strangers
    over.set()
    wandering.result()


def test_a_thread_that_was_given_up_counts_again_once_it_waits(clock: FakeClock, no_patience: None) -> None:
    """After its first wait on the clock, a thread that was busy elsewhere before is waited for like any other."""
    release = threading.Event()
    times: list[float] = []

    def work() -> None:
        release.wait(20)
        for _ in range(5):
            Signal(clock).wait(1.0)
            times.append(clock.now())
            time.sleep(0.01)

    working = Background(work)
    clock.advance(1.0)
    release.set()
    eventually(lambda: clock._sleepers, within=5.0)
    clock.advance(10.0)
    assert times == [1002.0, 1003.0, 1004.0, 1005.0, 1006.0]
    working.result()


def test_what_changes_while_the_clock_looks_is_looked_at_again(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that wakes and waits again between two looks of the clock may have woken others, so it looks again."""
    looks: list[threading.Condition] = []
    look = FakeClock._is_notified

    def look_once(self: FakeClock, condition: threading.Condition) -> bool:
        looks.append(condition)
        if len(looks) == 1:
            with self._lock:
                self._changed()
        return look(self, condition)

    waiting = Signal(clock)
    thread = Background(waiting.wait)
    clock.settle()
    monkeypatch.setattr(FakeClock, "_is_notified", look_once)
    clock.settle()
    assert len(looks) == 2
    waiting.set()
    thread.result()


def test_a_woken_thread_may_move_the_clock_itself(clock: FakeClock) -> None:
    """A thread that takes three seconds by moving the clock is waited for by the one that woke it."""
    times: list[float] = []

    def slow() -> None:
        Signal(clock).wait(1.0)
        clock.advance(3.0)
        times.append(clock.now())

    def tick() -> None:
        for _ in range(128):
            Signal(clock).wait(1 / 32)
            time.sleep(0.001)

    moving, ticking = Background(slow), Background(tick)
    clock.advance(2.0)
    assert times == [1004.0]
    assert clock.now() == 1004.0
    moving.result()
    ticking.result()


def test_a_suspended_host_sees_time_at_one_stroke(clock: FakeClock) -> None:
    """While the host is suspended nobody runs; afterwards those that are late do."""
    late = Background(lambda: (Signal(clock).wait(1.0), clock.now()))
    clock.settle()
    clock.suspend(60.0)
    clock.settle()
    assert late.running
    clock.advance(0.0)
    assert late.result() == (False, 1060.0)


# Sessions on the clock --------------------------------------------------------------------------------------


def test_heartbeats_keep_a_session_alive_however_far_the_clock_moves(
    clock: FakeClock, open_session: Callable[..., Session]
) -> None:
    """Ten TTLs in one step: each session sends its forty heartbeats in time, and none is suspended or LOST."""
    states: list[State] = []
    taps = [Faults(clock) for _ in range(10)]
    sessions = [open_session(f"m{number}", interceptors=[tap]) for number, tap in enumerate(taps)]
    for session in sessions:
        session.on_state(states.append)
    terms = [session.election(session.member_id).campaign() for session in sessions]
    clock.advance(10 * TTL)
    assert states == []
    assert all(term.held for term in terms)
    assert [tap.calls["heartbeat"] for tap in taps] == [40] * 10


def win(election: Election, times: list[float], clock: FakeClock) -> None:
    """Campaign, and remember when that won."""
    election.campaign()
    times.append(clock.now())


def test_a_waiting_candidate_wins_at_exactly_the_moment_its_holder_lapses(
    clock: FakeClock, open_session: Callable[..., Session]
) -> None:
    """A candidate in a thread wins one TTL after the frozen holder's last heartbeat, whatever the phase."""
    phases = random.Random(11)
    rival = open_session("rival")
    for number in range(TIMES):
        holder = open_session("holder")
        term = holder.election(f"e{number}").campaign()
        won: list[float] = []
        waiting = Background(partial(win, rival.election(f"e{number}"), won, clock))
        clock.advance(phases.uniform(0.0, 30.0))
        with freeze(holder):
            lapse = clock.now() + term.remaining + TTL - USABLE
            clock.advance(lapse - clock.now() - 1e-6)
            assert won == []
            clock.advance(AFTER_LAPSE + 2e-6)
            assert won == [pytest.approx(lapse, abs=AFTER_LAPSE + 1e-6)]
        waiting.result()
        holder.close()


def test_a_frozen_session_is_lost_at_exactly_its_deadline(
    clock: FakeClock, open_session: Callable[..., Session]
) -> None:
    """Without heartbeats, on_lost runs when the clock shows the deadline, and not a moment before."""
    session = open_session()
    for _ in range(TIMES):
        told: list[float] = []
        term = session.election("e").campaign(on_lost=lambda _, told=told: told.append(clock.now()))  # type: ignore[misc]
        with freeze(session):
            deadline = clock.now() + term.remaining
            clock.advance(term.remaining - 1e-6)
            assert (term.held, told) == (True, [])
            clock.advance(TTL)
            assert (term.held, session.state) == (False, State.LOST)
        assert told == [pytest.approx(deadline, abs=1e-9)]
        clock.settle()
        assert session.state is State.CONNECTED


def test_a_session_opens_and_closes_on_a_clock_that_nobody_moves(open_session: Callable[..., Session]) -> None:
    """Connecting, working and closing need no time, so they never wait for a clock that stands still."""
    session = open_session()
    session.group("g").join({"x": 1})
    assert session.lock("l").acquire().resign()
    session.close()
    assert session.state is State.CLOSED


# The helpers ------------------------------------------------------------------------------------------------


def test_each_memory_url_names_a_store_of_its_own() -> None:
    """Two calls give two stores: what one session does is not seen by the other."""
    with memory_session(member_id="a") as one, memory_session(member_id="a") as other:
        one.group("g").join()
        assert other.group("g").members().ids == ()
    assert memory_url() != memory_url()


def test_memory_sessions_meet_where_they_are_told_to() -> None:
    """Sessions with one URL share a store."""
    url = memory_url()
    with memory_session(url, member_id="a") as one, memory_session(url, member_id="b") as other:
        one.group("g").join()
        assert other.group("g").members().ids == ("a",)


def test_wait_until_returns_what_it_waited_for() -> None:
    """The first true value is returned, also if it comes later from another thread."""
    values: list[int] = []
    timer = threading.Timer(0.02, values.append, [3])
    timer.start()
    assert wait_until(lambda: values and values[0]) == 3
    timer.join()


def test_wait_until_gives_up_in_time() -> None:
    """A condition that never holds is a Timeout that names the last value."""
    with pytest.raises(drumbeat.Timeout, match=r"gave \[\] for 0.02 s"):
        wait_until(list, timeout=0.02)


def test_a_frozen_session_sends_nothing_and_goes_on_afterwards(
    clock: FakeClock, open_session: Callable[..., Session]
) -> None:
    """A freeze that is shorter than what is left of the lease costs nothing: same session, same term."""
    tap = Faults(clock)
    session = open_session(interceptors=[tap])
    term = session.election("e").campaign()
    before = session.incarnation
    with freeze(session):
        sent = tap.calls.total()
        clock.advance(USABLE - 0.1)
        assert tap.calls.total() == sent
    clock.advance(5 * TTL)
    assert (term.held, session.incarnation) == (True, before)


def test_others_see_a_frozen_session_go_when_its_ttl_has_passed(
    clock: FakeClock, open_session: Callable[..., Session]
) -> None:
    """A frozen member stays in the view for one TTL and no longer, and comes back by itself after the thaw."""
    frozen, other = open_session("frozen"), open_session("other")
    frozen.group("g").join()
    with freeze(frozen):
        clock.advance(TTL - 0.001)
        assert other.group("g").members().ids == ("frozen",)
        clock.advance(0.001)
        assert other.group("g").members().ids == ()
    clock.advance(1.0)
    assert other.group("g").members().ids == ("frozen",)


def test_a_call_on_a_frozen_session_waits_for_the_thaw(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """A call from another thread is sent after the block; one from the thread that froze it is refused at once."""
    session = open_session()
    session.group("g").join()
    with freeze(session):
        reading = Background(lambda: session.group("g").members().ids)
        clock.settle()
        assert reading.running
        with pytest.raises(RuntimeError, match="read_group would wait for the end of freeze"):
            session.group("g").members()
    assert reading.result() == ("one",)


def test_a_term_can_be_lost_on_purpose(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """A lost term is over at once, told once, and its seat is free for others before the next heartbeat."""
    session, other = open_session("one"), open_session("other")
    told: list[drumbeat.Term] = []
    term = session.election("e").campaign(on_lost=told.append)
    lose(term, "the test says so")
    assert not term.held
    assert other.election("e").campaign(timeout=0).token == term.token + 1
    lose(term)
    clock.settle()
    assert told == [term]
    with pytest.raises(drumbeat.TermLost, match="the test says so"):
        term.ensure()


def test_a_term_is_lost_on_purpose_without_a_server(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """While the server does not answer, the term is over all the same, and its seat free after one heartbeat."""
    faults = Faults(clock)
    session, other = open_session("one", interceptors=[faults]), open_session("other")
    term = session.election("e").campaign()
    with faults.failing("resign"):
        lose(term)
    assert not term.held
    assert other.election("e").leader() is not None
    clock.advance(TTL / 4)
    assert other.election("e").leader() is None


def test_a_session_can_be_lost_on_purpose(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """A lost session takes its terms along, opens again as another incarnation, and joins its groups again."""
    session = open_session()
    session.group("g").join()
    term = session.election("e").campaign()
    before = session.incarnation
    lose(session)
    assert not term.held
    clock.advance(1.0)
    assert session.state is State.CONNECTED
    assert session.incarnation != before
    assert session.group("g").members().ids == ("one",)


# Faults -----------------------------------------------------------------------------------------------------


def test_a_failing_hook_fails_inside_the_block_only(open_session: Callable[..., Session]) -> None:
    """The named hook raises Unavailable with nothing applied; other hooks, and later calls, are not affected."""
    faults = Faults()
    session = open_session(interceptors=[faults])
    with faults.failing("join_group"):
        with pytest.raises(Unavailable) as caught:
            session.group("g").join()
        assert session.group("g").members().ids == ()
    assert caught.value.outcome == "not_applied"
    session.group("g").join()
    assert session.group("g").members().ids == ("one",)


def test_no_name_means_every_hook(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """A fault without names cuts the session off entirely, until it is LOST at its deadline."""
    faults = Faults(clock)
    session = open_session(interceptors=[faults])
    states: list[State] = []
    session.on_state(states.append)
    with faults.failing():
        clock.advance(TTL / 4)
        assert states == [State.SUSPENDED]
        clock.advance(USABLE - TTL / 4)
        assert states == [State.SUSPENDED, State.LOST]
    clock.advance(TTL)
    assert states == [State.SUSPENDED, State.LOST, State.CONNECTED]


def test_a_hanging_hook_ends_with_its_timeout(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """A call to a server that hangs raises Unavailable, outcome unknown, when its timeout has passed."""
    faults = Faults(clock)
    session = open_session(interceptors=[faults])
    with faults.hanging("read_group"):
        reading = Background(lambda: session.group("g").members())
        clock.advance(1.999)
        assert reading.running
        clock.advance(0.002)
        with pytest.raises(Unavailable, match="no answer for 2 s") as caught:
            reading.result()
    assert caught.value.outcome == "unknown"


def test_a_server_that_hung_answers_what_still_waits(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """What waits when the block ends is sent then, and answered."""
    faults = Faults(clock)
    session = open_session(interceptors=[faults])
    with faults.hanging():
        joining = Background(lambda: session.group("g").join())
        clock.advance(1.0)
        assert joining.running
    joining.result()
    assert session.group("g").members().ids == ("one",)


def test_a_dropped_reply_was_applied(open_session: Callable[..., Session]) -> None:
    """The server does what was asked for, the caller is told that the outcome is unknown."""
    faults = Faults()
    session = open_session(interceptors=[faults])
    session.group("g").join({"x": 1})
    with faults.dropping_replies("update_member"), pytest.raises(Unavailable) as caught:
        session.group("g").update({"x": 2})
    assert caught.value.outcome == "unknown"
    assert session.group("g").members()["one"].metadata == {"x": 2}


def test_a_delayed_request_takes_its_time(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """A delay below the timeout is only slow; one above it is Unavailable, and nothing is sent."""
    faults = Faults(clock)
    session = open_session(interceptors=[faults])
    with faults.delaying(1.5, "join_group"):
        joining = Background(session.group("g").join)
        clock.advance(1.499)
        assert joining.running
        clock.advance(0.002)
        joining.result()
    with faults.delaying(60.0, "update_member"):
        updating = Background(lambda: session.group("g").update({"x": 2}))
        clock.advance(5.0)
        with pytest.raises(Unavailable, match="no answer for 2 s"):
            updating.result()
    assert session.group("g").members()["one"].metadata == {}


def test_faults_add_up(open_session: Callable[..., Session]) -> None:
    """Several faults may be on at once, also for one hook; each ends with its own block."""
    faults = Faults()
    session = open_session(interceptors=[faults])
    with faults.dropping_replies("join_group"):
        with faults.failing("join_group"), pytest.raises(Unavailable, match="cut the link"):
            session.group("g").join()
        with pytest.raises(Unavailable, match="dropped"):
            session.group("g").join()
    session.group("g").join()


def test_every_hook_is_counted(open_session: Callable[..., Session]) -> None:
    """Each call of each hook is counted by its name, also where no fault is on."""
    faults = Faults()
    session = open_session(heartbeat="manual", interceptors=[faults])
    session.group("g").join()
    session.beat()
    session.beat()
    session.close()
    counted = {"describe_backend": 1, "open_session": 1, "join_group": 1, "heartbeat": 2}
    assert faults.calls == counted | {"close_session": 1, "drop_session": 1}


def test_a_misspelt_hook_names_the_nearest() -> None:
    """A fault on a hook that does not exist is refused, with the name that was meant."""
    with pytest.raises(ConfigurationError, match="no hook 'heartbeet' that asks the server, did you mean 'heartbeat'"):
        Faults().failing("heartbeet").__enter__()


# The examples -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [testing, _fakeclock, history], ids=lambda module: module.__name__)
def test_the_examples_in_the_docstrings_run(module: ModuleType) -> None:
    """What the documentation shows is what happens."""
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_every_helper_has_an_example() -> None:
    """Each public name of drumbeat.testing shows how it is used."""
    assert [name for name in testing.__all__ if ">>>" not in (getattr(testing, name).__doc__ or "")] == []
