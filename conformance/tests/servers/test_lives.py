"""What a server promises, in a container and as a child process."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from kazoo.client import KazooClient  # type: ignore[import-untyped]
from kazoo.exceptions import NoNodeError  # type: ignore[import-untyped]

from drumbeat_conformance import servers
from drumbeat_conformance.servers import Server, ServerFailed
from drumbeat_conformance.servers._ask import redis_line
from drumbeat_conformance.servers._kinds import KINDS
from drumbeat_conformance.servers._launch import WAY
from drumbeat_conformance.servers._ports import Ports
from drumbeat_conformance.servers._programs import GRACE
from drumbeat_conformance.waiting import eventually

#: Seconds for a server to answer.
PATIENCE = 10.0
START: dict[str, Callable[[], Server]] = {
    "redis": servers.start_redis,
    "memcached": servers.start_memcached,
    "zookeeper": servers.start_zookeeper,
    "etcd": servers.start_etcd,
}
#: Every kind in a container, and those whose program is installed as a program too.
LIVES = [(way, kind) for kind in KINDS for way in ("container", "program") if way == "container" or KINDS[kind].find()]


@pytest.fixture(scope="module", params=LIVES, ids="-".join)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of each kind in each way, which each test leaves running."""
    way, kind = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WAY, way)
        with START[kind]() as started:
            yield started


def test_it_runs_as_asked(server: Server, request: pytest.FixtureRequest) -> None:
    """A server runs in the way that was asked for, says its version, and answers at its address."""
    way, kind = request.node.callspec.params["server"]

    assert (server.way, server.kind) == (way, kind)
    assert server.version[0].isdigit()
    assert (server.address, server.url) == (f"127.0.0.1:{server.port}", f"{kind}://127.0.0.1:{server.port}")
    assert not is_silent(server)


@pytest.mark.parametrize("end", [Server.stop, Server.kill], ids=["stop", "kill"])
def test_data_survive_a_restart(server: Server, end: Callable[[Server], None]) -> None:
    """A server that was stopped or killed refuses connections, and comes back on its port with its data."""
    note(server, "kept")

    end(server)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port))
    server.start()

    assert noted(server) == (None if server.kind == "memcached" else "kept")


def test_wipe_removes_data(server: Server) -> None:
    """A server that was wiped while it was down comes back empty; one that runs is not wiped."""
    note(server, "lost")

    with pytest.raises(RuntimeError, match=r"stop\(\) or kill\(\) it to wipe\(\) it"):
        server.wipe()
    server.kill()
    server.wipe()
    server.start()

    assert noted(server) is None


def test_pause(server: Server) -> None:
    """A server that is paused accepts connections and says nothing; one that is resumed goes on with its data."""
    note(server, "patient")

    server.pause()
    silent = is_silent(server)
    server.resume()

    assert silent
    assert eventually(lambda: noted(server), within=PATIENCE) == "patient"


def test_a_paused_server_can_be_killed_and_stopped(server: Server) -> None:
    """A server that is paused ends by SIGKILL, and gracefully, as soon as any other."""
    for end in (server.kill, server.stop):
        server.pause()
        begun = time.monotonic()
        end()
        assert time.monotonic() - begun < GRACE
        server.start()

    assert not is_silent(server)


def test_log(server: Server) -> None:
    """What a server printed can be read; memcached prints nothing."""
    assert bool(server.log()) == (server.kind != "memcached")


def test_what_makes_no_sense(start_redis: Callable[..., Server]) -> None:
    """A server that runs is not started twice, and one that is down is not paused."""
    server = start_redis()
    with pytest.raises(RuntimeError, match=r"runs; stop\(\) or kill\(\) it to start\(\) it again"):
        server.start()
    server.kill()
    with pytest.raises(RuntimeError, match=r"is down; start\(\) it to pause\(\) it"):
        server.pause()


def test_close_ends_it_for_good(start_redis: Callable[..., Server]) -> None:
    """A closed server refuses connections; closing it again, as its fixture will, does no harm."""
    server = start_redis()

    server.close()

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port))


