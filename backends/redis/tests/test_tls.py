"""TLS: certificates on both sides, and what is said when they do not fit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from drumbeat import AuthenticationError, ConfigurationError, DrumbeatError, Unavailable
from drumbeat.hookspecs import GroupSubject
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.servers import Certificates, Server, make_certificates, start_redis
from drumbeat_conformance.waiting import eventually

if TYPE_CHECKING:
    from drumbeat_conformance.arena import Arena

Refused = Callable[..., DrumbeatError]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority with what it signed, and another authority."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secure(certificates: Certificates) -> Iterator[Server]:
    """A server that speaks TLS and wants a client certificate."""
    with start_redis(tls=certificates, arguments=("--tls-auth-clients", "yes")) as server:
        yield server


def test_both_certificates_let_in(secure: Server, certificates: Certificates, arena_on: Callable[..., Arena]) -> None:
    """With the authority and a client certificate everything works, push included."""
    arena = arena_on(f"rediss://{secure.address}{certificates.as_options(client=True)}", ttl=30.0)
    one, two = arena.actor("a"), arena.actor("b")
    hints: list[None] = []
    two.backend.watch(two.lease, GroupSubject("g"), lambda: hints.append(None), timeout=5.0)
    one.join("g", b"x" * 60_000)
    assert two.members("g") == {"a": b"x" * 60_000}
    eventually(lambda: hints, within=5.0)
    assert one.beat().lost == ()


def test_a_forked_child_says_no_goodbye(
    secure: Server, certificates: Certificates, arena_on: Callable[..., Arena]
) -> None:
    """FAULT-8: a forked child that drops its copies ends no connection of the parent, the subscription's included."""
    with Proxy(secure.host, secure.port) as proxy:
        arena = arena_on(f"rediss://{proxy.address}{certificates.as_options(client=True)}", ttl=30.0)
        one, two = arena.actor("a"), arena.actor("b")
        hints: list[None] = []
        one.backend.watch(one.lease, GroupSubject("g"), lambda: hints.append(None), timeout=5.0)
        two.groups()
        before = len(proxy.connections)
        child = os.fork()
        if child == 0:
            signal.alarm(5)
            one.backend.drop_session(one.lease, forked=True)
            os._exit(0)
        assert os.waitpid(child, 0) == (child, 0)
        assert one.beat().lost == ()
        assert one.members("g") == {}
        two.join("g")
        eventually(lambda: hints, within=5.0)
        assert len(proxy.connections) == before


def test_a_missing_client_certificate_is_asked_for(
    secure: Server, certificates: Certificates, refused: Refused
) -> None:
    """A server that wants a certificate of ours: the error says with which option to name it."""
    error = refused(f"rediss://{secure.address}{certificates.as_options()}", kind=AuthenticationError)
    assert "tls_certificate" in str(error)


def test_a_strange_authority_is_not_trusted(secure: Server, certificates: Certificates, refused: Refused) -> None:
    """A server whose certificate another authority signed is refused by us, with the option to set."""
    error = refused(f"rediss://{secure.address}?tls_ca_file={certificates.stranger_authority}", kind=ConfigurationError)
    assert "tls_ca_file" in str(error)


def test_the_certificate_must_name_the_host(secure: Server, certificates: Certificates, refused: Refused) -> None:
    """A certificate for another host than the one in the URL is not trusted."""
    url = f"rediss://0x7f000001:{secure.port}{certificates.as_options()}"
    assert "not to be trusted" in str(refused(url, kind=ConfigurationError))


def test_verification_can_be_switched_off(certificates: Certificates, arena_on: Callable[..., Arena]) -> None:
    """With tls_verify=false any certificate will do."""
    with start_redis(tls=certificates) as server:
        arena_on(f"rediss://{server.address}?tls_verify=false", ttl=30.0).actor("a").win("e")


def test_tls_with_a_plain_port_says_so(redis_server: Server, refused: Refused, secret: str) -> None:
    """A TLS client at a plain port gets an error in time that mentions the scheme to write."""
    error = refused(f"rediss://alice:{secret}@{redis_server.address}", kind=Unavailable)
    assert "redis:// for a plain port" in str(error)


@pytest.mark.parametrize("user", ["", "alice:SECRET@"])
def test_plain_with_a_tls_port_says_so(secure: Server, refused: Refused, secret: str, user: str) -> None:
    """A plain client at a TLS port gets an error in time that mentions the scheme to write."""
    error = refused(f"redis://{user.replace('SECRET', secret)}{secure.address}", kind=Unavailable)
    assert "rediss:// for a TLS port" in str(error)
