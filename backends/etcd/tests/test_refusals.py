"""What cannot work is refused: with a clear error, in bounded time, without a secret, and nothing is overwritten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc  # type: ignore[import-untyped]
import pytest

import drumbeat
from drumbeat import AuthenticationError, BadData, ConfigurationError, DrumbeatError, Unavailable
from drumbeat.hookspecs import BackendURL, Holdings, SessionRequest
from drumbeat_conformance.actor import TIMEOUT
from drumbeat_conformance.arena import Arena
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.servers import Certificates, Server
from drumbeat_conformance.strangers import babbler, mute
from drumbeat_conformance.waiting import Background, eventually
from drumbeat_etcd._client import Client, load_messages
from drumbeat_etcd._options import read_options

if TYPE_CHECKING:
    from backends.etcd.tests.conftest import Operator

#: Seconds: the lease of sessions that a test plays without beating.
LONG = 30.0

Refused = Callable[..., DrumbeatError]
StartEtcd = Callable[..., Server]
WithUsers = Callable[[str], "Operator"]
SECRET = "hunter2-secret"  # noqa: S105 - that of conftest.py

# URLs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("etcd://", "names no server"),
        ("etcd://h/path", "has a path"),
        ("etcd://user@h", "both a user and a password"),
        (f"etcd://:{SECRET}@h", "both a user and a password"),
        ("etcd://h?tls_ca_file=/x", "asks for no TLS"),
        ("etcds://h?tls_verify=maybe", "tls_verify must be true or false"),
        ("etcds://h?tls_ca_file=/nowhere.pem", "tls_ca_file must name a file"),
        (f"etcds://h?tls_ca_file={__file__}", "tls_ca_file=.* is no readable file of certificates"),
        ("etcds://h?tls_key=/x", "tls_key without tls_certificate"),
        ("etcd://h?no_such_option=1", "no option 'no_such_option'"),
        ("etcds://a..b?tls_verify=false", r"'a\.\.b' in etcds://a\.\.b can be no host name"),
    ],
)
def test_a_url_that_can_never_work_is_refused(refused: Refused, url: str, told: str) -> None:
    """A bad URL or option value is a ConfigurationError that names what is wrong, before anything is sent."""
    with pytest.raises(ConfigurationError, match=told):
        raise refused(url, kind=ConfigurationError)


def test_a_certificate_without_its_key_is_refused(refused: Refused, certificates: Certificates) -> None:
    """A client's certificate without its key is a ConfigurationError that names both options."""
    url = f"etcds://h?tls_certificate={certificates.client_certificate}"
    error = refused(url, kind=ConfigurationError)
    assert "tls_certificate" in str(error)
    assert "tls_key" in str(error)


def test_a_lease_longer_than_a_day_is_refused(etcd_server: Server) -> None:
    """A TTL that is not granted is a ConfigurationError with the numbers."""
    with pytest.raises(ConfigurationError, match="86400"):
        drumbeat.connect(etcd_server.url, lease_ttl=90_000.0)


# Users ------------------------------------------------------------------------------------------------------


def test_a_user_with_a_password_gets_in(with_users: WithUsers, arena_on: Callable[..., Arena]) -> None:
    """User and password of the URL give a session that leads, watches and beats, and renews a token that was lost."""
    operator = with_users("none/")
    cluster = arena_on(f"etcd://app:{SECRET}@{operator.address}")
    operator.permit("app", f"{cluster.namespace()}/")
    session = cluster.connect("a")
    # A new password, be it the same, makes the user's tokens invalid.
    operator.ask("auth/user/changepw", name="app", password=SECRET)
    session.beat()
    with session.election("e").campaign(timeout=TIMEOUT) as term:
        assert term.held
    changes = session.group("g").watch()
    next(changes)
    session.group("g").join()
    assert next(changes).joined


@pytest.mark.parametrize(("who", "told"), [("app:wrong", "user or the password"), ("x:wrong", "user or the password")])
def test_a_wrong_password_is_refused(with_users: WithUsers, refused: Refused, who: str, told: str) -> None:
    """A wrong user or password is an AuthenticationError at once."""
    operator = with_users("tests/")
    assert told in str(refused(f"etcd://{who}@{operator.address}", kind=AuthenticationError))


def test_a_missing_password_is_refused(with_users: WithUsers, refused: Refused) -> None:
    """Without a user, where one is asked for, the error says how to write it."""
    operator = with_users("tests/")
    assert "USER:PASSWORD@" in str(refused(f"etcd://{operator.address}", kind=AuthenticationError))


def test_a_user_that_may_not_write_is_refused(with_users: WithUsers, refused: Refused) -> None:
    """A user without the right to our keys is told which prefix the role needs."""
    operator = with_users("elsewhere/")
    error = refused(f"etcd://app:{SECRET}@{operator.address}", kind=AuthenticationError)
    assert "--prefix tests/" in str(error)
    assert operator.read("tests/") == {}


