"""Bad input: a clear error of the right kind, in bounded time, without the secret."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import pytest

from drumbeat import (
    AuthenticationError,
    BackendError,
    Capability,
    ConfigurationError,
    DrumbeatError,
    Unavailable,
)
from drumbeat.hookspecs import LeaderSubject
from drumbeat_conformance.strangers import babbler, mute
from drumbeat_conformance.waiting import eventually

if TYPE_CHECKING:
    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.servers import RedisCluster, Sentinels, Server

Refused = Callable[..., DrumbeatError]

#: What the README says that a user needs; `{}` is the password.
RULES = (
    "on >{} ~drumbeat:* resetchannels &drumbeat:* -@all +info +wait +evalsha +eval +publish +subscribe +unsubscribe "
    "+ping +select +exists +del +persist +pexpire +pttl +time +hget +hmget +hset +hdel +hgetall +hkeys +hexists"
)


@pytest.fixture
def guarded(start_redis: Callable[..., Server], secret: str) -> Server:
    """A server with a password and ACL users."""
    return start_redis(
        password=secret,
        acl=(
            f"alice {RULES.format(secret)}",
            f"keyless on >{secret} ~other:* &* +@all",
            f"deaf on >{secret} ~* resetchannels +@all",
            f"mutilated {RULES.format(secret)} -hset",
            f"blind {RULES.format(secret)} -info",
        ),
    )


def test_a_password_lets_in(guarded: Server, arena_on: Callable[..., Arena]) -> None:
    """The default user with its password may do everything."""
    arena_on(guarded.url, ttl=30.0).actor("a").win("e")


def test_an_acl_user_with_the_documented_rules_lacks_nothing(
    guarded: Server, arena_on: Callable[..., Arena], secret: str
) -> None:
    """The rules in the README are enough for every operation."""
    arena = arena_on(f"redis://alice:{secret}@{guarded.address}/2?min_replicas=0", ttl=30.0)
    one, two = arena.actor("a"), arena.actor("b")
    one.join("g")
    one.update("g", b"2")
    seat = one.win("e")
    two.wait_for("e")
    one.proclaim(seat, b"v")
    assert one.beat().lost == ()
    assert (two.groups(), two.members("g")) == ({"g"}, {"a": b"2"})
    one.leave("g")
    one.resign(seat)
    two.backend.watch(two.lease, LeaderSubject("e"), lambda: None, timeout=5.0)()
    two.win("e")
    assert two.close()


@pytest.mark.parametrize("user", ["", "alice", "nobody"])
def test_a_wrong_password_or_user_is_an_authentication_error(
    guarded: Server, refused: Refused, secret: str, user: str
) -> None:
    """A wrong password and an unknown user are said in words, with the server's address."""
    error = refused(f"redis://{user}:{secret}-not@{guarded.address}", kind=AuthenticationError)
    assert guarded.address in str(error)
    assert (user or "default") in str(error)


def test_a_missing_password_is_asked_for(guarded: Server, refused: Refused) -> None:
    """Without credentials a guarded server's refusal says where to write them."""
    error = refused(f"redis://{guarded.address}", kind=AuthenticationError)
    assert "asks for a user and a password" in str(error)


@pytest.mark.parametrize(
    ("user", "missing"),
    [("keyless", "keys"), ("mutilated", "HSET"), ("blind", "info")],
)
def test_a_missing_permission_is_named(guarded: Server, refused: Refused, secret: str, user: str, missing: str) -> None:
    """NOPERM: an ACL user that may not do what Drumbeat needs is told what is missing."""
    error = refused(f"redis://{user}:{secret}@{guarded.address}", kind=AuthenticationError)
    assert user in str(error)
    assert missing in str(error)


def test_a_user_without_channels_changes_nothing(
    guarded: Server, arena_on: Callable[..., Arena], peek: Callable[..., Callable[..., object]], secret: str
) -> None:
    """NOPERM on a channel comes before anything was written."""
    arena = arena_on(f"redis://deaf:{secret}@{guarded.address}", ttl=30.0)
    actor = arena.actor("a")
    with pytest.raises(AuthenticationError, match=r"PUBLISH drumbeat:\S+:group:g"):
        actor.join("g")
    assert peek(guarded.port, password=secret)("KEYS", "*:group*") == []
    with pytest.raises(AuthenticationError, match="channels"):
        actor.backend.watch(actor.lease, LeaderSubject("e"), lambda: None, timeout=5.0)


