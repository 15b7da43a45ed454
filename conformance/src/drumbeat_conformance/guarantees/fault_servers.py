"""The server freezes, dies, and comes back with or without its data; sessions notice in time, and recover."""

from __future__ import annotations

import pytest

from drumbeat import Capability, State, Timeout, Unavailable
from drumbeat_conformance.arena import Arena
from drumbeat_conformance.faults import down, paused, restart
from drumbeat_conformance.guarantee import Needs, guarantee
from drumbeat_conformance.guarantees._scene import FOUND, LONG, Scene


@guarantee("FAULT-1", tier="faults", needs=Needs.SERVER)
def a_restart_with_data_is_recovered_from(arena: Arena) -> None:
    """After an outage of more than its TTL a session's term is over in time, though nobody says so; when the server is
    back with its data, the session comes back and rejoins by itself, and its seat can be won.

    A session with a longer lease is well again too, whether the server still knows it or not.
    """
    scene = Scene(arena)
    patient = scene.connect("patient", lease_ttl=LONG, heartbeat_interval=1.0)
    patient.group("h").join()
    holder = scene.hold()
    with down(arena.server, graceful=True):
        holder.ends_in_time()
        arena.eventually(lambda: patient.state is State.SUSPENDED, within=LONG)
    holder.comes_back()
    holder.wins_again()
    assert patient.wait_for(State.CONNECTED, timeout=FOUND)
    arena.eventually(lambda: "patient" in patient.group("h").members(), within=FOUND)
    scene.check()


@guarantee("FAULT-10", level="should", tier="faults", claim=Capability.PERSISTENT, needs=Needs.SERVER)
def a_restart_within_the_lease_takes_nothing(arena: Arena) -> None:
    """A server that is killed and back within the lease has kept session, membership and term; the term can be given
    up, and the seat be won again.
    """
    scene = Scene(arena)
    holder = scene.hold(ttl=LONG)
    with down(arena.server):
        arena.eventually(lambda: holder.session.state is State.SUSPENDED, within=LONG)
        assert holder.term.held
    holder.keeps_all()
    assert holder.term.resign()
    assert holder.wins_again().token > holder.term.token
    scene.check()


@guarantee("FAULT-2", tier="faults", needs=Needs.SERVER)
def a_restart_without_data_is_told_and_recovered_from(arena: Arena) -> None:
    """When the server comes back without its data, every session is told, also one whose lease has not run out, and
    rejoins; a leader is elected, and no terms overlap.
    """
    scene = Scene(arena)
    forgotten = scene.connect("forgotten", lease_ttl=LONG, heartbeat_interval=1.0)
    forgotten.group("h").join()
    lost = arena.run(lambda: forgotten.election("f").campaign(), within=FOUND)
    before = forgotten.incarnation
    holder = scene.hold()
    with down(arena.server, wiped=True):
        holder.ends_in_time()
    holder.comes_back()
    arena.eventually(lambda: forgotten.incarnation != before, within=FOUND)
    assert not lost.held
    assert forgotten.wait_for(State.CONNECTED, timeout=FOUND)
    arena.eventually(lambda: "forgotten" in forgotten.group("h").members(), within=FOUND)
    assert holder.wins_again().held
    assert arena.run(lambda: forgotten.election("f").campaign(timeout=FOUND), within=2 * FOUND).held
    scene.check_overlaps()


@guarantee("FAULT-3", tier="faults", needs=Needs.SERVER)
def a_server_that_freezes_ends_terms_in_time(arena: Arena) -> None:
    """While the server is frozen for longer than the TTL, a holder's term is over in time though no answer ever came;
    when it wakes, nothing is revived, and the session comes back by itself.
    """
    scene = Scene(arena)
    holder = scene.hold()
    with paused(arena.server):
        holder.ends_in_time()
        arena.wait(arena.ttl)
    holder.comes_back()
    holder.wins_again()
    scene.check()


