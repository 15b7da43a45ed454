"""Failover time: from the death or the resignation of a leader to the win of a candidate in another process.

    uv run python benchmarks/failover.py --url local:///path/to/file.db --trials 20 --ttl 10

Both moments are read from CLOCK_BOOTTIME, which all processes of a host share. Without `--url` a file of its own in a
temporary folder is used. Each trial has a leader and a waiting candidate, both separate processes; the leader is
ended by SIGKILL, or told to resign.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AGENT = """
import sys, time, json
import drumbeat
now = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
url, ttl = sys.argv[1], float(sys.argv[2])
with drumbeat.connect(url, lease_ttl=ttl) as session:
    print(json.dumps(["ready", now()]), flush=True)
    with session.election("benchmark").campaign() as term:
        print(json.dumps(["won", now()]), flush=True)
        sys.stdin.readline()
        print(json.dumps(["resigning", now()]), flush=True)
"""


class Agent:
    """One process that campaigns, reports its win, and resigns when told to."""

    def __init__(self, url: str, ttl: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", AGENT, url, str(ttl)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.read("ready")

    def read(self, event: str) -> float:
        """Return the moment of the next report, which must be of this kind."""
        if self.process.stdout is None:
            raise ValueError(self.process)
        found, at = json.loads(self.process.stdout.readline())
        if found != event:
            raise ValueError(found)
        return float(at)

    def kill(self) -> float:
        """End the process as a crash does; return when."""
        at = time.clock_gettime(time.CLOCK_BOOTTIME)
        os.kill(self.process.pid, signal.SIGKILL)
        return at

    def resign(self) -> float:
        """Have the process resign; return when it began to."""
        if self.process.stdin is None:
            raise ValueError(self.process)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read("resigning")

    def end(self) -> None:
        """End the process and wait for it."""
        self.process.kill()
        self.process.communicate()


def measure(url: str, ttl: float, trials: int, *, fault: str) -> list[float]:
    """Return the failover time of each trial in seconds."""
    times = []
    leader = Agent(url, ttl)
    leader.read("won")
    for _ in range(trials):
        candidate = Agent(url, ttl)
        time.sleep(0.2)
        ended = leader.kill() if fault == "crash" else leader.resign()
        times.append(candidate.read("won") - ended)
        leader.end()
        leader = candidate
    leader.end()
    return times


def main() -> None:
    """Measure both faults and print one line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--ttl", type=float, default=10.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = given.url or f"local://{Path(folder)}/benchmark.db"
        for fault in ("crash", "resign"):
            times = sorted(1000 * t for t in measure(url, given.ttl, given.trials, fault=fault))
            print(
                f"{fault}: {len(times)} trials, TTL {given.ttl:g} s, "
                f"p50 {statistics.median(times):.1f} ms, max {times[-1]:.1f} ms"
            )


if __name__ == "__main__":
    main()
