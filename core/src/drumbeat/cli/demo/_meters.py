"""This machine's meters, read by psutil: what the agents share among them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import psutil

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The reading of one meter; None says that what it measured is gone, for example a process that has ended.
Reading = int | float | None

#: How many processes have meters.
PROCESSES: Final = 8

_Fields = Mapping[str, int | float]


def list_meters(processes: Iterable[int]) -> tuple[str, ...]:
    """Return the names of the machine's meters, sorted, with those of the given process ids.

    A meter is listed only if it can be read now. Each reads a plain value, never the difference to an earlier
    reading, so that whoever takes a meter over can read it at once.
    """
    families = {*_SOURCES, *(f"process.{pid}" for pid in processes)}
    return tuple(sorted(name for family in families for name in _read_family(family)))


def read_meters(names: Sequence[str]) -> dict[str, Reading]:
    """Return a fresh reading of each named meter; what many of them have in common is asked for once."""
    readings: dict[str, int | float] = {}
    for family in sorted({_family(name) for name in names}):
        readings.update(_read_family(family))
    return {name: readings.get(name) for name in names}


def lasting_processes(own: int) -> tuple[int, ...]:
    """Return the ids of processes that will most likely outlive the demo: its own, its parents, the oldest others."""
    lineage = psutil.Process(own)
    chosen = [lineage.pid, *(parent.pid for parent in lineage.parents())]
    others = sorted(_programs(), key=lambda process: (process.create_time(), process.pid))
    chosen += [process.pid for process in others if process.pid not in chosen]
    return tuple(chosen[:PROCESSES])


def _programs() -> Iterable[psutil.Process]:
    """Give the processes that have memory of their own, which threads of the kernel have not."""
    for process in psutil.process_iter():
        try:
            if process.memory_info().rss:
                yield process
        except psutil.Error:
            continue


def _family(name: str) -> str:
    kind, _, rest = name.partition(".")
    return f"process.{rest.partition('.')[0]}" if kind == "process" else kind


def _read_family(family: str) -> dict[str, int | float]:
    kind, _, pid = family.partition(".")
    groups = _process(int(pid)) if kind == "process" else _SOURCES[kind]()
    return {f"{family}.{part}{field}": value for part, fields in groups.items() for field, value in fields.items()}


def _cpu() -> dict[str, _Fields]:
    each = psutil.cpu_times(percpu=True)
    numbered = {f"{number}.": _fields(times) for number, times in enumerate(each)}
    return {"all.": _fields(psutil.cpu_times()), "": _fields(psutil.cpu_stats()), **numbered}


def _load() -> dict[str, _Fields]:
    return {"": dict(zip(("1min", "5min", "15min"), psutil.getloadavg(), strict=True))}


def _memory() -> dict[str, _Fields]:
    return {"": _fields(psutil.virtual_memory()), "swap.": _fields(psutil.swap_memory())}


def _disk() -> dict[str, _Fields]:
    mounts = sorted({"/", *(partition.mountpoint for partition in psutil.disk_partitions())})
    space = {f"{mount}.": _usage(mount) for mount in mounts}
    traffic = psutil.disk_io_counters(perdisk=True) or {}
    used = {f"{name}.": _fields(counters) for name, counters in traffic.items() if any(counters)}
    return {"all.": _fields(psutil.disk_io_counters()), **space, **used}


def _usage(mount: str) -> _Fields:
    try:
        return _fields(psutil.disk_usage(mount))
    except OSError:
        return {}


def _network() -> dict[str, _Fields]:
    traffic = {f"{name}.": _fields(counters) for name, counters in psutil.net_io_counters(pernic=True).items()}
    links = {f"{name}.": {"up": int(link.isup), "mtu": link.mtu} for name, link in psutil.net_if_stats().items()}
    named = {name: {**links.get(name, {}), **traffic.get(name, {})} for name in {*links, *traffic}}
    return {"all.": _fields(psutil.net_io_counters()), **named}


def _process(pid: int) -> dict[str, _Fields]:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            return {
                "cpu.": _fields(process.cpu_times()),
                "memory.": _fields(process.memory_info()),
                "switches.": _fields(process.num_ctx_switches()),
                "io.": _fields(process.io_counters()),
                "": {"threads": process.num_threads(), "files": process.num_fds()},
            }
    except psutil.Error:
        return {}


def _fields(answer: object) -> _Fields:
    """Return the numbers in one of psutil's named tuples; an answer that is missing here has none."""
    names: Iterable[str] = getattr(answer, "_fields", ())
    return {name: getattr(answer, name) for name in names}


_SOURCES: Final[Mapping[str, Callable[[], dict[str, _Fields]]]] = {
    "cpu": _cpu,
    "disk": _disk,
    "load": _load,
    "memory": _memory,
    "network": _network,
}
