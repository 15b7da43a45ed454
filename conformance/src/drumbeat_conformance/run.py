"""Testing guarantees side by side, each in an arena and a thread of its own, and what came of it."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, final

from drumbeat import AuthenticationError, ConfigurationError, Unavailable
from drumbeat._plugins import load_backend_factory, nearest
from drumbeat.cas import CompareAndSetBackend
from drumbeat_conformance._announce import announced
from drumbeat_conformance._steps import Blind, Hangs, StepFailed, raised_by, step, told
from drumbeat_conformance._where import stack_of, statement_at, statement_of
from drumbeat_conformance.arena import Arena
from drumbeat_conformance.guarantee import Guarantee, Needs, catalogue
from drumbeat_conformance.target import Site, refuse_lease

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from drumbeat.hookspecs import BackendProfile
    from drumbeat_conformance.guarantee import Tier
    from drumbeat_conformance.target import Target

__all__ = ["GuaranteeBroken", "KnownFailure", "Outcome", "Result", "Run"]

#: `left out`: the guarantee is not binding here, or cannot be tested here; the reason says which.
Result = Literal["passed", "failed", "known failure", "unexpected pass", "left out"]

#: How many guarantees are tested at once: they wait more than they compute.
WORKERS: Final[dict[Tier, int]] = {"contract": 6, "faults": 3}
#: Seconds that an interrupted run waits for what is being tested.
_GRACE: Final = 5.0
#: Seconds in which a server must start (an image may have to be pulled), or end.
STARTS_WITHIN: Final = 300.0
ENDS_WITHIN: Final = 60.0
#: Seconds in which a backend must say what it is, and in which a session must open: some times what it is allowed.
BEGINS_WITHIN: Final = 30.0
#: How often a server is asked after a failure before it counts as gone, and the seconds between.
_ASKED: Final = 3
_PAUSE: Final = 0.5
_NEEDS_MORE_THAN_ONE_PROCESS: Final = frozenset({Needs.PROCESSES, Needs.OPERATOR})
_NEEDS_A_SERVER: Final = frozenset({Needs.LINK, Needs.SERVER, Needs.WALL_CLOCK})
_LINK: Final = re.compile(r"https?://\S+")


class GuaranteeBroken(AssertionError):
    """A guarantee does not hold; the message begins with its id, and the cause says how it came out."""


@final
@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A guarantee that is known to fail: why, and where that is followed up. It is strict: a pass is a failure.

    Raises ConfigurationError without a reason, or with a link that is none.
    """

    reason: str
    link: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ConfigurationError("a known failure needs a reason, for whoever reads the report")
        if not _LINK.fullmatch(self.link.strip()):
            raise ConfigurationError(
                f"a known failure needs a link to where it is followed up, like https://..., not {self.link!r}"
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one guarantee."""

    guarantee: Guarantee
    result: Result
    #: Seconds that it took.
    seconds: float = 0.0
    #: Why it was left out, or how it failed.
    reason: str = ""
    error: GuaranteeBroken | None = None
    #: Whether it was left out though it may be binding: what it needs was not given.
    gap: bool = False

    @property
    def ok(self) -> bool:
        """Whether a run with it may be called a success."""
        return self.result not in {"failed", "unexpected pass"}


@final
class Run:
    """The testing of some guarantees on one target, as a context manager: servers live as long as its block.

    Those of the contract tier run side by side, then those of the fault tier, then each that must be alone. `seed`
    decides what guarantees draw by chance; `announce` is called with each guarantee that is about to be tested, and
    `tell` with each outcome as soon as it is known, from the thread that brings it about.

    Raises ConfigurationError without any guarantee, for an unknown id among the known failures, for leases too short
    or too long to count in, and for `python -O`; at the beginning of its block StepFailed where no session can be
    opened at all, and CouldNotRun where no server can be started here; at both ends of it Blind where a check that
    must fail passes.
    """

    def __init__(
        self,
        target: Target,
        guarantees: Sequence[Guarantee],
        *,
        seed: int = 0,
        known_failures: Mapping[str, KnownFailure] | None = None,
        announce: Callable[[Guarantee], None] | None = None,
        tell: Callable[[Outcome], None] | None = None,
    ) -> None:
        refuse_optimised()
        refuse_unknown(known_failures or {}, what="known failure")
        refuse_lease(target)
        if not guarantees:
            raise ConfigurationError("not one guarantee was selected, so nothing would be tested")
        self.target = target
        self.guarantees = tuple(guarantees)
        self.seed = seed
        self._known = dict(known_failures or {})
        self._outcomes: dict[str, Future[Outcome]] = {one.id: Future() for one in guarantees}
        self._announce = announce
        self._tell = tell
        self._stack = ExitStack()
        self._calm: Site | None = None
        self._asking = threading.Lock()
        self.profile: BackendProfile | None = None
        #: Why the rest was not tested: what the server says no more; empty while it answers.
        self.gone = ""

    def outcome(self, id_: str) -> Outcome:
        """Return what came of a guarantee, once it is known."""
        return self._outcomes[id_].result()

    def outcomes(self) -> list[Outcome]:
        """Return what came of all guarantees, in their order, once it is known."""
        return [self.outcome(one.id) for one in self.guarantees]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self.target.factory is not None:
                stack.enter_context(announced(self.target.scheme, self.target.factory))
            place = self.target.calm()
            self._calm = step("starting the server", lambda: stack.enter_context(place), within=STARTS_WITHIN)
            self.profile = step("making the backend and asking it what it is", self._describe, within=BEGINS_WITHIN)
            self._try_session()
            self._refuse_blindness()
            self._stack = stack.pop_all()
        self._conductor = threading.Thread(target=self._conduct, name="drumbeat-run", daemon=True)
        self._conductor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        cut_short = [future for future in self._outcomes.values() if not future.done()]
        for future in cut_short:
            future.cancel()
        # What is still tested when somebody interrupts may hang; it ends with this process.
        self._conductor.join(_GRACE if cut_short else None)
        try:
            if not cut_short:
                self._refuse_blindness()
        finally:
            step("ending the server", self._stack.close, within=ENDS_WITHIN)

    def _describe(self) -> BackendProfile:
        assert self._calm is not None
        with Arena(self.target, self._calm) as arena:
            return arena.profile

    def _open(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(Arena(self.target, self._place(stack))).actor("first").close()

    def _try_session(self) -> None:
        """Refuse what would break every promise though it is nobody's defect: no session can be opened at all."""
        during = f"opening a session with a lease of {self.target.ttl:g} s"
        try:
            step(during, self._open, within=BEGINS_WITHIN)
        except StepFailed as error:
            # What else an open session raises is for the guarantees to tell.
            expected = (AuthenticationError, ConfigurationError, Unavailable, Hangs)
            if isinstance(error.__cause__, expected) or not isinstance(error.__cause__, Exception):
                raise

    def _refuse_blindness(self) -> None:
        if self._test(_CANARY) is None:
            raise Blind

    def _look_for_server(self) -> None:
        """Note that nothing more can be tested if the server does not answer, asked some times."""
        assert self._calm is not None
        if not self.target.serves(self._calm):
            return
        with self._asking:
            error: BaseException | None = None
            for _ in range(0 if self.gone else _ASKED):
                error = raised_by(self._open, within=BEGINS_WITHIN, name="drumbeat-look")
                if not isinstance(error, Unavailable | Hangs):
                    return
                time.sleep(_PAUSE)
            if error is not None:
                self.gone = f"the server no longer answers: {error}"

    def _conduct(self) -> None:
        for tier in ("contract", "faults"):
            together = [one for one in self.guarantees if one.tier == tier and not one.alone]
            self._settle_all(together, workers=1 if self.target.fake_time else WORKERS[tier])
        self._settle_all([one for one in self.guarantees if one.alone], workers=1)

    def _settle_all(self, guarantees: Sequence[Guarantee], *, workers: int) -> None:
        left = deque(guarantees)

        def work() -> None:
            with suppress(IndexError):
                while True:
                    self._settle(left.popleft())

        # Not an executor, whose threads the interpreter waits for as it ends.
        threads = [threading.Thread(target=work, name="drumbeat-run", daemon=True) for _ in range(workers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _settle(self, guarantee: Guarantee) -> None:
        future = self._outcomes[guarantee.id]
        if not future.set_running_or_notify_cancel():
            return
        try:
            outcome = self._judge(guarantee)
            if self._tell is not None:
                self._tell(outcome)
            future.set_result(outcome)
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the outcome
            future.set_exception(error)

    def _judge(self, guarantee: Guarantee) -> Outcome:
        left_out = self._left_out(guarantee)
        if left_out is not None:
            return left_out
        if self._announce is not None:
            self._announce(guarantee)
        started = time.monotonic()
        error = self._test(guarantee)
        seconds = time.monotonic() - started
        known = self._known.get(guarantee.id)
        if known is not None and error is None:
            return Outcome(
                guarantee=guarantee,
                result="unexpected pass",
                seconds=seconds,
                reason=f"{guarantee.id} is declared as a known failure ({known.reason}; {known.link}) but holds: "
                "remove the declaration",
            )
        if error is None:
            return Outcome(guarantee=guarantee, result="passed", seconds=seconds)
        if known is not None:
            reason = f"{known.reason} ({known.link})"
            return Outcome(guarantee=guarantee, result="known failure", seconds=seconds, reason=reason, error=error)
        return Outcome(guarantee=guarantee, result="failed", seconds=seconds, reason=str(error), error=error)

    def _left_out(self, guarantee: Guarantee) -> Outcome | None:
        reason = self._not_binding(guarantee)
        if reason:
            return Outcome(guarantee=guarantee, result="left out", reason=reason)
        if self.gone:
            return Outcome(guarantee=guarantee, result="left out", reason=self.gone, gap=True)
        reason = self._lacking(guarantee)
        # Few servers let anybody step their clocks, so that this one is tested where it can be.
        gap = Needs.WALL_CLOCK not in guarantee.needs
        return Outcome(guarantee=guarantee, result="left out", reason=reason, gap=gap) if reason else None

    def _not_binding(self, guarantee: Guarantee) -> str:
        """Return why a guarantee does not concern this backend, if so."""
        assert self._calm is not None
        assert self.profile is not None
        if guarantee.scheme is not None and guarantee.scheme != self.target.scheme:
            return f"concerns {guarantee.scheme}:// alone"
        if guarantee.claim is not None and guarantee.claim not in self.profile.capabilities:
            return f"not claimed: {guarantee.claim.label}"
        if self.target.scheme in guarantee.instead:
            return f"{guarantee.instead[self.target.scheme]} makes this promise on {self.target.scheme}://"
        return self._out_of_place(guarantee)

    def _out_of_place(self, guarantee: Guarantee) -> str:
        """Return what this kind of backend does not have, whatever it is given."""
        assert self._calm is not None
        if Needs.COMPARE_AND_SET in guarantee.needs and not self._compares_and_sets():
            return "the backend is no CompareAndSetBackend"
        if guarantee.needs & _NEEDS_MORE_THAN_ONE_PROCESS and self.target.in_process:
            return "the store is in one process"
        if guarantee.needs & _NEEDS_A_SERVER and not self.target.serves(self._calm):
            return "there is no server"
        return ""

    def _compares_and_sets(self) -> bool:
        factory = load_backend_factory(self.target.scheme)
        return isinstance(factory, type) and issubclass(factory, CompareAndSetBackend)

    def _lacking(self, guarantee: Guarantee) -> str:
        """Return what a guarantee needs and is not given."""
        assert self._calm is not None
        if guarantee.tier == "faults" and self.target.fake_time:
            return "needs real time"
        lacking = {
            Needs.LINK: self._calm.address is None and self.target.own is None,
            Needs.SERVER: self.target.own is None,
            Needs.WALL_CLOCK: self.target.clocked is None,
            Needs.OPERATOR: self.target.operator is None,
        }
        return "; ".join(f"needs {need.value}" for need in Needs if need in guarantee.needs and lacking.get(need))

    def _test(self, guarantee: Guarantee) -> GuaranteeBroken | None:
        error = raised_by(lambda: self._call(guarantee), within=guarantee.limit, name=guarantee.id)
        if error is None:
            return None
        if guarantee is not _CANARY:
            self._look_for_server()
        promise = f"{guarantee.id}: {guarantee.title}"
        if self.gone:
            return GuaranteeBroken(f"{promise}\n{self.gone}")
        broken = GuaranteeBroken("\n".join([promise, *_how(error, guarantee)]))
        broken.__cause__ = error
        return broken

    def _call(self, guarantee: Guarantee) -> None:
        with ExitStack() as stack:
            site = self._site(guarantee, stack)
            arena = stack.enter_context(Arena(self.target, site, seed=f"{self.seed} {guarantee.id}"))
            guarantee.check(arena)

    def _site(self, guarantee: Guarantee, stack: ExitStack) -> Site:
        assert self._calm is not None
        if Needs.WALL_CLOCK in guarantee.needs and self.target.clocked is not None:
            clocked = stack.enter_context(self.target.clocked())
            return Site(clocked.url, clocked)
        on_its_own = Needs.SERVER in guarantee.needs or (Needs.LINK in guarantee.needs and self._calm.address is None)
        if on_its_own and self.target.own is not None:
            server = stack.enter_context(self.target.own())
            return Site(server.url, server)
        return self._place(stack)

    def _place(self, stack: ExitStack) -> Site:
        """Return the place that all share, or a new one where each has its own."""
        assert self._calm is not None
        return stack.enter_context(self.target.calm()) if self.target.private else self._calm


def _how(error: BaseException, guarantee: Guarantee) -> Iterator[str]:
    """Return what was raised, and by which statement; for a guarantee that hangs, where it does so."""
    yield told(error)
    hanging = error if isinstance(error, Hangs) else None
    where = statement_at(hanging.frame, guarantee.check) if hanging else statement_of(error, guarantee.check)
    if where:
        yield f"at {where}"
    if hanging:
        yield f"in:\n{stack_of(hanging.frame)}"


def _must_fail(_arena: Arena) -> None:
    """Fail."""
    raise AssertionError("this check must fail")


#: What is tested first and last, in the way in which all is.
_CANARY: Final = Guarantee(
    id="CANARY-1",
    level="must",
    tier="contract",
    claim=None,
    needs=frozenset(),
    scheme=None,
    instead={},
    alone=False,
    limit=10.0,
    check=_must_fail,
)


def refuse_optimised() -> None:
    """Raise ConfigurationError where assertions are left out: every guarantee would seem to hold."""
    if not __debug__:
        raise ConfigurationError("`python -O` leaves out the assertions that guarantees are made of; run without")


def refuse_unknown(ids: Iterable[str], *, what: str) -> None:
    """Raise ConfigurationError for an id that no guarantee has, naming the one most like it."""
    for id_ in ids:
        if id_ not in catalogue():
            raise ConfigurationError(f"{what}: there is no guarantee {id_!r}, {nearest(id_, catalogue())}")
