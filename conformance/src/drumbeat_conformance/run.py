"""Testing guarantees side by side, each in an arena and a thread of its own, and what came of it."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, final

from drumbeat import ConfigurationError
from drumbeat_conformance.arena import Arena
from drumbeat_conformance.guarantee import Needs
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


class GuaranteeBroken(AssertionError):
    """A guarantee does not hold; the message begins with its id, and the cause says how it came out."""


@final
@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A guarantee that is known to fail: why, and where that is followed up. It is strict: a pass is a failure."""

    reason: str
    link: str


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

    @property
    def ok(self) -> bool:
        """Whether a run with it may be called a success."""
        return self.result not in {"failed", "unexpected pass"}


@final
class Run:
    """The testing of some guarantees on one target, as a context manager: servers live as long as its block.

    Those of the contract tier run side by side, then those of the fault tier, then each that must be alone. `seed`
    decides what guarantees draw by chance.
    """

    def __init__(
        self,
        target: Target,
        guarantees: Sequence[Guarantee],
        *,
        seed: int = 0,
        known_failures: Mapping[str, KnownFailure] | None = None,
    ) -> None:
        if not __debug__:
            raise ConfigurationError("`python -O` leaves out the assertions that guarantees are made of; run without")
        self.target = target
        self.guarantees = tuple(guarantees)
        self.seed = seed
        self._known = dict(known_failures or {})
        self._outcomes: dict[str, Future[Outcome]] = {one.id: Future() for one in guarantees}
        self._stack = ExitStack()
        self._calm: Site | None = None
        self._started = False
        self.profile: BackendProfile | None = None

    def outcome(self, id_: str) -> Outcome:
        """Return what came of a guarantee, once it is known."""
        return self._outcomes[id_].result()

    def outcomes(self) -> list[Outcome]:
        """Return what came of all guarantees, in their order, once it is known."""
        return [self.outcome(one.id) for one in self.guarantees]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._calm = stack.enter_context(self.target.calm())
            with Arena(self.target, self._calm) as arena:
                self.profile = arena.profile
            self._stack = stack.pop_all()
        self._conductor = threading.Thread(target=self._conduct, name="drumbeat-run", daemon=True)
        self._conductor.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for future in self._outcomes.values():
            future.cancel()
        self._conductor.join()
        self._stack.close()

    def _conduct(self) -> None:
        for tier in ("contract", "faults"):
            together = [one for one in self.guarantees if one.tier == tier and not one.alone]
            workers = 1 if self.target.fake_time else WORKERS[tier]
            with ThreadPoolExecutor(workers, thread_name_prefix="drumbeat-run") as pool:
                pool.map(self._settle, together)
        for one in self.guarantees:
            if one.alone:
                self._settle(one)

    def _settle(self, guarantee: Guarantee) -> None:
        future = self._outcomes[guarantee.id]
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(self._judge(guarantee))
        except BaseException as error:  # noqa: BLE001 - handed to whoever asks for the outcome
            future.set_exception(error)

    def _judge(self, guarantee: Guarantee) -> Outcome:
        reason = self._reason_to_leave_out(guarantee)
        if reason:
            return Outcome(guarantee=guarantee, result="left out", reason=reason)
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

    def _reason_to_leave_out(self, guarantee: Guarantee) -> str:
        assert self._calm is not None
        assert self.profile is not None
        if guarantee.scheme is not None and guarantee.scheme != self.target.scheme:
            return f"concerns {guarantee.scheme}:// alone"
        if guarantee.claim is not None and guarantee.claim not in self.profile.capabilities:
            return f"not claimed: {guarantee.claim.label}"
        lacking = {
            Needs.PROCESSES: self.target.in_process,
            Needs.LINK: self._calm.address is None,
            Needs.SERVER: self.target.own is None,
        }
        return "; ".join(f"needs {need.value}" for need in Needs if need in guarantee.needs and lacking[need])

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
        if Needs.SERVER in guarantee.needs and self.target.own is not None:
            server = stack.enter_context(self.target.own())
            return Site(server.url, server)
        return stack.enter_context(self.target.calm()) if self.target.private else self._calm
