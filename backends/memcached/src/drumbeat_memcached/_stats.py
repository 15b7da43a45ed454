"""What the server's own counters and settings say of it, and of how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drumbeat import BackendError
from drumbeat.hookspecs import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from drumbeat_memcached._target import Target

#: The smallest `item_size_max` that leaves room for records and for rosters of a hundred members.
LEAST_ITEM: Final = 16_384
#: Bytes of memory below which a few large groups fill the server.
LEAST_MEMORY: Final = 16 * 1024 * 1024
#: The share of its memory above which a server is called full.
FULL: Final = 0.8

#: The counters of everything by which a key that never expires can go.
#: https://github.com/memcached/memcached/blob/1.6.18/doc/protocol.txt ("General-purpose statistics")
LOSSES: Final[Mapping[str, str]] = {
    "evictions": "evicted for want of memory",
    "slab_reassign_evictions_nomem": "evicted while memory was moved",
    "slab_reassign_busy_deletes": "deleted while memory was moved",
    "extstore_objects_evicted": "evicted from external storage",
    "miss_from_extstore": "missing from external storage",
    "badcrc_from_extstore": "damaged in external storage",
    "cmd_flush": "times emptied by flush_all",
    # Drumbeat deletes nothing: where it could, it stores an empty value.
    "delete_hits": "deleted by a command",
}


@dataclass(frozen=True, slots=True)
class Stats:
    """The answer to `stats` or to `stats settings`."""

    values: Mapping[str, str]

    def text(self, name: str) -> str:
        """Return a value; empty if this server does not have it."""
        return self.values.get(name, "")

    def number(self, name: str) -> int:
        """Return a count; 0 if this server does not keep it."""
        try:
            return int(self.values.get(name, "0"))
        except ValueError as error:
            raise BackendError(f"the server says {name}={self.values[name]!r:.40}, which is no number") from error

    @property
    def start(self) -> str:
        """What tells this start of a server from others of a longer ago, or with another process id.

        The server computes `time` as its start plus `uptime`, in whole seconds of one clock, so that the difference
        never wavers: https://github.com/memcached/memcached/blob/1.6.18/memcached.c (server_stats).
        """
        if not {"pid", "time", "uptime"} <= self.values.keys():
            raise BackendError("the server does not say when it was started, as Memcached does")
        return f"{self.number('pid')}@{self.number('time') - self.number('uptime')}"

    @property
    def losses(self) -> str:
        """A text that is another one after any loss since the server's start."""
        return " ".join(f"{name}={self.number(name)}" for name in LOSSES)


def findings(target: Target, stats: Stats, settings: Stats) -> tuple[Finding, ...]:
    """Return what an operator should know."""
    return (*_of_losses(stats), *_of_memory(stats, settings), *_of_the_network(target, settings))


def _of_losses(stats: Stats) -> Iterator[Finding]:
    lost = [f"{stats.number(name)} {what}" for name, what in LOSSES.items() if stats.number(name)]
    if lost:
        yield Finding(
            "warning",
            f"the server has lost data since it was started ({', '.join(lost)}). A seat that is missing is not trusted "
            "to be free if that was after the namespace's birth: the first campaign of each new election then waits "
            "for the longest TTL. Give Drumbeat a server of its own",
        )
    else:
        yield Finding(
            "ok",
            "the server has lost nothing since it was started: in a namespace that is a minute old or older, a missing "
            "seat is free",
        )


def _of_memory(stats: Stats, settings: Stats) -> Iterator[Finding]:
    if settings.text("evictions") == "off":
        yield Finding("ok", "the server evicts nothing: when its memory is full it refuses to store (-M)")
    else:
        yield Finding("warning", "the server evicts what it holds when its memory is full; start it with -M")
    limit, used = settings.number("maxbytes"), stats.number("bytes")
    if limit < LEAST_MEMORY:
        yield Finding("warning", f"the server has {limit} bytes of memory; give it 16 MB or more (-m 16)")
    if used > limit * FULL:
        yield Finding("warning", f"{used} of the server's {limit} bytes of memory are used; give it more (-m)")
    for setting, option in (("lru_crawler", "no_lru_crawler"), ("lru_maintainer_thread", "no_lru_maintainer")):
        if settings.text(setting) == "no":
            yield Finding("warning", f"what has expired goes on taking memory; start the server without -o {option}")


def _of_the_network(target: Target, settings: Stats) -> Iterator[Finding]:
    if settings.number("udpport"):
        yield Finding("warning", "the server listens to UDP, which Drumbeat does not use; start it with -U 0")
    if target.password is not None and target.tls is None:
        yield Finding("warning", "the password crosses the network as it is; use TLS (-Z, and the options tls_*)")
