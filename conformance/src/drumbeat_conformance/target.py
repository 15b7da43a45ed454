"""What is tested: where its stores are, and what the suite may do to them."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from tempfile import TemporaryDirectory
from typing import Final, Protocol, final, runtime_checkable
from urllib.parse import urlsplit

from drumbeat import ConfigurationError, SystemClock
from drumbeat._clock import Clock
from drumbeat.hookspecs import BackendFactory
from drumbeat.testing import FakeClock
from drumbeat_conformance import operators, servers
from drumbeat_conformance.operators import Operator

__all__ = [
    "ClockedServer",
    "ControlledServer",
    "Site",
    "StartClockedServer",
    "StartServer",
    "Target",
    "may_be_in_process",
    "refuse_lease",
]


class ControlledServer(Protocol):
    """A server that the suite may disturb; `drumbeat_conformance.servers.Server` is one.

    The port stays the same over `kill()` or `stop()` and `start()`, and so do the data, unless `wipe()` removes them
    while the server is down.
    """

    @property
    def url(self) -> str:
        """Its URL without namespace, the same over all that happens to it."""
        ...

    def kill(self) -> None:
        """End it as a crash does."""
        ...

    def stop(self) -> None:
        """End it gracefully."""
        ...

    def start(self) -> None:
        """Start it again; return when it answers."""
        ...

    def wipe(self) -> None:
        """Remove its data."""
        ...

    def pause(self) -> None:
        """Stop its processes as by SIGSTOP."""
        ...

    def resume(self) -> None:
        """Let it go on after `pause()`."""
        ...


@runtime_checkable
class ClockedServer(ControlledServer, Protocol):
    """A server that also has a wall clock of its own."""

    def step_clock(self, offset: float) -> None:
        """Make its wall clock show the machine's plus `offset` seconds; every other clock of it runs on."""
        ...


#: Starts a server that ends with the `with` block.
StartServer = Callable[[], AbstractContextManager[ControlledServer]]
#: Starts a server with a wall clock of its own, which ends with the `with` block.
StartClockedServer = Callable[[], AbstractContextManager[ClockedServer]]

#: What the built-in names start.
_SERVERS: Final[dict[str, StartServer]] = {
    "redis": servers.start_redis,
    "memcached": servers.start_memcached,
    "zookeeper": servers.start_zookeeper,
    "etcd": servers.start_etcd,
}
#: The same with a wall clock of its own. memcached looks at that only when it starts, etcd's program makes its system
#: calls itself, so that nothing comes between, and under libfaketime ZooKeeper takes half a minute to start.
_CLOCKED: Final[dict[str, StartClockedServer]] = {
    "redis": partial(servers.start_redis, steppable=True),
}
#: Stores that live in the process that made them.
_IN_PROCESS: Final = frozenset({"memory", "memory-cas"})
#: Seconds of TTL that the tests count in, where it is not one second: etcd grants whole seconds and looks for expired
#: leases twice a second (https://etcd.io/docs/v3.4/learning/api/).
_TTLS: Final = {"etcd": 2.0, "etcds": 2.0}
#: The shortest and longest TTL, in seconds of real time, that guarantees can be tested with within their limits.
_LEASES: Final = (0.1, 10.0)
#: In a URL, stands for a new and empty folder, one for each guarantee.
FOLDER: Final = "{tmp}"


