"""The generated documents are as the catalogue and the reports say, and a stale one is found out."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from drumbeat import BadData
from drumbeat_conformance.guarantee import UNTESTED, catalogue

ROOT = Path(__file__).parents[3]


def load() -> ModuleType:
    """Return conformance/documents.py as a module."""
    spec = importlib.util.spec_from_file_location("conformance_documents", ROOT / "conformance/documents.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


documents = load()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A tree with the documents, and what they are made from."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "conformance/reports").mkdir(parents=True)
    shutil.copy(ROOT / "README.md", tmp_path)
    for report in (ROOT / "conformance/reports").glob("*.json"):
        shutil.copy(report, tmp_path / "conformance/reports")
    assert documents.main([], tmp_path) == 0
    return tmp_path


def test_the_documents_are_up_to_date() -> None:
    """docs/guarantees.md and the table of README.md are what conformance/documents.py writes."""
    assert documents.main(["--check"]) == 0


@pytest.mark.parametrize("name", ["docs/guarantees.md", "README.md"])
def test_a_stale_document_is_found_out(copy: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--check` fails and names the file, and writes nothing; without it the file is written anew."""
    right = (copy / name).read_text()
    assert documents.main(["--check"], copy) == 0
    stale = (
        right.replace("| id |", "| ID |", 1)
        if name.startswith("docs")
        else right.replace(documents.END, "x\n" + documents.END)
    )
    (copy / name).write_text(stale)
    assert documents.main(["--check"], copy) == 1
    assert f"{name} is stale" in capsys.readouterr().err
    assert (copy / name).read_text() == stale
    assert documents.main([], copy) == 0
    assert (copy / name).read_text() == right


def test_a_missing_document_is_found_out(copy: Path) -> None:
    """A page that is not there is stale; a README.md without its marks is an error."""
    (copy / "docs/guarantees.md").unlink()
    assert documents.main(["--check"], copy) == 1
    (copy / "README.md").write_text("no marks")
    with pytest.raises(BadData, match="lacks the lines"):
        documents.main(["--check"], copy)


def test_every_promise_is_on_the_page(copy: Path) -> None:
    """Each guarantee stands there with its id, tier and promise, and each that cannot be tested with the reason."""
    page = (copy / "docs/guarantees.md").read_text()
    for one in catalogue().values():
        assert f"| {one.id} | " in page
        assert documents.cell(one.promise) in page
    for unseen in UNTESTED.values():
        assert f"| {unseen.id} | {unseen.promise} | {unseen.why} |" in page
    assert len(UNTESTED) >= 8
