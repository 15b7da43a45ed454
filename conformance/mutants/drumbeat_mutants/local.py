"""The remedies of the local backend against what files and kernel locks do, each taken away."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import replace

from drumbeat import DrumbeatError, Unavailable
from drumbeat.hookspecs import Beat
from drumbeat.local import LocalBackend, _kernel, _sql, _store, _translate
from drumbeat.local._call import Call
from drumbeat.local._opened import Opened
from drumbeat_mutants import Patch, mutant

#: A bound method, before it was broken.
Original = Callable[..., object]


@mutant("does-not-ask-who-lives", breaks="LOCAL-1", of="local", like="hazard: the file is deleted")
def does_not_ask_who_lives(patch: Patch) -> None:
    """A new file grants at once, without a look at the locks of those who have the old one open."""
    patch(Opened, "quiet_for", lambda self, call: None)  # noqa: ARG005 - the real signature


@mutant("goes-on-in-a-deleted-file", breaks="LOCAL-2", of="local", like="hazard: the file is deleted")
def goes_on_in_a_deleted_file(patch: Patch) -> None:
    """A session does not look whether the path still names the file that it has open."""
    patch(_store.Store, "is_current", lambda self: True)  # noqa: ARG005 - the real signature


@mutant("reads-any-format", breaks="LOCAL-3", of="local", like="hazard: not a Drumbeat file")
def reads_any_format(patch: Patch) -> None:
    """A file of a newer format is used as if it were of this one."""
    patch(_store, "_check_format", lambda connection, path: None)  # noqa: ARG005 - the real signature


@mutant("tries-for-ever", breaks="LOCAL-4", of="local", like="hazard: the file is unreadable")
def tries_for_ever(patch: Patch) -> None:
    """A place that can never be written counts as one that cannot be reached now."""

    def refused(path: object, reason: str, *, opening: bool) -> DrumbeatError:
        return Unavailable(f"{path} cannot be used: {reason}", outcome="not_applied")

    patch(_translate, "refused", refused)


@mutant("waits-for-deadlines", breaks="LOCAL-5", of="local")
def waits_for_deadlines(patch: Patch) -> None:
    """A session counts as alive until its deadline, although the lock of its process is free."""
    patch(Call, "unlocked", lambda self, peer: False)  # noqa: ARG005 - the real signature


@mutant("locks-as-posix-does", breaks="LOCAL-6", of="local", like="hazard: a file lock dies when any descriptor closes")
def locks_as_posix_does(patch: Patch) -> None:
    """The lock of a session is one that falls when its process closes any descriptor of the file."""

    def take(self: _kernel.LockFile, start: int) -> bool:
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETLK, _kernel._FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0))
        except BlockingIOError:
            return False
        return True

    patch(_kernel.LockFile, "take", take)


@mutant(
    "renews-and-looks-at-nothing", breaks="LOCAL-7", of="local", like="hazard: renewed for ever while one seat is gone"
)
def renews_and_looks_at_nothing(patch: Patch) -> None:
    """A heartbeat renews the session and does not say what the file no longer holds for it."""

    def heartbeat(original: Callable[..., Beat], self: LocalBackend, *arguments: object) -> Beat:
        return replace(original(self, *arguments), lost=())

    patch.wrap(LocalBackend, "heartbeat", heartbeat)


@mutant("compares-deadlines-over-boots", breaks="LOCAL-8", of="local", like="hazard: reboot resets boottime")
def compares_deadlines_over_boots(patch: Patch) -> None:
    """A deadline counts by whatever clock the host has now, though the one that it was written by began at a boot."""
    for name, text in list(vars(_sql).items()):
        if isinstance(text, str) and "boot" in text and name.isupper() and name != "SCHEMA":
            for condition in (" AND s.boot = :boot", " AND me.boot = :boot", "boot <> :boot OR ", " OR boot <> :boot"):
                text = text.replace(condition, "")  # noqa: PLW2901 - one condition after the other
            patch(_sql, name, text)

    def dead(self: Call, peer: object) -> bool:
        overdue = peer["deadline"] <= self.clock.now()  # type: ignore[index]
        return overdue or self.unlocked(peer)  # type: ignore[arg-type]

    patch(Call, "dead", dead)
