"""The command line: `drumbeat-conformance TARGET`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line with the arguments of this process, and exit with its status."""
    from drumbeat_conformance.cli._app import run

    run(sys.argv[1:])
