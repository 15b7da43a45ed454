"""Bugs that show only where processes, links and servers really fail."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from drumbeat import ConfigurationError, SessionLost, Unavailable, _keeper, _partition
from drumbeat._election import Lock
from drumbeat._incarnation import Incarnation
from drumbeat._keeper import Keeper
from drumbeat.hookspecs import BackendProfile, Beat, Holdings, Lease, SessionRequest, Waiting, Won
from drumbeat.local._call import Call
from drumbeat_etcd._client import Client
from drumbeat_mutants import Patch, mutant
from drumbeat_redis._backend import RedisBackend
from drumbeat_redis._calls import Calls
from drumbeat_redis._script import Answer, Script

#: How a heartbeat of Redis is called.
Heartbeat = Callable[[RedisBackend, Lease, Holdings, float], Beat]


def edit_script(patch: Patch, old: str, new: str) -> None:
    """Replace a part of the script that Redis runs."""

    def load(original: Callable[[type[Script]], Script], cls: type[Script]) -> Script:
        text = original(cls).text
        assert old.encode() in text, f"the script has no {old!r}"
        changed = text.replace(old.encode(), new.encode())
        return Script(changed, hashlib.sha1(changed, usedforsecurity=False).hexdigest())

    patch.wrap(Script, "load", load)


# Processes --------------------------------------------------------------------------------------------------


@mutant("debounces-the-loss", breaks=("FAULT-4", "FAULT-19"), of="local", like="peers 3")
def debounces_the_loss(patch: Patch) -> None:
    """Whether a term is held is a flag, which goes down a moment after the loss was noticed, lest it flap."""

    def alive(self: Incarnation) -> bool:
        return self.over is None and os.getpid() == self._pid

    def lose(original: Callable[[Keeper, Incarnation, str], None], self: Keeper, lost: Incarnation, why: str) -> None:
        threading.Timer(lost.timing.ttl / 10, original, (self, lost, why)).start()

    patch(Incarnation, "alive", alive)
    patch.wrap(Keeper, "lose", lose)


@mutant("keeps-a-silent-session-for-long", breaks="FAULT-5", of="redis")
def keeps_a_silent_session_for_long(patch: Patch) -> None:
    """A heartbeat makes the session's key last for ten TTLs, to be on the safe side."""
    edit_script(patch, "call('PEXPIRE', mine, math.max(1,", "call('PEXPIRE', mine, 10 * math.max(1,")


@mutant("hands-the-session-to-a-forked-child", breaks="FAULT-8", of="redis", like="hazard: fork()")
def hands_the_session_to_a_forked_child(patch: Patch) -> None:
    """A forked child takes its parent's session for its own, connections included."""

    def drop_in_child(self: Keeper) -> None:
        self._pid = os.getpid()
        if self._incarnation is not None:
            self._incarnation._pid = os.getpid()

    patch(Keeper, "drop_in_child", drop_in_child)


@mutant("never-looks-at-the-locks-of-the-dead", breaks="FAULT-11", of="local")
def never_looks_at_the_locks_of_the_dead(patch: Patch) -> None:
    """Every process counts as alive until its deadline, whatever the kernel says of its lock."""

    def unlocked(self: Call, peer: object) -> bool:
        del self, peer
        return False

    patch(Call, "unlocked", unlocked)


@mutant("gives-up-after-a-late-heartbeat", breaks="FAULT-12", of="local")
def gives_up_after_a_late_heartbeat(patch: Patch) -> None:
    """A heartbeat that is late by more than its interval ends the session, though the lease has not run out."""

    def beat(original: Callable[[Keeper, Incarnation], None], self: Keeper, incarnation: Incarnation) -> None:
        if self.clock.now() > incarnation.next_beat + incarnation.timing.heartbeat_interval:
            self.lose(incarnation, "a heartbeat was late")
            return
        original(self, incarnation)

    patch.wrap(Keeper, "_beat", beat)


