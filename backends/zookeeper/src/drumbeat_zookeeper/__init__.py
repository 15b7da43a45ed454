"""`zookeeper://`: groups, heartbeats and leaders on Apache ZooKeeper."""

from __future__ import annotations

from drumbeat_zookeeper._backend import ZooKeeperBackend

__all__ = ["ZooKeeperBackend"]
