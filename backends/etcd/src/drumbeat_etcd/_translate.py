"""The errors of gRPC and of etcd, in Drumbeat's words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from drumbeat import AuthenticationError, BackendError, ConfigurationError, SessionLost, Unavailable
from drumbeat_etcd._grpc import grpc

if TYPE_CHECKING:
    from collections.abc import Iterator

Code: Final = grpc.StatusCode


class LeaseExists(BackendError):
    """A lease with this id was granted before."""


class TokenRefused(AuthenticationError):
    """The server does not know our token any more; a new one may be had for user and password."""


#: What etcd says, or gRPC, with the error that it means. Each text is in
#: https://github.com/etcd-io/etcd/blob/release-3.4/etcdserver/api/v3rpc/rpctypes/error.go
_MEANINGS: Final[tuple[tuple[str, type[Exception], str], ...]] = (
    ("requested lease not found", SessionLost, "has no lease of this session"),
    ("lease already exists", LeaseExists, "has this lease already"),
    ("invalid auth token", TokenRefused, "refuses our token; are user and password still valid?"),
    ("revision of auth store is old", TokenRefused, "has changed its users since we authenticated; try again"),
    ("invalid user ID or password", AuthenticationError, "refuses the user or the password"),
    ("user name is empty", AuthenticationError, "asks who we are; write USER:PASSWORD@ into the URL"),
    ("authentication is not enabled", ConfigurationError, "has no users; leave USER:PASSWORD@ out of the URL"),
    ("CERTIFICATE_VERIFY_FAILED", ConfigurationError, "has a certificate that tls_ca_file does not vouch for"),
)

#: gRPC never had a connection, or etcd refuses a request before it looks at it.
_NOT_APPLIED: Final = (
    "failed to connect to all addresses",
    "DNS resolution failed",
    # The same since gRPC 1.85.
    "errors resolving",
    "etcdserver: no leader",
    "etcdserver: too many requests",
    "etcdserver: mvcc: database space exceeded",
)


#: etcd itself answers UNKNOWN where its own time for a request runs out.
_TRANSIENT: Final = {
    Code.UNAVAILABLE,
    Code.CANCELLED,
    Code.RESOURCE_EXHAUSTED,
    Code.UNKNOWN,
    Code.INTERNAL,
    Code.ABORTED,
}


@contextmanager
def translated(address: str, *, prefix: str) -> Iterator[None]:
    """Raise what a call to the server at `address` raises as an error of Drumbeat."""
    try:
        yield
    except grpc.RpcError as error:
        raise _meaning(error, address, prefix) from error
    except OSError as error:
        raise Unavailable(f"etcd at {address} shows no certificate: {error}", outcome="not_applied") from error
    except (ValueError, grpc.FutureCancelledError) as error:
        # https://github.com/grpc/grpc/blob/master/src/python/grpcio/grpc/_channel.py has no error of its own for it.
        raise Unavailable(f"the connection to etcd at {address} was closed here") from error


def _meaning(error: grpc.RpcError, address: str, prefix: str) -> Exception:
    code, details = error.code(), error.details() or ""
    for text, kind, meaning in _MEANINGS:
        if text.lower() in details.lower():
            return kind(f"etcd at {address} {meaning}")
    if code is Code.PERMISSION_DENIED:
        return AuthenticationError(
            f"etcd at {address} does not let this user do that; the role needs "
            f"`etcdctl role grant-permission ROLE readwrite --prefix {prefix}`"
        )
    if "Channel closed" in details:
        # By close(), while the call was under way.
        return Unavailable(f"the connection to etcd at {address} was closed here")
    if code is Code.DEADLINE_EXCEEDED:
        return Unavailable(f"etcd at {address} did not answer in time")
    if code in _TRANSIENT:
        outcome = "not_applied" if any(text in details for text in _NOT_APPLIED) else "unknown"
        return Unavailable(
            f"etcd at {address} cannot be reached or serve: {details}; "
            "is it up, and is the scheme right (etcds:// for TLS, with tls_certificate if it asks for one; "
            "etcd:// without)?",
            outcome=outcome,  # type: ignore[arg-type]
        )
    return BackendError(f"etcd at {address} answered {code.name}: {details}; is it an etcd of version 3.4 or later?")
