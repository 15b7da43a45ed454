"""Every promise of the contract tier, on a real server."""

from __future__ import annotations

from drumbeat_conformance import Conformance


class TestMemcached(Conformance):
    """The backend as it comes."""

    target = "memcached"
