"""The command line: `drumbeat COMMAND`, from the extra `drumbeat[cli]`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line with the arguments of this process, and exit with its status.

    Without the extra it says what to install and exits with 2.
    """
    try:
        import typer  # noqa: F401 - only to know whether it is there
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"drumbeat: the command line needs the extra 'cli' ({error.name} is missing); "
            "install it with: python3 -m pip install 'drumbeat[cli]'\n"
        )
        sys.exit(2)
    from drumbeat.cli._app import run

    run(sys.argv[1:])
