"""A conftest.py or a plugin cannot make a run a success in which a guarantee failed, or did not run."""

from __future__ import annotations

from types import new_class

import pytest

from drumbeat import ConfigurationError
from drumbeat_conformance import Conformance

pytest_plugins = ["pytester"]
#: Each runs a pytest of its own, which loads a lot.
pytestmark = pytest.mark.timeout(240)

#: A catalogue of its own: what follows runs in a process of its own.
GUARANTEES = """
import pytest
from drumbeat_conformance import Conformance
from drumbeat_conformance.guarantee import CATALOGUE, catalogue, guarantee

catalogue()
CATALOGUE.clear()

def enter(number, body):
    def check(arena):
        body(arena)
    check.__name__ = f"number_{number}"
    check.__doc__ = f"What {number} promises."
    guarantee(f"CASE-{number}")(check)

def fails(arena):
    raise AssertionError("it does not hold")
"""
A_CLASS = "class TestMine(Conformance):\n    target = 'memory'\n"
ONE_CLASS = GUARANTEES + "for number in range(1, 5):\n    enter(number, lambda arena: None)\n\n" + A_CLASS
ONE_FAILS = GUARANTEES + "enter(1, fails)\nenter(2, lambda arena: None)\n" + A_CLASS
WHITEWASH = """
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.outcome, report.longrepr = "passed", None
    return report
"""
TAKE_OVER = """
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    report = pytest.TestReport(item.nodeid, item.location, {}, "passed", None, "call")
    item.ihook.pytest_runtest_logreport(report=report)
    return True
"""
TAKE_OVER_ONE = TAKE_OVER.replace(
    "    report =", "    if '1__' not in item.name:\n        return None\n    report =", 1
)
DROP = "def pytest_collection_modifyitems(items):\n    del items[0]\n"
NO_LOOP = "def pytest_runtestloop(session):\n    return True\n"
STATUS = """
@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    yield
    session.exitstatus = 0
def pytest_unconfigure(config):
    config.add_cleanup(lambda: None)
"""
EXIT = "def pytest_sessionfinish(session):\n    pytest.exit('all is well', returncode=0)\n"
LOGGED = """
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report):
    report.outcome = "passed"
"""
CATEGORY = "def pytest_report_teststatus(report):\n    return 'passed', '.', 'PASSED'\n"


@pytest.fixture
def quiet(pytester: pytest.Pytester) -> pytest.Pytester:
    """A folder to run pytest in, without the options that this run was given."""
    pytester.makeini("[pytest]\n")
    return pytester


