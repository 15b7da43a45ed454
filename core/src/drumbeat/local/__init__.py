"""The embedded backend for the processes of one host: SQLite for what is held, kernel locks for who is alive.

`local://` keeps everything in one file, by default below `$XDG_STATE_HOME`; `local:///path/to/file.db` names another.
There is no server. A killed process is noticed at once, because the kernel drops the lock that it held; a frozen one
when its TTL has passed.
"""

from __future__ import annotations

from drumbeat.local._backend import LocalBackend, default_path

__all__ = ["LocalBackend", "default_path"]
