"""Exclusive shards as users see them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeVar, final

from drumbeat._errors import Closed, ConfigurationError, Timeout
from drumbeat._partition import number_of, require_joined
from drumbeat._shardkeeper import ShardKeeper

if TYPE_CHECKING:
    from types import TracebackType

    from drumbeat._keeper import Keeper
    from drumbeat._partition import WeightOf
    from drumbeat._tenure import ShardCallbacks
    from drumbeat._term import Term

T = TypeVar("T")

#: The greatest number of shards: each is a seat, which every heartbeat verifies.
MAX_SHARDS: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardsChange:
    """How a session's shards changed between two looks; several changes may come as one."""

    #: The shards to begin work on, by number. One that was lost and regained meanwhile is in `lost` too.
    gained: Mapping[int, Term]
    #: The shards whose drain has begun: finish what is under way, and begin nothing.
    draining: tuple[int, ...]
    #: The shards that are not held any more, drained or not: stop.
    lost: tuple[int, ...]
    #: The shards to work on now, as `Shards.owned`.
    owned: Mapping[int, Term]


@final
class Shards:
    """A session's part of the shards of a group, from `Group.shards(count)`; close it, or use it in a `with` block.

    A shard is held by one member at a time, as a term with a fencing token of its own: no two ever overlap, whatever
    the views. Each belongs to one member by the rule of `Partition`, with the fewest moves when members come and go.
    Its old holder drains and releases it before the new one can have it; a dead one's shards are free when its lease
    is over. A session that is LOST has lost them all at once, and takes its part again when it has been reopened.

    A shard whose owner is in the group but does not take it is taken by another member, after it stood vacant for a
    grace (seen at most two graces after the change that made it so), and is offered to its owner every ten graces.
    """

    def __init__(
        self,
        keeper: Keeper,
        group: str,
        count: int,
        *,
        callbacks: ShardCallbacks,
        drain_timeout: float | None,
        grace: float | None,
        weight: WeightOf | None,
    ) -> None:
        if type(count) is not int or not 1 <= count <= MAX_SHARDS:
            raise ConfigurationError(f"the number of shards must be from 1 to {MAX_SHARDS}, not {count!r}")
        _check_seconds("drain_timeout", drain_timeout)
        _check_seconds("grace", grace)
        keeper.check()
        require_joined(keeper, group)
        #: How many shards there are: 0 to `count - 1`.
        self.count = count
        self._own = ShardKeeper(
            keeper,
            group,
            count,
            callbacks=callbacks,
            drain_timeout=drain_timeout,
            grace=grace,
            weight=weight,
        )
        self._own.start()

    @property
    def owned(self) -> Mapping[int, Term]:
        """The shards to work on, by number, with their terms: held at the moment of reading, and not being drained."""
        return {number: term for number, term in self._own.owned.items() if term.held}

    @property
    def draining(self) -> Mapping[int, Term]:
        """The shards that are still held, but will be released as soon as their drain is over."""
        return {number: term for number, term in self._own.draining.items() if term.held}

    def number_of(self, item: T, *, key: Callable[[T], str] = str) -> int:
        """Return the number of the shard that an item falls into: the same in every process with the same `count`."""
        return number_of(key(item), self.count)

    def watch(self) -> ShardsWatch:
        """Return an iterator over the changes to come, whose first item carries all that is held now."""
        self._own.keeper.check()
        return ShardsWatch(self._own)

    def wait_balanced(self, timeout: float | None = None) -> Mapping[int, Term]:
        """Return `owned` once this session holds its part, by the view that it read last, and nothing else.

        Other members may not be done yet. Raises Timeout after `timeout` seconds, naming what is missing, Closed or
        Forked.
        """
        clock = self._own.keeper.clock
        deadline = None if timeout is None else clock.now() + timeout
        changed = self._own.new_signal()
        while True:
            self._own.keeper.check()
            if self._own.balanced:
                return self.owned
            if self._own.ended.is_set():
                raise Closed(f"the shards of {self._own.group!r} are closed; call shards() again")
            if not changed.take(deadline) and not self._own.balanced:
                raise Timeout(f"not balanced within {timeout:g} s; {self._own.missing()}")

    def close(self, timeout: float | None = None) -> None:
        """Drain and release all shards; the session stays in the group.

        Drains may take `timeout` seconds (`drain_timeout` if that is not given), then the shards are released
        without. Returns within one request timeout more even if the server is down: nothing is held here then, and
        the server frees the shards at the next heartbeat. Harmless when repeated. A callback may call it, and it does
        not wait then. Closing the session does the same first, within its own timeout.
        """
        clock = self._own.keeper.clock
        self._own.close_by(clock.now() + (self._own.drain_timeout() if timeout is None else timeout))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        held = ", ".join(map(str, self.owned)) or "none"
        return f"<Shards of {self._own.group!r}: {held} of {self.count}>"


@final
class ShardsWatch:
    """The changes of a session's shards, from `Shards.watch()`; for one thread at a time."""

    def __init__(self, own: ShardKeeper) -> None:
        self._own = own
        self._changed = own.new_signal()
        self._closed = False
        self._owned: Mapping[int, Term] | None = None
        self._draining: Mapping[int, Term] = {}

    def next(self, timeout: float | None = None) -> ShardsChange:
        """Return the next change; raise Timeout after `timeout` seconds, Closed once the shards are closed; Forked."""
        clock = self._own.keeper.clock
        deadline = None if timeout is None else clock.now() + timeout
        while not self._closed:
            ended = self._own.ended.is_set()
            change = self._compare()
            if change is not None:
                return change
            if ended:
                break
            with suppress(Closed):
                self._own.keeper.check()
            if not self._changed.take(deadline):
                raise Timeout(f"no shard changed within {timeout:g} s")
        raise Closed("the stream is closed")

    def close(self) -> None:
        """End the stream; harmless when repeated, and allowed from another thread."""
        self._closed = True
        self._changed.set()

    def _compare(self) -> ShardsChange | None:
        before = {**(self._owned or {}), **self._draining}
        was_owned, was_draining = self._owned or {}, self._draining
        owned, draining = self._own.owned, self._own.draining
        now = {**owned, **draining}
        change = ShardsChange(
            gained={n: term for n, term in owned.items() if was_owned.get(n) is not term},
            draining=tuple(n for n, term in draining.items() if was_draining.get(n) is not term),
            lost=tuple(n for n, term in before.items() if now.get(n) is not term),
            owned=owned,
        )
        is_first = self._owned is None
        self._owned, self._draining = owned, draining
        return change if is_first or change.gained or change.draining or change.lost else None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ShardsChange:
        try:
            return self.next()
        except Closed:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _check_seconds(name: str, value: float | None) -> None:
    if value is None:
        return
    if type(value) not in {int, float} or not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} must be a number of seconds from 0, not {value!r}")
