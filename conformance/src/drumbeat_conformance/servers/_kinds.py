"""What is known of each kind of server: its image, its program, and what to install."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from drumbeat_conformance.servers._programs import find_program

#: Where the environment names an image, with the kind's name in capitals at the end.
IMAGE: Final = "DRUMBEAT_TEST_IMAGE_"
_DEBIAN_ZOOKEEPER = Path("/usr/share/java/zookeeper.jar")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How a server of one kind can be had."""

    name: str
    #: The official image, with its version pinned; None where there is none that every engine finds by a short name.
    image: str | None
    #: What the program is called.
    program: str
    #: Where the program is on this machine, or None.
    find: Callable[[], str | None]
    #: The package of the program, as Debian calls it.
    package: str
    #: What does nothing for as long as it may, from the programs of the image.
    idle: tuple[str, ...] = ("sleep", "infinity")

    @property
    def remedy(self) -> str:
        """What to install."""
        name = "" if self.image else f" and name an image in {IMAGE}{self.name.upper()}"
        return f"Install Docker{name}, or the program (in Debian: apt-get install {self.package})."


def _find_zookeeper() -> str | None:
    if find_program("java") is None:
        return None
    return str(_DEBIAN_ZOOKEEPER) if _DEBIAN_ZOOKEEPER.exists() else find_program("zkServer.sh")


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="redis",
            image="redis:7.4.2",
            program="redis-server",
            find=lambda: find_program("redis-server"),
            package="redis-server",
        ),
        Kind(
            name="memcached",
            image="memcached:1.6.36",
            program="memcached",
            find=lambda: find_program("memcached"),
            package="memcached",
        ),
        Kind(
            name="zookeeper",
            image="zookeeper:3.8.4",
            program="zkServer.sh with java",
            find=_find_zookeeper,
            package="zookeeper",
        ),
        Kind(
            name="etcd",
            image=None,
            program="etcd",
            find=lambda: find_program("etcd"),
            package="etcd-server",
            # The image of its developers holds no other program.
            idle=("etcd", "gateway", "start", "--listen-addr=127.0.0.1:0", "--endpoints=127.0.0.1:1"),
        ),
    )
}
