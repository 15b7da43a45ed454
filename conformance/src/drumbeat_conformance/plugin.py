"""The plugin that turns test classes into guarantees: collects them, runs them side by side, and tells outcomes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from inspect import getsourcefile
from typing import TYPE_CHECKING, Final, cast, final

import pytest

from drumbeat_conformance._audit import AUDIT, audited, scope_of
from drumbeat_conformance._exits import watch_for_exits
from drumbeat_conformance._ledger import Account, ledger_of

#: Where a failed assertion shall show its values.
REWRITTEN: Final = (
    "drumbeat_conformance.actor",
    "drumbeat_conformance.arena",
    "drumbeat_conformance.checker",
    "drumbeat_conformance.faults",
    "drumbeat_conformance.guarantees",
    "drumbeat_conformance.machine",
    "drumbeat_conformance.members",
    "drumbeat_conformance.waiting",
)
# Before anything that imports these.
pytest.register_assert_rewrite(*REWRITTEN)

if TYPE_CHECKING:
    from _pytest._code.code import TerminalRepr, TracebackStyle

    from drumbeat_conformance.guarantee import Guarantee
    from drumbeat_conformance.run import Outcome, Run
    from drumbeat_conformance.suite import Conformance

__all__ = ["ANNOUNCERS", "AUDIT", "LISTENERS", "REWRITTEN", "GuaranteeItem", "GuaranteesOfClass"]

#: Called with the id of each guarantee that is about to be tested, from another thread.
ANNOUNCERS: Final = pytest.StashKey[list[Callable[[str], None]]]()
#: Called with each outcome as soon as it is known, from another thread.
LISTENERS: Final = pytest.StashKey[list[Callable[["Run", "Outcome"], None]]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Begin to keep what the engine itself knows."""
    audited(config)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(
    collector: pytest.Module | pytest.Class, name: str, obj: object
) -> pytest.Collector | list[pytest.Item] | None:
    """Collect a test class guarantee by guarantee, whatever its name."""
    if not isinstance(obj, type):
        return None
    from drumbeat_conformance.suite import Conformance, plan_of

    if not issubclass(obj, Conformance):
        return None
    if plan_of(obj) is None:
        return _refused_or_base(collector, obj)
    return GuaranteesOfClass.from_parent(collector, name=name, tested=obj)


def _refused_or_base(collector: pytest.Module | pytest.Class, tested: type[Conformance]) -> list[pytest.Item]:
    """Collect nothing of a class that others are made from; raise CollectError for one that was to be tested."""
    if (
        tested.__name__.startswith("Test")
        and not tested.__subclasses__()
        and tested.__module__ == collector.obj.__name__
    ):
        raise collector.CollectError(
            f"{tested.__name__} names no target, so it would test nothing: give it one, or, where it is a base of "
            "others, a name that does not begin with Test"
        )
    return []


@final
class GuaranteesOfClass(pytest.Collector):
    """One test class. Its run lasts from its first test to its last."""

    def __init__(self, *, name: str, parent: pytest.Collector, tested: type[Conformance]) -> None:
        super().__init__(name=name, parent=parent)
        from drumbeat_conformance.suite import plan_of

        plan = plan_of(tested)
        assert plan is not None
        self.plan = plan
        self.obj = tested
        self.own_markers.extend(_marks(tested))
        ledger = ledger_of(self.config)
        ledger.session = ledger.session or self.session
        ledger.open(self.nodeid, [one.id for one in plan.guarantees()])
        self._run: Run | None = None
        self._watch: Callable[[], None] = _nothing
        #: Why the run could not begin, and whether that has been shown in full.
        self.unable_to_begin: BaseException | None = None
        self.shown = False

    @property
    def run(self) -> Run:
        """The run that its tests are part of."""
        assert self._run is not None
        return self._run

    def collect(self) -> Iterator[GuaranteeItem]:
        """Return the guarantees of its tiers."""
        guarantees = self.plan.guarantees()
        if not guarantees:
            raise self.CollectError(f"{self.name} collects no guarantee: its tiers {self.plan.tiers} have none")
        for guarantee in guarantees:
            yield GuaranteeItem.from_parent(self, guarantee=guarantee)

    def setup(self) -> None:
        """Begin to test all that were selected."""
        from drumbeat_conformance.run import Run
        from drumbeat_conformance.servers import CouldNotRun

        run = Run(
            self.plan.target,
            [item.guarantee for item in self.session.items if isinstance(item, GuaranteeItem) and item.parent is self],
            seed=self.plan.seed,
            known_failures=self.plan.known_failures,
            announce=self._announce,
            tell=lambda outcome: self._tell(run, outcome),
        )
        if not ledger_of(self.config).dismissed:
            self._watch = watch_for_exits(self.config)
        try:
            self._run = run.__enter__()
        except BaseException as error:
            self._watch()
            self.unable_to_begin = error
            if isinstance(error, CouldNotRun):
                self._account().unable = str(error)
            else:
                self._account().trouble = f"the run could not begin: {error}"
            raise

    def teardown(self) -> None:
        """End the run, and its servers."""
        if self._run is None:
            return
        try:
            self._run.__exit__(None, None, None)
        except BaseException as error:
            self._account().trouble = f"the run could not end: {error}"
            raise
        finally:
            self._watch()

    def _account(self) -> Account:
        # No attribute: every hook is handed the collector.
        return ledger_of(self.config).accounts[self.nodeid]

    def _announce(self, guarantee: Guarantee) -> None:
        for announce in self.config.stash.get(ANNOUNCERS, []):
            announce(guarantee.id)

    def _tell(self, run: Run, outcome: Outcome) -> None:
        self._account().results[outcome.guarantee.id] = outcome.result
        for listener in self.config.stash.get(LISTENERS, []):
            listener(run, outcome)


