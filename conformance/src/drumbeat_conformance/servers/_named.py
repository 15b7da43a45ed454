"""A server that the user named by a URL."""

from __future__ import annotations

from typing import final

from drumbeat._url import BackendURL
from drumbeat_conformance.servers import _report


@final
class NamedServer:
    """A server that somebody else runs: it can be used, but neither stopped nor wiped."""

    way = "url"

    def __init__(self, kind: str, url: str) -> None:
        #: "redis", "memcached", "zookeeper" or "etcd".
        self.kind = kind
        #: As the user wrote it.
        self.url = url
        parsed = BackendURL.parse(url)
        #: The URL without its password.
        self.source = str(parsed)
        host, port = parsed.hosts[0]
        if port is None:
            raise ValueError(f"{self.source} names no port; write it out, for proxies and tests to know it")
        self.host = host
        self.port = port
        _report.was_named(kind, self.source)

    @property
    def address(self) -> str:
        """Host and port of the first server, with a colon between them."""
        return f"{self.host}:{self.port}"
