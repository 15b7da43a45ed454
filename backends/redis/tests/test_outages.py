"""Whole sessions through restarts: within the TTL and beyond it, with the data and without."""

from __future__ import annotations

import os
import resource
import socket
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import drumbeat
from drumbeat import State
from drumbeat_conformance.waiting import eventually

if TYPE_CHECKING:
    from drumbeat import Session
    from drumbeat_conformance.arena import Arena
    from drumbeat_conformance.servers import Server

TTL = 2.0


def follow(session: Session) -> list[State]:
    """Return a list that the session's states are added to."""
    states: list[State] = []
    session.on_state(states.append)
    return states


def test_a_restart_within_the_ttl_costs_nothing(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena]
) -> None:
    """FAULT-1: a server with AOF that is killed and is back in time keeps sessions, groups and terms."""
    server = start_redis()
    session = arena_on(server.url, ttl=5 * TTL).connect("a")
    states = follow(session)
    session.group("g").join({"n": 1})
    term = session.election("e").campaign(timeout=5.0)
    server.kill()
    server.start()
    session.beat()
    assert term.held
    assert State.LOST not in states
    leader = session.election("e").leader()
    assert leader is not None
    assert leader.token == term.token
    assert session.group("g").members().ids == ("a",)
    term.resign()


def test_a_longer_restart_with_the_data_is_lost_and_recovered(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena]
) -> None:
    """FAULT-1: after more than a TTL the term is over, the session comes back by itself, and tokens rise."""
    _recovers(start_redis(), arena_on, wipe=False)


def test_a_restart_without_the_data_is_lost_and_recovered(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena]
) -> None:
    """FAULT-2 and LEAD-14: a wiped server makes sessions LOST, rejoined, and tokens rise all the same."""
    _recovers(start_redis(), arena_on, wipe=True)


def _recovers(server: Server, arena_on: Callable[..., Arena], *, wipe: bool) -> None:
    session = arena_on(server.url, ttl=TTL / 2).connect("a")
    states = follow(session)
    session.group("g").join({"n": 1})
    term = session.election("e").campaign(timeout=5.0)
    server.kill()
    if wipe:
        server.wipe()
    else:
        eventually(lambda: not term.held, within=2 * TTL)
    server.start()
    eventually(lambda: not term.held, within=2 * TTL)
    again = session.election("e").campaign(timeout=10.0)
    assert again.token > term.token
    assert State.LOST in states
    eventually(lambda: session.group("g").members().ids == ("a",), within=5.0)
    assert session.group("g").members()["a"].metadata == {"n": 1}
    again.resign()


def test_a_wiped_server_has_no_two_leaders(start_redis: Callable[..., Server], arena_on: Callable[..., Arena]) -> None:
    """FAULT-2: with on_empty_store="wait" nobody leads a wiped server before every earlier leader has noticed."""
    server = start_redis(persistent=False)
    cluster = arena_on(f"{server.url}?longest_ttl=2", ttl=TTL)
    old = cluster.connect("a", on_empty_store="trust", heartbeat="manual")
    term = old.election("e").campaign(timeout=5.0)
    server.kill()
    server.start()
    new = cluster.connect("b", on_empty_store=None)
    again = new.election("e").campaign(timeout=10.0)
    assert not term.held
    assert again.token > term.token
    again.resign()


def test_an_old_snapshot_is_no_better_than_an_empty_server(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena], peek: Callable[..., Callable[..., object]]
) -> None:
    """FAULT-2: what a restart brings back from before a win makes no second leader beside the first."""
    server = start_redis(persistent=False, arguments=["--save", "3600", "1"])
    cluster = arena_on(f"{server.url}?longest_ttl=2", ttl=TTL)
    old = cluster.connect("a", on_empty_store=None, heartbeat="manual")
    waited = old.election("other").campaign(timeout=5.0)
    assert waited.held
    peek(server.port)("SAVE")
    old.beat()
    term = old.election("e").campaign(timeout=5.0)
    server.kill()
    server.start()
    new = cluster.connect("b", on_empty_store=None)
    again = new.election("e").campaign(timeout=10.0)
    assert not term.held
    assert again.token > term.token
    again.resign()


def test_push_works_beside_a_thousand_descriptors(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena]
) -> None:
    """WATCH-1: a process that has more files open than select() can take sees changes as any other."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.enter_context(Path(os.devnull).open())
        one = arena_on(start_redis().url, ttl=5 * TTL).connect("a")
        with one.group("g").watch() as changes:
            next(changes)
            one.group("g").join()
            assert changes.next(5 * TTL).view.ids == ("a",)
        one.close()


def test_a_stream_reads_where_nothing_can_be_pushed(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena]
) -> None:
    """WATCH-1: if the server has no connection left for push, the first view and later changes come by polling."""
    server = start_redis(arguments=["--maxclients", "12"])
    session = arena_on(server.url, ttl=5 * TTL).connect("a")
    group = session.group("g")
    group.join()
    with ExitStack() as stack:
        for _ in range(12):
            stack.enter_context(socket.create_connection((server.host, server.port)))
        with group.watch() as changes:
            assert changes.next(5 * TTL).view.ids == ("a",)
            group.update({"n": 1})
            assert changes.next(5 * TTL).updated


def test_dead_connections_cost_no_call(start_redis: Callable[..., Server], arena_on: Callable[..., Arena]) -> None:
    """After a restart the first call of every kind succeeds, whatever connections it had before."""
    server = start_redis()
    session = arena_on(server.url, ttl=5 * TTL).connect("a", heartbeat="manual")
    group = session.group("g")
    group.join({"n": 1})
    group.members()
    server.stop()
    server.start()
    session.beat()
    assert group.members().ids == ("a",)


def test_close_is_bounded_while_the_server_is_down(
    start_redis: Callable[..., Server], arena_on: Callable[..., Arena]
) -> None:
    """FAULT-9: close returns within its timeout while the server is frozen."""
    server = start_redis()
    session = arena_on(server.url, ttl=5 * TTL).connect("a")
    session.group("g").join({})
    server.pause()
    started = time.monotonic()
    session.close(timeout=0.5)
    assert time.monotonic() - started < TTL
    server.resume()


def test_a_password_is_shown_nowhere(
    start_redis: Callable[..., Server],
    arena_on: Callable[..., Arena],
    secret: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SAFE-1: neither the session's repr, nor the log, nor an error over an outage shows the password."""
    caplog.set_level("DEBUG")
    server = start_redis(password=secret)
    session = arena_on(server.url, ttl=TTL / 2).connect("a", observers=["logging"])
    states = follow(session)
    server.kill()
    eventually(lambda: State.LOST in states, within=5 * TTL)
    with pytest.raises(drumbeat.DrumbeatError) as failure:
        session.group("g").members()
    server.start()
    eventually(lambda: session.state is State.CONNECTED, within=5 * TTL)
    shown = "".join(traceback.format_exception(failure.value)) + caplog.text + repr(session)
    assert secret not in shown
    assert server.address in shown
