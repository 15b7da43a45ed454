"""What a URL may say, where the file is, and what an operator is told."""

from __future__ import annotations

import fcntl
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from local.actors import TIMEOUT, Actor, backend_for

from drumbeat import ConfigurationError
from drumbeat._clock import SystemClock
from drumbeat._url import BackendURL
from drumbeat.hookspecs import BackendConfig, Finding
from drumbeat.local import LocalBackend, _doctor, _kernel, default_path

MakeActor = Callable[..., Actor]


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("local://host/x.db", "names a host or a user.*write local:// or, with three slashes"),
        ("local://relative.db", "names a host or a user"),
        ("local://host:1/x.db", "names a host or a user"),
        ("local://user@/x.db", "names a host or a user"),
        ("local://:secret@/x.db", "names a host or a user"),
        ("local:///folder/", "names a folder"),
    ],
)
def test_a_url_that_can_never_work_is_refused(url: str, problem: str) -> None:
    """A host, user, password or folder in the URL is a ConfigurationError that tells no password."""
    config = BackendConfig(url=BackendURL.parse(url), namespace="ns", clock=SystemClock())
    with pytest.raises(ConfigurationError, match=problem) as caught:
        LocalBackend(config)
    assert "secret" not in str(caught.value)


def test_the_contract_is_stated_as_data() -> None:
    """The backend names the contract's version, and knows no options."""
    assert LocalBackend.spec_version == 1
    assert dict(LocalBackend.options) == {}


def test_the_default_file_follows_the_base_directory_specification(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without a path the file is below $XDG_STATE_HOME, else below ~/.local/state; a relative setting is ignored."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert default_path() == tmp_path / ".local/state/drumbeat/local.db"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_path() == tmp_path / ".local/state/drumbeat/local.db"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert default_path() == tmp_path / "state/drumbeat/local.db"
    assert list(tmp_path.iterdir()) == []


def test_without_a_home_the_default_is_an_error_that_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home folder is told to set XDG_STATE_HOME or to give a path."""

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigurationError, match=r"set XDG_STATE_HOME, or write local:///path/to/file.db"):
        default_path()


def test_the_folders_of_the_default_file_are_made_for_their_owner_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every folder that is missing is made with mode 0700 when the first session opens, and not before."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "one" / "two"))
    one = Actor("")
    assert list(tmp_path.iterdir()) == []
    one.open("a")
    one.drop()
    made = [tmp_path / "one", tmp_path / "one/two", tmp_path / "one/two/drumbeat"]
    assert [folder.stat().st_mode & 0o777 for folder in made] == [0o700] * 3
    assert default_path().exists()


def test_other_systems_are_refused_by_name(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Where the kernel has no open file description locks, the error names the system and says what to use."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(ConfigurationError, match=r"needs Linux.*this is darwin\. Use a backend with a server"):
        backend_for(path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delattr(fcntl, "F_OFD_SETLK")
    with pytest.raises(ConfigurationError, match="needs Linux"):
        backend_for(path)


def test_an_old_sqlite_is_refused_by_its_version(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """An SQLite without what the statements use is an error that names it and the lowest that will do."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.37.2")
    with pytest.raises(ConfigurationError, match=r"needs SQLite 3\.38\.0; Python has 3\.37\.2 here"):
        backend_for(path)


def test_importing_drumbeat_loads_no_sqlite() -> None:
    """Only who uses local:// pays for SQLite."""
    program = "import sys, drumbeat; drumbeat.connect; print('sqlite3' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert run.stdout == "False\n"


def test_a_healthy_file_has_findings_that_are_all_well(actor: MakeActor, path: Path) -> None:
    """The doctor names file, mode, file system, free space, log, limit, sessions and the state of the file."""
    one = actor("a")
    one.campaign("e")
    findings = one.backend.diagnose(timeout=TIMEOUT)
    assert {finding.level for finding in findings} == {"ok"}
    text = "\n".join(finding.message for finding in findings)
    assert f"{path}, mode 600, on {_kernel.file_system(path)}" in text
    assert "1 live sessions; 1 elections and locks have had a holder" in text
    assert "0 dead sessions" in text
    assert "SQLite's check of the file says: ok" in text


def test_a_file_that_is_not_there_yet_is_no_trouble_and_is_not_made(path: Path) -> None:
    """The doctor makes nothing."""
    findings = backend_for(path).diagnose(timeout=TIMEOUT)
    assert findings == (Finding("ok", f"{path} does not exist yet; the first session makes it"),)
    assert list(path.parent.iterdir()) == []


def test_what_an_operator_should_mend_is_a_warning(actor: MakeActor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little space, a long log and few descriptors are warnings that say what to do; dead sessions are counted."""
    one, dead = actor("a"), actor("b")
    dead.drop()
    monkeypatch.setattr(_doctor, "_LITTLE_SPACE", 2**62)
    monkeypatch.setattr(_doctor, "_LONG_LOG", 1)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    findings = one.backend.diagnose(timeout=TIMEOUT)
    warnings = [finding.message for finding in findings if finding.level == "warning"]
    assert [text.rpartition("; ")[2] for text in warnings] == [
        "free some space",
        "look for a frozen process that has the file open",
        "raise the limit with `ulimit -n`",
    ]
    assert any(finding.message.startswith("1 dead sessions are still recorded") for finding in findings)


def test_a_damaged_file_is_an_error_of_the_doctor(actor: MakeActor, path: Path) -> None:
    """Damage that SQLite's own check finds is reported as an error, with SQLite's words."""
    one = actor("a")
    one.close()
    one.drop()
    connection = sqlite3.connect(path, isolation_level=None)
    page = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'watches_of'").fetchone()[0]
    size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    worst = backend_for(path).diagnose(timeout=TIMEOUT)[-1]
    assert worst.level == "error"
    assert worst.message.startswith("SQLite's check of the file says: ")
