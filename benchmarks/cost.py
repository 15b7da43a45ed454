"""What Drumbeat costs while nothing happens, and to import.

    uv run python benchmarks/cost.py --seconds 30

An idle session, an idle candidate and 200 sessions run in processes of their own on the local backend with a TTL of
10 s; the share of a core is the processor time used in the measured interval. Import times are the median of new
interpreters, beside that of pluggy alone in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

IDLE = """
import sys, time, threading
import drumbeat
url, what, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
count = 200 if what == "200 sessions" else 1
sessions = [drumbeat.connect(url, lease_ttl=10.0) for _ in range(count)]
if what == "candidate":
    holder = drumbeat.connect(url, lease_ttl=10.0, heartbeat="manual", member_id="holder")
    term = holder.election("e").campaign()
    waiting = threading.Thread(target=sessions[0].election("e").campaign, daemon=True)
    waiting.start()
time.sleep(1)
before, until = time.process_time(), time.monotonic() + seconds
while (left := until - time.monotonic()) > 0:
    time.sleep(min(left, 4.0))
    if what == "candidate":
        used = time.process_time()
        holder.beat()
        before += time.process_time() - used
print((time.process_time() - before) / seconds, all(s.state.name == "CONNECTED" for s in sessions))
"""
IMPORT = "import sys, time; {before}; t = time.perf_counter(); {timed}; print(1000 * (time.perf_counter() - t))"


def share(what: str, seconds: float) -> tuple[float, bool]:
    """Return the share of a core that an idle process uses, and whether all its sessions lived."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"local://{Path(folder)}/cost.db"
        command = [sys.executable, "-c", IDLE, url, what, str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    used, alive = done.stdout.split()
    return float(used), alive == "True"


def import_time(timed: str, *, before: str = "pass", runs: int = 15) -> float:
    """Return the median milliseconds that a statement takes in a new interpreter."""
    command = [sys.executable, "-c", IMPORT.format(before=before, timed=timed)]
    times = [float(subprocess.run(command, capture_output=True, check=True).stdout) for _ in range(runs)]
    return statistics.median(times)


def main() -> None:
    """Measure and print one line for each figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    given = parser.parse_args()
    for what in ("session", "candidate", "200 sessions"):
        used, alive = share(what, given.seconds)
        print(f"idle {what}: {100 * used:.3f} % of a core, {'all alive' if alive else 'NOT ALL ALIVE'}")
    pluggy = import_time("import pluggy")
    print(f"import pluggy: {pluggy:.1f} ms")
    print(f"import drumbeat after it: {import_time('import drumbeat', before='import pluggy'):.1f} ms")
    print(f"first use of drumbeat.connect: {import_time('drumbeat.connect', before='import drumbeat'):.1f} ms")


if __name__ == "__main__":
    main()
