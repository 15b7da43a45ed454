"""Users, TLS and access lists: what works, what each mistake looks like, and that no password shows anywhere."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

import pytest
from kazoo.exceptions import NoAuthError  # type: ignore[import-untyped]
from kazoo.security import CREATOR_ALL_ACL  # type: ignore[import-untyped]

from drumbeat import AuthenticationError, ConfigurationError, DrumbeatError, Unavailable
from drumbeat_conformance.actor import Actor, plugin_of
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.servers import make_certificates
from drumbeat_zookeeper import ZooKeeperBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kazoo.client import KazooClient  # type: ignore[import-untyped]

    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.servers import Certificates, Server
    from drumbeat_zookeeper._link import Link

    Operator = Callable[..., KazooClient]

#: Seconds.
TIMEOUT = 3.0
SECRET = "swordfish"  # noqa: S105 - of these tests alone
JAAS = f"""
Server {{
    org.apache.zookeeper.server.auth.DigestLoginModule required
    user_ann="{SECRET}";
}};
"""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority, what it signed, and a stranger."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that is logged, at every level, kazoo's own below DEBUG included."""
    with caplog.at_level(1), caplog.at_level(1, "drumbeat_zookeeper.kazoo"), caplog.at_level(1, "kazoo"):
        yield caplog


def lives(made: Arena) -> bool:
    """Open a session that joins, leads and beats; return whether all of it worked."""
    actor = made.actor("a")
    actor.join("g", b"1")
    actor.win("e", b"2")
    return actor.members("g") == {"a": b"1"} and actor.beat().lost == ()


def test_a_digest_user_owns_what_it_makes(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Operator
) -> None:
    """With a user the access lists name that user alone, on every node."""
    made = arena_on(f"zookeeper://ann:{SECRET}@{zookeeper_server.address}")
    assert lives(made)
    root = f"/{made._prefix}tests"
    stranger = operator(zookeeper_server.address)
    for path in (root, *(f"{root}/{part}" for part in ("sessions/a", "groups/g", "elections/e", "leaders/e"))):
        (entry,), _ = operator(zookeeper_server.address, auth_data=[("digest", f"ann:{SECRET}")]).get_acls(path)
        assert (entry.id.scheme, entry.perms) == ("digest", 31)
        with pytest.raises(NoAuthError):
            stranger.get(path)


def test_access_may_be_left_open(zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Operator) -> None:
    """With acl=open, or without a user, everybody may read and write what is made."""
    for url in (f"zookeeper://ann:{SECRET}@{zookeeper_server.address}?acl=open", zookeeper_server.url):
        made = arena_on(url)
        assert lives(made)
        assert operator(zookeeper_server.address).get(f"/{made._prefix}tests/leaders/e")


@pytest.mark.parametrize("user", [f"ann:wrong-{SECRET}@", f"bob:{SECRET}@", ""])
def test_a_wrong_digest_password(
    zookeeper_server: Server, arena_on: Callable[..., Arena], log: pytest.LogCaptureFixture, user: str
) -> None:
    """Whom the access lists refuse is told so, and by which option to mend it; nothing was written."""
    right = arena_on(f"zookeeper://ann:{SECRET}@{zookeeper_server.address}")
    assert lives(right)
    wrong = arena_on(f"zookeeper://{user}{zookeeper_server.address}")
    wrong._prefix = right._prefix
    with pytest.raises(AuthenticationError, match="user and password") as failure:
        wrong.actor("b")
    assert_discreet(failure.value, log)


def test_a_chroot_that_may_not_be_made(
    zookeeper_server: Server, arena_on: Callable[..., Arena], operator: Operator
) -> None:
    """Where the path of the URL is missing and its parent is somebody else's, that is an AuthenticationError."""
    made = arena_on(f"zookeeper://{zookeeper_server.address}/guarded/inner")
    client = operator(zookeeper_server.address, auth_data=[("digest", f"ann:{SECRET}")])
    client.create("/guarded", b"", acl=CREATOR_ALL_ACL)
    with pytest.raises(AuthenticationError):
        made.actor("a")
    client.delete("/guarded")


def test_sasl(
    start_zookeeper: Callable[..., Server], arena_on: Callable[..., Arena], log: pytest.LogCaptureFixture
) -> None:
    """By SASL the right password works, and the wrong one is an AuthenticationError at once, without the password."""
    server = start_zookeeper(jaas=JAAS)
    assert lives(arena_on(f"zookeeper://ann:{SECRET}@{server.address}?auth=sasl"))
    for user in (f"ann:wrong-{SECRET}", f"bob:wrong-{SECRET}"):
        with pytest.raises(AuthenticationError) as failure:
            arena_on(f"zookeeper://{user}@{server.address}?auth=sasl").actor("a")
        assert_discreet(failure.value, log)


