"""What the kernel tells of other processes: who holds a lock, which boot this is, what a path is mounted on."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from pathlib import Path
from typing import Final

from drumbeat._errors import SessionLost

#: `struct flock` of fcntl(2).
_FLOCK: Final = struct.Struct("@hhqqi4x")

#: What is mounted where, as proc(5) describes it.
MOUNTS: Final = Path("/proc/self/mountinfo")
#: File systems whose locks or shared memory do not reach, or lie to, the other processes that use the file.
NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "coda", "fuse.ceph-fuse", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"}
    | {"gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "smb3", "smbfs", "vboxsf"}
)


class LockFile:
    """One open file description on the lock file; what it locks is free the moment its process is gone.

    Open file description locks, not POSIX ones: those would fall when any other descriptor of the file is closed.
    See https://man7.org/linux/man-pages/man2/F_OFD_SETLK.2const.html.
    """

    def __init__(self, path: Path, *, mode: int) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        #: Which file this is, as stored beside every slot: a lock on another file says nothing.
        self.identity = _identity(os.fstat(self._fd))

    def take(self, start: int) -> bool:
        """Lock one byte; return False if another description has it."""
        request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0)
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, request)
        except BlockingIOError:
            return False
        return True

    def is_free(self, start: int, length: int = 1) -> bool:
        """Return whether no other description has a lock on these bytes."""
        request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        try:
            answer = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, request)
            free: bool = _FLOCK.unpack(answer)[0] == fcntl.F_UNLCK
            # Another thread may have closed the descriptor, and its number may mean another file by now.
            if free and _identity(os.fstat(self._fd)) != self.identity:
                raise SessionLost("the session was dropped in this process")
        except (OSError, ValueError) as error:
            raise SessionLost("the session was dropped in this process") from error
        return free

    def close(self) -> None:
        """Let go; the locks fall unless a forked process still has the description."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def identity_of(path: Path) -> str | None:
    """Return which file a path names now, None if there is none."""
    try:
        return _identity(path.stat())
    except OSError:
        return None


def boot_id() -> str:
    """Return the id of this boot of the kernel; CLOCK_BOOTTIME compares within one boot only."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()


def pid_space() -> int:
    """Return the id of this process's pid namespace; a pid means something within one only."""
    return Path("/proc/self/ns/pid").stat().st_ino


def open_pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None if it has ended or cannot be watched."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def file_system(path: Path) -> str:
    """Return the type of the file system that `path` is on, "unknown" if the kernel does not tell."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        device = path.parent.stat().st_dev
    except OSError:
        return "unknown"
    mounted = f"{os.major(device)}:{os.minor(device)}"
    best, found = (False, 0), "unknown"
    for line in lines:
        fields, _, types = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields.split()[4])
        # The innermost, unless an outer one hides it; some file systems have a device of their own for each folder.
        rank = (fields.split()[2] == mounted, len(point))
        if path.is_relative_to(point) and rank >= best:
            best, found = rank, types.split()[0]
    return found


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}"
