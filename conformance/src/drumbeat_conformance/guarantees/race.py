"""What many ask for at the same moment goes to one of them, and nothing that another one wrote is lost."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Final

from drumbeat import Conflict
from drumbeat.hookspecs import LeaderRecord, Won
from drumbeat_conformance.actor import Actor
from drumbeat_conformance.guarantee import guarantee
from drumbeat_conformance.guarantees._lapse import long_ttl
from drumbeat_conformance.guarantees._lasting import lasting_actor
from drumbeat_conformance.guarantees._race import race

if TYPE_CHECKING:
    from drumbeat.hookspecs import SessionRequest, Waiting
    from drumbeat_conformance.arena import Arena

#: How many race, for how many seats, and how often where all write the same thing and wait for one another.
_RACERS: Final = 4
_SEATS: Final = 60
_TURNS: Final = 4


@guarantee("RACE-1")
def of_many_that_ask_at_once_one_wins(arena: Arena) -> None:
    """Of many candidates that ask for a free seat at the same moment one wins; the others are told to wait, and
    everybody sees the winner with its own token and value.
    """
    racers = [lasting_actor(arena, f"racer {number}") for number in range(_RACERS)]

    def ask(racer: Actor, turn: int) -> Won | Waiting:
        return racer.campaign(f"e{turn}", racer.member_id.encode())

    asking = [partial(ask, racer) for racer in racers]
    for turn, answers in enumerate(race(arena, asking, turns=range(_SEATS))):
        won = [(racer, answer) for racer, answer in zip(racers, answers, strict=True) if isinstance(answer, Won)]
        assert len(won) == 1, f"{len(won)} of {_RACERS} have won one seat: {won}"
        winner, answer = won[0]
        found = racers[turn % _RACERS].leader(f"e{turn}")
        assert isinstance(found, LeaderRecord)
        assert (winner.member_id, answer.seat.token) == (found.member_id, found.token)
        assert winner.member_id.encode() == found.value
    assert [racer.beat().lost for racer in racers] == [()] * _RACERS


@guarantee("RACE-2")
def no_join_and_no_leave_is_lost_in_a_race(arena: Arena) -> None:
    """Of members that join, change and leave one group at the same moment each has its way: nobody is missing, nobody
    stays behind, and everybody has the value that it wrote last.
    """
    racers = [lasting_actor(arena, f"racer {number}") for number in range(_RACERS)]
    staying = racers[::2]

    def come(racer: Actor, turn: int) -> None:
        racer.join("g", f"{racer.member_id} came {turn}".encode())

    def go(racer: Actor, turn: int) -> None:
        if racer in staying:
            racer.update("g", f"{racer.member_id} stays {turn}".encode())
        else:
            racer.leave("g")

    for turn in range(_TURNS):
        race(arena, [partial(come, racer) for racer in racers], turns=[turn])
        wanted = {racer.member_id: f"{racer.member_id} came {turn}".encode() for racer in racers}
        assert wanted == racers[0].members("g")
        race(arena, [partial(go, racer) for racer in racers], turns=[turn])
        wanted = {racer.member_id: f"{racer.member_id} stays {turn}".encode() for racer in staying}
        assert wanted == racers[1].members("g")
    assert [racer.beat().lost for racer in racers] == [()] * _RACERS


@guarantee("RACE-3")
def of_many_that_open_one_member_id_one_gets_it(arena: Arena) -> None:
    """Of many that open a session under one member id at the same moment one gets it, and the others are refused."""
    racers = [Actor(arena, "same", backend=arena.backend()) for _ in range(_RACERS)]

    def get_in(racer: Actor, wish: SessionRequest, _: int) -> bool:
        with suppress(Conflict):
            racer.open(wish)
            return True
        return False

    for turn in range(_TURNS):
        wishes = [replace(racer.request(), ttl=long_ttl(arena)) for racer in racers]
        (got_in,) = race(arena, list(map(partial, repeat(get_in), racers, wishes)), turns=[turn])
        owners = [racer for racer, got in zip(racers, got_in, strict=True) if got]
        assert len(owners) == 1, f"{len(owners)} of {_RACERS} got the same member id"
        (owner,) = owners
        owner.join("g")
        assert owner.beat().lost == ()
        assert owner.close()
        owner.backend.drop_session(owner.lease)


@guarantee("RACE-4")
def threads_of_one_session_get_their_own_answers(arena: Arena) -> None:
    """Threads that use one backend object at the same moment, as those of a session do, are each told what they asked
    for: of groups, of leaders and of their own campaigns.
    """
    actor, other = lasting_actor(arena, "a"), lasting_actor(arena, "b")
    for number in range(_RACERS):
        actor.join(f"g{number}", f"{number}".encode())
        other.win(f"e{number}", f"{number}".encode())

    def ask(number: int, turn: int) -> tuple[object, ...]:
        members, leader = actor.members(f"g{number}"), actor.leader(f"e{number}")
        value = leader.value if isinstance(leader, LeaderRecord) else None
        return members["a"], value, actor.win(f"free {number} {turn}").election

    asking = [partial(ask, number) for number in range(_RACERS)]
    for turn, answers in enumerate(race(arena, asking, turns=range(_TURNS))):
        for number, answer in enumerate(answers):
            mine = f"{number}".encode()
            assert (mine, mine, f"free {number} {turn}") == answer
    assert actor.beat().lost == ()
