"""Conducting a soak: a crew at work, one fault after another, and the checker beside."""

from __future__ import annotations

import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final, NoReturn, final

from drumbeat import ConfigurationError, Unavailable
from drumbeat.hookspecs import BackendProfile, Capability
from drumbeat_conformance.arena import Arena
from drumbeat_conformance.proxy import Proxy
from drumbeat_conformance.soak._crew import Ground, Worker
from drumbeat_conformance.soak._folder import Folder, histories
from drumbeat_conformance.soak._plagues import Plague, Scene, plagues
from drumbeat_conformance.soak._progress import Progress
from drumbeat_conformance.soak._report import SoakReport, judge
from drumbeat_conformance.soak._watchman import Watchman
from drumbeat_conformance.target import Site

if TYPE_CHECKING:
    from types import FrameType

    from drumbeat_conformance.target import Target

#: How often a second fault comes with the first.
_TOGETHER: Final = 0.25
#: How many processes may end by themselves before there is no point in going on.
_ENOUGH: Final = 10
#: TTLs in which a process must end in good order.
_END: Final = 30
#: Seconds between two looks at everything, and between two at whether the server takes connections.
_LOOK: Final = 0.1
_CALL: Final = 1.0


def soak(
    target: Target,
    seconds: float,
    *,
    seed: int = 0,
    processes: int = 4,
    say: Callable[[str], None] = print,
) -> SoakReport:
    """Run a group of processes under random faults for so many seconds, with the checker on; return what came of it.

    Each process watches the group, campaigns for a seat and increments a counter under a lock, on a store or namespace
    of its own. They are killed and stopped; where a server stands behind the target, the link of each is disturbed, and
    a server that the target starts is paused and restarted. The faults are followed by a time of rest, in which all
    views must agree. `say` is given the lines to print, those of the report last; on a terminal a changing line stands
    below them. The first SIGINT ends the faults early; SIGTERM, SIGHUP and the second SIGINT end it at once, without a
    judgement. However it ends, its processes are ended, and its histories are kept if anything looked violated.

    Raises ConfigurationError for a store that only one process reaches, or fewer than two processes; Unavailable if the
    server ends for good: then nothing is known of what was not yet judged.
    """
    if target.in_process or target.fake_time:
        raise ConfigurationError(f"a soak runs several processes, but a {target.scheme} store is reached by one alone")
    if processes < 2:  # noqa: PLR2004 - one is no group
        raise ConfigurationError(f"a soak needs at least 2 processes, not {processes}")
    progress = Progress(say)
    with _interruptible() as interrupted, histories(progress.say) as folder, ExitStack() as stack:
        conductor = _Conductor(target, stack, folder, seed=seed, processes=processes, progress=progress)
        report = conductor.run(seconds, interrupted)
    for line in report.lines():
        say(line)
    return report


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Give an event that the first SIGINT sets, in the main thread; what ends the process goes by every `with` block.

    Once the way out has begun, SIGTERM and SIGHUP do not begin it again.
    """
    interrupted, ending = threading.Event(), threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    def end(number: int, _frame: FrameType | None) -> None:
        if not ending.is_set():
            ending.set()
            sys.exit(128 + number)

    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: interrupt,
        signal.SIGTERM: end,
        signal.SIGHUP: end,
    }
    before = {number: signal.getsignal(number) for number in handlers}
    for number, begun in handlers.items():
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, begun)
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@final
class _Conductor:
    """One soak."""

    def __init__(
        self, target: Target, stack: ExitStack, folder: Folder, *, seed: int, processes: int, progress: Progress
    ) -> None:
        self._target = target
        self._seed = seed
        self._progress = progress
        self._draw = random.Random(seed)  # noqa: S311 - repeatable, nothing secret
        self._faults: Counter[str] = Counter()
        self._problems: list[str] = []
        site = _site(target, stack)
        self._address = site.address if target.serves(site) else None
        #: Since when the server has taken no connection, and when to look again.
        self._silent_since: float | None = None
        self._next_call = 0.0
        self._profile = _profile(target, site)
        self._grace = _grace(self._profile, target.ttl)
        self._folder = folder
        self._watchman = Watchman(folder.path, grace=self._grace)
        stack.callback(self._watchman.end)
        workers = [self._hire(number, site, stack) for number in range(processes)]
        self._scene = Scene(
            workers=workers,
            server=site.server,
            restarts=Capability.PERSISTENT in self._profile.capabilities,
            ttl=target.ttl,
            draw=self._draw,
        )

    def run(self, seconds: float, interrupted: threading.Event) -> SoakReport:
        """Make faults for so long, let all come to rest, and judge."""
        started = time.monotonic()
        try:
            self._plague(started, seconds, interrupted)
        except Exception as error:
            # A fault of a server that is dead fails in many ways.
            if self._takes_calls():
                raise
            self._give_up(error)
        lasted = time.monotonic() - started
        self._progress.say(f"{lasted:.0f} s of faults are over; {self._grace:.0f} s of rest, in which views must agree")
        self._rest(self._grace + self._target.ttl)
        ends = [worker.finish(within=_END * self._target.ttl) for worker in self._scene.workers]
        self._problems += [problem for problem in ends if problem is not None]
        return self._report(lasted, interrupted=interrupted.is_set())

    def _report(self, lasted: float, *, interrupted: bool) -> SoakReport:
        figures, violations = judge(self._folder.path, grace=self._grace)
        violations += self._problems
        self._folder.suspicions = violations
        return SoakReport(
            target=self._target.scheme,
            server=self._profile.server,
            seed=self._seed,
            processes=len(self._scene.workers),
            seconds=round(lasted, 3),
            interrupted=interrupted,
            faults=dict(self._faults),
            figures=figures,
            violations=tuple(violations),
            histories=str(self._folder.path) if violations else None,
        )

    def _hire(self, number: int, site: Site, stack: ExitStack) -> Worker:
        url, link = site.url, None
        if self._address is not None:
            link = stack.enter_context(Proxy(*self._address))
            url = url.replace("{}:{}".format(*self._address), link.address)
        ground = Ground(url=url, namespace=self._namespace, ttl=self._target.ttl, folder=self._folder.path)
        worker = Worker(number, ground, link=link, draw=self._draw)
        stack.callback(worker.end)
        return worker

    @property
    def _namespace(self) -> str:
        # The folder's name is one that nobody has used.
        return self._folder.path.name

    def _plague(self, started: float, seconds: float, interrupted: threading.Event) -> None:
        bag: list[Plague] = []
        while not interrupted.is_set() and time.monotonic() - started < seconds and len(self._problems) < _ENOUGH:
            self._pass(self._draw.uniform(0.3, 1.5) * self._target.ttl, started, seconds, interrupted)
            self._call_server()
            if not bag:
                # Each comes once before any comes again.
                bag = plagues(self._scene)
                self._draw.shuffle(bag)
            chosen = [bag.pop()]
            if bag and self._draw.random() < _TOGETHER and bag[-1].name.split()[0] != chosen[0].name.split()[0]:
                chosen.append(bag.pop())
            with ExitStack() as stack:
                for plague in chosen:
                    self._faults[plague.name] += 1
                    stack.enter_context(plague.strike(self._scene))
                longest = max(self._draw.uniform(one.shortest, one.longest) for one in chosen)
                self._pass(longest * self._target.ttl, started, seconds, interrupted)

    def _pass(self, pause: float, started: float, seconds: float, interrupted: threading.Event) -> None:
        """Let time pass, and tell how it goes."""
        until = min(time.monotonic() + pause, started + seconds)
        while time.monotonic() < until and not interrupted.wait(min(_LOOK, max(0.0, until - time.monotonic()))):
            self._look()
            self._progress.show(self._state(time.monotonic() - started, seconds))

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._look()
            self._call_server()
            time.sleep(_LOOK)

    def _call_server(self) -> None:
        """Give up if the server has taken no connection for too long; called while nothing disturbs it."""
        now = time.monotonic()
        if now < self._next_call:
            return
        self._next_call = now + _CALL
        if self._takes_calls():
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > self._grace:
            self._give_up(None)

    def _takes_calls(self) -> bool:
        if self._address is None:
            return True
        try:
            with socket.create_connection(self._address, timeout=_CALL):
                return True
        except OSError:
            return False

    def _give_up(self, cause: Exception | None) -> NoReturn:
        where = "{}:{}".format(*self._address) if self._address else self._target.scheme
        raise Unavailable(
            f"the server at {where} has ended, or takes no connection though nothing disturbs it, so the soak ends: "
            "what happened since the last judgement is not known; see why it ended, start it, and soak again",
            outcome="not_applied",
        ) from cause

    def _look(self) -> None:
        for worker in self._scene.workers:
            problem = worker.problem()
            if problem is not None:
                self._problems.append(problem)
                self._folder.suspicions.append(problem)
                self._progress.say(f"VIOLATED: {problem}")
                worker.restart()
        self._watchman.look()
        for news in self._watchman.news:
            self._folder.suspicions.append(news)
            self._progress.say(f"suspected, not yet judged: {news}")
        self._watchman.news.clear()

    def _state(self, passed: float, seconds: float) -> str:
        figures = self._watchman.figures
        judged = "nothing judged yet"
        if figures is not None:
            judged = f"{figures.terms} terms, {figures.operations} operations, {figures.increments} increments"
        faults = sum(self._faults.values())
        return f"{passed:5.0f} of {seconds:.0f} s: {faults} faults, {judged}{self._trouble()}"

    def _trouble(self) -> str:
        """Return what is certain, and what the end will show: of the last moments lines may be missing."""
        suspected = len(self._folder.suspicions) - len(self._problems)
        certain = f", {len(self._problems)} violations" if self._problems else ""
        return certain + (f", {suspected} suspected and not yet judged" if suspected else "")


def _site(target: Target, stack: ExitStack) -> Site:
    """Return a place, with its server if the target starts them."""
    if target.own is None:
        return stack.enter_context(target.calm())
    server = stack.enter_context(target.own())
    return Site(server.url, server)


def _profile(target: Target, site: Site) -> BackendProfile:
    with Arena(target, site) as arena:
        return arena.profile


def _grace(profile: BackendProfile, ttl: float) -> float:
    """Return how long a change may take to be seen by all, and a dead session to be gone, on a busy machine."""
    bounds = (profile.failover.seconds(ttl), profile.eviction.seconds(ttl))
    return max(bounds) + 2 * ttl + 2 * profile.limits.poll_interval
