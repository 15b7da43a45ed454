"""What is not a ZooKeeper that can serve, and data that is not Drumbeat's: a clear error, and nothing overwritten."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from drumbeat import BackendError, BadData, ConfigurationError, Unavailable
from drumbeat.hookspecs import Bound
from drumbeat_conformance.actor import Actor
from drumbeat_conformance.strangers import babbler, mute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kazoo.client import KazooClient  # type: ignore[import-untyped]

    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.servers import Server

    Operator = Callable[..., KazooClient]

#: Seconds.
TIMEOUT = 2.0
OLD = b"Zookeeper version: 3.4.14-4c25d480e66aadd371de8bd2fd8da255ac140bcf, built on 03/06/2019\nMode: standalone\n"


@contextmanager
def refused() -> Iterator[int]:
    """Give a port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
    yield port


@contextmanager
def telling(answer: bytes) -> Iterator[int]:
    """Run a server that tells the first client one thing and hangs up, as ZooKeeper does after a four-letter word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(4)
                client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        thread.join(5.0)


def test_a_port_where_nobody_listens(arena_on: Callable[..., Arena]) -> None:
    """A wrong port is Unavailable at once, with the address."""
    with refused() as port, pytest.raises(Unavailable, match=f"127.0.0.1:{port}.*refused") as failure:
        arena_on(f"zookeeper://127.0.0.1:{port}").backend().describe(timeout=TIMEOUT)
    assert failure.value.outcome == "not_applied"


def test_a_port_where_somebody_else_answers(arena_on: Callable[..., Arena]) -> None:
    """A server of another kind is named as what it is not."""
    with babbler() as stranger, pytest.raises(BackendError, match=f"{stranger.address}"):
        arena_on(f"zookeeper://{stranger.address}").backend().describe(timeout=TIMEOUT)


def test_a_session_with_somebody_else_ends_in_time(arena_on: Callable[..., Arena]) -> None:
    """A server of another kind is Unavailable when a session is opened without looking first, and no thread dies."""
    with babbler() as stranger:
        started = time.monotonic()
        with pytest.raises(Unavailable, match=str(stranger.port)):
            arena_on(f"zookeeper://{stranger.address}").actor("a")
    assert time.monotonic() - started <= 3 * 5.0


def test_a_server_that_never_answers(arena_on: Callable[..., Arena]) -> None:
    """Silence is Unavailable when the time is over, for the question about the version and for a session."""
    with mute() as stranger:
        made = arena_on(f"zookeeper://{stranger.address}")
        for call in (
            lambda: made.backend().describe(timeout=TIMEOUT / 4),
            lambda: made.backend().open_session(
                Actor(made, "a", backend=made.backend()).request(), timeout=TIMEOUT / 4
            ),
        ):
            started = time.monotonic()
            with pytest.raises(Unavailable):
                call()
            assert time.monotonic() - started <= 2 * TIMEOUT


def test_a_version_that_is_too_old(arena_on: Callable[..., Arena]) -> None:
    """A version that lacks what is needed is refused with both numbers."""
    with telling(OLD) as port, pytest.raises(ConfigurationError, match=r"3\.4\.14.*3\.6"):
        arena_on(f"zookeeper://127.0.0.1:{port}").backend().describe(timeout=TIMEOUT)


def test_a_server_without_a_quorum(arena_on: Callable[..., Arena]) -> None:
    """A server that answers, and has nobody to agree with, is Unavailable with the reason."""
    words = b"This ZooKeeper instance is not currently serving requests\n"
    with telling(words) as port, pytest.raises(Unavailable, match="quorum"):
        arena_on(f"zookeeper://127.0.0.1:{port}").backend().describe(timeout=TIMEOUT)


def test_a_server_that_tells_only_its_version(
    start_zookeeper: Callable[..., Server], arena_on: Callable[..., Arena]
) -> None:
    """Where four-letter words are forbidden, but for the one that always works, a tick of two seconds is assumed."""
    server = start_zookeeper(settings={"4lw.commands.whitelist": "ruok"})
    made = arena_on(server.url, ttl=30.0)
    assert made.profile.failover == Bound(1.0, 3.0)
    assert made.actor("a").beat().lost == ()


def test_a_server_is_described(zookeeper_server: Server, arena_on: Callable[..., Arena]) -> None:
    """The profile names the server's version, and `doctor` tells its mode and what to mend."""
    backend = arena_on(zookeeper_server.url).backend()
    assert backend.describe(timeout=TIMEOUT).server.startswith("ZooKeeper 3.")
    findings = {finding.level: finding.message for finding in backend.diagnose(timeout=TIMEOUT)}
    assert set(findings) == {"ok", "warning"}
    assert "tick is 0.1 s" in findings["ok"]


def test_a_server_in_read_only_mode(start_zookeeper: Callable[..., Server], arena_on: Callable[..., Arena]) -> None:
    """A server that has lost its ensemble is Unavailable, by name, and no session is opened on it."""
    server = start_zookeeper(read_only=True)
    made = arena_on(server.url)
    with pytest.raises(Unavailable, match="read-only"):
        made.backend().describe(timeout=TIMEOUT)
    actor = Actor(made, "a", backend=made.backend())
    with pytest.raises(Unavailable):
        actor.backend.open_session(actor.request(), timeout=TIMEOUT)


def test_dead_hosts_among_living_ones(zookeeper_server: Server, arena_on: Callable[..., Arena]) -> None:
    """With several hosts one that refuses and one that is mute delay, and do not prevent, that a session is opened."""
    with refused() as port, mute() as stranger:
        hosts = f"127.0.0.1:{port},{stranger.address},{zookeeper_server.address}"
        made = arena_on(f"zookeeper://{hosts}", ttl=3.0)
        assert made.backend().describe(timeout=TIMEOUT).server.startswith("ZooKeeper 3.")
        assert made.actor("a").beat().lost == ()


