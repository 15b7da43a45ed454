"""The main job as a command: agents that share work, a leader that is killed, and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drumbeat.cli.demo._command import demo

__all__ = ["demo"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        # The agents' processes are in this package too, and start faster without the command line.
        if name == "demo":
            from drumbeat.cli.demo._command import demo

            return demo
        raise AttributeError(f"module 'drumbeat.cli.demo' has no attribute {name!r}")
