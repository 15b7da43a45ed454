"""What an operator should know of an etcd cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drumbeat.hookspecs import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from drumbeat_etcd._options import Options

#: From which version of each branch on a leader that has been deposed unnoticed revokes no leases:
#: https://github.com/etcd-io/etcd/issues/15247
STEADY: Final[dict[tuple[int, ...], tuple[int, ...]]] = {(3, 4): (3, 4, 31), (3, 5): (3, 5, 13)}


@dataclass(frozen=True, slots=True)
class Look:
    """What a cluster told of itself."""

    #: The version of each server of the URL; None for one that does not answer.
    versions: Mapping[str, str | None]
    #: How many servers the cluster has; None if it does not say.
    members: int | None
    #: What it raises alarm for, such as NOSPACE.
    alarms: frozenset[str]

    def findings(self, options: Options) -> tuple[Finding, ...]:
        """Return what is good, and what is to be mended."""
        answering = [version for version in self.versions.values() if version is not None]
        good = Finding(
            "ok",
            f"etcd {', '.join(sorted(set(answering)))}; {len(answering)} of the {len(self.versions)} servers in the "
            f"URL answer, and the cluster has {self.members or 'an unknown number'}",
        )
        return (good, *(Finding("warning", problem) for problem in self._problems(options)))

    def _problems(self, options: Options) -> Iterator[str]:
        for address, version in self.versions.items():
            if version is None:
                yield f"{address} does not answer"
            elif self.members != 1 and numbers(version) < STEADY.get(numbers(version)[:2], (0,)):
                yield (
                    f"{address} has version {version}: a leader of this cluster that freezes for longer than a TTL "
                    "ends, when it wakes, leases that are alive; upgrade to 3.4.31, 3.5.13 or later, and check tokens"
                )
        if self.members == 1:
            yield "it is the only server: while it is down nobody can lead; run a cluster of three"
        elif self.members is not None and len(self.versions) == 1:
            yield f"the URL names one server, and the cluster has {self.members}; name them all"
        for alarm in sorted(self.alarms):
            yield f"it raises the alarm {alarm} (NOSPACE: it takes no writes); see `etcdctl alarm list`"
        if options.password is not None and options.tls is None:
            yield "the password crosses the network as it is; use etcds://"


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, of which a suffix is no part."""
    return tuple(int(part) for part in version.partition("-")[0].split(".") if part.isdecimal())
