"""The backends that the guarantees run on."""

from __future__ import annotations

from typing import Final

EMBEDDED: Final = ("memory", "memory-cas", "local")
#: Backends with a server, and the TTL in seconds that their tests count in: etcd grants whole seconds and looks for
#: expired leases twice a second.
SERVERS: Final = {"redis": 1.0, "memcached": 1.0, "zookeeper": 1.0, "etcd": 2.0}
