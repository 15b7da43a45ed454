"""What every hook of a CompareAndSetBackend stands on: the store's few operations, and who is alive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from drumbeat._cas.call import Call, Snapshot
from drumbeat._cas.observations import Interests, Observations
from drumbeat._cas.records import Birth, Keys, Owner, Record, Session
from drumbeat._errors import SessionLost
from drumbeat.hookspecs import Capability, Lease, Limits

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

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


class CasBase(ABC):
    """The store as a subclass provides it, and the rules by which a session counts as dead."""

    spec_version: ClassVar[int] = 1
    options: ClassVar[Mapping[str, str]] = {}

    #: The server with its version, for people and reports.
    server: str = "a store with compare-and-set"
    #: What the store imposes. `value_bytes` must leave room for base64 and some 300 bytes around a value; a roster
    #: takes some 150 bytes for each member of a group.
    limits: Limits = Limits(min_ttl=0.5, max_ttl=3600.0, value_bytes=65_536, poll_interval=0.05)
    #: What the store can do beyond what this class brings.
    extra_capabilities: frozenset[Capability] = frozenset()
    #: The longest TTL in seconds that sessions may have where an empty store makes them wait; the same for
    #: everybody who uses a store, at all times: after a loss of all data it is how long the losers may live.
    longest_ttl: float = 60.0

    def __init__(self, config: BackendConfig) -> None:
        self._clock = config.clock
        self._keys = Keys(config.namespace)
        volatile = Capability.VOLATILE in self.extra_capabilities
        self._trusting = (config.on_empty_store or ("wait" if volatile else "trust")) == "trust"
        self._observations = Observations(config.clock)
        self._groups = Interests()
        self._elections = Interests()
        # Its single operations are atomic, and a forked child must not wait for a lock to empty it.
        self._own: dict[str, Own] = {}

    @abstractmethod
    def read_many(self, keys: Sequence[str], timeout: float) -> Mapping[str, tuple[bytes, Hashable]]:
        """Return value and version of each key that the store has, read now; the others are left out.

        A version is anything hashable that differs between any two values that a key has had. Raises Unavailable.
        """

    @abstractmethod
    def compare_and_set(
        self,
        key: str,
        value: bytes,
        version: Hashable | None,
        *,
        expire: float | None = None,
        timeout: float,
    ) -> Hashable | None:
        """Store `value` and return its version, or return None if the key does not have `version` any more.

        With version None the key must be absent. After `expire` seconds without another write nobody needs the
        key, and the store may drop it; without `expire` it must stay. Raises Unavailable; its outcome is
        "not_applied" only if the write can never be applied, not even later.
        """

    def delete(self, key: str, version: Hashable, timeout: float) -> bool:
        """Remove a key that has `version`; return whether it was removed. By default an empty value is stored."""
        return self.compare_and_set(key, b"", version, expire=1.0, timeout=timeout) is not None

    def swap_and_read(
        self,
        key: str,
        value: bytes,
        version: Hashable | None,
        keys: Sequence[str],
        *,
        expire: float | None = None,
        timeout: float,
    ) -> tuple[Hashable | None, Mapping[str, tuple[bytes, Hashable]]]:
        """Do `compare_and_set`, then `read_many`, whether or not the first one won: the heartbeat.

        A store that can send both at once should, so that a heartbeat is one round trip; by default it is two.
        """
        new = self.compare_and_set(key, value, version, expire=expire, timeout=timeout)
        return new, self.read_many(keys, timeout)

    def loss_mark(self, timeout: float) -> str | None:  # noqa: ARG002 - for those who ask a server
        """Return a text that stays the same for as long as the store has certainly lost no key.

        For example the server's start time and its count of evictions. None, the default, says that the store
        cannot tell; a volatile store then makes each new election wait for `longest_ttl`, once.
        """
        return None

    # Requests -----------------------------------------------------------------------------------------------

    def _read(self, call: Call, keys: Iterable[str]) -> Snapshot:
        wanted = tuple(dict.fromkeys(keys))
        values: Mapping[str, tuple[bytes, Hashable]] = {}
        if wanted:
            with call.requesting(writes=False) as timeout:
                values = self.read_many(wanted, timeout)
        return Snapshot(values, self._clock.now(), frozenset(wanted))

    def _write(
        self, call: Call, key: str, record: Record, version: Hashable | None, *, expire: float | None = None
    ) -> Hashable | None:
        with call.requesting(writes=True) as timeout:
            new = self.compare_and_set(key, record.encode(), version, expire=expire, timeout=timeout)
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
        return self.limits.poll_interval if marked is None else 0.0

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
