"""The one command."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final, final

import typer

from drumbeat import ConfigurationError
from drumbeat.cli import _options as options
from drumbeat.cli._report import print_lines, reported
from drumbeat_conformance.cli._asked import Asked, duration
from drumbeat_conformance.cli._errors import NO_ANSWER, NOT_TOLD, NotTold, NoVerdict
from drumbeat_conformance.cli._files import Files
from drumbeat_conformance.cli._supervise import supervised

if TYPE_CHECKING:
    from drumbeat_conformance.cli._journal import Journal
    from drumbeat_conformance.cli._print import Printer
    from drumbeat_conformance.guarantee import Tier
    from drumbeat_conformance.report import Report
    from drumbeat_conformance.run import Run

__all__ = ["run"]

HELP: Final = """Test whether a backend keeps Drumbeat's promises.

TARGET is a URL of any installed backend, or redis, memcached, zookeeper or etcd, whose servers are started here and
disturbed as well, or local, memory or memory-cas. Everything is kept in namespaces that nobody uses; a server behind a
URL is neither stopped nor wiped.
"""
EPILOG: Final = """\b
Exit status:
  0    every guarantee that is binding and could be tested holds
  1    a guarantee is broken, or a known failure holds
  2    asked for something that can never work as written, or for nothing
  65   the store, or a file given, holds something that cannot be read
  69   no usable answer from the server, or none any more
  70   the run ended, or failed, in a way that it should not: no verdict
  74   the run was over, but its outcome could not be printed or written everywhere
  77   the server refused the credentials
  130  interrupted; 129 and 143 by SIGHUP and SIGTERM
