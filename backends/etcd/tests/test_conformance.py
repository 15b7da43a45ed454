"""Every promise of the contract tier, on a real server."""

from __future__ import annotations

from drumbeat_conformance import Conformance


class TestEtcd(Conformance):
    """The backend as it comes."""

    target = "etcd"