def test_a_wrong_port_is_unavailable(refused: Refused, secret: str) -> None:
    """Where nobody listens the server is Unavailable, and nothing was changed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = refused(f"redis://alice:{secret}@127.0.0.1:{port}", kind=Unavailable, within=1.0)
    assert isinstance(error, Unavailable)
    assert error.outcome == "not_applied"
    assert f"127.0.0.1:{port}" in str(error)


def test_a_mute_server_is_unavailable_in_time(refused: Refused, secret: str) -> None:
    """A server that accepts and never answers costs the connect timeout and no more."""
    with mute() as stranger:
        error = refused(f"redis://alice:{secret}@{stranger.address}", kind=Unavailable, within=1.0)
        assert stranger.address in str(error)


@pytest.mark.parametrize(
    "greeting", [b"220 example.org ready\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"*2\r\n$x\r\n"]
)
def test_a_stranger_is_recognised(refused: Refused, secret: str, greeting: bytes) -> None:
    """What does not speak the protocol is said to be something else."""
    with babbler(greeting) as stranger:
        error = refused(f"redis://alice:{secret}@{stranger.address}", kind=BackendError)
        assert "does not speak" in str(error)


@pytest.mark.parametrize(
    ("echo", "kind"),
    [
        ("-ERR unknown command `AUTH`, with args beginning with: `alice`, `{}`", BackendError),
        ("500 unknown command AUTH alice {}", BackendError),
        (":{}", BackendError),
        ("-LOADING {}", Unavailable),
        ("-NOPERM {}", AuthenticationError),
        ("+OK\r\n$40\r\nredis_version:{}        ", BackendError),
    ],
)
def test_a_stranger_that_repeats_our_words_does_not_show_the_secret(
    refused: Refused, secret: str, echo: str, kind: type[DrumbeatError]
) -> None:
    """SAFE-1: whatever quotes the login back at us is not passed on, nor chained to what is raised."""
    with babbler(f"{echo.format(secret)}\r\n".encode()) as stranger:
        refused(f"redis://alice:{secret}@{stranger.address}", kind=kind)


def test_too_few_replicas_are_told(start_redis: Callable[..., Server], refused: Refused) -> None:
    """Connecting with more min_replicas than replicas says how many there are."""
    error = refused(f"{start_redis().url}?min_replicas=2", kind=Unavailable)
    assert "has 0 replicas connected, and min_replicas asks for 2" in str(error)


def test_a_server_without_a_connection_left(start_redis: Callable[..., Server], refused: Refused) -> None:
    """A server that has all the clients that it allows says so."""
    server = start_redis(arguments=["--maxclients", "4"])
    with ExitStack() as stack:

        def is_served() -> bool:
            """Connect once more; return whether the server has a connection left by now, which only an answer shows."""
            client = stack.enter_context(socket.create_connection((server.host, server.port), timeout=10.0))
            with suppress(ConnectionError):
                client.sendall(b"PING\r\n")
                return client.recv(64) == b"+PONG\r\n"
            return False

        for _ in range(4):
            eventually(is_served, within=10.0)
        assert "no connection left (maxclients)" in str(refused(server.url, kind=Unavailable))


def test_memcached_is_not_redis(start_memcached: Callable[..., Server], refused: Refused) -> None:
    """On memcached's port the error says that this is no Redis."""
    server = start_memcached()
    assert "does not speak" in str(refused(f"redis://{server.address}", kind=BackendError))


def test_a_server_of_another_kind_with_the_same_protocol_is_refused(refused: Refused) -> None:
    """A server whose INFO does not say that it is Redis is not taken for one."""
    with babbler(b"$5\r\nhello\r\n") as stranger:
        assert "Redis" in str(refused(f"redis://{stranger.address}", kind=BackendError))


def test_an_old_server_is_refused_by_version(refused: Refused) -> None:
    """A server that is too old is a ConfigurationError with its version and the lowest one that will do."""
    text = b"# Server\r\nredis_version:5.0.14\r\nredis_mode:standalone\r\nrole:master\r\n"
    with babbler(b"$%d\r\n%s\r\n" % (len(text), text)) as stranger:
        error = refused(f"redis://{stranger.address}", kind=ConfigurationError)
    assert "5.0.14" in str(error)
    assert "6.2" in str(error)


