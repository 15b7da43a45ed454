"""The one place where errors of the client and of the server become errors of Drumbeat.

What a server says while we log in is never passed on: a stranger may answer by repeating the password to us.
"""

from __future__ import annotations

import re
import socket
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from redis import exceptions

from drumbeat import AuthenticationError, BackendError, ConfigurationError, DrumbeatError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: How servers refuse a request before they have done anything of it
#: (https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors), by the first word.
_REFUSALS: Final = {
    "LOADING": "it is still loading its data",
    "READONLY": "it is a replica now",
    "MASTERDOWN": "it is a replica without a primary",
    "MOVED": "another node has the keys now",
    "ASK": "the keys are on their way to another node",
    "TRYAGAIN": "the keys are on their way to another node",
    "CLUSTERDOWN": "the cluster is down",
    "BUSY": "a script has been running for too long",
    "MISCONF": "it cannot write its data to disk",
    "NOREPLICAS": "it has too few replicas (min-replicas-to-write)",
}
#: What servers answer that are of another kind than the URL says.
_MISTAKES: Final = {
    "cluster support disabled": "is no node of a cluster; write redis:// or rediss://",
    "unknown command 'SENTINEL'": "is no Sentinel; give the Sentinels' hosts and ports, or write redis://",
    "unknown command `SENTINEL`": "is no Sentinel; give the Sentinels' hosts and ports, or write redis://",
    "in protected mode": "is in protected mode; give it a password, or set protected-mode no",
}
_ELSEWHERE: Final = frozenset({"READONLY", "MASTERDOWN", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"})


class WrongServer(Unavailable):
    """The server did nothing, since it is not, or not any more, the one that has the namespace."""


@contextmanager
def introducing(address: str, *, user: str | None, tls: bool) -> Iterator[None]:
    """Translate what the block raises while it connects, logs in or asks what the server is: nothing was applied."""
    try:
        yield
    except exceptions.NoPermissionError as error:
        named = re.search(r"'(info|select|client)[ a-z|]*'", str(error), re.IGNORECASE)
        problem = f"it may not run {named[0]}" if named else "it may not do what a greeting takes"
        raise AuthenticationError(f"{address}: {_missing(user, problem)}") from None
    except exceptions.BusyLoadingError:
        raise refusal(address, "LOADING") from None
    except exceptions.AuthenticationError:
        why = "asks for a user and a password" if user is None else f"refused the user {user!r} or its password"
        raise AuthenticationError(
            f"{address} {why}; write SCHEME://USER:PASSWORD@... with what ACL LIST shows there"
        ) from None
    except exceptions.ResponseError as error:
        if "DB index" in str(error):
            raise ConfigurationError(f"{address} has no database of the number that the URL ends in") from None
        raise _refused(address, _full_text(error), secret=True) from None
    except (exceptions.RedisError, OSError, ValueError) as error:
        raise _no_introduction(address, error, tls=tls) from (error if isinstance(error, OSError) else None)


@contextmanager
def asking(address: str, *, user: str | None) -> Iterator[None]:
    """Translate what the block raises once a request may have reached the server."""
    try:
        yield
    except exceptions.NoPermissionError as error:
        raise AuthenticationError(f"{address}: {_missing(user, str(error))}") from error
    except exceptions.AuthenticationError as error:
        raise AuthenticationError(f"{address} asks for a user and a password; write them in the URL") from error
    except exceptions.BusyLoadingError as error:
        raise refusal(address, "LOADING") from error
    except exceptions.ResponseError as error:
        raise _refused(address, _full_text(error)) from error
    except (exceptions.RedisError, OSError, ValueError) as error:
        raise _unanswered(address, error) from error


def script_failure(address: str, user: str | None, parts: Sequence[str]) -> DrumbeatError:
    """Return the error for a command that the server refused inside the script: command, key and its words."""
    command, key, problem = parts
    # Redis 6.2 puts the line of the script before its own words.
    problem = re.sub(r"^(@\w+: \d+: )?-?", "", problem).strip()
    if "NOPERM" in problem or "The user executing the script" in problem:
        return AuthenticationError(f"{address}: {_missing(user, f'{command} {key}: {problem}')}")
    if problem.startswith("OOM"):
        return Unavailable(f"{address} is out of memory (maxmemory), so it refused {command} {key}")
    if "non local key" in problem:
        return Unavailable(f"{address} is handing {key} over to another node, so it refused {command}")
    return _refused(address, problem, doing=f"{command} {key}: ")


def refusal(address: str, word: str) -> Unavailable:
    """Return the error for a request that the server refused, by the first word of its answer."""
    kind = WrongServer if word in _ELSEWHERE else Unavailable
    return kind(f"{address} refused the request: {_REFUSALS[word]} ({word})", outcome="not_applied")


def _full_text(error: exceptions.ResponseError) -> str:
    # The client strips the first word from the errors that it has a class for.
    words = {
        exceptions.ReadOnlyError: "READONLY",
        exceptions.MasterDownError: "MASTERDOWN",
        exceptions.MovedError: "MOVED",
        exceptions.AskError: "ASK",
        exceptions.TryAgainError: "TRYAGAIN",
        exceptions.ClusterDownError: "CLUSTERDOWN",
        exceptions.OutOfMemoryError: "OOM",
    }
    word = next((word for kind, word in words.items() if type(error) is kind), "")
    return f"{word} {error}".strip()


def _refused(address: str, text: str, *, doing: str = "", secret: bool = False) -> DrumbeatError:
    word = text.split(" ", maxsplit=1)[0]
    for sign, mistake in _MISTAKES.items():
        if sign in text:
            return ConfigurationError(f"{address} {mistake}")
    if word in _REFUSALS:
        return refusal(address, word)
    if word == "OOM":
        return Unavailable(f"{address} is out of memory (maxmemory)", outcome="not_applied")
    said = "" if secret else f": {doing}{text[:300]}"
    return BackendError(f"{address} answered with an error that Drumbeat does not expect{said}")


def _missing(user: str | None, problem: str) -> str:
    return (
        f"user {user or 'default'!r} lacks a permission: {problem[:300]}. Drumbeat's README lists the ACL rules that "
        "it needs; grant them with ACL SETUSER"
    )


def _no_introduction(address: str, error: Exception, *, tls: bool) -> DrumbeatError:
    cause = error if isinstance(error, OSError) else error.__context__
    hint = "is it the right port, and is it redis:// for a plain port and rediss:// for a TLS port?"
    if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _tls_error(address, cause)
    if isinstance(error, exceptions.InvalidResponse | ValueError):
        return BackendError(f"what answers at {address} does not speak Redis' protocol; {hint}")
    if isinstance(cause, ConnectionRefusedError):
        problem = f"nobody listens at {address}"
    elif "max number of clients" in str(error):
        problem = f"{address} has no connection left (maxclients)"
    elif isinstance(cause, socket.gaierror):
        problem = f"the name of {address} cannot be resolved"
    elif isinstance(error, exceptions.TimeoutError | TimeoutError):
        problem = f"{address} did not answer in time" + (f"; {hint}" if tls else "")
    else:
        problem = f"{address} ended the connection before it stood; {hint}"
    return Unavailable(problem, outcome="not_applied")


def _unanswered(address: str, error: Exception) -> DrumbeatError:
    if isinstance(error, exceptions.InvalidResponse | ValueError):
        return BackendError(f"{address} broke Redis' protocol in an answer")
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        return Unavailable(f"{address} did not answer in time")
    return Unavailable(f"{address} ended the connection before its answer")


def _tls_error(address: str, error: ssl.SSLError) -> DrumbeatError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return ConfigurationError(
            f"the certificate of {address} is not to be trusted: {error.verify_message}; name its authority with "
            "tls_ca_file"
        )
    reason = error.reason or "unknown reason"
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        return AuthenticationError(
            f"{address} wants another client certificate ({reason}); name it with tls_certificate and tls_key"
        )
    return ConfigurationError(
        f"no TLS with {address} ({reason}); is it a plain port? Then write redis:// and leave the tls_ options out"
    )
