"""The test class: a backend's guarantees as items of its own pytest run."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final, NoReturn, cast, final, get_args

from drumbeat import ConfigurationError
from drumbeat._plugins import nearest
from drumbeat.hookspecs import BackendFactory
from drumbeat_conformance._started import checked
from drumbeat_conformance.guarantee import Guarantee, Tier, catalogue
from drumbeat_conformance.operators import Operator
from drumbeat_conformance.run import KnownFailure, refuse_optimised, refuse_unknown
from drumbeat_conformance.target import StartServer, Target, may_be_in_process

__all__ = ["REFUSED_MARKERS", "Conformance", "Plan", "plan_of"]

#: Markers that would keep a guarantee from being tested, or its outcome from being seen.
REFUSED_MARKERS: Final = frozenset({"skip", "skipif", "xfail", "usefixtures"})
#: What Python itself writes into a class.
_OF_PYTHON: Final = frozenset(
    {
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__module__",
        "__orig_bases__",
        "__qualname__",
        "__static_attributes__",
        "__weakref__",
    }
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a class asks for, as it stood when the class was made."""

    target: Target
    tiers: tuple[Tier, ...]
    seed: int
    known_failures: Mapping[str, KnownFailure]

    def guarantees(self) -> list[Guarantee]:
        """Return the guarantees of its tiers, the fault tier last."""
        chosen = [one for one in catalogue().values() if one.tier in self.tiers]
        return sorted(chosen, key=lambda one: (one.tier == "faults", one.order))


class Sealed(type):
    """The type of test classes: it lets them say what is tested, and nothing about how outcomes are judged."""

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, object], **keywords: object) -> Sealed:
        made = super().__new__(mcs, name, bases, namespace, **keywords)
        if any(isinstance(base, Sealed) for base in bases):
            _refuse_more_than_settings(made, namespace)
            type.__setattr__(made, "_plan", _plan(made))
        return made

    def __setattr__(cls, name: str, value: object) -> None:
        if name != "pytestmark":
            _refuse(cls, f"cannot be changed once it is made (here its {name})")
        _refuse_markers(cls, value)
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        _refuse(cls, f"cannot be changed once it is made (here its {name})")


class Conformance(metaclass=Sealed):
    """A test class that tests every guarantee of the contract on one backend; only these settings can be given.

    Each guarantee is one test, named after its promise. All that were selected run side by side, in a namespace of
    their own each. Whatever else a subclass defines or inherits is refused with ConfigurationError when it is made, and
    so are a target that is none, a known failure of an unknown id, and `python -O`.
    """

    #: A URL, a built-in name (redis, memcached, zookeeper, etcd, local, memory, memory-cas), or a `Target`. In a URL,
    #: `{tmp}` stands for a new and empty folder, one for each guarantee.
    target: ClassVar[str | Target | None] = None
    #: The backend's class, where no installed package announces it under the URL's scheme.
    factory: ClassVar[BackendFactory | None] = None
    #: Starts a server that ends with a `with` block and that the suite may freeze, kill, wipe and start again.
    start_server: ClassVar[StartServer | None] = None
    #: From a URL to somebody who reads and writes what is stored there without the backend, see
    #: `drumbeat_conformance.operators`; for the promises about rubbish and about seats that vanish.
    operator: ClassVar[Callable[[str], Operator] | None] = None
    #: Guarantees that are known to fail, by id. One that passes all the same is a failure.
    known_failures: ClassVar[Mapping[str, KnownFailure]] = {}
    #: `contract` takes seconds, `faults` minutes.
    tiers: ClassVar[tuple[Tier, ...]] = ("contract",)
    #: Seconds that leases last; None leaves it to the backend: 1, or 2 for etcd.
    lease_ttl: ClassVar[float | None] = None
    #: Decides what guarantees draw by chance.
    seed: ClassVar[int] = 0
    #: Whether only the process that made a store reaches it.
    in_process: ClassVar[bool] = False
    #: Whether time is only pretended to pass: for stores without a server that take their time from `config.clock`.
    fake_time: ClassVar[bool] = False

    _plan: ClassVar[Plan | None] = None

    def test_that_the_plugin_is_active(self) -> None:
        """Stand for the guarantees where the plugin that would collect them is switched off."""
        raise AssertionError(
            "nothing was tested: pytest's plugin `drumbeat_conformance` is switched off; leave out "
            "-p no:drumbeat_conformance, or load it by -p drumbeat_conformance.plugin"
        )