def test_a_chroot_that_does_not_exist_is_made(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Operator
) -> None:
    """The nodes of the URL's path are made; another path is another store."""
    one, other = (arena_on(f"zookeeper://{zookeeper_server.address}/app/{part}", ttl=30.0) for part in ("one", "two"))
    other._prefix = one._prefix
    one.actor("a").join("g")
    assert other.actor("a").members("g") == {}
    client = operator(zookeeper_server.address)
    assert f"{one._prefix}tests" in client.get_children("/app/one")


def test_a_node_of_somebody_else_in_place_of_the_namespace(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Operator
) -> None:
    """SAFE-2: a namespace's node with other data, or of a newer format, is named and left alone."""
    made = arena_on(zookeeper_server.url)
    client = operator(zookeeper_server.address)
    path = f"/{made._prefix}tests"
    for data in (b"", b"hello", b"drumbeat-zookeeper 2"):
        client.create(path, data)
        with pytest.raises(BadData) as failure:
            made.actor("a")
        assert failure.value.key == path
        assert client.get(path)[0] == data
        assert client.get_children(path) == []
        client.delete(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"rubbish",
        b"{}\n",
        b'{"format": 2}\n',
        b'{"format": 1, "incarnation": 3}\n',
        b"[]",
        pytest.param(b"[" * 100_000, id="deep"),
        *(
            b'{"format": 1, "incarnation": "i", "member_id": "b", %b}\n' % fields
            for fields in (b'"ttl": NaN', b'"ttl": Infinity', b'"ttl": 0', b'"ttl": -1', b'"ttl": true', b'"ttl": 1e9')
        ),
        b'{"format": 1, "incarnation": "i", "member_id": "b", "ttl": 1, "attempt": true}\n',
        b'{"format": 1, "incarnation": "i", "member_id": "b", "ttl": 1, "secret": "zz"}\n',
    ],
)
def test_rubbish_under_our_nodes(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Operator, data: bytes
) -> None:
    """SAFE-2: what Drumbeat did not write, cut off, or of a newer format, is named and left alone, wherever it is."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    actor = made.actor("a")
    actor.join("g")
    actor.resign(actor.win("e"))
    actor.resign(actor.win("f"))
    client = operator(zookeeper_server.address)
    root = f"/{made._prefix}tests"
    ways: dict[str, Callable[[], object]] = {
        f"{root}/groups/g/x": lambda: actor.members("g"),
        f"{root}/leaders/e": lambda: actor.leader("e"),
        f"{root}/elections/f/x": lambda: actor.campaign("f"),
        f"{root}/sessions/b": lambda: made.actor("b"),
    }
    for path, call in ways.items():
        client.create(path, data)
        with pytest.raises(BadData) as failure:
            call()
        assert failure.value.key == path
        assert client.get(path)[0] == data
    with pytest.raises(BadData):
        actor.campaign("e")


def test_rubbish_in_one_election_ends_no_session(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Operator
) -> None:
    """SAFE-2: an election with somebody else's leader cannot be won; heartbeats go on, and the attempt is forgotten."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    actor = made.actor("a")
    seat = actor.win("e")
    client = operator(zookeeper_server.address)
    client.create(f"/{made._prefix}tests/leaders/f", b"rubbish")
    for _ in range(2):
        with pytest.raises(BadData):
            actor.campaign("f")
    del actor.candidacies["f"]
    assert actor.beat().lost == ()
    assert actor.seats == {"e": seat}
    assert client.get_children(f"/{made._prefix}tests/elections/f") == []


@pytest.mark.parametrize("data", [b"", b"\xff", b"another"])
def test_a_group_whose_node_does_not_have_its_name(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Operator, data: bytes
) -> None:
    """SAFE-2: a group's node that names no group, or another one, is named rather than listed."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    actor = made.actor("a")
    path = f"/{made._prefix}tests/groups/g"
    client = operator(zookeeper_server.address)
    client.create(path, data)
    client.create(f"{path}/x", b"")
    with pytest.raises(BadData) as failure:
        actor.groups()
    assert failure.value.key == path


@pytest.mark.parametrize("ephemeral", [False, True])
def test_a_session_that_does_not_own_its_node(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Operator, ephemeral: bool
) -> None:
    """SAFE-2: a node that stays, or is of another session than it says, is named, and nobody's session is ended."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    victim = made.actor("a")
    path = f"/{made._prefix}tests/sessions"
    client = operator(zookeeper_server.address)
    client.create(f"{path}/b", client.get(f"{path}/a")[0], ephemeral=ephemeral)
    actor = Actor(made, "b", backend=made.backend())
    with pytest.raises(BadData, match="not of the session that it names") as failure:
        actor.open(actor.request(replace=True))
    assert failure.value.key == f"{path}/b"
    assert victim.beat().lost == ()


@pytest.mark.parametrize("part", ["groups", "elections", "leaders"])
def test_a_namespace_with_a_part_missing(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Operator, part: str
) -> None:
    """SAFE-2: where a folder of the namespace was removed, a call names the namespace rather than guess."""
    made = arena_on(zookeeper_server.url, ttl=30.0)
    actor = made.actor("a")
    client = operator(zookeeper_server.address)
    client.delete(f"/{made._prefix}tests/{part}", recursive=True)
    with pytest.raises(BadData, match="lacks a part"):
        actor.join("g") if part == "groups" else actor.campaign("e")
