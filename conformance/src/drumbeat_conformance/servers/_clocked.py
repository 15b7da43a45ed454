"""Servers whose wall clock can be stepped: programs that run under libfaketime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from drumbeat_conformance.servers._errors import CouldNotRun
from drumbeat_conformance.servers._kinds import KINDS
from drumbeat_conformance.servers._offsets import write_offset
from drumbeat_conformance.servers._server import Place, Plan

#: Where distributions keep it, below the folders of libraries.
_LIBRARIES: Final = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib*/faketime/libfaketime.so.1")
_C: Final = ("/lib/*-linux-gnu/libc.so.6", "/lib64/libc.so.6")
#: The kinds that can be started so.
_KINDS: Final = frozenset({"redis"})


def can_step_clocks(name: str) -> bool:
    """Return whether this machine can run a server of this kind with a wall clock of its own."""
    return name in _KINDS and _found(_LIBRARIES) is not None and KINDS[name].find() is not None


def clocked(plans: Sequence[Plan], places: Sequence[Place]) -> list[Plan]:
    """Return plans for programs with wall clocks of their own; raise CouldNotRun without libfaketime."""
    return [_clocked(plan, place.folder / "clock") for plan, place in zip(plans, places, strict=True)]


def _clocked(plan: Plan, clock: Path) -> Plan:
    library, c_library = _found(_LIBRARIES), _found(_C)
    if library is None:
        raise CouldNotRun(
            "a steppable wall clock", ("libfaketime is not installed",), "In Debian: apt-get install libfaketime."
        )
    write_offset(clock, 0.0)
    # The C library's own malloc, before jemalloc, which asks for the time before libfaketime can tell it:
    # https://github.com/wolfcw/libfaketime/issues/130
    preload = library if c_library is None else f"{library} {c_library}"
    variables = {
        "LD_PRELOAD": preload,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    words = [f"{name}={value}" for name, value in variables.items()]
    return replace(plan, argv=("env", *words, *plan.argv), clock=clock)


def _found(patterns: Sequence[str]) -> str | None:
    return next((str(path) for pattern in patterns for path in sorted(Path("/").glob(pattern[1:]))), None)
