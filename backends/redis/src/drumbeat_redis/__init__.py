"""The Redis backend of Drumbeat."""

from __future__ import annotations
