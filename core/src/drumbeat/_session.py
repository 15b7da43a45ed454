"""Connecting, and the session that users hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from drumbeat._clock import Clock, Signal, SystemClock, deadline_after
from drumbeat._dispatcher import Dispatcher
from drumbeat._election import Election, Lock
from drumbeat._errors import ConfigurationError, Unavailable
from drumbeat._group import Group
from drumbeat._keeper import FIRST_RETRY, Keeper
from drumbeat._plugins import check_claims, load_backend_factory, load_observer, make_backend, observer_hook
from drumbeat._settings import Settings, check_url_options, read_settings
from drumbeat._timing import Timing
from drumbeat.hookspecs import BackendConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from drumbeat._events import State
    from drumbeat._facade import Backend
    from drumbeat._settings import HeartbeatMode, OnConflict, OnEmptyStore
    from drumbeat.hookspecs import BackendProfile


def connect(
    url: str | None = None,
    *,
    namespace: str | None = None,
    member_id: str | None = None,
    lease_ttl: float | None = None,
    heartbeat_interval: float | None = None,
    request_timeout: float | None = None,
    connect_timeout: float | None = None,
    wait: bool = False,
    heartbeat: HeartbeatMode | None = None,
    on_conflict: OnConflict | None = None,
    on_empty_store: OnEmptyStore | None = None,
    observers: Sequence[str | object] | None = None,
    interceptors: Sequence[object] = (),
    clock: Clock | None = None,
) -> Session:
    """Open a session with the backend that `url` names, and keep it alive until it is closed.

    Without `url`, DRUMBEAT_URL counts, and without that the processes of this host are coordinated through a file
    (with a warning, or an error if DRUMBEAT_REQUIRE_URL is set). Each option that is text or a number may be given
    here, in the URL's query, or as DRUMBEAT_<OPTION> in the environment, in this order. Durations are in seconds.

    - `member_id`: unique in the namespace. If a live session has it, `on_conflict` decides: `"wait"` until that one
      can be dead, `"refuse"` at once (both raise Conflict), or `"replace"` it: that one is ended as if by force, and
      until its next heartbeat its program may still believe in its terms, which fencing tokens then tell apart.
    - `lease_ttl` (10): a session that is silent for so long is dead. It must leave room for heartbeats:
      `heartbeat_interval` (a quarter) + 2 x `request_timeout` (a fifth).
    - `connect_timeout` (5): a server that is down until then raises Unavailable; with `wait` it is waited for.
    - `heartbeat`: `"auto"` beats on a thread, `"manual"` when `Session.beat()` is called.
    - `observers`: names of installed observers, or objects with `drumbeat.hookspecs.ObserverHooks`.
    - `interceptors`: objects whose hook wrappers run around the backend, for tests and fault injection.

    Raises ConfigurationError for what can never work, AuthenticationError, Conflict, or Unavailable.
    """
    settings = read_settings(
        url,
        {
            "namespace": namespace,
            "member_id": member_id,
            "lease_ttl": lease_ttl,
            "heartbeat_interval": heartbeat_interval,
            "request_timeout": request_timeout,
            "connect_timeout": connect_timeout,
            "wait": wait,
            "heartbeat": heartbeat,
            "on_conflict": on_conflict,
            "on_empty_store": on_empty_store,
            "observers": observers,
        },
    )
    return _open(settings, clock=clock or SystemClock(), interceptors=interceptors)


def _open(settings: Settings, *, clock: Clock, interceptors: Sequence[object]) -> Session:
    deadline = None if settings.wait else clock.now() + settings.connect_timeout
    observers = [load_observer(item) if isinstance(item, str) else item for item in settings.observers]
    hooks = tuple(observer_hook(observer) for observer in observers)
    backend = load_backend(settings, clock=clock, interceptors=interceptors)
    profile = _describe(backend, settings, clock=clock, deadline=deadline)
    check_claims(backend, profile.capabilities)
    _check_ttl(settings, profile)
    dispatcher = Dispatcher(clock, name=f"drumbeat-dispatcher-{settings.member_id}", observers=hooks)
    keeper = Keeper(backend, profile, settings, clock=clock, dispatcher=dispatcher)
    try:
        keeper.open(deadline=deadline)
    except BaseException:
        keeper.close(settings.connect_timeout)
        raise
    return Session(keeper)


def load_backend(settings: Settings, *, clock: Clock, interceptors: Sequence[object] = ()) -> Backend:
    """Return the backend that the settings name, without talking to a server."""
    factory = load_backend_factory(settings.url.scheme)
    check_url_options(settings.url, factory.options)
    config = BackendConfig(
        url=settings.url,
        namespace=settings.namespace,
        clock=clock,
        on_empty_store=settings.on_empty_store,
    )
    return make_backend(factory, config, interceptors=interceptors)


def _describe(backend: Backend, settings: Settings, *, clock: Clock, deadline: float | None) -> BackendProfile:
    while True:
        try:
            return backend.describe(timeout=settings.connect_timeout)
        except Unavailable:
            if deadline is not None and clock.now() >= deadline:
                raise
        Signal(clock).wait(10 * FIRST_RETRY)


def _check_ttl(settings: Settings, profile: BackendProfile) -> None:
    limits = profile.limits
    if not limits.min_ttl <= settings.lease_ttl <= limits.max_ttl:
        raise ConfigurationError(
            f"lease_ttl {settings.lease_ttl:g} s is outside what {profile.server} grants: "
            f"{limits.min_ttl:g} to {limits.max_ttl:g} s"
        )
    Timing.plan(
        ttl=settings.lease_ttl,
        heartbeat_interval=settings.heartbeat_interval,
        request_timeout=settings.request_timeout,
        early_expiry=limits.early_expiry,
    )


@final
class Session:
    """One process's connection to a backend, alive while its lease is renewed; from `connect()`.

    Safe to use from several threads. A forked child holds nothing of it: every call there raises Forked.
    """

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    @property
    def member_id(self) -> str:
        """The id of this session in every group and election."""
        return self._keeper.settings.member_id

    @property
    def namespace(self) -> str:
        """The namespace that the session's names live in."""
        return self._keeper.settings.namespace

    @property
    def incarnation(self) -> str:
        """The unique id of the newest opening of the session."""
        incarnation = self._keeper.incarnation
        return "" if incarnation is None else incarnation.id

    @property
    def lease_ttl(self) -> float:
        """The TTL that the server enforces, in seconds; it may differ from the one asked for."""
        incarnation = self._keeper.incarnation
        return self._keeper.settings.lease_ttl if incarnation is None else incarnation.lease.ttl

    @property
    def state(self) -> State:
        """The state at the moment of reading."""
        return self._keeper.state

    @property
    def backend(self) -> BackendProfile:
        """What the backend says of itself and its server: capabilities, limits and bounds."""
        return self._keeper.profile

    @property
    def failover_bound(self) -> float:
        """Worst case, in seconds, from the last heartbeat of a dead leader to the win of a waiting candidate."""
        return self._keeper.profile.failover.seconds(self.lease_ttl)

    def group(self, name: str) -> Group:
        """Return the group of this name; nothing is sent until it is used."""
        return Group(self._keeper, name)

    def election(self, name: str) -> Election:
        """Return the election of this name; nothing is sent until it is used."""
        return Election(self._keeper, name)

    def lock(self, name: str) -> Lock:
        """Return the lock of this name; nothing is sent until it is used."""
        return Lock(self._keeper, name)

    def groups(self) -> tuple[str, ...]:
        """Return the names of the groups that have live members, sorted, read from the server now."""
        names = self._keeper.call(
            "list groups",
            lambda incarnation, timeout: self._keeper.backend.list_groups(incarnation.lease, timeout=timeout),
        )
        return tuple(sorted(names))

    def beat(self) -> None:
        """Send one heartbeat now, and join groups again that were lost; the way of `heartbeat="manual"`.

        Raises Unavailable if no answer came, SessionLost if the server does not know the session any more (it is
        reopened in the background), Closed or Forked.
        """
        self._keeper.beat()

    def on_state(self, callback: Callable[[State], None]) -> None:
        """Call `callback(state)` on the dispatcher's thread at every change of state from now on."""
        if not callable(callback):
            raise ConfigurationError(f"on_state takes a function of the state, not {callback!r}")
        self._keeper.on_state(callback)

    def wait_for(self, state: State, *, timeout: float | None = None) -> bool:
        """Wait until the session is in `state`; return whether it is. Raises Closed or Forked if it never can be."""
        if self.state is state:
            return True
        changed = self._keeper.new_signal()
        deadline = deadline_after(self._keeper.clock, timeout)
        while self.state is not state:
            self._keeper.check()
            if not changed.take(deadline):
                break
        return self.state is state

    def close(self, timeout: float = 5.0) -> None:
        """Release memberships, candidacies and terms at once, and end the session.

        Returns within about `timeout` seconds even if the server is down; the lease then ends there by itself.
        Harmless when repeated; callbacks may call it.
        """
        self._keeper.close(timeout)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session {self.member_id!r} on {self._keeper.settings.url}, {self.state.value}>"