@mutant("renews-from-beside-the-process", breaks="FAULT-19", of="redis")
def renews_from_beside_the_process(patch: Patch) -> None:
    """A helper process renews the lease for as long as the process runs, whether its threads do or not."""
    helped: set[str] = set()

    def heartbeat(original: Heartbeat, self: RedisBackend, lease: Lease, holdings: Holdings, timeout: float) -> Beat:
        if lease.incarnation not in helped:
            helped.add(lease.incarnation)
            process = os.getpid()
            if os.fork() == 0:
                key = f"{self._prefix}session:{lease.member_id}"
                _renew_while_it_runs(process, self._settings.hosts[0], key=key, ttl=lease.ttl)
        return original(self, lease, holdings, timeout)

    patch.wrap(RedisBackend, "heartbeat", heartbeat)


def _renew_while_it_runs(process: int, server: tuple[str, int], *, key: str, ttl: float) -> NoReturn:
    """Renew a key for as long as a process is neither stopped nor dead, and end."""
    with suppress(OSError), socket.create_connection(server) as link:
        while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "TtZX":
            link.sendall(f"PEXPIRE {key} {int(ttl * 1000)}\r\n".encode())
            link.recv(100)
            time.sleep(ttl / 8)
    os._exit(0)


@mutant("hashes-as-python-does", breaks="FAULT-20", of="local")
def hashes_as_python_does(patch: Patch) -> None:
    """Who owns a shard is drawn by Python's hash, which is another one in every process."""

    def draws(original: Callable[[str, int], object], member: str, slots: int) -> object:
        return original(f"{hash(member)}", slots)

    patch.wrap(_partition, "_draws", draws)


@mutant("counts-terms-in-five-bits", breaks="FAULT-21", of="redis")
def counts_terms_in_five_bits(patch: Patch) -> None:
    """The counter that tokens are made of starts again after 32 terms."""
    edit_script(patch, "math.max(before + 1, now)", "(before + 1) % 32")


@mutant("shares-its-dice-with-forked-processes", breaks="FAULT-22", of="redis")
def shares_its_dice_with_forked_processes(patch: Patch) -> None:
    """Incarnations are drawn from a generator that is seeded once, so forked processes draw the same ones."""
    draw = random.Random(os.urandom(16))  # noqa: S311 - the bug
    _name_incarnations(patch, lambda _: f"{draw.getrandbits(96):x}")


@mutant("numbers-incarnations-in-each-process", breaks="FAULT-23", of="redis")
def numbers_incarnations_in_each_process(patch: Patch) -> None:
    """An incarnation is the member's id and a number, which begins again in a process that was started again."""
    numbers = itertools.count()
    _name_incarnations(patch, lambda member_id: f"{member_id}-{next(numbers)}")


@mutant("locks-within-a-process", breaks="FAULT-24", of="local")
def locks_within_a_process(patch: Patch) -> None:
    """A lock excludes the threads of one process, and not those of another."""

    def begin(original: Callable[[Lock, Keeper, str], None], self: Lock, keeper: Keeper, name: str) -> None:
        original(self, keeper, name)
        self._qualified += f"/{os.getpid()}"

    patch.wrap(Lock, "__init__", begin)


def _name_incarnations(patch: Patch, name: Callable[[str], str]) -> None:
    def request(
        *, incarnation: str, member_id: str, ttl: float, supersedes: str | None, replace: bool
    ) -> SessionRequest:
        del incarnation
        return SessionRequest(
            incarnation=name(member_id), member_id=member_id, ttl=ttl, supersedes=supersedes, replace=replace
        )

    patch(_keeper, "SessionRequest", request)


# Links ------------------------------------------------------------------------------------------------------


@mutant("takes-a-failed-heartbeat-for-a-good-one", breaks=("FAULT-3", "FAULT-6"), of="redis")
def takes_a_failed_heartbeat_for_a_good_one(patch: Patch) -> None:
    """A heartbeat that cannot be sent, or is not answered, counts: the server will be back in a moment."""

    def heartbeat(original: Heartbeat, self: RedisBackend, lease: Lease, holdings: Holdings, timeout: float) -> Beat:
        try:
            return original(self, lease, holdings, timeout)
        except Unavailable:
            return Beat(lease)

    patch.wrap(RedisBackend, "heartbeat", heartbeat)


