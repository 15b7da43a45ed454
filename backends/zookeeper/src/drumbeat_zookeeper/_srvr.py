"""ZooKeeper's four-letter words: the version of a server, and its settings where it tells them."""

from __future__ import annotations

import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from drumbeat import BackendError, ConfigurationError, DrumbeatError, Unavailable

if TYPE_CHECKING:
    from drumbeat_zookeeper._target import Target

#: Containers and multiRead came with it: https://zookeeper.apache.org/doc/r3.6.0/releasenotes.html
LOWEST: Final = (3, 6)
#: Seconds; the setting that ZooKeeper's manual and its packages ship.
USUAL_TICK: Final = 2.0
_LONGEST_ANSWER: Final = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a server said of itself; None where it may not say it. `srvr` is never forbidden, `conf` by default."""

    address: str
    version: str
    mode: str | None
    #: Seconds.
    tick: float
    min_ttl: float | None = None
    max_ttl: float | None = None
    connections: int | None = None

    @property
    def several(self) -> bool:
        """Whether there may be other servers that follow, or are followed by, this one."""
        return self.mode != "standalone"


def ask(target: Target, timeout: float) -> Told:
    """Return what the first server that answers says; raise the plainest error of the last one if none does."""
    until = time.monotonic() + timeout
    failure: DrumbeatError | None = None
    for number, host in enumerate(target.hosts):
        share = (until - time.monotonic()) / (len(target.hosts) - number)
        try:
            return _ask_one(target, host, time.monotonic() + max(share, 0.01))
        except Unavailable as error:
            failure = error
    raise failure or Unavailable(f"{target.shown}: no host", outcome="not_applied")


def _ask_one(target: Target, host: tuple[str, int], until: float) -> Told:
    address = f"{host[0]}:{host[1]}"
    srvr = _word(target, host, "srvr", until)
    if "not currently serving requests" in srvr:
        raise Unavailable(f"the ZooKeeper at {address} is not serving requests: no quorum?", outcome="not_applied")
    if not srvr:
        raise Unavailable(f"{address} hung up without a word; does that port ask for TLS?", outcome="not_applied")
    version = re.search(r"^Zookeeper version: ((\d+)\.(\d+)[^-, ]*)", srvr, re.MULTILINE)
    mode = re.search(r"^Mode: (\S+)", srvr, re.MULTILINE)
    if version is None:
        raise BackendError(f"what answers at {address} is not ZooKeeper; look at the port in {target.shown}")
    if (int(version[2]), int(version[3])) < LOWEST:
        raise ConfigurationError(f"the ZooKeeper at {address} has version {version[1]}; 3.6 is the lowest that will do")
    if mode is not None and mode[1] == "read-only":
        raise Unavailable(f"the ZooKeeper at {address} is read-only: it has lost its ensemble", outcome="not_applied")
    settings = dict(re.findall(r"^(\w+)=(\d+)$", _word(target, host, "conf", until), re.MULTILINE))
    return Told(
        address=address,
        version=version[1],
        mode=None if mode is None else mode[1],
        tick=int(settings["tickTime"]) / 1000 if "tickTime" in settings else USUAL_TICK,
        min_ttl=int(settings["minSessionTimeout"]) / 1000 if "minSessionTimeout" in settings else None,
        max_ttl=int(settings["maxSessionTimeout"]) / 1000 if "maxSessionTimeout" in settings else None,
        connections=int(settings["maxClientCnxns"]) if "maxClientCnxns" in settings else None,
    )


def _word(target: Target, host: tuple[str, int], word: str, until: float) -> str:
    """Return a server's answer to one word; it closes the connection after it."""
    address = f"{host[0]}:{host[1]}"
    try:
        with target.connect(host, name=host[0], timeout=_left(until)) as link:
            link.sendall(word.encode())
            return _read_all(link, until)
    except ssl.SSLCertVerificationError as error:
        raise ConfigurationError(
            f"the certificate of {address} is not trusted ({error.verify_message}); "
            "look at tls_ca_file, and at the host name in the URL"
        ) from error
    except ssl.SSLEOFError as error:
        raise Unavailable(f"{address} hung up; does that port speak TLS?", outcome="not_applied") from error
    except ssl.SSLError as error:
        raise _tls_trouble(target, address) from error
    except TimeoutError as error:
        hint = "" if target.tls is not None else "; does that port ask for TLS?"
        raise Unavailable(f"no answer from {address} in time{hint}", outcome="not_applied") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        hint = "; does one side want TLS and the other not?" if isinstance(error, ConnectionResetError) else ""
        raise Unavailable(f"cannot talk to {address}: {reason}{hint}", outcome="not_applied") from error


def _tls_trouble(target: Target, address: str) -> DrumbeatError:
    if target.tls is None or target.tls.certificate is None:
        hint = "does that port speak TLS, and does it ask for a client certificate (tls_certificate, tls_key)?"
    else:
        hint = "does that port speak TLS, and does it trust tls_certificate?"
    return ConfigurationError(f"TLS with {address} failed; {hint}")


def _read_all(link: socket.socket, until: float) -> str:
    received = b""
    while len(received) < _LONGEST_ANSWER:
        link.settimeout(_left(until))
        part = link.recv(_LONGEST_ANSWER)
        if not part:
            break
        received += part
    return received.decode("utf-8", "replace")


def _left(until: float) -> float:
    return max(0.001, until - time.monotonic())
