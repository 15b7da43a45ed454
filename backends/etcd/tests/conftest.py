"""Sessions that a test plays hook by hook on an etcd of its choice, and an operator who looks at that etcd."""

from __future__ import annotations

import base64
import json
import re
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

import drumbeat
from drumbeat_conformance.servers import Certificates, Server, make_certificates

#: Seconds: the lease of whole sessions, and the unit of every bound.
TTL = 2.0
SECRET = "hunter2-secret"  # noqa: S105 - opens nothing but the servers of these tests; must never be shown


class Operator:
    """Somebody with full rights who does not use Drumbeat, but etcd's JSON gateway.

    See https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._token = ""

    def ask(self, path: str, **fields: object) -> dict[str, object]:
        """Call one method of the gateway, and return its answer."""
        request = urllib.request.Request(
            f"http://{self.address}/v3/{path}",
            data=json.dumps(fields).encode(),
            headers={"Authorization": self._token} if self._token else {},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - the same
            return cast("dict[str, object]", json.load(answer))

    def authenticate(self, name: str, password: str) -> None:
        """Ask as this user from now on."""
        self._token = str(self.ask("auth/authenticate", name=name, password=password)["token"])

    def permit(self, role: str, prefix: str) -> None:
        """Let a role read and write below a prefix that ends in a slash."""
        permission = {"permType": "READWRITE", "key": _encoded(prefix), "range_end": _encoded(f"{prefix[:-1]}0")}
        self.ask("auth/role/grant", name=role, perm=permission)

    def put(self, key: str | bytes, value: str, *, lease: int = 0) -> None:
        """Write a key, on no lease or on this one."""
        self.ask("kv/put", key=_encoded(key), value=_encoded(value), lease=lease)

    def delete(self, key: str) -> bool:
        """Delete a key; return whether it was there."""
        return self.ask("kv/deleterange", key=_encoded(key)).get("deleted") == "1"

    def read(self, prefix: str) -> dict[str, str]:
        """Return all keys below a prefix that ends in a slash, with their values."""
        found = self.ask("kv/range", key=_encoded(prefix), range_end=_encoded(f"{prefix[:-1]}0")).get("kvs", [])
        return {_decoded(kv["key"]): _decoded(kv.get("value", "")) for kv in cast("list[dict[str, str]]", found)}

    def lease_of(self, key: str) -> int:
        """Return the lease that a key hangs on."""
        (kv,) = cast("list[dict[str, str]]", self.ask("kv/range", key=_encoded(key))["kvs"])
        return int(kv["lease"])

    def leases(self) -> int:
        """Return how many leases there are."""
        return len(cast("list[object]", self.ask("lease/leases").get("leases", [])))

    def revision(self) -> int:
        """Return the store's revision."""
        header = cast("dict[str, str]", self.ask("kv/range", key=_encoded("none"))["header"])
        return int(header["revision"])

    def compact(self) -> None:
        """Forget everything but the newest values."""
        self.ask("kv/compaction", revision=self.revision(), physical=True)

    def leader(self) -> str:
        """Return the id of the cluster's leader."""
        return str(self.ask("maintenance/status")["leader"])

    def member(self) -> str:
        """Return the id of this server."""
        return cast("dict[str, str]", self.ask("maintenance/status")["header"])["member_id"]

    def requests(self) -> int:
        """Return how many gRPC requests the server has taken, those of the gateway excepted."""
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        return sum(
            int(float(count)) for count in re.findall(r"^grpc_server_started_total\{.*\} (.*)$", text, re.MULTILINE)
        )


def _encoded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def _decoded(text: str) -> str:
    return base64.b64decode(text).decode(errors="replace")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Certificates of a server and of a client."""
    return make_certificates(tmp_path / "certificates")


@pytest.fixture
def with_users(start_etcd: Callable[..., Server]) -> Callable[..., Operator]:
    """Start an etcd that asks for user and password, and lets `app` write under one prefix."""

    def start(prefix: str) -> Operator:
        operator = Operator(start_etcd().address)
        operator.ask("auth/user/add", name="root", password=SECRET)
        operator.ask("auth/user/grant", user="root", role="root")
        operator.ask("auth/user/add", name="app", password=SECRET)
        operator.ask("auth/role/add", name="app")
        operator.permit("app", prefix)
        operator.ask("auth/user/grant", user="app", role="app")
        operator.ask("auth/enable")
        operator.authenticate("root", SECRET)
        return operator

    return start


@pytest.fixture
def refused(caplog: pytest.LogCaptureFixture) -> Callable[..., drumbeat.DrumbeatError]:
    """Connect in vain: return the error, once it is clear that it came in time and shows no secret."""
    caplog.set_level("DEBUG")

    def connect(
        url: str, *, kind: type[drumbeat.DrumbeatError], within: float = 2.0, namespace: str = "tests"
    ) -> drumbeat.DrumbeatError:
        started = time.monotonic()
        with pytest.raises(drumbeat.DrumbeatError) as refusal:
            drumbeat.connect(url, lease_ttl=TTL, connect_timeout=within, namespace=namespace).close()
        assert time.monotonic() - started < 2 * within
        error = refusal.value
        assert type(error) is kind, repr(error)
        shown = "".join(traceback.format_exception(error)) + repr(error) + caplog.text
        assert SECRET not in shown
        return error

    return connect


@pytest.fixture
def operator_of() -> Callable[[Server], Operator]:
    """Look at a server beside Drumbeat."""
    return lambda server: Operator(server.address)
