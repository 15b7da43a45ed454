"""Servers in containers; the one module that talks to testcontainers and to the Docker engine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from drumbeat_conformance.servers._errors import ServerFailed
from drumbeat_conformance.servers._leftovers import leftovers
from drumbeat_conformance.servers._programs import GRACE
from drumbeat_conformance.servers._server import Place, Plan

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

_ryuk = threading.Lock()


class _Wrapped(Protocol):
    """What is used of a container of the package `docker`, which has no annotations."""

    status: str

    def start(self) -> None: ...
    def stop(self, *, timeout: int) -> None: ...
    def kill(self) -> None: ...
    def wait(self) -> object: ...
    def pause(self) -> None: ...
    def unpause(self) -> None: ...
    def reload(self) -> None: ...
    def logs(self) -> bytes: ...


class _Images(Protocol):
    """What is used of the engine's images."""

    def get(self, name: str) -> object: ...
    def pull(self, name: str) -> object: ...


class _Engine(Protocol):
    """What is used of a client of the package `docker`."""

    @property
    def images(self) -> _Images: ...
    def info(self) -> dict[str, list[str]]: ...
    def close(self) -> None: ...


class ContainerRunner:
    """One server as a container, started any number of times."""

    def __init__(self, container: DockerContainer) -> None:
        self._container = container
        self._exists = False

    def start(self) -> None:
        """Start the container; return at once."""
        with _failures_translated():
            if self._exists:
                self._wrapped.start()
            else:
                self._create()

    def running(self) -> bool:
        """Tell whether the container has not ended."""
        return self._exists and self._status() in ("running", "paused")

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self.running():
            self._wrapped.kill()
            self._wrapped.wait()

    def stop(self) -> None:
        """SIGTERM, and wait for the end."""
        self.resume()
        if self.running():
            self._wrapped.stop(timeout=int(GRACE))

    def pause(self) -> None:
        """Freeze all processes."""
        self._wrapped.pause()

    def resume(self) -> None:
        """Let them go on."""
        if self._exists and self._status() == "paused":
            self._wrapped.unpause()

    def log(self) -> str:
        """Return what the server printed since its first start."""
        return self._wrapped.logs().decode(errors="replace") if self._exists else ""

    def remove(self) -> None:
        """Remove the container, if there is one."""
        if self._exists:
            self._exists = False
            self._container.stop()

    @property
    def id(self) -> str:
        """The name of the container, for others that share its network."""
        return self._container.get_container_id()

    @property
    def _wrapped(self) -> _Wrapped:
        return cast("_Wrapped", self._container.get_wrapped_container())

    def _create(self) -> None:
        from testcontainers.core.exceptions import ContainerStartException

        leftovers().expect_containers()
        try:
            with _without_ryuk():
                self._container.start()
        finally:
            # It may exist without having been started.
            with suppress(ContainerStartException):
                self._exists = bool(self.id)

    def _status(self) -> str:
        self._wrapped.reload()
        return self._wrapped.status


class ContainerHost:
    """Makes a server's container with a network of its own, whose ports are those of 127.0.0.1 out here."""

    way = "container"
    bind = "0.0.0.0"  # noqa: S104 - all there is inside the container's network

    def __init__(self, image: str) -> None:
        #: The image.
        self.source = image

    def runner(self, plan: Plan, place: Place) -> ContainerRunner:
        """Return a server that is not started yet."""
        container = _container(self.source, plan.argv)
        _publish(container, place.ports)
        return ContainerRunner(_with_folder(container, place.folder))

    def close(self) -> None:
        """There is nothing beside the server."""


class SharedContainerHost:
    """Makes containers that share the network of one that idles, so that 127.0.0.1 means the same to all of them."""

    way = ContainerHost.way
    bind = ContainerHost.bind

    def __init__(self, image: str, *, idle: Sequence[str], ports: Sequence[int]) -> None:
        #: The image.
        self.source = image
        container = _container(image, idle)
        _publish(container, ports)
        self._network = ContainerRunner(container)
        self._network.start()

    def runner(self, plan: Plan, place: Place) -> ContainerRunner:
        """Return a server that is not started yet; its ports are published already."""
        container = _container(self.source, plan.argv, network_mode=f"container:{self._network.id}")
        return ContainerRunner(_with_folder(container, place.folder))

    def close(self) -> None:
        """Remove the container that idles."""
        self._network.remove()


def prepare_image(image: str) -> str | None:
    """Have the image at hand, pulled if need be; return None, or why that cannot be."""
    from docker.errors import APIError, DockerException, ImageNotFound  # type: ignore[import-untyped]

    try:
        with _engine() as engine:
            try:
                engine.images.get(image)
            except ImageNotFound:
                engine.images.pull(image)
    except APIError as error:
        return f"the image {image} is not here and cannot be pulled ({error.explanation})"
    except (DockerException, OSError) as error:
        return f"no Docker engine answers ({error})"
    return None


def _container(image: str, argv: Sequence[str], **settings: object) -> DockerContainer:
    from testcontainers.core.container import DockerContainer

    name, value = leftovers().label.split("=")
    return (
        DockerContainer(image)
        .with_command(list(argv[1:]))
        .with_kwargs(entrypoint=[argv[0]], user=_user(), labels={name: value}, **settings)
    )


def _publish(container: DockerContainer, ports: Sequence[int]) -> None:
    # The same number outside; `with_bind_ports` would publish to the whole world.
    published = {str(port): ("127.0.0.1", port) for port in ports}
    container.ports.update(cast("dict[str, int | None]", published))


def _with_folder(container: DockerContainer, folder: Path) -> DockerContainer:
    # The same path inside, so that configuration files are true in both.
    return container.with_volume_mapping(folder, str(folder), "rw")


@cache
def _user() -> str:
    """Return the user inside containers who may write to our folders outside."""
    with _engine() as engine:
        rootless = any("rootless" in option for option in engine.info()["SecurityOptions"])
    return "0:0" if rootless else f"{os.getuid()}:{os.getgid()}"


@contextmanager
def _engine() -> Iterator[_Engine]:
    from testcontainers.core.docker_client import DockerClient

    engine = DockerClient().client
    try:
        yield cast("_Engine", engine)
    finally:
        engine.close()


@contextmanager
def _without_ryuk() -> Iterator[None]:
    """Start no container that cleans up: the minder does, needs no image, and no way to mount the engine's socket."""
    from testcontainers.core.config import testcontainers_config

    with _ryuk:
        before = testcontainers_config.ryuk_disabled
        testcontainers_config.ryuk_disabled = True
        try:
            yield
        finally:
            testcontainers_config.ryuk_disabled = before


@contextmanager
def _failures_translated() -> Iterator[None]:
    from docker.errors import APIError

    try:
        yield
    except APIError as error:
        raise ServerFailed("the container did not start", str(error)) from error