@final
class GuaranteeItem(pytest.Item):
    """One guarantee on the backend of a class."""

    def __init__(self, *, parent: GuaranteesOfClass, guarantee: Guarantee) -> None:
        family, number = guarantee.order
        super().__init__(name=f"test_{family.lower()}_{number}__{guarantee.name}", parent=parent)
        self.guarantee = guarantee
        #: Whose docstring `pytest --collect-only -v` shows.
        self.obj = guarantee.check
        self.extra_keyword_matches |= {guarantee.id, guarantee.family, guarantee.tier}
        self.user_properties += [("guarantee", guarantee.id), ("promise", guarantee.title)]
        self.outcome: Outcome | None = None
        if self.config.pluginmanager.hasplugin("timeout"):
            # It would count the wait for its turn; the run itself ends what hangs, after the guarantee's own limit.
            self.add_marker(pytest.mark.timeout(0))

    def runtest(self) -> None:
        """Wait for the outcome, and raise what it says."""
        assert isinstance(self.parent, GuaranteesOfClass)
        self.outcome = self.parent.run.outcome(self.guarantee.id)
        self.user_properties += [("outcome", self.outcome.result), ("reason", self.outcome.reason)]
        if self.outcome.result == "left out":
            pytest.skip(self.outcome.reason)
        if self.outcome.error is not None:
            raise self.outcome.error
        if not self.outcome.ok:
            pytest.fail(self.outcome.reason, pytrace=False)

    def reportinfo(self) -> tuple[str, int, str]:
        """Return where it is, and what to call it."""
        return str(self.path), 0, f"{self.parent.name if self.parent else ''}.{self.name}"

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException]) -> str | TerminalRepr:  # type: ignore[override]
        """Show where the guarantee broke, then the promise."""
        cause = excinfo.value.__cause__
        if self.outcome is None or excinfo.value is not self.outcome.error:
            return super().repr_failure(excinfo)
        if cause is None or cause.__traceback__ is None:
            return str(excinfo.value)
        style, source = self.config.getoption("tbstyle", "auto"), getsourcefile(self.guarantee.check)
        shown = pytest.ExceptionInfo.from_exception(cause).getrepr(
            style="long" if style in {None, "auto"} else cast("TracebackStyle", style),
            tbfilter=lambda broken: broken.traceback.cut(path=source),
        )
        if shown.reprcrash is not None:
            shown.reprcrash.message = str(excinfo.value)
        shown.addsection(f"{self.guarantee.id} does not hold", self.guarantee.promise)
        return shown


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse markers on a guarantee, its class, its module or its package that would keep it from being tested."""
    from drumbeat_conformance.suite import REFUSED_MARKERS

    for item in items:
        refused = [mark.name for mark in item.iter_markers() if mark.name in REFUSED_MARKERS]
        if isinstance(item, GuaranteeItem) and refused:
            raise pytest.UsageError(
                f"{item.nodeid} is marked {refused[0]}: declare what fails in known_failures, and deselect what is "
                "not wanted"
            )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell outcomes in pytest's words; whatever else made a guarantee a skipped or xfailed test made it a failure."""
    report = yield
    if not isinstance(item, GuaranteeItem):
        return report
    outcome = item.outcome if call.when == "call" else None
    if outcome is not None:
        report.duration = outcome.seconds
    if call.when == "setup" and isinstance(item.parent, GuaranteesOfClass) and report.failed:
        _say_once(report, item.parent)
    if outcome is not None and outcome.result == "known failure":
        report.outcome, report.wasxfail = "skipped", outcome.reason
    elif outcome is not None and outcome.result == "left out":
        report.outcome, report.longrepr = "skipped", (item.location[0], 1, f"Skipped: {outcome.reason}")
    elif (report.skipped or hasattr(report, "wasxfail")) and not _has_no_server(call):
        # pytest counts no failure that is marked as expected.
        vars(report).pop("wasxfail", None)
        report.outcome = "failed"
        report.longrepr = f"{item.guarantee.id} was to be skipped, which no guarantee can be: {report.longrepr}"
    return report


def _say_once(report: pytest.TestReport, of: GuaranteesOfClass) -> None:
    """Have one line stand for what was shown in full with an earlier guarantee of the class."""
    if of.unable_to_begin is not None and of.shown:
        report.longrepr = f"{of.name} could not begin: {type(of.unable_to_begin).__name__}, shown above"
    of.shown = True


def _nothing() -> None:
    pass


def _has_no_server(call: pytest.CallInfo[None]) -> bool:
    from drumbeat_conformance.servers import CouldNotRun

    return call.when == "setup" and call.excinfo is not None and isinstance(call.excinfo.value, CouldNotRun)


def _marks(cls: type) -> Iterator[pytest.Mark]:
    for base in cls.__mro__:
        given = vars(base).get("pytestmark", [])
        for mark in given if isinstance(given, list) else [given]:
            yield mark.mark if isinstance(mark, pytest.MarkDecorator) else mark


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object | None:
    """Keep the guarantees of a class on one worker, since they are one run, where tests are spread one by one."""
    if config.getoption("dist") not in {"load", "worksteal", "loadgroup"}:
        return None
    from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped] # it ships no annotations

    class ByRun(LoadGroupScheduling):  # type: ignore[misc] # the same
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid) or str(super()._split_scope(nodeid))

    return ByRun(config, log)  # pyright: ignore[reportArgumentType] # what pytest-xdist itself hands over
