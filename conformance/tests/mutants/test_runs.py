"""Mutants run in processes of their own, and what is noted of them."""

from __future__ import annotations

import pytest
from drumbeat_mutants import MUTANTS, Mutant, Patch, mutant
from drumbeat_mutants._mutant import load, modules
from drumbeat_mutants._process import Plan
from drumbeat_mutants._rules import PEERS, Results, complaints, kills
from drumbeat_mutants._run import Bench, Choice, Finding, Report
from mutants import samples  # noqa: F401 - importing it enters them

import drumbeat_conformance.guarantees  # noqa: F401 - importing it enters them
from drumbeat import memory
from drumbeat._term import Term
from drumbeat.memory import MemoryBackend
from drumbeat_conformance.guarantee import CATALOGUE
from drumbeat_conformance.run import Result

#: What the clock must not be needed for: they are broken on the machine's clock as well.
BROKEN_IN_REAL_TIME = (
    "believes-in-a-local-flag",
    "counts-from-the-answer",
    "lives-to-the-last-moment",
    "refuses-what-it-has",
    "stops-beating-after-a-failure",
    "touches-the-seat-of-another",
)


def run(*mutants: Mutant, choice: Choice | None = None) -> Results:
    """Run mutants, and the sound backend beside them."""
    with Bench(choice=choice or Choice(quick=True)) as bench:
        controls, reports = bench.run(mutants)
    return Results(mutants={one.name: one for one in mutants}, reports=reports, controls=controls, catalogue=CATALOGUE)


def sample(name: str) -> Mutant:
    """Return a mutant of the tests' own."""
    return MUTANTS[f"sample-{name}"]


def test_a_mutant_is_killed_and_the_sound_backend_is_not() -> None:
    """A bug makes its guarantee fail in its own process alone: the sound backend beside it passes the whole tier."""
    results = run(sample("killed"), choice=Choice())
    assert complaints(results) == []
    assert kills(results, "sample-killed") == ["LEAD-5"]
    assert set(results.controls["memory"].findings) == set(results.reports["sample-killed"].findings)
    assert len(results.controls["memory"].findings) > 100


def test_a_harmless_mutant_survives() -> None:
    """What breaks nothing is not killed, and fails the run by name, bug and promise."""
    [found] = complaints(run(sample("harmless")))
    assert "sample-harmless of memory (A resign is as it was.) survives LEAD-5" in found
    assert CATALOGUE["LEAD-5"].title in found


def test_an_unreached_patch_is_found() -> None:
    """A patched attribute that nothing calls is named, though the mutant dies of another."""
    [found] = complaints(run(sample("unreached")))
    assert "sample-unreached" in found
    assert "nothing called MemoryBackend.forget_store" in found


def test_a_hanging_mutant_is_bounded_and_counts_as_killed() -> None:
    """A bug that hangs is ended after the limit, counts as a failure of the guarantee, and does not stop the run."""
    results = run(sample("hanging"), choice=Choice(quick=True, fake_limit=2.0))
    assert kills(results, "sample-hanging") == ["LEAD-5"]
    assert "hangs for 2 s" in results.reports["sample-hanging"].findings["LEAD-5"].reason
    assert complaints(results) == []


def test_a_mutant_that_ends_its_process_is_no_kill() -> None:
    """A bug that ends the whole process proves nothing of a guarantee, and fails the run."""
    [found] = complaints(run(sample("ending")))
    assert "ended with code 7" in found


def test_what_is_not_there_cannot_be_broken() -> None:
    """A mutant of an attribute that does not exist fails the run, and says which one it is."""
    [found] = complaints(run(sample("crashing")))
    assert "there is no MemoryBackend.no_such_method to break" in found


def test_named_guarantees_alone_are_tested_in_real_time() -> None:
    """Where time is real, a mutant is tested on the guarantees that it names, unless all are asked for."""
    results = run(sample("real"))
    assert list(results.reports["sample-real"].findings) == ["LEAD-5"]
    everything = Choice(full=True).plan("local", ["LEAD-5"]).guarantees
    assert set(everything) == set(CATALOGUE)
    assert everything[0] == "LEAD-5"


def test_what_fails_on_the_sound_backend_is_judged_again_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guarantee that fails on the sound backend beside others counts by its second run, and so does what it kills."""
    judged: list[tuple[str, tuple[str, ...]]] = []

    def judge(_: Bench, plan: Plan, *, address: str = "") -> Report:
        judged.append((address.rpartition(":")[2], plan.guarantees))
        again = len(judged) > 2
        result: Result = "passed" if again and not address else "failed"
        return Report(findings={"LEAD-5": Finding(result, "LEAD-5: it is slow")})

    monkeypatch.setattr(Bench, "_test", judge)
    assert complaints(run(sample("killed"))) == []
    assert judged[2:] == [("", ("LEAD-5",)), ("sample-killed", ("LEAD-5",))]


def test_mutants_are_killed_on_the_clock_of_the_machine() -> None:
    """It is not the fake clock that reveals bugs: these are killed in real time too."""
    results = run(*(load(["core", "peers"])[name] for name in BROKEN_IN_REAL_TIME), choice=Choice(real_time=True))
    assert complaints(results) == []


def test_all_modules_load() -> None:
    """Every module of mutants can be loaded, names each mutant once, and all thirteen faults of the peers are there."""
    mutants = load(modules())
    assert set(modules()) <= {one.module for one in mutants.values()}
    assert {f"peers {number}" for number in PEERS} <= {one.like for one in mutants.values()}


def test_a_patch_keeps_what_an_attribute_is() -> None:
    """Hooks stay hooks, properties stay properties, and methods of the class stay such, whatever is put in."""
    patch = Patch()
    hook = MemoryBackend.__dict__["resign"]
    before = {(owner, name): vars(owner)[name] for owner, name in PATCHED}
    try:
        patch(MemoryBackend, "resign", lambda _self, _lease, _seat: None)
        patch(Term, "held", lambda _self: True)
        patch.wrap(MemoryBackend, "forget_store", lambda original, cls, name: original(cls, name))
        patch(memory, "DEFAULT_NAME", "another")
        assert MemoryBackend.__dict__["resign"].drumbeat_impl == hook.drumbeat_impl
        assert isinstance(Term.__dict__["held"], property)
        assert MemoryBackend.forget_store("nobody has it") is False
        assert patch.counted == ["MemoryBackend.resign", "Term.held", "MemoryBackend.forget_store"]
    finally:
        for (owner, name), old in before.items():
            setattr(owner, name, old)


PATCHED = ((MemoryBackend, "resign"), (Term, "held"), (MemoryBackend, "forget_store"), (memory, "DEFAULT_NAME"))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("Two Leaders", {"breaks": "LEAD-1"}, "is no name of a mutant"),
        ("sample-killed", {"breaks": "LEAD-1"}, "stands in samples already"),
        ("two-leaders", {"breaks": "LEAD-1", "of": "mysql"}, "is of 'mysql', which is none of"),
        ("two-leaders", {"breaks": ()}, "must name the guarantees that it breaks"),
    ],
)
def test_a_bad_mutant_is_refused(name: str, options: dict[str, str], said: str) -> None:
    """A mutant with a bad or taken name, an unknown backend, or no guarantee is refused where it is written."""

    def apply(patch: Patch) -> None:
        """Nothing is wrong."""

    with pytest.raises(ValueError, match=said):
        mutant(name, **options)(apply)


def test_a_mutant_says_its_bug() -> None:
    """A mutant without a docstring is refused."""
    with pytest.raises(ValueError, match="say its bug"):
        mutant("mute", breaks="LEAD-1")(lambda _patch: None)
