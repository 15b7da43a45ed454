"""What a leader says of a cycle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from drumbeat.cli.demo._meters import Reading
    from drumbeat.cli.demo._records import Polled

#: The meters that a summary quotes, each with its words.
_QUOTED: Final[Mapping[str, str]] = {
    "load.1min": "load {:.2f}",
    "memory.percent": "memory {:.0f} %",
}


def summarise(polls: Iterable[Polled], *, meters: int) -> str:
    """Return one line about the polls of a cycle, out of `meters` meters that should have been read."""
    given = list(polls)
    values = dict(chain.from_iterable(poll.values.items() for poll in given))
    agents = len({poll.agent for poll in given})
    read = f"{len(values)} of {meters} meters by {agents} agent{'' if agents == 1 else 's'}"
    return ", ".join([read, *_quotes(values)])


def _quotes(values: Mapping[str, Reading]) -> Iterator[str]:
    for name, words in _QUOTED.items():
        value = values.get(name)
        if value is not None:
            yield words.format(value)
