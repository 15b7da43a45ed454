"""The Memcached backend of Drumbeat: `memcached://HOST:PORT`."""

from __future__ import annotations

from drumbeat_memcached._backend import MemcachedBackend

__all__ = ["MemcachedBackend"]
