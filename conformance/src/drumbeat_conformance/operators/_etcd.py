"""An operator of etcd, who uses its JSON gateway: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/."""

from __future__ import annotations

import base64
import http.client
import json
import re
from collections.abc import Sequence
from typing import Final, cast, final

from drumbeat.hookspecs import encode_key
from drumbeat_conformance.operators._base import Spoiling, TextRecords, address_of

__all__ = ["EtcdOperator"]

_TIMEOUT: Final = 5.0
_OK: Final = 200


@final
class EtcdOperator:
    """Somebody with full rights at one etcd without TLS and users."""

    def __init__(self, url: str) -> None:
        self._host, self._port = address_of(url, port=2379)

    def ask(self, path: str, **fields: object) -> dict[str, object]:
        """Call one method of the gateway; return its answer, or raise RuntimeError."""
        return cast("dict[str, object]", json.loads(self._http("POST", f"/v3/{path}", json.dumps(fields))))

    def key(self, namespace: str, rest: str) -> str:
        """Return a key of a namespace, for example that of "leader/e"."""
        return f"{encode_key(namespace)}/{rest}"

    def read(self, key: str) -> bytes | None:
        """Return the value of a key."""
        found = self._range(key)
        return None if not found else base64.b64decode(found[0].get("value", ""))

    def lease_of(self, key: str) -> int:
        """Return the lease that a key hangs on."""
        (found,) = self._range(key)
        return int(found.get("lease", "0"))

    def keys(self, namespace: str) -> set[str]:
        """Return what the keys of a namespace are called within it."""
        root = self.key(namespace, "")
        found = self._range(root, end=f"{root[:-1]}0", keys_only=True)
        return {base64.b64decode(one["key"]).decode().removeprefix(root) for one in found}

    def write(self, key: str, value: bytes) -> None:
        """Write a key, on no lease."""
        self.ask("kv/put", key=_encoded(key), value=base64.b64encode(value).decode())

    def delete(self, key: str) -> bool:
        """Delete a key; return whether it was there."""
        return self.ask("kv/deleterange", key=_encoded(key)).get("deleted") == "1"

    def revoke(self, lease: int) -> None:
        """Revoke a lease, and with it all that hangs on it."""
        self.ask("lease/revoke", ID=lease)

    def count_leases(self) -> int:
        """Return how many leases there are."""
        return len(cast("list[object]", self.ask("lease/leases").get("leases", [])))

    def compact(self) -> None:
        """Forget everything but the newest values."""
        header = cast("dict[str, str]", self.ask("kv/range", key=_encoded("none"))["header"])
        self.ask("kv/compaction", revision=int(header["revision"]), physical=True)

    def raise_alarm(self, *, active: bool) -> None:
        """Have the server believe that its disk is full, or no longer."""
        member = cast("dict[str, str]", self.ask("maintenance/status")["header"])["member_id"]
        self.ask("maintenance/alarm", action="ACTIVATE" if active else "DEACTIVATE", memberID=member, alarm="NOSPACE")

    def count_requests(self) -> int:
        """Return how many gRPC requests the server has taken, those of the gateway excepted."""
        text = self._http("GET", "/metrics").decode()
        counts = re.findall(r"^grpc_server_started_total\{.*\} (.*)$", text, re.MULTILINE)
        return sum(int(float(count)) for count in counts)

    def spoilings(self) -> Sequence[Spoiling]:
        """Return ways to spoil a seat and the birth record: a line of JSON that begins with the format."""

        def newer(record: bytes) -> bytes:
            return record.replace(b"[1,", b"[2,", 1)

        return TextRecords(
            key_of={
                "seat": lambda namespace, election: self.key(namespace, f"leader/{encode_key(election)}"),
                "store": lambda namespace, _: self.key(namespace, "birth"),
            },
            newer={"seat": newer, "store": newer},
            read=self.read,
            write=self.write,
        ).spoilings()

    def _range(self, key: str, *, end: str = "", keys_only: bool = False) -> list[dict[str, str]]:
        found = self.ask("kv/range", key=_encoded(key), range_end=_encoded(end), keys_only=keys_only)
        return cast("list[dict[str, str]]", found.get("kvs", []))

    def _http(self, method: str, path: str, body: str | None = None) -> bytes:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status != _OK:
            raise RuntimeError(f"etcd answered {answer.status} to {path}: {data.decode(errors='replace')}")
        return data


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
