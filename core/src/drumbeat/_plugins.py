"""Finding plugins by entry point, and one plugin manager for one backend object."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

from drumbeat import hookspecs
from drumbeat._errors import ConfigurationError
from drumbeat._facade import Backend
from drumbeat.hookspecs import SPEC_VERSION, BackendConfig, BackendFactory, Capability

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.metadata import EntryPoint

BACKENDS = "drumbeat.backends"
OBSERVERS = "drumbeat.observers"

#: Packages of this project by scheme, so that an unknown scheme can name what to install.
KNOWN_PACKAGES = {
    "zookeeper": "drumbeat-zookeeper",
    "redis": "drumbeat-redis",
    "rediss": "drumbeat-redis",
    "redis+sentinel": "drumbeat-redis",
    "redis+cluster": "drumbeat-redis",
    "memcached": "drumbeat-memcached",
    "etcd": "drumbeat-etcd",
    "etcds": "drumbeat-etcd",
}

BACKEND_SPECS = (
    hookspecs.BackendHooks,
    hookspecs.HeartbeatHooks,
    hookspecs.GroupHooks,
    hookspecs.LeaderHooks,
    hookspecs.WatchHooks,
)

#: A capability and the optional hook without which it cannot be kept.
_CAPABILITY_HOOKS = {Capability.PUSH_WATCH: "watch", Capability.REAPING: "reap_session"}


def installed(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, without loading any; two for one name are an error."""
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise ConfigurationError(
                f"two packages register {point.name!r} under {group}: {other.value} and {point.value}; "
                "uninstall one of them"
            )
    return found


def load_backend_factory(scheme: str) -> BackendFactory:
    """Return the factory that is registered for a URL scheme, loading that one alone."""
    points = installed(BACKENDS)
    if scheme not in points:
        raise ConfigurationError(_unknown_scheme(scheme, sorted(points)))
    try:
        factory: BackendFactory = points[scheme].load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"the backend for {scheme}:// ({points[scheme].value}) cannot be loaded: {error}; install its package "
            "anew, with what it depends on"
        ) from error
    version = getattr(factory, "spec_version", None)
    if version != SPEC_VERSION:
        raise ConfigurationError(
            f"the backend for {scheme}:// ({points[scheme].value}) was written for contract version {version}, "
            f"this core has version {SPEC_VERSION}; install matching versions of both packages"
        )
    return factory


def load_observer(name: str) -> object:
    """Return a new observer by its registered name."""
    points = installed(OBSERVERS)
    if name not in points:
        raise ConfigurationError(f"unknown observer {name!r}; installed are: {', '.join(sorted(points)) or 'none'}")
    observer: object = points[name].load()()
    return observer


def make_backend(factory: BackendFactory, config: BackendConfig, *, interceptors: Sequence[object] = ()) -> Backend:
    """Return a facade over a new backend object, alone in a plugin manager of its own."""
    manager = _manager(BACKEND_SPECS)
    _register(manager, factory(config), role=f"the backend for {config.url.scheme}://")
    backend = Backend(manager, scheme=config.url.scheme)
    backend.require_all()
    for interceptor in interceptors:
        _register(manager, interceptor, role=f"the interceptor {type(interceptor).__name__}")
        _require_wrappers(manager, interceptor)
    return backend


def observer_hook(observer: object) -> pluggy.HookCaller:
    """Return the `on_event` caller of one observer, in a manager of its own so that its errors stay its own."""
    manager = _manager((hookspecs.ObserverHooks,))
    role = f"the observer {type(observer).__name__}"
    _register(manager, observer, role=role)
    if not manager.get_hookcallers(observer):
        raise ConfigurationError(
            f"{role} has no hook, so it would see nothing: mark its on_event with drumbeat.hookimpl"
        )
    caller: pluggy.HookCaller = manager.hook.on_event
    return caller


def check_claims(backend: Backend, capabilities: Iterable[Capability]) -> None:
    """Raise ConfigurationError if a backend claims a capability whose hook it lacks, or hides one it has."""
    claimed = frozenset(capabilities)
    for capability, hook in _CAPABILITY_HOOKS.items():
        if (capability in claimed) != backend.implements(hook):
            claim = "claims" if capability in claimed else "does not claim"
            has = "has" if backend.implements(hook) else "lacks"
            raise ConfigurationError(
                f"the backend for {backend.scheme}:// {claim} {capability.label} but {has} the hook {hook}; "
                "a claim and its hook go together"
            )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a phrase that offers the known name most like `name`."""
    import difflib

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else "none is like it"


def _manager(specs: Iterable[type]) -> pluggy.PluginManager:
    manager = pluggy.PluginManager("drumbeat")
    for spec in specs:
        manager.add_hookspecs(spec)
    return manager


def _register(manager: pluggy.PluginManager, plugin: object, *, role: str) -> None:
    try:
        manager.register(plugin)
        manager.check_pending()
    except ValueError as error:
        raise ConfigurationError(f"{role} was given twice; give it once") from error
    except pluggy.PluginValidationError as error:
        raise ConfigurationError(f"{role} does not fit the contract: {_explain(manager, plugin, error)}") from error


def _explain(manager: pluggy.PluginManager, plugin: object, error: Exception) -> str:
    specified = {name for name, caller in vars(manager.hook).items() if getattr(caller, "spec", None)}
    callers = manager.get_hookcallers(plugin) or []
    unknown = sorted(caller.name for caller in callers if caller.name not in specified)
    if not unknown:
        return str(error).splitlines()[-1] if str(error) else repr(error)
    return "; ".join(f"there is no hook {name!r}, {nearest(name, specified)}" for name in unknown)


def _require_wrappers(manager: pluggy.PluginManager, interceptor: object) -> None:
    for caller in manager.get_hookcallers(interceptor) or []:
        if any(impl.plugin is interceptor and not impl.wrapper for impl in caller.get_hookimpls()):
            raise ConfigurationError(
                f"the interceptor {type(interceptor).__name__} implements {caller.name} itself; an interceptor may "
                "only wrap: mark the method with hookimpl(wrapper=True)"
            )


def _unknown_scheme(scheme: str, known: list[str]) -> str:
    if scheme in KNOWN_PACKAGES:
        package = KNOWN_PACKAGES[scheme]
        return f"no backend for {scheme}:// is installed; install it with: python3 -m pip install {package}"
    return (
        f"no backend for {scheme}:// is installed, {nearest(scheme, {*known, *KNOWN_PACKAGES})}; "
        f"installed are: {', '.join(known) or 'none'}"
    )