_SETTINGS: Final = frozenset(name for name in inspect.get_annotations(Conformance) if not name.startswith("_"))


def plan_of(cls: type[Conformance]) -> Plan | None:
    """Return what a class asks for; None if it names no target, and so is only a base of others."""
    return cls._plan


def _refuse_more_than_settings(made: Sealed, namespace: Mapping[str, object]) -> None:
    strangers = [base.__name__ for base in made.__mro__ if not (base is object or isinstance(base, Sealed))]
    if strangers:
        _refuse(made, f"cannot inherit from {', '.join(strangers)}: a mixin could decide about outcomes")
    if type(made) is not Sealed:
        _refuse(made, "cannot have a metaclass of its own")
    for name, value in namespace.items():
        if name == "pytestmark":
            _refuse_markers(made, value)
        elif name not in _SETTINGS | _OF_PYTHON:
            _refuse(made, f"cannot define {name!r}, {nearest(name, _SETTINGS)}; its settings are {_listed(_SETTINGS)}")


def _refuse_markers(made: Sealed, given: object) -> None:
    marks = given if isinstance(given, (list, tuple)) else [given]
    for mark in marks:
        name = getattr(mark, "name", "")
        if name in REFUSED_MARKERS:
            _refuse(
                made, f"cannot be marked {name}: declare what fails in known_failures, and deselect what is not wanted"
            )


def _plan(made: Sealed) -> Plan | None:
    cls = cast("type[Conformance]", made)
    refuse_optimised()
    refuse_unknown(cls.known_failures, what=f"known_failures of {cls.__name__}")
    for id_, known in cls.known_failures.items():
        if not isinstance(known, KnownFailure):
            _refuse(made, f"needs a KnownFailure(reason, link) for {id_}, not {known!r}")
    tiers = get_args(Tier)
    if not cls.tiers or not set(cls.tiers) <= set(tiers) or isinstance(cls.tiers, str):
        _refuse(made, f"cannot have tiers {cls.tiers!r}; they are a tuple of {_listed(tiers)}")
    if cls.target is None:
        return None
    return Plan(target=_target(cls), tiers=cls.tiers, seed=cls.seed, known_failures=dict(cls.known_failures))


def _target(cls: type[Conformance]) -> Target:
    start = cast("StartServer | None", _function(cls, "start_server"))
    own = None if start is None else checked(start, name=f"{cls.__name__}.start_server")
    operator = cast("Callable[[str], Operator] | None", _function(cls, "operator"))
    given = Target.of(cls.target, own=own) if isinstance(cls.target, str) else cls.target
    assert given is not None
    if cls.in_process and not may_be_in_process(given.scheme):
        _refuse(cls, f"cannot be in_process: other processes reach a store of {given.scheme}://, so that is tested too")
    target = replace(
        given,
        own=own or given.own,
        operator=operator or given.operator,
        factory=cls.factory or given.factory,
        in_process=cls.in_process or given.in_process,
    )
    if cls.fake_time:
        target = target.with_fake_time()
    return target if cls.lease_ttl is None else replace(target, ttl=cls.lease_ttl)


def _function(cls: type[Conformance], name: str) -> object:
    """Return a setting that is a function, however it is written down; None if it is not given."""
    found: object = inspect.getattr_static(cls, name)
    return found.__func__ if isinstance(found, staticmethod) else found


def _listed(names: object) -> str:
    return ", ".join(sorted(cast("frozenset[str]", names)))


def _refuse(cls: Sealed, problem: str) -> NoReturn:
    raise ConfigurationError(f"{cls.__module__}.{cls.__qualname__} {problem}")
