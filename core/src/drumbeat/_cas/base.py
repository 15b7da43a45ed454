"""What every hook of a CompareAndSetBackend stands on: requests to the store, and who is alive."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from drumbeat._cas.call import Call, Snapshot
from drumbeat._cas.observations import Interests, Observations
from drumbeat._cas.records import Birth, Keys, Owner, Record, Session
from drumbeat._errors import SessionLost
from drumbeat.hookspecs import Capability, Lease

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping

    from drumbeat.cas import CompareAndSetBackend
    from drumbeat.hookspecs import BackendConfig


@dataclass(slots=True)
class Own:
    """What this process knows of a session that it has opened."""

    owner: Owner
    epoch: str
    #: The session's record as last written, with its version.
    known: tuple[Session, Hashable]
    #: By name and attempt, the version that the last write of an attempt expected. As long as the store still has
    #: that version, a write whose answer was lost may yet be applied.
    wins: dict[tuple[str, int], Hashable | None] = field(default_factory=dict)
    joins: dict[tuple[str, int], Hashable | None] = field(default_factory=dict)


class Base:
    """The requests to a store, and the rules by which a session counts as dead."""

    def __init__(self, store: CompareAndSetBackend, config: BackendConfig) -> None:
        self._store = store
        self._clock = config.clock
        self._keys = Keys(config.namespace)
        self._on_empty_store = config.on_empty_store
        self._observations = Observations(config.clock)
        self._groups = Interests()
        self._elections = Interests()
        # Its single operations are atomic, and a forked child must not wait for a lock to empty it.
        self._own: dict[str, Own] = {}

    @property
    def _trusting(self) -> bool:
        """Whether what is absent from the store was never there."""
        volatile = Capability.VOLATILE in self._store.extra_capabilities
        return (self._on_empty_store or ("wait" if volatile else "trust")) == "trust"

    # Requests -----------------------------------------------------------------------------------------------

    def _read(self, call: Call, keys: Iterable[str]) -> Snapshot:
        wanted = tuple(dict.fromkeys(keys))
        values: Mapping[str, tuple[bytes, Hashable]] = {}
        if wanted:
            with call.requesting(writes=False) as timeout:
                values = self._store.read_many(wanted, timeout)
        return Snapshot(values, self._clock.now(), frozenset(wanted))

    def _write(
        self, call: Call, key: str, record: Record, version: Hashable | None, *, expire: float | None = None
    ) -> Hashable | None:
        with call.requesting(writes=True) as timeout:
            new = self._store.compare_and_set(key, record.encode(), version, expire=expire, timeout=timeout)
        call.wrote = call.wrote or new is not None
        return new

    def _write_session(self, call: Call, member_id: str, record: Session, version: Hashable | None) -> Hashable | None:
        return self._write(call, self._keys.session(member_id), record, version, expire=garbage_after(record.ttl))

    # Who is alive -------------------------------------------------------------------------------------------

    def _mine(self, lease: Lease) -> Own:
        own = self._own.get(lease.incarnation)
        if own is None:
            raise SessionLost(f"the session {lease.incarnation} of {lease.member_id!r} was let go by this process")
        return own

    def _read_live(self, call: Call, lease: Lease, keys: Iterable[str]) -> Snapshot:
        """Read keys on behalf of a session; raise SessionLost if it or the store's epoch is over."""
        own = self._mine(lease)
        found = self._read(call, (self._keys.birth, self._keys.session(lease.member_id), *keys))
        self._require_epoch(own, found)
        if not self._is_live(lease, found):
            raise SessionLost(what_became_of(lease, found.get(self._keys.session(lease.member_id), Session)))
        return found

    def _require_epoch(self, own: Own, found: Snapshot) -> None:
        birth = found.get(self._keys.birth, Birth)
        if birth is None or birth.epoch != own.epoch:
            raise SessionLost(
                f"the store has lost its data since the session {own.owner.incarnation} of "
                f"{own.owner.member_id!r} was opened (its birth record is {'gone' if birth is None else 'new'})"
            )

    def _is_live(self, lease: Lease, found: Snapshot) -> bool:
        record = found.get(self._keys.session(lease.member_id), Session)
        return record is not None and record.is_live(lease.incarnation)

    def _with_sessions(self, call: Call, found: Snapshot, owners: Collection[Owner]) -> Snapshot:
        """Return a snapshot that has the session records of these owners too."""
        missing = {self._keys.session(owner.member_id) for owner in owners} - found.asked
        return found.merged(self._read(call, sorted(missing))) if missing else found

    def _until_gone(self, call: Call, owner: Owner, found: Snapshot) -> float:
        """Return the seconds until an owner may count as dead if it stays silent; 0 if it is gone.

        A session that was silent for its whole TTL is first marked dead, by compare-and-set on the very record
        that was watched, so that it cannot come back and everybody agrees.
        """
        key = self._keys.session(owner.member_id)
        record = found.get(key, Session)
        if record is not None and self._has_ended(owner, record):
            return 0.0
        present = record is not None and record.incarnation == owner.incarnation
        left = self._observations.time_left(
            (key, owner.incarnation),
            # Once it is absent, or another's, it stays so: a heartbeat creates nothing.
            record.beat if record is not None and present else None,
            needed=record.ttl if record is not None and present else owner.ttl,
            read_at=found.read_at,
        )
        if left > 0:
            return left
        if record is not None and not present:
            return 0.0
        dead = replace(record or Session(incarnation=owner.incarnation, ttl=owner.ttl), state="dead")
        marked = self._write_session(call, owner.member_id, dead, found.version(key))
        return self._store.limits.poll_interval if marked is None else 0.0

    def _has_ended(self, owner: Owner, record: Session) -> bool:
        if record.incarnation == owner.incarnation:
            return record.state != "alive"
        # A volatile store may have forgotten a live session before another one took its member id.
        return self._trusting or record.previous == owner.incarnation


def garbage_after(ttl: float) -> float:
    """Return the seconds after which a silent session's record may go: far beyond the time to observe it."""
    return 10 * ttl + 60


def what_became_of(lease: Lease, record: Session | None) -> str:
    """Return why a session is not alive, for people."""
    who = f"the session {lease.incarnation} of {lease.member_id!r}"
    if record is None:
        return f"{who} is not in the store"
    if record.incarnation != lease.incarnation:
        return f"{who} was replaced by {record.incarnation}"
    return f"{who} is {record.state}: it was closed, or silent for its TTL of {record.ttl:g} s"
