"""The safety rule, to the letter, on a clock that only the test moves."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from typing import TYPE_CHECKING

import pytest
from support import Background, Tap, eventually

import drumbeat
from drumbeat import State
from drumbeat._timing import DRIFT, Timing
from drumbeat.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TTL = 10.0
#: What a session may believe in after a heartbeat was sent: drift and margin off the TTL.
USABLE = TTL * (1 - DRIFT) - 0.5


@pytest.fixture
def clock() -> FakeClock:
    """Time stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def connect(clock: FakeClock) -> Iterator[Callable[..., drumbeat.Session]]:
    """Open sessions on one fresh store that share the clock."""
    url = f"memory://{uuid.uuid4()}"
    sessions: list[drumbeat.Session] = []

    def open_session(member_id: str = "one", **options: object) -> drumbeat.Session:
        given = {"lease_ttl": TTL, "clock": clock} | options
        session = drumbeat.connect(url, member_id=member_id, **given)  # type: ignore[arg-type]
        sessions.append(session)
        return session

    yield open_session
    for session in sessions:
        session.close(timeout=1.0)


def test_a_term_ends_exactly_at_its_deadline_without_any_thread(
    clock: FakeClock, connect: Callable[..., drumbeat.Session]
) -> None:
    """`held` is computed when it is read: it is True just before the deadline and False at it."""
    session = connect(heartbeat="manual")
    sent = clock.now()
    term = session.election("e").campaign()
    assert term.remaining == pytest.approx(USABLE)
    clock._now = sent + USABLE - 0.001
    assert term.held
    clock._now = sent + USABLE
    assert not term.held
    assert session.state is State.LOST


def test_the_deadline_counts_from_the_sending(clock: FakeClock, connect: Callable[..., drumbeat.Session]) -> None:
    """A heartbeat that takes a second to be answered moves the deadline from its sending, not from its answer."""
    tap = Tap()
    session = connect(heartbeat="manual", interceptors=[tap])
    term = session.election("e").campaign()
    clock.advance(3.0)
    sent = clock.now()
    tap.after["heartbeat"] = lambda: setattr(clock, "_now", clock.now() + 1.0)
    session.beat()
    assert clock.now() == sent + 1.0
    assert term.remaining == pytest.approx(USABLE - 1.0)


def test_an_answer_after_the_deadline_revives_nothing(
    clock: FakeClock, connect: Callable[..., drumbeat.Session]
) -> None:
    """A heartbeat that succeeds at the server, but is answered after the deadline, leaves the session LOST."""
    tap = Tap()
    session = connect(heartbeat="manual", interceptors=[tap])
    term = session.election("e").campaign()
    before = session.incarnation
    tap.after["heartbeat"] = lambda: setattr(clock, "_now", clock.now() + USABLE)
    with pytest.raises(drumbeat.SessionLost, match="after the session's deadline"):
        session.beat()
    assert not term.held
    clock.settle()
    eventually(lambda: session.incarnation != before, within=5.0)
    assert not term.held


def test_the_watchdog_tells_at_the_deadline_while_a_heartbeat_hangs(
    clock: FakeClock, connect: Callable[..., drumbeat.Session]
) -> None:
    """With the heartbeat stuck inside the backend, LOST is told at the deadline and the server is left."""
    tap = Tap()
    session = connect(interceptors=[tap])
    told: list[float] = []
    term = session.election("e").campaign(on_lost=lambda _: told.append(clock.now()))
    deadline = clock.now() + term.remaining
    stuck, release = threading.Event(), threading.Event()

    def hang() -> None:
        stuck.set()
        release.wait(30)

    tap.before["heartbeat"] = hang
    clock.advance(TTL / 4)
    assert stuck.wait(5)
    clock.advance(deadline - clock.now() - 0.001)
    assert term.held
    clock.advance(0.001)
    assert not term.held
    eventually(lambda: told == [deadline], within=5.0)
    eventually(lambda: tap.calls["close_session"] == 1 and tap.calls["drop_session"] == 1, within=5.0)
    release.set()


def test_a_session_that_beats_lives_through_any_time(
    clock: FakeClock, connect: Callable[..., drumbeat.Session]
) -> None:
    """A hundred TTLs later the session is the same and the term is held."""
    session = connect()
    term = session.election("e").campaign()
    before = session.incarnation
    clock.advance(100 * TTL)
    assert term.held
    assert session.incarnation == before


def test_terms_whose_deadline_has_passed_are_lost_at_close(
    clock: FakeClock, connect: Callable[..., drumbeat.Session]
) -> None:
    """A close that comes after the deadline, before any thread saw it, tells `on_lost` as any loss does."""
    session = connect(heartbeat="manual")
    told: list[drumbeat.Term] = []
    term = session.election("e").campaign(on_lost=told.append)
    clock._now += TTL
    session.close()
    assert told == [term]


