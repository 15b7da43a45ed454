"""Stores that give a seat to two, to nobody or to the wrong one, and tokens that do not rise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import drumbeat.memory
from drumbeat.hookspecs import (
    Beat,
    CandidacySubject,
    Holdings,
    LeaderRecord,
    LeaderSubject,
    Lease,
    Proclaimed,
    Reaped,
    ReapTicket,
    Resigned,
    Seat,
    Vacant,
    Waiting,
    Withdrawn,
    Won,
)
from drumbeat.memory import MemoryBackend, _Candidate, _Election, _holds, _Space
from drumbeat_mutants import Patch, mutant

#: Seconds that a forgetful store remembers an election that nobody asks for.
_REST: Final = 60.0
#: How many a short queue has room for.
_ROOM: Final = 8

Campaign = Callable[..., Won | Waiting]
Proclaim = Callable[..., Proclaimed]
Leading = LeaderRecord | Vacant


@mutant("looks-at-the-queue-alone", breaks=("LEAD-1", "LEAD-7", "LOCK-1", "LOCK-3"))
def looks_at_the_queue_alone(patch: Patch) -> None:
    """Who stands first among those that wait wins, whether or not the seat is taken."""

    def may_win(self: _Election, candidate: _Candidate) -> bool:
        return not self.queue or self.queue[0] == candidate

    patch(_Election, "may_win", may_win)


@mutant("keeps-the-dead-in-the-queue", breaks="LEAD-2")
def keeps_the_dead_in_the_queue(patch: Patch) -> None:
    """A session that is over gives up what it holds, and not its places in the queues."""
    haunted: list[_Election] = []

    def end(original: Callable[..., bool], self: _Space, incarnation: str) -> bool:
        haunted.extend(
            place for place in self.elections.values() if any(one.incarnation == incarnation for one in place.queue)
        )
        return original(self, incarnation)

    def may_win(original: Callable[..., bool], self: _Election, candidate: _Candidate) -> bool:
        first_is_dead = any(place is self for place in haunted)
        return not first_is_dead and original(self, candidate)

    patch.wrap(_Space, "end", end)
    patch.wrap(_Election, "may_win", may_win)


@mutant("keeps-the-counter-in-the-seat", breaks=("LEAD-3", "LOCK-4"))
def keeps_the_counter_in_the_seat(patch: Patch) -> None:
    """The last token is kept in the record of the seat, which goes when nobody has it: the count begins again."""

    def forget(original: Callable[..., bool], self: _Election, candidate: _Candidate) -> bool:
        known = original(self, candidate)
        self.token = 0 if self.holder is None else self.token
        return known

    patch.wrap(_Election, "forget", forget)


@mutant(
    "resigns-by-name-alone",
    breaks=("LEAD-4", "LEAD-16", "LOCK-6"),
    like="hazard: renew or release acts on someone else's seat",
)
def resigns_by_name_alone(patch: Patch) -> None:
    """A resign looks at the election's name and not at the token: it frees the seat of whoever has it now."""

    def resign(self: MemoryBackend, lease: Lease, seat: Seat) -> Resigned:
        with self._store.call(self._namespace) as space:
            holder = space.elections.get(seat.election, _Election()).holder
            return Resigned(holder is not None and space.forget(seat.election, holder))

    patch(MemoryBackend, "resign", resign)


@mutant(
    "proclaims-by-session-alone",
    breaks="LEAD-4",
    like="hazard: renew or release acts on someone else's seat",
)
def proclaims_by_session_alone(patch: Patch) -> None:
    """A proclaim looks whether the session has the seat, and not in which of its terms."""

    def proclaim(
        original: Callable[..., Proclaimed], self: MemoryBackend, lease: Lease, seat: Seat, value: bytes
    ) -> Proclaimed:
        with self._store.call(self._namespace) as space:
            place = space.elections.get(seat.election, _Election())
        if place.holder is not None and place.holder.incarnation == lease.incarnation:
            seat = Seat(seat.election, place.holder.attempt, place.token)
        return original(self, lease, seat, value)

    patch.wrap(MemoryBackend, "proclaim", proclaim)


