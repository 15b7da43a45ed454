"""Mutants that go wrong in a way of their own, for the tests of what runs mutants."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from drumbeat.memory import MemoryBackend
from drumbeat_mutants import MUTANTS, Patch, mutant


@mutant("sample-killed", breaks="LEAD-5")
def killed(patch: Patch) -> None:
    """A resign frees nothing."""
    patch.wrap(MemoryBackend, "resign", lambda original, self, lease, seat: original(self, lease, seat=_wrong(seat)))


def _wrong(seat: object) -> object:
    from dataclasses import replace

    from drumbeat.hookspecs import Seat

    assert isinstance(seat, Seat)
    return replace(seat, token=-1)


@mutant("sample-harmless", breaks="LEAD-5")
def harmless(patch: Patch) -> None:
    """A resign is as it was."""
    patch.wrap(MemoryBackend, "resign", lambda original, *arguments: original(*arguments))


@mutant("sample-unreached", breaks="LEAD-5")
def unreached(patch: Patch) -> None:
    """A resign frees nothing, and something else is broken that nobody uses."""
    killed(patch)
    patch.wrap(MemoryBackend, "forget_store", lambda original, *arguments: original(*arguments))


@mutant("sample-hanging", breaks="LEAD-5")
def hanging(patch: Patch) -> None:
    """A resign never returns."""
    patch.wrap(MemoryBackend, "resign", lambda *_: threading.Event().wait())


@mutant("sample-crashing", breaks="LEAD-5")
def crashing(patch: Patch) -> None:
    """A resign ends the process."""
    patch.wrap(MemoryBackend, "resign", lambda *_: os._exit(7))


#: By name, and no longer among the others.
SAMPLES = {name: MUTANTS.pop(name) for name in list(MUTANTS) if name.startswith("sample-")}