@mutant("asks-under-another-attempt-after-an-error", breaks="FAULT-7", of="redis", like="peers 11")
def asks_under_another_attempt_after_an_error(patch: Patch) -> None:
    """A campaign whose answer was lost counts as not won: it goes on under another number, and waits for itself."""
    failed: dict[tuple[str, int], int] = {}

    def campaign(
        original: Callable[..., Won | Waiting], self: RedisBackend, lease: Lease, election: str, *rest: object
    ) -> Won | Waiting:
        attempt, *others = rest
        assert isinstance(attempt, int)
        known = (lease.incarnation, attempt)
        try:
            return original(self, lease, election, attempt + 1000 * failed.get(known, 0), *others)
        except Unavailable as error:
            failed[known] = failed.get(known, 0) + (error.outcome == "unknown")
            raise

    patch.wrap(RedisBackend, "campaign", campaign)


@mutant("forgives-one-suspension", breaks="FAULT-14", of="redis")
def forgives_one_suspension(patch: Patch) -> None:
    """A session that is suspended for the second time is given up, though its lease has not run out."""
    before: set[str] = set()

    def beat_failed(
        original: Callable[[Keeper, Incarnation, Exception], None], self: Keeper, one: Incarnation, error: Exception
    ) -> None:
        if not one.suspended and one.id in before:
            self.lose(one, "suspended again")
            return
        before.add(one.id)
        original(self, one, error)

    patch.wrap(Keeper, "_beat_failed", beat_failed)


@mutant("believes-until-it-is-told", breaks="FAULT-15", of="redis", like="peers 3")
def believes_until_it_is_told(patch: Patch) -> None:
    """A session is over when the server says so, and not before."""

    def alive(self: Incarnation) -> bool:
        return self.over is None and os.getpid() == self._pid

    def watch_deadlines(self: Keeper) -> None:
        while not self._closing.is_set():
            incarnation = self._incarnation
            if incarnation is not None and incarnation.over is not None:
                self._reopen(incarnation)
            else:
                self._watchdog_due.take(None)

    patch(Incarnation, "alive", alive)
    patch(Keeper, "_watch_deadlines", watch_deadlines)


@mutant("clings-to-a-dead-connection", breaks="FAULT-16", of="etcd")
def clings_to_a_dead_connection(patch: Patch) -> None:
    """A connection on which a request was not answered in time goes on being used."""

    def give_up(self: Client, channel: object) -> None:
        del channel

    patch(Client, "_give_up", give_up)


@mutant("grants-from-the-answer-on", breaks="FAULT-17", of="redis", like="peers 13")
def grants_from_the_answer_on(patch: Patch) -> None:
    """The backend counts the granted TTL from when the answer came, in half seconds, so that it adds what that took."""
    asked: dict[str, float] = {}

    def heartbeat(original: Heartbeat, self: RedisBackend, lease: Lease, holdings: Holdings, timeout: float) -> Beat:
        sent = time.monotonic()
        beat = original(self, lease, holdings, timeout)
        ttl = asked.setdefault(lease.incarnation, lease.ttl) + time.monotonic() - sent
        return Beat(Lease(lease.incarnation, lease.member_id, math.ceil(2 * ttl) / 2), beat.lost)

    patch.wrap(RedisBackend, "heartbeat", heartbeat)


@mutant("ends-the-session-with-a-connection", breaks="FAULT-18", of="redis")
def ends_the_session_with_a_connection(patch: Patch) -> None:
    """A campaign whose connection breaks takes the session for lost."""

    def campaign(original: Callable[..., Won | Waiting], *arguments: object, **named: object) -> Won | Waiting:
        try:
            return original(*arguments, **named)
        except Unavailable as error:
            raise SessionLost(str(error)) from error

    patch.wrap(RedisBackend, "campaign", campaign)


# Servers ----------------------------------------------------------------------------------------------------


@mutant("tries-once-to-reopen", breaks="FAULT-1", of="redis", like="peers 9")
def tries_once_to_reopen(patch: Patch) -> None:
    """A session that is LOST is reopened once; if the server is still down then, it stays LOST for ever."""

    def reopen(self: Keeper, lost: Incarnation) -> None:
        self._release(lost.lease, timeout=lost.timing.request_timeout)
        try:
            self._start(self._open(supersedes=lost.id, on_conflict="wait", deadline=self.clock.now()))
        except Unavailable:
            self._closing.wait()

    patch(Keeper, "_reopen", reopen)


