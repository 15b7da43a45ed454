"""Testing guarantees side by side, each in an arena and a thread of its own, and what came of it."""

from __future__ import annotations

import re
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, final

from drumbeat import ConfigurationError
from drumbeat._plugins import nearest
from drumbeat_conformance._announce import announced
from drumbeat_conformance.arena import Arena
from drumbeat_conformance.guarantee import Needs, catalogue
from drumbeat_conformance.target import Site

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from drumbeat.hookspecs import BackendProfile
    from drumbeat_conformance.guarantee import Guarantee, Tier
    from drumbeat_conformance.target import Target

__all__ = ["GuaranteeBroken", "KnownFailure", "Outcome", "Result", "Run"]

#: `left out`: the guarantee is not binding here, or cannot be tested here; the reason says which.
Result = Literal["passed", "failed", "known failure", "unexpected pass", "left out"]

#: How many guarantees are tested at once: they wait more than they compute.
WORKERS: Final[dict[Tier, int]] = {"contract": 6, "faults": 3}
#: Seconds that an interrupted run waits for what is being tested.
_GRACE: Final = 10.0
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
    decides what guarantees draw by chance; `tell` is called with each outcome as soon as it is known, from the thread
    that brought it about.

    Raises ConfigurationError without any guarantee, for an unknown id among the known failures, and for `python -O`.
    """

    def __init__(
        self,
        target: Target,
        guarantees: Sequence[Guarantee],
        *,
        seed: int = 0,
        known_failures: Mapping[str, KnownFailure] | None = None,
        tell: Callable[[Outcome], None] | None = None,
    ) -> None:
        refuse_optimised()
        refuse_unknown(known_failures or {}, what="known failure")
        if not guarantees:
            raise ConfigurationError("not one guarantee was selected, so nothing would be tested")
        self.target = target
        self.guarantees = tuple(guarantees)
        self.seed = seed
        self._known = dict(known_failures or {})
        self._outcomes: dict[str, Future[Outcome]] = {one.id: Future() for one in guarantees}
        self._tell = tell
        self._stack = ExitStack()
        self._calm: Site | None = None
        self.profile: BackendProfile | None = None

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
            self._calm = stack.enter_context(self.target.calm())
            with Arena(self.target, self._calm) as arena:
                self.profile = arena.profile
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
        self._stack.close()

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
        reason = self._not_binding(guarantee)
        if reason:
            return Outcome(guarantee=guarantee, result="left out", reason=reason)
        reason = self._lacking(guarantee)
        if reason:
            # Few servers let anybody step their clocks, so that this one is tested where it can be.
            gap = Needs.WALL_CLOCK not in guarantee.needs
            return Outcome(guarantee=guarantee, result="left out", reason=reason, gap=gap)
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
        if guarantee.needs & _NEEDS_MORE_THAN_ONE_PROCESS and self.target.in_process:
            return "the store is in one process"
        if guarantee.needs & _NEEDS_A_SERVER and not self.target.serves(self._calm):
            return "there is no server"
        return ""

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
        errors: list[BaseException] = []
        thread = threading.Thread(target=self._call, args=(guarantee, errors), name=guarantee.id, daemon=True)
        thread.start()
        thread.join(guarantee.limit)
        if thread.is_alive():
            frame = sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - the only way to see where it hangs
            where = "".join(traceback.format_stack(frame))
            errors = [TimeoutError(f"hangs for {guarantee.limit:g} s, at:\n{where}")]
        if not errors:
            return None
        broken = GuaranteeBroken(f"{guarantee.id}: {guarantee.title}\n{type(errors[0]).__name__}: {errors[0]}")
        broken.__cause__ = errors[0]
        return broken

    def _call(self, guarantee: Guarantee, errors: list[BaseException]) -> None:
        try:
            with ExitStack() as stack:
                site = self._site(guarantee, stack)
                arena = stack.enter_context(Arena(self.target, site, seed=f"{self.seed} {guarantee.id}"))
                guarantee.check(arena)
        except BaseException as error:  # noqa: BLE001 - whatever it is, a skip included, the guarantee did not hold
            errors.append(error)

    def _site(self, guarantee: Guarantee, stack: ExitStack) -> Site:
        assert self._calm is not None
        if Needs.WALL_CLOCK in guarantee.needs and self.target.clocked is not None:
            clocked = stack.enter_context(self.target.clocked())
            return Site(clocked.url, clocked)
        on_its_own = Needs.SERVER in guarantee.needs or (Needs.LINK in guarantee.needs and self._calm.address is None)
        if on_its_own and self.target.own is not None:
            server = stack.enter_context(self.target.own())
            return Site(server.url, server)
        return stack.enter_context(self.target.calm()) if self.target.private else self._calm


def refuse_optimised() -> None:
    """Raise ConfigurationError where assertions are left out: every guarantee would seem to hold."""
    if not __debug__:
        raise ConfigurationError("`python -O` leaves out the assertions that guarantees are made of; run without")


def refuse_unknown(ids: Iterable[str], *, what: str) -> None:
    """Raise ConfigurationError for an id that no guarantee has, naming the one most like it."""
    for id_ in ids:
        if id_ not in catalogue():
            raise ConfigurationError(f"{what}: there is no guarantee {id_!r}, {nearest(id_, catalogue())}")