@pytest.mark.parametrize(
    ("hook", "options", "said"),
    [
        (WHITEWASH, [], "*TestMine: CASE-1 failed, and pytest was not told*"),
        (WHITEWASH, ["-n", "2"], "*TestMine: CASE-1 failed, and pytest was not told*"),
        (LOGGED, [], "*TestMine: CASE-1 failed, and pytest was not told*"),
        (TAKE_OVER, [], "*TestMine: CASE-1, CASE-2 did not run, *"),
        (TAKE_OVER, ["-n", "2"], "*TestMine: CASE-1, CASE-2 did not run, *"),
        (TAKE_OVER_ONE, [], "*TestMine: CASE-1 failed, and pytest was not told*"),
        (DROP, [], "*TestMine: CASE-1 did not run, *"),
        (DROP, ["-n", "2"], "*TestMine: CASE-1 did not run, *"),
        (NO_LOOP, [], "*TestMine: CASE-1, CASE-2 did not run, *"),
        (STATUS, [], "*TestMine: 1 of 2 guarantees failed: CASE-1*"),
        (EXIT, [], "*TestMine: 1 of 2 guarantees failed: CASE-1*"),
        (CATEGORY, [], "*TestMine: 1 of 2 guarantees failed: CASE-1*"),
        (WHITEWASH, ["-p", "no:terminal"], "*TestMine: CASE-1 failed, and pytest was not told*"),
    ],
    ids=[
        "report",
        "report-xdist",
        "logged-report",
        "protocol",
        "protocol-xdist",
        "one-protocol",
        "dropped",
        "dropped-xdist",
        "loop",
        "status",
        "exit",
        "category",
        "no-terminal",
    ],
)
def test_the_engine_has_the_last_word(quiet: pytest.Pytester, hook: str, options: list[str], said: str) -> None:
    """Whatever hooks make of tests and reports, a guarantee that failed or did not run fails the session, by its id."""
    quiet.makeconftest(f"import pytest\n{hook}")
    quiet.makepyfile(ONE_FAILS)
    result = quiet.runpytest_subprocess(*options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    pytest.LineMatcher([*result.outlines, *result.errlines]).fnmatch_lines([said])


@pytest.mark.parametrize("options", [["-k", "CASE-3"], ["--deselect", "test_it.py::TestMine::test_case_3__number_3"]])
def test_a_selection_is_no_verdict(quiet: pytest.Pytester, options: list[str]) -> None:
    """Who selects on the command line may, and is told that this is no verdict on the backend."""
    quiet.makepyfile(test_it=ONE_CLASS)
    result = quiet.runpytest_subprocess(*options)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*::TestMine: [13] of 4 guarantees ran: this is no verdict"])


def test_a_whole_run_says_nothing_more(quiet: pytest.Pytester) -> None:
    """Where all ran and hold, there is nothing to add, also with workers and beside other tests."""
    quiet.makepyfile(ONE_CLASS + "def test_other():\n    pass\n")
    result = quiet.runpytest_subprocess("-n", "2")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*= drumbeat-conformance =*")


@pytest.mark.parametrize("where", ["settings", "environment", "hook"])
@pytest.mark.parametrize(
    "options",
    ["-k CASE-3", "--deselect test_it.py::TestMine::test_case_3__number_3", "-m nobody"],
    ids=lambda it: it[:2],
)
def test_a_selection_that_nobody_sees(
    quiet: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, where: str, options: str
) -> None:
    """What a settings file, the environment or a hook leaves out is missing, whatever they make of the options."""
    quiet.makepyfile(test_it=ONE_CLASS + "def test_other():\n    pass\n")
    if where == "settings":
        quiet.makeini(f"[pytest]\naddopts = {options}\nmarkers = nobody")
    elif where == "environment":
        monkeypatch.setenv("PYTEST_ADDOPTS", options)
        quiet.makeini("[pytest]\nmarkers = nobody")
    else:
        quiet.makeconftest(
            "def pytest_collection_modifyitems(config, items):\n    del items[1]\n    config.args.append('x::y')\n"
            "    config.option.keyword = 'x'\n"
        )
    result = quiet.runpytest_subprocess()
    assert result.ret not in {pytest.ExitCode.OK, pytest.ExitCode.USAGE_ERROR}
    result.stdout.fnmatch_lines(["*TestMine: CASE-* did not run, though the command line leaves out nothing: *"])


def test_the_auditor_cannot_be_switched_off(quiet: pytest.Pytester) -> None:
    """Switching off what has the last word is refused."""
    quiet.makepyfile(ONE_FAILS)
    result = quiet.runpytest_subprocess("-p", "no:drumbeat_conformance_audit")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*nobody would hold what pytest reports against what was tested*"])


UNREGISTER = """
def pytest_sessionstart(session):
    session.config.pluginmanager.unregister(name="drumbeat_conformance_audit")
def pytest_collection_modifyitems(items):
    del items[0]
"""
FORGET = """
def pytest_sessionfinish(session):
    session.exitstatus = 0
    auditor = session.config.pluginmanager.get_plugin("drumbeat_conformance_audit")
    for name in list(vars(auditor)):
        setattr(auditor, name, None)
    for item in session.items:
        for name, value in vars(item.parent).items():
            getattr(value, "results", {}).clear()
    for key in list(session.config.stash._storage):
        for name in getattr(session.config.stash[key], "__dict__", {}):
            setattr(session.config.stash[key], name, {})
"""


@pytest.mark.parametrize("hook", [UNREGISTER, FORGET], ids=["unregistered", "forgotten"])
def test_what_hooks_are_handed_holds_no_accounts(quiet: pytest.Pytester, hook: str) -> None:
    """Whoever takes away the auditor, or clears all that hooks can reach, changes nothing about the last word."""
    quiet.makeconftest(hook)
    quiet.makepyfile(ONE_FAILS)
    result = quiet.runpytest_subprocess("-p", "no:terminal")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "CASE-1" in result.stderr.str()


def test_a_class_that_leaves_out_all(quiet: pytest.Pytester) -> None:
    """A class of which nothing could be tested fails, as the command does."""
    quiet.makepyfile(
        ONE_CLASS.replace('CASE-{number}")', "CASE-{number}\", scheme='other')", 1) + "def test_other():\n    pass\n"
    )
    result = quiet.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*TestMine: everything was left out, so nothing was tested*", "*1 passed, 4 skipped*"])


def test_in_process_is_for_stores_in_memory() -> None:
    """A class cannot say of a store that other processes reach that none does, as the command cannot."""
    with pytest.raises(ConfigurationError, match="other processes reach a store of local://"):
        new_class("TestIt", (Conformance,), exec_body=lambda body: body.update(target="local", in_process=True))


REPLACES = "import drumbeat_conformance.run as run\nrun.raised_by = lambda *_, **__: None\n"


@pytest.mark.parametrize("when", ["before", "within"])
def test_a_replaced_engine_is_noticed(quiet: pytest.Pytester, when: str) -> None:
    """A check that must fail passes, first or last: the class fails, and says so once in full."""
    code = ONE_CLASS.replace("enter(number, lambda arena: None)", "enter(number, lambda arena: fool())")
    fool = "def fool():\n" + "".join(f"    {line}\n" for line in REPLACES.splitlines())
    quiet.makepyfile(code.replace(A_CLASS, fool + ("fool()\n" if when == "before" else "") + A_CLASS))
    result = quiet.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*a check that must fail passed*"])
    if when == "before":
        assert len([line for line in result.outlines if line.startswith("E  ")]) == 1
        result.stdout.fnmatch_lines(["TestMine could not begin: Blind, shown above"])


@pytest.mark.parametrize("options", [[], ["-s"], ["--capture=sys"]])
def test_an_exit_that_asks_nobody(quiet: pytest.Pytester, options: list[str]) -> None:
    """`os._exit(0)` during a run ends with 70 and a line, a forked child's does not."""
    body = "import os\ndef out(arena):\n    if os.fork() == 0:\n        os._exit(0)\n    os.wait()\n    os._exit(0)\n"
    quiet.makepyfile(GUARANTEES + body + "enter(1, out)\n" + A_CLASS)
    result = quiet.runpytest_subprocess(*options)
    assert result.ret == 70
    assert result.stderr.str().count("os._exit(0) while guarantees were being tested: no verdict") == 1


def test_an_exit_before_the_first_guarantee(quiet: pytest.Pytester) -> None:
    """Nor does a backend that exits as it is made end the run in silence."""
    quiet.makepyfile(mine="import os\n" + BACKEND.format("os._exit(0)"))
    quiet.makepyfile(
        test_it=GUARANTEES + "from mine import MyBackend\nenter(1, lambda arena: None)\n" + A_CLASS + "    target ="
        " 'mine://x'\n    factory = MyBackend\n"
    )
    quiet.syspathinsert()
    result = quiet.runpytest_subprocess()
    assert result.ret == 70
    assert result.stderr.str().count("os._exit(0) while guarantees were being tested: no verdict") == 1


BACKEND = """
import signal
from drumbeat.cas import MemoryCasBackend
class MyBackend(MemoryCasBackend):
    def __init__(self, config):
        super().__init__(config)
        {0}
"""


@pytest.mark.parametrize("code", ["raise SystemExit(0)", "raise KeyboardInterrupt", "pytest.exit('x', returncode=0)"])
def test_a_backend_cannot_end_the_run(quiet: pytest.Pytester, code: str) -> None:
    """A backend that raises what would end the session fails it, and is named as the one that raised."""
    quiet.makepyfile(mine="import pytest\n" + BACKEND.format(code))
    quiet.makepyfile(
        test_it=GUARANTEES + "from mine import MyBackend\nenter(1, lambda arena: None)\n" + A_CLASS + "    target ="
        " 'mine://x'\n    factory = MyBackend\n"
    )
    quiet.syspathinsert()
    result = quiet.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["*TestMine: the run could not begin: making the backend and asking it what it is failed: *"]
    )
