"""A complete backend from a store that can compare and set.

Give `CompareAndSetBackend` two methods, `read_many` and `compare_and_set`, and it keeps every promise of
`drumbeat.hookspecs`; `examples/cas_backend.py` does so in sixty lines. `MemoryCasBackend` is its first user.

**Observation leases.** No clock but the session's own is used. A session raises a counter in its record at every
heartbeat. Another session that has seen the counter unchanged for the whole TTL that is written beside it (counted
from when its own read had returned, and 0.1 % more for clocks that run at different speeds) marks it dead, by
compare-and-set on the very version that it watched. Only then are its seats free: the heartbeat of a session that was
marked dead fails, since it expects the version before the mark. At each heartbeat, in the same round trip, a session
reads the records of those it shares a group with, of the groups and elections that it looked at last, and of all
that it holds itself.

**Empty stores.** A namespace has one birth record. Where it is missing, the store is new or has lost everything.
With `on_empty_store="wait"`, the default where Capability.VOLATILE is claimed, sessions are opened then and groups
joined, but no seat is granted until `longest_ttl` has passed; with "trust" seats are granted at once. A session that
finds another birth record than the one it was opened under is lost.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, ClassVar, Final

from drumbeat._cas.sessions import Sessions
from drumbeat.hookspecs import (
    BackendProfile,
    Beat,
    Bound,
    Capability,
    GroupRecord,
    Holdings,
    Joined,
    LeaderRecord,
    Lease,
    Left,
    Limits,
    Proclaimed,
    Reaped,
    ReapTicket,
    Resigned,
    Seat,
    SessionClosed,
    SessionRequest,
    Updated,
    Vacant,
    Waiting,
    Withdrawn,
    Won,
    hookimpl,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

    from drumbeat.hookspecs import BackendConfig

__all__ = ["CompareAndSetBackend", "MemoryCasBackend"]

CAPABILITIES: Final = frozenset(
    {Capability.REAPING, Capability.TOKENS_SURVIVE_RESTART, Capability.TOKENS_SURVIVE_DATA_LOSS}
)


class CompareAndSetBackend(ABC):
    """The base of a backend over a store that has `read_many` and `compare_and_set`.

    A subclass must define these two, may define `swap_and_read`, `delete` and `loss_mark`, and sets `server`,
    `limits`, `extra_capabilities`, `longest_ttl` and, for URL options of its own, `options`. The methods are called
    from several threads at once, each with the seconds that it has; they raise Unavailable, never an error of a
    client library. Keys are ASCII without spaces, of at most 200 characters; values are ASCII without line breaks.

    It brings reaping, and tokens that rise even over a loss of all data, as long as no wall clock is behind the one
    that minted the last. It does not push changes and keeps no queue of candidates.
    """

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
        # A mangled name, so that no subclass can hide it by accident.
        self.__hooks = Sessions(self, config)

    # What a subclass provides -------------------------------------------------------------------------------

    @abstractmethod
    def read_many(self, keys: Sequence[str], timeout: float) -> Mapping[str, tuple[bytes, Hashable]]:
        """Return value and version of each key that the store has, read now; the others are left out.

        A version is anything hashable that differs between any two values that a key has had; the value itself
        will do. The keys need not be read at one moment. Raises Unavailable.
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
        """Do `compare_and_set`, then `read_many` whether or not it stored the value: the heartbeat.

        A store with a server must send both at once, since a heartbeat is one round trip (BEAT-6 of the guarantees);
        by default it takes two.
        """
        new = self.compare_and_set(key, value, version, expire=expire, timeout=timeout)
        return new, self.read_many(keys, timeout)

    def loss_mark(self, timeout: float) -> str | None:  # noqa: ARG002 - for those who ask a server
        """Return a text that stays the same for as long as the store has certainly lost no key.

        For example the server's start time and its count of evictions. None, the default, says that the store
        cannot tell; a volatile store then makes each new election wait for `longest_ttl`, once.
        """
        return None

    # The hooks ----------------------------------------------------------------------------------------------

    @hookimpl
    def describe_backend(self, timeout: float) -> BackendProfile:  # noqa: ARG002 - for those who ask a server
        """Return what the store and this class claim together, without asking a server."""
        return BackendProfile(
            server=self.server,
            capabilities=CAPABILITIES | self.extra_capabilities,
            limits=replace(self.limits, max_ttl=self.__hooks.max_ttl),
            # A waiting candidate looks every poll_interval, so it has seen the dead leader's last counter one look
            # after it was written; 1.001 TTL later its next look marks it dead and wins. Each look is a request
            # or two, for which there are 5 % and a second.
            failover=Bound(1.05, 1.0 + 2 * self.limits.poll_interval),
            # With the default interval some session that beats sees a dead member's last counter at most TTL/4
            # after it was written, and its first heartbeat that comes 1.001 TTL later, again at most TTL/4, marks
            # it dead for everybody: 1.501. The rest is for requests. TTL is the longest one in the group.
            eviction=Bound(1.6, 1.0),
        )

    @hookimpl
    def open_session(self, request: SessionRequest, timeout: float) -> Lease:
        """Take the member id's record."""
        return self.__hooks.open_session(request, timeout)

    @hookimpl
    def heartbeat(self, lease: Lease, holdings: Holdings, timeout: float) -> Beat:
        """Raise the session's counter, and read all that matters to it, in one `swap_and_read`."""
        return self.__hooks.heartbeat(lease, holdings, timeout)

    @hookimpl
    def close_session(self, lease: Lease, timeout: float) -> SessionClosed:
        """Write that the session is closed, which frees all that it holds at once."""
        return self.__hooks.close_session(lease, timeout)

    @hookimpl
    def drop_session(self, lease: Lease, forked: bool) -> SessionClosed:  # noqa: ARG002 - nothing is shared here
        """Forget the session; a subclass with connections marks its own version with `hookimpl`, and calls this."""
        return self.__hooks.drop_session(lease)

    @hookimpl
    def reap_session(self, ticket: ReapTicket, timeout: float) -> Reaped:
        """Mark exactly this incarnation dead."""
        return self.__hooks.reap_session(ticket, timeout)

    @hookimpl
    def join_group(self, lease: Lease, group: str, attempt: int, value: bytes, timeout: float) -> Joined:
        """Store the value, and enter the roster of the group."""
        return self.__hooks.join_group(lease, group, attempt, value=value, timeout=timeout)

    @hookimpl
    def update_member(self, lease: Lease, group: str, value: bytes, timeout: float) -> Updated:
        """Replace the value of a member."""
        return self.__hooks.update_member(lease, group, value=value, timeout=timeout)

    @hookimpl
    def leave_group(self, lease: Lease, group: str, timeout: float) -> Left:
        """Strike the session off the roster."""
        return self.__hooks.leave_group(lease, group, timeout)

    @hookimpl
    def read_group(self, group: str, timeout: float) -> GroupRecord:
        """Return the members in two round trips, however many they are."""
        return self.__hooks.read_group(group, timeout)

    @hookimpl
    def list_groups(self, timeout: float) -> tuple[str, ...]:
        """Return the groups in which somebody lives, in three round trips."""
        return self.__hooks.list_groups(timeout)

    @hookimpl
    def campaign(self, lease: Lease, election: str, attempt: int, value: bytes, timeout: float) -> Won | Waiting:
        """Take the seat if nobody living has it."""
        return self.__hooks.campaign(lease, election, attempt, value=value, timeout=timeout)

    @hookimpl
    def withdraw(self, lease: Lease, election: str, attempt: int, timeout: float) -> Withdrawn:
        """Vacate the seat if the attempt has it, and see to it that no write of the attempt is applied later."""
        return self.__hooks.withdraw(lease, election, attempt, timeout)

    @hookimpl
    def resign(self, lease: Lease, seat: Seat, timeout: float) -> Resigned:
        """Vacate the seat if it is still this term's."""
        return self.__hooks.resign(lease, seat, timeout)

    @hookimpl
    def proclaim(self, lease: Lease, seat: Seat, value: bytes, timeout: float) -> Proclaimed:
        """Replace the seat's value if it is still this term's."""
        return self.__hooks.proclaim(lease, seat, value=value, timeout=timeout)

    @hookimpl
    def read_leader(self, election: str, timeout: float) -> LeaderRecord | Vacant:
        """Return the holder, unless its session is gone."""
        return self.__hooks.read_leader(election, timeout)


