"""The link to the server is cut, silenced or slow, and replies are lost; terms do not overlap, and sessions recover."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from drumbeat import State, Unavailable
from drumbeat_conformance.faults import black_hole, cut, dropping_replies, half_open, losing_replies, slow
from drumbeat_conformance.guarantee import Needs, guarantee
from drumbeat_conformance.guarantees._scene import FOUND, LONG, Scene, answers, beats

if TYPE_CHECKING:
    from drumbeat import Session
    from drumbeat_conformance.arena import Arena


@guarantee("FAULT-6", tier="faults", needs=Needs.LINK)
def a_holder_behind_a_dead_link_is_replaced_and_recovers(arena: Arena) -> None:
    """When the link of a holder swallows everything, or is closed, its term is over before a candidate wins, which it
    does within the bound; when the link is sound again the session comes back by itself.
    """
    scene = Scene(arena)
    link = arena.link()
    successor = scene.connect("successor")
    for fault in (black_hole, cut):
        holder = scene.hold(url=link.url)
        waiting = arena.background(lambda: successor.election("e").campaign())
        with fault(link.proxy):
            term = waiting.result(within=successor.failover_bound + arena.ttl)
            assert not holder.term.held
            arena.eventually(lambda holder=holder: holder.session.state is State.LOST, within=arena.ttl)  # type: ignore[misc]
        holder.comes_back()
        assert term.resign()
        holder.session.close()
    scene.check()


@guarantee("FAULT-14", tier="faults", needs=Needs.LINK)
def a_link_that_is_dead_for_a_while_takes_nothing(arena: Arena) -> None:
    """A link that swallows everything, or is closed, for less than the TTL takes nothing from a holder."""
    scene = Scene(arena)
    link = arena.link()
    holder = scene.hold(ttl=4 * arena.ttl, url=link.url)
    for fault in (black_hole, cut):
        with fault(link.proxy):
            arena.eventually(lambda: holder.session.state is State.SUSPENDED, within=3 * arena.ttl)
            assert holder.term.held
        holder.keeps_all()
    scene.check()


@guarantee("FAULT-16", tier="faults", needs=Needs.LINK)
def a_half_open_link_is_given_up(arena: Arena) -> None:
    """A session whose connections are dead without its being told gives them up and is well again by new ones, while
    the old ones still stand, whether it keeps its term or loses it in time; a view that is watched goes on. With a long
    lease it does so as the same session.
    """
    scene = Scene(arena)
    link = arena.link()
    lasting = scene.connect("lasting", url=link.url, lease_ttl=LONG, request_timeout=arena.ttl / 2)
    before = lasting.incarnation
    assert lasting.group("g").members().ids == ()
    holder = scene.hold(url=link.url)
    successor = scene.connect("successor")
    waiting = arena.background(lambda: successor.election("e").campaign())
    with holder.session.group("g").watch() as views, half_open(link.proxy):
        arena.eventually(lambda: answers(lasting), within=LONG / 2)
        assert before == lasting.incarnation
        arena.wait(arena.ttl)
        holder.is_well_again()
        successor.group("g").join()
        seen = arena.background(lambda: next(change for change in views if "successor" in change.view))
        seen.result(within=FOUND)
    if holder.term.held:
        holder.term.resign()
    waiting.result(within=FOUND)
    scene.check()


@guarantee("FAULT-17", tier="faults", needs=Needs.LINK)
def a_deadline_counts_from_the_sending_of_a_slow_heartbeat(arena: Arena) -> None:
    """Behind a slow link a holder keeps its term; when the link then dies, its term is over before a candidate wins,
    for it counts from when the last heartbeat was sent, not from when its answer came.
    """
    scene = Scene(arena)
    link = arena.link()
    # A connection that has to be made anew takes several of the slow round trips.
    holder = scene.hold(url=link.url, heartbeat_interval=arena.ttl / 10, request_timeout=0.4 * arena.ttl)
    successor = scene.connect("successor")
    waiting = arena.background(lambda: successor.election("e").campaign())
    with slow(link.proxy, 0.12 * arena.ttl):
        arena.wait(2 * arena.ttl)
        assert holder.term.held
        link.proxy.black_hole()
        waiting.result(within=successor.failover_bound + arena.ttl)
        assert not holder.term.held
    holder.comes_back()
    scene.check()


@guarantee("FAULT-15", tier="faults", needs=Needs.LINK)
def a_link_too_slow_for_its_lease_ends_terms_in_time(arena: Arena) -> None:
    """Behind a link whose answers come later than requests may take, a holder's term is over before a candidate wins,
    and late answers revive nothing; when the link is quick again the session comes back by itself.
    """
    scene = Scene(arena)
    link = arena.link()
    holder = scene.hold(url=link.url)
    successor = scene.connect("successor")
    waiting = arena.background(lambda: successor.election("e").campaign())
    with slow(link.proxy, 1.5 * arena.ttl):
        arena.eventually(lambda: not holder.term.held, within=2 * arena.ttl)
        arena.wait(2 * arena.ttl)
        assert not holder.term.held
    # The server was asked to renew all the while, and hears of the end from the session that comes after.
    waiting.result(within=FOUND)
    holder.is_well_again()
    assert not holder.term.held
    scene.check()


@guarantee("FAULT-7", tier="faults", needs=Needs.LINK)
def what_was_done_unheard_is_found_or_undone(arena: Arena) -> None:
    """While every reply is lost, what a session asks for is done and not heard of. Once replies come again, a campaign
    has won one term, the one that the server knows, and a join that raised Unavailable has left no member.
    """
    scene = Scene(arena)
    link = arena.link()
    session = scene.connect("a", url=link.url, lease_ttl=8 * arena.ttl, request_timeout=arena.ttl / 2)
    other = scene.connect("other")
    # Connections are there before the replies are lost, so that requests reach the server.
    assert session.groups() == ()
    with dropping_replies(link.proxy):
        campaign = arena.background(lambda: session.election("e").campaign())
        arena.wait(arena.ttl)
    term = campaign.result(within=8 * arena.ttl)
    assert session.groups() == ()
    with dropping_replies(link.proxy):
        joined = _join(session, "g")
    leader = other.election("e").leader()
    assert leader is not None
    assert ("a", term.token) == (leader.member_id, leader.token)
    session.beat()
    assert term.held
    assert (("a",) if joined else ()) == other.group("g").members().ids
    assert term.resign()
    _assert_nothing_is_left(arena, other, "e")
    scene.check()


@guarantee("FAULT-18", tier="faults", needs=Needs.LINK)
def replies_lost_at_random_lose_and_double_nothing(arena: Arena) -> None:
    """While replies are lost at random together with their connections, two sessions that win and resign in turn lose
    neither session nor term and never hold one twice; when they are gone, nothing of theirs is left on the server.
    """
    scene = Scene(arena)
    link = arena.link()
    onlooker = arena.connect("onlooker")
    rivals = [
        scene.connect(name, url=link.url, lease_ttl=10 * arena.ttl, heartbeat_interval=arena.ttl, connect_timeout=FOUND)
        for name in ("a", "b")
    ]
    with losing_replies(link.proxy, 0.12, seed=arena.draw.randrange(1 << 32)):
        turns = [arena.background(lambda rival=rival: _win_and_resign(rival, times=16)) for rival in rivals]  # type: ignore[misc]
        for turn in turns:
            turn.result(within=2 * FOUND)
    for rival in rivals:
        arena.eventually(lambda rival=rival: beats(rival), within=FOUND)  # type: ignore[misc]
    _assert_nothing_is_left(arena, onlooker, "e")
    assert [record.reason for record in scene.history() if record.kind in {"term_lost", "lost"}] == []
    scene.check()


def _join(session: Session, group: str) -> bool:
    """Join; return False if no answer came."""
    try:
        session.group(group).join()
    except Unavailable:
        return False
    return True


def _win_and_resign(session: Session, *, times: int) -> None:
    for _ in range(times):
        with session.election("e").campaign() as term:
            assert term.held
            if _join(session, "g"):
                with suppress(Unavailable):
                    session.group("g").leave()


def _assert_nothing_is_left(arena: Arena, session: Session, election: str) -> None:
    """Fail if a group has members that nobody wants to be, or something stands in the way of a candidate."""
    arena.eventually(lambda: session.election(election).leader() is None, within=2 * arena.ttl)
    assert session.groups() == ()
    arena.run(lambda: session.election(election).campaign(timeout=2 * arena.ttl), within=FOUND).resign()
