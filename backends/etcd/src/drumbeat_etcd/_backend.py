"""The hooks, on etcd: one lease for each session, and on it every key that the session holds."""

from __future__ import annotations

import hashlib
import math
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from drumbeat import BadData, ConfigurationError, Conflict, SessionLost
from drumbeat.hookspecs import (
    BackendConfig,
    BackendProfile,
    Beat,
    Bound,
    Cancel,
    CandidacySubject,
    Capability,
    Finding,
    GroupRecord,
    GroupSubject,
    Holdings,
    Joined,
    LeaderRecord,
    Lease,
    Left,
    Limits,
    MemberRecord,
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
from drumbeat.options import TLS_OPTIONS
from drumbeat_etcd._findings import numbers
from drumbeat_etcd._holdings import Claims
from drumbeat_etcd._operations import Created, Delete, Leased, Place, Put, Read, Transaction, countdown
from drumbeat_etcd._options import read_options
from drumbeat_etcd._records import Keys, Record, after
from drumbeat_etcd._watches import Watch, Watches

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from drumbeat_etcd._client import Client
    from drumbeat_etcd._holdings import Held
    from drumbeat_etcd._operations import Entry, Renewal

LOWEST_VERSION: Final = (3, 4)
#: Operations in one transaction; a server allows 128 unless it is told otherwise (--max-txn-ops).
OPERATIONS: Final = 100
#: Seconds: the longest TTL where an empty store must wait for as long.
LONGEST_WAIT: Final = 60.0
#: Seconds between two looks while an empty store waits.
POLL: Final = 1.0

PROFILE: Final = BackendProfile(
    server="etcd",
    capabilities=frozenset(
        {
            Capability.PUSH_WATCH,
            Capability.FIFO_CANDIDATES,
            Capability.PERSISTENT,
            Capability.TOKENS_SURVIVE_RESTART,
            Capability.REAPING,
        }
    ),
    # Whole seconds: a shorter wish is rounded up. 1.5 MiB is the most that a request may have by default, see
    # --max-request-bytes in https://etcd.io/docs/v3.4/op-guide/configuration/.
    limits=Limits(min_ttl=0.1, max_ttl=86_400.0, value_bytes=1 << 18, poll_interval=POLL),
    # The server looks for expired leases every 0.5 s, see expiredLeaseRetryInterval and revokeExpiredLeases in
    # https://github.com/etcd-io/etcd/blob/release-3.4/lease/lessor.go; then comes a poll, should the watch fail.
    failover=Bound(1.0, 0.5 + POLL),
    eviction=Bound(1.0, 0.5 + POLL),
)


class EtcdBackend:
    """Sessions, groups and elections in an etcd cluster of version 3.4 or later, or a single server.

    A heartbeat renews the session's lease and reads which keys hang on it, whatever it holds. What the server says
    is final; without an answer the hooks raise Unavailable, within their timeout.
    """

    spec_version: ClassVar[int] = 1
    options: ClassVar[Mapping[str, str]] = TLS_OPTIONS

    def __init__(self, config: BackendConfig) -> None:
        self._options = read_options(config.url)
        self._keys = Keys(config.namespace)
        self._waits = config.on_empty_store == "wait"
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._watches: Watches | None = None
        #: Whose connections these are.
        self._incarnation: str | None = None

    # The backend itself -------------------------------------------------------------------------------------

    @hookimpl
    def describe_backend(self, timeout: float) -> BackendProfile:
        """Return what is promised, if the server is recent enough for it."""
        version = self._connection().version(timeout)
        if numbers(version) < LOWEST_VERSION:
            raise ConfigurationError(
                f"etcd at {self._connection().address} has version {version}; drumbeat-etcd needs "
                f"{'.'.join(map(str, LOWEST_VERSION))} or later"
            )
        return replace(PROFILE, server=f"etcd {version}", limits=replace(PROFILE.limits, max_ttl=self._longest_ttl()))

    @hookimpl
    def diagnose_backend(self, timeout: float) -> tuple[Finding, ...]:
        """Return what the cluster tells of its servers and alarms, and what of it an operator may want to change."""
        return self._connection().look(timeout).findings(self._options)

    # Sessions -----------------------------------------------------------------------------------------------

    @hookimpl
    def open_session(self, request: SessionRequest, timeout: float) -> Lease:
        """Get a lease, and the member id's key on it."""
        left, client = countdown(timeout), self._connection()
        self._check_ttl(request.ttl, self._longest_ttl())
        if request.supersedes is not None:
            client.revoke(self._lease_id(request.supersedes), left())
        self._make_room(request, left)
        lease_id = self._lease_id(request.incarnation)
        ttl = client.grant(lease_id, math.ceil(request.ttl), left())
        key = self._keys.session(request.member_id)
        record = Record(member_id=request.member_id, incarnation=request.incarnation, ttl=ttl)
        taken = client.transact(
            Transaction((Created(key),), then=(Put(key, record.encode(), lease_id),), otherwise=(Read(key),)), left()
        )
        other = taken.answers[0].entry
        if other is not None and self._owner(other) != request.incarnation:
            # So quickly that it was not there yet when room was made.
            client.revoke(lease_id, left())
            raise self._conflict(other, left)
        self._incarnation = request.incarnation
        return Lease(request.incarnation, request.member_id, ttl)

    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings, timeout: float) -> Beat:
        """Renew the lease and compare its keys with the holdings; remove what hangs on it and is not wanted."""
        left = countdown(timeout)
        session = Read(self._keys.session(lease.member_id))
        renewal = self._connection().beat(self._lease_id(lease.incarnation), Transaction(then=(session,)), left())
        self._require_session(lease, renewal)
        claims, held = Claims(self._keys, lease.incarnation, holdings), renewal.keys
        lost = claims.lost(held)
        if lost:
            # In a cluster, the server that lists the keys may not have applied the newest writes yet.
            proofs = sorted({key for one in lost for key in claims.proofs(one)})
            lease_id = self._lease_id(lease.incarnation)
            held |= {entry.key for entry in self._read_many(proofs, left) if entry.lease == lease_id}
            lost = claims.lost(held)
        for one in claims.abandoned(held):
            self._remove(lease, one, left)
        return Beat(replace(lease, ttl=float(renewal.ttl)), lost)

    @hookimpl
    def close_session(self, lease: Lease, timeout: float) -> SessionClosed:
        """Revoke the lease, and with it all keys of the session, at one moment."""
        with self._lock:
            watches = None
            if self._incarnation == lease.incarnation:
                watches, self._watches = self._watches, None
        if watches is not None:
            watches.stop()
        return SessionClosed(self._connection().revoke(self._lease_id(lease.incarnation), timeout))

    @hookimpl
    def drop_session(self, lease: Lease, forked: bool) -> SessionClosed:
        """End watches and connections; in a forked child only forget them."""
        if forked:
            if self._client is not None:
                self._client.abandon()
            return SessionClosed(was_open=False)
        with self._lock:
            if self._incarnation not in {None, lease.incarnation} or self._client is None:
                return SessionClosed(was_open=False)
            client, watches = self._client, self._watches
            self._client = self._watches = self._incarnation = None
        if watches is not None:
            watches.stop()
        client.close()
        return SessionClosed(was_open=True)

    @hookimpl
    def reap_session(self, ticket: ReapTicket, timeout: float) -> Reaped:
        """Revoke the lease of exactly this incarnation."""
        return Reaped(self._connection().revoke(self._lease_id(ticket.incarnation), timeout))

    # Groups -------------------------------------------------------------------------------------------------

    @hookimpl
    def join_group(self, lease: Lease, group: str, attempt: int, value: bytes, timeout: float) -> Joined:
        """Put the membership of this attempt in place of that of an earlier one; a later one stays."""
        prefix = self._keys.places(group, lease.incarnation)
        key = self._keys.place(group, lease.incarnation, attempt)
        record = self._record(lease, group, attempt, value)
        outcome = self._connection().transact(
            Transaction(
                # A request that comes late must not undo what a later attempt did.
                (Created(f"{key}\0", end=after(prefix)),),
                then=(
                    Read(key, keys_only=True),
                    Delete(prefix, key),
                    Put(key, record.encode(), self._lease_id(lease.incarnation)),
                ),
            ),
            timeout,
        )
        if not outcome.succeeded:
            return Joined(was_member=True)
        same, lower, _ = outcome.answers
        return Joined(bool(same.entries or lower.deleted))

    @hookimpl
    def update_member(self, lease: Lease, group: str, value: bytes, timeout: float) -> Updated:
        """Replace the value of the membership that is there."""
        left, prefix = countdown(timeout), self._keys.places(group, lease.incarnation)
        while True:
            (found,) = self._connection().transact(Transaction(then=(Read(prefix, after(prefix)),)), left()).answers
            if found.entry is None:
                return Updated(was_member=False)
            entry, record = found.entry, Record.decode(found.entry)
            change = Put(entry.key, replace(record, value=value).encode(), self._lease_id(lease.incarnation))
            same = Created(entry.key, entry.created)
            if self._connection().transact(Transaction((same,), then=(change,)), left()).succeeded:
                return Updated(was_member=True)

    @hookimpl
    def leave_group(self, lease: Lease, group: str, timeout: float) -> Left:
        """Delete the membership."""
        prefix = self._keys.places(group, lease.incarnation)
        deletion = Transaction(then=(Delete(prefix, after(prefix)),))
        return Left(self._connection().transact(deletion, timeout).answers[0].deleted > 0)

    @hookimpl
    def read_group(self, group: str, timeout: float) -> GroupRecord:
        """Return the members in one read."""
        prefix = self._keys.members(group)
        (found,) = self._connection().transact(Transaction(then=(Read(prefix, after(prefix)),)), timeout).answers
        records = (Record.decode(entry) for entry in found.entries)
        return GroupRecord(tuple(MemberRecord(one.member_id, one.incarnation, one.value) for one in records))

    @hookimpl
    def list_groups(self, timeout: float) -> tuple[str, ...]:
        """Return the names of the groups, by reading all memberships' keys and one value for each group."""
        left, prefix = countdown(timeout), self._keys.groups
        every = Read(prefix, after(prefix), keys_only=True)
        (found,) = self._connection().transact(Transaction(then=(every,)), left()).answers
        one_each = {entry.key.split("/")[2]: entry.key for entry in found.entries}
        members = self._read_many(list(one_each.values()), left)
        return tuple(Record.decode(member).name for member in members)

    # Elections ----------------------------------------------------------------------------------------------

    @hookimpl
    def campaign(self, lease: Lease, election: str, attempt: int, value: bytes, timeout: float) -> Won | Waiting:
        """Win at once where nobody else is, else queue; win from the queue once first in it."""
        left = countdown(timeout)
        queue, leader = self._keys.candidates(election), self._keys.leader(election)
        mine = self._keys.candidate(election, lease.incarnation, attempt)
        lease_id = self._lease_id(lease.incarnation)
        enter = Put(mine, self._record(lease, election, attempt).encode(), lease_id)
        lead = Put(leader, self._record(lease, election, attempt, value).encode(), lease_id)
        vacant = (Created(leader), Created(self._keys.quarantine))
        asked = self._connection().transact(
            Transaction(
                (*vacant, Created(queue, end=after(queue))),
                then=(enter, lead),
                otherwise=(
                    Transaction((Created(mine),), then=(enter,)),
                    Read(leader),
                    Read(queue, after(queue), oldest=True),
                ),
            ),
            left(),
        )
        if asked.succeeded:
            return Won(Seat(election, attempt, asked.revision))
        holder, first = asked.answers[1].entry, asked.answers[2].entry
        if holder is not None and Record.decode(holder).belongs_to(lease.incarnation, attempt):
            return Won(Seat(election, attempt, holder.created))
        if holder is None and first is not None and first.key == mine:
            # Nobody can come before the first any more, so only its own key must be looked at again.
            win = Transaction((*vacant, Created(mine, first.created)), then=(lead,), otherwise=(Read(leader),))
            won = self._connection().transact(win, left())
            return Won(Seat(election, attempt, won.revision)) if won.succeeded else Waiting(Vacant(), POLL)
        ahead = holder or first
        return Waiting(_leader(holder), None if ahead is None else Record.decode(ahead).ttl)

    @hookimpl
    def withdraw(self, lease: Lease, election: str, attempt: int, timeout: float) -> Withdrawn:
        """Delete the attempt's key, and the seat if the attempt has it."""
        mine = self._keys.candidate(election, lease.incarnation, attempt)
        return Withdrawn(self._vacate(lease, self._keys.leader(election), mine, attempt, countdown(timeout)))

    @hookimpl
    def resign(self, lease: Lease, seat: Seat, timeout: float) -> Resigned:
        """Delete the seat and the attempt's key, if the seat is still this term's."""
        leader = self._keys.leader(seat.election)
        mine = self._keys.candidate(seat.election, lease.incarnation, seat.attempt)
        ours = (Created(leader, seat.token), Leased(leader, self._lease_id(lease.incarnation)))
        freed = Transaction(ours, then=(Delete(leader), Delete(mine)))
        return Resigned(self._connection().transact(freed, timeout).succeeded)

    @hookimpl
    def proclaim(self, lease: Lease, seat: Seat, value: bytes, timeout: float) -> Proclaimed:
        """Replace the value of the seat, if it is still this term's."""
        leader = self._keys.leader(seat.election)
        record = self._record(lease, seat.election, seat.attempt, value)
        lease_id = self._lease_id(lease.incarnation)
        ours = (Created(leader, seat.token), Leased(leader, lease_id))
        change = Put(leader, record.encode(), lease_id)
        told = self._connection().transact(Transaction(ours, then=(change,)), timeout)
        return Proclaimed(told.succeeded)

    @hookimpl
    def read_leader(self, election: str, timeout: float) -> LeaderRecord | Vacant:
        """Return who has the seat, in one read."""
        return _leader(self._read(self._keys.leader(election), timeout))

    # Watches ------------------------------------------------------------------------------------------------

    @hookimpl
    def watch(self, lease: Lease, subject: Subject, notify: Notify, timeout: float) -> Cancel:
        """Watch the members, the seat, or what stands directly before an attempt in its queue."""
        left = countdown(timeout)
        session = self._read(self._keys.session(lease.member_id), left())
        if session is None or session.lease != self._lease_id(lease.incarnation):
            raise SessionLost(f"etcd has no session {lease.incarnation} of {lease.member_id!r}")
        with self._lock:
            if self._watches is None:
                name = f"drumbeat-etcd-watch-{lease.member_id}"
                self._watches = Watches(self._connected(), name=name)
            watches = self._watches
        return watches.add(self._watch_of(lease, subject, notify), left())

    def _watch_of(self, lease: Lease, subject: Subject, notify: Notify) -> Watch:
        if isinstance(subject, CandidacySubject):
            return Watch(lambda timeout: self._before(lease, subject, timeout), notify, moves=True)
        if isinstance(subject, GroupSubject):
            prefix = self._keys.members(subject.group)
            place = Place(prefix, after(prefix))
        else:
            place = Place(self._keys.leader(subject.election))
        return Watch(lambda _: (place, False), notify)

    def _before(self, lease: Lease, subject: CandidacySubject, timeout: float) -> tuple[Place, bool]:
        """Return the key whose end an attempt waits for, and whether nobody is before it."""
        left, queue = countdown(timeout), self._keys.candidates(subject.election)
        mine = self._read(self._keys.candidate(subject.election, lease.incarnation, subject.attempt), left())
        leader = self._keys.leader(subject.election)
        if mine is None:
            return Place(leader), True
        last = Read(queue, after(queue), keys_only=True, newest_before=mine.created)
        found = self._connection().transact(Transaction(then=(last,)), left())
        (before,) = found.answers
        key = leader if before.entry is None else before.entry.key
        return Place(key, start=found.revision + 1), before.entry is None

    # What the hooks share -----------------------------------------------------------------------------------

    def _connection(self) -> Client:
        with self._lock:
            return self._connected()

    def _connected(self) -> Client:
        if self._client is None:
            from drumbeat_etcd._client import Client

            self._client = Client(self._options, prefix=self._keys.root)
        return self._client

    def _lease_id(self, incarnation: str) -> int:
        """Return the id that a session's lease has, so that a repeated grant is the same lease."""
        digest = hashlib.sha256(f"{self._keys.namespace}\0{incarnation}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1 or 1

    def _record(self, lease: Lease, name: str, attempt: int, value: bytes = b"") -> Record:
        return Record(
            member_id=lease.member_id,
            incarnation=lease.incarnation,
            name=name,
            attempt=attempt,
            ttl=lease.ttl,
            value=value,
        )

    def _read(self, key: str, timeout: float) -> Entry | None:
        return self._connection().transact(Transaction(then=(Read(key),)), timeout).answers[0].entry

    def _read_many(self, keys: list[str], left: Callable[[], float]) -> list[Entry]:
        found: list[Entry] = []
        for start in range(0, len(keys), OPERATIONS):
            reads = tuple(Read(key) for key in keys[start : start + OPERATIONS])
            answers = self._connection().transact(Transaction(then=reads), left()).answers
            found += [answer.entry for answer in answers if answer.entry is not None]
        return found

    # Opening ------------------------------------------------------------------------------------------------

    def _longest_ttl(self) -> float:
        return LONGEST_WAIT if self._waits else PROFILE.limits.max_ttl

    def _check_ttl(self, ttl: float, longest: float) -> None:
        if not PROFILE.limits.min_ttl <= ttl <= longest:
            raise ConfigurationError(
                f"a TTL of {ttl:g} s is outside what is granted here: {PROFILE.limits.min_ttl:g} to {longest:g} s"
            )

    def _make_room(self, request: SessionRequest, left: Callable[[], float]) -> None:
        """See to the birth record, and to another session that has the member id."""
        reads = Read(self._keys.birth), Read(self._keys.session(request.member_id))
        birth, other = self._connection().transact(Transaction(then=reads), left()).answers
        if birth.entry is None:
            self._create_birth(left)
        else:
            self._check_ttl(request.ttl, Record.decode(birth.entry).ttl)
        if other.entry is None or self._owner(other.entry) == request.incarnation:
            return
        if not request.replace:
            raise self._conflict(other.entry, left)
        self._connection().revoke(other.entry.lease, left())

    def _owner(self, session: Entry) -> str:
        """Return whose session a key is; raise BadData if no session can be behind it."""
        if not session.lease:
            raise BadData(session.key, "it hangs on no lease, so no session wrote it; delete it if nobody needs it")
        return Record.decode(session).incarnation

    def _create_birth(self, left: Callable[[], float]) -> None:
        """Write the birth record, with a key beside it that keeps seats from being won for the longest TTL."""
        client, longest = self._connection(), self._longest_ttl()
        record = Record(ttl=longest).encode()
        born: tuple[Put, ...] = (Put(self._keys.birth, record),)
        lease_id = self._lease_id(os.urandom(16).hex()) if self._waits else 0
        if self._waits:
            client.grant(lease_id, math.ceil(longest), left())
            born = (*born, Put(self._keys.quarantine, record, lease_id))
        created = client.transact(Transaction((Created(self._keys.birth),), then=born), left())
        if self._waits and not created.succeeded:
            client.revoke(lease_id, left())

    def _conflict(self, entry: Entry, left: Callable[[], float]) -> Conflict:
        seconds = self._connection().remaining(entry.lease, left())
        incarnation = Record.decode(entry).incarnation
        # Whole seconds, rounded down; what is over already goes within half a second.
        return Conflict(Record.decode(entry).member_id, incarnation=incarnation, retry_after=max(seconds, 0.1))

    # Heartbeats ---------------------------------------------------------------------------------------------

    def _require_session(self, lease: Lease, renewal: Renewal) -> None:
        session = renewal.outcome.answers[0].entry
        if renewal.ttl <= 0:
            raise SessionLost(f"etcd has no lease of session {lease.incarnation} of {lease.member_id!r}")
        if session is None or session.lease != self._lease_id(lease.incarnation):
            raise SessionLost(f"the key of session {lease.incarnation} of {lease.member_id!r} is gone from etcd")

    def _remove(self, lease: Lease, one: Held, left: Callable[[], float]) -> None:
        """Remove what an abandoned attempt holds, or a seat that has lost its candidate."""
        if one.kind == "member":
            self._connection().transact(Transaction(then=(Delete(one.key),)), left())
        elif one.kind == "candidate":
            self._vacate(lease, self._keys.seat_of(one.name), one.key, one.attempt, left)
        else:
            self._clear_seat(lease, one, left)

    def _clear_seat(self, lease: Lease, one: Held, left: Callable[[], float]) -> None:
        """Remove a seat on our lease whose candidate is gone, whatever its value, unless it was won anew since."""
        entry = self._read(one.key, left())
        if entry is None or entry.lease != self._lease_id(lease.incarnation):
            return
        mine = self._keys.candidacies_of(one.name, lease.incarnation)
        unchanged = Created(one.key, entry.created), Created(mine, end=after(mine))
        self._connection().transact(Transaction(unchanged, then=(Delete(one.key),)), left())

    def _vacate(self, lease: Lease, leader: str, mine: str, attempt: int, left: Callable[[], float]) -> bool:
        """Delete an attempt's key, and the seat if it has it; return whether there was anything."""
        lease_id = self._lease_id(lease.incarnation)
        while True:
            seat = self._read(leader, left())
            is_ours = seat is not None and seat.lease == lease_id and _belongs(seat, lease.incarnation, attempt)
            unchanged = Created(leader, 0 if seat is None else seat.created)
            deletions = (Delete(leader), Delete(mine)) if is_ours else (Delete(mine),)
            done = self._connection().transact(Transaction((unchanged,), then=deletions), left())
            if done.succeeded:
                return any(answer.deleted for answer in done.answers)


def _leader(entry: Entry | None) -> LeaderRecord | Vacant:
    if entry is None:
        return Vacant()
    record = Record.decode(entry)
    return LeaderRecord(
        member_id=record.member_id, incarnation=record.incarnation, token=entry.created, value=record.value
    )


def _belongs(seat: Entry, incarnation: str, attempt: int) -> bool:
    try:
        return Record.decode(seat).belongs_to(incarnation, attempt)
    except BadData:
        # Rubbish is in nobody's way; once its candidate is gone, the heartbeat removes it.
        return False
