"""What the command line asks for, as a test class."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import new_class
from typing import TYPE_CHECKING, Final, cast, final

from drumbeat import ConfigurationError
from drumbeat._plugins import load_backend_factory, nearest
from drumbeat._url import BackendURL
from drumbeat.hookspecs import BackendFactory
from drumbeat_conformance._started import checked
from drumbeat_conformance.target import StartServer, Target, may_be_in_process, refuse_lease

if TYPE_CHECKING:
    from drumbeat_conformance.guarantee import Guarantee, Tier
    from drumbeat_conformance.operators import Operator
    from drumbeat_conformance.run import KnownFailure
    from drumbeat_conformance.suite import Conformance

__all__ = ["Asked", "duration", "loaded", "select"]

_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
#: Seconds of 30 days: who asks for more has mistyped.
_LONGEST: Final = 30 * 24 * 3600.0
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to test, on what."""

    name: str
    tiers: tuple[Tier, ...]
    #: Ids or families; empty means all.
    only: tuple[str, ...] = ()
    seed: int = 0
    lease_ttl: float | None = None
    fake_time: bool = False
    in_process: bool = False
    #: `MODULE:NAME` of what starts servers, of the backend's class, and of what makes an operator from a URL.
    server: str | None = None
    backend: str | None = None
    operator: str | None = None
    known_failures: Path | None = None

    def target(self) -> Target:
        """Return what is tested; raise ConfigurationError for what cannot work."""
        start = None
        if self.server is not None:
            given = cast("StartServer", loaded(self.server, option="--server"))
            start = checked(given, name=f"--server {self.server}")
        factory = None if self.backend is None else cast("BackendFactory", loaded(self.backend, option="--backend"))
        target = Target.of(self.name, own=start)
        if factory is None:
            load_backend_factory(target.scheme)
        if self.in_process and not may_be_in_process(self.name):
            raise ConfigurationError(
                f"--in-process: other processes reach a store of {target.scheme}://, so that is tested as well"
            )
        operator = target.operator
        if self.operator is not None:
            operator = cast("Callable[[str], Operator]", loaded(self.operator, option="--operator"))
        in_process = self.in_process or target.in_process
        target = replace(target, factory=factory, operator=operator, in_process=in_process)
        target = target.with_fake_time() if self.fake_time else target
        target = target if self.lease_ttl is None else replace(target, ttl=self.lease_ttl)
        refuse_lease(target)
        return target

    def masked(self) -> str:
        """Return the name or URL, with any password masked."""
        return str(BackendURL.parse(self.name)) if "://" in self.name else self.name

    def command(self) -> str:
        """Return the command line that tests the same again, with any password of the URL masked."""
        tier = "all" if len(self.tiers) > 1 else "".join(self.tiers)
        words = [self.masked(), "--tier", tier, "--seed", str(self.seed)]
        words += [word for one in self.only for word in ("--only", one)]
        for option, value in (
            ("--lease-ttl", self.lease_ttl),
            ("--server", self.server),
            ("--backend", self.backend),
            ("--operator", self.operator),
        ):
            words += [] if value is None else [option, f"{value:g}" if isinstance(value, float) else value]
        words += [] if self.known_failures is None else ["--known-failures", str(self.known_failures)]
        words += ["--in-process"] * self.in_process + ["--fake-time"] * self.fake_time
        return shlex.join(["drumbeat-conformance", *words])

    def test_class(self) -> type[Conformance]:
        """Return the class that asks the same of pytest; imports every guarantee."""
        from drumbeat_conformance.suite import Conformance

        select(self.only, self.tiers)
        settings = {
            "target": self.target(),
            "tiers": self.tiers,
            "seed": self.seed,
            "known_failures": {} if self.known_failures is None else _known_failures(self.known_failures),
        }
        return cast(
            "type[Conformance]", new_class("Test", (Conformance,), exec_body=lambda body: body.update(settings))
        )


def select(only: Sequence[str], tiers: Sequence[Tier]) -> list[Guarantee]:
    """Return the guarantees of some tiers that ids and families name, in any case of letters.

    Raises ConfigurationError for a name that none of them has.
    """
    from drumbeat_conformance.guarantee import catalogue

    every = catalogue()
    there = sorted((one for one in every.values() if one.tier in tiers), key=lambda one: one.order)
    wanted = {name.upper() for name in only}
    for name in only:
        if not any(name.upper() in {one.id, one.family} for one in there):
            known = {one.id for one in there} | {one.family for one in there}
            elsewhere = {one.tier for one in every.values() if name.upper() in {one.id, one.family}}
            hint = f"it is of the tier {' and '.join(sorted(elsewhere))}" if elsewhere else nearest(name.upper(), known)
            raise ConfigurationError(f"--only {name}: the tier {' or '.join(tiers)} has no such guarantee, {hint}")
    return [one for one in there if not only or wanted & {one.id, one.family}]


def loaded(reference: str, *, option: str) -> object:
    """Return what `MODULE:NAME` means, seen from the current folder; raise ConfigurationError if it means nothing."""
    module, _, name = reference.partition(":")
    if not module or not name:
        raise ConfigurationError(f"{option} {reference!r} is not of the form MODULE:NAME")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: object = getattr(import_module(module), name)
    except (Exception, SystemExit) as error:
        raise ConfigurationError(f"{option} {reference} cannot be loaded: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ConfigurationError(f"{option} {reference} is {found!r}, which cannot be called")
    return found


def duration(text: str) -> float:
    """Return the seconds that `90s`, `10m` or `1h` mean; raise ConfigurationError for all else, 0 or over 30 days."""
    found = _DURATION.fullmatch(text)
    seconds = 0.0 if found is None else float(found[1]) * _UNITS[found[2]]
    if seconds <= 0:
        raise ConfigurationError(f"{text!r} is no duration; write it like 90s, 10m or 1h")
    if seconds > _LONGEST:
        raise ConfigurationError(f"{text!r} is longer than 30 days; write it like 90s, 10m or 1h")
    return seconds


def _known_failures(path: Path) -> dict[str, KnownFailure]:
    from drumbeat_conformance.run import KnownFailure

    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"--known-failures {path}: {error}") from error
    found = {}
    for id_, table in tables.items():
        entries = table if isinstance(table, dict) else {}
        if set(entries) != {"reason", "link"} or not all(isinstance(value, str) for value in entries.values()):
            raise ConfigurationError(f"{path}: write [{id_}] with the two texts reason and link, and nothing else")
        found[id_] = KnownFailure(entries["reason"], entries["link"])
    return found
