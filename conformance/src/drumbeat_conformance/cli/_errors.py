"""What ends the command without a verdict on the backend, or without having told it everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, final

from drumbeat import ConfigurationError, DrumbeatError, Unavailable
from drumbeat.cli._report import BY_SIGNAL, CannotRun, exit_status
from drumbeat_conformance._steps import Blind, Hangs, StepFailed
from drumbeat_conformance.servers import CouldNotRun, ServerFailed

__all__ = ["BY_SIGNAL", "NOT_TOLD", "NO_ANSWER", "UNEXPECTED", "NoVerdict", "NotTold", "plain"]

#: As sysexits.h calls it EX_UNAVAILABLE, EX_SOFTWARE and EX_IOERR.
NO_ANSWER: Final = 69
UNEXPECTED: Final = 70
NOT_TOLD: Final = 74


@final
class NoVerdict(CannotRun):
    """The run did not come to its end: what happened, then what is known and what is not."""

    def __init__(self, what: str, known: Iterable[str], *, status: int) -> None:
        super().__init__("; ".join([what, *known]), status=status)


@final
class NotTold(CannotRun):
    """The run came to its end, but its outcome could not be printed or written everywhere."""

    def __init__(self, problems: Iterable[str], verdict: str, *, status: int) -> None:
        super().__init__(f"{'; '.join(problems)}; the run itself was over: {verdict}", status=status)


def plain(error: BaseException) -> BaseException:
    """Return an error as the command line tells it: in a line, and with the status of what brought it about."""
    if isinstance(error, StepFailed):
        status = _status(error.__cause__)
        return NoVerdict(f"the run could not begin: {error}", ["nothing was tested"], status=status)
    if isinstance(error, Blind):
        return NoVerdict(str(error), ["nothing that came out counts"], status=UNEXPECTED)
    if isinstance(error, CouldNotRun):
        return ConfigurationError(str(error))
    if isinstance(error, ServerFailed):
        return Unavailable(str(error), outcome="not_applied")
    return error


def _status(cause: BaseException | None) -> int:
    if isinstance(cause, DrumbeatError):
        return exit_status(cause)
    return NO_ANSWER if isinstance(cause, ServerFailed | Hangs) else UNEXPECTED
