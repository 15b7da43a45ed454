"""The one place where what a socket or a server says becomes an error of Drumbeat."""

from __future__ import annotations

import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from drumbeat import AuthenticationError, BackendError, ConfigurationError, DrumbeatError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drumbeat_memcached._target import Target

#: What is known of a request that failed.
Outcome = Literal["not_applied", "unknown"]


@contextmanager
def translated(target: Target, *, outcome: Outcome) -> Iterator[None]:
    """Raise what fails inside as an error of Drumbeat; `outcome` is what is known of a request without an answer."""
    try:
        yield
    except TimeoutError as error:
        raise Unavailable(f"Memcached at {target} did not answer in time", outcome=outcome) from error
    except ssl.SSLError as error:
        raise _of_tls(target, error, outcome) from error
    except socket.gaierror as error:
        raise Unavailable(f"the host of {target} is unknown: {error.strerror}", outcome="not_applied") from error
    except OSError as error:
        problem = error.strerror or str(error)
        raise Unavailable(f"the connection to Memcached at {target} failed: {problem}", outcome=outcome) from error


def _of_tls(target: Target, error: ssl.SSLError, outcome: Outcome) -> DrumbeatError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigurationError(
            f"the certificate of {target} is not trusted ({error.verify_message}); see tls_ca_file, and name "
            "the host as the certificate does"
        )
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Unavailable(f"{target} ended the TLS connection", outcome=outcome)
    if "ALERT" in (error.reason or ""):
        return AuthenticationError(
            f"{target} refused this end of the TLS connection ({error.reason}); see the options tls_certificate and "
            "tls_key"
        )
    return BackendError(f"{target} does not speak TLS as expected ({error.reason}); see the options tls_*")


def refused(target: Target, answer: bytes, *, outcome: Outcome = "unknown") -> DrumbeatError:
    """Return the error for an answer that is not the one that a command should have."""
    server = f"Memcached at {target}"
    if answer.startswith(b"SERVER_ERROR object too large"):
        return BackendError(f"{server} refused a record as too large, and keeps the old one; allow larger items (-I)")
    if answer.startswith(b"SERVER_ERROR out of memory"):
        return Unavailable(f"{server} has no memory left for this; give it more (-m)", outcome=outcome)
    if answer.startswith(b"ERROR Too many open connections"):
        return Unavailable(f"{server} has no connection left; allow more (-c)", outcome=outcome)
    if answer.startswith(b"CLIENT_ERROR unauthenticated"):
        return AuthenticationError(f"{server} asks for a user and a password; put both into the URL")
    return BackendError(
        f"what listens at {target} does not answer as Memcached does, but with {answer[:40]!r}; see host and port"
    )
