"""What importing the package costs and gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

import drumbeat

HEAVY = ["sqlite3", "importlib.metadata", "logging", "typer", "rich", "psutil", "opentelemetry", "ctypes", "asyncio"]


def loaded_after(statement: str) -> set[str]:
    """Return the modules that a statement loads in a new interpreter, beside those of pluggy."""
    code = f"import sys, pluggy; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_drumbeat_loads_no_client_library() -> None:
    """Databases, entry points, logging and the command line are loaded when they are needed."""
    assert loaded_after("import drumbeat").isdisjoint(HEAVY)


def test_the_check_sees_what_an_import_loads() -> None:
    """The check above is able to fail."""
    assert "sqlite3" in loaded_after("import sqlite3")


def test_every_public_name_is_there() -> None:
    """All names that the package promises are found, listed by dir(), and known by a star import."""
    namespace: dict[str, object] = {}
    exec("from drumbeat import *", namespace)  # noqa: S102 - the statement under test
    assert set(drumbeat.__all__) <= set(namespace)
    assert set(drumbeat.__all__) <= set(dir(drumbeat))


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A name that does not exist fails as in any module."""
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        drumbeat.nonsense  # type: ignore[attr-defined]  # noqa: B018
