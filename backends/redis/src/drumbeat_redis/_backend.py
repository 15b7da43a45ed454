"""The hooks. All that must happen at one moment happens in `drumbeat.lua`; here are its arguments and answers."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from drumbeat import ConfigurationError, Conflict, SessionLost, Unavailable, Vacant, hookimpl
from drumbeat.hookspecs import (
    BackendConfig,
    BackendProfile,
    Beat,
    Cancel,
    Finding,
    GroupRecord,
    GroupSubject,
    Holdings,
    Joined,
    LeaderRecord,
    Lease,
    Left,
    MemberRecord,
    Membership,
    Notify,
    Proclaimed,
    Reaped,
    ReapTicket,
    Resigned,
    Seat,
    SessionClosed,
    SessionRequest,
    Subject,
    Updated,
    Waiting,
    Withdrawn,
    Won,
    encode_key,
)
from drumbeat_redis._settings import MIN_TTL, OPTIONS, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from drumbeat_redis._calls import Calls
    from drumbeat_redis._hints import Hints
    from drumbeat_redis._info import ServerInfo
    from drumbeat_redis._link import Word
    from drumbeat_redis._route import Route
    from drumbeat_redis._script import Answer, Script

#: Shortest and longest time in seconds after which a silent subscription is asked whether it stands.
PING_INTERVALS: Final = (0.2, 5.0)


@dataclass(slots=True)
class _Own:
    """The connections of one incarnation."""

    #: For opening, heartbeats and the end: a slow view in `calls` never delays them.
    beats: Calls
    calls: Calls
    hints: Hints | None = None


class RedisBackend:
    """Groups, heartbeats and leaders on one Redis server, the servers behind a Sentinel, or a slot of a Cluster.

    Raises ConfigurationError for a URL that can never work. See the package's README for what is promised.
    """

    spec_version: ClassVar[int] = 1
    options: ClassVar[Mapping[str, str]] = OPTIONS

    def __init__(self, config: BackendConfig) -> None:
        self._settings = Settings.from_url(config.url)
        self._on_empty_store = config.on_empty_store
        # The braces make everything in a namespace lie in one hash slot
        # (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags).
        self._prefix = f"drumbeat:{{{encode_key(config.namespace)}}}:"
        self._own: dict[str, _Own] = {}
        self._making_hints = threading.Lock()
        # The client library is loaded for those who connect, not for those who list backends.
        from drumbeat_redis._route import Route
        from drumbeat_redis._script import Script

        self._route: Route = Route(self._settings, f"{self._prefix}birth")
        self._script: Script = Script.load()

    @hookimpl
    def describe_backend(self, timeout: float) -> BackendProfile:
        """Ask the server for its version, role and persistence."""
        return self._look(timeout).profile(self._settings)

    @hookimpl
    def diagnose_backend(self, timeout: float) -> tuple[Finding, ...]:
        """Tell of persistence, eviction and replicas."""
        return self._look(timeout).findings(self._settings)

    @hookimpl
    def open_session(self, request: SessionRequest, timeout: float) -> Lease:
        """Make the session's key, in one round trip on a connection that is made for it."""
        longest = self._settings.longest_ttl
        if not MIN_TTL <= request.ttl <= longest:
            raise ConfigurationError(
                f"a TTL of {request.ttl:g} s is outside what the namespace allows: {MIN_TTL:g} to {longest:g} s; "
                "longest_ttl in the URL raises it, and must be the same for everybody"
            )
        deadline = time.monotonic() + timeout
        own = self._own.setdefault(request.incarnation, _Own(self._new_calls(), self._new_calls()))
        try:
            answer = self._open(own, request, deadline)
        except BaseException:
            self._let_go(request.incarnation, forked=False)
            raise
        if answer.number(0) > 0:
            logging.getLogger("drumbeat").warning(
                "the namespace is new on this server, or its data was lost: no seat is granted for another %.1f s, "
                "since holders from before may still be at work; on_empty_store='trust' says that there are none",
                answer.number(0) / 1e6,
            )
        return Lease(request.incarnation, request.member_id, request.ttl)

    def _open(self, own: _Own, request: SessionRequest, deadline: float) -> Answer:
        settings = self._settings
        info = own.beats.learn(deadline)
        if info.replicas < settings.min_replicas:
            raise Unavailable(
                f"{info.address} has {info.replicas} replicas connected, and min_replicas asks for "
                f"{settings.min_replicas}",
                outcome="not_applied",
            )
        waits = (self._on_empty_store or ("trust" if info.is_persistent else "wait")) == "wait"
        restores = waits and not info.is_persistent and settings.mode == "single"
        arguments: list[Word] = [
            encode_key(request.member_id),
            request.incarnation,
            request.member_id,
            _milliseconds(request.ttl) + 1,
            request.supersedes or "",
            "replace" if request.replace else "",
            uuid.uuid4().hex,
            _milliseconds(settings.longest_ttl),
            # A holder from before counts from before its last heartbeat was sent, so it is no later than the server.
            _milliseconds(settings.longest_ttl) + 1 if waits else 0,
            "run" if restores else "",
        ]
        answer = own.beats.run("open", arguments, deadline=deadline, replicas=settings.min_replicas)
        if answer.kind == "conflict":
            left = (answer.number(1) + 1) / 1000
            raise Conflict(request.member_id, incarnation=answer.text(0), retry_after=left)
        if answer.kind == "differs":
            raise ConfigurationError(
                f"longest_ttl is {settings.longest_ttl:g} in this URL, and the namespace was made with "
                f"{answer.number(0) / 1000:g}; give everybody the same (it is kept in {self._prefix}birth)"
            )
        return answer

    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings, timeout: float) -> Beat:
        """Renew and verify in one script; with min_replicas, wait for them in the same round trip."""
        listed: list[Membership | Seat] = [*holdings.memberships, *holdings.seats]
        arguments: list[Word] = [holdings.newest_attempt]
        for place in holdings.memberships:
            arguments += ["g", encode_key(place.group), place.attempt, ""]
        for seat in holdings.seats:
            arguments += ["s", encode_key(seat.election), seat.attempt, seat.token]
        for candidacy in holdings.candidacies:
            arguments += ["c", encode_key(candidacy.election), candidacy.attempt, ""]
        answer = self._ask(lease, "heartbeat", arguments, timeout, beats=True, replicas=self._settings.min_replicas)
        lost = answer.items()
        return Beat(lease, tuple(listed[lost.number(index)] for index in range(len(lost.rest))))

    @hookimpl
    def close_session(self, lease: Lease, timeout: float) -> SessionClosed:
        """Delete the session with all that it holds."""
        own = self._own.get(lease.incarnation)
        if own is None:
            return SessionClosed(was_open=False)
        if own.hints is not None:
            own.hints.close()
        return SessionClosed(self._ask(lease, "finish", (), timeout, beats=True).yes)

    @hookimpl
    def drop_session(self, lease: Lease, forked: bool) -> SessionClosed:
        """End the session's connections; in a forked child close only the copies of their descriptors."""
        return SessionClosed(self._let_go(lease.incarnation, forked=forked))

    @hookimpl
    def reap_session(self, ticket: ReapTicket, timeout: float) -> Reaped:
        """Delete the session if it is still that incarnation."""
        calls = self._new_calls()
        try:
            arguments = (encode_key(ticket.member_id), ticket.incarnation)
            return Reaped(calls.run("finish", arguments, deadline=time.monotonic() + timeout).yes)
        finally:
            calls.close()

    @hookimpl
    def join_group(self, lease: Lease, group: str, attempt: int, value: bytes, timeout: float) -> Joined:
        """Enter the group's hash and the session's."""
        return Joined(self._ask(lease, "join", (encode_key(group), attempt, value, group), timeout).yes)

    @hookimpl
    def update_member(self, lease: Lease, group: str, value: bytes, timeout: float) -> Updated:
        """Replace the value in the group's hash."""
        return Updated(self._ask(lease, "update", (encode_key(group), value), timeout).yes)

    @hookimpl
    def leave_group(self, lease: Lease, group: str, timeout: float) -> Left:
        """Leave the group's hash and the session's."""
        return Left(self._ask(lease, "leave", (encode_key(group),), timeout).yes)

    @hookimpl
    def read_group(self, lease: Lease, group: str, timeout: float) -> GroupRecord:
        """Read the group's hash and its members' sessions, in one round trip for any number."""
        rows = self._look_up(lease, "read", (encode_key(group),), timeout).rows()
        return GroupRecord(tuple(MemberRecord(row.text(0), row.text(1), row.data(2)) for row in rows))

    @hookimpl
    def list_groups(self, lease: Lease, timeout: float) -> tuple[str, ...]:
        """Read the index of groups, and whether anybody lives in them, in one round trip."""
        names = self._look_up(lease, "list", (), timeout).items()
        return tuple(names.text(index) for index in range(len(names.rest)))

    @hookimpl
    def campaign(self, lease: Lease, election: str, attempt: int, value: bytes, timeout: float) -> Won | Waiting:
        """Take the seat's hash if its holder's session is gone; say until when it lasts otherwise."""
        arguments = (encode_key(election), attempt, value)
        answer = self._ask(lease, "campaign", arguments, timeout, replicas=self._settings.min_replicas)
        if answer.kind == "won":
            return Won(Seat(election, attempt, answer.number(0)))
        left = answer.number(0)
        # A holder whose key does not expire, which only an operator can bring about, has -1.
        retry_after = (left + 1) / 1000 if left >= 0 else None
        return Waiting(_leader(answer, 1) if len(answer.rest) > 1 else Vacant(), retry_after)

    @hookimpl
    def withdraw(self, lease: Lease, election: str, attempt: int, timeout: float) -> Withdrawn:
        """Vacate the seat if the attempt has it; who waits is not on the server."""
        return Withdrawn(self._ask(lease, "vacate", (encode_key(election), attempt), timeout).yes)

    @hookimpl
    def resign(self, lease: Lease, seat: Seat, timeout: float) -> Resigned:
        """Vacate the seat if it is still this term's."""
        arguments = (encode_key(seat.election), seat.attempt, seat.token)
        return Resigned(self._ask(lease, "vacate", arguments, timeout).yes)

    @hookimpl
    def proclaim(self, lease: Lease, seat: Seat, value: bytes, timeout: float) -> Proclaimed:
        """Replace the seat's value if it is still this term's."""
        arguments = (encode_key(seat.election), seat.attempt, seat.token, value)
        return Proclaimed(self._ask(lease, "proclaim", arguments, timeout).yes)

    @hookimpl
    def read_leader(self, lease: Lease, election: str, timeout: float) -> LeaderRecord | Vacant:
        """Read the seat's hash and its holder's session."""
        answer = self._look_up(lease, "leader", (encode_key(election),), timeout)
        return _leader(answer, 0) if answer.kind == "leader" else Vacant()

    @hookimpl
    def watch(self, lease: Lease, subject: Subject, notify: Notify, timeout: float) -> Cancel:
        """Subscribe to the channel of a group or seat, which is named like its key."""
        deadline = time.monotonic() + timeout
        self._ask(lease, "check", (), timeout)
        kind, name = ("group", subject.group) if isinstance(subject, GroupSubject) else ("seat", subject.election)
        return self._hints(lease).watch(f"{self._prefix}{kind}:{encode_key(name)}", notify, deadline=deadline)

    # Connections --------------------------------------------------------------------------------------------

    def _look(self, timeout: float) -> ServerInfo:
        link, info = self._route.connect(time.monotonic() + timeout)
        link.close()
        return info

    def _new_calls(self) -> Calls:
        from drumbeat_redis._calls import Calls

        return Calls(self._route, self._script, f"{self._prefix}birth")

    def _hints(self, lease: Lease) -> Hints:
        from drumbeat_redis._hints import Hints

        shortest, longest = PING_INTERVALS
        with self._making_hints:
            own = self._mine(lease)
            if own.hints is None:
                interval = min(longest, max(shortest, lease.ttl / 2))
                own.hints = Hints(self._route, name=lease.member_id, ping_interval=interval)
        if lease.incarnation not in self._own:
            own.hints.close()
        return own.hints

    def _mine(self, lease: Lease) -> _Own:
        own = self._own.get(lease.incarnation)
        if own is None:
            raise SessionLost(f"the session {lease.incarnation} of {lease.member_id!r} was let go by this process")
        return own

    def _let_go(self, incarnation: str, *, forked: bool) -> bool:
        own = self._own.pop(incarnation, None)
        if own is None:
            return False
        for part in (own.beats, own.calls, own.hints):
            if part is not None and forked:
                part.abandon()
            elif part is not None:
                part.close()
        return True

    def _ask(
        self,
        lease: Lease,
        operation: str,
        arguments: Sequence[Word],
        timeout: float,
        *,
        beats: bool = False,
        replicas: int = 0,
    ) -> Answer:
        """Run an operation that a session does for itself."""
        words = (encode_key(lease.member_id), lease.incarnation, *arguments)
        return self._look_up(lease, operation, words, timeout, beats=beats, replicas=replicas)

    def _look_up(
        self,
        lease: Lease,
        operation: str,
        arguments: Sequence[Word],
        timeout: float,
        *,
        beats: bool = False,
        replicas: int = 0,
    ) -> Answer:
        own = self._mine(lease)
        calls = own.beats if beats else own.calls
        try:
            return calls.run(operation, arguments, deadline=time.monotonic() + timeout, replicas=replicas)
        except SessionLost as lost:
            raise SessionLost(f"the session {lease.incarnation} of {lease.member_id!r} {lost}") from None


def _leader(answer: Answer, first: int) -> LeaderRecord:
    return LeaderRecord(
        member_id=answer.text(first),
        incarnation=answer.text(first + 1),
        token=answer.number(first + 2),
        value=answer.data(first + 3),
    )


def _milliseconds(seconds: float) -> int:
    return math.ceil(seconds * 1000)
