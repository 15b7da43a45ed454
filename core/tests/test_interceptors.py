"""Interceptors: hook wrappers that a test puts around a backend, and nobody else does."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from support import Background

import drumbeat
from drumbeat import BackendError, ConfigurationError, Session, Unavailable, hookimpl
from drumbeat.testing import FakeClock, memory_session, memory_url

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from drumbeat.hookspecs import Beat, Lease, Waiting, Withdrawn, Won

TTL = 10.0


@pytest.fixture
def clock() -> FakeClock:
    """Time stands still until the test moves it."""
    return FakeClock()


@pytest.fixture
def open_session(clock: FakeClock) -> Iterator[Callable[..., Session]]:
    """Open sessions on one fresh store and the clock, and close them afterwards."""
    url = memory_url()
    sessions: list[Session] = []

    def connect(member_id: str, *interceptors: object, **options: object) -> Session:
        given = {"lease_ttl": TTL, "clock": clock, "interceptors": interceptors} | options
        session = drumbeat.connect(url, member_id=member_id, **given)  # type: ignore[arg-type]
        sessions.append(session)
        return session

    yield connect
    for session in sessions:
        session.close(timeout=1.0)


class SlowHeartbeats:
    """Takes a second of the clock for each heartbeat."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock

    @hookimpl(wrapper=True)
    def heartbeat(self) -> Generator[None, Beat, Beat]:
        answer = yield
        self.clock.advance(1.0)
        return answer


class BeatsBeforeResigning:
    """Has a session send a heartbeat after it has decided to resign, and before the server hears of that."""

    session: Session

    @hookimpl(wrapper=True)
    def resign(self) -> Generator[None, object, object]:
        self.session.beat()
        return (yield)


class DroppedReplies:
    """Lets the server do what the first calls of a hook ask for, and then says that no answer came."""

    def __init__(self) -> None:
        self.left = 0

    @hookimpl(wrapper=True)
    def campaign(self) -> Generator[None, Won | Waiting, Won | Waiting]:
        answer = yield
        self._drop()
        return answer

    @hookimpl(wrapper=True)
    def open_session(self) -> Generator[None, Lease, Lease]:
        answer = yield
        self._drop()
        return answer

    def _drop(self) -> None:
        if self.left > 0:
            self.left -= 1
            raise Unavailable("the reply was dropped")


