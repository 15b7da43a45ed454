from __future__ import annotations

import subprocess
import sys

HEAVY = ["sqlite3", "importlib.metadata", "logging", "typer", "rich", "psutil", "opentelemetry", "ctypes", "asyncio"]


def loaded_after(statement: str) -> set[str]:
    code = f"import sys, pluggy; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_drumbeat_loads_no_client_library() -> None:
    """Databases, entry points, logging and the command line are loaded when they are needed."""
    assert loaded_after("import drumbeat").isdisjoint(HEAVY)


def test_the_check_sees_what_an_import_loads() -> None:
    """The check above is able to fail."""
    assert "sqlite3" in loaded_after("import sqlite3")
