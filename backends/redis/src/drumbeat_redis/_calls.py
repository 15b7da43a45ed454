"""Connections to the server that has the namespace, and the script's operations on them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from drumbeat import AuthenticationError, BackendError, ConfigurationError, SessionLost, Unavailable
from drumbeat_redis._script import Answer
from drumbeat_redis._translate import WrongServer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from drumbeat_redis._info import ServerInfo
    from drumbeat_redis._link import Link, Word
    from drumbeat_redis._route import Route
    from drumbeat_redis._script import Script


class Calls:
    """A few connections, as many as there are calls at one time; each call has one for itself.

    Takes no lock: a forked child must be able to let go of it whatever the parent's threads were doing.
    """

    def __init__(self, route: Route, script: Script, key: str) -> None:
        self._route = route
        self._script = script
        self._key = key
        self._idle: deque[Link] = deque()
        self._closed = False
        self._info: ServerInfo | None = None

    def run(
        self,
        operation: str,
        arguments: Sequence[Word],
        *,
        deadline: float,
        replicas: int = 0,
    ) -> Answer:
        """Run one operation of the script and return its answer.

        With `replicas` it is Unavailable unless so many have acknowledged what it did. A server that says that it is
        not the right one has done nothing, so the right one is asked at once, in the same attempt.
        """
        try:
            return self._run(operation, arguments, deadline=deadline, replicas=replicas)
        except WrongServer:
            return self._run(operation, arguments, deadline=deadline, replicas=replicas)

    def close(self) -> None:
        """End every connection, those in use once their calls have ended."""
        self._closed = True
        self._discard(lambda link: link.close())

    def abandon(self) -> None:
        """Let go of a forked child's copies."""
        self._closed = True
        self._discard(lambda link: link.abandon())

    def learn(self, deadline: float) -> ServerInfo:
        """Return what the server said of itself when it was last connected to."""
        if self._info is None:
            self._give_back(self._connect(deadline))
        if self._info is None:
            raise Unavailable("the server said nothing of itself", outcome="not_applied")
        return self._info

    def _run(self, operation: str, arguments: Sequence[Word], *, deadline: float, replicas: int) -> Answer:
        link = self._take(deadline)
        try:
            words = (self._key, operation, *arguments)
            answers = link.evaluate(self._script, words, replicas=replicas, deadline=deadline)
            answer = Answer.read(link, answers[0])
        except SessionLost:
            self._give_back(link)
            raise
        except BaseException:
            link.close()
            # What happened to one connection has probably happened to all.
            self._discard(lambda link: link.close())
            raise
        self._give_back(link)
        acknowledged = answers[1] if replicas else 0
        if not isinstance(acknowledged, int) or acknowledged < replicas:
            raise Unavailable(
                f"{link.address} did it, but only {acknowledged!r} of the {replicas} replicas that min_replicas asks "
                "for have it"
            )
        return answer

    def _take(self, deadline: float) -> Link:
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:
                break
            if link.is_idle():
                return link
            link.close()
        return self._connect(deadline)

    def _connect(self, deadline: float) -> Link:
        if self._closed:
            raise SessionLost("was let go by this process")
        try:
            link, self._info = self._route.connect(deadline)
        except (AuthenticationError, Unavailable):
            raise
        except (ConfigurationError, BackendError) as error:
            # It was the right server when the session was opened, so it may be again.
            raise Unavailable(str(error), outcome="not_applied") from error
        return link

    def _give_back(self, link: Link) -> None:
        self._idle.append(link)
        if self._closed:
            self.close()

    def _discard(self, let_go: Callable[[Link], None]) -> None:
        while self._idle:
            try:
                let_go(self._idle.pop())
            except IndexError:
                return
