"""The command that writes a package: new-backend."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli.running import PATIENCE

from drumbeat._plugins import BACKENDS
from drumbeat.cli._new_backend import Names, write

if TYPE_CHECKING:
    from cli.running import Desk

#: A word, some words, the shortest, and the longest with a scheme of its own.
NAMES = [
    Names("consul", "consul"),
    Names("my-store", "my-store"),
    Names("x", "x"),
    Names("a-store-with-as-long-a-name-as", "as-long-a-scheme+as.may-be-had"),
]


def everything(folder: Path) -> dict[str, str]:
    """Return the texts of all files by their paths in the folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_package_is_written(desk: Desk, tmp_path: Path) -> None:
    """Files, names and the next commands are as the answer tells."""
    folder = tmp_path / "new"
    asked = desk.start("new-backend", "my-store", "--into", str(folder), "--json")
    assert asked.status() == 0
    (told,) = asked.answers()
    assert sorted(everything(folder)) == told["files"]
    assert told["folder"] == str(folder)
    assert (told["package"], told["module"]) == ("drumbeat-my-store", "drumbeat_my_store")
    assert (told["class"], told["scheme"]) == ("MyStoreBackend", "my-store")
    assert isinstance(told["next"], list)
    assert told["next"][0] == f"cd {folder}"


def test_the_folder_is_named_after_the_package(tmp_path: Path) -> None:
    """Without --into the package is written beside whatever is there, and people are told what to run."""
    asked = subprocess.run(
        [sys.executable, "-m", "drumbeat.cli", "new-backend", "consul", "--scheme", "consul+http"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert [path.name for path in tmp_path.iterdir()] == ["drumbeat-consul"]
    assert "  cd drumbeat-consul\n" in asked.stdout
    assert "  drumbeat-conformance consul+http://localhost --in-process " in asked.stdout


@pytest.mark.parametrize("names", NAMES, ids=lambda names: names.name)
def test_the_files_fit_their_names(names: Names, tmp_path: Path) -> None:
    """Every name is filled in, Python and TOML parse, and no line is too long for the package's own linter."""
    write(names, tmp_path / "new")
    texts = everything(tmp_path / "new")
    assert not [path for path, text in texts.items() if "@@" in path + text]
    project = tomllib.loads(texts["pyproject.toml"])
    assert project["project"]["entry-points"][BACKENDS] == {names.scheme: f"{names.module}:{names.backend}"}
    assert project["project"]["dependencies"] == [f"drumbeat~={version('drumbeat')}"]
    python = {path: text for path, text in texts.items() if path.endswith(".py")}
    assert len(python) == 5
    for path, text in python.items():
        ast.parse(text, path)
        assert max(map(len, text.splitlines())) <= project["tool"]["ruff"]["line-length"]
    assert f"class {names.backend}(CompareAndSetBackend):" in texts[f"src/{names.module}/_backend.py"]


def test_every_file_of_the_template_is_used(tmp_path: Path) -> None:
    """Nothing lies in the template's folder that no package gets."""
    written = write(NAMES[0], tmp_path / "new")
    assert len(written) == len(list((files("drumbeat.cli") / "template").iterdir()))


def test_a_written_backend_works(tmp_path: Path) -> None:
    """Once it is announced by its entry point, processes can join, lead and hand over through it."""
    names = Names("my-store", "mine")
    write(names, tmp_path / "new")
    source = tmp_path / "new/src"
    metadata = source / f"{names.module}-0.1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {names.package}\nVersion: 0.1.0\n")
    points = tomllib.loads((tmp_path / "new/pyproject.toml").read_text())["project"]["entry-points"][BACKENDS]
    lines = "".join(f"{scheme} = {target}\n" for scheme, target in points.items())
    (metadata / "entry_points.txt").write_text(f"[{BACKENDS}]\n{lines}")
    code = (
        "import drumbeat\n"
        "a, b = (drumbeat.connect('mine://host', member_id=name) for name in 'ab')\n"
        "a.group('g').join(); b.group('g').join()\n"
        "first = a.election('e').campaign()\n"
        "a.close()\n"
        "second = b.election('e').campaign(timeout=5)\n"
        "print(second.token > first.token, *b.group('g').members().ids)\n"
        "b.close()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(source)}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert ran.stdout == "True b\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["9lives"], "'9lives' cannot be part of"),
        (["MyStore"], "as in 'my-store'"),
        (["my_store"], "as in 'my-store'"),
        (["my--store"], "single hyphens"),
        (["ends-"], "single hyphens"),
        (["ключ"], "lower-case letters"),
        (["../elsewhere"], "cannot be part of"),
        (["a" * 31], "up to 30"),
        ([""], "cannot be part of"),
        (["class"], "'class' is a word of Python's own"),
        (["match"], "'match' is a word of Python's own"),
        (["conformance"], "drumbeat-conformance is a package of Drumbeat's own"),
        (["redis"], "drumbeat-redis is a package of Drumbeat's own"),
        (["memory"], "memory:// is taken by drumbeat"),
        (["mine", "--scheme", "local"], "local:// is taken by drumbeat"),
        (["mine", "--scheme", "redis+cluster"], "redis+cluster:// is taken by drumbeat-redis"),
        (["mine", "--scheme", "http:"], "'http:' cannot begin a URL"),
        (["mine", "--scheme", ""], "'' cannot begin a URL"),
        (["mine", "--scheme", "a" * 31], "up to 30"),
        (["mine", "--into", "/dev/null"], "/dev/null is not a folder"),
        (["mine", "--into", "/dev/null/new"], "cannot write /dev/null/new: Not a directory; see --into"),
    ],
)
def test_what_cannot_work_is_refused(arguments: list[str], text: str, tmp_path: Path) -> None:
    """A bad name, a taken scheme and a bad folder are told in one line with the status 2, and nothing is written."""
    asked = subprocess.run(
        [sys.executable, "-m", "drumbeat.cli", "new-backend", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert asked.returncode == 2
    assert asked.stderr.count("\n") == 1
    assert text in asked.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(desk: Desk, tmp_path: Path) -> None:
    """A folder that holds anything is refused and stays as it is, a hidden file included; an empty one is used."""
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / ".hidden").write_text("mine")
    asked = desk.start("new-backend", "consul", "--into", str(folder))
    assert asked.status() == 2
    assert "'.hidden'" in asked.err[0]
    assert everything(folder) == {".hidden": "mine"}
    (folder / ".hidden").unlink()
    assert desk.start("new-backend", "consul", "--into", str(folder)).status() == 0
    written = everything(folder)
    assert desk.start("new-backend", "my-store", "--into", str(folder)).status() == 2
    assert everything(folder) == written


def test_a_name_is_refused_once_its_package_is_installed(desk: Desk, tmp_path: Path) -> None:
    """The scheme of an installed backend is not given to a second one."""
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{BACKENDS}]\nconsul = theirs:Backend\n")
    folder = tmp_path / "new"
    asked = desk.start("new-backend", "consul", "--into", str(folder), PYTHONPATH=str(tmp_path))
    assert asked.status() == 2
    assert "consul:// is taken by theirs" in asked.err[0]
    assert not folder.exists()


def test_names_that_the_template_lacks_are_an_error() -> None:
    """A slip in a template's file raises instead of being written out."""
    with pytest.raises(KeyError):
        NAMES[0].fill("@@{nmae}")
    assert NAMES[0].fill("$HOME ${{ github.ref }} 100%") == "$HOME ${{ github.ref }} 100%"
