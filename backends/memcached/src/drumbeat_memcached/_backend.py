"""The backend: a compare-and-set store on one Memcached server."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final

from drumbeat import ConfigurationError
from drumbeat.cas import CompareAndSetBackend
from drumbeat.hookspecs import BackendProfile, Capability, Finding, Lease, SessionClosed, hookimpl
from drumbeat.options import read_number
from drumbeat_memcached._commands import NO_CAS, Version, gets, read_stored, read_values, store
from drumbeat_memcached._connections import Connections, examine
from drumbeat_memcached._stats import LEAST_ITEM, findings
from drumbeat_memcached._target import OPTIONS, Target

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from drumbeat.hookspecs import BackendConfig

#: Bytes of an item that are not the user's value: the item's header, its key, and the rest of the record.
AROUND_A_VALUE: Final = 1024


class MemcachedBackend(CompareAndSetBackend):
    """`memcached://HOST:PORT`: exactly one server of version 1.6 or later, which may lose everything at any time.

    Nothing rests on a time to live of the server: sessions are observed (see `drumbeat.cas`), seats and rosters never
    expire. A missing seat is trusted to be free only while the server has certainly lost nothing; else it is first
    waited for as long as a session may last that the server has forgotten.
    """

    spec_version: ClassVar[int] = 1
    options: ClassVar[Mapping[str, str]] = OPTIONS
    extra_capabilities = frozenset({Capability.VOLATILE})

    def __init__(self, config: BackendConfig) -> None:
        super().__init__(config)
        self._target = Target.of(config)
        lowest, highest = self.limits.min_ttl, self.limits.max_ttl
        self.longest_ttl = read_number(
            config.url, "longest_ttl", default=self.longest_ttl, lowest=lowest, highest=highest
        )
        self._calls = Connections(self._target)
        # A heartbeat never waits for a connection that something else has.
        self._beats = Connections(self._target)

    @hookimpl
    def describe_backend(self, timeout: float) -> BackendProfile:
        """Ask the server for its version and limits; raise ConfigurationError if they will not do."""
        version, settings = examine(
            self._target, b"stats settings\r\n", lambda link: (link.version, link.stats()), timeout
        )
        self.server = f"Memcached {version}"
        largest = settings.number("item_size_max")
        if settings.text("cas_enabled") != "yes":
            raise ConfigurationError(f"Memcached at {self._target} was started with -C; start it without, for CAS")
        if largest < LEAST_ITEM:
            raise ConfigurationError(
                f"Memcached at {self._target} takes items of at most {largest} bytes; start it with -I {LEAST_ITEM} or "
                "more"
            )
        room = (largest - AROUND_A_VALUE) * 3 // 4
        self.limits = replace(self.limits, value_bytes=min(self.limits.value_bytes, room))
        return super().describe_backend(timeout)

    @hookimpl
    def diagnose_backend(self, timeout: float) -> tuple[Finding, ...]:
        """Return what an operator should know of the server's settings and of what it has lost."""
        request = b"stats\r\nstats settings\r\n"
        stats, settings = examine(self._target, request, lambda link: (link.stats(), link.stats()), timeout)
        return findings(self._target, stats, settings)

    @hookimpl
    def drop_session(self, lease: Lease, forked: bool) -> SessionClosed:
        """Forget the session, and close this process's ends of its connections."""
        self._calls.drop()
        self._beats.drop()
        return super().drop_session(lease, forked)

    def read_many(self, keys: Sequence[str], timeout: float) -> Mapping[str, tuple[bytes, Hashable]]:
        """Read any number of keys in one round trip."""
        return self._calls.ask(gets(keys), read_values, timeout) if keys else {}

    def compare_and_set(
        self,
        key: str,
        value: bytes,
        version: Hashable | None,
        *,
        expire: float | None = None,
        timeout: float,
    ) -> Hashable | None:
        """Store a value if its key still has the version, in one round trip."""
        new, _ = self._swap(self._calls, key, value, version, keys=(key,), expire=expire, timeout=timeout)
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
        """Do both in one round trip, on a connection that no other call uses."""
        return self._swap(self._beats, key, value, version, keys=keys, expire=expire, timeout=timeout)

    def loss_mark(self, timeout: float) -> str | None:
        """Return the server's start and its counts of everything by which a key can go."""
        return self._calls.ask(b"stats\r\n", lambda link: f"{link.start} {link.stats().losses}", timeout)

    def _swap(
        self,
        connections: Connections,
        key: str,
        value: bytes,
        version: Hashable | None,
        *,
        keys: Sequence[str],
        expire: float | None,
        timeout: float,
    ) -> tuple[Hashable | None, Mapping[str, tuple[bytes, Hashable]]]:
        with connections.lend(timeout) as connection:
            known = version if isinstance(version, Version) else None
            # What had a version of an earlier start was lost with it, and its CAS number may be another value's now.
            is_current = known is None or known.start == connection.start
            command = store(key, value, known, expire) if is_current else b""
            connection.send(command + gets(tuple(dict.fromkeys((*keys, key)))))
            stored = is_current and read_stored(connection)
            found = read_values(connection)
        if not stored:
            return None, found
        now, new = found.get(key, (b"", None))
        # If another write came between the two, the version of this one is history already.
        return (new if new is not None and now == value else Version(connection.start, NO_CAS)), found
