"""Starts servers in the way that this machine and the user's wishes allow."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache
from itertools import groupby

from drumbeat_conformance.servers import _report
from drumbeat_conformance.servers._clocked import clocked
from drumbeat_conformance.servers._containers import ContainerHost, SharedContainerHost, prepare_image
from drumbeat_conformance.servers._errors import CouldNotRun, ServerFailed
from drumbeat_conformance.servers._kinds import IMAGE, KINDS, Kind
from drumbeat_conformance.servers._leftovers import leftovers
from drumbeat_conformance.servers._ports import Ports
from drumbeat_conformance.servers._programs import ProgramHost
from drumbeat_conformance.servers._server import Host, Place, Plan, Server, Servers, make_place

#: Where the environment says which way to go: auto, container or program.
WAY = "DRUMBEAT_TEST_SERVERS"
WAYS = ("auto", "container", "program")
# How often other ports are tried when somebody was quicker.
_TRIES = 4

#: Returns a plan for each place.
Write = Callable[[Sequence[Place]], Sequence[Plan]]


def launch_one(name: str, write: Write, *, ports: int = 1, steppable: bool = False) -> Server:
    """Return a server that answers; fails as `launch` does.

    One whose wall clock is `steppable` is a program of this machine, whatever the wishes are.
    """
    if steppable:
        (server,) = launch(name, lambda places: clocked(write(places), places), ports=ports, wish="program").servers
    else:
        (server,) = launch(name, write, ports=ports).servers
    return server


def launch(
    name: str,
    write: Write,
    *,
    nodes: int = 1,
    ports: int = 1,
    offsets: tuple[int, ...] = (0,),
    wish: str | None = None,
) -> Servers:
    """Return servers that all answer, one for each plan that `write` makes for as many places.

    `wish` is a way to go in place of the environment's. Raises CouldNotRun if this machine has no way to run the kind,
    and ServerFailed if a server ended or is silent.
    """
    kind = KINDS[name]
    for left in reversed(range(_TRIES)):
        try:
            started = _launch(kind, write, [Ports(ports, offsets=offsets) for _ in range(nodes)], wish)
        except ServerFailed as error:
            if left == 0 or not error.is_about_ports:
                raise
        else:
            _report.ran(started.servers)
            return started
    raise AssertionError("the last try returns or raises")


def _launch(kind: Kind, write: Write, reserved: Sequence[Ports], wish: str | None) -> Servers:
    with ExitStack() as stack:
        for ports in reserved:
            stack.enter_context(ports)
        host = _host(kind, reserved, wish)
        stack.callback(host.close)
        places = [make_place(leftovers().folder, ports, bind=host.bind) for ports in reserved]
        plans = write(places)
        servers = [
            stack.enter_context(Server(kind.name, plan=plan, place=place, host=host, ports=ports))
            for plan, place, ports in zip(plans, places, reserved, strict=True)
        ]
        for _, stage in groupby(zip(plans, servers, strict=True), key=lambda each: each[0].stage):
            _start_together([server for _, server in stage])
        stack.pop_all()
    return Servers(tuple(servers), host)


def _start_together(servers: Sequence[Server]) -> None:
    for server in servers:
        server.begin()
    for server in servers:
        server.wait()


def _host(kind: Kind, reserved: Sequence[Ports], wish: str | None) -> Host:
    way, source = find_way(kind.name, wish)
    if way == "program":
        return ProgramHost(source)
    if len(reserved) == 1:
        return ContainerHost(source)
    return SharedContainerHost(source, idle=kind.idle, ports=[port for ports in reserved for port in ports.numbers])


def find_way(name: str, wish: str | None = None) -> tuple[str, str]:
    """Return "container" and the image, or "program" and its path; raise CouldNotRun if there is neither."""
    found = _find_way(name, wish or os.environ.get(WAY) or "auto")
    if isinstance(found, CouldNotRun):
        raise CouldNotRun(found.kind, found.reasons, found.remedy)
    return found


# Asked once: an engine that does not answer, or an image that cannot be pulled, may take its time to say so.
@cache
def _find_way(name: str, wish: str) -> tuple[str, str] | CouldNotRun:
    kind = KINDS[name]
    reasons = []
    if wish in ("auto", "container"):
        image = os.environ.get(f"{IMAGE}{name.upper()}") or kind.image
        if image is None:
            reasons.append(f"no image is named in {IMAGE}{name.upper()}")
        elif (problem := prepare_image(image)) is None:
            return "container", image
        else:
            reasons.append(problem)
    if wish in ("auto", "program"):
        program = kind.find()
        if program is not None:
            return "program", program
        reasons.append(f"{kind.program} is not on PATH")
    error = CouldNotRun(name, tuple(reasons), kind.remedy)
    _report.could_not(error)
    return error
