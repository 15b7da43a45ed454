"""What an operator should know of the file and its surroundings."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING, Final, Literal

from drumbeat.hookspecs import Finding
from drumbeat.local import _kernel, _sql
from drumbeat.local._translate import beside

if TYPE_CHECKING:
    from drumbeat.local._call import Call

#: Less free space than this, in bytes, deserves a warning: SQLite needs room for its log.
_LITTLE_SPACE: Final = 64 * 1024 * 1024
#: A log of this many bytes was not checkpointed: some process keeps an old reading open, or is frozen.
_LONG_LOG: Final = 64 * 1024 * 1024
#: Open files that leave room for the two descriptors of each of 200 sessions.
_FEW_FILES: Final = 512


def examine(call: Call) -> tuple[Finding, ...]:
    """Return the findings for the file of a call."""
    path = call.store.path
    status = os.statvfs(path)
    free = status.f_bavail * status.f_frsize
    wal = beside(path, "-wal")
    log = wal.stat().st_size if wal.exists() else 0
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (
        Finding("ok", f"{path}, mode {path.stat().st_mode & 0o777:03o}, on {_kernel.file_system(path)}"),
        _finding(f"{free >> 20} MiB are free there", bad=free < _LITTLE_SPACE, advice="free some space"),
        _finding(
            f"the write-ahead log has {log >> 10} KiB",
            bad=log > _LONG_LOG,
            advice="look for a frozen process that has the file open",
        ),
        _finding(
            f"this process may have {files} open files",
            bad=files < _FEW_FILES,
            advice="each session takes two and more; raise the limit with `ulimit -n`",
        ),
        *_sessions(call),
        _integrity(call),
    )


def _sessions(call: Call) -> tuple[Finding, ...]:
    peers = call.rows(_sql.EVERYBODY)
    dead = sum(call.dead(peer) for peer in peers)
    seats = call.rows(_sql.SEATS)[0]["seats"]
    return (
        Finding("ok", f"{len(peers) - dead} live sessions; {seats} elections and locks have had a holder"),
        Finding("ok", f"{dead} dead sessions are still recorded; the next one that is opened clears them away"),
    )


def _integrity(call: Call) -> Finding:
    found = call.rows("PRAGMA quick_check")[0][0]
    level: Literal["ok", "error"] = "ok" if found == "ok" else "error"
    return Finding(level, f"SQLite's check of the file says: {found}")


def _finding(text: str, *, bad: bool, advice: str) -> Finding:
    return Finding("warning", f"{text}; {advice}") if bad else Finding("ok", text)
