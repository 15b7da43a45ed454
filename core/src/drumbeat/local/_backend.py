"""The hooks of the local backend."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from drumbeat._errors import ConfigurationError, Forked, SessionLost
from drumbeat._names import encode_key
from drumbeat.hookspecs import (
    BackendConfig,
    BackendProfile,
    Beat,
    Bound,
    Cancel,
    Candidacy,
    CandidacySubject,
    Capability,
    Finding,
    GroupRecord,
    GroupSubject,
    Holdings,
    Joined,
    LeaderRecord,
    LeaderSubject,
    Lease,
    Left,
    Limits,
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
    Vacant,
    Waiting,
    Withdrawn,
    Won,
    hookimpl,
)
from drumbeat.local import _sql
from drumbeat.local._call import Call
from drumbeat.local._doctor import examine
from drumbeat.local._kernel import boot_id
from drumbeat.local._opened import LONGEST_TTL, Opened
from drumbeat.local._store import Store
from drumbeat.local._translate import translated

#: The first SQLite with all that the statements use: UPSERT, `->>`, and JSON that is always there.
_OLDEST_SQLITE: Final = (3, 38, 0)
#: Seconds beyond the TTL until a waiting candidate has won. It is told the holder's deadline and tries at that
#: moment; this leaves room for a write that waits for others' and for a thread that is scheduled late.
_FAILOVER_ALLOWANCE: Final = 0.5
_POLL_INTERVAL: Final = 1.0

_PROFILE: Final = BackendProfile(
    server=f"SQLite {sqlite3.sqlite_version}",
    capabilities=frozenset(
        {
            Capability.PUSH_WATCH,
            Capability.FIFO_CANDIDATES,
            Capability.CRASH_DETECTION,
            Capability.PERSISTENT,
            Capability.TOKENS_SURVIVE_RESTART,
            Capability.TOKENS_SURVIVE_DATA_LOSS,
            Capability.REAPING,
        }
    ),
    limits=Limits(
        min_ttl=0.2, max_ttl=LONGEST_TTL, value_bytes=64 * 1024, early_expiry=0.0, poll_interval=_POLL_INTERVAL
    ),
    failover=Bound(1.0, _FAILOVER_ALLOWANCE),
    eviction=Bound(1.0, _POLL_INTERVAL + _FAILOVER_ALLOWANCE),
)


def default_path() -> Path:
    """Return the file of `local://`: `drumbeat/local.db` in $XDG_STATE_HOME or ~/.local/state; makes nothing.

    Raises ConfigurationError if there is no home folder.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        # A relative path there is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/
        folder = state if state.is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise ConfigurationError(
            "there is no home folder for local:// to keep its file in; set XDG_STATE_HOME, or write local:///path/to/file.db"
        ) from error
    return folder / "drumbeat" / "local.db"


