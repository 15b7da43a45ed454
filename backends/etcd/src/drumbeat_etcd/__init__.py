"""The etcd backend of Drumbeat: `etcd://HOST:PORT,HOST:PORT` and, with TLS, `etcds://`."""

from __future__ import annotations

from drumbeat_etcd._backend import EtcdBackend

__all__ = ["EtcdBackend"]
