"""`python -m drumbeat_conformance.cli._child JOURNAL LEASH ARGUMENTS...`: the process that the run is in."""

from __future__ import annotations

import sys
from pathlib import Path

from drumbeat_conformance.cli._app import run
from drumbeat_conformance.cli._journal import Journal
from drumbeat_conformance.cli._supervise import live_on_a_leash


def main(journal: str, leash: str, *arguments: str) -> None:
    """Run a command line, writing down how far it comes."""
    live_on_a_leash(int(leash), Path(journal).parent)
    run(arguments, journal=Journal(Path(journal)))


if __name__ == "__main__":
    main(*sys.argv[1:])