@mutant("leaves-the-seat-to-its-lease", breaks=("LEAD-5", "LEAD-36"))
def leaves_the_seat_to_its_lease(patch: Patch) -> None:
    """A resign makes the holder forget its seat, which the store frees at the session's next heartbeat."""

    def resign(self: MemoryBackend, lease: Lease, seat: Seat) -> Resigned:
        with self._store.call(self._namespace) as space:
            return Resigned(_holds(space, lease, seat))

    patch(MemoryBackend, "resign", resign)


@mutant("waits-two-ttls-for-the-dead", breaks=("LEAD-6", "LEAD-22"))
def waits_two_ttls_for_the_dead(patch: Patch) -> None:
    """A session whose TTL has passed is given another one, in case its heartbeat is just late."""

    def sweep(self: _Space, now: float) -> None:
        for session in list(self.sessions.values()):
            if session.deadline + session.ttl <= now:
                self.end(session.incarnation)

    patch(_Space, "sweep", sweep)


@mutant("buries-the-living", breaks="LEAD-22")
def buries_the_living(patch: Patch) -> None:
    """A session counts as dead a tenth of a TTL before its lease is over, to be quicker than the others."""

    def sweep(self: _Space, now: float) -> None:
        for session in list(self.sessions.values()):
            if session.deadline - session.ttl / 10 <= now:
                self.end(session.incarnation)

    patch(_Space, "sweep", sweep)


@mutant("names-a-candidate-as-the-leader", breaks="LEAD-7")
def names_a_candidate_as_the_leader(patch: Patch) -> None:
    """The leader is read from the list of candidates, where who waits stands beside who holds the seat."""

    def leader(
        original: Callable[..., LeaderRecord | Vacant], space: _Space, place: _Election
    ) -> LeaderRecord | Vacant:
        return original(space, replace(place, holder=place.queue[0] if place.queue else place.holder))

    patch.wrap(drumbeat.memory, "_leader", leader)


@mutant("tells-milliseconds", breaks="LEAD-7")
def tells_milliseconds(patch: Patch) -> None:
    """A candidate is told in milliseconds when the holder can lapse, and counts them as seconds."""

    def campaign(original: Campaign, self: MemoryBackend, *rest: object) -> Won | Waiting:
        answer = original(self, *rest)
        if isinstance(answer, Waiting) and answer.retry_after is not None:
            return replace(answer, retry_after=answer.retry_after * 1000)
        return answer

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("withdraws-holders-alone", breaks=("LEAD-10", "LEAD-23", "LEAD-29"))
def withdraws_holders_alone(patch: Patch) -> None:
    """A withdraw frees the seat if the attempt has it, and leaves an attempt that waits in the queue."""

    def withdraw(self: MemoryBackend, lease: Lease, election: str, attempt: int) -> Withdrawn:
        with self._store.call(self._namespace) as space:
            me = _Candidate(lease.incarnation, attempt)
            holds = space.elections.get(election, _Election()).holder == me
            return Withdrawn(holds and space.forget(election, me))

    patch(MemoryBackend, "withdraw", withdraw)


@mutant("withdraws-from-the-queue-alone", breaks="LEAD-20")
def withdraws_from_the_queue_alone(patch: Patch) -> None:
    """A withdraw takes the attempt out of the queue, and overlooks that it has won meanwhile."""

    def withdraw(self: MemoryBackend, lease: Lease, election: str, attempt: int) -> Withdrawn:
        with self._store.call(self._namespace) as space:
            me = _Candidate(lease.incarnation, attempt)
            waits = me in space.elections.get(election, _Election()).queue
            return Withdrawn(waits and space.forget(election, me))

    patch(MemoryBackend, "withdraw", withdraw)


@mutant("withdraws-the-whole-session", breaks="LEAD-21")
def withdraws_the_whole_session(patch: Patch) -> None:
    """A withdraw looks for the session among the candidates and holders, and not for its attempt."""

    def withdraw(self: MemoryBackend, lease: Lease, election: str, attempt: int) -> Withdrawn:
        with self._store.call(self._namespace) as space:
            place = space.elections.get(election, _Election())
            ours = [one for one in (*place.queue, place.holder) if one and one.incarnation == lease.incarnation]
            return Withdrawn(sum(space.forget(election, one) for one in ours) > 0)

    patch(MemoryBackend, "withdraw", withdraw)