@guarantee("FAULT-13", tier="faults", needs=Needs.SERVER)
def a_server_that_freezes_for_a_while_takes_nothing(arena: Arena) -> None:
    """A server that is frozen for less than the TTL takes nothing from a holder; what others asked of it meanwhile, and
    were told no answer to, leaves nothing behind once they have beaten again.
    """
    scene = Scene(arena)
    holder = scene.hold(ttl=LONG)
    other = scene.connect("other", lease_ttl=LONG, request_timeout=arena.ttl / 2)
    with paused(arena.server):
        with pytest.raises(Unavailable):
            other.group("g").join()
        with pytest.raises(Timeout):
            arena.run(lambda: other.election("f").campaign(timeout=0), within=FOUND)
        assert holder.term.held
    holder.keeps_all()
    assert other.wait_for(State.CONNECTED, timeout=FOUND)
    other.beat()
    assert other.group("g").members().ids == ("holder",)
    assert other.election("f").leader() is None
    arena.run(lambda: holder.session.election("f").campaign(timeout=5 * arena.ttl), within=FOUND)
    scene.check()


@guarantee("FAULT-9", tier="faults", needs=Needs.SERVER)
def close_is_bounded_without_a_server(arena: Arena) -> None:
    """Whether the server is frozen or gone, close returns within its timeout, and the term is over."""
    scene = Scene(arena)
    first = scene.hold(ttl=LONG)
    second = scene.connect("second", lease_ttl=LONG)
    term = arena.run(lambda: second.election("f").campaign(), within=FOUND)
    with paused(arena.server):
        arena.run(lambda: first.session.close(timeout=1.0), within=4.0)
        assert not first.term.held
    with down(arena.server):
        arena.run(lambda: second.close(timeout=1.0), within=4.0)
        assert not term.held


@guarantee("FAULT-25", tier="faults", needs=Needs.SERVER)
def a_server_that_is_not_there_yet_is_reported_or_waited_for(arena: Arena) -> None:
    """Connecting to a server that is down raises Unavailable after the connect timeout, or waits until it is there."""
    scene = Scene(arena)
    with down(arena.server):
        with pytest.raises(Unavailable):
            arena.run(lambda: scene.connect("hasty", connect_timeout=1.0), within=10.0)
        waiting = arena.background(lambda: scene.connect("patient", connect_timeout=1.0, wait=True))
        arena.wait(2 * arena.ttl)
        assert waiting.running
    assert waiting.result(within=FOUND).state is State.CONNECTED


@guarantee(
    "LEAD-13",
    level="should",
    tier="faults",
    claim=Capability.TOKENS_SURVIVE_RESTART,
    needs=Needs.SERVER,
    instead={"local": "LOCAL-8"},
)
def tokens_rise_over_a_restart(arena: Arena) -> None:
    """Tokens keep rising when the server restarts with its data, be it stopped or killed."""
    tokens = _tokens_of_three_terms(arena, number=0)
    for number, graceful in enumerate((True, False), 1):
        restart(arena.server, graceful=graceful)
        tokens += _tokens_of_three_terms(arena, number=number)
    assert sorted(set(tokens)) == tokens


@guarantee(
    "LEAD-14",
    level="should",
    tier="faults",
    claim=Capability.TOKENS_SURVIVE_DATA_LOSS,
    needs=Needs.SERVER,
    instead={"local": "LOCAL-2"},
)
def tokens_rise_over_a_loss_of_data(arena: Arena) -> None:
    """Tokens keep rising when the server loses its data, once and again, as long as no clock is set back."""
    tokens = _tokens_of_three_terms(arena, number=0)
    for number in (1, 2):
        restart(arena.server, wiped=True)
        tokens += _tokens_of_three_terms(arena, number=number)
    assert sorted(set(tokens)) == tokens


def _tokens_of_three_terms(arena: Arena, *, number: int) -> list[int]:
    """Return the tokens of three terms of a session of its own."""
    session = arena.connect(f"m{number}", lease_ttl=LONG)
    tokens = []
    for _ in range(3):
        with arena.run(lambda: session.election("e").campaign(timeout=FOUND), within=2 * FOUND) as term:
            tokens.append(term.token)
    session.close()
    return tokens
