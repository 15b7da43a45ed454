"""The command that is run for a term: one process group, which is told, stopped and reaped as a whole."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence

from drumbeat.cli._report import BY_SIGNAL, CANNOT_EXECUTE, NOT_FOUND, CannotRun


def check_command(arguments: Sequence[str]) -> None:
    """Raise CannotRun for a program that is not there, so that a slip shows at once and not at the first win."""
    program = arguments[0]
    if shutil.which(program) is not None:
        return
    if shutil.which(program, mode=os.F_OK) is None:
        raise CannotRun(f"{program}: command not found", status=NOT_FOUND)
    raise CannotRun(f"{program}: not an executable file", status=CANNOT_EXECUTE)


class Command:
    """A running command, the leader of a process group of its own; it inherits the three standard streams."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        try:
            self._process = subprocess.Popen(arguments, env=environment, process_group=0)
        except FileNotFoundError as error:
            raise CannotRun(f"{arguments[0]}: {error.strerror}", status=NOT_FOUND) from error
        except OSError as error:
            raise CannotRun(f"{arguments[0]}: {error.strerror}", status=CANNOT_EXECUTE) from error
        #: The id of the process, and of its group.
        self.group = self._process.pid
        #: The exit status as a shell counts it, once the process has ended.
        self.status: int | None = None

    def send(self, number: int) -> bool:
        """Send a signal to the whole group; return whether anything is left of it."""
        try:
            os.killpg(self.group, number)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def stop(self) -> None:
        """Ask the whole group to end, also what is suspended."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)

    def collect(self) -> None:
        """Take notice of what has ended."""
        code = self._process.poll()
        if code is not None:
            self.status = code if code >= 0 else BY_SIGNAL - code
            self._collect_adopted()

    def is_gone(self) -> bool:
        """Return whether the process has been seen to end and nothing is left of its group."""
        return self.status is not None and not self.send(0)

    def was_suspended(self) -> bool:
        """Return whether the process has been stopped from the keyboard, since this was last asked."""
        try:
            change = os.waitid(os.P_PID, self.group, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            # It has ended, so it can never be stopped again.
            return False
        return change is not None and change.si_status == signal.SIGTSTP

    def _collect_adopted(self) -> None:
        """Collect orphans of the group that became our children, as they do of a container's first process."""
        try:
            while os.waitid(os.P_PGID, self.group, os.WEXITED | os.WNOHANG) is not None:
                continue
        except ChildProcessError:
            return