def test_a_password_for_a_server_without_users_is_refused(etcd_server: Server, refused: Refused) -> None:
    """Credentials that the server cannot check are a ConfigurationError, since they protect nothing."""
    error = refused(f"etcd://app:{SECRET}@{etcd_server.address}", kind=ConfigurationError)
    assert "has no users" in str(error)


def test_a_session_shows_no_secret(with_users: WithUsers, arena_on: Callable[..., Arena]) -> None:
    """SAFE-1: neither the session nor its URL shows the password."""
    operator = with_users("none/")
    cluster = arena_on(f"etcd://app:{SECRET}@{operator.address}")
    operator.permit("app", f"{cluster.namespace()}/")
    session = cluster.connect("a")
    assert SECRET not in repr(session) + str(vars(session))


def test_doctor_tells_of_a_password_in_plain_text(with_users: WithUsers, arena_on: Callable[..., Arena]) -> None:
    """`doctor` warns, without the password, where the URL sends one without TLS."""
    operator = with_users("tests/")
    findings = arena_on(f"etcd://app:{SECRET}@{operator.address}", ttl=LONG).backend().diagnose(timeout=TIMEOUT)
    assert "1 of the 1 servers in the URL answer, and the cluster has 1" in findings[0].message
    assert "use etcds://" in findings[-1].message
    assert SECRET not in str(findings)


# TLS --------------------------------------------------------------------------------------------------------


def test_tls_with_a_client_certificate(
    start_etcd: StartEtcd, certificates: Certificates, arena_on: Callable[..., Arena]
) -> None:
    """With authority, certificate and key a session leads over TLS."""
    session = arena_on(start_etcd(tls=certificates).url).connect("a")
    with session.election("e").campaign(timeout=TIMEOUT) as term:
        assert term.held


def test_tls_without_verification(
    start_etcd: StartEtcd, certificates: Certificates, arena_on: Callable[..., Arena]
) -> None:
    """With tls_verify=false a session leads though the authority is a stranger to the server's certificate."""
    strangers = replace(certificates, authority=certificates.stranger_authority).as_options(client=True)
    server = start_etcd(tls=certificates)
    session = arena_on(f"etcds://{server.address}{strangers}&tls_verify=false").connect("a")
    with session.election("e").campaign(timeout=TIMEOUT) as term:
        assert term.held


def test_tls_without_verification_needs_tls_all_the_same(etcd_server: Server, refused: Refused) -> None:
    """With tls_verify=false a server without TLS is Unavailable in bounded time."""
    assert "no certificate" in str(refused(f"etcds://{etcd_server.address}?tls_verify=false", kind=Unavailable))


def test_tls_without_the_client_certificate_is_refused(
    start_etcd: StartEtcd, certificates: Certificates, refused: Refused
) -> None:
    """A server that asks for a certificate refuses who shows none, and the error points at TLS."""
    server = start_etcd(tls=certificates)
    error = refused(f"etcds://{server.address}{certificates.as_options()}", kind=Unavailable)
    assert "tls_certificate" in str(error)


def test_tls_with_the_wrong_authority_is_refused(
    start_etcd: StartEtcd, certificates: Certificates, refused: Refused
) -> None:
    """A server whose certificate the authority did not sign is a ConfigurationError that names tls_ca_file."""
    server = start_etcd(tls=certificates)
    url = f"etcds://{server.address}?tls_ca_file={certificates.stranger_authority}"
    assert "tls_ca_file" in str(refused(url, kind=ConfigurationError))


def test_tls_to_a_server_without_is_refused(etcd_server: Server, certificates: Certificates, refused: Refused) -> None:
    """etcds:// to a server without TLS fails in bounded time, and the error asks whether the scheme is right."""
    url = f"etcds://{etcd_server.address}{certificates.as_options()}"
    assert "etcd:// without" in str(refused(url, kind=Unavailable))


def test_no_tls_to_a_server_with_it_is_refused(
    start_etcd: StartEtcd, certificates: Certificates, refused: Refused
) -> None:
    """etcd:// to a server with TLS fails in bounded time, and the error asks whether the scheme is right."""
    server = start_etcd(tls=certificates)
    assert "etcds:// for TLS" in str(refused(f"etcd://{server.address}", kind=Unavailable))


# Servers ----------------------------------------------------------------------------------------------------


def test_a_port_where_nobody_listens(etcd_server: Server, refused: Refused) -> None:
    """A wrong port is Unavailable with the address."""
    with mute() as stranger:
        port = stranger.port
    assert f"127.0.0.1:{port}" in str(refused(f"etcd://127.0.0.1:{port}", kind=Unavailable))


