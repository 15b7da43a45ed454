"""A small world that keeps every promise: clients use a lock, a register and a counter, and some of them die."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from drumbeat_conformance.checker import Op, Operation

Step = Literal["call", "happen", "answer", "die", "haunt", "lapse"]
#: Which client, what it does next, how far the clock goes before, and a number to choose by.
Move = tuple[int, Step, int, int]

_CALLS: tuple[tuple[Op, str], ...] = (
    ("acquire", "lock/l"),
    ("release", "lock/l"),
    ("write", "register/r"),
    ("read", "register/r"),
    ("increment", "counter/c"),
    ("read", "counter/c"),
)


@dataclass
class Client:
    """One client, in one of its lives."""

    name: str
    under_way: Operation | None = None
    happened: bool = False
    held: int | None = None


@dataclass
class World:
    """The objects as they are, and what has been recorded of them."""

    now: float = 0.0
    holder: tuple[str, int] | None = None
    greatest: int = 0
    value: int | None = None
    fence: int = 0
    count: int = 0
    recorded: list[Operation] = field(default_factory=list)
    #: Calls of dead clients that are still on their way.
    ghosts: list[Operation] = field(default_factory=list)
    deaths: int = 0

    def play(self, moves: Iterable[Move]) -> list[Operation]:
        """Return what was recorded after some moves; what is under way then got no answer."""
        clients = [Client(f"c{number}") for number in range(4)]
        for number, step, passes, choice in moves:
            self.now += passes
            self._move(clients, number, step, choice)
        self.recorded += [_unanswered(client.under_way) for client in clients if client.under_way is not None]
        return sorted(self.recorded, key=lambda one: one.called)

    def _move(self, clients: list[Client], number: int, step: Step, choice: int) -> None:
        client = clients[number]
        if step == "call" and client.under_way is None:
            client.under_way, client.happened = self._call(client, choice), False
        elif step == "happen" and client.under_way is not None and not client.happened:
            self._happen_to(client)
        elif step == "answer" and client.under_way is not None:
            self._answer(client, client.under_way)
        elif step == "die":
            self._bury(client)
            clients[number] = Client(f"{client.name[:2]}-{self.deaths}")
        elif step == "haunt" and self.ghosts:
            self._happen(self.ghosts.pop(choice % len(self.ghosts)))
        elif step == "lapse" and self.holder is not None and not any(c.name == self.holder[0] for c in clients):
            self.holder = None

    def _call(self, client: Client, choice: int) -> Operation:
        op, name = _CALLS[choice % len(_CALLS)]
        if op == "acquire" and client.held is not None:
            op = "release"
        if op == "release" and client.held is None:
            op = "acquire"
        call = Operation(op=op, object=name, client=client.name, called=self.now)
        if op == "release":
            return replace(call, token=client.held)
        if op == "write":
            return replace(call, token=max(0, self.fence + choice % 4 - 1), value=choice)
        if name == "register/r" and choice % 2:
            return replace(call, token=max(0, self.fence + choice % 3 - 1))
        return call

    def _happen_to(self, client: Client) -> None:
        assert client.under_way is not None
        after = self._happen(client.under_way)
        if after is not None:
            client.under_way, client.happened = after, True

    def _happen(self, call: Operation) -> Operation | None:
        """Do an operation; return it with its answer, or None if it goes on waiting."""
        if call.op == "acquire":
            return self._acquire(call)
        if call.op == "release":
            mine = self.holder == (call.client, call.token)
            self.holder = None if mine else self.holder
            return replace(call, outcome="done" if mine else "refused")
        if call.object == "counter/c":
            self.count += call.op == "increment"
            return replace(call, outcome="done", value=self.count)
        return self._use_register(call)

    def _acquire(self, call: Operation) -> Operation | None:
        if self.holder is not None:
            return None
        self.greatest += 1 + int(self.now) % 3
        self.holder = (call.client, self.greatest)
        return replace(call, outcome="done", token=self.greatest)

    def _use_register(self, call: Operation) -> Operation:
        if call.token is not None:
            if call.token < self.fence:
                return replace(call, outcome="refused")
            self.fence = call.token
        if call.op == "write":
            assert isinstance(call.value, int)
            self.value = call.value
        return replace(call, outcome="done", value=self.value)

    def _answer(self, client: Client, call: Operation) -> None:
        if not client.happened:
            self._happen_to(client)
        answered = client.under_way if client.happened else replace(call, outcome="refused")
        assert answered is not None
        self.recorded.append(replace(answered, returned=self.now))
        client.under_way = None
        if answered.object == "lock/l":
            client.held = answered.token if (answered.op, answered.outcome) == ("acquire", "done") else None

    def _bury(self, client: Client) -> None:
        self.deaths += 1
        call = client.under_way
        if call is not None:
            self.recorded.append(_unanswered(call))
            if not client.happened and call.op != "acquire":
                self.ghosts.append(call)
        if client.held is not None:
            lapse = Operation(op="lapse", object="lock/l", client=client.name, called=self.now, token=client.held)
            self.recorded.append(lapse)


def _unanswered(call: Operation) -> Operation:
    """Return what is recorded of a call whose answer nobody got: neither a token nor a value."""
    silent = replace(call, outcome=None, value=call.value if call.op == "write" else None)
    return replace(silent, token=None) if call.op == "acquire" else silent