@mutant("serves-the-last-first", breaks=("LEAD-12", "LEAD-25"))
def serves_the_last_first(patch: Patch) -> None:
    """The queue is a stack: who came last is served first."""

    def campaign(original: Campaign, self: MemoryBackend, lease: Lease, election: str, *rest: object) -> Won | Waiting:
        with self._store.call(self._namespace) as space:
            before = list(space.elections.get(election, _Election()).queue)
        answer = original(self, lease, election, *rest)
        with self._store.call(self._namespace) as space:
            place = space.elections[election]
            new = [one for one in place.queue if one not in before]
            place.queue = new + [one for one in place.queue if one not in new]
        return answer

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("serves-whoever-asks", breaks=("LEAD-12", "LEAD-24"))
def serves_whoever_asks(patch: Patch) -> None:
    """A seat that is free goes to the first that asks, although others have waited longer."""

    def may_win(self: _Election, candidate: _Candidate) -> bool:
        return self.holder is None

    patch(_Election, "may_win", may_win)


@mutant(
    "keeps-what-was-won-too-late",
    breaks=("LEAD-15", "LEAD-31"),
    like="hazard: a request that timed out is applied later",
)
def keeps_what_was_won_too_late(patch: Patch) -> None:
    """A heartbeat renews every seat of the session, also those of attempts that the session has given up."""

    def remove(original: Callable[..., None], space: _Space, lease: Lease, holdings: Holdings) -> None:
        held = [
            Seat(election, place.holder.attempt, place.token)
            for election, place in space.elections.items()
            if place.holder is not None and place.holder.incarnation == lease.incarnation
        ]
        original(space, lease, replace(holdings, seats=tuple({*holdings.seats, *held})))

    patch.wrap(drumbeat.memory, "_remove_abandoned", remove)


@mutant("takes-the-value-of-the-repetition", breaks="LEAD-17")
def takes_the_value_of_the_repetition(patch: Patch) -> None:
    """A campaign that is repeated by its winner replaces the value, so a late repetition undoes a proclaim."""

    def campaign(original: Campaign, self: MemoryBackend, lease: Lease, election: str, *rest: object) -> Won | Waiting:
        answer = original(self, lease, election, *rest)
        value = rest[-1]
        if isinstance(answer, Won) and isinstance(value, bytes):
            with self._store.call(self._namespace) as space:
                space.elections[election].value = value
        return answer

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("forgets-candidacies", breaks=("LEAD-18", "LEAD-24"))
def forgets_candidacies(patch: Patch) -> None:
    """A heartbeat takes for abandoned whatever is no seat that the session knows of, its candidacies included."""

    def remove(original: Callable[..., None], space: _Space, lease: Lease, holdings: Holdings) -> None:
        original(space, lease, replace(holdings, candidacies=()))

    patch.wrap(drumbeat.memory, "_remove_abandoned", remove)


@mutant("mints-a-token-at-every-change", breaks="LEAD-19")
def mints_a_token_at_every_change(patch: Patch) -> None:
    """The token is the version of the seat's record, which a proclaim moves on."""

    def proclaim(
        original: Callable[..., Proclaimed], self: MemoryBackend, lease: Lease, seat: Seat, value: bytes
    ) -> Proclaimed:
        answer = original(self, lease, seat, value)
        if answer.was_held:
            with self._store.call(self._namespace) as space:
                space.elections[seat.election].token += 1
        return answer

    patch.wrap(MemoryBackend, "proclaim", proclaim)


@mutant("proclaims-to-nobody", breaks=("LEAD-19", "LEAD-26", "WATCH-10"))
def proclaims_to_nobody(patch: Patch) -> None:
    """A proclaim checks that the seat is held, says so, and leaves the value of the win in place."""

    def proclaim(self: MemoryBackend, lease: Lease, seat: Seat, value: bytes) -> Proclaimed:
        with self._store.call(self._namespace) as space:
            held = _holds(space, lease, seat)
            space.changed |= {LeaderSubject(seat.election)} if held else set()
            return Proclaimed(held)

    patch(MemoryBackend, "proclaim", proclaim)