def test_a_wrapper_can_delay(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """The deadline counts from the sending of a heartbeat, however late a wrapper passes the answer on."""
    session = open_session("a", SlowHeartbeats(clock), heartbeat="manual")
    full = session.election("e").campaign()
    before = full.remaining
    clock.advance(5.0)
    session.beat()
    assert clock.now() == 1006.0
    assert full.remaining == pytest.approx(before - 1.0)


def test_a_wrapper_can_fail_before_the_call(open_session: Callable[..., Session]) -> None:
    """What a wrapper raises before the backend is asked reaches the caller, and nothing was applied."""

    class NoJoins:
        @hookimpl(wrapper=True)
        def join_group(self, group: str) -> Generator[None, object, object]:
            if group == "forbidden":
                raise Unavailable("the link is cut", outcome="not_applied")
            return (yield)

    session = open_session("a", NoJoins())
    with pytest.raises(Unavailable, match="the link is cut"):
        session.group("forbidden").join()
    session.group("allowed").join()
    assert session.groups() == ("allowed",)


@pytest.mark.parametrize("times", [1, 2, 5])
def test_a_dropped_reply_neither_loses_nor_doubles_a_seat(
    clock: FakeClock, open_session: Callable[..., Session], times: int
) -> None:
    """A campaign whose replies were dropped after the win has one term: the one that the server knows."""
    drops = DroppedReplies()
    session, other = open_session("a", drops), open_session("b")
    drops.left = times
    campaigning = Background(lambda: session.election("e").campaign())
    clock.advance(TTL)
    term = campaigning.result()
    assert isinstance(term, drumbeat.Term)
    leader = other.election("e").leader()
    assert leader is not None
    assert (leader.member_id, leader.token, term.token, drops.left) == ("a", 1, 1, 0)
    assert term.resign()
    assert other.election("e").campaign(timeout=0).token == 2


def test_a_dropped_reply_does_not_open_two_sessions(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """Connecting again after a lost reply finds the session that it had opened, rather than a conflict with it."""
    drops = DroppedReplies()
    drops.left = 2
    connecting = Background(lambda: open_session("a", drops, on_conflict="refuse"))
    clock.advance(TTL)
    assert isinstance(connecting.result(), Session)


def test_a_given_up_campaign_frees_what_it_won_unseen(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """If the win and the withdrawal both get no answer, the seat is free after one heartbeat."""

    class NoAnswers(DroppedReplies):
        @hookimpl(wrapper=True)
        def withdraw(self) -> Generator[None, Withdrawn, Withdrawn]:
            raise Unavailable("the link is cut")
            yield

    drops = NoAnswers()
    session, other = open_session("a", drops), open_session("b")
    drops.left = 1
    with pytest.raises(drumbeat.Timeout):
        session.election("e").campaign(timeout=0)
    assert other.election("e").leader() is not None
    clock.advance(TTL / 4)
    assert other.election("e").leader() is None


def test_calls_can_be_counted(clock: FakeClock, open_session: Callable[..., Session]) -> None:
    """One heartbeat is one call of one hook, with one holding or with fifty groups and locks."""

    class Counting:
        def __init__(self) -> None:
            self.calls: Counter[str] = Counter()

        @hookimpl(wrapper=True)
        def heartbeat(self) -> Generator[None, Beat, Beat]:
            self.calls["heartbeat"] += 1
            return (yield)

        @hookimpl(wrapper=True)
        def join_group(self) -> Generator[None, object, object]:
            self.calls["join_group"] += 1
            return (yield)

    counting = Counting()
    session = open_session("a", counting, heartbeat="manual")
    session.beat()
    for number in range(50):
        session.group(f"g{number}").join()
        session.lock(f"l{number}").acquire()
    session.beat()
    assert counting.calls == {"heartbeat": 2, "join_group": 50}


def test_the_last_interceptor_is_the_outermost(open_session: Callable[..., Session]) -> None:
    """Several interceptors wrap one another in the order in which they were given."""
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        @hookimpl(wrapper=True)
        def read_group(self) -> Generator[None, object, object]:
            order.append(f"{self.name} in")
            answer = yield
            order.append(f"{self.name} out")
            return answer

    open_session("a", Named("first"), Named("last")).group("g").members()
    assert order == ["last in", "first in", "first out", "last out"]


def test_an_interceptor_is_the_affair_of_its_own_session(open_session: Callable[..., Session]) -> None:
    """A session without interceptors is not touched by those of its neighbour on the same store."""

    class NoReads:
        @hookimpl(wrapper=True)
        def read_group(self) -> Generator[None, object, object]:
            raise Unavailable("the link is cut")
            yield

    cut, whole = open_session("a", NoReads()), open_session("b")
    with pytest.raises(Unavailable):
        cut.group("g").members()
    assert whole.group("g").members().ids == ()


def test_one_interceptor_may_serve_several_sessions(open_session: Callable[..., Session]) -> None:
    """The same object can be given to two sessions, so that a test cuts both links at once."""
    drops = DroppedReplies()
    one, two = open_session("a", drops), open_session("b", drops)
    drops.left = 2
    for session in (one, two):
        with pytest.raises(drumbeat.Timeout):
            session.election(session.member_id).campaign(timeout=0)
    assert drops.left == 0


def test_a_wrapper_that_forgets_to_return_is_named_by_its_hook(open_session: Callable[..., Session]) -> None:
    """A wrapper that turns the answer into None is refused by the hook's name, as a backend would be."""

    class Forgetful:
        @hookimpl(wrapper=True)
        def read_group(self) -> Generator[None, object, None]:
            yield

    with pytest.raises(BackendError, match="the hook read_group of the backend for memory:// returned None"):
        open_session("a", Forgetful()).group("g").members()


def test_an_interceptor_that_implements_is_refused() -> None:
    """An interceptor cannot stand in for the backend: it must wrap, and the error says how."""

    class Usurper:
        @hookimpl
        def read_leader(self) -> None:
            """Answer in the place of the backend."""

    with pytest.raises(ConfigurationError, match=r"Usurper implements read_leader itself.*hookimpl\(wrapper=True\)"):
        memory_session(interceptors=[Usurper()])


def test_a_misspelt_hook_names_the_nearest() -> None:
    """A wrapper of a hook that does not exist is refused, with the name that was meant."""

    class Misspelt:
        @hookimpl(wrapper=True)
        def heartbeet(self) -> Generator[None, object, object]:
            return (yield)

    with pytest.raises(
        ConfigurationError, match=r"Misspelt does not fit.*no hook 'heartbeet', did you mean 'heartbeat'"
    ):
        memory_session(interceptors=[Misspelt()])


def test_a_wrong_argument_is_refused() -> None:
    """A wrapper that asks for an argument that its hook does not have is refused when it is given, not when called."""

    class Curious:
        @hookimpl(wrapper=True)
        def heartbeat(self, colour: str) -> Generator[None, object, object]:
            return (yield)

    with pytest.raises(ConfigurationError, match=r"Curious does not fit the contract.*colour"):
        memory_session(interceptors=[Curious()])


def test_a_refused_interceptor_opens_nothing() -> None:
    """Where an interceptor is refused, no session was opened."""
    url = memory_url()

    class Usurper:
        @hookimpl
        def read_leader(self) -> None:
            """Answer in the place of the backend."""

    with pytest.raises(ConfigurationError):
        memory_session(url, member_id="a", interceptors=[Usurper()])
    with drumbeat.connect(url, member_id="a", on_conflict="refuse") as session:
        assert session.state is drumbeat.State.CONNECTED


def test_wrappers_are_never_taken_from_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package cannot put itself between a session and its backend, whatever it registers."""
    info = tmp_path / "sneaky-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sneaky\nVersion: 1.0\n")
    groups = ["drumbeat", "drumbeat.interceptors", "drumbeat.hooks", "drumbeat.plugins", "pluggy"]
    (info / "entry_points.txt").write_text("".join(f"[{group}]\nmemory = sneaky\n" for group in groups))
    (tmp_path / "sneaky.py").write_text("raise RuntimeError('loaded')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with memory_session(observers=["logging"]) as session:
        session.group("g").join()
        session.beat()
    assert "sneaky" not in sys.modules


def test_a_heartbeat_does_not_come_before_a_resignation(open_session: Callable[..., Session]) -> None:
    """A heartbeat that overtakes a resignation leaves it its seat to free, so that it says that it was held."""
    overtaking = BeatsBeforeResigning()
    overtaking.session = session = open_session("a", overtaking)
    election = session.election("e")
    term = election.campaign()
    assert term.resign()
    assert not term.held
    assert not term.resign()
    assert election.leader() is None
    assert session.state is drumbeat.State.CONNECTED
