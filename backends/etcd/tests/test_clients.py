"""The client underneath: which package is used, and what a fork does to it."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from drumbeat import ConfigurationError
from drumbeat_etcd import _client
from drumbeat_etcd._client import load_messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.servers import Server


def test_importing_the_backend_loads_no_client() -> None:
    """Whoever lists the backends does not wait for gRPC."""
    code = "import sys, drumbeat_etcd; print(sorted({'grpc', 'pyetcd', 'etcd3', 'google.protobuf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_second_client_takes_over_where_the_first_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where protobuf is too old for pyetcd, its messages come from etcd3."""
    stand_in = ModuleType("etcd3.etcdrpc")

    def import_only_etcd3(name: str) -> ModuleType:
        if name.startswith("pyetcd"):
            raise ImportError("cannot import name 'runtime_version' from 'google.protobuf'")
        return stand_in if name == "etcd3.etcdrpc" else import_module(name)

    monkeypatch.setattr(_client, "import_module", import_only_etcd3)
    assert load_messages() is stand_in


def test_without_any_client_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """If neither package can be imported, connecting is a ConfigurationError with the command, and why."""

    def import_nothing(name: str) -> ModuleType:
        raise (ImportError if name.startswith("pyetcd") else TypeError)(f"{name} is too old\nfor this protobuf")

    monkeypatch.setattr(_client, "import_module", import_nothing)
    with pytest.raises(ConfigurationError, match=r"`pip install drumbeat-etcd .*pyetcd.etcdrpc is too old; etcd3"):
        load_messages()


LOADING = """
import os, sys

class Onlooker:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc":
            print(os.environ.get("GRPC_ENABLE_FORK_SUPPORT"))

sys.meta_path.insert(0, Onlooker())
import drumbeat_etcd._client
"""


@pytest.mark.parametrize(("given", "found"), [(None, "0"), ("1", "1")])
def test_grpc_is_told_to_stay_out_of_forks_before_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch, given: str | None, found: str
) -> None:
    """FAULT-8: gRPC's fork handlers, which abort a child at times, are off, unless the user has set the variable."""
    monkeypatch.delenv("GRPC_ENABLE_FORK_SUPPORT", raising=False)
    if given is not None:
        monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", given)
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=True)
    assert done.stdout == f"{found}\n"


FORKING = """
import os, sys, drumbeat
url, namespace, way = sys.argv[1:]
session = drumbeat.connect(url, namespace=namespace, member_id="parent", lease_ttl=10.0, connect_timeout=30)
term = session.election("e").campaign(timeout=5)
changes = session.group("g").watch()
next(changes)
for _ in range(3):
    child = os.fork()
    if child == 0:
        if way == "exit":
            sys.exit(term.held)
        try:
            drumbeat.connect(url, namespace=namespace, member_id="child")
        except drumbeat.Forked:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    session.beat()
    assert term.held
session.group("g").join()
assert next(changes).joined
session.close()
"""


@pytest.mark.parametrize("way", ["exit", "connect"])
def test_a_forked_child_leaves_the_parent_alone(etcd_server: Server, arena_on: Callable[..., Arena], way: str) -> None:
    """FAULT-8: a child that tidies up as it exits, or tries to connect, breaks nothing that its parent holds."""
    namespace = arena_on(etcd_server.url).namespace()
    command = [sys.executable, "-c", FORKING, etcd_server.url, namespace, way]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
