"""How a lock, a fenced register and a counter behave."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import final

from drumbeat_conformance.checker._operation import Operation, Value


@final
@dataclass(frozen=True, slots=True)
class Lock:
    """A lock, or any other seat: held by one client at a time, with tokens that rise."""

    holder: tuple[str, int] | None = None
    #: The greatest token that was given, or -1.
    token: int = -1


@final
class LockModel:
    """A lock is free at first. A lapse frees it as a release does: whoever held it died or was late."""

    initial = Lock()

    def step(self, state: Lock, operation: Operation) -> Lock | None:
        """Return the state after an operation, or None if it cannot happen."""
        token = _token(operation)
        if operation.op == "acquire":
            free = state.holder is None and token > state.token
            return Lock((operation.client, token), token) if free else None
        return Lock(None, state.token) if state.holder == (operation.client, token) else None

    def spent(self, state: Lock, operation: Operation) -> bool:
        """Return whether an operation can never happen any more."""
        token = _token(operation)
        if operation.op == "acquire":
            return token <= state.token
        return token < state.token or (token == state.token and state.holder != (operation.client, token))

    def twin(self, operation: Operation) -> Hashable:
        """Return what makes two unanswered operations the same."""
        return operation.op, operation.client, operation.token

    def tell(self, state: Lock) -> str:
        """Return a state in words."""
        if state.holder is None:
            return "free" if state.token < 0 else f"free, after a holder with token {state.token}"
        return "held by {} with token {}".format(*state.holder)


@final
@dataclass(frozen=True, slots=True)
class Register:
    """What a register holds, and the greatest token that it has seen, or -1."""

    value: Value = None
    token: int = -1
    #: Whether it does not count what it holds, because nobody will read it; then `value` is None.
    dead: bool = False
    #: What it holds if that does not count.
    was: Value = field(default=None, compare=False)


@final
class RegisterModel:
    """A register that refuses a token lower than the greatest it has seen; a read may bring a token too."""

    initial = Register()

    def step(self, state: Register, operation: Operation) -> Register | None:
        """Return the state after an operation, or None if it cannot happen."""
        passes = operation.token is None or operation.token >= state.token
        if operation.outcome == "refused":
            return None if passes else state
        if not passes:
            return None
        token = state.token if operation.token is None else operation.token
        if operation.op == "write":
            return Register(operation.value, token)
        found = not operation.answered or (operation.value == state.value and not state.dead)
        return replace(state, token=token) if found else None

    def spent(self, state: Register, operation: Operation) -> bool:
        """Return whether an operation can never happen any more."""
        return operation.outcome != "refused" and operation.token is not None and operation.token < state.token

    def twin(self, operation: Operation) -> Hashable:
        """Return what makes two unanswered operations the same."""
        return operation.op, operation.token, operation.value

    def tell(self, state: Register) -> str:
        """Return a state in words."""
        value = f"what nobody read later, such as {state.was!r}" if state.dead else repr(state.value)
        return value if state.token < 0 else f"{value}, with tokens up to {state.token}"


@final
class CounterModel:
    """A counter that is 0 at first; an increment answers what it raised it to."""

    initial = 0

    def step(self, state: int, operation: Operation) -> int | None:
        """Return the state after an operation, or None if it cannot happen."""
        if operation.op == "increment":
            return state + 1 if not operation.answered or operation.value == state + 1 else None
        return state if operation.value == state else None

    def spent(self, state: int, operation: Operation) -> bool:
        """Return whether an operation can never happen any more."""
        if not operation.answered:
            return False
        highest = _number(operation) - (operation.op == "increment")
        return state > highest

    def twin(self, operation: Operation) -> Hashable:
        """Return what makes two unanswered operations the same."""
        return operation.op

    def tell(self, state: int) -> str:
        """Return a state in words."""
        return str(state)


def _token(operation: Operation) -> int:
    return -1 if operation.token is None else operation.token


def _number(operation: Operation) -> int:
    return operation.value if isinstance(operation.value, int) else 0
