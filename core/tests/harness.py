"""What the tests of backends share: a fresh store of each kind, and sessions that a test plays hook by hook."""

from __future__ import annotations

import importlib.util
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from drumbeat._clock import SystemClock
from drumbeat._facade import Backend
from drumbeat._plugins import make_backend
from drumbeat._url import BackendURL
from drumbeat.cas import MemoryCasBackend
from drumbeat.hookspecs import BackendConfig, BackendFactory, Capability
from drumbeat.memory import MemoryBackend
from drumbeat.testing import FakeClock
from drumbeat_conformance.actor import TIMEOUT, Actor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drumbeat.hookspecs import BackendProfile

EXAMPLE = Path(__file__).parents[2] / "examples" / "cas_backend.py"


def load_example() -> BackendFactory:
    """Return the backend that `examples/cas_backend.py` defines."""
    spec = importlib.util.spec_from_file_location("cas_backend", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("BackendFactory", module.FolderBackend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One backend as the contract tests need to know it."""

    name: str
    factory: Callable[[], BackendFactory]
    #: From an empty folder to the URL of a store that nobody has used.
    url: Callable[[Path], str]
    claims: frozenset[Capability] = frozenset()
    #: Whether the backend runs on the machine's clock, so that a test must wait.
    real_time: bool = False
    ttl: float = 10.0
    #: Whether other tests use the same store, so that each world needs namespaces of its own.
    shared: bool = False
    on_empty_store: Literal["wait", "trust"] | None = None


_PUSHING = frozenset({Capability.PUSH_WATCH, Capability.FIFO_CANDIDATES})

#: The backends that keep the contract; each line adds one to every contract test.
KINDS = (
    Kind(name="memory", factory=lambda: MemoryBackend, url=lambda _: f"memory://{uuid.uuid4()}", claims=_PUSHING),
    Kind(name="memory-cas", factory=lambda: MemoryCasBackend, url=lambda _: f"memory-cas://{uuid.uuid4()}"),
    Kind(name="example", factory=load_example, url=lambda folder: f"folder://{folder}"),
)


class World:
    """One store and its time."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.ttl = kind.ttl
        self.clock = SystemClock() if kind.real_time else FakeClock()
        self._url = BackendURL.parse(kind.url(folder))
        self._factory = kind.factory()
        self._prefix = f"{uuid.uuid4().hex[:8]}-" if kind.shared else ""
        self._actors: list[Actor] = []

    def namespace(self, name: str = "tests") -> str:
        """Return this world's own namespace of that name."""
        return f"{self._prefix}{name}"

    def backend(
        self,
        *,
        namespace: str = "tests",
        on_empty_store: Literal["wait", "trust"] | None = None,
        interceptors: Sequence[object] = (),
    ) -> Backend:
        """Return a backend object of its own, as each session has one."""
        config = BackendConfig(
            url=self._url,
            namespace=self.namespace(namespace),
            clock=self.clock,
            on_empty_store=on_empty_store or self.kind.on_empty_store,
        )
        return make_backend(self._factory, config, interceptors=interceptors)

    def actor(self, member_id: str, *, backend: Backend | None = None, namespace: str = "tests") -> Actor:
        """Return a session that has been opened."""
        actor = Actor(self, member_id, backend=backend or self.backend(namespace=namespace))
        actor.open()
        return actor

    def enter(self, actor: Actor) -> None:
        """Let go of what this actor opens when the test is over."""
        self._actors.append(actor)

    def close(self) -> None:
        """Let go of every session, so that no client library keeps one alive."""
        for actor in self._actors:
            actor.let_go()

    def profile(self) -> BackendProfile:
        """Return what the backend says of itself."""
        return self.backend().describe(timeout=TIMEOUT)

    def pass_time(self, ttls: float, *beating: Actor) -> None:
        """Let some TTLs pass, in which some sessions beat four times a TTL, the last time at the end."""
        steps = max(1, round(ttls * 4))
        for _ in range(steps):
            self.wait(self.ttl * ttls / steps)
            for actor in beating:
                actor.beat()

    def wait(self, seconds: float) -> None:
        """Let time pass, in which nobody does anything."""
        if isinstance(self.clock, FakeClock):
            self.clock.advance(seconds)
        else:
            time.sleep(seconds)
