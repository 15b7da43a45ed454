"""Many processes that join one group at once: `python -m drumbeat_conformance.members._crowd URL NAMESPACE COUNT`.

Prints one JSON array: for each process the ids that it saw, the items of its own share, and whether it leads.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pkgutil
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Final

import drumbeat
from drumbeat import Timeout
from drumbeat._plugins import load_backend_factory
from drumbeat_conformance.members._program import PRELOAD, preload

if TYPE_CHECKING:
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

    from drumbeat.hookspecs import BackendFactory

#: Items to share out, for each process.
ITEMS: Final = 5
#: Seconds: a lease that outlives the slowest of a hundred processes on two cores, and the time for each step.
LEASE: Final = 60.0
STEP: Final = 50.0


def join(place: tuple[str, str], number: int, count: int, barrier: Barrier, seen: Queue[object]) -> None:
    """Connect, join when everybody is connected, and tell what the group looks like when all are in."""
    url, namespace = place
    with drumbeat.connect(
        url,
        namespace=namespace,
        member_id=f"m{number:03}",
        lease_ttl=LEASE,
        request_timeout=LEASE / 6,
        connect_timeout=STEP,
        on_empty_store="trust",
    ) as session:
        group = session.group("crowd")
        barrier.wait(STEP)
        group.join({"number": number})
        view = group.wait_for(lambda view: len(view) == count, timeout=STEP)
        barrier.wait(STEP)
        leads = False
        with suppress(Timeout):
            leads = session.election("crowd").campaign(timeout=0).held
        seen.put((view.ids, group.partition(range(ITEMS * count)), leads))
        # Nobody leaves before all have looked.
        barrier.wait(STEP)


def load_all_of(factory: BackendFactory) -> None:
    """Load a backend's package with its client library before the fork: what is tested is joining, not importing."""
    package = sys.modules[getattr(factory, "__module__", "drumbeat").partition(".")[0]]
    if package is not drumbeat and hasattr(package, "__path__"):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)


def main() -> None:
    """Run the crowd."""
    url, namespace, number = sys.argv[1:]
    count = int(number)
    preload(os.environ.get(PRELOAD))
    load_all_of(load_backend_factory(url.partition(":")[0]))
    context = multiprocessing.get_context("fork")
    barrier, seen = context.Barrier(count), context.Queue()
    crowd = [context.Process(target=join, args=((url, namespace), n, count, barrier, seen)) for n in range(count)]
    for one in crowd:
        one.start()
    found = [seen.get(timeout=3 * STEP) for _ in crowd]
    for one in crowd:
        one.join(STEP)
    sys.stdout.write(json.dumps(found))
    sys.exit(sum(one.exitcode != 0 for one in crowd))


if __name__ == "__main__":
    main()
