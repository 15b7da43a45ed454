"""The backend of examples/, which is no package, as a module that tests import."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from drumbeat.hookspecs import BackendFactory

_SOURCE = Path(__file__).parents[2] / "examples" / "cas_backend.py"


def _load() -> BackendFactory:
    spec = importlib.util.spec_from_file_location("cas_backend", _SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cas_backend"] = module
    spec.loader.exec_module(module)
    return cast("BackendFactory", module.FolderBackend)


FolderBackend = _load()