@mutant("begins-anew-after-a-rest", breaks="LEAD-3", like="hazard: tokens restart")
def begins_anew_after_a_rest(patch: Patch) -> None:
    """What is known of an election goes when nobody has asked for it for a minute, and its tokens begin anew."""
    asked: dict[tuple[str, str, str], float] = {}

    def campaign(original: Campaign, self: MemoryBackend, lease: Lease, election: str, *rest: object) -> Won | Waiting:
        place, now = (self._name, self._namespace, election), self._store.clock.now()
        if now - asked.get(place, now) > _REST:
            with self._store.call(self._namespace) as space:
                space.elections.pop(election, None)
        asked[place] = now
        return original(self, lease, election, *rest)

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("tidies-up-after-the-last", breaks="LEAD-3", like="hazard: empty container nodes are removed")
def tidies_up_after_the_last(patch: Patch) -> None:
    """With the last session of a namespace all of it goes, the counts of the tokens included."""

    def end(original: Callable[..., bool], self: _Space, incarnation: str) -> bool:
        ended = original(self, incarnation)
        if not self.sessions:
            self.elections.clear()
        return ended

    patch.wrap(_Space, "end", end)


@mutant("remembers-its-wins", breaks="LEAD-5")
def remembers_its_wins(patch: Patch) -> None:
    """Which attempt has won is remembered, so that a repetition needs no request, also when the seat is given up."""
    wins: dict[tuple[str, str, int], Won] = {}

    def campaign(
        original: Campaign, self: MemoryBackend, lease: Lease, election: str, attempt: int, *rest: object
    ) -> Won | Waiting:
        asked = (lease.incarnation, election, attempt)
        answer = wins.get(asked) or original(self, lease, election, attempt, *rest)
        if isinstance(answer, Won):
            wins[asked] = answer
        return answer

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("leads-with-its-predecessors-value", breaks=("LEAD-16", "LEAD-28"))
def leads_with_its_predecessors_value(patch: Patch) -> None:
    """A candidate that has waited takes the seat over as it is, the value of its predecessor included."""

    def campaign(
        original: Campaign, self: MemoryBackend, lease: Lease, election: str, attempt: int, value: bytes
    ) -> Won | Waiting:
        with self._store.call(self._namespace) as space:
            place = space.elections.get(election, _Election())
            if _Candidate(lease.incarnation, attempt) in place.queue:
                value = place.value
        return original(self, lease, election, attempt, value)

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("has-room-for-eight", breaks="LEAD-43", like="hazard: a listing comes in pages")
def has_room_for_eight(patch: Patch) -> None:
    """The queue is read by its first page: whoever stands further behind is not in it."""

    def campaign(original: Campaign, self: MemoryBackend, lease: Lease, election: str, *rest: object) -> Won | Waiting:
        answer = original(self, lease, election, *rest)
        with self._store.call(self._namespace) as space:
            del space.elections[election].queue[_ROOM:]
        return answer

    patch.wrap(MemoryBackend, "campaign", campaign)


def _drop_waiting(space: _Space, lease: Lease, election: str) -> None:
    place = space.elections.get(election, _Election())
    place.queue = [one for one in place.queue if one.incarnation != lease.incarnation]


@mutant("withdraws-all-that-wait", breaks="LEAD-44")
def withdraws_all_that_wait(patch: Patch) -> None:
    """A withdraw takes every attempt of the session out of the queue, and not the one that was named."""

    def withdraw(
        original: Callable[..., Withdrawn], self: MemoryBackend, lease: Lease, election: str, attempt: int
    ) -> Withdrawn:
        answer = original(self, lease, election, attempt)
        if answer.was_candidate:
            with self._store.call(self._namespace) as space:
                _drop_waiting(space, lease, election)
        return answer

    patch.wrap(MemoryBackend, "withdraw", withdraw)


@mutant("resigns-all-that-wait", breaks="LEAD-44")
def resigns_all_that_wait(patch: Patch) -> None:
    """A resign takes the session out of the election, with its other attempts that wait there."""

    def resign(original: Callable[..., Resigned], self: MemoryBackend, lease: Lease, seat: Seat) -> Resigned:
        answer = original(self, lease, seat)
        with self._store.call(self._namespace) as space:
            _drop_waiting(space, lease, seat.election)
        return answer

    patch.wrap(MemoryBackend, "resign", resign)


