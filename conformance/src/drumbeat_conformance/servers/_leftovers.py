"""The folder of this test run's servers, and the minder that leaves nothing behind."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from functools import cache
from pathlib import Path

from drumbeat_conformance.servers import _minder

# Bytes that must be free for data to be kept in memory: etcd alone sets 64 MB aside for its log.
_ROOM = 2**30
# Seconds for the minder to clean up.
_PATIENCE = 60.0


class Leftovers:
    """What would outlive this process: child processes, containers and data, all ended by the minder."""

    def __init__(self) -> None:
        #: A label that the containers of this test run carry.
        self.label = f"drumbeat.test-run={uuid.uuid4()}"
        #: Where servers keep their data: in memory where there is room, for quick syncs.
        self.folder = Path(tempfile.mkdtemp(prefix="drumbeat-servers-", dir=_quickest_folder()))
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_minder.__file__), self.label, str(self.folder)],
            stdin=subprocess.PIPE,
            text=True,
            # Out of reach of Ctrl-C, and in nobody's way.
            start_new_session=True,
            cwd="/",
        )
        self._owner = os.getpid()
        atexit.register(self._end)

    def watch(self, pid: int) -> None:
        """Have the process ended when this one ends."""
        self._say(f"watch {pid}")

    def forget(self, pid: int) -> None:
        """The process has ended."""
        self._say(f"forget {pid}")

    def expect_containers(self) -> None:
        """Have the containers with the label removed when this process ends."""
        self._say(f"engine {os.environ.get('DOCKER_HOST', '')}")

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _end(self) -> None:
        if os.getpid() == self._owner and self._process.stdin is not None:
            self._say("end")
            self._process.stdin.close()
            self._process.wait(_PATIENCE)


@cache
def leftovers() -> Leftovers:
    """Return the one of this process."""
    return Leftovers()


def _quickest_folder() -> str:
    memory = "/dev/shm"  # noqa: S108 - the folder inside it is made by mkdtemp, for this user alone
    try:
        room = shutil.disk_usage(memory).free
    except OSError:
        room = 0
    return memory if room >= _ROOM and os.access(memory, os.W_OK) else tempfile.gettempdir()
