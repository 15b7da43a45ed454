"""What the supervisor does about a command that cannot be killed; a stand-in, because the real ones die."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from drumbeat.cli._supervise import SURVIVORS, Supervisor
from drumbeat.cli._window import Window
from drumbeat.testing import FakeClock

if TYPE_CHECKING:
    import signal

    from drumbeat import Term
    from drumbeat.cli._command import Command
    from drumbeat.cli._notes import Notes
    from drumbeat.cli._signals import Inbox


class Immortal:
    """A command that survives every signal, until the test lets it end."""

    group = 1 << 30

    def __init__(self) -> None:
        self.status: int | None = None
        self.alive = True

    def send(self, number: int) -> bool:
        return self.alive

    def stop(self) -> None:
        return

    def collect(self) -> None:
        if not self.alive:
            self.status = 0

    def is_gone(self) -> bool:
        return not self.alive and self.status is not None


def test_a_command_that_outlives_sigkill_is_told_of_and_waited_for() -> None:
    """A command that cannot be killed is reported once, and never left behind or followed by another."""
    clock = FakeClock()
    command, told = Immortal(), list[str]()
    waits = 0

    def wait(timeout: float) -> list[signal.Signals]:
        nonlocal waits
        waits += 1
        clock.advance(SURVIVORS / 2)
        command.alive = waits < 20
        return []

    lost = SimpleNamespace(lost=SimpleNamespace(is_set=lambda: True), token=1)
    supervisor = Supervisor(
        cast("Command", command),
        cast("Term", lost),
        window=Window(stop_timeout=0.2, kill_margin=0.05, tick=0.05),
        clock=clock,
        inbox=cast("Inbox", SimpleNamespace(wait=wait)),
        notes=cast("Notes", SimpleNamespace(tell=lambda kind, *text, **facts: told.append(kind))),
    )
    supervisor.run()
    assert told == ["lost", "survivors"]
    assert waits == 20
    assert supervisor.stopped
