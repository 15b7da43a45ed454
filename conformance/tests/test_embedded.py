"""Every promise of the contract tier, on the backends that need no server."""

from __future__ import annotations

from cas_example import FolderBackend

from drumbeat_conformance import Conformance


class TestMemory(Conformance):
    """The reference model."""

    target = "memory"
    fake_time = True


class TestMemoryCas(Conformance):
    """The compare-and-set backend on the simplest store."""

    target = "memory-cas"
    fake_time = True


class TestLocal(Conformance):
    """The default of `drumbeat.connect`, in real time."""

    target = "local"


class TestExample(Conformance):
    """The sixty lines of examples/, which no package announces."""

    target = "folder://{tmp}"
    factory = FolderBackend
    fake_time = True
