"""The meters of this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
from support import eventually

from drumbeat.cli.demo._meters import PROCESSES, lasting_processes, list_meters, read_meters


def in_another_process(expression: str) -> object:
    """Return what an expression gives in a new interpreter that has imported the meters."""
    code = f"import json\nfrom drumbeat.cli.demo._meters import *\nprint(json.dumps({expression}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return json.loads(done.stdout)


def test_there_are_at_least_a_hundred_of_every_kind() -> None:
    """CPUs, load, memory, disk, network and processes have meters, at least 100 in all."""
    meters = list_meters(lasting_processes(os.getpid()))
    assert len(meters) >= 100
    assert {name.partition(".")[0] for name in meters} == {"cpu", "disk", "load", "memory", "network", "process"}
    assert {f"cpu.{number}.user" for number in range(psutil.cpu_count() or 1)} <= set(meters)


def test_all_processes_list_the_same_meters() -> None:
    """The list has no doubles, is sorted, and is the same in every process, once no interface comes or goes."""

    def are_alike() -> bool:
        meters = list_meters([os.getpid()])
        assert list(meters) == sorted(set(meters))
        return in_another_process(f"list_meters([{os.getpid()}])") == list(meters)

    eventually(are_alike, within=30)


def test_any_process_can_read_any_meter() -> None:
    """A meter that is still there reads as a number in a process that has never read it before, whoever listed it."""
    meters = list_meters([os.getpid()])
    readings = in_another_process(f"read_meters({meters!r})")
    assert isinstance(readings, dict)
    assert tuple(readings) == meters
    unread = {name for name, value in readings.items() if not isinstance(value, int | float)}
    assert unread.isdisjoint(list_meters([os.getpid()]))


def test_only_what_was_asked_for_is_read() -> None:
    """A share gives readings of its own meters and of no others."""
    assert set(read_meters(["memory.total", "load.1min"])) == {"memory.total", "load.1min"}
    assert read_meters(["memory.total"]) == {"memory.total": psutil.virtual_memory().total}


def test_a_meter_whose_process_has_ended_reads_none() -> None:
    """What is gone is told as None instead of an error, so that the poll counts."""
    with subprocess.Popen(["sleep", "60"]) as process:
        meters = list_meters([process.pid])
        mine = [name for name in meters if name.startswith(f"process.{process.pid}.")]
        process.kill()
    assert mine
    assert read_meters(mine) == dict.fromkeys(mine)


def test_processes_that_last_are_chosen() -> None:
    """The meters are those of the process itself, its parents and the oldest others, a bounded number."""
    chosen = lasting_processes(os.getpid())
    assert chosen[:2] == (os.getpid(), os.getppid())
    assert len(chosen) == len(set(chosen)) <= PROCESSES
    with subprocess.Popen(["sleep", "60"]) as young:
        assert young.pid not in lasting_processes(os.getpid())
        young.kill()
