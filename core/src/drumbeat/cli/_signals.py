"""Signals as things to be read, so that one loop decides what each of them means at that moment."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Final, Self

#: Those that ask a program to end.
ENDING: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
#: Those that a running command is given as they come.
FORWARDED: Final = ENDING | {signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGCONT}
#: Those that would stop this process, which must stay awake to stop its command in time.
STOPPING: Final = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})

#: What Python's signal module gives for a signal; None stands for one that was set outside Python.
Handler = Callable[[int, FrameType | None], object] | int | None


class Inbox:
    """The signals of this process, and nudges from its threads, for the main thread to wait for.

    A signal that was ignored when the program started stays ignored, as `nohup` wants it.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._before: dict[int, Handler] = {}
        self._wakeup_before = -1

    def __enter__(self) -> Self:
        self._reader.settimeout(0.0)
        self._writer.settimeout(0.0)
        self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in FORWARDED | STOPPING | {signal.SIGCHLD}:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, _noted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._writer.close()
        self._reader.close()

    def nudge(self) -> None:
        """End a wait, from any thread."""
        with suppress(OSError):
            self._writer.send(b"\0")

    def wait(self, timeout: float | None) -> list[signal.Signals]:
        """Return the signals that came, waiting at most `timeout` seconds for one or for a nudge."""
        ready, _, _ = select.select([self._reader], [], [], timeout)
        if not ready:
            return []
        return [signal.Signals(number) for number in self._reader.recv(4096) if number]


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the interpreter has written the number into the inbox already."""
