"""One running server, or several that belong together."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, final

from drumbeat_conformance.servers._errors import NotYet, ServerFailed
from drumbeat_conformance.servers._offsets import write_offset
from drumbeat_conformance.servers._ports import Ports

# Seconds for a server to serve, on a machine that is busy with other things.
_PATIENCE = 45.0
# Seconds between two questions whether it does.
_PAUSE = 0.01


class Runner(Protocol):
    """Where a server runs: a container or a child process."""

    def start(self) -> None: ...
    def running(self) -> bool: ...
    def kill(self) -> None: ...
    def stop(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def log(self) -> str: ...
    def remove(self) -> None: ...


class Host(Protocol):
    """What servers run on; those of one host reach each other on 127.0.0.1."""

    way: str
    #: The address to listen on, for tests to get through.
    bind: str
    #: The image or the program.
    source: str

    def runner(self, plan: Plan, place: Place) -> Runner: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a server is given: a folder that it finds under the same name wherever it runs, and ports."""

    folder: Path
    ports: tuple[int, ...]
    bind: str

    @property
    def port(self) -> int:
        """The port for clients."""
        return self.ports[0]

    @property
    def data(self) -> Path:
        """The folder for everything that `Server.wipe` shall remove."""
        return self.folder / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run at a place."""

    argv: tuple[str, ...]
    url: str
    #: Returns the server's version, or raises OSError or NotYet while it does not serve.
    probe: Callable[[], str]
    #: Servers of a higher stage are started once those of the lower ones answer.
    stage: int = 0
    #: The file that says how far the wall clock is stepped; None for the machine's own clock.
    clock: Path | None = None
    #: Files that the server must find among its data at each start, by name.
    seeds: Mapping[str, str] = field(default_factory=dict)


@final
class Server:
    """One running server, for as long as the `with` block, or until `close()`.

    Its port stays the same over `stop()` or `kill()` and `start()`, and so does its data, unless `wipe()` removes it
    while the server is down. A server that ended or does not answer in time raises ServerFailed with its log.
    """

    #: Every server listens on the loopback interface.
    host = "127.0.0.1"

    def __init__(self, kind: str, *, plan: Plan, place: Place, host: Host, ports: Ports) -> None:
        #: "redis", "memcached", "zookeeper" or "etcd".
        self.kind = kind
        #: "container" or "program".
        self.way = host.way
        #: The image, or the path of the program.
        self.source = host.source
        self.port = place.port
        #: A Drumbeat URL without namespace, with credentials and TLS options where the server asks for them.
        self.url = plan.url
        #: As the server says it; empty until the first start, or if the server tells it to nobody.
        self.version = ""
        self._place = place
        self._plan = plan
        self._ports = ports
        self._runner = host.runner(plan, place)

    @property
    def address(self) -> str:
        """Host and port, with a colon between them."""
        return f"{self.host}:{self.port}"

    def kill(self) -> None:
        """End it by SIGKILL; its data stays."""
        self._runner.kill()

    def stop(self) -> None:
        """End it gracefully; its data stays."""
        self._runner.stop()

    def start(self) -> None:
        """Start it again, on the same port with the same data; return when it answers."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start it again, and return at once."""
        self._must_be(running=False, to="start() it again")
        for name, text in self._plan.seeds.items():
            (self._place.data / name).write_text(text)
        self._runner.start()

    def wait(self) -> None:
        """Return when it answers."""
        until = time.monotonic() + _PATIENCE
        while not self._serves():
            if not self._runner.running():
                raise ServerFailed(f"{self.kind} on {self.address} ended", self.log())
            if time.monotonic() > until:
                raise ServerFailed(f"{self.kind} on {self.address} did not answer in {_PATIENCE:g} s", self.log())
            time.sleep(_PAUSE)

    def wipe(self) -> None:
        """Remove its data; it must be down."""
        self._must_be(running=False, to="wipe() it")
        shutil.rmtree(self._place.data)
        self._place.data.mkdir()

    def pause(self) -> None:
        """Stop its processes as by SIGSTOP: connections stay open, and nothing is answered."""
        self._must_be(running=True, to="pause() it")
        self._runner.pause()

    def resume(self) -> None:
        """Let it go on after `pause()`."""
        self._runner.resume()

    def step_clock(self, offset: float) -> None:
        """Make its wall clock show the machine's plus `offset` seconds; it must have been started as steppable."""
        if self._plan.clock is None:
            raise RuntimeError(f"{self.kind} on {self.address} has the machine's clock; start it with steppable=True")
        write_offset(self._plan.clock, offset)

    def log(self) -> str:
        """Return what it has printed."""
        return self._runner.log()

    def close(self) -> None:
        """End it for good and remove its data; what is closed may be closed again."""
        self._runner.remove()
        self._ports.close()
        shutil.rmtree(self._place.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self.kind} on {self.address} as {self.way}>"

    def _must_be(self, *, running: bool, to: str) -> None:
        if self._runner.running() is not running:
            state, remedy = ("is down", "start()") if running else ("runs", "stop() or kill()")
            raise RuntimeError(f"{self.kind} on {self.address} {state}; {remedy} it to {to}")

    def _serves(self) -> bool:
        try:
            self.version = self._plan.probe()
        except (OSError, NotYet):
            return False
        return True


@dataclass(frozen=True, slots=True)
class Servers:
    """Servers that were started together, in order, and the host that they share."""

    servers: tuple[Server, ...]
    host: Host

    def close(self) -> None:
        """End all for good, also if one cannot be ended."""
        with ExitStack() as stack:
            stack.callback(self.host.close)
            for server in self.servers:
                stack.callback(server.close)


class Group:
    """Servers that belong together, for as long as the `with` block, or until `close()`."""

    def __init__(self, started: Servers, *, url: str) -> None:
        self._started = started
        #: A Drumbeat URL that names the servers to ask first, without namespace.
        self.url = url

    def close(self) -> None:
        """End all servers for good; what is closed may be closed again."""
        self._started.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Nodes(Group):
    """Servers that are all alike."""

    def __init__(self, started: Servers, *, scheme: str) -> None:
        hosts = ",".join(server.address for server in started.servers)
        super().__init__(started, url=f"{scheme}://{hosts}")
        #: Its servers.
        self.nodes = started.servers


def make_place(root: Path, ports: Ports, *, bind: str) -> Place:
    """Return a place of its own for one server."""
    folder = root / f"{os.getpid()}-{ports.numbers[0]}-{time.monotonic_ns()}"
    place = Place(folder=folder, ports=tuple(ports.numbers), bind=bind)
    place.data.mkdir(parents=True)
    return place
