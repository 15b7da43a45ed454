"""Real servers for tests: in a container, as a child process, or named by a URL.

Each `start_...` function returns a server that answers, on ports of 127.0.0.1 that stay its own until it is closed.
With pytest, use the fixtures of `drumbeat_conformance.servers.plugin`, which end every server with its test.
"""

from __future__ import annotations

from drumbeat_conformance.servers._certificates import Certificates, make_certificates
from drumbeat_conformance.servers._clocked import can_step_clocks
from drumbeat_conformance.servers._errors import CouldNotRun, ServerFailed
from drumbeat_conformance.servers._etcd import EtcdCluster, start_etcd, start_etcd_cluster
from drumbeat_conformance.servers._memcached import start_memcached
from drumbeat_conformance.servers._named import NamedServer
from drumbeat_conformance.servers._redis import (
    RedisCluster,
    Sentinels,
    start_redis,
    start_redis_cluster,
    start_redis_sentinel,
)
from drumbeat_conformance.servers._server import Group, Server
from drumbeat_conformance.servers._zookeeper import Ensemble, start_zookeeper, start_zookeeper_ensemble

__all__ = [
    "Certificates",
    "CouldNotRun",
    "Ensemble",
    "EtcdCluster",
    "Group",
    "NamedServer",
    "RedisCluster",
    "Sentinels",
    "Server",
    "ServerFailed",
    "can_step_clocks",
    "make_certificates",
    "start_etcd",
    "start_etcd_cluster",
    "start_memcached",
    "start_redis",
    "start_redis_cluster",
    "start_redis_sentinel",
    "start_zookeeper",
    "start_zookeeper_ensemble",
]
