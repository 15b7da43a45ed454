"""The remedies of drumbeat-zookeeper against what ZooKeeper and kazoo do, each taken away."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kazoo.client import KazooState  # type: ignore[import-untyped]

from drumbeat import SessionLost
from drumbeat.hookspecs import Beat, Holdings, Seat
from drumbeat_mutants import Patch, mutant
from drumbeat_zookeeper._link import Link
from drumbeat_zookeeper._session import Session

#: A bound method, before it was broken.
Original = Callable[..., object]
#: Nodes that a view reads at a time.
_PAGE = 50


@mutant("takes-a-cut-for-the-end", breaks="ZOOKEEPER-1", of="zookeeper", like="hazard: SUSPENDED, then CONNECTED")
def takes_a_cut_for_the_end(patch: Patch) -> None:
    """A connection that breaks counts as the end of the ZooKeeper session, which another one would take up again."""

    def changed(original: Original, self: Link, state: object) -> None:
        original(self, KazooState.LOST if state == KazooState.SUSPENDED else state)

    patch.wrap(Link, "_changed", changed)


@mutant("goes-on-after-expiry", breaks="ZOOKEEPER-2", of="zookeeper", like="peers 2")
def goes_on_after_expiry(patch: Patch) -> None:
    """After its ZooKeeper session has ended, a session goes on by the one that kazoo opens silently."""

    def changed(original: Original, self: Link, state: object) -> None:
        if state != KazooState.LOST:
            original(self, state)

    def beat(original: Original, self: Session, holdings: Holdings, until: float) -> object:
        try:
            return original(self, holdings, until)
        except SessionLost:
            return Beat(self.lease)

    patch.wrap(Link, "_changed", changed)
    patch.wrap(Session, "beat", beat)


@mutant("believes-its-own-flag", breaks="ZOOKEEPER-3", of="zookeeper", like="hazard: kazoo's lock.is_acquired")
def believes_its_own_flag(patch: Patch) -> None:
    """A seat is held for as long as nobody here has given it up, whatever became of its nodes."""

    def is_lost(original: Original, self: Session, item: object, is_there: bool, holdings: Holdings) -> object:
        return not self._is_mine(item) if isinstance(item, Seat) else original(self, item, is_there, holdings)

    patch.wrap(Session, "_is_lost", is_lost)


@mutant("remembers-who-came-first", breaks="ZOOKEEPER-4", of="zookeeper", like="hazard: order by czxid")
def remembers_who_came_first(patch: Patch) -> None:
    """When a candidate came is read once for a name, though its node may be deleted and made again."""

    def in_order(
        original: Original, self: Session, election: str, names: object, until: float, *, anew: bool = False
    ) -> object:
        return original(self, election, names, until)

    patch.wrap(Session, "_in_order", in_order)


@mutant("leaves-strays", breaks="ZOOKEEPER-5", of="zookeeper", like="hazard: reply to a sequential create lost")
def leaves_strays(patch: Patch) -> None:
    """What a request has made whose answer was lost is left behind."""
    patch(Session, "_remove_abandoned", lambda self, holdings, until: None)  # noqa: ARG005 - the real signature


@mutant(
    "reads-by-the-session-of-heartbeats",
    breaks=("ZOOKEEPER-6", "BEAT-11"),
    of="zookeeper",
    like="hazard: kazoo pings a session alive although the program gave it up",
)
def reads_by_the_session_of_heartbeats(patch: Patch) -> None:
    """Views are read by the connection that heartbeats take, so that each of them renews the session too."""

    def make(original: Original, self: Session, *arguments: object, **options: object) -> None:
        original(self, *arguments, **{**options, "reader": options["owner"]})

    patch.wrap(Session, "__init__", make)


@mutant("reads-page-by-page", breaks="WIRE-1", of="zookeeper", like="hazard: reading 1 000 nodes")
def reads_page_by_page(patch: Patch) -> None:
    """A view reads so many nodes, waits for them, and then reads the next ones."""

    def read(original: Original, self: Session, link: Link, asked: Sequence[object], until: float) -> list[object]:
        pages = (asked[start : start + _PAGE] for start in range(0, len(asked), _PAGE))
        return [item for page in pages for item in original(self, link, page, until)]  # type: ignore[attr-defined]

    patch.wrap(Session, "_read", read)
