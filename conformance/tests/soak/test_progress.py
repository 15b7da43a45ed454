"""How a soak tells its state, on a terminal and elsewhere."""

from __future__ import annotations

import io
import sys

import pytest

from drumbeat_conformance.soak._progress import Progress


class Terminal(io.StringIO):
    """An output that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_elsewhere_a_line_comes_now_and_then() -> None:
    """Where lines stay, the state is told at once, and then not more than every few seconds."""
    lines: list[str] = []
    progress = Progress(lines.append)
    for number in range(3):
        progress.show(f"state {number}")
    progress.say("news")
    assert lines == ["state 0", "news"]


def test_on_a_terminal_one_line_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal each state replaces the one before, and what stays is printed in its place."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    lines: list[str] = []
    progress = Progress(lines.append)
    for number in range(3):
        progress.show(f"state {number}")
    progress.say("news")
    clear = "\r\x1b[K"
    assert terminal.getvalue() == f"{clear}state 0{clear}state 1{clear}state 2{clear}"
    assert lines == ["news"]
