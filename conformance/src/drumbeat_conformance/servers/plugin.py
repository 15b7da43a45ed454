"""Fixtures that start the servers, and the options that say how."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class _Named:
    url: str


def _fixture(kind: str):
    @pytest.fixture(scope="session", name=f"{kind}_server")
    def server() -> _Named:
        return _Named(os.environ[f"DRUMBEAT_TEST_URL_{kind.upper()}"])

    return server


redis_server = _fixture("redis")
zookeeper_server = _fixture("zookeeper")
memcached_server = _fixture("memcached")
etcd_server = _fixture("etcd")
