"""Stores whose compare-and-set is none, or whose versions come again."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import nullcontext
from typing import Final

from drumbeat.cas import CompareAndSetBackend, MemoryCasBackend, _MemoryStore
from drumbeat_mutants import Patch, mutant

Swap = Callable[..., Hashable | None]

#: How many versions a small counter knows.
_SMALL: Final = 16


def _renumbered(patch: Patch, number: Callable[[MemoryCasBackend, str, int], int]) -> None:
    """Give what is stored under a key a number of its own; `number` is told the last one of the key, or 0."""

    def compare_and_set(
        original: Swap, self: MemoryCasBackend, key: str, value: bytes, version: Hashable | None, **options: object
    ) -> Hashable | None:
        with self._store.lock:
            found = self._store.values.get(key)
            if (None if found is None else found[1]) != version:
                return None
            new = number(self, key, 0 if found is None else found[1])
            self._store.values[key] = (value, new)
            return new

    patch.wrap(MemoryCasBackend, "compare_and_set", compare_and_set)


@mutant("compares-and-then-sets", breaks=("CAS-3", "RACE-1"), of="memory-cas")
def compares_and_then_sets(patch: Patch) -> None:
    """The version is compared, and then the value is set, with nothing that keeps another writer out in between."""

    def make(original: Callable[..., None], self: _MemoryStore, *rest: object) -> None:
        original(self, *rest)
        self.lock = nullcontext()  # type: ignore[assignment]

    patch.wrap(_MemoryStore, "__init__", make)


@mutant("numbers-the-versions-of-a-life", breaks="CAS-2", of="memory-cas", like="hazard: a version comes again")
def numbers_the_versions_of_a_life(patch: Patch) -> None:
    """Versions are counted by key, and begin again when a key that was deleted is written anew."""
    _renumbered(patch, lambda _self, _key, last: last + 1)


@mutant("counts-versions-in-four-bits", breaks="CAS-2", of="memory-cas", like="hazard: a version comes again")
def counts_versions_in_four_bits(patch: Patch) -> None:
    """The counter of the versions is small, and begins again when it is full."""
    _renumbered(patch, lambda self, _key, _last: next(self._store.versions) % _SMALL)


@mutant(
    "dates-versions-by-the-second", breaks=("CAS-2", "CAS-3"), of="memory-cas", like="hazard: a version comes again"
)
def dates_versions_by_the_second(patch: Patch) -> None:
    """The version of a key is when it was written, as file systems and HTTP say it: in seconds."""
    _renumbered(patch, lambda _self, _key, _last: int(time.time()))


@mutant("creates-over-what-is-there", breaks="CAS-1", of="memory-cas")
def creates_over_what_is_there(patch: Patch) -> None:
    """A write that expects a key to be absent writes whether or not it is."""

    def compare_and_set(
        original: Swap, self: MemoryCasBackend, key: str, value: bytes, version: Hashable | None, **options: object
    ) -> Hashable | None:
        if version is None:
            found = self._store.values.get(key)
            version = None if found is None else found[1]
        return original(self, key, value, version, **options)

    patch.wrap(MemoryCasBackend, "compare_and_set", compare_and_set)


@mutant("deletes-without-comparing", breaks="CAS-1", of="memory-cas")
def deletes_without_comparing(patch: Patch) -> None:
    """A deletion looks at the key alone, whatever version it has by now."""

    def delete(self: MemoryCasBackend, key: str, version: Hashable, timeout: float) -> bool:
        assert timeout > 0
        with self._store.lock:
            return self._store.values.pop(key, None) is not None and version is not None

    patch(MemoryCasBackend, "delete", delete)


@mutant("reads-before-it-swaps", breaks="CAS-1", of="memory-cas")
def reads_before_it_swaps(patch: Patch) -> None:
    """A heartbeat's read is sent ahead of its write, so that it misses what the write has changed."""

    def swap_and_read(
        self: CompareAndSetBackend,
        key: str,
        value: bytes,
        version: Hashable | None,
        keys: Sequence[str],
        *,
        expire: float | None = None,
        timeout: float,
    ) -> tuple[Hashable | None, Mapping[str, tuple[bytes, Hashable]]]:
        found = self.read_many(keys, timeout)
        return self.compare_and_set(key, value, version, expire=expire, timeout=timeout), found

    patch(CompareAndSetBackend, "swap_and_read", swap_and_read)