@mutant("needs-the-namespace-that-it-knew", breaks="FAULT-2", of="redis", like="peers 9")
def needs_the_namespace_that_it_knew(patch: Patch) -> None:
    """A session that is reopened takes a namespace without its birth record for one that is still being loaded."""

    def open_session(
        original: Callable[[RedisBackend, SessionRequest, float], Lease],
        self: RedisBackend,
        request: SessionRequest,
        timeout: float,
    ) -> Lease:
        if request.supersedes is not None:
            deadline = time.monotonic() + timeout
            link, _ = self._route.connect(deadline)
            try:
                if link.ask(("EXISTS", f"{self._prefix}birth"), deadline=deadline) == [0]:
                    raise Unavailable("the namespace is being loaded", outcome="not_applied")
            finally:
                link.close()
        return original(self, request, timeout)

    patch.wrap(RedisBackend, "open_session", open_session)


@mutant("waits-for-the-server-to-say-good-bye", breaks="FAULT-9", of="redis", like="peers 8")
def waits_for_the_server_to_say_good_bye(patch: Patch) -> None:
    """The request that ends a session has no timeout."""
    _without_timeout(patch, "finish")


@mutant("waits-for-a-frozen-server", breaks="FAULT-13", of="redis")
def waits_for_a_frozen_server(patch: Patch) -> None:
    """A campaign has no timeout at the server."""
    _without_timeout(patch, "campaign")


@mutant("takes-a-restarted-server-for-another", breaks="FAULT-10", of="redis")
def takes_a_restarted_server_for_another(patch: Patch) -> None:
    """A session ends with the run of the server that it was opened on, though that has kept it."""
    runs: dict[str, str] = {}

    def heartbeat(original: Heartbeat, self: RedisBackend, lease: Lease, holdings: Holdings, timeout: float) -> Beat:
        beat = original(self, lease, holdings, timeout)
        info = self._own[lease.incarnation].beats._info
        run = "" if info is None else info.fields["run_id"]
        if runs.setdefault(lease.incarnation, run) != run:
            raise SessionLost("the server is another one")
        return beat

    patch.wrap(RedisBackend, "heartbeat", heartbeat)


@mutant("calls-a-missing-server-a-wrong-url", breaks="FAULT-25", of="redis")
def calls_a_missing_server_a_wrong_url(patch: Patch) -> None:
    """When nothing listens at the address, the URL is said to be wrong, for which nobody waits."""

    def describe(
        original: Callable[[RedisBackend, float], BackendProfile], self: RedisBackend, timeout: float
    ) -> BackendProfile:
        try:
            return original(self, timeout)
        except Unavailable as error:
            raise ConfigurationError(f"there is no server: {error}") from error

    patch.wrap(RedisBackend, "describe_backend", describe)


@mutant("counts-bytes-for-tokens", breaks=("LEAD-13", "LEAD-14"), of="redis")
def counts_bytes_for_tokens(patch: Patch) -> None:
    """A token is the number of bytes that the server has been sent, which begins again at each start."""
    count = "tonumber(string.match(call('INFO', 'stats'), 'total_net_input_bytes:(%d+)'))"
    edit_script(patch, "math.max(before + 1, now)", count)


@mutant("counts-from-the-last-token-alone", breaks="LEAD-14", of="redis")
def counts_from_the_last_token_alone(patch: Patch) -> None:
    """A token is the one before plus one, whatever the time, so that it begins again where that was lost."""
    edit_script(patch, "math.max(before + 1, now)", "before + 1")


def _without_timeout(patch: Patch, unbounded: str) -> None:
    def run(
        original: Callable[..., Answer],
        self: Calls,
        operation: str,
        arguments: object,
        *,
        deadline: float,
        replicas: int = 0,
    ) -> Answer:
        until = deadline + 3600 if operation == unbounded else deadline
        return original(self, operation, arguments, deadline=until, replicas=replicas)

    patch.wrap(Calls, "run", run)
