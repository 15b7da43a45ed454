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
from typing import TYPE_CHECKING, Final, final

import typer

from drumbeat import ConfigurationError
from drumbeat.cli import _options as options
from drumbeat.cli._report import print_lines, reported
from drumbeat_conformance.cli._asked import Asked, duration

if TYPE_CHECKING:
    from drumbeat_conformance.guarantee import Tier
    from drumbeat_conformance.report import Report

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
  69   no usable answer from the server
  77   the server refused the credentials
  130  interrupted
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


def run(arguments: Sequence[str]) -> None:
    """Run one command line, and exit with its status."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command(help=HELP, epilog=EPILOG)(reported(conformance))
    app(args=list(arguments), prog_name="drumbeat-conformance")


def conformance(
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
        known_failures=known_failures,
    )
    if soak is not None:
        files.refuse("--soak", writes=("--json",))
        return _soak(asked, duration(soak), processes=processes, files=files)
    return _test(asked, files)


def _list(tier: TierChoice, only: Sequence[str]) -> int:
    from drumbeat_conformance.cli._asked import select
    from drumbeat_conformance.cli._print import catalogue

    print_lines(catalogue(select(only, tier.tiers)))
    return 0


def _test(asked: Asked, files: Files) -> int:
    from drumbeat_conformance.cli._print import Progress, summary
    from drumbeat_conformance.cli._session import Session

    files.refuse_missing_folders()
    # For the errors that are plain to see before anything is started.
    asked.target()
    progress = Progress(sys.stdout)
    session = Session(asked, junit=files.junit, tell=progress.tell)
    began, started = datetime.now(UTC), time.monotonic()
    try:
        session.run()
    finally:
        progress.close()
    if session.run_made is None:
        raise ConfigurationError("not one guarantee was tested")
    # It imports the arena, whose assertions pytest must rewrite before.
    from drumbeat_conformance.report import report_of

    seconds = time.monotonic() - started
    report = report_of(session.run_made, session.outcomes, began=began, seconds=seconds, command=asked.command())
    files.write(report)
    print_lines(summary(report, session.failures))
    if not report.tested:
        raise ConfigurationError("everything was left out, so nothing was tested")
    return 1 if report.broken else 0


def _soak(asked: Asked, seconds: float, *, processes: int, files: Files) -> int:
    from drumbeat_conformance._announce import announced
    from drumbeat_conformance.soak import soak, to_json

    files.refuse_missing_folders()
    target, began = asked.target(), datetime.now(UTC)
    with nullcontext() if target.factory is None else announced(target.scheme, target.factory):
        found = soak(target, seconds, seed=asked.seed, processes=processes, say=lambda line: print_lines([line]))
    if files.json is not None:
        text = to_json(found, target, asked=asked.masked(), began=began)
        files.json.write_text(text, encoding="utf-8")
    return 0 if found.ok else 1


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Where to write what."""

    json: Path | None
    markdown: Path | None
    junit: Path | None
    badge: Path | None

    def refuse(self, option: str, *, writes: Sequence[str]) -> None:
        """Raise ConfigurationError for a file that was asked for, but that `option` does not write."""
        given = {"--json": self.json, "--markdown": self.markdown, "--junit": self.junit, "--badge": self.badge}
        idle = [name for name, path in given.items() if path is not None and name not in writes]
        if idle:
            instead = f"of these files it writes {' and '.join(writes)} alone" if writes else "it writes no file"
            raise ConfigurationError(f"{option} cannot go with {' or '.join(idle)}: {instead}")

    def refuse_missing_folders(self) -> None:
        """Raise ConfigurationError now for what could not be written after minutes of testing."""
        for path in (self.json, self.markdown, self.junit, self.badge):
            if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
                raise ConfigurationError(f"{path} cannot be written: {path.absolute().parent} must be a folder")

    def write(self, report: Report) -> None:
        """Write what was asked for; JUnit's file is pytest's."""
        from drumbeat_conformance.report import badge_json, badge_svg, to_json, to_markdown

        badge = badge_svg if self.badge is not None and self.badge.suffix == ".svg" else badge_json
        for path, text in ((self.json, to_json), (self.markdown, to_markdown), (self.badge, badge)):
            if path is not None:
                path.write_text(text(report), encoding="utf-8")
