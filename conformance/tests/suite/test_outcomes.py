"""Outcomes in pytest's words, whatever a guarantee, a conftest.py or an option tries."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]
#: Each runs a pytest of its own, which loads a lot.
pytestmark = pytest.mark.timeout(240)

#: A catalogue of its own: what follows runs in a process of its own.
GUARANTEES = '''
import importlib, os, time, unittest
import pytest
from drumbeat_conformance import Conformance, KnownFailure, Target
from drumbeat_conformance.guarantee import CATALOGUE, Needs, catalogue, guarantee
from drumbeat.hookspecs import Capability

catalogue()
CATALOGUE.clear()
KNOWN = KnownFailure("slow disk", "https://example.org/issues/1")

def enter(number, body, **options):
    def check(arena):
        """What {number} promises, on
        two lines.

        And more."""
        note(number)
        body(arena)
    check.__name__ = f"number_{number}"
    check.__doc__ = check.__doc__.format(number=number)
    guarantee(f"CASE-{number}", **options)(check)

def note(number):
    with open("ran", "a") as file:
        file.write(f"{number} {os.getpid()}\\n")

def fails(arena):
    found = 1
    assert 2 == found, "two were expected"

def interrupt():
    raise KeyboardInterrupt
'''

CASES = (
    GUARANTEES
    + """
enter(1, lambda arena: None)
enter(2, fails)
enter(3, lambda arena: pytest.skip("not today"))
enter(4, lambda arena: exec('raise unittest.SkipTest("not today")'))
enter(5, lambda arena: pytest.importorskip("no_such_module"))
enter(6, lambda arena: pytest.xfail("not today"))
enter(7, fails)
enter(8, lambda arena: None)
enter(9, lambda arena: time.sleep(5), limit=0.2)
enter(10, lambda arena: None, level="should", claim=Capability.VOLATILE)
enter(11, lambda arena: None, needs=Needs.SERVER)
enter(12, lambda arena: None, scheme="redis")
enter(13, lambda arena: sys.exit(0))
enter(14, lambda arena: interrupt())
enter(15, lambda arena: pytest.exit("all is well"))
enter(16, fails, tier="faults")

class TestMine(Conformance):
    target = "memory"
    known_failures = {"CASE-7": KNOWN, "CASE-8": KNOWN}
"""
)

PLAIN = GUARANTEES + "for number in range(1, 5):\n    enter(number, lambda arena: None)\n\n"
A_CLASS = "class TestMine(Conformance):\n    target = 'memory'\n"
ONE_CLASS = PLAIN + A_CLASS


def outcomes(path: Path) -> dict[str, tuple[str, str]]:
    """Return the outcome and the message of each guarantee, from JUnit's file."""
    found = {}
    for case in ET.parse(path).iter("testcase"):  # noqa: S314 - pytest wrote it
        problems = [*case.findall("failure"), *case.findall("error"), *case.findall("skipped")]
        result = (problems[0].get("type") or problems[0].tag) if problems else "passed"
        message = str(problems[0].get("message")) if problems else ""
        found[str(case.get("name"))] = (result, message)
    return found


def ran(folder: Path) -> list[tuple[str, str]]:
    """Return the number and the process of each guarantee that was tested."""
    if not (folder / "ran").exists():
        return []
    return [(line.split()[0], line.split()[1]) for line in (folder / "ran").read_text().splitlines()]


