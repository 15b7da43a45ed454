"""Watches that miss a change, tell of it too late, or do not end."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from drumbeat import Closed, Timeout, Vacant
from drumbeat._clock import deadline_after
from drumbeat._dispatcher import Dispatcher, surviving
from drumbeat._election import LeaderWatch
from drumbeat._group import Group, GroupWatch
from drumbeat._streams import Stream
from drumbeat._view import Change, Member, View
from drumbeat.hookspecs import GroupSubject, Joined, LeaderSubject, Lease, Proclaimed, Seat, Updated
from drumbeat.memory import MemoryBackend, _Candidate, _holds, _Space
from drumbeat_mutants import Patch, mutant

if TYPE_CHECKING:
    from drumbeat import Leader
    from drumbeat._events import Event
    from drumbeat._incarnation import Incarnation
    from drumbeat.hookspecs import Cancel, Notify

T = TypeVar("T")


@mutant("starts-from-nothing", breaks="WATCH-1")
def starts_from_nothing(patch: Patch) -> None:
    """A watch takes an empty group for its first view, so that its first item is the first change."""

    def read(original: Callable[..., Change | None], self: GroupWatch, incarnation: Incarnation) -> Change | None:
        self._view = View(self._group) if self._view is None else self._view
        return original(self, incarnation)

    patch.wrap(GroupWatch, "_read", read)


@mutant("counts-the-members", breaks=("WATCH-1", "WATCH-2", "WATCH-14"))
def counts_the_members(patch: Patch) -> None:
    """A view counts as new if it has another number of members than the one before."""

    def read(original: Callable[..., Change | None], self: GroupWatch, incarnation: Incarnation) -> Change | None:
        before = self._view
        change = original(self, incarnation)
        return None if before is not None and change is not None and len(before) == len(change.view) else change

    patch.wrap(GroupWatch, "_read", read)


@mutant("stops-at-the-first-observer", breaks="WATCH-3")
def stops_at_the_first_observer(patch: Patch) -> None:
    """An observer that raises keeps an event from all observers after it."""

    def tell(self: Dispatcher, event: Event) -> None:
        with surviving("the observers"):
            for observer in self._observers:
                observer(event=event)

    patch(Dispatcher, "_tell", tell)


@mutant(
    "pushes-nothing",
    breaks=("WATCH-4", "WATCH-5", "WATCH-6", "WATCH-7", "WATCH-8"),
    like="hazard: SUBSCRIBE drops silently",
)
def pushes_nothing(patch: Patch) -> None:
    """The subscription was dropped silently: no hint ever comes, and polling alone finds what has changed."""

    def take_hints(self: _Space) -> list[Notify]:
        self.changed = set()
        return []

    patch(_Space, "take_hints", take_hints)


@mutant("hints-at-comings-and-goings-alone", breaks="WATCH-5")
def hints_at_comings_and_goings_alone(patch: Patch) -> None:
    """A new value of a member causes no hint."""

    def update(
        original: Callable[..., Updated], self: MemoryBackend, lease: Lease, group: str, value: bytes
    ) -> Updated:
        space = self._store.spaces[self._namespace]
        watches, space.watches = space.watches, {}
        answer = original(self, lease, group, value)
        space.watches = watches
        return answer

    patch.wrap(MemoryBackend, "update_member", update)


@mutant("hints-at-new-leaders-alone", breaks="WATCH-6")
def hints_at_new_leaders_alone(patch: Patch) -> None:
    """A new value of a leader causes no hint."""

    def proclaim(self: MemoryBackend, lease: Lease, seat: Seat, value: bytes) -> Proclaimed:
        with self._store.call(self._namespace) as space:
            held = _holds(space, lease, seat)
            if held:
                space.elections[seat.election].value = value
            return Proclaimed(held)

    patch(MemoryBackend, "proclaim", proclaim)


@mutant("wakes-nobody-at-a-withdrawal", breaks="WATCH-7")
def wakes_nobody_at_a_withdrawal(patch: Patch) -> None:
    """A candidate is woken by the end of a term, and not when the one that stood before it gives up."""

    def forget(original: Callable[..., bool], self: _Space, election: str, candidate: _Candidate) -> bool:
        place = self.elections.get(election)
        waits = place is not None and candidate in place.queue
        known = original(self, election, candidate)
        if waits:
            self.changed.discard(LeaderSubject(election))
        return known

    patch.wrap(_Space, "forget", forget)


@mutant("hints-before-it-writes", breaks="WATCH-8")
def hints_before_it_writes(patch: Patch) -> None:
    """Watchers are told of a change that is about to be made: who reads at once does not see it."""

    def join(original: Callable[..., Joined], self: MemoryBackend, lease: Lease, group: str, *rest: object) -> Joined:
        with self._store.call(self._namespace) as space:
            space.changed.add(GroupSubject(group))
        return original(self, lease, group, *rest)

    patch.wrap(MemoryBackend, "join_group", join)


@mutant("never-cancels", breaks="WATCH-9")
def never_cancels(patch: Patch) -> None:
    """A watch that was cancelled goes on."""

    def watch(original: Callable[..., Cancel], self: MemoryBackend, *rest: object) -> Cancel:
        original(self, *rest)
        return lambda: None

    patch.wrap(MemoryBackend, "watch", watch)


@mutant("watches-the-token-alone", breaks="WATCH-10")
def watches_the_token_alone(patch: Patch) -> None:
    """A leader counts as new if it has another token than the one before."""

    def read(
        original: Callable[..., Leader | Vacant | None], self: LeaderWatch, incarnation: Incarnation
    ) -> Leader | Vacant | None:
        before = getattr(self._last, "token", 0)
        leader = original(self, incarnation)
        return None if before and getattr(leader, "token", -1) == before else leader

    patch.wrap(LeaderWatch, "_read", read)


@mutant("waits-for-a-change", breaks="WATCH-11")
def waits_for_a_change(patch: Patch) -> None:
    """`wait_for` asks about every change from now on, and not about the view as it is."""

    def wait_for(self: Group, predicate: Callable[[View], bool], *, timeout: float | None = None) -> View:
        clock = self._keeper.clock
        deadline = deadline_after(clock, timeout)
        with self.watch() as changes:
            changes.next()
            while deadline is None or clock.now() < deadline:
                view = changes.next(None if deadline is None else deadline - clock.now()).view
                if predicate(view):
                    return view
        raise Timeout(f"no view of {self.name!r} was as wanted within {timeout} s")

    patch(Group, "wait_for", wait_for)


@mutant("ends-with-an-error", breaks="WATCH-12")
def ends_with_an_error(patch: Patch) -> None:
    """Iterating a watch that is closed raises what its waiting raises."""

    def step(self: Stream[T]) -> T:
        return self.next()

    patch(Stream, "__next__", step)


@mutant("watches-one-incarnation", breaks="WATCH-13")
def watches_one_incarnation(patch: Patch) -> None:
    """A watch belongs to the session's incarnation in which it began, and ends with it."""
    begun: dict[Stream[object], Incarnation | None] = {}

    def following(original: Callable[..., T], self: Stream[object], timeout: float | None = None) -> T:
        first = begun.setdefault(self, self._keeper.incarnation)
        if self._keeper.incarnation is not first or first is None or not first.alive():
            raise Closed("the session in which the watch began is over")
        return original(self, timeout)

    patch.wrap(Stream, "next", following)


@mutant("knows-members-by-name", breaks="WATCH-14")
def knows_members_by_name(patch: Patch) -> None:
    """A member is who has the same name: one that has restarted between two reads was never away."""

    def identity(self: Member) -> tuple[str, str]:
        return self.member_id, ""

    patch(Member, "identity", property(identity))
