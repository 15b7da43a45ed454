"""Secrets that show, rubbish that is written over, and strangers who make calls hang."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from drumbeat._cas.call import Snapshot
from drumbeat._cas.records import SeatRecord
from drumbeat._errors import BackendError, DrumbeatError
from drumbeat._url import BackendURL
from drumbeat_memcached import _connection
from drumbeat_mutants import Patch, mutant
from drumbeat_redis import _link
from drumbeat_redis._link import Link

#: A bound method, before it was broken.
Original = Callable[..., object]
#: Seconds by which a mutant takes longer than it may.
_LONGER = 60.0


@mutant("shows-the-password", breaks="SAFE-1")
def shows_the_password(patch: Patch) -> None:
    """A URL that is shown to people shows its password."""

    def shown(original: Callable[[BackendURL], str], self: BackendURL) -> str:
        return original(self).replace(":***", f":{self.password}")

    patch.wrap(BackendURL, "__str__", shown)


@mutant("quotes-whatever-answers", breaks="SAFE-7", of="memcached")
def quotes_whatever_answers(patch: Patch) -> None:
    """An error quotes all that the other end said, which may be the words of the login."""

    def refused(original: Callable[..., DrumbeatError], target: object, answer: bytes, **options: object) -> object:
        error = original(target, answer, **options)
        return BackendError(f"{error}: {answer!r}")

    patch.wrap(_connection, "refused", refused)


@mutant("takes-rubbish-for-nothing", breaks="SAFE-2", of="memcached", like="hazard: not a Drumbeat file")
def takes_rubbish_for_nothing(patch: Patch) -> None:
    """A record that cannot be read counts as one that is not there, and is written over."""
    patch(Snapshot, "get", Snapshot.legible)


@mutant("waits-for-the-first-word", breaks="SAFE-3", of="redis")
def waits_for_the_first_word(patch: Patch) -> None:
    """What a server is asked when it is connected to has a timeout of its own, whatever is left of the caller's."""

    def ask(original: Original, self: Link, *commands: object, deadline: float) -> object:
        return original(self, *commands, deadline=deadline + _LONGER)

    patch.wrap(Link, "ask", ask)


@mutant("lets-client-errors-through", breaks=("SAFE-4", "SAFE-5"), of="redis", like="peers 9")
def lets_client_errors_through(patch: Patch) -> None:
    """What the client library raises while it connects reaches the user as it is."""

    def introducing(*arguments: object, **options: object) -> AbstractContextManager[None]:
        return nullcontext()

    patch(_link, "introducing", introducing)


@mutant("forgets-the-last-token", breaks="SAFE-6", of="memory-cas", like="hazard: power loss rolls a counter back")
def forgets_the_last_token(patch: Patch) -> None:
    """A seat that is given up forgets its token, so that the next one is what a clock shows."""
    patch.wrap(SeatRecord, "vacated", lambda original, self: replace(original(self), token=0))
