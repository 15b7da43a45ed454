"""A pytest session within the command line: pytest rewrites the assertions, counts, and writes JUnit's file."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import pytest
from _pytest._code.code import ExceptionChainRepr, ReprEntry

from drumbeat import DrumbeatError
from drumbeat_conformance._ledger import dismiss
from drumbeat_conformance._where import portable
from drumbeat_conformance.cli._errors import UNEXPECTED, NoVerdict, plain
from drumbeat_conformance.plugin import ANNOUNCERS, AUDIT, LISTENERS, GuaranteeItem, GuaranteesOfClass

if TYPE_CHECKING:
    from types import FrameType

    from drumbeat_conformance.cli._asked import Asked
    from drumbeat_conformance.cli._journal import Journal
    from drumbeat_conformance.run import Outcome, Run
    from drumbeat_conformance.suite import Conformance

__all__ = ["Session", "test_class"]

_HERE: Final = Path(__file__).parent
#: What pytest would take from the environment: options, and plugins to load.
_FOR_PYTEST: Final = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")
_made: list[type[Conformance]] = []


def test_class() -> type[Conformance]:
    """Return the class of the session that runs."""
    return _made[-1]


class Session:
    """One run of pytest for what was asked; `tell` is called with each outcome as soon as it is known."""

    def __init__(self, asked: Asked, *, tell: Callable[[Run, Outcome], None], journal: Journal) -> None:
        self._asked = asked
        self._listeners: list[Callable[[Run, Outcome], None]] = [journal.ended, self._listen, tell]
        self._announcers: list[Callable[[str], None]] = [journal.began]
        #: What came of it, in the order in which outcomes became known.
        self.outcomes: list[Outcome] = []
        #: The text of each failure, by the guarantee's id.
        self.failures: dict[str, str] = {}
        self._raised: dict[str, str] = {}
        self._run: Run | None = None
        self._error: BaseException | None = None

    def run(self, *, junit: Path) -> Run:
        """Test all, and have pytest write JUnit's file; raise what kept it from being tested.

        That is a ConfigurationError, an Unavailable or another DrumbeatError, and NoVerdict where outcomes are missing.
        """
        with _pytest_alone():
            status = pytest.main(self._arguments(junit), plugins=[self])
        if self._error is not None:
            raise plain(self._error) from self._error
        if status == pytest.ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        if status not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
            raise SystemExit(int(status) or UNEXPECTED)
        if self._run is None or len(self.outcomes) != len(self._run.guarantees):
            raise NoVerdict("pytest ended before all guarantees were tested", self._missing(), status=UNEXPECTED)
        return self._run

    def _missing(self) -> Iterator[str]:
        """Return how many outcomes are known, and what came in place of others."""
        yield f"{len(self.outcomes)} outcomes are known"
        known = {outcome.guarantee.id for outcome in self.outcomes}
        yield from (f"in place of {id_}'s: {raised}" for id_, raised in self._raised.items() if id_ not in known)

    def _arguments(self, junit: Path) -> list[str]:
        ours = tuple(f"drumbeat_conformance.{name}" for name in ("cli._rewriting", "plugin", "servers.plugin"))
        return [
            *("--disable-plugin-autoload", "--import-mode=importlib", "--tb=short", "-p", "no:cacheprovider"),
            *(word for name in ours for word in ("-p", name)),
            # Lists in full: there is nobody who could ask for more by `-v`.
            *("-o", "verbosity_assertions=2"),
            *("-c", os.devnull, f"--rootdir={_HERE}"),
            *("--noconftest", f"--junitxml={junit}"),
            str(_HERE / "_given.py"),
        ]

    # Hooks of pytest ----------------------------------------------------------------------------------------

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Print in our own words, and listen."""
        config.pluginmanager.unregister(name="terminalreporter")
        # It sees to it that pytest's reports agree with the outcomes, which are taken from the engine itself here.
        config.pluginmanager.unregister(name=AUDIT)
        dismiss(config)
        config.stash[LISTENERS] = self._listeners
        config.stash[ANNOUNCERS] = self._announcers
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _end)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool | None:
        """Make the class only now, when assertions are rewritten."""
        try:
            _made.append(self._asked.test_class())
        except DrumbeatError as error:
            self._error = error
            session.items = []
            return True
        return None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave those that were asked for."""
        from drumbeat_conformance.cli._asked import select

        chosen = {one.id for one in select(self._asked.only, self._asked.tiers)}
        items[:] = [item for item in items if isinstance(item, GuaranteeItem) and item.guarantee.id in chosen]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Name what is tested, rather than a module of ours, in JUnit's file."""
        report = yield
        if isinstance(item, GuaranteeItem) and isinstance(item.parent, GuaranteesOfClass):
            report.nodeid = f"{item.parent.plan.target.scheme}::{item.name}"
        if isinstance(report.longrepr, ExceptionChainRepr):
            _leave_out_paths(report.longrepr)
        return report

    def pytest_exception_interact(
        self, node: pytest.Item | pytest.Collector, call: pytest.CallInfo[object], report: pytest.TestReport
    ) -> None:
        """Give up when the run cannot even begin; keep the text of what broke."""
        if call.excinfo is None:
            return
        if isinstance(node, GuaranteeItem) and call.when == "call":
            self.failures[node.guarantee.id] = report.longreprtext
            self._raised[node.guarantee.id] = call.excinfo.exconly()
        elif self._error is None:
            self._error = call.excinfo.value
            node.session.shouldstop = str(call.excinfo.value)

    def _listen(self, run: Run, outcome: Outcome) -> None:
        self._run = run
        self.outcomes.append(outcome)


def _leave_out_paths(shown: ExceptionChainRepr) -> None:
    """Have a failure name modules, wherever this machine keeps them."""
    for traceback, crash, _ in shown.chain:
        locations = [entry.reprfileloc for entry in traceback.reprentries if isinstance(entry, ReprEntry)]
        for location in filter(None, [crash, *locations]):
            location.path = portable(location.path)


@contextmanager
def _pytest_alone() -> Iterator[None]:
    """Keep away what is meant for other runs of pytest."""
    before = {name: os.environ.pop(name) for name in _FOR_PYTEST if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(before)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    pytest.exit(f"ended by {signal.Signals(number).name}", returncode=128 + number)