@pytest.fixture
def quiet(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder to run pytest in, without the options that this run was given."""
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def test_each_outcome_in_pytests_words(quiet: pytest.Pytester) -> None:
    """A skip, an exit or anything else that is raised is a failure; what is left out is told by the suite alone."""
    quiet.makepyfile(CASES)
    result = quiet.runpytest_subprocess("--junitxml=found.xml", "-v")
    found = outcomes(quiet.path / "found.xml")
    results = {name.partition("__")[0]: result for name, (result, _) in found.items()}
    broken = {f"test_case_{number}": "failure" for number in (2, 3, 4, 5, 6, 8, 9, 13, 14, 15)}
    left_out = {f"test_case_{number}": "pytest.skip" for number in (10, 11, 12)}
    assert {"test_case_1": "passed", "test_case_7": "pytest.xfail", **broken, **left_out} == results
    result.assert_outcomes(passed=1, failed=10, skipped=3, xfailed=1)
    assert result.ret == 1


def test_each_failure_names_the_guarantee(quiet: pytest.Pytester) -> None:
    """A message begins with the id and the promise; the promise stands in full below the values that were compared."""
    quiet.makepyfile(CASES)
    result = quiet.runpytest_subprocess("--junitxml=found.xml")
    found = outcomes(quiet.path / "found.xml")
    for name, (result_, message) in found.items():
        number = name.split("_")[2]
        if result_ == "failure" and number != "8":
            assert message.startswith(f"CASE-{number}: What {number} promises, on two lines.")
    result.stdout.fnmatch_lines(
        ["*assert 2 == found, *", "*two were expected*", "*CASE-2 does not hold*", "What 2 pro*"]
    )
    assert "hangs for 0.2 s" in found["test_case_9__number_9"][1]
    assert (
        "declared as a known failure (slow disk; https://example.org/issues/1) but holds"
        in (found["test_case_8__number_8"][1])
    )
    assert found["test_case_7__number_7"][1] == "slow disk (https://example.org/issues/1)"
    assert found["test_case_10__number_10"][1] == "not claimed: volatile"
    assert found["test_case_11__number_11"][1] == "there is no server"
    assert found["test_case_12__number_12"][1] == "concerns redis:// alone"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-k", "CASE-2"], ["2"]),
        (["-k", "CASE and not case_1__"], ["2", "3", "4"]),
        (["--deselect", "test_it.py::TestMine::test_case_3__number_3"], ["1", "2", "4"]),
        (["test_it.py::TestMine::test_case_4__number_4"], ["4"]),
        (["-n", "2"], ["1", "2", "3", "4"]),
        (["-n", "2", "--dist=worksteal"], ["1", "2", "3", "4"]),
        (["-n", "2", "--dist=loadgroup"], ["1", "2", "3", "4"]),
        (["-n", "2", "--dist=loadscope"], ["1", "2", "3", "4"]),
    ],
    ids=" ".join,
)
def test_only_what_was_selected_is_tested(quiet: pytest.Pytester, options: list[str], expected: list[str]) -> None:
    """Selected guarantees are tested once each, all in one process, also with pytest-xdist; others are not tested."""
    quiet.makepyfile(test_it=ONE_CLASS)
    result = quiet.runpytest_subprocess(*options)
    result.assert_outcomes(passed=len(expected), deselected=4 - len(expected) if options[0].startswith("-") else 0)
    assert expected == sorted(number for number, _ in ran(quiet.path))
    assert len({process for _, process in ran(quiet.path)}) == 1


def test_the_first_failure_can_end_it(quiet: pytest.Pytester) -> None:
    """With `-x` the run ends after the first item that fails, and soon; what failed beside it is nobody's trick."""
    quiet.makepyfile(
        GUARANTEES + "enter(1, fails)\nenter(2, fails)\nclass TestMine(Conformance):\n    target = 'memory'\n"
    )
    result = quiet.runpytest_subprocess("-x")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines("*TestMine: CASE-2 failed too, *")
    result.stdout.no_fnmatch_line("*took over*")


def test_a_class_without_a_target_is_no_success(quiet: pytest.Pytester) -> None:
    """A class that names no target, and from which none is made, fails, also beside tests that pass."""
    lone = "from drumbeat_conformance import Conformance\nclass TestMine(Conformance):\n    lease_ttl = 1.0\n"
    quiet.makepyfile(lone + "def test_other():\n    pass\n")
    result = quiet.runpytest_subprocess()
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines("*TestMine names no target, *")


def test_a_base_without_a_target_is_one(quiet: pytest.Pytester) -> None:
    """A class that names no target may be what others are made from."""
    quiet.makepyfile(
        GUARANTEES
        + "enter(1, lambda arena: None)\nclass TestBase(Conformance):\n    lease_ttl = 1.0\n"
        + "class TestMine(TestBase):\n    target = 'memory'\n"
    )
    quiet.runpytest_subprocess().assert_outcomes(passed=1)


def test_nothing_selected_is_no_success(quiet: pytest.Pytester) -> None:
    """A selection that matches nothing fails the run."""
    quiet.makepyfile(ONE_CLASS)
    assert quiet.runpytest_subprocess("-k", "CASE-9").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_an_empty_catalogue_is_an_error(quiet: pytest.Pytester) -> None:
    """A class whose tiers hold no guarantee is an error, also beside tests that pass."""
    quiet.makepyfile(ONE_CLASS + "    tiers = ('faults',)\n\ndef test_other():\n    pass\n")
    result = quiet.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*TestMine collects no guarantee*"])


def test_without_the_plugin_the_class_fails(quiet: pytest.Pytester) -> None:
    """Where the plugin is switched off, the class fails rather than being passed over."""
    quiet.makepyfile(
        "from drumbeat_conformance import Conformance\nclass TestMine(Conformance):\n    target = 'memory'\n"
    )
    result = quiet.runpytest_subprocess("-p", "no:drumbeat_conformance")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*plugin `drumbeat_conformance` is switched off*"])


def test_markers_of_the_module_are_refused(quiet: pytest.Pytester) -> None:
    """A marker that hides is refused too when it stands above the class."""
    quiet.makepyfile(PLAIN + "pytestmark = pytest.mark.skip\n" + A_CLASS)
    result = quiet.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_case_1__number_1 is marked skip*"])


@pytest.mark.parametrize(
    "hook",
    [
        "def pytest_runtest_setup(item):\n    pytest.skip('not here')\n",
        "def pytest_runtest_call(item):\n    pytest.skip('not here')\n",
        "def pytest_collection_modifyitems(items):\n    items[0].add_marker(pytest.mark.skip)\n",
        "def pytest_collection_modifyitems(items):\n    items[0].add_marker(pytest.mark.xfail)\n",
        (
            "@pytest.hookimpl(trylast=True)\n"
            "def pytest_collection_modifyitems(items):\n    items[0].add_marker(pytest.mark.xfail)\n"
        ),
        "def pytest_runtest_setup(item):\n    pytest.xfail('not here')\n",
        "@pytest.fixture(autouse=True)\ndef no():\n    pytest.skip('not here')\n",
    ],
    ids=["setup", "call", "skip-marker", "xfail-marker", "late-xfail-marker", "xfail-in-setup", "fixture"],
)
def test_a_conftest_cannot_skip(quiet: pytest.Pytester, hook: str) -> None:
    """Whatever a conftest.py does to skip a guarantee, or to have it expected to fail, ends in a failure."""
    quiet.makeconftest(f"import pytest\n{hook}")
    quiet.makepyfile(GUARANTEES + "enter(1, fails)\n" + A_CLASS)
    result = quiet.runpytest_subprocess()
    assert result.parseoutcomes() in ({"failed": 1}, {"errors": 1})
    assert result.ret != 0


def test_other_tests_are_left_alone(quiet: pytest.Pytester) -> None:
    """Tests beside the class keep their skips, their marks and their outcomes."""
    quiet.makepyfile(
        ONE_CLASS
        + "@pytest.mark.skip\ndef test_a(): pass\n\n@pytest.mark.xfail\ndef test_b(): assert 0\n\ndef test_c(): pass\n"
    )
    quiet.runpytest_subprocess("-n", "2").assert_outcomes(passed=5, skipped=1, xfailed=1)


def test_a_class_without_target_is_only_a_base(quiet: pytest.Pytester) -> None:
    """A base class collects nothing; each class that names a target is a run of its own."""
    quiet.makepyfile(
        PLAIN
        + "class TestBase(Conformance):\n    lease_ttl = 2.0\n\n"
        + "class TestA(TestBase):\n    target = 'memory'\n\nclass TestB(TestBase):\n    target = 'local'\n"
    )
    quiet.runpytest_subprocess().assert_outcomes(passed=8)


@pytest.mark.parametrize(("options", "expected"), [([], {"skipped": 4}), (["--require-servers"], {"errors": 4})])
def test_a_server_that_cannot_run(
    quiet: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: dict[str, int]
) -> None:
    """Where this machine has no way to run the server, the class is left out, or fails if servers are required."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("DRUMBEAT_TEST_REQUIRE_SERVERS", raising=False)
    quiet.makepyfile(PLAIN + "class TestMine(Conformance):\n    target = 'redis'\n")
    quiet.runpytest_subprocess("--servers=program", *options).assert_outcomes(**expected)


def test_a_server_that_does_not_answer(quiet: pytest.Pytester) -> None:
    """A URL where nobody listens is an error of every test, in Drumbeat's words."""
    quiet.makepyfile(PLAIN + "class TestMine(Conformance):\n    target = 'redis://127.0.0.1:1'\n")
    result = quiet.runpytest_subprocess("-rE")
    result.assert_outcomes(errors=4)
    result.stdout.fnmatch_lines(["*nobody listens at 127.0.0.1:1*"])


def test_an_unregistered_backend(quiet: pytest.Pytester) -> None:
    """A backend that no package announces is tested by its class, in other processes too, and gone afterwards."""
    quiet.makepyfile(
        mine="from drumbeat.cas import MemoryCasBackend\nclass MyBackend(MemoryCasBackend):\n    server = 'mine'\n",
        test_it=GUARANTEES
        + """
import subprocess, sys, drumbeat
from mine import MyBackend

def connects(arena):
    command = "import drumbeat; print(drumbeat.connect('mine://x', on_empty_store='trust').backend.server)"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert arena.connect().backend.server == done.stdout.strip() == "mine"

enter(1, connects)

class TestMine(Conformance):
    target = "mine://here"
    factory = MyBackend

def test_it_is_gone():
    with pytest.raises(drumbeat.ConfigurationError):
        drumbeat.connect("mine://here")
""",
    )
    quiet.syspathinsert()
    quiet.runpytest_subprocess().assert_outcomes(passed=2)


def test_what_others_raise_is_shown_whole(quiet: pytest.Pytester) -> None:
    """A failure that is not the guarantee's own, such as pytest's about two objects left open, names its causes."""
    left_open = "    for _ in range(2):\n        socket.socket()"
    quiet.makepyfile(GUARANTEES + f"import socket\ndef leaves(arena):\n{left_open}\nenter(1, leaves)\n" + A_CLASS)
    result = quiet.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*multiple unraisable exception warnings*", "*unclosed <socket.socket*"])


def test_the_promise_is_shown(quiet: pytest.Pytester) -> None:
    """`--collect-only -v` prints each guarantee with its promise."""
    quiet.makepyfile(ONE_CLASS)
    result = quiet.runpytest_subprocess("--collect-only", "-v")
    result.stdout.fnmatch_lines(["*GuaranteeItem test_case_2__number_2*", "*What 2 promises, on*"])
