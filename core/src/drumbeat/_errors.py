"""Every error that Drumbeat raises.

DrumbeatError
├── ConfigurationError (ValueError)   what was asked for can never work as written
├── NotSupported                      this backend does not offer the operation
├── BackendError                      the backend or its server did something outside the contract
│   ├── Unavailable                   no usable answer in time; `outcome` says what is known
│   ├── AuthenticationError           the server refused who we are; never retried
│   └── BadData                       the store holds something that Drumbeat did not write, or a newer format
├── Conflict                          another live session has this member id
├── SessionLost                       the server no longer knows this session
├── TermLost                          the term is over; another process may lead
├── Timeout (TimeoutError)            the time the caller allowed ran out
├── CampaignWithdrawn                 the campaign was given up by `Election.withdraw()`
├── Closed                            the session was closed
└── Forked                            the session belongs to the parent process
"""

from __future__ import annotations

from functools import partial
from typing import Literal

#: What is known of a request that failed: it certainly did nothing, or it may have been applied.
Outcome = Literal["not_applied", "unknown"]


class DrumbeatError(Exception):
    """The base of every error that Drumbeat raises on purpose."""


class ConfigurationError(DrumbeatError, ValueError):
    """What was asked for can never work as written; nothing was sent to a server."""


class NotSupported(DrumbeatError):
    """The backend does not offer this operation; `drumbeat backends` lists what each one claims."""


class BackendError(DrumbeatError):
    """The backend or its server did something outside the contract; what was applied is unknown."""


class Unavailable(BackendError):
    """No usable answer came in time.

    `outcome` is `"not_applied"` when the request certainly changed nothing, and `"unknown"` when the
    server may have applied it and only the answer is missing. Every Drumbeat call may be repeated.
    """

    def __init__(self, message: str, *, outcome: Outcome = "unknown") -> None:
        super().__init__(message)
        self.outcome: Outcome = outcome

    def __str__(self) -> str:
        known = "nothing was changed" if self.outcome == "not_applied" else "it may have been applied"
        return f"{self.args[0]} ({known}; the call may be repeated)"


class AuthenticationError(BackendError):
    """The server refused the credentials; Drumbeat does not try again until they are mended."""


class BadData(BackendError):
    """The store holds something under `key` that this version of Drumbeat cannot read.

    Nothing was overwritten. Either another program uses the key, or a newer Drumbeat wrote it.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key = key
        self.problem = problem

    def __str__(self) -> str:
        return (
            f"{self.key}: {self.problem}. Nothing was overwritten; look at what wrote it, "
            "or point Drumbeat at another place or namespace"
        )


class Conflict(DrumbeatError):
    """Another live session has this member id; it was left as it is.

    `retry_after` is the number of seconds until that session lapses if it stops beating, where known.
    """

    def __init__(self, member_id: str, *, incarnation: str, retry_after: float | None = None) -> None:
        super().__init__(member_id, incarnation)
        self.member_id = member_id
        self.incarnation = incarnation
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return partial(type(self), incarnation=self.incarnation, retry_after=self.retry_after), (self.member_id,)

    def __str__(self) -> str:
        return (
            f"member id {self.member_id!r} is held by the live session {self.incarnation}; "
            "choose another id, wait for that session to end, or connect with on_conflict='replace'"
        )


class SessionLost(DrumbeatError):
    """The server no longer knows this session: its memberships and terms are gone.

    Drumbeat reopens the session and rejoins its groups by itself; terms and locks never come back.
    """


class TermLost(DrumbeatError):
    """The term is over: another process may hold the seat by now. Stop the work that it protected."""


class Timeout(DrumbeatError, TimeoutError):
    """The time that the caller allowed ran out; the attempt was withdrawn and will not win later."""


class CampaignWithdrawn(DrumbeatError):
    """The campaign was given up by `Election.withdraw()`; its attempt will not win later."""


class Closed(DrumbeatError):
    """The session was closed, so it can do nothing more; connect again."""


class Forked(DrumbeatError):
    """The session belongs to the parent process; a forked child holds nothing and must connect itself."""


class DrumbeatWarning(UserWarning):
    """Something works, but not as most users would want it; the text says what to set."""
