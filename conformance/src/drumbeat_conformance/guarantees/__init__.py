"""The catalogue: importing this package enters every guarantee."""

from __future__ import annotations

from drumbeat_conformance.guarantees import beat

__all__ = ["beat"]