def test_a_database_that_is_not_there_is_refused(redis_server: Server, refused: Refused) -> None:
    """A number beyond the server's databases is a ConfigurationError."""
    assert "database" in str(refused(f"redis://{redis_server.address}/99999", kind=ConfigurationError))


@pytest.fixture(scope="module")
def watched() -> Iterator[Sentinels]:
    """A primary with a replica behind Sentinels."""
    from drumbeat_conformance.servers import start_redis_sentinel

    with start_redis_sentinel() as group:
        yield group


def test_a_replica_is_refused(watched: Sentinels, refused: Refused) -> None:
    """A replica is a ConfigurationError that names its primary."""
    error = refused(f"redis://{watched.replicas[0].address}", kind=ConfigurationError)
    assert watched.primary.address in str(error)


def test_a_sentinel_is_no_server(watched: Sentinels, refused: Refused) -> None:
    """A Sentinel's port with redis:// says which scheme it is for."""
    error = refused(f"redis://{watched.sentinels[0].address}", kind=ConfigurationError)
    assert "redis+sentinel://" in str(error)


def test_a_server_is_no_sentinel(watched: Sentinels, refused: Refused) -> None:
    """A server's port with redis+sentinel:// says that it is no Sentinel."""
    error = refused(f"redis+sentinel://{watched.primary.address}/mymaster", kind=ConfigurationError)
    assert "no Sentinel" in str(error)


def test_an_unknown_service_is_named(watched: Sentinels, refused: Refused) -> None:
    """A group of servers that the Sentinels do not watch is a ConfigurationError with its name."""
    url = watched.url.replace("/mymaster", "/other")
    assert "'other'" in str(refused(url, kind=ConfigurationError))


def test_a_server_alone_is_no_cluster(redis_server: Server, refused: Refused) -> None:
    """redis+cluster:// on a server without cluster support says so."""
    assert "redis://" in str(refused(f"redis+cluster://{redis_server.address}", kind=ConfigurationError))


def test_a_node_is_no_server_alone(start_redis_cluster: Callable[..., RedisCluster], refused: Refused) -> None:
    """redis:// on a node of a cluster says which scheme it is for."""
    cluster = start_redis_cluster()
    error = refused(f"redis://{cluster.nodes[0].address}", kind=ConfigurationError)
    assert "redis+cluster://" in str(error)


# What doctor says -------------------------------------------------------------------------------------------


def findings(arena: Arena) -> dict[str, list[str]]:
    """Return what the backend tells an operator, by level."""
    told: dict[str, list[str]] = {"ok": [], "warning": [], "error": []}
    for finding in arena.backend().diagnose(timeout=5.0):
        told[finding.level].append(finding.message)
    return told


def test_doctor_has_nothing_against_a_good_server(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena]
) -> None:
    """A primary with an append-only file that evicts nothing gets no warning."""
    told = findings(arena_on(start_redis().url))
    assert (told["warning"], told["error"]) == ([], [])


def test_doctor_warns_of_eviction(start_redis: Callable[..., Server], arena_on: Callable[..., Arena]) -> None:
    """A server that evicts when it is full is warned of, with the setting to change."""
    server = start_redis(arguments=("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"))
    (warning,) = findings(arena_on(server.url))["warning"]
    assert "allkeys-lru" in warning
    assert "noeviction" in warning


def test_a_server_without_append_only_file_is_volatile(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena]
) -> None:
    """What is claimed follows what the server says: without AOF it is volatile, and doctor says what to set."""
    arena = arena_on(start_redis(persistent=False).url)
    (warning,) = findings(arena)["warning"]
    assert "appendonly" in warning
    claimed = arena.profile.capabilities
    assert Capability.VOLATILE in claimed
    assert Capability.PERSISTENT not in claimed


def test_a_server_with_append_only_file_is_persistent(redis_server: Server, arena_on: Callable[..., Arena]) -> None:
    """With AOF sessions outlive a restart, and that is claimed."""
    claimed = arena_on(redis_server.url).profile.capabilities
    assert Capability.PERSISTENT in claimed
    assert Capability.VOLATILE not in claimed


def test_doctor_says_when_replicas_are_missing(redis_server: Server, arena_on: Callable[..., Arena]) -> None:
    """More min_replicas than there are replicas is an error that doctor finds."""
    (error,) = findings(arena_on(f"{redis_server.url}?min_replicas=1"))["error"]
    assert "min_replicas=1" in error
