"""The etcd backend of Drumbeat."""

from __future__ import annotations
