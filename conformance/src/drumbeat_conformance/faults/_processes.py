"""What befalls a process."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: Seconds for a signal to have its effect, and between two looks whether it has.
_PATIENCE: Final = 5.0
_PAUSE: Final = 0.001


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process by SIGSTOP, and let it go on at the end of the block.

    None of its threads runs, and it cannot notice; its connections stay open, the kernel acknowledges what arrives, and
    all that it holds on a server stays there for as long as its lease. Raises ProcessLookupError if there is none.
    """
    freeze(pid)
    try:
        yield
    finally:
        # It may have been killed meanwhile.
        with suppress(ProcessLookupError):
            thaw(pid)


def freeze(pid: int) -> None:
    """Stop a process by SIGSTOP, and return once none of its threads runs; see `frozen`."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + _PATIENCE
    while not _is_stopped(pid):
        if time.monotonic() > until:
            raise TimeoutError(f"process {pid} was not stopped {_PATIENCE:g} s after SIGSTOP")
        time.sleep(_PAUSE)


def thaw(pid: int) -> None:
    """Let a process go on after `freeze`; harmless for one that runs. Raises ProcessLookupError if there is none."""
    os.kill(pid, signal.SIGCONT)


def kill(pid: int) -> None:
    """End a process by SIGKILL, frozen or not.

    It can do nothing more: the kernel closes its connections and its locks, and the rest stays for as long as its
    lease. Raises ProcessLookupError if there is none.
    """
    os.kill(pid, signal.SIGKILL)


@contextmanager
def hogged(seconds: float) -> Iterator[None]:
    """Keep this process's interpreter lock for so long before the block, as a call into C that does not give it back.

    No Python thread of the process runs meanwhile, heartbeats and watchdogs included; threads of C libraries and the
    kernel go on. Nothing is left behind.
    """
    # PyDLL, in contrast to CDLL, keeps the interpreter lock during the call.
    ctypes.PyDLL(None).poll(None, 0, int(seconds * 1000))
    yield


def run_forked(call: Callable[[], int], *, within: float) -> int:
    """Run a call in a forked child, which ends with what it returns as its status; return that status.

    The child has copies of all descriptors and of all memory, and of the threads only the one that called. It ends
    without tidying up. A status below 0 is the signal that ended it; one that takes longer than `within` seconds is
    ended by SIGALRM. An exception in the child is status 70.
    """
    child = os.fork()
    if child == 0:
        os._exit(_status_of(call, within))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _status_of(call: Callable[[], int], within: float) -> int:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, within)
    try:
        return call()
    except BaseException:  # noqa: BLE001 - nothing may run in the child after the call
        return os.EX_SOFTWARE


def _is_stopped(pid: int) -> bool:
    # The state follows the name, which may contain anything, in brackets (proc_pid_stat(5)).
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        raise ProcessLookupError(f"process {pid} has ended") from None
    if state in "ZX":
        raise ProcessLookupError(f"process {pid} has ended")
    return state in "Tt"