def test_sasl_at_a_server_that_knows_none(zookeeper_server: Server, arena_on: Callable[..., Arena]) -> None:
    """A server without SASL refuses who comes with it, in time."""
    made = arena_on(f"zookeeper://ann:{SECRET}@{zookeeper_server.address}?auth=sasl")
    actor = Actor(made, "a", backend=made.backend())
    with pytest.raises((AuthenticationError, Unavailable)):
        actor.backend.open_session(actor.request(), timeout=TIMEOUT)


def test_tls(
    start_zookeeper: Callable[..., Server], certificates: Certificates, arena_on: Callable[..., Arena]
) -> None:
    """With the authority's file a server is spoken to over TLS, with and without a certificate of one's own."""
    server = start_zookeeper(tls=certificates)
    for options in (certificates.as_options(), certificates.as_options(client=True), "?tls=true&tls_verify=false"):
        made = arena_on(f"zookeeper://{server.address}{options}")
        assert made.profile.server.startswith("ZooKeeper 3.")
        assert lives(made)


def test_tls_mistakes(
    start_zookeeper: Callable[..., Server],
    zookeeper_server: Server,
    certificates: Certificates,
    arena_on: Callable[..., Arena],
) -> None:
    """A strange authority, TLS to a server that has none, and none to one that wants it: each says what to look at."""
    server = start_zookeeper(tls=certificates, settings={"ssl.clientAuth": "need"})
    trusting = certificates.as_options()
    for url, error, words in (
        (f"{server.address}?tls_ca_file={certificates.stranger_authority}", ConfigurationError, "not trusted"),
        (f"{server.address}{trusting}", ConfigurationError, "client certificate"),
        (f"{zookeeper_server.address}{trusting}", Unavailable, "TLS"),
        (server.address, Unavailable, "TLS"),
    ):
        made = arena_on(f"zookeeper://{url}")
        with pytest.raises(error, match=words):
            made.backend().describe(timeout=TIMEOUT)
        actor = Actor(made, "a", backend=made.backend())
        with pytest.raises(DrumbeatError):
            actor.backend.open_session(actor.request(), timeout=TIMEOUT / 3)


def test_a_name_that_the_certificate_lacks(
    start_zookeeper: Callable[..., Server], certificates: Certificates, arena_on: Callable[..., Arena]
) -> None:
    """A certificate for other hosts is refused, unless tls_verify=false says otherwise."""
    server = start_zookeeper(tls=certificates)
    # The same server, by a spelling of its address that the certificate does not have.
    other = f"zookeeper://127.1:{server.port}"
    with pytest.raises(ConfigurationError, match="not trusted"):
        arena_on(f"{other}{certificates.as_options()}").backend().describe(timeout=TIMEOUT)
    assert lives(arena_on(f"{other}{certificates.as_options()}&tls_verify=false"))


def test_no_password_is_shown(
    proxy: Proxy,
    arena_on: Callable[..., Arena],
    owner_of: Callable[[Actor], Link],
    log: pytest.LogCaptureFixture,
) -> None:
    """SAFE-1: in a life with trouble no log line at any level, no error and no repr has password or session key."""
    made = arena_on(f"zookeeper://ann:{SECRET}@{proxy.address}", ttl=30.0)
    assert lives(made)
    actor = made.actor("b")
    key = owner_of(actor).key.secret
    proxy.cut()
    with pytest.raises(Unavailable) as failure:
        actor.backend.heartbeat(actor.lease, actor.holdings(), timeout=TIMEOUT / 6)
    proxy.restore()
    assert actor.beat().lost == ()
    actor.close()
    assert "Connection dropped" in log.text
    assert key.hex() not in log.text
    assert repr(key) not in log.text
    assert_discreet(failure.value, log)
    backend = plugin_of(actor.backend)
    assert isinstance(backend, ZooKeeperBackend)
    assert SECRET not in f"{backend!r} {backend._target!r} {vars(backend)!r}"


def assert_discreet(error: BaseException, log: pytest.LogCaptureFixture) -> None:
    """Find no password in an error with all its causes, nor in the log."""
    assert SECRET not in "".join(traceback.format_exception(error))
    assert all(SECRET not in record.getMessage() for record in log.records)
    assert all(SECRET not in repr(record.args) for record in log.records)
    assert logging.getLogger("drumbeat_zookeeper.kazoo").isEnabledFor(1)
