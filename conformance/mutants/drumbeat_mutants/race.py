"""Stores that look first and act then, so that two may have looked before one has acted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from drumbeat.hookspecs import GroupSubject, Lease, Left, SessionRequest
from drumbeat.memory import MemoryBackend, _Space, _Store
from drumbeat_mutants import Patch, mutant


@mutant("locks-nothing", breaks="RACE-1")
def locks_nothing(patch: Patch) -> None:
    """What a call reads and what it writes are two things, between which another call may come."""

    @contextmanager
    def call(self: _Store, namespace: str) -> Iterator[_Space]:
        space = self.spaces.setdefault(namespace, _Space())
        space.sweep(self.clock.now())
        yield space
        for notify in space.take_hints():
            notify()

    patch(_Store, "call", call)


@mutant("writes-the-roster-that-it-has-read", breaks="RACE-2", like="hazard: memcached, no listing")
def writes_the_roster_that_it_has_read(patch: Patch) -> None:
    """A leave reads who is in the group, and then writes that list without the one that leaves."""

    def leave(self: MemoryBackend, lease: Lease, group: str) -> Left:
        with self._store.call(self._namespace) as space:
            before = dict(space.groups.get(group, {}))
        with self._store.call(self._namespace) as space:
            was_member = before.pop(lease.incarnation, None) is not None
            space.groups[group] = before
            space.changed.add(GroupSubject(group))
            return Left(was_member)

    patch(MemoryBackend, "leave_group", leave)


@mutant("asks-before-it-opens", breaks="RACE-3")
def asks_before_it_opens(patch: Patch) -> None:
    """Whether a member id is free is asked first, and the session opened in a second request, whatever came since."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        with self._store.call(self._namespace) as space:
            taken = any(one.member_id == request.member_id for one in space.sessions.values())
        if taken or request.replace:
            return original(self, request)
        # Under an id of its own, which nobody else has, so that nothing is in the way of it.
        lease = original(self, replace(request, member_id=request.incarnation))
        with self._store.call(self._namespace) as space:
            space.sessions[request.incarnation].member_id = request.member_id
        return replace(lease, member_id=request.member_id)

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("keeps-the-group-that-was-read-in-an-attribute", breaks="RACE-4")
def keeps_the_group_that_was_read_in_an_attribute(patch: Patch) -> None:
    """The answer to a read waits in an attribute of the backend, which the threads of a session share."""
    _let_answers_wait(patch, "read_group")


@mutant("keeps-the-leader-that-was-read-in-an-attribute", breaks="RACE-4")
def keeps_the_leader_that_was_read_in_an_attribute(patch: Patch) -> None:
    """The leader that was read waits in an attribute of the backend, which the threads of a session share."""
    _let_answers_wait(patch, "read_leader")


@mutant("keeps-the-answer-to-a-campaign-in-an-attribute", breaks="RACE-4")
def keeps_the_answer_to_a_campaign_in_an_attribute(patch: Patch) -> None:
    """What a campaign was told waits in an attribute of the backend, which the threads of a session share."""
    _let_answers_wait(patch, "campaign")


def _let_answers_wait(patch: Patch, hook: str) -> None:
    answers: dict[int, object] = {}

    def ask(original: Callable[..., object], self: MemoryBackend, *rest: object) -> object:
        answers[id(self)] = original(self, *rest)
        time.sleep(0.002)
        return answers[id(self)]

    patch.wrap(MemoryBackend, hook, ask)