"""


class TierChoice(StrEnum):
    """Which guarantees."""

    CONTRACT = "contract"
    FAULTS = "faults"
    ALL = "all"

    @property
    def tiers(self) -> tuple[Tier, ...]:
        """The tiers that it means."""
        both: tuple[Tier, ...] = ("contract", "faults")
        return both if self is TierChoice.ALL else tuple(tier for tier in both if tier == self.value)


_TIER: Final = typer.Option(TierChoice.CONTRACT, "--tier", help="Contract takes seconds, faults minutes.")
_ONLY: Final = typer.Option([], "--only", metavar="ID", help="Test this id or family; may be repeated.")
_KNOWN_FAILURES: Final = typer.Option(
    None, "--known-failures", metavar="FILE.toml", help="A table [ID] with reason and link for each."
)
_JSON_FILE: Final = typer.Option(None, "--json", metavar="FILE", help="Write the report as JSON.")
_MARKDOWN: Final = typer.Option(None, "--markdown", metavar="FILE", help="Write the report as Markdown.")
_JUNIT: Final = typer.Option(None, "--junit", metavar="FILE", help="Write JUnit's XML.")
_BADGE: Final = typer.Option(
    None, "--badge", metavar="FILE", help="Write the badge: a picture for FILE.svg, else JSON for an endpoint."
)


def run(arguments: Sequence[str], *, journal: Journal | None = None) -> None:
    """Run one command line, and exit with its status.

    Without a journal it is run in a process of its own, which has one.
    """
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command(help=HELP, epilog=EPILOG)(reported(conformance))
    try:
        app(args=list(arguments), prog_name="drumbeat-conformance", obj=Invocation(tuple(arguments), journal))
    except SystemExit as end:
        if journal is not None and isinstance(end.code, int):
            journal.told(end.code)
        raise


@final
@dataclass(frozen=True, slots=True)
class Invocation:
    """How the command was called: with which arguments, and in which of the two processes."""

    arguments: tuple[str, ...]
    #: Where the process of the run writes down how far it comes; None in the one that waits for it.
    journal: Journal | None


def conformance(
    context: typer.Context,
    target: str | None = typer.Argument(None, metavar="TARGET"),
    *,
    tier: TierChoice = _TIER,
    only: list[str] = _ONLY,
    seed: int = typer.Option(0, "--seed", metavar="N", help="Decides what is drawn by chance."),
    lease_ttl: float | None = typer.Option(
        None, "--lease-ttl", metavar="SECONDS", help="How long leases last. [default: 1, for etcd 2]"
    ),
    server: str | None = typer.Option(
        None, "--server", metavar="MODULE:FACTORY", help="Starts servers that may be disturbed, as `with FACTORY():`."
    ),
    backend: str | None = typer.Option(
        None, "--backend", metavar="MODULE:CLASS", help="The backend, where no installed package announces it."
    ),
    operator: str | None = typer.Option(
        None, "--operator", metavar="MODULE:CLASS", help="Reads and writes stored data without the backend."
    ),
    in_process: bool = options.flag("--in-process", meaning="Only the process that made a store reaches it."),
    fake_time: bool = options.flag(
        "--fake-time", meaning="Pretend that time passes, for a store that takes it from config.clock."
    ),
    known_failures: Path | None = _KNOWN_FAILURES,
    json_file: Path | None = _JSON_FILE,
    markdown: Path | None = _MARKDOWN,
    junit: Path | None = _JUNIT,
    badge: Path | None = _BADGE,
    list_: bool = options.flag("--list", meaning="Print the guarantees, and test nothing."),
    soak: str | None = typer.Option(
        None, "--soak", metavar="TIME", help="Run a group of processes under random faults instead, for 90s, 10m or 1h."
    ),
    processes: int = typer.Option(4, "--processes", metavar="N", min=2, help="How many processes --soak runs."),
) -> int:
    """Test one backend, or list what would be tested."""
    files = Files(json=json_file, markdown=markdown, junit=junit, badge=badge)
    if list_:
        files.refuse("--list", writes=())
        return _list(tier, only)
    if target is None:
        raise ConfigurationError("say what to test: a URL, redis, memcached, zookeeper, etcd, local or memory")
    asked = Asked(
        name=target,
        tiers=tier.tiers,
        only=tuple(only),
        seed=seed,
        lease_ttl=lease_ttl,
        fake_time=fake_time,
        in_process=in_process,
        server=server,
        backend=backend,
        operator=operator,
        known_failures=known_failures,
    )
    seconds = None if soak is None else duration(soak)
    if soak is not None:
        files.refuse("--soak", writes=("--json",))
    files.refuse_unwritable()
    invocation: Invocation = context.obj
    journal = invocation.journal
    if journal is None:
        return supervised(invocation.arguments, soak=soak is not None)
    if seconds is not None:
        return _soak(asked, seconds, processes=processes, files=files, journal=journal)
    return _test(asked, files, journal)


def _list(tier: TierChoice, only: Sequence[str]) -> int:
    from drumbeat_conformance.cli._asked import select
    from drumbeat_conformance.cli._print import catalogue

    print_lines(catalogue(select(only, tier.tiers)))
    return 0


def _test(asked: Asked, files: Files, journal: Journal) -> int:
    from drumbeat_conformance.cli._print import Printer, Progress, summary
    from drumbeat_conformance.cli._session import Session

    # For the errors that are plain to see before anything is started.
    asked.target()
    printer = Printer(sys.stdout)
    session = Session(asked, tell=Progress(printer).tell, journal=journal)
    began, started = datetime.now(UTC), time.monotonic()
    with TemporaryDirectory(prefix="drumbeat-junit-") as folder:
        junit = Path(folder) / "junit.xml"
        made = session.run(junit=junit)
        # It imports the arena, whose assertions pytest must rewrite before.
        from drumbeat_conformance.report import report_of, verdict

        seconds = time.monotonic() - started
        report = report_of(made, session.outcomes, began=began, seconds=seconds, command=asked.command())
        problems = [*files.write(report, junit=junit)]
    printer.say(*summary(report, session.failures))
    printer.close()
    return _ended(_status(report, made), verdict(report), [*problems, *_unprinted(printer)], journal)


def _status(report: Report, run: Run) -> int:
    if run.gone:
        known = (
            f"{sum(line.outcome != 'left out' for line in report.guarantees)} of {len(report.guarantees)} were tested"
        )
        raise NoVerdict(run.gone, [known, "nothing is known of the others"], status=NO_ANSWER)
    if not report.tested:
        raise ConfigurationError("everything was left out, so nothing was tested")
    return 1 if report.broken else 0


def _soak(asked: Asked, seconds: float, *, processes: int, files: Files, journal: Journal) -> int:
    from drumbeat_conformance._announce import announced
    from drumbeat_conformance.cli._print import Printer
    from drumbeat_conformance.soak import soak, to_json

    target, began, printer = asked.target(), datetime.now(UTC), Printer(sys.stdout)
    with nullcontext() if target.factory is None else announced(target.scheme, target.factory):
        found = soak(target, seconds, seed=asked.seed, processes=processes, say=printer.say)
    problems = [*files.write_soak(to_json(found, target, asked=asked.masked(), began=began))]
    verdict = found.verdict
    return _ended(0 if found.ok else 1, verdict, [*problems, *_unprinted(printer)], journal)


def _unprinted(printer: Printer) -> list[str]:
    return [] if printer.problem is None else [f"not all could be printed: {printer.problem.strerror}"]


def _ended(status: int, verdict: str, problems: Sequence[str], journal: Journal) -> int:
    """Return the status of a run that is over; raise NotTold, with that of a broken promise first, for problems."""
    told = (status or NOT_TOLD) if problems else status
    journal.over(told)
    if problems:
        raise NotTold(problems, verdict, status=told)
    return status
