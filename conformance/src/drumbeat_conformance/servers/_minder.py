"""A program of its own that cleans up after a test run, however that ends, by SIGKILL too.

Its standard input is a pipe that the test run holds. Lines say what to end; "end" is the
signal, and so is the end of the file.
It is run by its path, and so imports nothing of this package.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from contextlib import closing, suppress


def main(label: str, folder: str) -> None:
    """End every process and container that is still watched, and remove the folder of their data."""
    processes: dict[str, int] = {}
    engine: str | None = None
    for line in sys.stdin:
        verb, _, what = line.strip().partition(" ")
        if verb == "end":
            # A child that the test run forked may hold the pipe for longer.
            break
        if verb == "engine":
            engine = what
        elif verb == "watch":
            with suppress(ProcessLookupError):
                # A descriptor keeps meaning this very process, even when its number is used again.
                processes[what] = os.pidfd_open(int(what))
        elif what in processes:
            os.close(processes.pop(what))
    for process in processes.values():
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    if engine is not None:
        remove_containers(label, engine)
    shutil.rmtree(folder, ignore_errors=True)


def remove_containers(label: str, engine: str) -> None:
    """Remove the containers that carry the label, with their volumes; `engine` is a DOCKER_HOST, empty for usual."""
    import docker  # type: ignore[import-untyped]
    from docker.errors import APIError  # type: ignore[import-untyped]

    host = {"DOCKER_HOST": engine} if engine else {}
    with closing(docker.from_env(environment=os.environ | host)) as client:
        for container in client.containers.list(all=True, filters={"label": label}, ignore_removed=True):
            with suppress(APIError):
                container.remove(force=True, v=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
