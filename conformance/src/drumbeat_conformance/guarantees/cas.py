"""What `CompareAndSetBackend` stands on: the few methods that its user writes, tested by themselves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from drumbeat.cas import CompareAndSetBackend
from drumbeat_conformance.actor import TIMEOUT, plugin_of
from drumbeat_conformance.guarantee import Needs, guarantee
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.guarantees._race import race

if TYPE_CHECKING:
    from collections.abc import Hashable

    from drumbeat_conformance.arena import Arena

#: How many write at once, how many new keys each tries to make, and how often each adds to one that is there.
_WRITERS: Final = 4
_KEYS: Final = 40
_ADDED: Final = 25


def _store(arena: Arena, member_id: str) -> CompareAndSetBackend:
    """Return the store as one process has it, with a session, as whatever uses it would have."""
    plugin = plugin_of(lasting_actor(arena, member_id).backend)
    assert isinstance(plugin, CompareAndSetBackend)
    return plugin


def _key(arena: Arena, name: str) -> str:
    return f"db:test:{arena.namespace()}:{name}"


def _read(store: CompareAndSetBackend, key: str) -> tuple[bytes, Hashable | None]:
    """Return value and version; one that was deleted may be empty or absent."""
    return store.read_many([key], TIMEOUT).get(key, (b"", None))


@guarantee("CAS-1", needs=Needs.COMPARE_AND_SET)
def a_write_needs_the_version_that_it_names(arena: Arena) -> None:
    """A write or a deletion is applied if the key has the version that it names, or is absent where it names none; else
    it changes nothing and says so. What was written is read by everybody with the version that the write returned.
    """
    one, two = _store(arena, "a"), _store(arena, "b")
    key, absent = _key(arena, "one"), _key(arena, "absent")
    write = partial(two.compare_and_set, key, timeout=TIMEOUT)
    assert one.read_many([key, absent], TIMEOUT) == {}
    first = one.compare_and_set(key, b"1", None, timeout=TIMEOUT)
    assert first is not None
    assert two.read_many([absent, key], TIMEOUT) == {key: (b"1", first)}
    assert write(b"2", None) is None
    second = write(b"2", first)
    assert second is not None
    assert write(b"3", first) is None
    assert one.swap_and_read(key, b"3", first, [key, absent], timeout=TIMEOUT) == (None, {key: (b"2", second)})
    third, found = one.swap_and_read(key, b"3", second, [absent, key], timeout=TIMEOUT)
    assert found == {key: (b"3", third)}
    assert one.delete(key, second, TIMEOUT) is False
    assert two.read_many([key], TIMEOUT) == {key: (b"3", third)}
    assert two.delete(key, third, TIMEOUT) is True
    assert _read(one, key)[0] == b""
    assert write(b"4", third) is None
    assert write(b"4", _read(two, key)[1]) is not None
    assert _read(one, key)[0] == b"4"


@guarantee("CAS-2", needs=Needs.COMPARE_AND_SET)
def a_version_never_comes_again(arena: Arena) -> None:
    """No two values that a key has had share a version, also where it was deleted in between: a write that was decided
    on long ago is never applied.
    """
    one, two = _store(arena, "a"), _store(arena, "b")
    key, versions = _key(arena, "one"), []
    for number in range(24):
        writer, deleter = (one, two) if number % 2 else (two, one)
        version = writer.compare_and_set(key, b"%d" % number, _read(writer, key)[1], timeout=TIMEOUT)
        assert version is not None
        versions.append(version)
        if number % 4 == 3:
            assert deleter.delete(key, version, TIMEOUT)
    assert len(versions) == len(set(versions)), f"versions have come again: {versions}"
    last = one.compare_and_set(key, b"last", _read(one, key)[1], timeout=TIMEOUT)
    for version in versions:
        assert two.compare_and_set(key, b"late", version, timeout=TIMEOUT) is None
    assert _read(two, key) == (b"last", last)


@guarantee("CAS-3", needs=Needs.COMPARE_AND_SET)
def of_writes_that_race_one_is_applied(arena: Arena) -> None:
    """Of writes that name the same version at the same moment one is applied, and the others say that they were not: no
    key is made twice, and nothing that was added is lost.
    """
    stores = [_store(arena, f"writer {number}") for number in range(_WRITERS)]
    keys = [_key(arena, f"new-{number}") for number in range(_KEYS)]

    def make(store: CompareAndSetBackend, turn: int) -> bool:
        return store.compare_and_set(keys[turn], b"made", None, timeout=TIMEOUT) is not None

    makers = [partial(make, store) for store in stores]
    for turn, made in enumerate(race(arena, makers, turns=range(_KEYS))):
        assert sum(made) == 1, f"{sum(made)} of {_WRITERS} writers were told that they had made the key new-{turn}"
    key = _key(arena, "sum")
    stores[0].compare_and_set(key, b"0", None, timeout=TIMEOUT)

    def add(store: CompareAndSetBackend, _: int) -> None:
        applied = None
        while applied is None:
            value, version = _read(store, key)
            applied = store.compare_and_set(key, b"%d" % (int(value) + 1), version, timeout=TIMEOUT)

    race(arena, [partial(add, store) for store in stores], turns=range(_ADDED))
    assert _read(stores[0], key)[0] == b"%d" % (_WRITERS * _ADDED)
