"""The agents' processes: started, killed, frozen, woken, and ended whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from pathlib import Path

    from drumbeat.cli.demo._orders import Orders

#: Seconds in which agents may leave by themselves at the end; one that does not is killed.
LEAVE_WITHIN: Final = 2.0


class Team:
    """The processes of all agents; leaving its block ends every one of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._killed: set[str] = set()
        self._frozen: set[str] = set()

    def start(self, orders: Orders) -> int:
        """Start an agent with its orders; return its process id.

        It is in a process group of its own, so that Ctrl-C in the terminal reaches the director alone. The pipe by
        which the orders come stays open: its end, also by the director's death, tells the agent to leave.
        """
        with self._output(orders.member_id).open("wb") as output:
            agent = subprocess.Popen(
                [sys.executable, "-P", "-m", "drumbeat.cli.demo._agent"],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                process_group=0,
            )
        self._agents[orders.member_id] = agent
        if agent.stdin is not None:
            agent.stdin.write(orders.to_line())
            agent.stdin.flush()
        return agent.pid

    def kill(self, name: str) -> None:
        """End an agent by SIGKILL."""
        self._killed.add(name)
        self._agents[name].kill()
        self._agents[name].wait()

    def freeze(self, name: str) -> None:
        """Stop an agent by SIGSTOP; return once it stands still."""
        self._frozen.add(name)
        self._agents[name].send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._agents[name].pid, os.WSTOPPED)

    def wake(self, name: str) -> None:
        """Let a frozen agent go on."""
        self._agents[name].send_signal(signal.SIGCONT)
        self._frozen.discard(name)

    def failures(self) -> Iterator[str]:
        """Tell of each agent that has ended by itself, with its last words."""
        for name, agent in self._agents.items():
            if name not in self._killed and agent.poll() is not None:
                words = self._output(name).read_text(errors="backslashreplace").split("\n")
                last = next((line for line in reversed(words) if line.strip()), "it said nothing")
                yield f"{name} ended by itself with status {agent.returncode}: {last}"

    def dismiss(self, *, last: str | None = None) -> None:
        """Tell every agent to leave, wake the frozen ones, and kill those that are still there in the end.

        One agent may be told only when the others are gone: a leader, so that nobody is elected just to leave too.
        """
        self._end([name for name in self._agents if name != last])
        self._end([name for name in self._agents if name == last])

    def _end(self, names: Collection[str]) -> None:
        for name in names:
            pipe = self._agents[name].stdin
            if pipe is not None:
                pipe.close()
        for name in self._frozen.intersection(names):
            self.wake(name)
        until = time.monotonic() + LEAVE_WITHIN
        for name in names:
            agent = self._agents[name]
            try:
                agent.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait()

    def _output(self, name: str) -> Path:
        return self._folder / f"{name}.output"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.dismiss()
