"""Every backend answers as the reference model does, whatever is asked of it, in whatever order."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from randomised.hooks import NAMESPACE, HookMachine, open_backend

from drumbeat import cas
from drumbeat._cas.records import Keys, Session
from drumbeat.local import LocalBackend

if TYPE_CHECKING:
    from randomised.sides import Opened

    from drumbeat._facade import Backend


class LocalMachine(HookMachine):
    def start(self) -> None:
        self.folder = TemporaryDirectory()
        self.url = f"local://{self.folder.name}/drumbeat.db"

    def backend(self) -> Backend:
        return open_backend(LocalBackend, self.url, self.clock)

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()


class CompareAndSetMachine(HookMachine):
    exact = False

    def start(self) -> None:
        self.name = self.model_url.removeprefix("memory://")

    def backend(self) -> Backend:
        return open_backend(cas.MemoryCasBackend, f"memory-cas://{self.name}", self.clock)

    def is_over(self, opened: Opened) -> bool:
        values = cas._stores[os.getpid(), self.name].values
        key = Keys(NAMESPACE).session(opened.member_id)
        return not Session.decode(key, values[key][0]).is_live(opened.incarnation)

    def teardown(self) -> None:
        super().teardown()
        del cas._stores[os.getpid(), self.name]


@pytest.mark.parametrize("machine", [LocalMachine, CompareAndSetMachine])
def test_a_backend_answers_as_the_model_does(machine: type[HookMachine]) -> None:
    """Any sequence of hooks, leases running out meanwhile, has the model's answers and leaves the model's views."""
    run_state_machine_as_test(machine, settings=settings(max_examples=int(os.environ.get("N","100")), stateful_step_count=50))
