"""A process with one session: `python -m local.worker PATH NAMESPACE`, told what to do by lines of JSON."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import resource
import signal
import sqlite3
import sys
import time
from pathlib import Path

from local.actors import Actor

from drumbeat import DrumbeatError, SessionLost, Unavailable
from drumbeat.hookspecs import Candidacy, Holdings, Seat


class Worker(Actor):
    """A session that also does to its process what tests need."""

    def __init__(self, path: str, namespace: str) -> None:
        super().__init__(path, namespace=namespace)
        self.path = path
        self.raw: sqlite3.Connection | None = None

    def lower_rights(self) -> None:
        """Become nobody if this is root, whom permissions do not bind."""
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)

    def limit(self, what: str, value: int) -> None:
        """Lower a limit of this process; -1 lifts it again."""
        kind = int(getattr(resource, what))
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (hard if value < 0 else value, hard))

    def hold_write_lock(self) -> None:
        """Begin a write transaction behind the backend's back, as a process frozen in a statement would."""
        self.raw = sqlite3.connect(self.path, isolation_level=None)
        self.raw.execute("BEGIN IMMEDIATE")

    def win_when_hinted(self, election: str, attempt: int = 1) -> list[float]:
        """Wait for hints until the attempt has won; return the token and the time of the win."""
        self.watch("candidacy", election, attempt)
        while True:
            token = self.campaign(election, attempt)
            if token:
                return [token, time.clock_gettime(time.CLOCK_BOOTTIME)]
            self.hint()

    def resign_timed(self, election: str, attempt: int, token: int) -> float:
        """Resign; return the time just before."""
        before = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert self.resign(election, attempt, token)
        return before

    def open_many(self, count: int) -> int:
        """Open sessions that all join one group and watch it; return how many descriptors are open then."""
        self.many = [Actor(self.path) for _ in range(count)]
        for number, actor in enumerate(self.many):
            actor.open(f"{self.lease.member_id}-{number}")
            actor.join("many")
        for actor in self.many:
            actor.watch("group", "many")
        return len(list(Path("/proc/self/fd").iterdir()))

    def close_many(self) -> int:
        """Close them; return how many descriptors are open then."""
        for actor in self.many:
            actor.close()
            actor.drop()
        return len(list(Path("/proc/self/fd").iterdir()))

    def fork_sleeper(self) -> int:
        """Fork a child that does nothing, and so keeps what it inherited; return its pid."""
        child = os.fork()
        if child == 0:
            signal.pause()
        return child

    def fork_and(self, what: str) -> str:
        """Fork, let the child drop the session and do something, and return what it reports."""
        return self._report(os.fork, what)

    def c_fork_and(self, what: str) -> str:
        """The same with a fork that Python does not hear of."""
        return self._report(ctypes.PyDLL(None).fork, what)

    def fork_and_stay(self, what: str) -> str:
        """Fork a child that does something, reports, and then lives until it is asked, or this process ends."""
        (answers, answer), (asks, self.ask_pipe) = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.close(self.ask_pipe)
            for report in (getattr(self, f"child_{what}"), self.child_again):
                os.write(answer, str(report()).encode())
                if not os.read(asks, 1):
                    break
            os._exit(0)
        self.answer_pipe = answers
        return os.read(answers, 100).decode()

    def ask_child(self) -> str:
        """Let the child of `fork_and_stay` report once more."""
        os.write(self.ask_pipe, b"!")
        return os.read(self.answer_pipe, 100).decode()

    def child_outlive(self) -> str:
        """Drop the parent's session and open one of one's own."""
        self.drop(forked=True)
        self.own = Actor(self.path)
        self.own.open("child")
        return "opened"

    def child_again(self) -> str:
        """Go on with it."""
        self.own.join("g")
        return ",".join(self.own.members("g"))

    def churn(self, seed: int, seconds: float, log: str, enough: str) -> int:
        """Do what a random generator says until a file is there, noting wins and leases; return how much was done."""
        churn = Churn(self, random.Random(seed), log)
        until = time.monotonic() + seconds
        while time.monotonic() < until and not Path(enough).exists():
            churn.step()
        return churn.steps

    def _report(self, fork: object, what: str) -> str:
        assert callable(fork)
        reader, writer = os.pipe()
        if fork() == 0:
            try:
                report = str(getattr(self, f"child_{what}")())
            except DrumbeatError as error:
                report = type(error).__name__
            os.write(writer, report.encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8") as pipe:
            report = pipe.read()
        os.wait()
        return report

    def child_drop(self) -> str:
        """Drop the session as a forked child does."""
        before = set(self._inherited())
        dropped = self.drop(forked=True)
        return f"{dropped}, then {self.drop(forked=True)}, left {len(set(self._inherited()) & before)}"

    def child_use(self) -> str:
        """Use the parent's session."""
        return str(self.campaign("e", 99))

    def child_connect(self) -> str:
        """Drop the parent's session, open one of one's own and stay in its group."""
        self.drop(forked=True)
        own = Actor(self.path)
        own.open("child")
        for number in range(20):
            own.join(f"child-{number}")
        return ",".join(own.members("child-0"))

    def child_connect_only(self) -> str:
        """Open a session of one's own, whatever was inherited."""
        return Actor(self.path).open("child")

    def _inherited(self) -> list[str]:
        links = []
        for name in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                links.append(str(name.readlink()))
        return [link for link in links if "drumbeat" in link or link.startswith(("socket:", "anon_inode:[pidfd]"))]


class Churn:
    """Random operations of one process, with notes that outlive it: one line for each thing that is certain."""

    TTL = 0.6
    ELECTIONS = ("e", "f")

    def __init__(self, worker: Worker, random_: random.Random, log: str) -> None:
        self.worker = worker
        self.random = random_
        self.steps = 0
        self.attempt = 0
        self.held: dict[str, tuple[int, int]] = {}
        self.waiting: dict[str, int] = {}
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._reopen()

    def step(self) -> None:
        """Do one random thing; a lost session is reopened."""
        self.steps += 1
        things = (
            self._campaign,
            self._campaign,
            self._campaign,
            self._resign,
            self._withdraw,
            self._group,
            self._close,
        )
        try:
            self._beat()
            self.random.choices(things, weights=(4, 4, 4, 6, 1, 4, 0.2))[0]()
        except SessionLost:
            self._reopen()

    def _reopen(self) -> None:
        self.worker.drop()
        self._note("over")
        self.held, self.waiting, self.attempt = {}, {}, 0
        sent = _now()
        self.worker.open(f"m{os.getpid()}", ttl=self.TTL)
        self._note("lease", sent + self.TTL)

    def _beat(self) -> None:
        sent = _now()
        seats = tuple(Seat(name, *seat) for name, seat in self.held.items())
        kept = tuple(Candidacy(name, attempt) for name, attempt in self.waiting.items())
        lost = self.worker.beat(Holdings(candidacies=kept, seats=seats, newest_attempt=self.attempt))
        assert lost == []
        self._note("lease", sent + self.TTL)

    def _campaign(self) -> None:
        name = self.random.choice(self.ELECTIONS)
        if name in self.held:
            return
        if name not in self.waiting:
            self.attempt += 1
            self.waiting[name] = self.attempt
        token = self.worker.campaign(name, self.waiting[name])
        if token:
            self.held[name] = self.waiting.pop(name), token
            self._note("won", name, token, _now())

    def _resign(self) -> None:
        for name in list(self.held):
            attempt, token = self.held.pop(name)
            self._note("end", name, token, _now())
            self.worker.resign(name, attempt, token)

    def _withdraw(self) -> None:
        for name in list(self.waiting):
            self.worker.withdraw(name, self.waiting.pop(name))

    def _group(self) -> None:
        self.worker.join("g", 0)
        self.worker.members("g")

    def _close(self) -> None:
        for name, (_, token) in self.held.items():
            self._note("end", name, token, _now())
        self.worker.close()

    def _note(self, *words: object) -> None:
        os.write(self._log, (" ".join(map(str, words)) + "\n").encode())


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def main() -> None:
    """Obey until the orders end."""
    worker = Worker(sys.argv[1], sys.argv[2])
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, object]
        try:
            answer = {"value": getattr(worker, order["do"])(**order["with"])}
        except DrumbeatError as error:
            outcome = error.outcome if isinstance(error, Unavailable) else ""
            answer = {"error": type(error).__name__, "text": str(error), "outcome": outcome}
        print(json.dumps(answer), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
