"""Watches that miss a change, tell of it too late, or do not end."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, TypeVar

from drumbeat import Closed, Timeout, Vacant
from drumbeat._clock import deadline_after
from drumbeat._dispatcher import Dispatcher, surviving
from drumbeat._election import LeaderWatch
from drumbeat._group import Group, GroupWatch
from drumbeat._streams import Stream, Subscription
from drumbeat._view import Change, Member, View
from drumbeat.hookspecs import (
    CandidacySubject,
    GroupSubject,
    Joined,
    LeaderSubject,
    Lease,
    Proclaimed,
    Seat,
    SessionClosed,
    SessionRequest,
    Updated,
)
from drumbeat.memory import MemoryBackend, _Candidate, _holds, _Space, _Watch
from drumbeat_mutants import Patch, mutant

if TYPE_CHECKING:
    from drumbeat import Leader
    from drumbeat._events import Event
    from drumbeat._incarnation import Incarnation
    from drumbeat.hookspecs import Cancel, Notify, Subject

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


@mutant("one-watch-for-each-subject", breaks="WATCH-18")
def one_watch_for_each_subject(patch: Patch) -> None:
    """A session's watches are kept by their subject, so that a second one takes the place of the first."""

    def watch(
        original: Callable[..., Cancel], self: MemoryBackend, lease: Lease, subject: Subject, notify: Notify
    ) -> Cancel:
        earlier = cancels.get((lease.incarnation, subject))
        if earlier is not None:
            earlier()
        cancels[lease.incarnation, subject] = original(self, lease, subject, notify)
        return cancels[lease.incarnation, subject]

    cancels: dict[tuple[str, Subject], Cancel] = {}
    patch.wrap(MemoryBackend, "watch", watch)


@mutant("one-watch-for-all-sessions", breaks="WATCH-18")
def one_watch_for_all_sessions(patch: Patch) -> None:
    """Of the watches on a subject the first alone is told: it is a queue whose messages one reader takes."""

    def take_hints(original: Callable[..., list[Notify]], self: _Space) -> list[Notify]:
        changed = set(self.changed)
        original(self)
        first = {watch.subject: watch for watch in reversed(self.watches.values()) if self._concerns(watch, changed)}
        return [watch.notify for watch in first.values()]

    patch.wrap(_Space, "take_hints", take_hints)


@mutant("cancels-its-sisters", breaks="WATCH-18")
def cancels_its_sisters(patch: Patch) -> None:
    """Cancelling a watch unsubscribes the session from the subject, and so all its watches on it."""

    def watch(
        original: Callable[..., Cancel], self: MemoryBackend, lease: Lease, subject: Subject, notify: Notify
    ) -> Cancel:
        mine = cancels.setdefault((lease.incarnation, subject), [])
        mine.append(original(self, lease, subject, notify))

        def cancel() -> None:
            for sister in mine:
                sister()

        return cancel

    cancels: dict[tuple[str, Subject], list[Cancel]] = {}
    patch.wrap(MemoryBackend, "watch", watch)


@mutant("hints-once", breaks=("WATCH-5", "WATCH-6", "WATCH-18"), like="hazard: zookeeper, one-time watches")
def hints_once(patch: Patch) -> None:
    """A watch gives one hint, and is gone."""

    def take_hints(original: Callable[..., list[Notify]], self: _Space) -> list[Notify]:
        told = original(self)
        for number, watch in list(self.watches.items()):
            if watch.notify in told:
                del self.watches[number]
        return told

    patch.wrap(_Space, "take_hints", take_hints)


@mutant("keeps-its-own-changes-to-itself", breaks="WATCH-18", like="hazard: NOLOOP")
def keeps_its_own_changes_to_itself(patch: Patch) -> None:
    """A session is not told of what it has done itself, though another thread of it may watch."""

    def update(
        original: Callable[..., Updated], self: MemoryBackend, lease: Lease, group: str, value: bytes
    ) -> Updated:
        space = self._store.spaces[self._namespace]
        watches = space.watches
        space.watches = {number: one for number, one in watches.items() if one.incarnation != lease.incarnation}
        updated = original(self, lease, group, value)
        space.watches = watches
        return updated

    patch.wrap(MemoryBackend, "update_member", update)