@dataclass(slots=True)
class _MemoryStore:
    values: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    versions: Iterator[int] = field(default_factory=count)
    lock: threading.Lock = field(default_factory=threading.Lock)


#: By process id and name, like the stores of `drumbeat.memory`.
_stores: dict[tuple[int, str], _MemoryStore] = {}


class MemoryCasBackend(CompareAndSetBackend):
    """`memory-cas://NAME`: a compare-and-set store in this process's memory, for tests of the class above."""

    server = "compare-and-set memory"

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        self._name = config.url.hosts[0][0] if config.url.hosts else "default"
        self._store = _stores.setdefault((os.getpid(), self._name), _MemoryStore())

    @classmethod
    def wipe(cls, name: str = "default") -> None:
        """Empty the store under the feet of its sessions, as a restart of a volatile server does."""
        store = _stores.setdefault((os.getpid(), name), _MemoryStore())
        with store.lock:
            store.values.clear()

    def read_many(
        self,
        keys: Sequence[str],
        timeout: float,  # noqa: ARG002 - nothing here takes time
    ) -> Mapping[str, tuple[bytes, Hashable]]:
        """Return copies of what is there."""
        with self._store.lock:
            return {key: self._store.values[key] for key in keys if key in self._store.values}

    def compare_and_set(
        self,
        key: str,
        value: bytes,
        version: Hashable | None,
        *,
        expire: float | None = None,  # noqa: ARG002 - nothing here expires
        timeout: float,  # noqa: ARG002 - nothing here takes time
    ) -> Hashable | None:
        """Write if the version is still the expected one."""
        with self._store.lock:
            found = self._store.values.get(key)
            if (None if found is None else found[1]) != version:
                return None
            new = next(self._store.versions)
            self._store.values[key] = (value, new)
            return new

    def delete(
        self,
        key: str,
        version: Hashable,
        timeout: float,  # noqa: ARG002 - nothing here takes time
    ) -> bool:
        """Remove the key if the version is still the expected one."""
        with self._store.lock:
            found = self._store.values.get(key)
            if found is None or found[1] != version:
                return False
            del self._store.values[key]
            return True