def test_a_win_that_is_answered_after_the_deadline_is_no_term(
    clock: FakeClock, connect: Callable[..., drumbeat.Session]
) -> None:
    """An answer to a campaign that comes after the session's deadline gives nothing; the next incarnation wins anew."""
    tap = Tap()
    session = connect(heartbeat="manual", interceptors=[tap])

    def late() -> None:
        del tap.after["campaign"]
        clock._now += TTL

    tap.after["campaign"] = late
    before = session.incarnation
    campaign = Background(session.election("e").campaign)
    eventually(lambda: "campaign" not in tap.after, within=5.0)
    clock.advance(0.0)
    term = campaign.result(within=10.0)
    assert isinstance(term, drumbeat.Term)
    assert term.held
    assert session.incarnation != before


def test_a_jump_of_the_wall_clock_is_verified_before_held_is_answered(
    clock: FakeClock, connect: Callable[..., drumbeat.Session]
) -> None:
    """After a restored snapshot, `held` asks the server first: True if it confirms, False if it cannot."""
    tap = Tap()
    session = connect(heartbeat="manual", interceptors=[tap])
    term = session.election("e").campaign()
    clock.step_wall(3600.0)
    tap.calls.clear()
    assert term.held
    assert tap.calls["heartbeat"] == 1
    assert term.held
    assert tap.calls["heartbeat"] == 1
    clock.step_wall(-7200.0)
    with tap.cut():
        assert not term.held
    assert term.held


def test_terms_of_a_session_replaced_meanwhile_are_not_held_after_a_jump(
    clock: FakeClock, connect: Callable[..., drumbeat.Session]
) -> None:
    """After a restored snapshot, a term that another session took over is not held."""
    first = connect(heartbeat="manual")
    term = first.election("e").campaign()
    connect(on_conflict="replace")
    clock.step_wall(3600.0)
    assert not term.held


def test_settings_without_room_for_heartbeats_are_refused_with_the_numbers() -> None:
    """A TTL must exceed the heartbeat and two requests, by more than drift and margin; the message adds them up."""
    with pytest.raises(
        drumbeat.ConfigurationError,
        match=r"TTL of 10 s .* 9.490 s .* heartbeat_interval 8 s \+ 2 x request_timeout 2 s = 12 s",
    ):
        drumbeat.connect("memory://x", lease_ttl=TTL, heartbeat_interval=8.0)


def test_a_granted_ttl_that_leaves_no_room_is_refused_and_released(connect: Callable[..., drumbeat.Session]) -> None:
    """What the server grants is checked again: a shorter lease than asked for is refused, and nothing stays open."""
    shorter = Shorten()
    with pytest.raises(drumbeat.ConfigurationError, match="TTL of 1 s"):
        connect(interceptors=[shorter], heartbeat_interval=2.0)
    assert connect(on_conflict="refuse").state is State.CONNECTED


