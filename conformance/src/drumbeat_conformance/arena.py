"""Where a guarantee is tested: a fresh namespace, sessions that end with the test, and time."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Final, Literal, TypeVar, final

import drumbeat
from drumbeat._plugins import load_backend_factory, make_backend
from drumbeat._url import BackendURL
from drumbeat.hookspecs import BackendConfig
from drumbeat_conformance.actor import TIMEOUT, Actor
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.waiting import Background, eventually, pass_seconds

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from drumbeat import Session
    from drumbeat._clock import Clock
    from drumbeat._facade import Backend
    from drumbeat.hookspecs import BackendProfile
    from drumbeat_conformance.target import ControlledServer, Site, Target

__all__ = ["Arena", "Link"]

T = TypeVar("T")

#: The namespace that is meant where none is named.
NAMESPACE: Final = "tests"


@final
class Arena:
    """What a guarantee is given: sessions on one store, by hook (`actor`) or whole (`connect`), and time to pass.

    Every namespace is one that nobody has used. Bounds are in units of `ttl`. Use it as a context manager; at the end
    all sessions are closed.
    """

    def __init__(self, target: Target, site: Site, *, seed: str = "") -> None:
        self.target = target
        self.url = site.url
        #: Seconds that leases are asked to last.
        self.ttl = target.ttl
        self.clock = target.clock()
        #: Chance, the same in every run with this seed.
        self.draw = random.Random(seed)  # noqa: S311 - repeatable, nothing secret
        self._site = site
        self._prefix = f"{uuid.uuid4().hex[:8]}-"
        self._factory = load_backend_factory(target.scheme)
        self._actors: list[Actor] = []
        self._sessions: list[Session] = []
        self._stack = ExitStack()
        self._profile: BackendProfile | None = None

    # Sessions -----------------------------------------------------------------------------------------------

    @property
    def profile(self) -> BackendProfile:
        """What the backend says of itself."""
        if self._profile is None:
            self._profile = self.backend().describe(timeout=TIMEOUT)
        return self._profile

    def namespace(self, name: str = NAMESPACE) -> str:
        """Return this arena's own namespace of that name, for processes that connect by themselves."""
        return f"{self._prefix}{name}"

    def backend(
        self,
        *,
        namespace: str = NAMESPACE,
        on_empty_store: Literal["wait", "trust"] | None = "trust",
        interceptors: Sequence[object] = (),
        url: str | None = None,
        clock: Clock | None = None,
    ) -> Backend:
        """Return a backend object of its own, as each session has one."""
        config = BackendConfig(
            url=BackendURL.parse(url or self.url),
            namespace=self.namespace(namespace),
            clock=clock or self.clock,
            on_empty_store=on_empty_store,
        )
        return make_backend(self._factory, config, interceptors=interceptors)

    def actor(self, member_id: str, *, backend: Backend | None = None, namespace: str = NAMESPACE) -> Actor:
        """Return a session that does only what the test says; it has been opened."""
        actor = Actor(self, member_id, backend=backend or self.backend(namespace=namespace))
        actor.open()
        return actor

    def connect(
        self, member_id: str | None = None, *, namespace: str = NAMESPACE, url: str | None = None, **options: object
    ) -> Session:
        """Open a session as users do, with the arena's TTL and clock; `options` are those of `drumbeat.connect`."""
        given: dict[str, object] = {"lease_ttl": self.ttl, "connect_timeout": TIMEOUT, "on_empty_store": "trust"}
        given |= options | {"namespace": self.namespace(namespace), "clock": self.clock}
        session = drumbeat.connect(url or self.url, member_id=member_id, **given)  # type: ignore[arg-type]
        self._sessions.append(session)
        return session

    def enter(self, actor: Actor) -> None:
        """Let go of what this actor opens when the test is over."""
        self._actors.append(actor)

    # Time ---------------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let time pass, in which the test does nothing."""
        pass_seconds(self.clock, seconds)

    def pass_time(self, ttls: float, *beating: Actor) -> None:
        """Let some TTLs pass, in which some actors beat four times a TTL, the last time at the end."""
        steps = max(1, round(ttls * 4))
        for _ in range(steps):
            self.wait(self.ttl * ttls / steps)
            for actor in beating:
                actor.beat()

    def eventually(self, condition: Callable[[], T], *, within: float) -> T:
        """Return the first true value of a condition, or fail once `within` seconds have passed."""
        return eventually(condition, within=within, clock=self.clock)

    def background(self, call: Callable[[], T]) -> Background[T]:
        """Start a call that may wait, in a thread."""
        return Background(call, clock=self.clock)

    def run(self, call: Callable[[], T], *, within: float) -> T:
        """Return what a call that may wait returns, or raise what it raises; fail if it takes too long."""
        return self.background(call).result(within=within)

    # The place ----------------------------------------------------------------------------------------------

    def use(self, resource: AbstractContextManager[T]) -> T:
        """Enter a context, and leave it when the test is over, after the sessions are closed."""
        return self._stack.enter_context(resource)

    @property
    def server(self) -> ControlledServer:
        """The server, which this guarantee has for itself; for those that need `Needs.SERVER`."""
        if self._site.server is None:
            raise RuntimeError("a guarantee that disturbs the server must say needs=Needs.SERVER")
        return self._site.server

    def link(self) -> Link:
        """Put a proxy before the server; for guarantees that need `Needs.LINK`."""
        if self._site.address is None:
            raise RuntimeError("a guarantee that disturbs the link must say needs=Needs.LINK")
        host, port = self._site.address
        return Link(self._stack.enter_context(Proxy(host, port)), self.url, address=f"{host}:{port}")

    def close(self) -> None:
        """Close every session, and have every actor let go of its own."""
        with self._stack:
            for session in self._sessions:
                session.close(timeout=1.0)
            for actor in self._actors:
                actor.let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


@final
class Link:
    """The way to the server through a proxy that can be disturbed; connect to `url`."""

    def __init__(self, proxy: Proxy, url: str, *, address: str) -> None:
        self.proxy = proxy
        self.url = url.replace(address, proxy.address)