class LocalBackend:
    """Coordinates the processes of one host through an SQLite file and kernel locks; see `drumbeat.local`."""

    #: The version of the contract that this backend was written for.
    spec_version: ClassVar[int] = 1
    #: It has no options: where the file is, is the URL's path.
    options: ClassVar[Mapping[str, str]] = {}

    def __init__(self, config: BackendConfig) -> None:
        _check_host()
        url = config.url
        if url.hosts or url.username is not None or url.password is not None:
            raise ConfigurationError(
                f"{url} names a host or a user, but local:// is a file of this host: write local:// or, with three "
                "slashes, local:///path/to/file.db"
            )
        if url.path.endswith("/"):
            raise ConfigurationError(f"{url} names a folder; write local:///path/to/file.db")
        self._config = config
        self._is_default = not url.path
        # Resolved, so that everybody finds the same lock file beside the file that a link leads to.
        self._path = (Path(url.path) if url.path else default_path()).resolve()
        self._opened: dict[str, Opened] = {}

    @hookimpl
    def describe_backend(self) -> BackendProfile:
        return _PROFILE

    @hookimpl
    def diagnose_backend(self, timeout: float) -> tuple[Finding, ...]:
        if not self._path.exists():
            return (Finding("ok", f"{self._path} does not exist yet; the first session makes it"),)
        with translated(self._path, opening=True):
            store = Store.share(self._path, until=time.monotonic() + timeout)
            try:
                return examine(self._bare_call(store, timeout))
            finally:
                store.release()

    # Sessions

    @hookimpl
    def open_session(self, request: SessionRequest, timeout: float) -> Lease:
        limits = _PROFILE.limits
        if not limits.min_ttl <= request.ttl <= limits.max_ttl:
            raise ConfigurationError(
                f"ttl {request.ttl:g} s is outside what local:// grants: {limits.min_ttl:g} to {limits.max_ttl:g} s"
            )
        opened = self._opened.get(request.incarnation)
        if opened is None:
            if self._is_default:
                _make_folders(self._path.parent)
            opened = Opened(request, self._config, path=self._path, timeout=timeout)
            self._opened[request.incarnation] = opened
        try:
            call = opened.call(timeout)
            if request.supersedes is not None:
                _bury_incarnation(call, request.supersedes)
            opened.enter(request, call)
        except BaseException:
            # If it was applied all the same, it is dead for everybody at once.
            self.drop_session(opened.lease, forked=False)
            raise
        return opened.lease

    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings, timeout: float) -> Beat:
        call = self._session(lease).call(timeout, beats=True)
        if not call.write(_sql.RENEW):
            raise _lost(lease)
        items: list[Membership | Seat | Candidacy] = [*holdings.memberships, *holdings.seats, *holdings.candidacies]
        kept = json.dumps([self._kept(item) for item in items])
        found: dict[str, list[str]] = {"lost": [], "over": [], "group": [], "election": []}
        for row in call.rows(_sql.VERIFY, kept=kept, newest=holdings.newest_attempt):
            found[row["kind"]].append(row["place"])
        if found["over"]:
            # Frozen since it was renewed, for longer than the TTL.
            raise _lost(lease)
        if found["group"] or found["election"]:
            for statement in _sql.CLEAR_STRAYS:
                call.write(statement, kept=kept, newest=holdings.newest_attempt)
            call.wake(groups=set(found["group"]), elections=set(found["election"]))
        lost = (items[int(index)] for index in found["lost"])
        return Beat(lease, tuple(item for item in lost if not isinstance(item, Candidacy)))

    @hookimpl
    def close_session(self, lease: Lease, timeout: float) -> SessionClosed:
        return SessionClosed(_bury_incarnation(self._call(lease, timeout), lease.incarnation))

    @hookimpl
    def drop_session(self, lease: Lease, forked: bool) -> SessionClosed:
        opened = self._opened.pop(lease.incarnation, None)
        if opened is None:
            return SessionClosed(was_open=False)
        if forked:
            opened.drop_in_child()
        else:
            opened.drop()
        return SessionClosed(was_open=True)

    @hookimpl
    def reap_session(self, ticket: ReapTicket, timeout: float) -> Reaped:
        if not self._path.exists():
            return Reaped(was_open=False)
        store = Store.share(self._path, until=time.monotonic() + timeout)
        try:
            return Reaped(_bury_incarnation(self._bare_call(store, timeout), ticket.incarnation))
        finally:
            store.release()

    # Groups

    @hookimpl
    def join_group(self, lease: Lease, group: str, attempt: int, value: bytes, timeout: float) -> Joined:
        call, place = self._call(lease, timeout), self._place(group)
        was_member = call.first(_sql.IS_MEMBER, place=place) is not None
        if not call.write(_sql.JOIN, place=place, attempt=attempt, value=value):
            raise _lost(lease)
        call.wake(groups=[place])
        return Joined(was_member)

    @hookimpl
    def update_member(self, lease: Lease, group: str, value: bytes, timeout: float) -> Updated:
        call, place = self._call(lease, timeout), self._place(group)
        updated = call.write(_sql.UPDATE_MEMBER, place=place, value=value)
        if updated:
            call.wake(groups=[place])
        return Updated(updated)

    @hookimpl
    def leave_group(self, lease: Lease, group: str, timeout: float) -> Left:
        call, place = self._call(lease, timeout), self._place(group)
        left = call.write(_sql.LEAVE, place=place)
        if left:
            call.wake(groups=[place])
        return Left(left)

    @hookimpl
    def read_group(self, lease: Lease, group: str, timeout: float) -> GroupRecord:
        call = self._call(lease, timeout)
        return GroupRecord(
            tuple(
                MemberRecord(row["member_id"], row["incarnation"], row["value"])
                for row in call.rows(_sql.MEMBERS, place=self._place(group))
                if not call.dead(row)
            )
        )

    @hookimpl
    def list_groups(self, lease: Lease, timeout: float) -> tuple[str, ...]:
        call, prefix = self._call(lease, timeout), self._place("")
        found: set[str] = set()
        for row in call.rows(_sql.MEMBERSHIPS):
            if row["place"] not in found and not call.dead(row):
                found.add(row["place"])
        return tuple(place.removeprefix(prefix) for place in found)

    # Elections

    @hookimpl
    def campaign(self, lease: Lease, election: str, attempt: int, value: bytes, timeout: float) -> Won | Waiting:
        opened, place = self._session(lease), self._place(election)
        call = opened.call(timeout)
        while True:
            front = call.first(_sql.FRONT, place=place, attempt=attempt)
            if front is None:
                raise _lost(lease)
            if front["incarnation"] == lease.incarnation and front["attempt"] == attempt:
                return Won(Seat(election, attempt, front["token"]))
            if front["candidacy"] is None:
                call.write(_sql.APPLY, place=place, attempt=attempt)
            waiting = self._waiting(call, front, place=place, attempt=attempt, opened=opened)
            if waiting is not None:
                return waiting
            token = max((front["token"] or 0) + 1, int(self._config.clock.wall() * 1e6))
            if call.write(_sql.WIN, synced=True, place=place, attempt=attempt, value=value, token=token):
                call.wake(elections=[place])
                return Won(Seat(election, attempt, token))
            call.check_time()

    @hookimpl
    def withdraw(self, lease: Lease, election: str, attempt: int, timeout: float) -> Withdrawn:
        call, place = self._call(lease, timeout), self._place(election)
        # In this order: without its candidacy an attempt cannot win any more.
        waited = call.write(_sql.WITHDRAW, place=place, attempt=attempt)
        held = call.write(_sql.GIVE_UP, place=place, attempt=attempt)
        if waited or held:
            call.wake(elections=[place])
        return Withdrawn(waited or held)

    @hookimpl
    def resign(self, lease: Lease, seat: Seat, timeout: float) -> Resigned:
        call, place = self._call(lease, timeout), self._place(seat.election)
        resigned = call.write(_sql.RESIGN, place=place, attempt=seat.attempt, token=seat.token)
        if resigned:
            call.wake(elections=[place])
        return Resigned(resigned)

    @hookimpl
    def proclaim(self, lease: Lease, seat: Seat, value: bytes, timeout: float) -> Proclaimed:
        call, place = self._call(lease, timeout), self._place(seat.election)
        held = call.write(_sql.PROCLAIM, place=place, attempt=seat.attempt, token=seat.token, value=value)
        if held:
            call.wake(elections=[place])
        return Proclaimed(held)

    @hookimpl
    def read_leader(self, lease: Lease, election: str, timeout: float) -> LeaderRecord | Vacant:
        call = self._call(lease, timeout)
        row = call.first(_sql.LEADER, place=self._place(election))
        return Vacant() if row is None or call.dead(row) else _leader(row)

    # Wake-up

    @hookimpl
    def watch(self, lease: Lease, subject: Subject, notify: Notify, timeout: float) -> Cancel:
        opened = self._session(lease)
        call, wakeups = opened.call(timeout), opened.wakeups()
        match subject:
            case GroupSubject(group):
                return wakeups.add(f"group {self._place(group)}", 0, notify, call=call)
            case LeaderSubject(election):
                return wakeups.add(f"leader {self._place(election)}", 0, notify, call=call)
            case CandidacySubject(election, attempt):
                return wakeups.add(f"candidate {self._place(election)}", attempt, notify, call=call)

    # Inside

    def _call(self, lease: Lease, timeout: float) -> Call:
        return self._session(lease).call(timeout)

    def _session(self, lease: Lease) -> Opened:
        opened = self._opened.get(lease.incarnation)
        if opened is None:
            raise SessionLost(f"the session {lease.incarnation} was dropped in this process, and all that it held")
        if opened.pid != os.getpid():
            raise Forked(f"the session {lease.incarnation} belongs to process {opened.pid}; connect in this one")
        if not opened.store.is_current():
            raise SessionLost(
                f"{self._path} was deleted or replaced under the session {lease.incarnation}; what it held is gone. "
                "A session that is opened now uses the file that is there"
            )
        return opened

    def _bare_call(self, store: Store, timeout: float) -> Call:
        facts = {"namespace": self._config.namespace, "boot": boot_id()}
        return Call(store, store.work, facts, clock=self._config.clock, timeout=timeout)

    def _place(self, name: str) -> str:
        # No encoded namespace has a slash, so namespaces never meet.
        return f"{encode_key(self._config.namespace)}/{name}"

    def _kept(self, item: Membership | Seat | Candidacy) -> list[str | int]:
        match item:
            case Membership(group, attempt):
                return ["member", self._place(group), attempt]
            case Seat(election, attempt, token):
                return ["seat", self._place(election), attempt, token]
            case Candidacy(election, attempt):
                return ["candidacy", self._place(election), attempt]

    def _waiting(self, call: Call, front: sqlite3.Row, *, place: str, attempt: int, opened: Opened) -> Waiting | None:
        """Return what is in the way of an attempt; bury it if it is dead, and return None if nothing is."""
        if front["slot"] is not None:
            if not call.dead(front):
                return Waiting(_leader(front), self._until(front))
            call.reap([front])
        quiet = opened.quiet_for(call)
        if quiet is not None:
            return Waiting(Vacant(), quiet)
        while True:
            oldest = call.first(_sql.OLDEST, place=place)
            if oldest is None or (oldest["incarnation"] == opened.lease.incarnation and oldest["attempt"] == attempt):
                return None
            if not call.dead(oldest):
                return Waiting(Vacant(), self._until(oldest))
            call.reap([oldest])
            call.check_time()

    def _until(self, peer: sqlite3.Row) -> float:
        return max(0.0, float(peer["deadline"]) - self._config.clock.now())


