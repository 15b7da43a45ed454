"""Nothing leaks, nothing foreign is overwritten, and nobody on the other end can make a call hang."""

from __future__ import annotations

import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar, final
from urllib.parse import quote, urlsplit

import pytest

from drumbeat import BackendError, BadData, ConfigurationError, DrumbeatError, Unavailable
from drumbeat._url import BackendURL
from drumbeat_conformance.actor import plugin_of
from drumbeat_conformance.guarantee import Needs, guarantee
from drumbeat_conformance.strangers import babbler, mute

if TYPE_CHECKING:
    from drumbeat import Session
    from drumbeat._clock import Clock
    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.operators import Operator, Spoiling, Spoilt

E = TypeVar("E", bound=DrumbeatError)

#: Seconds of real time that connecting may take, and by how much it may be late on a busy machine.
_CONNECTING: Final = 1.0
_LATE: Final = 2.0
#: Words of servers of other kinds.
_GREETINGS: Final = (
    b"220 example.org ESMTP ready\r\n",
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    b"\x00\x00\x00\x05\xff\xff\xff\xff\xff\n",
)
#: Seconds by which a wall clock is behind.
_HOUR: Final = 3600.0


# Secrets ----------------------------------------------------------------------------------------------------


@final
class _Overheard(logging.Handler):
    """Everything that is logged in this process, at any level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line, with its traceback."""
        self.lines.append(logging.Formatter().format(record))


@contextmanager
def overhearing() -> Iterator[list[str]]:
    """Take down all that is logged, and each error that ends a thread."""
    root, handler = logging.getLogger(), _Overheard()
    level, hook = root.level, threading.excepthook

    def take(ended: threading.ExceptHookArgs) -> None:
        handler.lines += traceback.format_exception(ended.exc_type, ended.exc_value, ended.exc_traceback)
        hook(ended)

    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    threading.excepthook = take
    try:
        yield handler.lines
    finally:
        threading.excepthook = hook
        root.setLevel(level)
        root.removeHandler(handler)


def shown(arena: Arena, url: str) -> str:
    """Connect, in vain or not; return all that anybody is shown of it."""
    texts: list[str] = []
    with overhearing() as lines:
        try:
            backend = arena.backend(url=url)
            texts += [repr(backend), repr(plugin_of(backend))]
            session = arena.run(lambda: _connect(arena, url), within=_CONNECTING + _LATE)
            texts += [repr(session), str(session), repr(session.group("g")), repr(session.election("e"))]
            session.close(timeout=_CONNECTING)
        except DrumbeatError as error:
            texts += [repr(error), str(error), *traceback.format_exception(error)]
    with suppress(ConfigurationError):
        texts += [repr(BackendURL.parse(url)), str(BackendURL.parse(url))]
    return "\n".join([*texts, *lines])


@guarantee("SAFE-1")
def a_password_is_never_shown(arena: Arena) -> None:
    """A password never appears in a log line, an error with its causes, or a repr, whether connecting works or not."""
    secret = f"s3cr3t{arena.draw.getrandbits(64):016x}"
    assert secret not in shown(arena, _with_password(arena.url, secret))


@guarantee("SAFE-7", needs=Needs.LINK)
def a_password_is_not_shown_by_what_goes_wrong(arena: Arena) -> None:
    """A password never appears when the host is unknown, nobody listens, nobody answers, or somebody repeats it."""
    secret = f"s3cr3t{arena.draw.getrandbits(64):016x}"
    url = _with_password(arena.url, secret)
    echo = f"-ERR unknown command 'AUTH alice {secret}'\r\n".encode()
    with _closed_port() as nobody, mute() as silent, babbler(echo) as parrot:
        for address in (nobody, silent.address, parrot.address, f"unknown-host.invalid:{urlsplit(url).port}"):
            found = shown(arena, _moved(url, address))
            assert secret not in found, f"at {address}"
            assert found


# Rubbish ----------------------------------------------------------------------------------------------------


@guarantee("SAFE-2", needs=Needs.OPERATOR, instead={"local": "LOCAL-3"})
def rubbish_is_named_and_kept(arena: Arena) -> None:
    """What is stored and cannot be read (of another type, cut off, of a newer format) is an error that names its key.

    Nothing is overwritten, neither by those who meet it nor by a heartbeat of the session that had written there.
    """
    assert arena.target.operator is not None
    operator: Operator = arena.target.operator(arena.url)
    for number, spoiling in enumerate(operator.spoilings()):
        _spoil(arena, spoiling, f"rubbish-{number}")


