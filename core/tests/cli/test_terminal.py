"""`drumbeat lock` and `lead` on a terminal: the command is in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cli.running import PATIENCE, TTL, Ticker, now
from support import eventually

if TYPE_CHECKING:
    from cli.running import Desk

#: Runs its arguments on a terminal of their own, in the foreground.
ON_A_TERMINAL: Final = [
    sys.executable,
    "-ISc",
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))",
]


def test_the_command_can_read_the_keyboard(desk: Desk) -> None:
    """What is typed reaches the command, which is not stopped for reading from the background."""
    locked = desk.start("lock", "l", "--", "sh", "-c", 'echo ready; read line; echo "got $line"', prefix=ON_A_TERMINAL)
    eventually(lambda: "ready\n" in locked.out, within=PATIENCE)
    locked.type("hello\n")
    assert locked.status() == 0
    assert "got hello\n" in locked.out


def test_ctrl_c_ends_the_command(desk: Desk) -> None:
    """Ctrl-C goes to the command, and its status comes out."""
    locked = desk.start("lock", "l", "--", "sh", "-c", "echo ready; exec sleep 60", prefix=ON_A_TERMINAL)
    eventually(lambda: "ready\n" in locked.out, within=PATIENCE)
    locked.type("\x03")
    assert locked.status() == 130


def test_ctrl_c_ends_the_wait(desk: Desk) -> None:
    """While this process waits for its turn, Ctrl-C ends it."""
    holder = desk.lock("l", ["sleep", "60"])
    holder.wait_for_event("started")
    waiting = desk.start("lock", "l", "--json", "--", "true", prefix=ON_A_TERMINAL)
    waiting.wait_for_event("waiting")
    waiting.type("\x03")
    assert waiting.status() == 130


def test_ctrl_z_does_not_suspend_the_command(desk: Desk, tmp_path: Path) -> None:
    """A command is not left suspended, with the terminal, while its lease goes on."""
    ticker = Ticker(tmp_path)
    locked = desk.start("lock", "l", "--json", "--", *ticker.command, prefix=ON_A_TERMINAL)
    token = ticker.wait_for_token(1, within=PATIENCE)
    locked.type("\x1a")
    locked.wait_for_event("awake")
    seen = now()
    eventually(lambda: ticker.last(token) > seen, within=5 * TTL)


def test_the_terminal_comes_back(desk: Desk) -> None:
    """After the command has ended the program that started this one has the terminal again."""
    after = f'{sys.executable} -m drumbeat.cli lock l -- true; read line; echo "got $line"'
    shell = desk.start("--version", prefix=[*ON_A_TERMINAL, "sh", "-c", after])
    eventually(lambda: any("with 0" in line for line in shell.out), within=PATIENCE)
    shell.type("again\n")
    assert shell.status() == 0
    assert "got again\n" in shell.out


def test_a_pipeline_keeps_the_terminal(desk: Desk) -> None:
    """Where standard output is a pipe, the rest of the pipeline stays in the foreground."""
    pipeline = f"{sys.executable} -m drumbeat.cli lock l -- sleep 60 | sh -c 'read line </dev/tty; echo \"got $line\"'"
    shell = desk.start("--version", prefix=[*ON_A_TERMINAL, "sh", "-c", pipeline])
    eventually(lambda: any("process" in line for line in shell.out), within=PATIENCE)
    shell.type("hello\n")
    eventually(lambda: "got hello\n" in shell.out, within=PATIENCE)
    shell.type("\x03")
    shell.status()