@mutant("withdraws-by-member-id", breaks="LEAD-45", like="hazard: renew or release acts on someone else's seat")
def withdraws_by_member_id(patch: Patch) -> None:
    """A withdraw looks for member id and number of the attempt, which begin again with each incarnation."""

    def withdraw(
        original: Callable[..., Withdrawn], self: MemoryBackend, lease: Lease, election: str, attempt: int
    ) -> Withdrawn:
        with self._store.call(self._namespace) as space:
            namesakes = [one for one in space.sessions.values() if one.member_id == lease.member_id]
        newest = namesakes[-1].incarnation if namesakes else lease.incarnation
        return original(self, replace(lease, incarnation=newest), election, attempt)

    patch.wrap(MemoryBackend, "withdraw", withdraw)


@mutant("takes-values-for-text", breaks="LEAD-19")
def takes_values_for_text(patch: Patch) -> None:
    """A proclaimed value is stored as text, and what is no text is replaced."""

    def proclaim(
        original: Callable[..., Proclaimed], self: MemoryBackend, lease: Lease, seat: Seat, value: bytes
    ) -> Proclaimed:
        return original(self, lease, seat, value.decode(errors="replace").encode())

    patch.wrap(MemoryBackend, "proclaim", proclaim)


@mutant("takes-empty-for-unchanged", breaks="LEAD-19")
def takes_empty_for_unchanged(patch: Patch) -> None:
    """A proclaimed value that is empty counts as none, and the one before stays."""

    def proclaim(
        original: Callable[..., Proclaimed], self: MemoryBackend, lease: Lease, seat: Seat, value: bytes
    ) -> Proclaimed:
        with self._store.call(self._namespace) as space:
            value = value or space.elections[seat.election].value
        return original(self, lease, seat, value)

    patch.wrap(MemoryBackend, "proclaim", proclaim)


def _without_hints(space: _Space, act: Callable[[], None]) -> None:
    kept = dict(space.watches)
    for number, watch in kept.items():
        if isinstance(watch.subject, CandidacySubject):
            del space.watches[number]
    act()
    space.watches.update({number: watch for number, watch in kept.items() if number not in space.watches})


@mutant("frees-the-withdrawn-in-silence", breaks="LEAD-53", like="hazard: an event is lost")
def frees_the_withdrawn_in_silence(patch: Patch) -> None:
    """A resign and the end of a session wake the next candidate, and a withdraw that frees the seat does not."""

    def withdraw(original: Callable[..., Withdrawn], self: MemoryBackend, *rest: object) -> Withdrawn:
        answers: list[Withdrawn] = []
        space = self._store.spaces[self._namespace]
        _without_hints(space, lambda: answers.append(original(self, *rest)))
        return answers[0]

    patch.wrap(MemoryBackend, "withdraw", withdraw)


@mutant("frees-the-abandoned-in-silence", breaks="LEAD-53", like="hazard: an event is lost")
def frees_the_abandoned_in_silence(patch: Patch) -> None:
    """A heartbeat that frees what its session has given up wakes nobody."""

    def heartbeat(original: Callable[..., Beat], self: MemoryBackend, *rest: object) -> Beat:
        answers: list[Beat] = []
        space = self._store.spaces[self._namespace]
        _without_hints(space, lambda: answers.append(original(self, *rest)))
        return answers[0]

    patch.wrap(MemoryBackend, "heartbeat", heartbeat)


@mutant("queues-whoever-asks-anew", breaks="LEAD-43")
def queues_whoever_asks_anew(patch: Patch) -> None:
    """A candidate that asks again goes to the end of the queue."""

    def campaign(
        original: Campaign, self: MemoryBackend, lease: Lease, election: str, attempt: int, *rest: object
    ) -> Won | Waiting:
        answer = original(self, lease, election, attempt, *rest)
        if isinstance(answer, Waiting):
            with self._store.call(self._namespace) as space:
                me, place = _Candidate(lease.incarnation, attempt), space.elections[election]
                place.queue = [*(one for one in place.queue if one != me), me]
        return answer

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("compares-numbers-as-text", breaks="LEAD-15", like="hazard: Lua loses digits")
def compares_numbers_as_text(patch: Patch) -> None:
    """Numbers of attempts are compared as text, by which 9 is more than 10: what they abandoned counts as newer."""

    def remove(original: Callable[..., None], space: _Space, lease: Lease, holdings: Holdings) -> None:
        newer = [
            Seat(election, place.holder.attempt, place.token)
            for election, place in space.elections.items()
            if place.holder is not None
            and place.holder.incarnation == lease.incarnation
            and str(place.holder.attempt) > str(holdings.newest_attempt)
        ]
        original(space, lease, replace(holdings, seats=tuple({*holdings.seats, *newer})))

    patch.wrap(drumbeat.memory, "_remove_abandoned", remove)


