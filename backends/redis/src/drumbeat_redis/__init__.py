"""The Redis backend of Drumbeat: `redis://`, `rediss://`, `redis+sentinel://` and `redis+cluster://`."""

from __future__ import annotations

from drumbeat_redis._backend import RedisBackend

__all__ = ["RedisBackend"]
