"""The database file: opened once in a process, made if it is not there, closed while the process forks."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from drumbeat._errors import BadData, ConfigurationError, Forked, SessionLost, Unavailable
from drumbeat.local import _kernel, _sql
from drumbeat.local._translate import beside, refused, translated, why_refused

#: What a statement takes as a parameter.
Value = str | int | float | bytes | None

#: Pages between checkpoints stay SQLite's; beyond this many bytes a write-ahead log is cut after one.
_WAL_BYTES: Final = 4 * 1024 * 1024
#: The byte of the lock file that is locked while the database is made; slots are far above.
_MAKING: Final = 0
#: Seconds between two tries to lock it.
_MAKING_PAUSE: Final = 0.005

_opening = threading.Lock()
_registry = threading.Lock()
_stores: set[Store] = set()
#: Of stores that were released, the connections that may still have a statement under way.
_links: weakref.WeakSet[Link] = weakref.WeakSet()
_at_fork: list[str] = []


class Link:
    """One SQLite connection for all sessions of this process; opened when needed, closed while the process forks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = os.getpid()
        self._closing = False
        self._synced = False

    def rows(self, sql: str, parameters: Mapping[str, Value], *, until: float) -> list[sqlite3.Row]:
        """Return what a SELECT finds; `until` is on time.monotonic()."""
        return self._run(sql, parameters, until=until, synced=False)[0]

    def write(self, sql: str, parameters: Mapping[str, Value], *, until: float, synced: bool) -> int:
        """Run one statement that commits by itself; return the number of rows that it changed.

        With `synced` it has reached the disk, and with it all that came before.
        """
        return self._run(sql, parameters, until=until, synced=synced)[1]

    def _run(
        self, sql: str, parameters: Mapping[str, Value], *, until: float, synced: bool
    ) -> tuple[list[sqlite3.Row], int]:
        if not self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
            raise Unavailable(
                f"{self._store.path}: other threads of this process used the connection for all of the time allowed",
                outcome="not_applied",
            )
        try:
            with translated(self._store.path, opening=not self._store.has_worked):
                connection = self._ready(until=until, synced=synced)
                cursor = connection.execute(sql, parameters)
                self._store.has_worked |= cursor.rowcount >= 0
                return cursor.fetchall(), cursor.rowcount
        finally:
            self._lock.release()
            if self._closing:
                self.close()

    def _ready(self, *, until: float, synced: bool) -> sqlite3.Connection:
        connection = self._connection or self._open(until)
        if self._pid != os.getpid():
            raise Forked(
                f"{self._store.path} was open when this process was forked by something other than Python, which "
                "leaves SQLite unusable here; connect in the children only, or start them with exec"
            )
        connection.execute(f"PRAGMA busy_timeout = {max(1, round((until - time.monotonic()) * 1000))}")
        if synced is not self._synced:
            connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            self._synced = synced
        return connection

    def close(self) -> None:
        """Close for good, at once or when the statement that runs has ended; never waits."""
        self._closing = True
        if self._lock.acquire(blocking=False):
            self._close()
            self._lock.release()

    def pause(self) -> None:
        """Close, and keep other threads out until `resume`."""
        self._lock.acquire()
        self._close()

    def resume(self) -> None:
        """Let threads in again; the next statement opens a new connection."""
        self._pid = os.getpid()
        self._lock.release()

    def _open(self, until: float) -> sqlite3.Connection:
        if self._closing:
            raise SessionLost("the session was dropped in this process")
        connection = _connect(self._store.path, until=until)
        try:
            _check_format(connection, self._store.path)
            connection.executescript(
                "PRAGMA foreign_keys = ON; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                f"PRAGMA journal_size_limit = {_WAL_BYTES}"
            )
            self._store.require_current()
        except BaseException:
            connection.close()
            raise
        self._synced = False
        self._connection = connection
        return connection

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class Store:
    """One database file and the lock file beside it, as this process has them open."""

    def __init__(self, path: Path, *, until: float) -> None:
        self.path = path
        self.lock_path = beside(path, ".locks")
        #: Whether a write has succeeded: until then, what the system refuses was wrong from the beginning.
        self.has_worked = False
        self._uses = 1
        with translated(path, opening=True):
            _refuse_network(path)
            if not _is_drumbeat(path):
                _make(path, self.lock_path, until=until)
            if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
                # SQLite would open it for reading, and leave a log behind that nobody may write.
                raise refused(path, why_refused(path), opening=True)
            self._identity = _kernel.identity_of(path)
            self._mode = path.stat().st_mode & 0o666
            #: Other sessions' locks are looked at through this descriptor, which has none.
            self.probe = self.open_locks()
        #: For everything but heartbeats, which have a connection of their own so as not to wait.
        self.work = Link(self)
        self.beats = Link(self)

    @classmethod
    def share(cls, path: Path, *, until: float) -> Store:
        """Return the store of a path, which the process opens once; each caller releases it."""
        if not _opening.acquire(timeout=max(0.0, until - time.monotonic())):
            raise Unavailable(f"{path}: another thread of this process is opening it", outcome="not_applied")
        try:
            found = cls._find(path)
            if found is None:
                found = cls(path, until=until)
                _register(found)
            return found
        finally:
            _opening.release()

    @staticmethod
    def _find(path: Path) -> Store | None:
        with _registry:
            found = next((store for store in _stores if store.path == path and store.is_current()), None)
            if found is not None:
                found._uses += 1  # noqa: SLF001 - its own class
            return found

    def release(self) -> None:
        """Give a share back; the last one closes the file."""
        with _registry:
            self._uses -= 1
            if self._uses:
                return
            _stores.discard(self)
            # They never wait. One with a statement under way is closed after it, or by a fork.
            for link in (self.work, self.beats):
                _links.add(link)
                link.close()
        self.probe.close()

    def open_locks(self) -> _kernel.LockFile:
        """Return a new description of the lock file, with the mode of the database."""
        return _kernel.LockFile(self.lock_path, mode=self._mode)

    def is_current(self) -> bool:
        """Return whether the paths still name the files that were opened."""
        found = _kernel.identity_of(self.path), _kernel.identity_of(self.lock_path)
        return None not in found and found == (self._identity, self.probe.identity)

    def require_current(self) -> None:
        """Raise Unavailable unless the paths name what was opened."""
        if not self.is_current():
            raise Unavailable(f"{self.path} was deleted or replaced just now", outcome="not_applied")


