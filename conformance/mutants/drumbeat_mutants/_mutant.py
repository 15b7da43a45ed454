"""Mutants: one realistic bug each, made by replacing attributes of the real code."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pkgutil
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final, final

__all__ = ["MUTANTS", "REACHED", "Mutant", "Patch", "load", "modules", "mutant"]

#: Where a process notes which patched attributes were called: the path of a folder.
REACHED: Final = "DRUMBEAT_MUTANT_REACHED"

_NAME: Final = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
#: What `Target.of` knows.
_BACKENDS: Final = frozenset({"memory", "memory-cas", "local", "redis", "memcached", "zookeeper", "etcd"})


@final
class Patch:
    """Replaces attributes of classes and modules, and notes which of them are called."""

    def __init__(self) -> None:
        #: The attributes whose calls are noted, like `"MemoryBackend.resign"`; a constant has no calls.
        self.counted: list[str] = []
        self._reached: set[str] = set()
        self._folder = os.environ.get(REACHED)

    def __call__(self, target: object, name: str, new: object) -> None:
        """Replace an attribute: by a function, also where it is a property or hook, or by a constant.

        Raises AttributeError where there is nothing to replace.
        """
        old = _attribute(target, name)
        kind = new if isinstance(new, property | staticmethod | classmethod) else old
        function = _function_of(new)
        if not callable(function) or isinstance(function, type):
            setattr(target, name, new)
            return
        noted = self._noted(target, name, function)
        former = _function_of(old)
        if inspect.isfunction(former):  # what marks it as a hook stands in its dictionary
            noted.__dict__.update({**vars(former), **vars(noted)})
        setattr(target, name, _like(kind, noted))

    def wrap(self, target: object, name: str, around: Callable[..., object]) -> None:
        """Call `around(original, ...)` in place of a function, method or property getter.

        Raises AttributeError where there is nothing to wrap, and TypeError where it cannot be called.
        """
        old = _attribute(target, name)
        original = _function_of(old)
        if not callable(original):
            raise TypeError(f"{_site(target, name)} is a {type(old).__name__}, which cannot be wrapped; replace it")

        @functools.wraps(original)
        def wrapped(*arguments: object, **options: object) -> object:
            return around(original, *arguments, **options)

        setattr(target, name, _like(old, self._noted(target, name, wrapped)))

    def _noted(self, target: object, name: str, function: Callable[..., object]) -> Callable[..., object]:
        site = _site(target, name)
        self.counted.append(site)

        @functools.wraps(function)
        def noted(*arguments: object, **options: object) -> object:
            self._note(site)
            return function(*arguments, **options)

        return noted

    def _note(self, site: str) -> None:
        if site not in self._reached and self._folder:
            Path(self._folder, site).touch()
        self._reached.add(site)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A backend, or the core on it, with one bug."""

    name: str
    #: Each of these guarantees must fail.
    breaks: tuple[str, ...]
    #: The target that it is tested on, as `Target.of` knows it.
    of: str
    #: Where the like was seen: `"peers 3"`, `"hazard: ..."`, or nothing.
    like: str
    apply: Callable[[Patch], None]

    @property
    def bug(self) -> str:
        """What is wrong, as a sentence."""
        return (inspect.getdoc(self.apply) or "").replace("\n", " ")

    @property
    def module(self) -> str:
        """The name of the module that it stands in, like `"lead"`."""
        return self.apply.__module__.rpartition(".")[2]

    @property
    def address(self) -> str:
        """How another process finds it."""
        return f"{self.apply.__module__}:{self.name}"


#: Every mutant by its name, once its module is imported.
MUTANTS: Final[dict[str, Mutant]] = {}


def mutant(
    name: str, *, breaks: str | tuple[str, ...], of: str = "memory", like: str = ""
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Enter a function that breaks the code; its docstring says the bug in a sentence.

    Each guarantee in `breaks` must fail on it, on the target `of`. Raises ValueError for a name that is malformed or
    taken, for an unknown target, and where the bug is not said.
    """

    def enter(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a mutant, which is like 'resigns-by-name-alone'")
        if name in MUTANTS:
            raise ValueError(f"the mutant {name} stands in {MUTANTS[name].module} already")
        if of not in _BACKENDS:
            raise ValueError(f"the mutant {name} is of {of!r}, which is none of {', '.join(sorted(_BACKENDS))}")
        ids = (breaks,) if isinstance(breaks, str) else breaks
        if not ids or not apply.__doc__:
            raise ValueError(f"the mutant {name} must name the guarantees that it breaks, and say its bug")
        MUTANTS[name] = Mutant(name=name, breaks=ids, of=of, like=like, apply=apply)
        return apply

    return enter


def modules() -> list[str]:
    """Return the names of the modules that hold mutants, like `"lead"`."""
    folder = str(Path(__file__).parent)
    return sorted(found.name for found in pkgutil.iter_modules([folder]) if not found.name.startswith("_"))


def load(names: Sequence[str]) -> dict[str, Mutant]:
    """Import modules with mutants; return those that are known by name."""
    for name in names:
        importlib.import_module(f"drumbeat_mutants.{name}")
    return MUTANTS


def _attribute(target: object, name: str) -> object:
    missing = object()
    found = inspect.getattr_static(target, name, missing)
    if found is missing:
        raise AttributeError(f"there is no {_site(target, name)} to break; the code has changed, or the name is wrong")
    return found


def _site(target: object, name: str) -> str:
    assert isinstance(target, type | ModuleType), target
    return f"{target.__name__}.{name}"


def _function_of(attribute: object) -> object:
    if isinstance(attribute, property):
        return attribute.fget
    if isinstance(attribute, staticmethod | classmethod):
        return attribute.__func__
    return attribute


def _like(old: object, function: Callable[..., object]) -> object:
    if isinstance(old, property):
        return property(function, old.fset, old.fdel)
    if isinstance(old, staticmethod):
        return staticmethod(function)
    if isinstance(old, classmethod):
        return classmethod(function)
    return function
