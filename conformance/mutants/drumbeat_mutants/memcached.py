"""The remedies of drumbeat-memcached against what memcached does, each taken away."""

from __future__ import annotations

from collections.abc import Callable

from drumbeat._cas.base import Base
from drumbeat._cas.call import Call, Snapshot
from drumbeat._cas.sessions import Sessions
from drumbeat.cas import CompareAndSetBackend
from drumbeat.hookspecs import Lease
from drumbeat_memcached import MemcachedBackend, _stats
from drumbeat_memcached._connection import Connection
from drumbeat_mutants import Patch, mutant

#: A bound method, before it was broken.
Original = Callable[..., object]


def without_loss(patch: Patch, name: str) -> None:
    """Leave the server's counters of one kind out of what says whether it has lost anything."""
    patch(_stats, "LOSSES", {other: text for other, text in _stats.LOSSES.items() if name not in other})


@mutant(
    "writes-itself-back",
    breaks=("MEMCACHED-1", "MEMCACHED-5"),
    of="memcached",
    like="hazard: eviction, restart, flush_all",
)
def writes_itself_back(patch: Patch) -> None:
    """A session whose record is gone writes it again at its next heartbeat, and goes on as if nothing were lost."""

    def recover(original: Original, self: Sessions, lease: Lease, found: Snapshot) -> object:
        if found.version(self._keys.session(lease.member_id)) is None:
            return self._mine(lease).known[0], None
        return original(self, lease, found)

    patch.wrap(Sessions, "_recover", recover)
    patch(Sessions, "_require_epoch", lambda self, own, found: None)  # noqa: ARG005 - the real signature


@mutant("trusts-an-empty-store", breaks="MEMCACHED-2", of="memcached", like="hazard: absence is ambiguous")
def trusts_an_empty_store(patch: Patch) -> None:
    """What is missing from the store was never there: a seat of which nothing is known is free."""
    patch(Base, "_trusting", property(lambda self: True))  # noqa: ARG005 - the signature of a getter


@mutant(
    "does-not-count-evictions", breaks="MEMCACHED-3", of="memcached", like="hazard: eviction loses everything silently"
)
def does_not_count_evictions(patch: Patch) -> None:
    """A server that has evicted something counts as one that has lost nothing."""
    without_loss(patch, "evict")


@mutant("does-not-count-deletions", breaks="MEMCACHED-4", of="memcached", like="hazard: plain delete")
def does_not_count_deletions(patch: Patch) -> None:
    """A server from which somebody has deleted something counts as one that has lost nothing."""
    without_loss(patch, "delete_hits")


@mutant("takes-cas-numbers-for-unique", breaks="MEMCACHED-6", of="memcached", like="hazard: CAS unique restarts at 1")
def takes_cas_numbers_for_unique(patch: Patch) -> None:
    """A CAS number is compared without a look at which start of the server gave it."""
    patch(Connection, "_read_start", lambda self: "")  # noqa: ARG005 - the real signature
    patch(Sessions, "_require_epoch", lambda self, own, found: None)  # noqa: ARG005 - the real signature


@mutant("lets-seats-expire", breaks="MEMCACHED-7", of="memcached", like="hazard: a TTL of n seconds lives n-1 to n")
def lets_seats_expire(patch: Patch) -> None:
    """Everything is stored for a minute, as if whoever needs it for longer wrote it again."""

    def compare_and_set(
        original: Original, self: MemcachedBackend, *arguments: object, expire: float | None = None, timeout: float
    ) -> object:
        return original(self, *arguments, expire=expire or 60.0, timeout=timeout)

    patch.wrap(MemcachedBackend, "compare_and_set", compare_and_set)


@mutant("swaps-and-then-reads", breaks="BEAT-6", of="memcached", like="hazard: one round trip with CAS")
def swaps_and_then_reads(patch: Patch) -> None:
    """A heartbeat writes, waits for the answer, and then reads."""
    patch(MemcachedBackend, "swap_and_read", CompareAndSetBackend.swap_and_read)


@mutant("reads-key-by-key", breaks="WIRE-1", of="memcached", like="hazard: session keys read with one multi-get")
def reads_key_by_key(patch: Patch) -> None:
    """A view reads forty keys, waits for them, and then reads the next ones."""

    def read(original: Callable[..., Snapshot], self: Base, call: Call, keys: object) -> Snapshot:
        wanted = list(dict.fromkeys(keys))  # type: ignore[call-overload]
        found = original(self, call, wanted[:40])
        for start in range(40, len(wanted), 40):
            found = found.merged(original(self, call, wanted[start : start + 40]))
        return found

    patch.wrap(Base, "_read", read)
