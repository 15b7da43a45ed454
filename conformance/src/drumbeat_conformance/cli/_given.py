"""The module that pytest collects for the command line."""

from __future__ import annotations

from drumbeat_conformance.cli import _session

Test = _session.test_class()
