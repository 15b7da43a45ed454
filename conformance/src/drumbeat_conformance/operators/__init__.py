"""Operators: somebody with full rights at a server who does not use Drumbeat, for what guarantees cannot do through it.

`KNOWN` holds those of our backends. For another backend write a class with the methods of `Operator`, and name what
makes one from a URL: as `operator` of the test class, or by `--operator MODULE:CLASS` on the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from drumbeat_conformance.operators._base import Operator, Spoiling, Spoilt
from drumbeat_conformance.operators._etcd import EtcdOperator
from drumbeat_conformance.operators._memcached import MemcachedOperator
from drumbeat_conformance.operators._redis import RedisOperator
from drumbeat_conformance.operators._zookeeper import ZooKeeperOperator

__all__ = [
    "KNOWN",
    "EtcdOperator",
    "MemcachedOperator",
    "Operator",
    "RedisOperator",
    "Spoiling",
    "Spoilt",
    "ZooKeeperOperator",
]

#: What makes an operator from the URL of a store, by the URL's scheme.
KNOWN: Final[Mapping[str, Callable[[str], Operator]]] = {
    "redis": RedisOperator,
    "memcached": MemcachedOperator,
    "zookeeper": ZooKeeperOperator,
    "etcd": EtcdOperator,
}
