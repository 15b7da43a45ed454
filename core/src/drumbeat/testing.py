"""Help for testing code that uses Drumbeat: a clock that a test moves by hand, faults, and sessions without a server.

Everything here works on the `memory` backend without sleeping; `Faults`, `freeze` and `lose` work on every backend.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Final, TypeVar, cast, final

from drumbeat._clock import Clock, Signal, SystemClock
from drumbeat._errors import ConfigurationError, Timeout, Unavailable
from drumbeat._fakeclock import FakeClock
from drumbeat._plugins import BACKEND_SPECS, nearest
from drumbeat._session import Session, connect
from drumbeat.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from drumbeat._facade import Backend
    from drumbeat._settings import HeartbeatMode
    from drumbeat._term import Term

__all__ = ["FakeClock", "Faults", "freeze", "lose", "memory_session", "memory_url", "wait_until"]

T = TypeVar("T")

#: Real seconds between two looks of `wait_until`.
LOOK: Final = 0.002

_HOOKS: Final = frozenset(name for spec in BACKEND_SPECS for name in vars(spec) if not name.startswith("_"))
#: The hooks that ask a server; letting go of local resources cannot fail.
_ASKING: Final = _HOOKS - {"drop_session"}
_numbers = count(1)


def memory_url() -> str:
    """Return the URL of a store in memory that no earlier call has named.

    Sessions of this process that connect to the same URL meet; they must be given the same clock.

    >>> from drumbeat import connect
    >>> from drumbeat.testing import memory_url
    >>> url = memory_url()
    >>> with connect(url, member_id="a") as a, connect(url, member_id="b") as b:
    ...     a.group("agents").join()
    ...     b.group("agents").members().ids
    ('a',)
    """
    return f"memory://test-{os.getpid()}-{next(_numbers)}"


def memory_session(
    url: str | None = None,
    *,
    member_id: str | None = None,
    lease_ttl: float = 10.0,
    clock: Clock | None = None,
    heartbeat: HeartbeatMode = "auto",
    observers: Sequence[str | object] = (),
    interceptors: Sequence[object] = (),
) -> Session:
    """Open a session on a store in memory: a fresh one, or the one that `url` names.

    The arguments are those of `drumbeat.connect`; `lease_ttl` is in seconds.

    >>> from drumbeat.testing import memory_session
    >>> with memory_session(member_id="a") as session:
    ...     session.group("agents").join({"zone": 1})
    ...     session.group("agents").members()["a"].metadata
    {'zone': 1}
    """
    return connect(
        url or memory_url(),
        member_id=member_id,
        lease_ttl=lease_ttl,
        clock=clock,
        heartbeat=heartbeat,
        observers=observers,
        interceptors=interceptors,
    )


def wait_until(predicate: Callable[[], T], timeout: float = 5.0) -> T:
    """Return the first true value of `predicate()`; raise drumbeat.Timeout after `timeout` seconds of real time.

    For what another thread or process does in its own time. On a `FakeClock`, `advance` and `settle` leave nothing
    to wait for.

    >>> import threading
    >>> from drumbeat.testing import wait_until
    >>> done = []
    >>> threading.Timer(0.01, done.append, ["now"]).start()
    >>> wait_until(lambda: done)
    ['now']
    """
    until = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= until:
            raise Timeout(f"{predicate!r} gave {value!r} for {timeout:g} s; the last look was the deciding one")
        time.sleep(LOOK)


@contextmanager
def freeze(session: Session) -> Iterator[None]:
    """Stop a session's heartbeats and all its other requests in the block, as SIGSTOP does to a process.

    The session becomes LOST at its deadline and everybody else sees it go when its TTL has passed. Where the block
    ends, the requests that wait go out, late. A call on the session from the thread that froze it raises
    RuntimeError, since it would wait for itself; on another thread it waits for the end of the block.

    >>> from drumbeat.testing import FakeClock, freeze, memory_session
    >>> clock = FakeClock()
    >>> with memory_session(clock=clock, lease_ttl=10.0) as session:
    ...     with freeze(session):
    ...         clock.advance(10.0)
    ...         session.state.value
    ...     clock.settle()
    ...     session.state.value  # it was opened again
    'LOST'
    'CONNECTED'
    """
    keeper = session._keeper  # noqa: SLF001 - one package
    backend = keeper.backend
    thawed = Signal(keeper.clock)
    keeper.backend = cast("Backend", _Frozen(backend, thawed))
    try:
        yield
    finally:
        keeper.backend = backend
        thawed.set()


def lose(what: Term | Session, reason: str = "a test wanted it lost") -> None:
    """Make a term, or a session with all its terms, lost at once and on purpose.

    A lost term's seat is free for others when this returns (or, if the server does not answer, within one heartbeat).
    A lost session is opened again by itself. Callbacks run on their own thread: see `FakeClock.settle`. Harmless for
    what is over already.

    >>> from drumbeat.testing import lose, memory_session
    >>> with memory_session() as session:
    ...     term = session.election("leader").campaign()
    ...     lose(term)
    ...     term.held, session.election("leader").leader()
    (False, None)
    """
    keeper = what._keeper  # noqa: SLF001 - one package
    if isinstance(what, Session):
        if keeper.incarnation is not None:
            keeper.lose(keeper.incarnation, reason)
        return
    keeper.revoke(what._incarnation, what._seat, reason)  # noqa: SLF001 - one package
    with suppress(Unavailable):
        keeper.resign(what._incarnation, what._seat)  # noqa: SLF001 - one package


@dataclass(frozen=True, slots=True)
class _Fault:
    hooks: frozenset[str]
    before: Callable[[str, float], None]
    after: Callable[[str], None]


@final
class Faults:
    """An interceptor whose faults a test switches on and off; for `drumbeat.connect(..., interceptors=[faults])`.

    Each method takes the names of hooks (see `drumbeat.hookspecs`), or none for every hook that asks the server,
    and gives a context manager: the fault is on inside the block. Give it the session's clock if that is not the
    machine's. Raises ConfigurationError for a hook that does not exist.

    >>> from drumbeat import Unavailable
    >>> from drumbeat.testing import Faults, memory_session
    >>> faults = Faults()
    >>> with memory_session(interceptors=[faults]) as session:
    ...     with faults.failing("join_group"):
    ...         try:
    ...             session.group("agents").join()
    ...         except Unavailable as error:
    ...             error.outcome
    ...     session.group("agents").join()
    ...     faults.calls["join_group"]
    'not_applied'
    2
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._active: tuple[_Fault, ...] = ()
        #: How often each hook was called, by its name; faults or not.
        self.calls: Counter[str] = Counter()

    @contextmanager
    def failing(self, *hooks: str) -> Iterator[None]:
        """Make hooks raise Unavailable at once, with nothing applied: the server is down."""

        def before(hook: str, _timeout: float) -> None:
            raise Unavailable(f"{hook}: a test has cut the link to the server", outcome="not_applied")

        with self._on(hooks, before=before):
            yield

    @contextmanager
    def hanging(self, *hooks: str) -> Iterator[None]:
        """Make hooks wait for the end of the block; one whose timeout comes first raises Unavailable.

        What waits until the end of the block is then sent, as by a server that was frozen for a while.
        """
        over = Signal(self._clock)

        def before(hook: str, timeout: float) -> None:
            if not over.wait(timeout):
                raise Unavailable(f"{hook}: a test lets the server hang; no answer for {timeout:g} s")

        try:
            with self._on(hooks, before=before):
                yield
        finally:
            over.set()

    @contextmanager
    def delaying(self, seconds: float, *hooks: str) -> Iterator[None]:
        """Send the requests of hooks `seconds` late; one whose timeout comes first raises Unavailable unsent."""

        def before(hook: str, timeout: float) -> None:
            Signal(self._clock).wait(min(seconds, timeout))
            if seconds >= timeout:
                raise Unavailable(f"{hook}: a test delays it by {seconds:g} s; no answer for {timeout:g} s")

        with self._on(hooks, before=before):
            yield

    @contextmanager
    def dropping_replies(self, *hooks: str) -> Iterator[None]:
        """Let the server do what hooks ask for, then raise Unavailable in place of the answer."""

        def after(hook: str) -> None:
            raise Unavailable(f"{hook}: a test has dropped the server's reply")

        with self._on(hooks, after=after):
            yield

    @contextmanager
    def _on(
        self,
        hooks: tuple[str, ...],
        *,
        before: Callable[[str, float], None] = lambda _hook, _timeout: None,
        after: Callable[[str], None] = lambda _hook: None,
    ) -> Iterator[None]:
        for hook in hooks:
            if hook not in _ASKING:
                raise ConfigurationError(f"there is no hook {hook!r} that asks the server, {nearest(hook, _ASKING)}")
        fault = _Fault(frozenset(hooks) or _ASKING, before, after)
        with self._lock:
            self._active = (*self._active, fault)
        try:
            yield
        finally:
            with self._lock:
                self._active = tuple(other for other in self._active if other is not fault)

    def _count(self, hook: str) -> list[_Fault]:
        with self._lock:
            self.calls[hook] += 1
            return [fault for fault in self._active if hook in fault.hooks]


