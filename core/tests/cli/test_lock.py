"""`drumbeat lock` runs a command while this process holds a lock."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cli.running import PATIENCE, TTL, now
from support import eventually

if TYPE_CHECKING:
    from cli.running import Desk, Drumbeat


def held(desk: Desk) -> Drumbeat:
    """Return a process that holds the lock `l` until it reads a line."""
    holder = desk.lock("l", ["sh", "-c", "echo up; read line"])
    eventually(lambda: "up\n" in holder.out, within=PATIENCE)
    return holder


def test_the_command_finds_its_token_and_the_name(desk: Desk) -> None:
    """DRUMBEAT_TOKEN is the fencing token and DRUMBEAT_LOCK the name; nothing says it of an election."""
    code = 'echo "$DRUMBEAT_TOKEN,$DRUMBEAT_LOCK,$DRUMBEAT_ELECTION"'
    locked = desk.lock("migrations", ["sh", "-c", code], DRUMBEAT_ELECTION="of an outer command")
    assert locked.status() == 0
    (won,) = locked.events("won")
    assert locked.out == [f"{won['token']},migrations,\n"]
    assert won["lock"] == "migrations"


def test_a_lock_excludes(desk: Desk, tmp_path: Path) -> None:
    """Many processes that count in a file, each under the lock, lose no increment."""
    counter = tmp_path / "counter"
    counter.write_text("0")
    code = f"n=$(cat {counter}); sleep 0.02; echo $((n + 1)) > {counter}"
    workers = [desk.lock("l", ["sh", "-c", code]) for _ in range(6)]
    assert [worker.status() for worker in workers] == [0] * 6
    assert counter.read_text() == "6\n"


@pytest.mark.parametrize("timeout", [0.0, TTL])
def test_the_wait_has_a_limit(desk: Desk, timeout: float) -> None:
    """A lock that is not free within --timeout gives 124, and the command is not run."""
    held(desk)
    late = desk.lock("l", ["echo", "ran"], "--timeout", str(timeout))
    waiting = late.wait_for_event("waiting")
    began = now()
    assert waiting["lock"] == "l"
    assert late.status(within=timeout + TTL) == 124
    assert now() > began + timeout - TTL / 2
    assert late.out == []
    (error,) = late.events("error")
    assert error["error"] == "Timeout"


def test_a_lock_that_is_free_in_time_is_taken(desk: Desk) -> None:
    """A lock that becomes free within --timeout is held, and the command is run."""
    holder = held(desk)
    late = desk.lock("l", ["echo", "ran"], "--timeout", str(PATIENCE))
    late.wait_for_event("waiting")
    holder.type("\n")
    assert late.status() == 0
    assert late.out == ["ran\n"]


def test_connecting_can_be_interrupted_at_once(desk: Desk) -> None:
    """Ctrl-C is heard while the store does not answer, long before the time allowed for connecting is over."""
    assert desk.start("groups").status() == 0
    with closing(sqlite3.connect(desk.store, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        locked = desk.start("lock", "l", "--json", "--url", f"{desk.url}?connect_timeout=60", "--", "true")
        # Only this program's own handlers include one for SIGCHLD.
        status = Path(f"/proc/{locked.process.pid}/status")
        eventually(lambda: caught(status) & 1 << signal.SIGCHLD - 1, within=PATIENCE)
        locked.signal(signal.SIGINT)
        assert locked.status(within=TTL) == 130


def caught(status: Path) -> int:
    """Return the set of signals that a process catches, as bits."""
    lines = status.read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
