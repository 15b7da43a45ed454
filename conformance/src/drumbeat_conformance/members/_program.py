"""The program of a member process: one session, and commands by lines.

The one argument is a JSON object: what to give to `drumbeat.connect`, and `history`, the file to record events in. Each
line of the input is `[number, command, arguments]`, each line of the output `[number, "returned", value]` or
`[number, "raised", [name, message]]`, in JSON; that of the number 0 says how connecting went. Every command runs in a
thread of its own, so that a campaign that waits delays nothing. The process ends, as by a crash, where its input does.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Final, TextIO

import drumbeat
from drumbeat.history import append_line
from drumbeat.observers import HistoryObserver
from drumbeat_conformance.faults._processes import hogged, run_forked

#: Names what a member process imports and calls before anything else, as `module:function`.
PRELOAD: Final = "DRUMBEAT_CONFORMANCE_PRELOAD"
#: Seconds between two looks at a term.
LOOK: Final = 0.005
#: Seconds for the checks in a forked child.
_CHILD: Final = 20.0


def main() -> None:
    """Preload, connect, and obey until the input ends."""
    answers = _take_output()
    preload(os.environ.get(PRELOAD))
    options: dict[str, object] = json.loads(sys.argv[1])
    file = Path(str(options.pop("history")))
    history = HistoryObserver(file)
    speaker = _Speaker(answers)
    speaker.run(0, lambda: speaker.introduce(drumbeat.connect(**options, observers=[history]), file))  # type: ignore[arg-type]
    for line in sys.stdin:
        number, command, arguments = json.loads(line)
        speaker.obey(number, command, arguments)
    os._exit(0)


def preload(named: str | None) -> None:
    """Import and call what `module:function` names, if anything; raise what that raises."""
    if named:
        module, _, function = named.partition(":")
        getattr(import_module(module), function)()


def _take_output() -> TextIO:
    """Return the output for answers alone: what anybody prints goes to the errors."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


class _Speaker:
    """Runs commands and writes what came of them."""

    def __init__(self, answers: TextIO) -> None:
        self._answers = answers
        self._lock = threading.Lock()
        self._commands: _Commands | None = None

    def introduce(self, session: drumbeat.Session, history: Path) -> str:
        """Obey with this session, whose history is that file, from now on."""
        self._commands = _Commands(session, history)
        return session.incarnation

    def obey(self, number: int, command: str, arguments: list[object]) -> None:
        """Start a command in a thread of its own."""
        call: Callable[..., object] = getattr(self._commands, command)
        threading.Thread(target=self.run, args=(number, lambda: call(*arguments)), daemon=True).start()

    def run(self, number: int, call: Callable[[], object]) -> None:
        """Write what a call returned or raised."""
        try:
            answer: list[object] = [number, "returned", call()]
        except Exception as error:  # noqa: BLE001 - told to the process that asked
            answer = [number, "raised", [type(error).__name__, str(error)]]
        with self._lock:
            self._answers.write(f"{json.dumps(answer)}\n")
            self._answers.flush()


