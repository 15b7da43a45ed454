"""What each process of a soak does, until it is told to end: `python -m drumbeat_conformance.soak` with its orders."""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, final

import drumbeat
from drumbeat import Conflict, DrumbeatError, Session, Term, Unavailable
from drumbeat.history import append_line
from drumbeat.observers import HistoryObserver
from drumbeat_conformance.checker import Op, Operation, Value, as_line
from drumbeat_conformance.members import PRELOAD
from drumbeat_conformance.members._program import preload
from drumbeat_conformance.soak._store import Fenced, Store

#: What all of them use.
GROUP: Final = "crew"
ELECTION: Final = "captain"
LOCK: Final = "counter"
COUNTER: Final = "counter/count"
REGISTER: Final = "register/count"


#: Of linux/prctl.h.
_PR_SET_PDEATHSIG: Final = 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a process is told on its command line, as JSON."""

    url: str
    namespace: str
    member_id: str
    ttl: float
    #: The file that it alone writes its history to.
    history: str
    #: The file of the counter.
    counter: str
    seed: int

    def as_argument(self) -> str:
        """Return them as JSON."""
        return json.dumps(asdict(self))


def work(argument: str) -> None:
    """Connect and work until a line comes, or the input ends: then the conductor is gone, and so is this process."""
    preload(os.environ.get(PRELOAD))
    # An interrupt at the terminal is the conductor's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _end_with_parent()
    orders = Orders(**json.loads(argument))
    with _connect(orders) as session:
        worker = _Worker(orders, session)
        worker.start()
        if not sys.stdin.readline():
            os._exit(1)
        worker.finish()


def _end_with_parent() -> None:
    """Have the kernel kill this process when the conductor is dead: one that is stopped reads no end of its input."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _connect(orders: Orders) -> Session:
    """Open the session, however long the server or an earlier session of this member stands in the way."""
    while True:
        with suppress(Conflict):
            return drumbeat.connect(
                orders.url,
                namespace=orders.namespace,
                member_id=orders.member_id,
                lease_ttl=orders.ttl,
                wait=True,
                on_empty_store="trust",
                observers=[HistoryObserver(Path(orders.history))],
            )


