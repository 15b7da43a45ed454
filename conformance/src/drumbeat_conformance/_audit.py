"""The end of a session of pytest: what it reports is held against what the engine knows, which has the last word."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Final, final

import pytest

from drumbeat_conformance._ledger import LEDGER, Ledger, selects

__all__ = ["Audit", "scope_of"]

#: A guarantee in the id that pytest gives it.
_ITEM: Final = re.compile(r"(?P<scope>.+::\w+)::test_(?P<family>[a-z]+)_(?P<number>\d+)__\w+")
#: What a worker of pytest-xdist hands over.
_FROM_WORKER: Final = "drumbeat_conformance_ledger"
#: Where there is a better reason than ours for the end of a session.
_ENDED_OTHERWISE: Final = frozenset({pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR})


def scope_of(nodeid: str) -> str | None:
    """Return the class whose guarantees must stay on one worker of pytest-xdist; None for any other test."""
    ours = _ITEM.match(nodeid)
    return ours["scope"] if ours else None


@final
class Audit:
    """The auditor of one session; register it as a plugin when pytest is configured."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._ledger = config.stash[LEDGER] = Ledger()
        self._session: pytest.Session | None = None
        # What is registered first runs last, after every hook.
        config.add_cleanup(self._have_the_last_word)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remember whose exit status it is."""
        self._session = session

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note which guarantees pytest was told to have failed."""
        ours = _ITEM.match(report.nodeid)
        if ours and report.failed:
            self._ledger.reported.add((ours["scope"], f"{ours['family'].upper()}-{ours['number']}"))

    def pytest_sessionfinish(self) -> None:
        """Hand over what a worker of pytest-xdist knows."""
        output: dict[str, object] | None = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_FROM_WORKER] = self._ledger.as_plain()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object, error: object) -> None:
        """Take what a worker of pytest-xdist knows; one that crashed makes the session fail anyway."""
        sent = getattr(node, "workeroutput", {}).get(_FROM_WORKER)
        if sent is not None:
            self._ledger.add_plain(sent)
        elif not error:
            self._ledger.silent.append(f"the worker {getattr(getattr(node, 'gateway', None), 'id', '')}")

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """Print what failed, and where the session is no verdict, in the engine's own words."""
        lines = [] if exitstatus in _ENDED_OTHERWISE else [*self._lines()]
        if lines:
            terminalreporter.section("drumbeat-conformance")
        for line in lines:
            terminalreporter.write_line(line)

    def _lines(self) -> Iterator[str]:
        if not self._config.option.collectonly:
            yield from self._problems()
            yield from self._ledger.remarks()

    def _problems(self) -> list[str]:
        return self._ledger.problems(selected=selects(self._config))

    def _have_the_last_word(self) -> None:
        session = self._session
        if session is None or self._config.option.collectonly or hasattr(self._config, "workeroutput"):
            return
        problems = self._problems() if session.exitstatus == pytest.ExitCode.OK else []
        if problems:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            sys.stderr.write("".join(f"drumbeat-conformance: {line}\n" for line in problems))
