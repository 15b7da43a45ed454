"""The run in a process of its own, so that what is tested can end neither the command nor its verdict."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

from drumbeat_conformance.cli._errors import BY_SIGNAL, UNEXPECTED, NoVerdict
from drumbeat_conformance.cli._journal import Progressed, read_journal

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["live_on_a_leash", "supervised"]

#: Seconds between two looks at the process.
_LOOK: Final = 1.0
#: Seconds that it gets to end after a signal, or once it is over.
_GRACE: Final = 20.0
#: Seconds without any news of a run that is no soak after which it counts as frozen: a server may take 300 s to start,
#: a guarantee of the fault tier 180 s, and to look for the server after it 90 s.
_SILENCE: Final = 420.0
#: Seconds for which it may be stopped by SIGSTOP.
_STOPPED: Final = 10.0
#: Seconds that it gets to end by itself where nobody waits for it any more.
_LAST_GRACE: Final = 10.0
_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def supervised(arguments: Sequence[str], *, soak: bool) -> int:
    """Run a command line in a process of its own; return its status once it has said that it was over.

    Raises NoVerdict where it ended before, however it did. Whatever it leaves in its process group or in its folder
    for temporary files is ended and removed; a soak keeps that folder to itself.
    """
    _open_closed_streams()
    folder = Path(tempfile.mkdtemp(prefix="drumbeat-conformance-"))
    try:
        child = _Child(arguments, folder, private=not soak)
        with child.signals(patient=soak):
            status = child.wait()
        progressed = read_journal(child.journal)
        if child.frozen:
            raise NoVerdict(f"the process of the run {child.frozen}", progressed.lines(), status=UNEXPECTED)
        return _verdict(status, progressed, ended_by=child.ended_by)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def live_on_a_leash(descriptor: int, folder: Path) -> None:
    """Have this process end with its group and its folder, once the process at the other end of a pipe has ended."""

    def end() -> None:
        time.sleep(_LAST_GRACE)
        shutil.rmtree(folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)

    def follow() -> None:
        os.read(descriptor, 1)
        # The interpreter waits for this one before it ends.
        threading.Thread(target=end, name="drumbeat-end", daemon=False).start()
        os.kill(os.getpid(), signal.SIGTERM)

    os.set_inheritable(descriptor, False)  # noqa: FBT003 - it takes no keyword
    threading.Thread(target=follow, name="drumbeat-leash", daemon=True).start()


@final
class _Child:
    """The process of the run."""

    def __init__(self, arguments: Sequence[str], folder: Path, *, private: bool) -> None:
        self.journal = folder / "journal"
        #: The signal that this process was sent, and has passed on.
        self.ended_by: signal.Signals | None = None
        #: Why it was given up; empty while it was not.
        self.frozen = ""
        self._deadline: float | None = None
        self._quiet = not private
        self._heard = self._ran = self._looked = time.monotonic()
        self._size = 0
        environment = {**os.environ, "TMPDIR": str(folder)} if private else None
        held, self._leash = os.pipe()
        command = [sys.executable, "-P", "-m", "drumbeat_conformance.cli._child", str(self.journal), str(held)]
        self._process = subprocess.Popen(
            [*command, *arguments], env=environment, stdin=subprocess.DEVNULL, pass_fds=(held,), process_group=0
        )
        os.close(held)

    @contextmanager
    def signals(self, *, patient: bool) -> Iterator[None]:
        """Pass on what asks this process to end; a patient one lets SIGINT take its time."""

        def pass_on(number: int, _frame: FrameType | None) -> None:
            self.ended_by = signal.Signals(number)
            if not (patient and number == signal.SIGINT):
                self._deadline = self._deadline or time.monotonic() + _GRACE
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, pass_on)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def wait(self) -> int:
        """Return the status of the process, and end all that it leaves behind in its group."""
        while self._process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_LOOK)
            progressed = read_journal(self.journal)
            if self._deadline is None and (progressed.over is not None or progressed.told is not None):
                self._deadline = time.monotonic() + _GRACE
            if self._deadline is not None and time.monotonic() > self._deadline:
                break
            if self._deadline is None:
                self.frozen = self._how_frozen()
            if self.frozen:
                break
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        os.close(self._leash)
        return self._process.wait()

    def _how_frozen(self) -> str:
        """Return how the process stands still though nobody has asked it to end, if it does."""
        now = time.monotonic()
        size = self.journal.stat().st_size if self.journal.exists() else 0
        if now - self._looked > _STOPPED / 2:
            # This process itself did not run.
            self._heard = self._ran = now
        self._looked = now
        if size != self._size:
            self._size, self._heard = size, now
        if _state(self._process.pid) != "T":
            self._ran = now
        if now - self._ran > _STOPPED:
            return f"has been stopped by SIGSTOP for {_STOPPED:g} s"
        if not self._quiet and now - self._heard > _SILENCE:
            return f"has not been heard of for {_SILENCE:g} s"
        return ""


def _state(pid: int) -> str:
    """Return the letter that Linux has for what a process does; empty where that cannot be told."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _verdict(status: int, progressed: Progressed, *, ended_by: signal.Signals | None) -> int:
    """Return the status of a run that was over, or has told why it is not; raise NoVerdict for any other."""
    known = progressed.over if progressed.over is not None else progressed.told
    how = signal.Signals(-status).name if status < 0 else f"status {status}"
    if progressed.over is None and ended_by is not None:
        raise NoVerdict(f"ended by {ended_by.name}", progressed.lines(), status=BY_SIGNAL + ended_by)
    if known is None or (progressed.over is None and known == 0):
        raise NoVerdict(
            f"the process of the run ended, by {how}, before the run was over",
            [*progressed.lines(), "the backend, or a library of its, ends or crashes the process: --only tests one"],
            status=UNEXPECTED,
        )
    if status != known and known == 0:
        raise NoVerdict(
            f"the run was over, and what it printed holds, but its process then ended by {how}",
            ["find out what in the backend hangs or fails when the interpreter ends"],
            status=UNEXPECTED,
        )
    return known


def _open_closed_streams() -> None:
    """Have /dev/null stand for standard streams that are closed, lest anything else get their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:  # noqa: PLR2004 - standard error
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - it takes no keyword
    os.close(descriptor)
