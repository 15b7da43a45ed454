"""What `drumbeat new-backend` writes, once it breaks a promise; that it passes as it stands shows `nox -s template`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

NAME: Final = "my-store"
MODULE: Final = "drumbeat_my_store"
URL: Final = "my-store://localhost"
#: Seconds for one run of the contract tier on a busy machine.
PATIENCE: Final = 240.0


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Give a package as the command writes it, announced as if it were installed."""
    folder = tmp_path / "package"
    ran = run("-m", "drumbeat.cli", "new-backend", NAME, "--into", str(folder))
    assert ran.returncode == 0, ran.stderr
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    metadata = folder / f"src/{MODULE}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = (
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in found.items())
        for group, found in project["entry-points"].items()
    )
    (metadata / "entry_points.txt").write_text("".join(points))
    return folder


def run(*arguments: str, package: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run this Python, in a package's folder and with the package on its path if there is one."""
    path = {} if package is None else {"PYTHONPATH": str(package / "src")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=package,
        env={**os.environ, **path},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def outcomes(package: Path, *only: str) -> dict[str, str]:
    """Return what came of each guarantee, as the command line reports it."""
    given = [word for name in only for word in ("--only", name)]
    report = package / "report.json"
    ran = run(
        *("-m", "drumbeat_conformance.cli", URL, "--in-process", "--json", str(report), *given),
        package=package,
    )
    assert report.exists(), ran.stderr
    found = json.loads(report.read_text())
    return {one["id"]: one["outcome"] for one in found["guarantees"]}


@pytest.mark.timeout(300)
def test_a_mistake_in_it_is_named(package: Path) -> None:
    """A backend that answers reads from a cache is told by id: a join that returned is not seen."""
    backend = package / f"src/{MODULE}/_backend.py"
    whole = backend.read_text()
    broken = whole.replace(
        "return self._store.get(keys)", "return _read.setdefault(tuple(keys), self._store.get(keys))"
    )
    assert broken != whole
    backend.write_text(f"{broken}\n\n_read: dict[tuple[str, ...], Mapping[str, tuple[bytes, Hashable]]] = {{}}\n")
    assert outcomes(package, "GROUP-1")["GROUP-1"] == "failed"
