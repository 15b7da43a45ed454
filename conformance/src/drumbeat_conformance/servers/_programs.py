"""Servers as child processes of the test run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from drumbeat_conformance.servers._leftovers import leftovers
from drumbeat_conformance.servers._server import Place, Plan

#: Seconds for a server to end when asked to; then it is killed.
GRACE = 10.0


class ProgramRunner:
    """One server as a child process, started any number of times."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._argv = plan.argv
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program; return at once."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                # Ctrl-C is for the test run, which then ends its servers in order.
                start_new_session=True,
            )
        leftovers().watch(self._process.pid)

    def running(self) -> bool:
        """Tell whether the process has not ended."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self.resume()
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """SIGSTOP, and wait until all threads have stopped."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """SIGCONT."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def log(self) -> str:
        """Return what the server printed since its first start."""
        return (self._folder / "log").read_text(errors="replace")

    def remove(self) -> None:
        """End the process, if it still runs."""
        self.kill()

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        leftovers().forget(self._process.pid)
        self._process = None


class ProgramHost:
    """This machine: every server on it is a child process that listens on the loopback interface."""

    way = "program"
    bind = "127.0.0.1"

    def __init__(self, program: str) -> None:
        #: Where the program was found.
        self.source = program

    def runner(self, plan: Plan, place: Place) -> ProgramRunner:
        """Return a server that is not started yet."""
        return ProgramRunner(plan, place.folder)

    def close(self) -> None:
        """Leave the machine as it is."""


def find_program(*names: str) -> str | None:
    """Return the path of the first program that is on PATH, or in one of the folders of system programs."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
    return next((found for name in names if (found := shutil.which(name, path=path))), None)