def _check_host() -> None:
    if sys.platform != "linux" or not hasattr(fcntl, "F_OFD_SETLK"):
        raise ConfigurationError(
            f"local:// needs Linux, whose kernel locks tell which process is alive; this is {sys.platform}. "
            "Use a backend with a server"
        )
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        lowest = ".".join(map(str, _OLDEST_SQLITE))
        raise ConfigurationError(f"local:// needs SQLite {lowest}; Python has {sqlite3.sqlite_version} here")


def _make_folders(folder: Path) -> None:
    with translated(folder, opening=True):
        # One at a time: with `parents`, the mode would count for the last one only.
        for missing in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)


def _bury_incarnation(call: Call, incarnation: str) -> bool:
    row = call.first(_sql.BY_INCARNATION, other=incarnation)
    return row is not None and call.bury([row["slot"]], gone=[row["slot"]])


def _leader(row: sqlite3.Row) -> LeaderRecord:
    return LeaderRecord(
        member_id=row["member_id"], incarnation=row["incarnation"], token=row["token"], value=row["value"]
    )


def _lost(lease: Lease) -> SessionLost:
    return SessionLost(
        f"the session {lease.incarnation} of {lease.member_id!r} is not there any more: it was silent for longer than "
        f"its {lease.ttl:g} s, was replaced, or was closed. What it held is gone"
    )
