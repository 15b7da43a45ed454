"""Servers with settings of their own, and groups of servers; in the way that is at hand."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from drumbeat_conformance.servers import (
    Certificates,
    Ensemble,
    EtcdCluster,
    RedisCluster,
    Sentinels,
    Server,
    make_certificates,
)
from drumbeat_conformance.servers._ask import Refused, redis_line, zookeeper_version
from drumbeat_conformance.waiting import eventually

#: Seconds for servers to notice each other.
PATIENCE = 20.0
NEEDS_ENCODING = 'a "b/'


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates of a server, a client, and somebody else."""
    return make_certificates(tmp_path_factory.mktemp("tls"))


def handshake(server: Server, trust: Path, *, client: Certificates | None = None) -> str:
    """Return the version of TLS that a client with this trust agrees on."""
    context = ssl.create_default_context(cafile=trust)
    if client is not None:
        context.load_cert_chain(client.client_certificate, client.client_key)
    with (
        socket.create_connection((server.host, server.port), timeout=PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as line,
    ):
        return str(line.version())


@pytest.fixture(params=["redis", "memcached", "zookeeper", "etcd"])
def secured(request: pytest.FixtureRequest, certificates: Certificates) -> Server:
    """A server of each kind that speaks TLS."""
    server: Server = request.getfixturevalue(f"start_{request.param}")(tls=certificates)
    return server


def test_tls(secured: Server, certificates: Certificates) -> None:
    """A server with certificates convinces who trusts their authority, and nobody else; its URL says what to trust."""
    assert handshake(secured, certificates.authority, client=certificates).startswith("TLS")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(secured, certificates.stranger_authority, client=certificates)
    assert "?tls_ca_file=/" in secured.url


def test_tls_after_a_restart(start_redis: Callable[..., Server], certificates: Certificates) -> None:
    """A server keeps its certificates over a wipe."""
    server = start_redis(tls=certificates)
    server.stop()
    server.wipe()
    server.start()

    assert handshake(server, certificates.authority).startswith("TLS")


def test_passwords(start_redis: Callable[..., Server]) -> None:
    """Redis asks for the password, which its URL carries encoded, and knows the further users."""
    server = start_redis(password=NEEDS_ENCODING, acl=["alice on >secret ~* &* +@all"])

    with redis_line(server.port) as line, pytest.raises(Refused, match="NOAUTH"):
        line.call("PING")
    with redis_line(server.port, password=NEEDS_ENCODING) as line:
        assert line.call("AUTH", "alice", "secret") == "OK"
        assert line.call("ACL", "WHOAMI") == "alice"
    assert server.url == f"redis://:a%20%22b%2F@{server.address}"


def test_volatile(start_redis: Callable[..., Server]) -> None:
    """A Redis that is not persistent has lost all after a restart."""
    server = start_redis(persistent=False, arguments=("--maxmemory-policy", "volatile-lru"))
    with redis_line(server.port) as line:
        line.call("SET", "note", "lost")
        assert line.call("CONFIG", "GET", "maxmemory-policy") == ["maxmemory-policy", "volatile-lru"]

    server.stop()
    server.start()

    with redis_line(server.port) as line:
        assert line.call("GET", "note") is None


def test_sentinels(start_redis_sentinel: Callable[..., Sentinels]) -> None:
    """When the primary is killed, the sentinels make a replica the primary."""
    group = start_redis_sentinel(replicas=1, sentinels=3)
    (replica,) = group.replicas

    group.primary.kill()

    def named_by_all() -> bool:
        return all(primary_named_by(sentinel) == ["127.0.0.1", str(replica.port)] for sentinel in group.sentinels)

    assert eventually(named_by_all, within=PATIENCE)
    assert group.url == f"redis+sentinel://{','.join(each.address for each in group.sentinels)}/mymaster"


def primary_named_by(sentinel: Server) -> object:
    """Return host and port of the primary, as a sentinel says."""
    with redis_line(sentinel.port) as line:
        return line.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")


def test_cluster(start_redis_cluster: Callable[..., RedisCluster]) -> None:
    """Each node of a cluster sends clients that ask for another's key to 127.0.0.1 and its port."""
    group = start_redis_cluster(nodes=3)
    ports = {str(node.port) for node in group.nodes}

    directions = set()
    for node in group.nodes:
        for key in ("a", "b", "c", "d"):
            with redis_line(node.port) as line:
                try:
                    line.call("GET", key)
                except Refused as error:
                    directions.add(tuple(str(error).split()[2].split(":")))

    assert directions <= {("127.0.0.1", port) for port in ports}
    assert len(directions) > 1


def test_a_node_of_a_cluster_that_comes_back(start_redis_cluster: Callable[..., RedisCluster]) -> None:
    """A node that was killed is part of the cluster again after its start."""
    group = start_redis_cluster()
    group.nodes[0].kill()
    group.nodes[0].start()

    def is_whole() -> bool:
        with redis_line(group.nodes[1].port) as line:
            return "cluster_state:ok" in str(line.call("CLUSTER", "INFO"))

    assert eventually(is_whole, within=PATIENCE)


def test_ensemble(start_zookeeper_ensemble: Callable[..., Ensemble]) -> None:
    """An ensemble goes on without its leader, and takes it back, wiped or not."""
    group = start_zookeeper_ensemble()
    (leader,) = (node for node in group.nodes if is_leader(node))
    leader.kill()
    others = [node for node in group.nodes if node is not leader]

    assert eventually(lambda: any(is_leader(node) for node in others), within=PATIENCE)
    leader.wipe()
    leader.start()
    assert not is_leader(leader)


def ask(server: Server, word: bytes) -> str:
    """Return what a ZooKeeper answers to one of its words of four letters."""
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as line:
        line.sendall(word)
        return line.makefile("rb").read().decode()


def is_leader(server: Server) -> bool:
    """Tell whether a ZooKeeper leads."""
    return "Mode: leader" in ask(server, b"srvr")


@pytest.mark.parametrize(
    ("options", "granted"),
    [({}, 100), ({"quick": False}, 4000), ({"settings": {"minSessionTimeout": 700}}, 700)],
    ids=["quick", "defaults", "settings"],
)
def test_session_timeouts(start_zookeeper: Callable[..., Server], options: dict[str, object], granted: int) -> None:
    """Quick settings grant sessions of 0.1 s, the defaults none below 4 s, and a line of zoo.cfg replaces either."""
    server = start_zookeeper(**options)

    assert f"minSessionTimeout={granted}" in ask(server, b"conf").split()


def test_read_only(start_zookeeper: Callable[..., Server]) -> None:
    """A read-only ZooKeeper says so."""
    server = start_zookeeper(read_only=True)

    assert zookeeper_version(server.port, mode="read-only") == server.version


JAAS = """
Server {
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_alice="secret";
};
"""


def test_jaas(start_zookeeper: Callable[..., Server]) -> None:
    """With a JAAS file a server answers the opening of SASL by a challenge of DIGEST-MD5; without one, by an error."""
    assert b"algorithm=md5-sess" in begin_sasl(start_zookeeper(jaas=JAAS))
    assert b"algorithm=md5-sess" not in begin_sasl(start_zookeeper())


def begin_sasl(server: Server) -> bytes:
    """Open a session and SASL, and return the answer."""
    # https://github.com/apache/zookeeper/blob/release-3.8.0/zookeeper-jute/src/main/resources/zookeeper.jute
    connect = struct.pack(">iqiqi16s", 0, 0, 10_000, 0, 16, bytes(16))
    set_sasl = struct.pack(">iii", 1, 102, 0)
    with socket.create_connection((server.host, server.port), timeout=PATIENCE) as line:
        line.sendall(b"".join(struct.pack(">i", len(packet)) + packet for packet in (connect, set_sasl)))
        with line.makefile("rb") as stream:
            _, answer = (stream.read(*struct.unpack(">i", stream.read(4))) for _ in range(2))
    return bytes(answer)


def test_etcd_cluster(start_etcd_cluster: Callable[..., EtcdCluster]) -> None:
    """A cluster goes on without one of its members."""
    group = start_etcd_cluster()
    group.nodes[0].kill()

    def serves() -> bool:
        try:
            with urllib.request.urlopen(f"http://{group.nodes[1].address}/health", timeout=PATIENCE) as answer:
                health: dict[str, str] = json.load(answer)
        except OSError:
            return False
        return health["health"] == "true"

    assert eventually(serves, within=PATIENCE)


def test_defaults(start_etcd: Callable[..., Server]) -> None:
    """Only quick settings name a heartbeat; arguments are added in any case."""
    quick, slow = start_etcd(), start_etcd(quick=False, arguments=("--auto-compaction-retention=1",))

    assert "heartbeat = 20ms" in quick.log()
    assert "heartbeat = 100ms" in slow.log()