class Shorten:
    """An interceptor that grants one second whatever was asked for."""

    @drumbeat.hookimpl(wrapper=True)
    def open_session(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        lease = yield
        return type(lease)(lease.incarnation, lease.member_id, 1.0)


def test_the_defaults_fit_every_ttl() -> None:
    """The default interval and timeout leave room at any TTL from 0.2 s to a day."""
    for ttl in (0.2, 0.5, 1.0, 10.0, 60.0, 86400.0):
        Timing.plan(ttl=ttl, heartbeat_interval=None, request_timeout=None, early_expiry=0.0)


@pytest.mark.parametrize(
    ("option", "value"),
    [("lease_ttl", 0), ("lease_ttl", -1), ("lease_ttl", float("nan")), ("lease_ttl", "soon"), ("connect_timeout", 0)],
)
def test_durations_must_be_seconds_above_zero(option: str, value: object) -> None:
    """A duration that is no positive number is refused by its name and value."""
    with pytest.raises(drumbeat.ConfigurationError, match=f"{option} must be a number of seconds above 0"):
        drumbeat.connect("memory://x", **{option: value})  # type: ignore[arg-type]


def test_a_ttl_outside_the_limits_is_refused_with_both() -> None:
    """A TTL that the server does not grant is refused with what it does grant."""
    with pytest.raises(drumbeat.ConfigurationError, match=r"is outside what .* grants: .* to 86400 s"):
        drumbeat.connect("memory://x", lease_ttl=1e6)


def test_a_forked_child_holds_nothing_and_releases_nothing(connect: Callable[..., drumbeat.Session]) -> None:
    """FAULT-8: in a forked child every call raises Forked, `held` is False, and the parent keeps its term."""
    session = connect(clock=drumbeat.SystemClock())
    term = session.election("e").campaign()
    child = os.fork()
    if child == 0:
        os._exit(_look_around(session, term))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert term.held
    assert session.state is State.CONNECTED


def _look_around(session: drumbeat.Session, term: drumbeat.Term) -> int:
    """Return the number of checks that fail in the child; end it by a signal if a call hangs."""
    signal.alarm(20)
    failed = int(term.held) + int(term.resign()) + int(session.state is not State.CLOSED)
    uses: list[Callable[[], object]] = [
        session.group("g").members,
        session.group("g").join,
        session.election("e").leader,
        session.election("e").campaign,
        session.beat,
    ]
    for use in uses:
        try:
            use()
        except drumbeat.Forked:
            continue
        failed += 1
    session.close()
    return failed


def test_a_callback_may_close_the_session(connect: Callable[..., drumbeat.Session]) -> None:
    """close() from a callback returns, and the session is closed."""
    tap = Tap()
    session = connect(interceptors=[tap], clock=drumbeat.SystemClock(), lease_ttl=0.5)
    session.on_state(lambda state: session.close() if state is State.SUSPENDED else None)
    tap.before["heartbeat"] = _unavailable
    eventually(lambda: session.state is State.CLOSED, within=5.0)
    eventually(lambda: not any(thread.is_alive() for thread in session._keeper._threads), within=5.0)


def test_a_backend_that_raises_anything_is_survived(
    connect: Callable[..., drumbeat.Session], caplog: pytest.LogCaptureFixture
) -> None:
    """An error that no hook may raise suspends the session, is logged, and stops no thread."""
    tap = Tap()
    session = connect(interceptors=[tap], clock=drumbeat.SystemClock(), lease_ttl=2.0)

    def crash() -> None:
        raise ZeroDivisionError("a defect of the backend")

    tap.before["heartbeat"] = crash
    eventually(lambda: session.state is State.SUSPENDED, within=5.0)
    del tap.before["heartbeat"]
    eventually(lambda: session.state is State.CONNECTED, within=5.0)
    assert "a defect of the backend" in caplog.text


def test_what_no_hook_may_raise_is_told_without_its_text(connect: Callable[..., drumbeat.Session]) -> None:
    """A caller gets a BackendError that names hook and kind; what a client library said may hold a secret."""
    tap = Tap()
    session = connect(interceptors=[tap])

    def crash() -> None:
        raise LookupError("no route to user:secret@host")

    tap.before["read_group"] = crash
    with pytest.raises(drumbeat.BackendError, match=r"the hook read_group .* raised LookupError") as told:
        session.group("g").members()
    assert "secret" not in str(told.value)
    assert isinstance(told.value.__cause__, LookupError)


def test_a_server_that_is_down_at_connect_is_unavailable_in_time(clock: FakeClock) -> None:
    """Connecting to a server that does not answer raises Unavailable after `connect_timeout`."""
    tap = Tap()
    tap.before["open_session"] = lambda: _unavailable(clock, 1.0)
    started = clock.now()
    with pytest.raises(drumbeat.Unavailable):
        Background(
            lambda: drumbeat.connect(f"memory://{uuid.uuid4()}", clock=_Ticking(clock), interceptors=[tap])
        ).result(within=30.0)
    assert 5.0 <= clock.now() - started < 10.0


def test_waiting_for_a_server_goes_on_until_it_is_there() -> None:
    """With `wait=True` connecting outlasts `connect_timeout`."""
    tap = Tap()
    tap.before["open_session"] = _unavailable
    opening = Background(
        lambda: drumbeat.connect(
            f"memory://{uuid.uuid4()}", wait=True, connect_timeout=0.1, lease_ttl=1.0, interceptors=[tap]
        )
    )
    eventually(lambda: tap.calls["open_session"] >= 4, within=10.0)
    assert opening.running
    tap.before.clear()
    session = opening.result(within=10.0)
    assert isinstance(session, drumbeat.Session)
    session.close()


def test_wrong_credentials_are_not_tried_again() -> None:
    """An authentication error at connect is raised at once, also with `wait=True`."""
    tap = Tap()
    tap.before["open_session"] = _refuse
    with pytest.raises(drumbeat.AuthenticationError):
        drumbeat.connect(f"memory://{uuid.uuid4()}", wait=True, interceptors=[tap])
    assert tap.calls["open_session"] == 1


def test_wrong_credentials_at_a_reopening_end_the_session(connect: Callable[..., drumbeat.Session]) -> None:
    """When a reopening is refused by the credentials, the session is CLOSED and calls raise that error."""
    tap = Tap()
    session = connect(interceptors=[tap], clock=drumbeat.SystemClock(), lease_ttl=0.5)
    waiting = Background(lambda: session.group("g").wait_for(lambda view: len(view) == 9))
    tap.before["heartbeat"] = _unavailable
    tap.before["open_session"] = _refuse
    eventually(lambda: session.state is State.CLOSED, within=10.0)
    with pytest.raises(drumbeat.AuthenticationError):
        session.group("g").members()
    with pytest.raises(drumbeat.AuthenticationError):
        waiting.result(within=5.0)


class _Ticking:
    """A clock whose waits pass fake time at once."""

    def __init__(self, clock: FakeClock) -> None:
        self.now, self.wall = clock.now, clock.wall
        self._clock = clock

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        condition.wait(0.001)
        self._clock._now += timeout or 0.0


def _unavailable(clock: FakeClock | None = None, takes: float = 0.0) -> None:
    if clock is not None:
        clock._now += takes
    raise drumbeat.Unavailable("the server does not answer", outcome="not_applied")


def _refuse() -> None:
    raise drumbeat.AuthenticationError("the password is wrong")
