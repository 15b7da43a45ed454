"""Push: one connection that subscribes to what is watched, and one thread that reads it."""

from __future__ import annotations

import select
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

from drumbeat import AuthenticationError, DrumbeatError, SessionLost, Unavailable

if TYPE_CHECKING:
    from drumbeat.hookspecs import Cancel, Notify
    from drumbeat_redis._link import Link, Reply
    from drumbeat_redis._route import Route

#: Seconds before a connection that failed is made again; it doubles up to the second.
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0


class Hints:
    """The subscriptions of one session.

    What was published while the connection was down is gone, so everybody is hinted once it stands again. One that
    does not even answer a ping is made anew.
    """

    def __init__(self, route: Route, *, name: str, ping_interval: float) -> None:
        self._route = route
        self._interval = ping_interval
        self._numbers = count()
        self._watches: dict[str, dict[int, Notify]] = {}
        #: Channels that the server was asked for, has confirmed, and those of a connection that has ended.
        self._asked: set[str] = set()
        self._subscribed: set[str] = set()
        self._missed: set[str] = set()
        self._failure: DrumbeatError | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._link: Link | None = None
        self._awake, self._waker = socket.socketpair()
        self._awake.settimeout(0)
        self._waker.settimeout(0)
        threading.Thread(target=self._run, name=f"drumbeat-redis-{name}", daemon=True).start()

    def watch(self, channel: str, notify: Notify, *, deadline: float) -> Cancel:
        """Call `notify` after every message from now on; raise Unavailable if the server does not confirm it."""
        number = next(self._numbers)
        with self._changed:
            self._failure = None
            self._watches.setdefault(channel, {})[number] = notify
            self._wake()
            self._changed.wait_for(lambda: self._is_settled(channel), deadline - time.monotonic())
            if channel in self._subscribed:
                return partial(self._cancel, channel, number)
            failure = self._failure
        self._cancel(channel, number)
        if self._closed:
            raise SessionLost("was let go by this process")
        if isinstance(failure, AuthenticationError):
            raise failure
        raise Unavailable("the subscription was not confirmed in time", outcome="not_applied") from failure

    def close(self) -> None:
        """End every watch and the thread, without waiting for it."""
        with self._changed:
            self._closed = True
            self._watches.clear()
            self._changed.notify_all()
        self._wake()

    def abandon(self) -> None:
        """Close a forked child's copies; the thread exists in the parent only."""
        self._awake.close()
        self._waker.close()
        if self._link is not None:
            self._link.abandon()

    def _is_settled(self, channel: str) -> bool:
        return channel in self._subscribed or self._closed or isinstance(self._failure, AuthenticationError)

    def _cancel(self, channel: str, number: int) -> None:
        with self._changed:
            watches = self._watches.get(channel, {})
            watches.pop(number, None)
            if not watches:
                self._watches.pop(channel, None)
        self._wake()

    def _wake(self) -> None:
        # If the pipe is full, the thread is about to wake anyway; if it is closed, the thread is gone.
        with suppress(OSError):
            self._waker.send(b"!")

    def _run(self) -> None:
        pause = FIRST_PAUSE
        while not self._closed:
            if not self._watches:
                self._sleep(None)
                continue
            try:
                self._link, _ = self._route.connect(time.monotonic() + max(1.0, self._interval))
                pause = FIRST_PAUSE
                self._serve(self._link)
            except DrumbeatError as error:
                with self._changed:
                    self._failure = error
                    self._changed.notify_all()
                self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            finally:
                self._disconnected()
        self._awake.close()
        self._waker.close()

    def _disconnected(self) -> None:
        with self._changed:
            self._missed |= self._subscribed
            self._subscribed.clear()
            self._asked.clear()
        if self._link is not None:
            self._link.close()

    def _sleep(self, seconds: float | None) -> None:
        """Sleep until something is to be done, at most so long."""
        poll = select.poll()  # select() cannot take descriptors from 1024 on
        poll.register(self._awake, select.POLLIN)
        poll.poll(None if seconds is None else seconds * 1000)
        self._drain()

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while self._awake.recv(4096):
                pass

    def _serve(self, link: Link) -> None:
        """Keep the subscriptions of a connection as they are wanted, and pass on what comes, until it fails."""
        poll = select.poll()
        poll.register(link.fileno(), select.POLLIN)
        poll.register(self._awake, select.POLLIN)
        heard, pinged = time.monotonic(), False
        while not self._closed:
            self._subscribe(link)
            poll.poll(max(0.0, heard + self._interval - time.monotonic()) * 1000)
            self._drain()
            while (message := link.receive(deadline=time.monotonic() + self._interval)) is not None:
                heard, pinged = time.monotonic(), False
                self._take(message)
            if time.monotonic() >= heard + self._interval:
                if pinged:
                    raise Unavailable(f"{link.address} did not answer a ping", outcome="not_applied")
                link.send(("PING",), deadline=time.monotonic() + self._interval)
                heard, pinged = time.monotonic(), True

    def _subscribe(self, link: Link) -> None:
        with self._changed:
            new = self._watches.keys() - self._asked - self._subscribed
            # One that is not confirmed yet stays: its confirmation must not be taken for that of a later one.
            old = self._subscribed - self._watches.keys()
            self._asked |= new
            self._subscribed -= old
        commands = [("SUBSCRIBE", channel) for channel in new] + [("UNSUBSCRIBE", channel) for channel in old]
        if commands:
            link.send(*commands, deadline=time.monotonic() + self._interval)

    def _take(self, message: Reply) -> None:
        if not isinstance(message, list) or not isinstance(message[1], bytes):
            return
        channel = message[1].decode()
        with self._changed:
            confirmed = message[0] == b"subscribe"
            if confirmed:
                self._asked.discard(channel)
                self._subscribed.add(channel)
                self._changed.notify_all()
            told = message[0] == b"message" or (confirmed and channel in self._missed)
            self._missed.discard(channel)
            watches = list(self._watches.get(channel, {}).values()) if told else []
        for notify in watches:
            notify()
