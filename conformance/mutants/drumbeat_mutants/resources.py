"""Leaks: leases that are never dropped, watches that are never cancelled, threads and descriptors that stay."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from drumbeat._clock import Signal
from drumbeat._errors import DrumbeatError
from drumbeat._keeper import Keeper
from drumbeat._streams import Subscription
from drumbeat.hookspecs import GroupRecord, Lease, SessionClosed, SessionRequest
from drumbeat.local._backend import LocalBackend
from drumbeat.memory import MemoryBackend
from drumbeat_mutants import Patch, mutant

if TYPE_CHECKING:
    from drumbeat.hookspecs import Cancel


@mutant("never-drops", breaks="RES-1")
def never_drops(patch: Patch) -> None:
    """A lease that is over is closed, and never dropped."""

    def release(self: Keeper, lease: Lease, *, timeout: float) -> None:
        with suppress(DrumbeatError):
            self.backend.close_session(lease, timeout=timeout)

    patch(Keeper, "_release", release)


@mutant("drops-only-what-was-closed", breaks="RES-1")
def drops_only_what_was_closed(patch: Patch) -> None:
    """A lease is dropped only when its close has reached the server."""

    def release(self: Keeper, lease: Lease, *, timeout: float) -> None:
        with suppress(DrumbeatError):
            self.backend.close_session(lease, timeout=timeout)
            self.backend.drop_session(lease)

    patch(Keeper, "_release", release)


@mutant("never-cancels-watches", breaks="RES-2")
def never_cancels_watches(patch: Patch) -> None:
    """A stream or campaign that ends forgets its watch, and does not cancel it at the backend."""

    def cancel(self: Subscription) -> None:
        if self._abandoned is not None:
            self._abandoned.detach()
        self._cancel = self._incarnation = self._subject = None

    patch(Subscription, "cancel", cancel)


def _leak_a_thread(backend: MemoryBackend) -> None:
    # It waits on the store's clock, which would wait for it otherwise before each step.
    threading.Thread(target=Signal(backend._store.clock).wait, daemon=True).start()


@mutant("leaks-a-descriptor-per-read", breaks="RES-3")
def leaks_a_descriptor_per_read(patch: Patch) -> None:
    """Each read of a group leaves a file open."""

    def read_group(original: Callable[..., GroupRecord], self: MemoryBackend, group: str) -> GroupRecord:
        os.open(os.devnull, os.O_RDONLY)
        return original(self, group)

    patch.wrap(MemoryBackend, "read_group", read_group)


@mutant("leaks-a-thread-per-session", breaks="RES-4")
def leaks_a_thread_per_session(patch: Patch) -> None:
    """Each opening starts a thread that neither close nor drop ends."""

    def open_session(original: Callable[..., Lease], self: MemoryBackend, request: SessionRequest) -> Lease:
        lease = original(self, request)
        _leak_a_thread(self)
        return lease

    patch.wrap(MemoryBackend, "open_session", open_session)


@mutant("leaks-a-thread-per-watch", breaks="RES-3")
def leaks_a_thread_per_watch(patch: Patch) -> None:
    """Each watch has a thread and a pipe, which cancelling does not end."""

    def watch(original: Callable[..., Cancel], self: MemoryBackend, *arguments: object) -> Cancel:
        _leak_a_thread(self)
        os.pipe()
        return original(self, *arguments)

    patch.wrap(MemoryBackend, "watch", watch)


@mutant("drop-sends-close", breaks="RES-5")
def drop_sends_close(patch: Patch) -> None:
    """Dropping a session closes it at the server."""

    def drop_session(
        original: Callable[..., SessionClosed], self: MemoryBackend, lease: Lease, forked: bool
    ) -> SessionClosed:
        dropped = original(self, lease, forked)
        if not forked:
            with self._store.call(self._namespace) as space:
                space.end(lease.incarnation)
        return dropped

    patch.wrap(MemoryBackend, "drop_session", drop_session)


@mutant("drop-deletes-its-rows", breaks="LOCAL-9", of="local")
def drop_deletes_its_rows(patch: Patch) -> None:
    """Dropping a session closes it first, which writes to the file, and may have to wait for others who do."""

    def drop_session(
        original: Callable[..., SessionClosed], self: LocalBackend, lease: Lease, forked: bool
    ) -> SessionClosed:
        if not forked:
            with suppress(DrumbeatError):
                self.close_session(lease, timeout=1.0)
        return SessionClosed(was_open=original(self, lease, forked).was_open or not forked)

    patch.wrap(LocalBackend, "drop_session", drop_session)