def test_a_port_where_something_else_answers(refused: Refused) -> None:
    """A program of another kind is Unavailable with the address."""
    with babbler() as stranger:
        assert stranger.address in str(refused(f"etcd://{stranger.address}", kind=Unavailable))


def test_a_server_that_never_answers(refused: Refused) -> None:
    """A server that accepts and says nothing is Unavailable with the address."""
    with mute() as stranger:
        assert stranger.address in str(refused(f"etcd://{stranger.address}", kind=Unavailable))


@contextmanager
def old_etcd() -> Iterator[str]:
    """Answer as an etcd 3.3 does to whom asks for its version; give the address."""
    messages = load_messages()

    class Maintenance(messages.MaintenanceServicer):  # type: ignore[misc, name-defined]
        def Status(self, request: object, context: object) -> object:  # noqa: N802 - the name of the method
            return messages.StatusResponse(version="3.3.27")

    server = grpc.server(ThreadPoolExecutor(1))
    messages.add_MaintenanceServicer_to_server(Maintenance(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait(TIMEOUT)


def test_a_server_of_a_too_old_version(refused: Refused) -> None:
    """An etcd before 3.4 is a ConfigurationError with its version and the lowest that will do."""
    with old_etcd() as address:
        error = refused(f"etcd://{address}", kind=ConfigurationError)
    assert "3.3.27" in str(error)
    assert "3.4" in str(error)


def test_one_dead_endpoint_among_several(etcd_server: Server, arena_on: Callable[..., Arena]) -> None:
    """Endpoints that refuse, or that never answer, are passed over for one that serves."""
    with mute() as gone:
        refusing = gone.address
    with mute() as silent:
        url = f"etcd://{refusing},{silent.address},{etcd_server.address}"
        session = arena_on(url).connect("a")
        with session.election("e").campaign(timeout=TIMEOUT) as term:
            assert term.held


def test_an_endpoint_without_an_address_is_passed_over(etcd_server: Server) -> None:
    """A request that met a name that cannot be resolved goes to the next endpoint at once."""
    client = _client_of(f"etcd://nosuch.invalid,{etcd_server.address}")
    assert client.version(TIMEOUT).startswith("3.")
    client.close()


def test_a_call_under_way_at_close_says_so(etcd_server: Server) -> None:
    """A call that close() cuts off does not send its user to look after the server."""
    with Proxy(etcd_server.host, etcd_server.port) as proxy:
        client = _client_of(f"etcd://{proxy.address}")
        client.version(TIMEOUT)
        sent = _sent_of_late(proxy)
        proxy.drop_replies()
        call = Background(lambda: client.version(TIMEOUT))
        eventually(lambda: proxy.bytes_from_client > sent, within=TIMEOUT)
        client.close()
        with pytest.raises(Unavailable, match="was closed here"):
            call.result()


def _sent_of_late(proxy: Proxy) -> int:
    """Return how many bytes have come from the client, once it does not go on about its last answer."""
    sent = []

    def is_quiet() -> bool:
        sent.append(proxy.bytes_from_client)
        time.sleep(0.2)
        return proxy.bytes_from_client == sent[-1]

    eventually(is_quiet, within=TIMEOUT)
    return sent[-1]


def _client_of(url: str) -> Client:
    return Client(read_options(BackendURL.parse(url)), prefix="tests/")


# Rubbish ----------------------------------------------------------------------------------------------------

RUBBISH = {
    "empty": "",
    "text": "rubbish",
    "list": "[]",
    "object": '{"format":1}',
    "short": '[1,"a","b"]\n',
    "newer": '[2,"a","b","c",1,2.0]\n',
    "deep": "[" * 100_000,
    "endless": '[1,"a","b","c",1,Infinity]\n',
    "no-number": '[1,"a","b","c",1,NaN]\n',
    "over-before": '[1,"a","b","c",1,0]\n',
    "bool-ttl": '[1,"a","b","c",1,true]\n',
    "bool-attempt": '[1,"a","b","c",true,5]\n',
}


@pytest.mark.parametrize("rubbish", RUBBISH.values(), ids=RUBBISH)
def test_rubbish_of_another_program_is_named_and_stays(
    operator_of: Callable[[Server], Operator],
    etcd_server: Server,
    arena_on: Callable[..., Arena],
    rubbish: str,
) -> None:
    """SAFE-2: what is no record of this format is BadData with the key, from each hook that reads it, and stays."""
    arena, operator = arena_on(etcd_server.url, ttl=LONG), operator_of(etcd_server)
    root = f"{arena._prefix}tests/"
    actor = arena.actor("a")
    actor.join("good")
    seat = actor.win("good")
    calls: dict[str, Callable[[], object]] = {
        "session/b": lambda: arena.actor("b"),
        "member/bad/x/1": lambda: actor.members("bad"),
        "leader/bad": lambda: actor.leader("bad"),
        "candidate/worse/x/1": lambda: actor.campaign("worse"),
        "birth": lambda: arena.actor("c"),
    }
    for key, call in calls.items():
        operator.put(f"{root}{key}", rubbish)
        with pytest.raises(BadData) as failure:
            call()
        assert failure.value.key == f"{root}{key}"
    with pytest.raises(BadData):
        actor.campaign("bad")
    stored = operator.read(root)
    assert {stored[f"{root}{key}"] for key in calls} == {rubbish}
    # It is in nobody else's way: what was begun beside it goes, what is held stays.
    actor.candidacies.clear()
    assert actor.beat().lost == ()
    assert actor.withdraw("bad", actor.newest_attempt) is False
    assert [key for key in operator.read(f"{root}candidate/") if actor.lease.incarnation in key] == [
        f"{root}candidate/good/{actor.lease.incarnation}/{seat.attempt}"
    ]


@pytest.mark.parametrize("replace", [False, True])
def test_a_session_key_without_a_lease_is_no_session(
    operator_of: Callable[[Server], Operator], etcd_server: Server, arena_on: Callable[..., Arena], *, replace: bool
) -> None:
    """SAFE-2: a record that hangs on no lease is nobody's session: BadData with the key, also to who would replace."""
    arena, operator = arena_on(etcd_server.url, ttl=LONG), operator_of(etcd_server)
    root = f"{arena._prefix}tests/"
    arena.actor("a")
    operator.put(f"{root}session/b", operator.read(root)[f"{root}session/a"])
    request = SessionRequest(incarnation="new", member_id="b", ttl=30.0, replace=replace)
    with pytest.raises(BadData, match="no lease") as failure:
        arena.backend().open_session(request, timeout=TIMEOUT)
    assert failure.value.key == f"{root}session/b"


def test_foreign_keys_on_our_lease_are_no_concern(
    operator_of: Callable[[Server], Operator], etcd_server: Server, arena_on: Callable[..., Arena]
) -> None:
    """BEAT-10: what an operator has hung on a session's lease fails no heartbeat, takes nothing, and stays."""
    arena, operator = arena_on(etcd_server.url, ttl=LONG), operator_of(etcd_server)
    actor = arena.actor("a")
    actor.join("g")
    actor.win("e")
    prefix, owner = arena._prefix, actor.lease.incarnation
    lease = operator.lease_of(f"{prefix}tests/session/a")
    keys = [f"{prefix}{end}" for end in ("foo", "a/b", "other/leader/e", f"other/member/g/{owner}/1")]
    keys += [
        f"{prefix}tests/{end}" for end in ("x", "member/g/x", f"member/g/{owner}/x", "member/g/else/1", "leader/a/b")
    ]
    keys.append(f"leader/{prefix}")
    for key in keys:
        operator.put(key, "rubbish", lease=lease)
    operator.put(prefix.encode() + b"\xff", "rubbish", lease=lease)
    assert actor.beat().lost == ()
    assert all(operator.delete(key) for key in keys)


def test_a_seat_of_ours_that_is_rubbish_is_lost_and_removed(
    operator_of: Callable[[Server], Operator], etcd_server: Server, arena_on: Callable[..., Arena]
) -> None:
    """SAFE-2: rubbish that an operator has put on our lease where a seat is fails no heartbeat, and makes room."""
    arena, operator = arena_on(etcd_server.url, ttl=LONG), operator_of(etcd_server)
    actor, key = arena.actor("a"), f"{arena._prefix}tests/leader/e"
    actor.win("e")
    operator.put(key, "rubbish", lease=operator.lease_of(key))
    actor.seats.clear()
    actor.candidacies.clear()
    # The first heartbeat removes the candidate, the second the seat.
    assert [actor.beat().lost for _ in range(2)] == [(), ()]
    assert operator.read(f"{arena._prefix}tests/leader/") == {}
    actor.win("e")


def test_a_newer_format_is_said_to_be_one(
    operator_of: Callable[[Server], Operator], etcd_server: Server, arena_on: Callable[..., Arena]
) -> None:
    """A record of a format to come is not taken for rubbish: the error names both formats."""
    arena = arena_on(etcd_server.url, ttl=LONG)
    actor = arena.actor("a")
    operator_of(etcd_server).put(f"{arena._prefix}tests/leader/e", '[2,"a","b","e",1,2.0]\n')
    with pytest.raises(BadData, match=r"format 2.* reads 1"):
        actor.leader("e")
    assert actor.backend.heartbeat(actor.lease, Holdings(), timeout=TIMEOUT).lost == ()
