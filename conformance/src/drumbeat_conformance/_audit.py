"""The end of a session of pytest: what it reports is held against what the engine knows, which has the last word."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from typing import Final, final

import pytest

from drumbeat_conformance._ledger import begin, ledger_of, selects

__all__ = ["AUDIT", "audited", "scope_of"]

#: The name of the plugin that holds pytest's reports against what the engine knows.
AUDIT: Final = "drumbeat_conformance_audit"
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
    """The auditor of one session; `audited` registers it as a plugin."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remember whose exit status it is."""
        ledger_of(self._config).session = session

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note which guarantees pytest was told to have failed."""
        ours = _ITEM.match(report.nodeid)
        if ours and report.failed:
            ledger_of(self._config).reported.add((ours["scope"], f"{ours['family'].upper()}-{ours['number']}"))

    def pytest_sessionfinish(self) -> None:
        """Hand over what a worker of pytest-xdist knows."""
        output: dict[str, object] | None = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_FROM_WORKER] = ledger_of(self._config).as_plain()

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object, error: object) -> None:
        """Take what a worker of pytest-xdist knows; one that crashed makes the session fail anyway."""
        sent = getattr(node, "workeroutput", {}).get(_FROM_WORKER)
        ledger = ledger_of(self._config)
        if sent is not None:
            ledger.add_plain(sent)
        elif not error:
            ledger.silent.append(f"the worker {getattr(getattr(node, 'gateway', None), 'id', '')}")

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
            ledger = ledger_of(self._config)
            yield from ledger.problems(selected=selects(self._config))
            yield from ledger.remarks()


def audited(config: pytest.Config) -> None:
    """Have a session audited; raise UsageError if it must not be."""
    ledger, selected = begin(config), selects(config)

    def have_the_last_word() -> None:
        session = ledger.session
        if session is None or config.option.collectonly or hasattr(config, "workeroutput") or ledger.dismissed:
            return
        problems = ledger.problems(selected=selected) if session.exitstatus == pytest.ExitCode.OK else []
        if problems:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            sys.stderr.write("".join(f"drumbeat-conformance: {line}\n" for line in problems))

    # What is registered first runs last, after every hook.
    config.add_cleanup(have_the_last_word)
    if config.pluginmanager.register(Audit(config), AUDIT) is None:
        raise pytest.UsageError(
            f"-p no:{AUDIT}: nobody would hold what pytest reports against what was tested; leave that out"
        )
