"""The one place where kazoo's errors become errors of Drumbeat."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from kazoo.exceptions import SessionExpiredError  # type: ignore[import-untyped]

from drumbeat import AuthenticationError, BackendError, DrumbeatError, SessionLost, Unavailable
from drumbeat_zookeeper._wire import ClientError, Refusal, as_refusal

if TYPE_CHECKING:
    from drumbeat_zookeeper._wire import Answer

# By number, since older kazoos do not name all of them:
# https://zookeeper.apache.org/doc/r3.8.0/apidocs/zookeeper-server/org/apache/zookeeper/KeeperException.Code.html
#: No right, an access list that names nobody, wrong credentials, a server that wants SASL.
_REFUSED: Final = frozenset({-102, -114, -115, -124})
#: A server in read-only mode, a quota, throttling.
_NOT_APPLIED: Final = frozenset({-119, -125, -127})
#: A connection lost, time out twice over, a session that has moved.
_UNANSWERED: Final = frozenset({-4, -7, -122, -118})


def translated(shown: str, answer: Answer, timeout: float) -> object:
    """Return an answer of kazoo with refusals in place of errors, or raise the error of Drumbeat that it stands for.

    Nothing of what kazoo says is passed on but the name of the error, since it may repeat a request.
    """
    try:
        given = answer.get(timeout=timeout)
    except ClientError as error:
        return _judge(shown, error)
    if isinstance(given, list):
        return [_judge(shown, part) if isinstance(part, Exception) else part for part in given]
    return given


def _judge(shown: str, error: Exception) -> Refusal:
    refusal = as_refusal(error)
    if refusal is None:
        raise _translate(shown, error) from error
    return refusal


def _translate(shown: str, error: Exception) -> DrumbeatError:
    name = type(error).__name__
    code = getattr(error, "code", None)
    if isinstance(error, RuntimeError | struct.error):
        return BackendError(f"{shown}: the answer makes no sense; is this ZooKeeper? What was applied is unknown")
    if code is None or code in _UNANSWERED:
        return Unavailable(f"{shown}: no answer in time, or the connection was lost ({name})")
    if code in _REFUSED:
        return AuthenticationError(
            f"{shown}: the server refused us ({name}). Look at the user and password, at the option auth, "
            "and at the ACLs of the nodes"
        )
    if isinstance(error, SessionExpiredError):
        return SessionLost(f"{shown}: the server has ended the ZooKeeper session")
    if code in _NOT_APPLIED:
        return Unavailable(f"{shown}: the server did not do it ({name})", outcome="not_applied")
    return BackendError(f"{shown}: the server answered {name}, which it should not; what was applied is unknown")
