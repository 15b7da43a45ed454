"""Run the demo alone: `python -m drumbeat.cli.demo`."""

from __future__ import annotations

import typer

from drumbeat.cli._report import reported
from drumbeat.cli.demo import demo

if __name__ == "__main__":
    typer.run(reported(demo))