class _Commands:
    """What a member can be told; arguments and results are JSON, and each command may take its time."""

    def __init__(self, session: drumbeat.Session, history: Path) -> None:
        self._session = session
        self._history = history
        self._terms: dict[str, drumbeat.Term] = {}
        self._looks: dict[str, list[tuple[float, bool]]] = {}
        self._shards: drumbeat.Shards | None = None

    def incarnation(self) -> str:
        """Return the id of the session's newest opening."""
        return self._session.incarnation

    def state(self) -> str:
        """Return the session's state."""
        return self._session.state.value

    def join(self, group: str, metadata: Mapping[str, object] | None = None) -> None:
        """Join a group."""
        self._session.group(group).join(metadata)

    def members(self, group: str) -> list[str]:
        """Return the ids of the members of a group."""
        return list(self._session.group(group).members().ids)

    def campaign(self, election: str, timeout: float | None = None) -> int:
        """Win, and return the token."""
        self._terms[election] = self._session.election(election).campaign(timeout=timeout)
        return self._terms[election].token

    def held(self, election: str) -> bool:
        """Return whether the last term that was won is held."""
        return self._terms[election].held

    def resign(self, election: str) -> bool:
        """Give up the last term that was won; return whether it was held."""
        term = self._terms[election]
        self._note_end(term, f"election/{election}")
        return term.resign()

    def look(self, election: str) -> None:
        """Begin to look at the last term that was won, again and again."""
        self._looks[election] = []
        threading.Thread(target=self._look, args=(election, self._terms[election]), daemon=True).start()

    def looks(self, election: str) -> list[tuple[float, bool]]:
        """Return, and forget, what was seen: at which moment the term was held or not."""
        seen, self._looks[election] = self._looks[election], []
        return seen

    def churn(self, election: str, shortest: float, longest: float, seed: int) -> None:
        """Win, hold for a while, resign, and begin again, for ever."""
        draw = random.Random(seed)  # noqa: S311 - repeatable, nothing secret
        while True:
            term = self._session.election(election).campaign()
            with self._using(term, f"election/{election}"):
                term.lost.wait(draw.uniform(shortest, longest))

    def partition(self, group: str, count: int) -> list[int]:
        """Return the own share of so many items, by the members of a group."""
        return list(self._session.group(group).partition(range(count)))

    def take_shards(self, group: str, count: int, grace: float) -> None:
        """Join a group and take part in its shards."""
        self._session.group(group).join()
        self._shards = self._session.group(group).shards(count, grace=grace)

    def owned(self) -> dict[int, int]:
        """Return the tokens of the shards that are held, by number."""
        return {} if self._shards is None else {number: term.token for number, term in self._shards.owned.items()}

    def count(self, lock: str, file: str, times: int) -> int:
        """Increment the number in a file so many times, each under the lock; return how often that was done."""
        counter = Path(file)
        for _ in range(times):
            with self._using(self._session.lock(lock).acquire(), f"lock/{lock}"):
                number = int(counter.read_text())
                # Time in which another process would read the same number.
                time.sleep(LOOK)
                counter.write_text(str(number + 1))
        return times

    def hog(self, seconds: float) -> None:
        """Let no thread of this interpreter run for so long."""
        with hogged(seconds):
            pass

    def fork(self, group: str, election: str) -> int:
        """Fork; return how many of the child's checks failed: it must hold nothing, and be refused everything."""
        return run_forked(lambda: self._failures(group, self._terms[election]), within=_CHILD)

    def close(self, timeout: float) -> float:
        """Close the session; return how many seconds that took."""
        started = time.monotonic()
        self._session.close(timeout=timeout)
        return time.monotonic() - started

    @contextmanager
    def _using(self, term: drumbeat.Term, subject: str) -> Iterator[None]:
        with term:
            yield
            self._note_end(term, subject)

    def _note_end(self, term: drumbeat.Term, subject: str) -> None:
        """Record that a term is used no longer, before it is given up.

        The session's own record of that is written a moment later, by another thread: if the process is frozen and
        killed in between, it would look as if it had held a seat until its end that others had won meanwhile.
        """
        at, incarnation = drumbeat.SystemClock().now(), self._session.incarnation
        # What is not held has ended without it; and the incarnation of what is held is the newest.
        if term.held:
            line: dict[str, object] = {"namespace": self._session.namespace, "incarnation": incarnation}
            line |= {"kind": "resigned", "at": at, "member_id": self._session.member_id, "pid": os.getpid()}
            append_line(self._history, line | {"subject": subject, "token": term.token})

    def _look(self, election: str, term: drumbeat.Term) -> None:
        clock = drumbeat.SystemClock()
        while True:
            # The clock is read first, so that a pause in between cannot make an old answer look new.
            at = clock.now()
            self._looks[election].append((at, term.held))
            time.sleep(LOOK)

    def _failures(self, group: str, term: drumbeat.Term) -> int:
        failed = int(term.held)
        uses: list[Callable[[], object]] = [
            self._session.group(group).members,
            self._session.election("other").leader,
            lambda: self._session.election(term.name).campaign(timeout=0),
            self._session.beat,
        ]
        for use in uses:
            with suppress(drumbeat.Forked):
                use()
                failed += 1
        term.resign()
        self._session.close(timeout=1.0)
        return failed
