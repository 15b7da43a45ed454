"""Each rule of a run of mutants, seen to fail."""

from __future__ import annotations

import pytest
from drumbeat_mutants._rules import PEERS, complaints, complaints_of_all, complaints_of_full
from drumbeat_mutants._run import Finding, Report
from mutants.invented import failing, invented_guarantee, invented_mutant, invented_results


def test_a_killed_mutant_is_no_complaint() -> None:
    """A run whose mutants are all killed, on a sound backend that passes, is a success."""
    assert complaints(invented_results({"two-leaders": failing("LEAD-1")})) == []


def test_a_surviving_mutant_is_named_with_its_bug_and_what_was_expected() -> None:
    """A mutant that its guarantee does not notice fails the run; the complaint says which bug who should have seen."""
    [found] = complaints(invented_results({"two-leaders": failing(passing=["LEAD-1"])}))
    assert "two-leaders of memory (Two lead at a time.) survives LEAD-1" in found
    assert "LEAD-1 was expected to fail: One leads at a time." in found


def test_every_named_guarantee_must_notice() -> None:
    """A mutant that one of its named guarantees does not notice fails the run, though another one does."""
    mutant = invented_mutant(breaks=("LEAD-1", "LEAD-2"))
    report = failing("LEAD-1", passing=["LEAD-2"])
    catalogue = [invented_guarantee("LEAD-1"), invented_guarantee("LEAD-2")]
    [found] = complaints(invented_results({"two-leaders": report}, mutants=[mutant], catalogue=catalogue))
    assert "survives LEAD-2" in found


def test_an_unknown_guarantee_is_named() -> None:
    """A mutant that names a guarantee which does not exist fails the run."""
    mutant = invented_mutant(breaks=("LEAD-99",))
    [found] = complaints(invented_results({"two-leaders": failing()}, mutants=[mutant]))
    assert "names LEAD-99, which is no guarantee" in found


def test_a_guarantee_that_is_left_out_kills_nothing() -> None:
    """A mutant whose guarantee is not binding on its backend fails the run, with the reason."""
    report = Report(findings={"LEAD-1": Finding("left out", "not claimed: order")})
    [found] = complaints(invented_results({"two-leaders": report}))
    assert "LEAD-1, which is left out there (not claimed: order)" in found


def test_a_named_guarantee_must_have_been_tested() -> None:
    """A mutant that was ended before its guarantee was tested fails the run."""
    [found] = complaints(invented_results({"two-leaders": Report(findings={}, cut=True)}))
    assert "took too long for LEAD-1 to be tested" in found


def test_a_mutant_that_ends_its_process_is_named() -> None:
    """A mutant whose process ends with an error fails the run, with what the process printed."""
    report = Report(findings=failing("LEAD-1").findings, crash="ended with code 1:\nImportError: no such module")
    [found] = complaints(invented_results({"two-leaders": report}))
    assert "two-leaders" in found
    assert "ImportError: no such module" in found


def test_a_patch_must_be_reached() -> None:
    """A mutant whose patched attribute nothing calls fails the run: something else has killed it."""
    report = Report(findings=failing("LEAD-1").findings, unreached=("MemoryBackend.resign",))
    [found] = complaints(invented_results({"two-leaders": report}))
    assert "nothing called MemoryBackend.resign" in found


@pytest.mark.parametrize("message", ["AssertionError: two", "LEAD-10: another one", "the guarantee LEAD-1: two"])
def test_a_failure_begins_with_the_id(message: str) -> None:
    """A failure message that does not begin with the guarantee's id fails the run."""
    report = Report(findings={"LEAD-1": Finding("failed", message)})
    [found] = complaints(invented_results({"two-leaders": report}))
    assert "with a message that does not begin with LEAD-1" in found


def test_a_sound_backend_must_pass() -> None:
    """A failure of the backend without any bug fails the run: its mutants' deaths would prove nothing."""
    results = invented_results({"two-leaders": failing("LEAD-1")}, controls={"memory": failing("LEAD-1")})
    [found] = complaints(results)
    assert "the sound memory backend fails" in found


@pytest.mark.parametrize("report", [Report(findings={}, cut=True), Report(findings={}, crash="ended with code 1")])
def test_a_sound_backend_must_end_well(report: Report) -> None:
    """A process of the sound backend that crashes, or takes too long, fails the run."""
    [found] = complaints(invented_results({"two-leaders": failing("LEAD-1")}, controls={"memory": report}))
    assert "the process of the sound memory backend" in found


def test_every_guarantee_kills() -> None:
    """A guarantee fails the run that no mutant names, or whose mutants live on, though it notices others' by chance."""
    catalogue = [invented_guarantee("LEAD-1"), invented_guarantee("LEAD-2")]
    results = invented_results({"two-leaders": failing("LEAD-1", "LEAD-2")}, catalogue=catalogue)
    found = [sentence for sentence in complaints_of_all(results, []) if "kills nothing" in sentence]
    assert len(found) == 1
    assert found[0].startswith("LEAD-2 kills nothing (One leads at a time.)")


def test_there_are_forty_mutants() -> None:
    """Fewer than 40 mutants fail a run of all."""
    few = invented_results({f"mutant-{number}": failing("LEAD-1") for number in range(39)})
    enough = invented_results({f"mutant-{number}": failing("LEAD-1") for number in range(40)})
    assert "there are 39 mutants, fewer than 40" in complaints_of_all(few, [])
    assert not any("fewer" in sentence for sentence in complaints_of_all(enough, []))


def test_every_fault_of_the_peers_has_a_mutant() -> None:
    """A run of all fails where one of the thirteen faults that other libraries have is missing."""
    mutants = [invented_mutant(f"peer-{number}", like=f"peers {number}") for number in PEERS if number != 1]
    results = invented_results({one.name: failing("LEAD-1") for one in mutants}, mutants=mutants)
    found = [sentence for sentence in complaints_of_all(results, []) if "peers" in sentence]
    assert found == ["fault 1 of the peers has no mutant: write one with like='peers 1'"]
    assert len(PEERS) == 13


def test_every_module_holds_a_mutant() -> None:
    """A run of all fails for a module in which no mutant stands."""
    results = invented_results({"two-leaders": failing("LEAD-1")})
    assert "the module empty holds no mutant" in complaints_of_all(results, ["empty", "invented"])
    assert "the module invented holds no mutant" not in complaints_of_all(results, ["empty", "invented"])


def test_every_fault_scenario_is_needed() -> None:
    """A full run fails for a fault scenario that is never alone in revealing a bug, in its tier or beside the other."""
    catalogue = [
        invented_guarantee("LEAD-1"),
        invented_guarantee("FAULT-1", tier="faults"),
        invented_guarantee("FAULT-2", tier="faults"),
    ]
    mutants = [invented_mutant("a", breaks=("FAULT-1",)), invented_mutant("b", breaks=("FAULT-2",))]
    alone, not_alone = failing("FAULT-1"), failing("FAULT-2", "LEAD-1")
    results = invented_results({"a": alone, "b": not_alone}, mutants=mutants, catalogue=catalogue)
    [found] = complaints_of_full(results)
    assert found.startswith("FAULT-2 is not the only one to reveal any mutant")