def _asking(hook: str) -> Callable[[Faults, float], Generator[None, object, object]]:
    @hookimpl(wrapper=True, specname=hook)
    def intercept(self: Faults, timeout: float) -> Generator[None, object, object]:
        faults = self._count(hook)
        for fault in faults:
            fault.before(hook, timeout)
        answer = yield
        for fault in faults:
            fault.after(hook)
        return answer

    return intercept


def _letting_go(hook: str) -> Callable[[Faults], Generator[None, object, object]]:
    @hookimpl(wrapper=True, specname=hook)
    def intercept(self: Faults) -> Generator[None, object, object]:
        self._count(hook)
        return (yield)

    return intercept


for _hook in _HOOKS:
    setattr(Faults, f"_intercept_{_hook}", (_asking if _hook in _ASKING else _letting_go)(_hook))


class _Frozen:
    """In the place of a session's backend: every call waits for the thaw."""

    def __init__(self, backend: Backend, thawed: Signal) -> None:
        self._backend = backend
        self._thawed = thawed
        self._freezer = threading.current_thread()

    def __getattr__(self, name: str) -> object:
        target = getattr(self._backend, name)
        if name in {"implements", "scheme"}:
            return target

        def call(*arguments: object, **options: object) -> object:
            if threading.current_thread() is self._freezer:
                raise RuntimeError(
                    f"{name} would wait for the end of freeze(), which this thread is in; nothing was sent. Use the "
                    "session after the block, or in another thread"
                )
            self._thawed.wait()
            return target(*arguments, **options)

        return call
