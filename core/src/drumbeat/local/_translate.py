"""The one place where errors of SQLite and of the operating system become errors of Drumbeat."""

from __future__ import annotations

import errno
import os
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from drumbeat._errors import BadData, ConfigurationError, DrumbeatError, Unavailable

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGED = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH})
_REFUSED = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH})
_REFUSED_BY_SYSTEM = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}
)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE})


@contextmanager
def translated(path: Path, *, opening: bool = False) -> Iterator[None]:
    """Raise Drumbeat's errors for what goes wrong inside, naming `path`.

    What can never work while the file is being opened is a ConfigurationError; the same trouble later, under a
    session that did work, is Unavailable.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _from_sqlite(path, error, opening=opening) from error
    except OSError as error:
        raise _from_system(path, error, opening=opening) from error


def beside(path: Path, suffix: str) -> Path:
    """Return the path of a file that stands beside `path` and has its name with a suffix."""
    return path.with_name(path.name + suffix)


def _from_sqlite(path: Path, error: sqlite3.Error, *, opening: bool) -> DrumbeatError:
    # See https://www.sqlite.org/rescode.html: the low byte is the kind of trouble.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_INTERNAL) & 0xFF
    if code in _BUSY:
        return Unavailable(
            f"{path}: another process kept SQLite's write lock for all of the time allowed. If this lasts, look for a "
            "frozen process that has the file open",
            outcome="not_applied",
        )
    if code == sqlite3.SQLITE_FULL:
        return _full(path, str(error))
    if code in _DAMAGED:
        return BadData(str(path), f"is damaged, or not a Drumbeat file ({error})")
    if code in _REFUSED:
        return refused(path, why_refused(path), opening=opening)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return Unavailable(
        f"{path}: SQLite reports {name} ({error}). Look at the disk, at quotas and at limits on the size of files"
    )


def _from_system(path: Path, error: OSError, *, opening: bool) -> DrumbeatError:
    reason = f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
    if error.errno in _REFUSED_BY_SYSTEM:
        return refused(path, reason, opening=opening)
    if error.errno in _FULL:
        return _full(path, reason)
    if error.errno in _TOO_MANY:
        return Unavailable(f"{path}: {_too_many()}", outcome="not_applied")
    return Unavailable(f"{path}: {reason}")


def _full(path: Path, reason: str) -> Unavailable:
    return Unavailable(f"{path}: there is no room to write ({reason}). Free some space", outcome="not_applied")


def refused(path: Path, reason: str, *, opening: bool) -> DrumbeatError:
    """Return the error for what the system does not allow."""
    text = f"{path} cannot be used: {reason}"
    if opening:
        return ConfigurationError(f"{text}. Nothing was written; mend that, or give local:// another path")
    return Unavailable(text, outcome="not_applied")


def _too_many() -> str:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return f"this process has too many open files (its limit, RLIMIT_NOFILE, is {limit}); raise it with `ulimit -n`"


def why_refused(path: Path) -> str:
    """Return why SQLite could not open or write; it says only that it could not."""
    folder = path.parent
    user = os.geteuid()
    if not os.access(folder, os.R_OK | os.X_OK, effective_ids=True):
        return f"user id {user} may not look into the folder {folder}, or there is none"
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return f"the file system of {folder} is mounted read-only"
    for name in (path, beside(path, "-wal"), beside(path, "-shm")):
        if name.exists() and not os.access(name, os.R_OK | os.W_OK, effective_ids=True):
            return f"user id {user} may not read and write {name}"
    if not os.access(folder, os.W_OK, effective_ids=True):
        return f"user id {user} may not make files in {folder}"
    return f"the system refused to open it; perhaps {_too_many()}"
