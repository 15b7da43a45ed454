"""Run the demo on every backend, with only the URL changed, and print its final figures as a table.

`uv run python benchmarks/demos.py` starts one server of each kind as the tests do: in a container where a Docker engine
and an image are at hand, else as a program. Seconds; the lease's TTL is 3 s.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from drumbeat_conformance.servers import start_etcd, start_memcached, start_redis, start_zookeeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drumbeat_conformance.servers import Server

FIGURES = {
    "failover_seconds": "SIGKILL to next leader",
    "freeze_failover_seconds": "SIGSTOP to next leader",
    "reassigned_seconds": "SIGKILL to work shared out anew",
    "missed_polls": "missed polls",
    "duplicate_polls": "duplicate polls",
    "overlapping_terms": "overlapping terms",
}


def stores(stack: ExitStack) -> Iterator[tuple[str, str]]:
    """Give a URL of each backend that several processes can use, and what is behind it."""
    folder = Path(stack.enter_context(TemporaryDirectory()))
    yield f"local://{folder}/demo.db", "a file"
    starts: tuple[Callable[[], Server], ...] = (start_redis, start_zookeeper, start_etcd, start_memcached)
    for start in starts:
        server = stack.enter_context(start())
        yield server.url, f"{server.kind} {server.version} ({server.way})"


def main() -> None:
    """Print the table."""
    print(f"| store | {' | '.join(FIGURES.values())} |")
    print(f"|---|{'---|' * len(FIGURES)}")
    with ExitStack() as stack:
        for url, store in stores(stack):
            command = [sys.executable, "-m", "drumbeat.cli", "demo", "--url", url, "--json"]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
            final = json.loads(done.stdout.splitlines()[-1])
            print(f"| {store} | {' | '.join(f'{final[name]:.3g}' for name in FIGURES)} |", flush=True)


if __name__ == "__main__":
    main()
