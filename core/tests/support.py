"""What several test modules use: fresh stores, hooks that fail on purpose, and waiting for a condition."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import drumbeat
from drumbeat import Session, hookimpl
from drumbeat._plugins import BACKEND_SPECS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

T = TypeVar("T")

#: Seconds; the unit of every bound in the tests of embedded backends.
TTL = 0.6
HOOKS = [name for spec in BACKEND_SPECS for name in vars(spec) if not name.startswith("_")]


class Tap:
    """An interceptor that counts calls, and runs what a test puts before or after a hook."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Callable[[], None]] = {}
        self.after: dict[str, Callable[[], None]] = {}

    @contextmanager
    def cut(self) -> Iterator[None]:
        """Make every call fail as behind a cut link: nothing reaches the server, no answer comes."""

        def fail() -> None:
            raise drumbeat.Unavailable("the link is cut", outcome="not_applied")

        self.before = dict.fromkeys(HOOKS, fail)
        del self.before["drop_session"]
        try:
            yield
        finally:
            self.before = {}


def _wrapper(name: str) -> Callable[[Tap], Generator[None, object, object]]:
    @hookimpl(wrapper=True, specname=name)
    def wrap(self: Tap) -> Generator[None, object, object]:
        self.calls[name] += 1
        if name in self.before:
            self.before[name]()
        answer = yield
        if name in self.after:
            self.after[name]()
        return answer

    return wrap


for _name in HOOKS:
    setattr(Tap, f"tap_{_name}", _wrapper(_name))


class Cluster:
    """One store, and the sessions that a test opened on it."""

    def __init__(self, url: str, *, ttl: float = TTL, prefix: str = "") -> None:
        self.url = url
        #: Seconds; the unit of every bound in the tests that use this store.
        self.ttl = ttl
        self._prefix = prefix
        self.sessions: list[Session] = []

    @property
    def namespace(self) -> str:
        """Where `connect` connects to, for processes that do it by themselves."""
        return f"{self._prefix}tests"

    def connect(self, member_id: str | None = None, *, namespace: str = "tests", **options: object) -> Session:
        """Open a session that is closed at the end of the test."""
        given = {"lease_ttl": self.ttl, "connect_timeout": 5.0, "on_empty_store": "trust"} | options
        given["namespace"] = f"{self._prefix}{namespace}"
        session = drumbeat.connect(self.url, member_id=member_id, **given)  # type: ignore[arg-type]
        self.sessions.append(session)
        return session

    def close(self) -> None:
        """Close what is still open."""
        for session in self.sessions:
            session.close(timeout=1.0)


def eventually(condition: Callable[[], T], *, within: float) -> T:
    """Return the first true value of a condition, or fail once `within` seconds have passed."""
    until = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < until, f"not within {within:g} s"
        time.sleep(0.005)


class Background:
    """A call that runs in a thread, whose result or error the test takes."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self._result: object = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether the call has neither returned nor raised."""
        return self._thread.is_alive()

    def result(self, *, within: float = 40.0) -> object:
        """Return what the call returned, or raise what it raised; fail if it is not done in time."""
        self._thread.join(within)
        assert not self._thread.is_alive(), f"not done within {within:g} s"
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - handed to the thread that asks for the result
            self._error = error