@mutant("takes-names-for-patterns", breaks="WATCH-18", like="hazard: PSUBSCRIBE")
def takes_names_for_patterns(patch: Patch) -> None:
    """A watch subscribes to its subject's name as to a pattern, so that it hears nothing of a name with a bracket."""

    def concerns(original: Callable[..., bool], self: _Space, watch: _Watch, changed: set[Subject]) -> bool:
        subject = watch.subject
        if isinstance(subject, GroupSubject):
            return any(isinstance(one, GroupSubject) and fnmatchcase(one.group, subject.group) for one in changed)
        return original(self, watch, changed)

    patch.wrap(_Space, "_concerns", concerns)


@mutant("hints-at-the-first-join-alone", breaks="WATCH-5")
def hints_at_the_first_join_alone(patch: Patch) -> None:
    """A join of a member, which brings a new value, causes no hint."""

    def join(original: Callable[..., Joined], self: MemoryBackend, lease: Lease, group: str, *rest: object) -> Joined:
        space = self._store.spaces[self._namespace]
        if lease.incarnation not in space.groups.get(group, {}):
            return original(self, lease, group, *rest)
        watches, space.watches = space.watches, {}
        joined = original(self, lease, group, *rest)
        space.watches = watches
        return joined

    patch.wrap(MemoryBackend, "join_group", join)


@mutant("looks-too-rarely", breaks="WATCH-19", of="local")
def looks_too_rarely(patch: Patch) -> None:
    """Where hints come, nobody looks by itself for a long time; but nobody hints at the end of a lease."""

    def wait(
        original: Callable[..., None], self: Subscription, deadline: float | None, *, at_most: float | None = None
    ) -> None:
        if isinstance(self._subject, CandidacySubject):
            original(self, deadline, at_most=at_most)
            return
        until = self._keeper.clock.now() + 60.0
        self._signal.take(until if deadline is None else min(until, deadline))

    patch.wrap(Subscription, "wait", wait)


@mutant("closes-without-waking", breaks="WATCH-12")
def closes_without_waking(patch: Patch) -> None:
    """Closing a watch wakes nobody: a thread that waits for its next item sees it at the next look."""

    def close(self: Stream[object]) -> None:
        self._closed = True
        self._subscription.cancel()

    patch(Stream, "close", close)


@mutant("one-watch-for-each-session", breaks="WATCH-18")
def one_watch_for_each_session(patch: Patch) -> None:
    """A session watches one subject: when it watches another, the first is forgotten."""

    def watch(
        original: Callable[..., Cancel], self: MemoryBackend, lease: Lease, subject: Subject, notify: Notify
    ) -> Cancel:
        watches = self._store.spaces[self._namespace].watches
        for number, earlier in list(watches.items()):
            if earlier.incarnation == lease.incarnation and earlier.subject != subject:
                del watches[number]
        return original(self, lease, subject, notify)

    patch.wrap(MemoryBackend, "watch", watch)


@mutant("tells-of-no-empty-metadata", breaks="WATCH-1")
def tells_of_no_empty_metadata(patch: Patch) -> None:
    """Metadata that became empty counts as no change."""

    def read(original: Callable[..., Change | None], self: GroupWatch, incarnation: Incarnation) -> Change | None:
        change = original(self, incarnation)
        emptied = change is not None and bool(change.updated) and not any(one.metadata for one in change.updated)
        return None if emptied else change

    patch.wrap(GroupWatch, "_read", read)


# Hints that do not come --------------------------------------------------------------------------------------

#: So many hints fit in a queue that is short.
_QUEUE: Final = 20
#: Whatever can be watched.
_ANY: Final = (GroupSubject, LeaderSubject, CandidacySubject)


def _silence(patch: Patch, hook: str, kinds: tuple[type, ...], when: Callable[[object], bool] = lambda _: True) -> None:
    """Let a hook cause no hints to watches on subjects of these kinds, where `when` holds of its first argument."""

    def silent(original: Callable[..., object], self: MemoryBackend, *arguments: object) -> object:
        space = self._store.spaces.setdefault(self._namespace, _Space())
        muted = {
            number: watch
            for number, watch in space.watches.items()
            if isinstance(watch.subject, kinds) and when(arguments[0])
        }
        for number in muted:
            del space.watches[number]
        try:
            return original(self, *arguments)
        finally:
            alive = {number: watch for number, watch in muted.items() if watch.incarnation in space.sessions}
            space.watches.update(alive)

    patch.wrap(MemoryBackend, hook, silent)


