"""Ties a process to the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

#: From the kernel's prctl.h.
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent is gone, even while it is stopped by SIGSTOP.

    A pipe that closes would do for one that runs; one that is stopped cannot read it.
    See https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
