"""Mutants that each go wrong in a way of their own, for the tests of what runs mutants."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace

from drumbeat_mutants import Patch, mutant

from drumbeat.hookspecs import Lease, Resigned, Seat
from drumbeat.memory import MemoryBackend

#: `MemoryBackend.resign`.
Resign = Callable[[MemoryBackend, Lease, Seat], Resigned]


@mutant("sample-killed", breaks="LEAD-5")
def killed(patch: Patch) -> None:
    """A resign frees nothing."""

    def resign(original: Resign, self: MemoryBackend, lease: Lease, seat: Seat) -> Resigned:
        return original(self, lease, replace(seat, token=-1))

    patch.wrap(MemoryBackend, "resign", resign)


@mutant("sample-harmless", breaks="LEAD-5")
def harmless(patch: Patch) -> None:
    """A resign is as it was."""

    def resign(original: Resign, self: MemoryBackend, lease: Lease, seat: Seat) -> Resigned:
        return original(self, lease, seat)

    patch.wrap(MemoryBackend, "resign", resign)


@mutant("sample-unreached", breaks="LEAD-5")
def unreached(patch: Patch) -> None:
    """A resign frees nothing, and something is broken besides that nobody uses."""
    killed(patch)
    patch.wrap(MemoryBackend, "forget_store", lambda *_: False)


@mutant("sample-hanging", breaks="LEAD-5")
def hanging(patch: Patch) -> None:
    """A resign never returns."""
    patch.wrap(MemoryBackend, "resign", lambda *_: threading.Event().wait())


@mutant("sample-ending", breaks="LEAD-5")
def ending(patch: Patch) -> None:
    """A resign ends the process."""
    patch.wrap(MemoryBackend, "resign", lambda *_: os._exit(7))


@mutant("sample-crashing", breaks="LEAD-5")
def crashing(patch: Patch) -> None:
    """What is to be broken does not exist."""
    patch.wrap(MemoryBackend, "no_such_method", lambda *_: None)


@mutant("sample-real", breaks="LEAD-5", of="local")
def real(patch: Patch) -> None:
    """Nothing is broken, where time is real."""
