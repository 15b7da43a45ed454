"""Groups as users see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, final

from drumbeat._clock import deadline_after
from drumbeat._errors import Timeout
from drumbeat._names import check_name
from drumbeat._streams import Stream
from drumbeat._values import encode_metadata
from drumbeat._view import Change, View
from drumbeat.hookspecs import GroupSubject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from drumbeat._incarnation import Incarnation
    from drumbeat._keeper import Keeper
    from drumbeat._partition import OnOutage, OwnShare, WeightOf
    from drumbeat._shards import Shards
    from drumbeat._tenure import OnShard

T = TypeVar("T")


@final
class GroupWatch(Stream[Change]):
    """The changes of a group, from `Group.watch()`; the first one carries the whole view."""

    def __init__(self, keeper: Keeper, group: str) -> None:
        super().__init__(keeper, GroupSubject(group))
        self._group = group
        self._view: View | None = None

    def _read(self, incarnation: Incarnation) -> Change | None:
        timeout = incarnation.timing.request_timeout
        record = self._keeper.backend.read_group(incarnation.lease, self._group, timeout=timeout)
        view = View.from_record(self._group, record)
        change = Change.between(self._view, view)
        self._view = view
        if change is not None:
            members = tuple(member.identity for member in view)
            self._keeper.emit("view", subject=self._group, members=members)
        return change


@final
class Group:
    """A named set of sessions; get one from `Session.group(name)`."""

    def __init__(self, keeper: Keeper, name: str) -> None:
        self._keeper = keeper
        self.name = check_name("group", name)
        self._own_share: OwnShare | None = None

    def join(self, metadata: Mapping[str, object] | None = None) -> None:
        """Become a member with `metadata`, a small JSON object; joining again replaces the metadata.

        Once this returns, every read by anyone shows the member. After a reopening of the session the group is
        joined again with the metadata last asked for. Raises ConfigurationError for metadata that is no JSON
        object or too large, Unavailable if the server did not answer: what was applied of it is then undone
        within one heartbeat.
        """
        value = encode_metadata(metadata, limit=self._keeper.profile.limits.value_bytes)
        with self._keeper.changing_membership():
            self._keeper.call(
                f"join {self.name!r}",
                lambda incarnation, timeout: self._keeper.join(incarnation, self.name, value, timeout),
            )
            self._keeper.wanted[self.name] = value

    def update(self, metadata: Mapping[str, object]) -> bool:
        """Replace the metadata; return False, and write nothing, if this session is not a member."""
        value = encode_metadata(metadata, limit=self._keeper.profile.limits.value_bytes)
        with self._keeper.changing_membership():
            if self.name not in self._keeper.wanted:
                return False
            updated = self._keeper.call(
                f"update {self.name!r}",
                lambda incarnation, timeout: self._keeper.backend.update_member(
                    incarnation.lease, self.name, value=value, timeout=timeout
                ),
            )
            self._keeper.wanted[self.name] = value
        self._keeper.emit("updated", subject=self.name)
        return updated.was_member

    def leave(self) -> bool:
        """Stop being a member; return whether this session was one.

        Raises Unavailable if the server did not answer: the membership then ends at the next heartbeat.
        """
        with self._keeper.changing_membership():
            self._keeper.wanted.pop(self.name, None)
            left = self._keeper.call(f"leave {self.name!r}", self._leave)
        self._keeper.emit("left", subject=self.name)
        return left

    def members(self) -> View:
        """Return the members, read from the server now; an unknown group has none.

        Raises Unavailable when the server does not answer: an old view is never passed off as a new one.
        """
        record = self._keeper.call(
            f"read {self.name!r}",
            lambda incarnation, timeout: self._keeper.backend.read_group(incarnation.lease, self.name, timeout=timeout),
        )
        return View.from_record(self.name, record)

    def watch(self) -> GroupWatch:
        """Return an iterator over the group's changes, whose first item carries the whole view.

        The stream converges on what the server holds; changes may come as one. It waits out a LOST session, and
        ends when the session is closed.
        """
        self._keeper.check()
        return GroupWatch(self._keeper, self.name)

    def wait_for(self, predicate: Callable[[View], bool], *, timeout: float | None = None) -> View:
        """Return the first view for which `predicate` is true; raise Timeout after `timeout` seconds."""
        clock = self._keeper.clock
        deadline = deadline_after(clock, timeout)
        with self.watch() as changes:
            while True:
                left = None if deadline is None else deadline - clock.now()
                try:
                    view = changes.next(left).view
                except Timeout as error:
                    raise Timeout(f"no view of {self.name!r} was as wanted within {timeout:g} s") from error
                if predicate(view):
                    return view

    def partition(
        self,
        items: Iterable[T],
        *,
        key: Callable[[T], str] = str,
        weight: WeightOf | None = None,
        on_outage: OnOutage = "raise",
    ) -> tuple[T, ...]:
        """Return the items that are this session's own, by the members that are read from the server now.

        All members that see the same view, and pass the same items, get shares that are disjoint and complete: see
        `Partition`, also for `key` and `weight`. While views differ, two members may have an item, or none: where
        that must not happen, use `shards`, or a lock. A session that is not in the view (it was LOST and has not
        rejoined yet) owns nothing.

        Raises Unavailable when the session is LOST or the server does not answer within the request timeout, for
        nobody knows then what is whose. With `on_outage="keep"` the last view that this Group object has partitioned
        by goes on counting, although the others may have shared the items out anew; there must have been one.
        Raises ConfigurationError if this session has not joined the group.
        """
        from drumbeat._partition import OwnShare

        if self._own_share is None:
            self._own_share = OwnShare(self._keeper, self.name)
        return self._own_share.of(items, key=key, weight=weight, on_outage=on_outage)

    def shards(
        self,
        count: int,
        *,
        on_gained: OnShard | None = None,
        drain: OnShard | None = None,
        on_lost: OnShard | None = None,
        drain_timeout: float | None = None,
        grace: float | None = None,
        weight: WeightOf | None = None,
    ) -> Shards:
        """Share the shards 0 to `count - 1` out among the members, each held by one member at a time as a term.

        Every member calls this with the same `count` (1 to 1024). It starts a thread, which takes this session's
        shards by the same rule as `partition`, and hands over those that belong to another member once it has drained
        them. Use the result in a `with` block, or close it.

        - `on_gained(number, term)` is called on the dispatcher's thread: start the work on the shard, and return.
        - `drain(number, term)` is called on a thread of its own before a shard is given up: stop the work, and return.
          It has `drain_timeout` seconds (the lease TTL); then the shard is released anyway, and a `warning` event
          says so. It is also released if `drain` raises.
        - `on_lost(number, term)` is called on the dispatcher's thread when a shard was lost without draining.
        - `grace` is how long a shard may stand vacant before another member than its owner takes it, in seconds. By
          default the failover bound: a member that is merely slow gets as long as one that has died.
        - `weight` is that of `Partition.of`.

        `drain` and `on_lost` are called for those shards only whose `on_gained` was called. Raises ConfigurationError
        if this session has not joined the group, or for a number that makes no sense; Closed or Forked.
        """
        from drumbeat._shards import Shards
        from drumbeat._tenure import ShardCallbacks

        return Shards(
            self._keeper,
            self.name,
            count,
            callbacks=ShardCallbacks(on_gained=on_gained, drain=drain, on_lost=on_lost),
            drain_timeout=drain_timeout,
            grace=grace,
            weight=weight,
        )

    def _leave(self, incarnation: Incarnation, timeout: float) -> bool:
        incarnation.end_place(self.name)
        return self._keeper.backend.leave_group(incarnation.lease, self.name, timeout=timeout).was_member

    def __repr__(self) -> str:
        return f"<Group {self.name!r}>"
