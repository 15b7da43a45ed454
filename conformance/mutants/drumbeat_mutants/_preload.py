"""Breaking the code of a process: the one of a mutant, and each process of members that it starts."""

from __future__ import annotations

import importlib
import os
from typing import Final

from drumbeat_mutants._mutant import MUTANTS, Patch

__all__ = ["ADDRESS", "PRELOAD", "apply", "environment"]

#: Which mutant a process is, as `Mutant.address`.
ADDRESS: Final = "DRUMBEAT_MUTANT"
#: What the suite's member processes call when they start, as `"module:function"`.
PRELOAD: Final = "DRUMBEAT_CONFORMANCE_PRELOAD"


def environment(address: str) -> dict[str, str]:
    """Return the variables that make a process, and the processes that it starts, this mutant."""
    return {ADDRESS: address, PRELOAD: f"{__name__}:{apply.__name__}"}


def apply() -> Patch:
    """Break this process as its environment says; return what was replaced."""
    module, _, name = os.environ[ADDRESS].partition(":")
    importlib.import_module(module)
    patch = Patch()
    MUTANTS[name].apply(patch)
    return patch
