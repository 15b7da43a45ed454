"""The conformance suite of Drumbeat, and what it stands on."""

from __future__ import annotations
