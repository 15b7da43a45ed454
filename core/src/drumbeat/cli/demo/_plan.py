"""How a run will go on the backend that was chosen, so that it ends in time."""

from __future__ import annotations

import os
import secrets
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import drumbeat
from drumbeat import Capability, ConfigurationError
from drumbeat.cli.demo._meters import lasting_processes, list_meters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from drumbeat.hookspecs import BackendProfile

#: Seconds after which the demo gives up, so that it has ended within 40.
TIME_LIMIT: Final = 36.0
DEFAULT_TTL: Final = 3.0
#: One agent is killed and another one frozen, so that a third one is needed to go on.
MIN_AGENTS: Final = 3
MAX_AGENTS: Final = 12
#: Whole cycles in peace before the kill, between kill and freeze, and after the waking.
PEACEFUL_CYCLES: Final = 3
LONGEST_CYCLE: Final = 1.0
SHORTEST_CYCLE: Final = 0.4

#: Cycles in a run: three times peace, between the rest of a cycle and a part of one, and what three changes cut off.
_CYCLES: Final = 3 * (PEACEFUL_CYCLES + 2) + 3 * 2
#: Seconds for starting and ending the processes.
_OVERHEAD: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run: where, by how many, and how fast. Durations are in seconds."""

    url: str
    namespace: str
    agents: int
    lease_ttl: float
    cycle: float
    #: Worst case of a failover on this backend.
    failover_bound: float
    server: str
    #: The names of all meters, the same for everybody throughout the run.
    meters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run takes place, and under which fresh name."""

    url: str
    namespace: str

    @classmethod
    def choose(cls, url: str | None, folder: Path) -> Place:
        """Return the place that was asked for, or a file in the demo's own folder."""
        if url == "":
            raise ConfigurationError("--url is empty; give a backend URL, or leave the option out")
        given = url or os.environ.get("DRUMBEAT_URL") or f"local://{folder / 'backend.db'}"
        base, _, query = given.partition("?")
        options = query.split("&") if query else []
        kept = [option for option in options if not option.startswith("namespace=")]
        # Two runs on one server must not meet, nor a run and the programs that use the server in earnest.
        return cls("?".join([base, "&".join(kept)]) if kept else base, f"drumbeat-demo-{secrets.token_hex(6)}")


def make_plan(place: Place, *, agents: int, ttl: float | None, wait: Callable[[], None]) -> Plan:
    """Connect once to learn what the backend allows, calling `wait` meanwhile, and return the plan for a run.

    Raises ConfigurationError if the demo cannot run as asked, or whatever connecting raises.
    """
    if not MIN_AGENTS <= agents <= MAX_AGENTS:
        raise ConfigurationError(
            f"--agents must be from {MIN_AGENTS} to {MAX_AGENTS}, not {agents}: one agent is killed and another one "
            "frozen, and somebody must go on"
        )
    if place.url.startswith("memory://"):
        raise ConfigurationError(
            "memory:// lives inside one process, and the demo starts several; leave --url out, and they meet in a file"
        )
    profile = _ask(place, ttl, wait)
    lease_ttl = max(DEFAULT_TTL, profile.limits.min_ttl) if ttl is None else ttl
    bound = profile.failover.seconds(lease_ttl)
    after_kill = 1.0 if Capability.CRASH_DETECTION in profile.capabilities else bound
    left = TIME_LIMIT - _OVERHEAD - after_kill - max(bound, 1.5 * lease_ttl)
    cycle = min(LONGEST_CYCLE, left / _CYCLES)
    if cycle < SHORTEST_CYCLE:
        raise ConfigurationError(
            f"with a TTL of {lease_ttl:g} s, a failover on {profile.server} may take {bound:.1f} s, so that the demo "
            f"would not end within 40 s; give a shorter --ttl, of at least {profile.limits.min_ttl:g} s"
        )
    return Plan(
        url=place.url,
        namespace=place.namespace,
        agents=agents,
        lease_ttl=lease_ttl,
        cycle=cycle,
        failover_bound=bound,
        server=profile.server,
        meters=list_meters(lasting_processes(os.getpid())),
    )


def _ask(place: Place, ttl: float | None, wait: Callable[[], None]) -> BackendProfile:
    """Return what the backend says of itself; on a thread, so that an interrupt need not wait for a dead server."""
    answers: list[BackendProfile | BaseException] = []

    def connect() -> None:
        try:
            with drumbeat.connect(
                place.url, namespace=place.namespace, lease_ttl=ttl, heartbeat="auto", on_empty_store="trust"
            ) as session:
                answers.append(session.backend)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            answers.append(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    while thread.is_alive():
        wait()
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]