@mutant("frees-one-at-a-time", breaks="LEAD-15")
def frees_one_at_a_time(patch: Patch) -> None:
    """A heartbeat frees the first seat that it finds abandoned, and leaves the next one to the next heartbeat."""

    def remove(original: Callable[..., None], space: _Space, lease: Lease, holdings: Holdings) -> None:
        ours = [
            Seat(election, place.holder.attempt, place.token)
            for election, place in space.elections.items()
            if place.holder is not None and place.holder.incarnation == lease.incarnation
        ]
        abandoned = [seat for seat in ours if seat not in holdings.seats]
        original(space, lease, replace(holdings, seats=(*holdings.seats, *abandoned[1:])))

    patch.wrap(drumbeat.memory, "_remove_abandoned", remove)


@mutant("forgets-the-counter-of-an-abandoned-seat", breaks="LEAD-3")
def forgets_the_counter_of_an_abandoned_seat(patch: Patch) -> None:
    """A heartbeat that frees an abandoned seat removes the election's record, and its last token with it."""

    def remove(original: Callable[..., None], space: _Space, lease: Lease, holdings: Holdings) -> None:
        held = [place for place in space.elections.values() if place.holder is not None]
        original(space, lease, holdings)
        for place in held:
            if place.holder is None:
                place.token = 0

    patch.wrap(drumbeat.memory, "_remove_abandoned", remove)


@mutant("forgets-the-counter-of-a-reaped-seat", breaks="LEAD-3")
def forgets_the_counter_of_a_reaped_seat(patch: Patch) -> None:
    """Reaping a holder removes the election's record, and its last token with it."""

    def reap(original: Callable[..., Reaped], self: MemoryBackend, ticket: ReapTicket) -> Reaped:
        with self._store.call(self._namespace) as space:
            held = [
                place
                for place in space.elections.values()
                if place.holder and place.holder.incarnation == ticket.incarnation and not place.queue
            ]
        answer = original(self, ticket)
        for place in held:
            place.token = 0
        return answer

    patch.wrap(MemoryBackend, "reap_session", reap)


@mutant("tells-candidates-their-own-ttl", breaks="LEAD-7")
def tells_candidates_their_own_ttl(patch: Patch) -> None:
    """A candidate is told its own TTL, and not what is left of the holder's."""

    def campaign(original: Campaign, self: MemoryBackend, lease: Lease, *rest: object) -> Won | Waiting:
        answer = original(self, lease, *rest)
        return replace(answer, retry_after=lease.ttl) if isinstance(answer, Waiting) else answer

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("tells-candidates-half-of-the-time", breaks="LEAD-7")
def tells_candidates_half_of_the_time(patch: Patch) -> None:
    """A candidate is told half of what is left of the holder's lease."""

    def campaign(original: Campaign, self: MemoryBackend, lease: Lease, *rest: object) -> Won | Waiting:
        answer = original(self, lease, *rest)
        if isinstance(answer, Waiting) and answer.retry_after is not None:
            return replace(answer, retry_after=answer.retry_after / 2)
        return answer

    patch.wrap(MemoryBackend, "campaign", campaign)


@mutant("keeps-eight-bits-of-an-attempt", breaks="LEAD-55")
def keeps_eight_bits_of_an_attempt(patch: Patch) -> None:
    """Of an attempt's number eight bits are compared, so that a later one is taken for an earlier one."""

    def campaign(
        original: Campaign, self: MemoryBackend, lease: Lease, election: str, attempt: int, *rest: object
    ) -> Won | Waiting:
        with self._store.call(self._namespace) as space:
            holder = space.elections.get(election, _Election()).holder
        if holder and holder.incarnation == lease.incarnation and holder.attempt % 256 == attempt % 256:
            return original(self, lease, election, holder.attempt, *rest)
        return original(self, lease, election, attempt, *rest)

    patch.wrap(MemoryBackend, "campaign", campaign)