def test_a_server_that_refuses_its_arguments(start_redis: Callable[..., Server]) -> None:
    """A server that ends at once is an error that ends with its log, not a long wait."""
    with pytest.raises(ServerFailed, match=r"(?s)redis on 127.0.0.1:\d+ ended; its log ends with:.*no-such-setting"):
        start_redis(arguments=("--no-such-setting", "1"))


def test_a_port_that_somebody_takes(monkeypatch: pytest.MonkeyPatch, start_memcached: Callable[..., Server]) -> None:
    """A port that somebody takes between choice and start is no error: another one is tried."""
    with socket.create_server(("", 0)) as somebody:
        port = somebody.getsockname()[1]
        choose = Ports.__init__
        chosen: list[Ports] = []

        def choose_a_taken_one_first(self: Ports, count: int, *, offsets: tuple[int, ...]) -> None:
            choose(self, count, offsets=offsets)
            self.numbers = self.numbers if chosen else [port]
            chosen.append(self)

        monkeypatch.setattr(Ports, "__init__", choose_a_taken_one_first)
        server = start_memcached()

    assert [ports.numbers for ports in chosen] == [[port], [server.port]]


def test_ports_are_kept_from_other_runs() -> None:
    """A port that was chosen is not chosen again, by any test run on this machine, until it is let go."""
    with Ports(1) as ports:
        (port,) = ports.numbers

        assert not Ports(0).keep(port)
    with Ports(0) as others:
        assert others.keep(port)


def note(server: Server, value: str) -> None:
    """Write the value."""
    match server.kind:
        case "redis":
            with redis_line(server.port) as line:
                line.call("SET", "note", value)
        case "memcached":
            assert _ask_memcached(server, f"set note 0 0 {len(value)}\r\n{value}\r\n") == "STORED"
        case "etcd":
            _ask_etcd(server, "put", value=value)
        case _:
            with _zookeeper(server) as client:
                client.ensure_path("/note")
                client.set("/note", value.encode())


def noted(server: Server) -> str | None:
    """Return the value, None if there is none; raise OSError if the server is silent."""
    match server.kind:
        case "redis":
            with redis_line(server.port) as line:
                answer = line.call("GET", "note")
            return None if answer is None else str(answer)
        case "memcached":
            _, *value = _ask_memcached(server, "get note\r\n").split("\r\n")
            return value[0] if value else None
        case "etcd":
            kvs = _ask_etcd(server, "range").get("kvs")
            return b64decode(kvs[0]["value"]).decode() if kvs else None
        case _:
            with _zookeeper(server) as client:
                try:
                    return str(client.get("/note")[0].decode())
                except NoNodeError:
                    return None


def is_silent(server: Server) -> bool:
    """Tell whether a server leaves a connection without an answer."""
    words = {
        "redis": b"PING\r\n",
        "memcached": b"version\r\n",
        "zookeeper": b"ruok",
        "etcd": b"GET /health HTTP/1.0\r\n\r\n",
    }
    with socket.create_connection((server.host, server.port), timeout=0.3) as line:
        line.sendall(words[server.kind])
        try:
            return line.recv(1) == b""
        except TimeoutError:
            return True


def _ask_memcached(server: Server, words: str) -> str:
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as line:
        line.sendall(words.encode())
        return line.recv(1000).decode().removesuffix("\r\n").removesuffix("END").rstrip("\r\n")


def _ask_etcd(server: Server, verb: str, **fields: str) -> dict[str, list[dict[str, str]]]:
    # https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/
    encoded = {name: b64encode(text.encode()).decode() for name, text in {"key": "note", **fields}.items()}
    url = f"http://{server.address}/v3/kv/{verb}"
    with urllib.request.urlopen(url, data=json.dumps(encoded).encode(), timeout=PATIENCE) as answer:
        found: dict[str, list[dict[str, str]]] = json.load(answer)
    return found


@contextmanager
def _zookeeper(server: Server) -> Iterator[KazooClient]:
    client = KazooClient(server.address)
    client.start(PATIENCE)
    try:
        yield client
    finally:
        client.stop()
        client.close()
