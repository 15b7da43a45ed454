"""A backend that no installed package announces, announced for as long as it is tested."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from drumbeat import ConfigurationError
from drumbeat._plugins import BACKENDS

if TYPE_CHECKING:
    from drumbeat.hookspecs import BackendFactory

__all__ = ["announced"]

#: The name that reports show for the package of such a backend.
PACKAGE: Final = "not-installed"
_SEARCHED: Final = "PYTHONPATH"


@contextmanager
def announced(scheme: str, factory: BackendFactory) -> Iterator[None]:
    """Register a factory for a URL scheme as an installed package would, in this process and in those it starts.

    Raises ConfigurationError for what cannot be imported by a name: an instance, or a class made within a function.
    """
    module, name = getattr(factory, "__module__", ""), getattr(factory, "__qualname__", "")
    source = getattr(sys.modules.get(module), "__file__", None)
    if not source or "<" in name:
        raise ConfigurationError(
            f"{factory!r} cannot be imported by its name, as other processes must; give a class of a module"
        )
    with TemporaryDirectory(prefix="drumbeat-announced-") as folder:
        metadata = Path(folder) / f"{PACKAGE.replace('-', '_')}-0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0\n")
        (metadata / "entry_points.txt").write_text(f"[{BACKENDS}]\n{scheme} = {module}:{name}\n")
        with _searched(folder, str(_root(Path(source), module))):
            yield


def _root(source: Path, module: str) -> Path:
    """Return the folder that the module's name counts from."""
    depth = module.count(".") + (source.name == "__init__.py")
    return source.resolve().parents[depth]


@contextmanager
def _searched(folder: str, root: str) -> Iterator[None]:
    """Have Python look there too, here for what is announced, in started processes for the module as well."""
    before = os.environ.get(_SEARCHED)
    sys.path.append(folder)
    os.environ[_SEARCHED] = os.pathsep.join(filter(None, [before, folder, root]))
    try:
        yield
    finally:
        sys.path.remove(folder)
        if before is None:
            del os.environ[_SEARCHED]
        else:
            os.environ[_SEARCHED] = before