@mutant("reaps-in-silence", breaks="WATCH-20")
def reaps_in_silence(patch: Patch) -> None:
    """A reap wakes nobody: the store tells of what sessions do themselves."""
    _silence(patch, "reap_session", _ANY)


@mutant("replaces-in-silence-for-groups", breaks="WATCH-20")
def replaces_in_silence_for_groups(patch: Patch) -> None:
    """An opening that ends another session tells no watcher of its groups and seats."""
    _silence(patch, "open_session", (GroupSubject, LeaderSubject))


@mutant("supersedes-in-silence", breaks="WATCH-20")
def supersedes_in_silence(patch: Patch) -> None:
    """An opening that supersedes wakes no watcher and no candidate."""

    def supersedes(request: object) -> bool:
        return isinstance(request, SessionRequest) and request.supersedes is not None

    _silence(patch, "open_session", _ANY, supersedes)


@mutant("heartbeat-silent-for-groups", breaks="WATCH-20")
def heartbeat_silent_for_groups(patch: Patch) -> None:
    """A heartbeat that removes an abandoned membership tells no watcher of the group."""
    _silence(patch, "heartbeat", (GroupSubject,))


@mutant("heartbeat-silent-for-leaders", breaks="WATCH-20")
def heartbeat_silent_for_leaders(patch: Patch) -> None:
    """A heartbeat that frees an abandoned seat tells no watcher of the leader."""
    _silence(patch, "heartbeat", (LeaderSubject,))


@mutant("withdraw-silent-for-leaders", breaks="WATCH-6")
def withdraw_silent_for_leaders(patch: Patch) -> None:
    """A withdrawal that frees the seat tells no watcher of the leader."""
    _silence(patch, "withdraw", (LeaderSubject,))


@mutant("a-watch-has-twenty-hints", breaks="WATCH-18")
def a_watch_has_twenty_hints(patch: Patch) -> None:
    """A watch ends after twenty hints, as a queue does that is full and that nobody empties."""
    given: Counter[int] = Counter()

    def take_hints(original: Callable[..., list[Notify]], self: _Space) -> list[Notify]:
        hints = original(self)
        for number, watch in list(self.watches.items()):
            given[number] += watch.notify in hints
            if given[number] >= _QUEUE:
                del self.watches[number]
        return hints

    patch.wrap(_Space, "take_hints", take_hints)


@mutant("drops-only-the-living", breaks="WATCH-21")
def drops_only_the_living(patch: Patch) -> None:
    """Watches of a session that others have ended stay, and dropping it finds no session whose watches to end."""

    def end(original: Callable[..., bool], self: _Space, incarnation: str) -> bool:
        watches = dict(self.watches)
        ended = original(self, incarnation)
        self.watches.update(watches)
        return ended

    def drop_session(
        original: Callable[..., SessionClosed], self: MemoryBackend, lease: Lease, forked: bool
    ) -> SessionClosed:
        if lease.incarnation not in self._store.spaces[self._namespace].sessions:
            return SessionClosed(was_open=False)
        return original(self, lease, forked)

    patch.wrap(_Space, "end", end)
    patch.wrap(MemoryBackend, "drop_session", drop_session)


@mutant("cancel-waits-for-the-hint", breaks="WATCH-8")
def cancel_waits_for_the_hint(patch: Patch) -> None:
    """Cancelling waits until a hint that is being given has returned: from inside that hint for ever."""

    def watch(
        original: Callable[..., Cancel], self: MemoryBackend, lease: Lease, subject: Subject, notify: Notify
    ) -> Cancel:
        telling = threading.Lock()

        def tell() -> None:
            with telling:
                notify()

        cancel = original(self, lease, subject, tell)

        def cancel_and_wait() -> None:
            with telling:
                cancel()

        return cancel_and_wait

    patch.wrap(MemoryBackend, "watch", watch)


@mutant("waits-for-twice-as-long", breaks="WATCH-11")
def waits_for_twice_as_long(patch: Patch) -> None:
    """The timeout of `wait_for` is spent twice: on the first view, and on those after it."""

    def wait_for(original: Callable[..., View], self: Group, predicate: object, *, timeout: float | None) -> View:
        return original(self, predicate, timeout=None if timeout is None else 2 * timeout)

    patch.wrap(Group, "wait_for", wait_for)