def _register(store: Store) -> None:
    with _registry:
        _stores.add(store)
    if not _at_fork:
        _at_fork.append("registered")
        os.register_at_fork(before=_pause, after_in_parent=_resume, after_in_child=_forget)


def _pause() -> None:
    # A forked child inherits what SQLite knows of open files, and with it locks that it does not have: its own new
    # connection then lost committed writes (tried). See https://www.sqlite.org/howtocorrupt.html, section 2.6.
    _opening.acquire()
    _registry.acquire()
    for link in _all_links():
        link.pause()


def _all_links() -> list[Link]:
    return [*(link for store in _stores for link in (store.work, store.beats)), *_links]


def _resume() -> None:
    for link in _all_links():
        link.resume()
    _registry.release()
    _opening.release()


def _forget() -> None:
    for link in _all_links():
        link.resume()
    for store in _stores:
        store.probe.close()
    _stores.clear()
    _registry.release()
    _opening.release()


def _is_drumbeat(path: Path) -> bool:
    """Return whether the file is Drumbeat's, False if it is missing or empty; raise BadData otherwise.

    Asked of SQLite, because closing a descriptor of one's own would drop the locks that SQLite has on the file;
    and as an immutable file, because nothing of another program's file, or beside it, may change.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{path} is a folder or a special file; give local:// the path of a file")
    if status.st_size == 0:
        return False
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, isolation_level=None)
    try:
        found = connection.execute("PRAGMA application_id").fetchone()[0]
    finally:
        connection.close()
    if found != _sql.APPLICATION_ID:
        raise BadData(str(path), "belongs to another program")
    return True


def _make(path: Path, lock_path: Path, *, until: float) -> None:
    making = _kernel.LockFile(lock_path, mode=0o600)
    try:
        while not making.take(_MAKING):
            if time.monotonic() >= until:
                raise Unavailable(f"{path}: another process is making the file", outcome="not_applied")
            time.sleep(_MAKING_PAUSE)
        if not path.exists():
            # Left by a file that was deleted; SQLite would take them for this one's.
            for stale in ("-wal", "-shm", "-journal"):
                beside(path, stale).unlink(missing_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        if not _is_drumbeat(path):
            _make_tables(path, until=until)
    finally:
        making.close()


def _make_tables(path: Path, *, until: float) -> None:
    # With a rollback journal, so that the file itself says what it is from its first page on.
    connection = _connect(path, until=until)
    try:
        connection.executescript(_sql.SCHEMA)
    finally:
        connection.close()


def _connect(path: Path, *, until: float) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=max(0.001, until - time.monotonic()),
        isolation_level=None,
        check_same_thread=False,
    )
    connection.row_factory = sqlite3.Row
    return connection


def _check_format(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found == _sql.FORMAT:
        return
    if connection.execute("PRAGMA application_id").fetchone()[0] != _sql.APPLICATION_ID:
        raise Unavailable(f"{path}: its making was cut off and has been undone", outcome="not_applied")
    newer = "; a newer Drumbeat wrote it" if found > _sql.FORMAT else ""
    raise BadData(str(path), f"has format {found}, this version reads format {_sql.FORMAT}{newer}")


def _refuse_network(path: Path) -> None:
    kind = _kernel.file_system(path)
    if kind in _kernel.NETWORK_FILE_SYSTEMS:
        raise ConfigurationError(
            f"{path} is on a network file system ({kind}), where locks do not tell which process is alive; "
            "give local:// a path on a local disk, or use a backend with a server"
        )