@final
@dataclass(frozen=True, slots=True)
class Site:
    """One place with a store: its URL without namespace, and its server if the suite may disturb it."""

    url: str
    server: ControlledServer | None = None

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the one server that the URL names, else None."""
        parts = urlsplit(self.url)
        with suppress(ValueError):
            if parts.hostname is not None and parts.port is not None:
                return parts.hostname, parts.port
        return None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A backend and how to get stores of it."""

    #: The URL scheme: which backend is tested.
    scheme: str
    #: Gives a place for guarantees that leave the server alone; they take namespaces of their own.
    calm: Callable[[], AbstractContextManager[Site]] = field(repr=False)
    #: Gives a server to one guarantee that disturbs it; None if the suite has no such server.
    own: StartServer | None = field(default=None, repr=False)
    #: Gives a server whose wall clock can be stepped to one guarantee; None if there is none.
    clocked: StartClockedServer | None = field(default=None, repr=False)
    #: Gives somebody who reads and writes what is stored at a URL without the backend; None if nobody can.
    operator: Callable[[str], Operator] | None = field(default=None, repr=False)
    #: Whether each arena gets a store of its own, rather than a namespace of the one place.
    private: bool = False
    #: Whether only the process that made a store reaches it.
    in_process: bool = False
    #: Seconds that leases should last; the unit of every bound.
    ttl: float = 1.0
    #: Whether time is only pretended to pass: for stores that take their time from the clock they are given.
    fake_time: bool = False
    #: The backend, where no installed package announces it under the scheme.
    factory: BackendFactory | None = field(default=None, repr=False)

    @classmethod
    def of(cls, name: str, *, own: StartServer | None = None) -> Target:
        """Return the target that a URL or a built-in name means.

        The names are redis, memcached, zookeeper and etcd, whose servers are started as the environment says (see
        `drumbeat_conformance.servers`), and local, memory and memory-cas. A server behind a URL is not disturbed;
        `own` starts servers for the guarantees that do so, and for all where the URL names none, as in `mystore://`.
        `{tmp}` in a URL stands for a new and empty folder, one for each guarantee. Raises ConfigurationError for
        anything else.
        """
        if own is not None and name.endswith("://"):
            scheme = name.removesuffix("://")
            target = cls(scheme=scheme, calm=lambda: _started(own), own=own)
            return replace(target, ttl=_TTLS.get(scheme, 1.0), operator=operators.KNOWN.get(scheme))
        if "://" in name:
            scheme = name.partition("://")[0]
            if FOLDER in name:
                return cls(scheme=scheme, calm=lambda: _folder(name), private=True)
            site = Site(name)
            target = cls(scheme=scheme, calm=lambda: _given(site), own=own, in_process=scheme in _IN_PROCESS)
            return replace(target, ttl=_TTLS.get(scheme, 1.0), operator=operators.KNOWN.get(scheme))
        if name in _SERVERS:
            start = own or _SERVERS[name]
            return cls(
                scheme=name,
                calm=lambda: _started(start),
                own=start,
                clocked=_CLOCKED.get(name) if servers.can_step_clocks(name) else None,
                operator=operators.KNOWN.get(name),
                ttl=_TTLS.get(name, 1.0),
            )
        if name == "local":
            return cls(scheme=name, calm=lambda: _folder(f"local://{FOLDER}/drumbeat.db"), private=True)
        if name in _IN_PROCESS:
            return cls(
                scheme=name, calm=lambda: _given(Site(f"{name}://{uuid.uuid4()}")), private=True, in_process=True
            )
        known = ", ".join([*_SERVERS, "local", *sorted(_IN_PROCESS)])
        raise ConfigurationError(
            f"{name!r} is neither a URL nor one of {known}; with a start of servers of your own it may be SCHEME://"
        )

    def serves(self, site: Site) -> bool:
        """Return whether a server stands behind a place of this target, rather than a file or this process."""
        return not self.in_process and bool(urlsplit(site.url).netloc)

    def with_fake_time(self) -> Target:
        """Return the target on a clock that only the suite moves: for stores in memory, and quick."""
        return replace(self, fake_time=True, ttl=10.0)

    def clock(self) -> Clock:
        """Return the clock of one arena."""
        return FakeClock() if self.fake_time else SystemClock()


def may_be_in_process(name: str) -> bool:
    """Return whether a name or URL may mean a store that one process alone reaches: not those that are known better."""
    scheme = name.partition("://")[0]
    return scheme not in {*operators.KNOWN, *_SERVERS, "local"}


def refuse_lease(target: Target) -> None:
    """Raise ConfigurationError for a TTL that guarantees cannot count in: they wait several, and each has a limit."""
    lowest, highest = (0.0, math.inf) if target.fake_time else _LEASES
    if not (lowest <= target.ttl <= highest and 0 < target.ttl < math.inf):
        bounds = "{:g} to {:g}".format(*_LEASES)
        raise ConfigurationError(f"nothing can be tested with a lease of {target.ttl:g} s; --lease-ttl is {bounds} s")


@contextmanager
def _given(site: Site) -> Iterator[Site]:
    yield site


@contextmanager
def _started(start: StartServer) -> Iterator[Site]:
    with start() as server:
        yield Site(server.url)


@contextmanager
def _folder(url: str) -> Iterator[Site]:
    with TemporaryDirectory(prefix="drumbeat-conformance-") as folder:
        yield Site(url.replace(FOLDER, folder))
