"""A compare-and-set store that a test can tamper with: rivals between two requests, lost answers, late writes."""

from __future__ import annotations

import uuid
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness import Kind, World

from drumbeat._errors import Unavailable
from drumbeat.cas import MemoryCasBackend
from drumbeat.hookspecs import Capability
from drumbeat_conformance.actor import Actor, plugin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    from drumbeat._facade import Backend

KIND = Kind(name="rigged", factory=lambda: RiggedBackend, url=lambda _: f"rigged://{uuid.uuid4()}")


@dataclass(frozen=True, slots=True)
class Write:
    """A write that is still under way."""

    store: RiggedBackend
    key: str
    value: bytes
    version: Hashable | None

    def arrive(self) -> bool:
        """Apply the write now; return whether it was."""
        return self.store.apply(self.key, self.value, self.version) is not None


class RiggedBackend(MemoryCasBackend):
    """The memory store with a thumb on it."""

    #: What the next backend object says that its store can do, and by name what stores say of their losses.
    next_capabilities: ClassVar[frozenset[Capability]] = frozenset()
    marks: ClassVar[dict[str, str | None]] = {}

    #: Whether what a key holds is its version, as in the example.
    versions_are_values: ClassVar[bool] = False

    def __init__(self, config: object) -> None:
        super().__init__(config)  # type: ignore[arg-type]
        self.extra_capabilities = self.next_capabilities
        #: What was asked of the store, by method.
        self.requests: Counter[str] = Counter()
        self.writes = 0
        #: The keys that were read, and what was written under which key.
        self.keys: list[str] = []
        self.written: list[tuple[str, bytes]] = []
        self._before: dict[int, Callable[[], object]] = {}
        self._fault: tuple[int, Literal["lost reply", "late", "refused"]] | None = None
        self.late: list[Write] = []
        self._within = False

    def read_many(self, keys: Sequence[str], timeout: float) -> Mapping[str, tuple[bytes, Hashable]]:
        self._count("read_many")
        self.keys += keys
        found = super().read_many(keys, timeout)
        return {key: (value, self._version_of(key)) for key, (value, _) in found.items()}

    def compare_and_set(
        self,
        key: str,
        value: bytes,
        version: Hashable | None,
        *,
        expire: float | None = None,
        timeout: float,
    ) -> Hashable | None:
        self._count("compare_and_set")
        number, self.writes = self.writes, self.writes + 1
        rival = self._before.pop(number, None)
        if rival is not None:
            rival()
        fault = self._fault[1] if self._fault is not None and self._fault[0] == number else None
        if fault == "refused":
            raise Unavailable("refused", outcome="not_applied")
        if fault == "late":
            self.late.append(Write(self, key, value, version))
            raise Unavailable("no answer")
        new = self.apply(key, value, version)
        if new is not None:
            self.written.append((key, value))
        if fault == "lost reply":
            raise Unavailable("no answer")
        return new

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
        self.requests["swap_and_read"] += 1
        self._within = True
        try:
            return super().swap_and_read(key, value, version, keys, expire=expire, timeout=timeout)
        finally:
            self._within = False

    def delete(self, key: str, version: Hashable, timeout: float) -> bool:
        self.requests["delete"] += 1
        if self._version_of(key) != version:
            return False
        del self._store.values[key]
        return True

    def loss_mark(self, timeout: float) -> str | None:
        return self.marks.get(self._name)

    def _count(self, method: str) -> None:
        if not self._within:
            self.requests[method] += 1

    def apply(self, key: str, value: bytes, version: Hashable | None) -> Hashable | None:
        """Write if the version is still the expected one; a version is a number, or the value itself."""
        with self._store.lock:
            if self._version_of(key) != version:
                return None
            self._store.values[key] = (value, next(self._store.versions))
            return self._version_of(key)

    def _version_of(self, key: str) -> Hashable | None:
        found = self._store.values.get(key)
        if found is None:
            return None
        return found[0] if self.versions_are_values else found[1]

    def before_write(self, number: int, rival: Callable[[], object]) -> None:
        """Run `rival` just before the store gets its next write but `number`."""
        self._before = {self.writes + number: rival}

    @contextmanager
    def failing(self, number: int, fault: Literal["lost reply", "late", "refused"]) -> Iterator[None]:
        """Make the next write but `number` fail with Unavailable: applied, not yet applied, or never applied."""
        self._fault = (self.writes + number, fault)
        try:
            yield
        finally:
            self._fault = None

    @property
    def contents(self) -> dict[str, tuple[bytes, int]]:
        """All that is in the store."""
        return self._store.values

    def evict(self, key: str) -> None:
        """Forget a key without saying so."""
        del self._store.values[key]

    def put(self, key: str, value: bytes) -> None:
        """Write without asking anybody."""
        self._store.values[key] = (value, next(self._store.versions))


class RiggedWorld(World):
    """A store that can be tampered with."""

    def __init__(self, folder: Path, *, volatile: bool = False, policy: Literal["wait", "trust"] | None = None) -> None:
        super().__init__(KIND, folder)
        self._volatile = volatile
        self._policy = policy
        self._longest_ttl = RiggedBackend.longest_ttl

    def backend(self, **options: object) -> Backend:
        """Return a backend object with this world's capabilities and policy."""
        RiggedBackend.next_capabilities = frozenset({Capability.VOLATILE} if self._volatile else ())
        options.setdefault("on_empty_store", self._policy)
        backend = super().backend(**options)  # type: ignore[arg-type]
        store = plugin_of(backend)
        assert isinstance(store, RiggedBackend)
        store.longest_ttl = self._longest_ttl
        return backend

    def set_longest_ttl(self, seconds: float) -> None:
        """Set how long the sessions that are opened from now on wait in an empty store."""
        self._longest_ttl = seconds

    def say_of_losses(self, mark: str | None) -> None:
        """Let the store say this of its losses from now on."""
        RiggedBackend.marks[self._url.hosts[0][0]] = mark

    def wipe(self) -> None:
        """Empty the store under the feet of its sessions."""
        MemoryCasBackend.wipe(self._url.hosts[0][0])


def store_of(actor: Actor) -> RiggedBackend:
    """Return the store behind a session."""
    store = plugin_of(actor.backend)
    assert isinstance(store, RiggedBackend)
    return store
