"""The commands that examine: backends and doctor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cli.running import TTL

from drumbeat import SPEC_VERSION, Capability
from drumbeat._plugins import BACKENDS, KNOWN_PACKAGES, installed

if TYPE_CHECKING:
    from pathlib import Path

    from cli.running import Desk


def install(folder: Path, *, scheme: str, value: str) -> Path:
    """Announce a backend as a package of that name would, and return the folder that it is installed in."""
    metadata = folder / "site" / f"{scheme}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {scheme}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{BACKENDS}]\n{scheme} = {value}\n")
    return metadata.parent


def searching(site: Path) -> dict[str, str]:
    """Return the environment in which packages are looked for in `site` too."""
    others = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(site), *([others] if others else [])])}


def test_backends_as_json(desk: Desk) -> None:
    """Each installed backend is told with its package, options and claims, and each promise in words."""
    asked = desk.start("backends", "--json")
    assert asked.status() == 0
    (found,) = asked.answers()
    assert found["spec_version"] == SPEC_VERSION
    assert found["capabilities"] == {capability.label: capability.promise for capability in Capability}
    assert isinstance(found["backends"], list)
    by_scheme = {backend["scheme"]: backend for backend in found["backends"]}
    assert by_scheme.keys() == installed(BACKENDS).keys()
    local = by_scheme["local"]
    assert local.keys() == {
        "scheme",
        "package",
        "version",
        "spec_version",
        "options",
        "capabilities",
        "problem",
    }
    assert (local["package"], local["spec_version"], local["problem"]) == ("drumbeat", SPEC_VERSION, None)
    assert "crash-detection" in local["capabilities"]


def test_backends_names_what_could_be_installed(desk: Desk) -> None:
    """For each known scheme without a backend the package that provides it is named."""
    asked, for_people = desk.start("backends", "--json"), desk.start("backends")
    missing = {scheme: package for scheme, package in KNOWN_PACKAGES.items() if scheme not in installed(BACKENDS)}
    (found,) = asked.answers()
    assert isinstance(found["available"], dict)
    assert {scheme: package for package, schemes in found["available"].items() for scheme in schemes} == missing
    assert for_people.status() == 0
    assert all(any(f"pip install {package})" in line for line in for_people.out) for package in missing.values())


def test_backends_makes_no_file(desk: Desk, tmp_path: Path) -> None:
    """Listing what is installed neither connects nor leaves anything behind."""
    assert desk.start("backends", XDG_STATE_HOME=str(tmp_path / "state")).status() == 0
    assert list(tmp_path.iterdir()) == []


def test_a_backend_that_cannot_be_loaded_is_told(desk: Desk, tmp_path: Path) -> None:
    """A broken package is reported with what is wrong, and the others are listed all the same."""
    site = install(tmp_path, scheme="broken", value="no_such_module:Backend")
    asked = desk.start("backends", "--json", **searching(site))
    assert asked.status() == 0
    (found,) = asked.answers()
    assert isinstance(found["backends"], list)
    by_scheme = {backend["scheme"]: backend for backend in found["backends"]}
    assert "cannot be loaded: No module named 'no_such_module'; install" in str(by_scheme["broken"]["problem"])
    assert by_scheme["local"]["problem"] is None


def test_doctor_as_json(desk: Desk) -> None:
    """The doctor tells the server, its claims and limits, the granted lease, the time of a heartbeat and findings."""
    asked = desk.start("doctor", desk.url, "--ttl", str(TTL), "--json")
    assert asked.status() == 0
    (found,) = asked.answers()
    assert found["url"] == desk.url
    assert str(found["server"]).startswith("SQLite ")
    assert found["lease"] == {
        "asked": TTL,
        "granted": TTL,
        "certain": 0.949,
        "heartbeat_interval": TTL / 4,
        "request_timeout": TTL / 5,
    }
    beats = found["heartbeat_seconds"]
    assert isinstance(beats, dict)
    assert beats["count"] == 5
    assert 0 < beats["min"] <= beats["median"] <= beats["max"] < TTL
    assert found["healthy"] is True
    assert found.keys() >= {
        "namespace",
        "package",
        "version",
        "capabilities",
        "limits",
        "failover_bound",
        "eviction_bound",
    }
    assert isinstance(found["findings"], list)
    assert all(finding.keys() == {"level", "message"} for finding in found["findings"])


def test_doctor_for_people(desk: Desk) -> None:
    """The doctor's report has the claims with their promises, and each finding with its level."""
    asked = desk.start("doctor", desk.url)
    assert asked.status() == 0
    text = "".join(asked.out)
    assert Capability.CRASH_DETECTION.promise in text
    assert "10 s granted, certain for 9.49 s" in text
    assert "  ok  " in text


def test_doctor_takes_the_url_once(desk: Desk) -> None:
    """A URL as argument and as option is refused, because two places would be meant."""
    asked = desk.start("doctor", desk.url, "--url", desk.url)
    assert asked.status() == 2


def test_doctor_fails_when_something_is_wrong(desk: Desk, tmp_path: Path) -> None:
    """A finding that is an error gives the status 1, and is told."""
    site = install(tmp_path, scheme="sick", value="sick:Backend")
    (site / "sick.py").write_text(
        "from drumbeat.hookspecs import Finding, hookimpl\n"
        "from drumbeat.memory import MemoryBackend\n"
        "class Backend(MemoryBackend):\n"
        "    @hookimpl\n"
        "    def diagnose_backend(self):\n"
        "        return (Finding('error', 'the disk is on fire'),)\n"
    )
    asked, for_people = (desk.start("doctor", "sick://", *more, **searching(site)) for more in (["--json"], []))
    assert asked.status() == 1
    (found,) = asked.answers()
    assert (found["healthy"], found["package"], found["version"]) == (False, "sick", "1.0")
    assert found["findings"] == [{"level": "error", "message": "the disk is on fire"}]
    assert for_people.status() == 1
    assert "  error  the disk is on fire\n" in for_people.out