def _spoil(arena: Arena, spoiling: Spoiling, namespace: str) -> None:
    what = f"{spoiling.place}, {spoiling.how}"
    holder, other = (arena.actor(name, namespace=namespace) for name in "ab")
    holder.win("e")
    spoilt = spoiling.spoil(arena.namespace(namespace), "e")
    if spoiling.place == "seat":
        _expect_bad(lambda: other.leader("e"), spoilt, what)
        _expect_bad(lambda: other.campaign("e"), spoilt, what)
    else:
        _expect_bad(lambda: arena.actor("c", namespace=namespace), spoilt, what)
    with suppress(DrumbeatError):
        holder.beat()
    assert spoilt.is_unchanged(), what


def _expect_bad(call: Callable[[], object], spoilt: Spoilt, what: str) -> None:
    with pytest.raises(BadData) as found:
        call()
    assert spoilt.key == found.value.key, what
    assert spoilt.key in str(found.value), what


# Strangers --------------------------------------------------------------------------------------------------


@guarantee("SAFE-3", needs=Needs.LINK)
def a_server_that_never_answers_is_unavailable(arena: Arena) -> None:
    """Connecting to a server that accepts and never says a word is Unavailable when the connect timeout is over."""
    with mute() as stranger:
        error = _refused(arena, stranger.address, Unavailable)
    assert stranger.address in str(error)


@guarantee("SAFE-4", needs=Needs.LINK)
def a_server_of_another_kind_is_an_error_in_time(arena: Arena) -> None:
    """Connecting to a server of another kind is an error of Drumbeat that names its address, in the connect timeout."""
    for greeting in _GREETINGS:
        with babbler(greeting) as stranger:
            error = _refused(arena, stranger.address, DrumbeatError)
        assert isinstance(error, Unavailable | BackendError | ConfigurationError), repr(error)
        assert stranger.address in str(error)


@guarantee("SAFE-5", needs=Needs.LINK)
def a_port_where_nobody_listens_is_unavailable(arena: Arena) -> None:
    """Connecting where nobody listens is Unavailable, names the address, and says that nothing was applied."""
    with _closed_port() as address:
        error = _refused(arena, address, Unavailable)
    assert error.outcome == "not_applied"
    assert address in str(error)


def _refused(arena: Arena, address: str, kind: type[E]) -> E:
    started = arena.clock.now()
    with pytest.raises(DrumbeatError) as refusal:
        arena.run(lambda: _connect(arena, _moved(arena.url, address)), within=_CONNECTING + _LATE)
    assert arena.clock.now() - started <= _CONNECTING + _LATE
    assert isinstance(refusal.value, kind), repr(refusal.value)
    return refusal.value


# Clocks -----------------------------------------------------------------------------------------------------


@final
class _Stepped:
    """A clock whose wall time is that of another, plus `offset` seconds."""

    def __init__(self, clock: Clock) -> None:
        self.offset = 0.0
        self._clock = clock

    def now(self) -> float:
        """Return the other's time."""
        return self._clock.now()

    def wall(self) -> float:
        """Return what a machine shows whose clock was set to another time."""
        return self._clock.wall() + self.offset

    def wait(self, condition: threading.Condition, timeout: float | None) -> None:
        """Wait as the other does."""
        self._clock.wait(condition, timeout)


@guarantee("SAFE-6")
def tokens_rise_though_a_wall_clock_steps_back(arena: Arena) -> None:
    """Tokens rise from term to term, also where the winner's wall clock is an hour behind that of the last one."""
    clock = _Stepped(arena.clock)
    actors = [arena.actor(name, backend=arena.backend(clock=clock)) for name in "ab"]
    tokens = []
    for turn in range(4):
        clock.offset = -_HOUR * (turn % 2)
        seat = actors[turn % 2].win("e")
        tokens.append(seat.token)
        assert actors[turn % 2].resign(seat)
    assert tokens == sorted(set(tokens))


# URLs -------------------------------------------------------------------------------------------------------


def _connect(arena: Arena, url: str) -> Session:
    return arena.connect(url=url, connect_timeout=_CONNECTING)


def _with_password(url: str, secret: str) -> str:
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    # As a URL must write it: what decodes it, and shows it so, is found out too.
    return f"{scheme}://alice:{quote(f'{secret}@/', safe='')}@{place.rpartition('@')[2]}{slash}{path}"


def _moved(url: str, address: str) -> str:
    """Return the URL of a store at another address."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    return url.replace(host, address, 1)


@contextmanager
def _closed_port() -> Iterator[str]:
    # Bound and not listened on: nobody else can take it, and the system refuses all who come.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"
