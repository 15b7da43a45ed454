"""The terminal's foreground, lent to a command so that it can read the keyboard and gets Ctrl-C itself."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from typing import Final

STDIN: Final = 0
STDOUT: Final = 1


class Terminal:
    """Lends the foreground to the command's process group, where standard input and output are both the terminal.

    In a pipeline (`... | less`) it is not lent, because the other programs of the pipeline would lose it.
    """

    def __init__(self) -> None:
        self._lent_to: int | None = None

    @property
    def lent(self) -> bool:
        """Whether the command has the terminal."""
        return self._lent_to is not None

    def lend(self, group: int) -> None:
        """Make `group` the foreground if we are it, and wake it in case it tried to read too early."""
        with suppress(OSError):
            if os.isatty(STDIN) and os.isatty(STDOUT) and os.tcgetpgrp(STDIN) == os.getpgrp():
                os.tcsetpgrp(STDIN, group)
                self._lent_to = group
                os.killpg(group, signal.SIGCONT)

    def take_back(self) -> None:
        """Be the foreground again, if the command's group still was."""
        group, self._lent_to = self._lent_to, None
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        with suppress(OSError):
            if group is not None and os.tcgetpgrp(STDIN) == group:
                os.tcsetpgrp(STDIN, os.getpgrp())
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