@final
class _Worker:
    """One process at work: it watches its group, leads for a while, and raises a counter under a lock."""

    def __init__(self, orders: Orders, session: Session) -> None:
        self._orders = orders
        self._session = session
        self._store = Store(Path(orders.counter))
        self._journal = _Journal(orders)
        self._clock = drumbeat.SystemClock()
        self._over = threading.Event()
        tasks: list[Callable[[random.Random], None]] = [self._watch, self._lead, self._count]
        self._threads = [
            threading.Thread(target=self._repeat, args=(task, random.Random(orders.seed + number)), daemon=True)  # noqa: S311 - repeatable, nothing secret
            for number, task in enumerate(tasks)
        ]

    def start(self) -> None:
        """Join the group and begin."""
        while True:
            with suppress(Unavailable):
                self._session.group(GROUP).join()
                break
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Bring all to an end in good order."""
        self._over.set()
        for thread in self._threads:
            thread.join(20 * self._orders.ttl)

    def _repeat(self, task: Callable[[random.Random], None], draw: random.Random) -> None:
        while not self._over.is_set():
            try:
                # What a fault makes impossible is tried again.
                with suppress(DrumbeatError):
                    task(draw)
            except BaseException:  # noqa: BLE001 - a defect ends the process, and the conductor tells so
                traceback.print_exc()
                os._exit(70)

    def _watch(self, _: random.Random) -> None:
        with self._journal.tell("watch", f"group/{GROUP}") as watch, self._session.group(GROUP).watch() as changes:
            while not self._over.is_set():
                with suppress(drumbeat.Timeout):
                    changes.next(self._orders.ttl / 2)
            watch.done()

    def _lead(self, draw: random.Random) -> None:
        name = f"election/{ELECTION}"
        # The session's own line of the win comes later, and not at all if the process is killed before.
        with self._journal.tell("acquire", name) as acquire:
            try:
                term = self._session.election(ELECTION).campaign(timeout=3 * self._orders.ttl)
            except drumbeat.Timeout:
                acquire.refused()
                return
            acquire.done(token=term.token)
        until = self._clock.now() + draw.uniform(0.1, 2.0) * self._orders.ttl
        while self._uses(term, name) and self._clock.now() < until and not self._over.is_set():
            term.lost.wait(self._orders.ttl / 20)
        self._release(term, name)
        self._over.wait(draw.uniform(0.0, 0.5) * self._orders.ttl)

    def _count(self, draw: random.Random) -> None:
        name = f"lock/{LOCK}"
        with self._journal.tell("acquire", name) as acquire:
            try:
                term = self._session.lock(LOCK).acquire(timeout=3 * self._orders.ttl)
            except drumbeat.Timeout:
                acquire.refused()
                return
            acquire.done(token=term.token)
        if self._uses(term, name):
            self._increment(term.token, draw)
        self._release(term, name)
        self._over.wait(draw.uniform(0.0, 0.3) * self._orders.ttl)

    def _increment(self, token: int, draw: random.Random) -> None:
        with self._journal.tell("increment", COUNTER) as increment:
            try:
                with self._journal.tell("read", REGISTER, token=token) as read, _fenced(read):
                    found = self._store.read(token)
                    read.done(value=found)
                number = (found or 0) + 1
                # Time in which another process would read the same number.
                self._over.wait(draw.uniform(0.0, 0.05) * self._orders.ttl)
                with self._journal.tell("write", REGISTER, token=token, value=number) as write, _fenced(write):
                    self._store.write(token, number)
                    write.done()
            except Fenced:
                increment.refused()
                return
            increment.done(value=number)

    def _uses(self, term: Term, name: str) -> bool:
        with self._journal.tell("use", name, token=term.token, at_once=False) as use:
            held = term.held
            use.done() if held else use.refused()
        return held

    def _release(self, term: Term, name: str) -> None:
        with self._journal.tell("release", name, token=term.token) as release:
            # Without an answer the seat may be free now, or at any time until the lease is over.
            release.done() if term.resign() else release.refused()


@final
class _Telling:
    """One operation under way; `done` or `refused` gives it its answer."""

    def __init__(self, journal: _Journal, operation: Operation) -> None:
        self._journal = journal
        self._operation = operation

    def done(self, *, token: int | None = None, value: Value = None) -> None:
        """Record that it was done."""
        known = self._operation
        given = replace(known, token=known.token if token is None else token, outcome="done")
        self._end(given if value is None else replace(given, value=value))

    def refused(self) -> None:
        """Record that it was refused."""
        self._end(replace(self._operation, outcome="refused"))

    def _end(self, operation: Operation) -> None:
        self._journal.write(replace(operation, returned=self._journal.now()))


@contextmanager
def _fenced(operation: _Telling) -> Iterator[None]:
    """Record that an operation was refused, if the store did so."""
    try:
        yield
    except Fenced:
        operation.refused()
        raise


@final
class _Journal:
    """Writes the operations of one process."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._clock = drumbeat.SystemClock()
        self._lock = threading.Lock()
        self._number = 0
        # Each life of a member has a file of its own; process ids come again.
        self._life = Path(orders.history).stem

    def now(self) -> float:
        """Return the time."""
        return self._clock.now()

    def write(self, operation: Operation) -> None:
        """Write one line."""
        append_line(self._orders.history, as_line(operation))

    @contextmanager
    def tell(
        self, op: Op, name: str, *, token: int | None = None, value: Value = None, at_once: bool = True
    ) -> Iterator[_Telling]:
        """Record that an operation is called; `at_once` if it may have happened though its answer is never recorded."""
        with self._lock:
            self._number += 1
            number = self._number
        operation = Operation(
            op=op,
            object=name,
            client=self._orders.member_id,
            called=self.now(),
            token=token,
            value=value,
            namespace=self._orders.namespace,
            id=f"{self._life}-{number}",
        )
        if at_once:
            self.write(operation)
        yield _Telling(self, operation)
