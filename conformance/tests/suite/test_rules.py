"""The rules of a test class: it says what is tested, and nothing about how outcomes are judged."""

from __future__ import annotations

import subprocess
import sys
from types import new_class
from typing import Any

import pytest

from drumbeat import ConfigurationError
from drumbeat_conformance import Conformance, KnownFailure, Target
from drumbeat_conformance.guarantee import Guarantee, catalogue
from drumbeat_conformance.run import Run
from drumbeat_conformance.suite import plan_of

LINK = "https://example.org/issues/1"


def make(*bases: type, **body: object) -> type:
    """Return a test class on a store in memory, with more in its body."""
    return new_class(
        "TestMine", bases or (Conformance,), exec_body=lambda own: own.update({"target": "memory", **body})
    )


def some_function(*_: object) -> None:
    """Stand for whatever a class may define."""


@pytest.mark.parametrize(
    "name",
    [
        "test_lead_3__tokens_rise_with_every_term",
        "test_mine",
        "setup_method",
        "setUp",
        "collect",
        "runtest",
        "_plan",
        "__test__",
        "__init__",
        "__init_subclass__",
        "__getattribute__",
        "pytest_runtest_setup",
    ],
)
def test_only_settings_may_be_defined(name: str) -> None:
    """A class that defines anything but a setting is refused when it is made, by the name of what it defines."""
    with pytest.raises(ConfigurationError, match=f"TestMine cannot define '{name}'"):
        make(**{name: some_function})


def test_a_misspelt_setting_names_the_real_one() -> None:
    """A setting that does not exist is refused, and the nearest one named."""
    with pytest.raises(ConfigurationError, match="did you mean 'lease_ttl'"):
        make(leasettl=1.0)


def test_nothing_is_inherited_from_others() -> None:
    """A mixin is refused before the class and behind it, also if it comes by a base class, and also an empty one."""

    class Mixin:
        pass

    for bases in [(Mixin, Conformance), (Conformance, Mixin)]:
        with pytest.raises(ConfigurationError, match="cannot inherit from Mixin"):
            make(*bases)


def test_a_base_class_may_only_hold_settings() -> None:
    """A class between may give settings, which the last one inherits; it may define nothing else."""
    between = new_class("Between", (Conformance,), exec_body=lambda own: own.update(lease_ttl=3.0))
    plan = plan_of(make(between))
    assert plan is not None
    assert plan.target.ttl == 3.0
    with pytest.raises(ConfigurationError, match="cannot define 'test_lead_3'"):
        new_class("Between", (Conformance,), exec_body=lambda own: own.update(test_lead_3=some_function))


def test_a_metaclass_of_its_own_is_refused() -> None:
    """No class may change how such classes behave."""
    meta = type("Meta", (type(Conformance),), {})
    with pytest.raises(ConfigurationError, match="cannot have a metaclass"):
        meta("TestMine", (Conformance,), {"target": "memory"})


@pytest.mark.parametrize("made", [make(), Conformance], ids=["made", "base"])
def test_a_class_is_not_changed_later(made: type) -> None:
    """What was asked for stays: neither a setting nor anything else is replaced or removed once a class is made."""
    with pytest.raises(ConfigurationError, match="cannot be changed"):
        made.target = "local"  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="cannot be changed"):
        made.collect = some_function  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="cannot be changed"):
        del made.target  # type: ignore[attr-defined]


def test_settings_are_read_when_the_class_is_made() -> None:
    """A dictionary that is changed later changes no class."""
    known = {"LEAD-3": KnownFailure("why", LINK)}
    made = make(known_failures=known)
    known.clear()
    plan = plan_of(made)
    assert plan is not None
    assert {"LEAD-3"} == set(plan.known_failures)


@pytest.mark.parametrize(
    "mark",
    [
        pytest.mark.skip,
        pytest.mark.skip(reason="no"),
        pytest.mark.skipif("True", reason="no"),
        pytest.mark.xfail,
        pytest.mark.usefixtures("x"),
    ],
    ids=["skip", "skip-with-reason", "skipif", "xfail", "usefixtures"],
)
def test_markers_that_hide_are_refused(mark: pytest.MarkDecorator) -> None:
    """Markers that keep guarantees from being tested are refused as decorators and in the body."""
    with pytest.raises(ConfigurationError, match=f"cannot be marked {mark.name}"):
        mark(make())
    for given in (mark, [mark]):
        with pytest.raises(ConfigurationError, match=f"cannot be marked {mark.name}"):
            make(pytestmark=given)


def test_other_markers_are_the_users_own() -> None:
    """A marker that selects is no rule's business."""
    made: Any = pytest.mark.timeout(60)(make())
    assert [mark.name for mark in made.pytestmark] == ["timeout"]


@pytest.mark.parametrize(
    ("reason", "link", "problem"),
    [("", LINK, "needs a reason"), ("  ", LINK, "needs a reason"), ("why", "", "needs a link"), ("why", "#4", "'#4'")],
)
def test_a_known_failure_needs_a_reason_and_a_link(reason: str, link: str, problem: str) -> None:
    """Whoever reads of a known failure finds why, and where it is followed up."""
    with pytest.raises(ConfigurationError, match=problem):
        KnownFailure(reason, link)


def test_an_unknown_id_is_refused() -> None:
    """A known failure of a guarantee that does not exist is refused, with the nearest id that does, also by a run."""
    known = {"LEAD3": KnownFailure("why", LINK)}
    with pytest.raises(ConfigurationError, match="no guarantee 'LEAD3', did you mean 'LEAD-3'"):
        make(known_failures=known)
    with pytest.raises(ConfigurationError, match="no guarantee 'LEAD3', did you mean 'LEAD-3'"):
        Run(Target.of("memory"), one(), known_failures=known)


def test_a_known_failure_is_more_than_a_text() -> None:
    """A text in place of reason and link is refused."""
    with pytest.raises(ConfigurationError, match="needs a KnownFailure"):
        make(known_failures={"LEAD-3": "it fails"})


@pytest.mark.parametrize(
    "tiers", [(), ("contracts",), "contract", ("contract", "fault")], ids=["none", "unknown", "text", "one-unknown"]
)
def test_unknown_tiers_are_refused(tiers: object) -> None:
    """A class that would collect nothing, or not what was meant, is refused."""
    with pytest.raises(ConfigurationError, match="contract, faults"):
        make(tiers=tiers)


def test_a_target_that_is_none_is_refused() -> None:
    """A name that means nothing is refused when the class is made."""
    with pytest.raises(ConfigurationError, match="'redsi' is neither a URL nor one of"):
        make(target="redsi")


def test_a_run_of_nothing_is_refused() -> None:
    """A run without a single guarantee would be a success that means nothing."""
    with pytest.raises(ConfigurationError, match="not one guarantee"):
        Run(Target.of("memory"), [])


@pytest.mark.parametrize(
    "code",
    [
        "from drumbeat_conformance import Conformance\nclass TestMine(Conformance): target = 'memory'",
        "from drumbeat_conformance import run, Target\nrun.Run(Target.of('memory'), ['one'])",
    ],
    ids=["class", "run"],
)
def test_without_assertions_nothing_is_tested(code: str) -> None:
    """`python -O`, which takes the assertions away, is refused by classes and by runs."""
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert "`python -O` leaves out the assertions" in done.stderr
    assert done.returncode != 0


def one() -> list[Guarantee]:
    """Return one guarantee."""
    return [catalogue()["LEAD-3"]]
