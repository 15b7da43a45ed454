"""What the engine itself knows of each class, to be held against what pytest says at the end.

A `conftest.py` or a plugin may take over the running of tests, change reports and drop items. What it cannot change by
any hook is this ledger, which the classes keep from their collection on, and which pytest-xdist's workers hand over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final, final
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    import pytest

__all__ = ["Account", "Ledger", "begin", "dismiss", "ledger_of", "selects"]

#: Options of pytest by which somebody leaves out guarantees; none of them is true where it is not given.
_SELECTING: Final = ("keyword", "markexpr", "deselect", "lf", "stepwise", "maxfail", "setuponly", "setupplan")
#: Ids that a line names before it says how many more.
_NAMED: Final = 12


def selects(config: pytest.Config) -> bool:
    """Return whether the command line itself asks for less than all: by -k, -m, --deselect, a node id, -x or --lf.

    What a settings file, the environment or a hook asks for does not count: whoever reads the outcome does not see it.
    """
    given = config._parser.parse_known_args(config.invocation_params.args)  # noqa: SLF001 - nobody else can read them
    selecting = any(getattr(given, name, None) for name in _SELECTING)
    return selecting or any("::" in str(argument) for argument in getattr(given, "file_or_dir", ()))


@final
@dataclass(slots=True)
class Account:
    """One class: what its tiers hold, and what became of it."""

    expected: list[str] = field(default_factory=list)
    #: By id, the engine's own words: "passed", "failed" and so on.
    results: dict[str, str] = field(default_factory=dict)
    #: Why the run could not be, where that is no failure: no server can run here.
    unable: str = ""
    #: Why the run could not be, where that is one.
    trouble: str = ""

    def add(self, other: Account) -> None:
        """Take what another process knows of the same class."""
        self.expected = self.expected or other.expected
        self.results |= other.results
        self.unable = self.unable or other.unable
        self.trouble = self.trouble or other.trouble

    @property
    def missing(self) -> list[str]:
        """Ids of which nothing is known."""
        return [id_ for id_ in self.expected if id_ not in self.results]

    @property
    def idle(self) -> bool:
        """Whether all that is known is that guarantees were left out."""
        return bool(self.results) and set(self.results.values()) == {"left out"}

    @property
    def failed(self) -> list[str]:
        """Ids of what does not hold, and of known failures that do."""
        return [id_ for id_ in self.expected if self.results.get(id_) in {"failed", "unexpected pass"}]


@final
class Ledger:
    """The accounts of a session, by the node id of each class."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        #: Class and id of what pytest was told to have failed.
        self.reported: set[tuple[str, str]] = set()
        #: Workers of pytest-xdist that ended in order, and yet handed over no accounts.
        self.silent: list[str] = []
        #: Whose exit status it is; None before it has begun.
        self.session: pytest.Session | None = None
        #: Whether somebody else takes the outcomes from the engine itself.
        self.dismissed = False

    def open(self, nodeid: str, expected: Iterable[str]) -> Account:
        """Begin an account."""
        account = self.accounts.setdefault(nodeid, Account())
        account.expected = list(expected)
        return account

    def as_plain(self) -> dict[str, dict[str, object]]:
        """Return what pytest-xdist can send."""
        return {nodeid: asdict(account) for nodeid, account in self.accounts.items()}

    def add_plain(self, sent: Mapping[str, Mapping[str, object]]) -> None:
        """Take what a worker of pytest-xdist has sent."""
        for nodeid, values in sent.items():
            self.accounts.setdefault(nodeid, Account()).add(Account(**values))  # type: ignore[arg-type]

    def problems(self, *, selected: bool) -> list[str]:
        """Return why the session is no success, whatever its reports say; `selected` excuses what did not run."""
        lines = [f"{worker} did not say what it had tested" for worker in self.silent]
        for nodeid, account in self.accounts.items():
            lines += [f"{nodeid}: {problem}" for problem in self._problems(nodeid, account, selected=selected)]
        return lines

    def remarks(self) -> list[str]:
        """Return where the session is no verdict on a backend."""
        return [
            f"{nodeid}: {len(account.results)} of {len(account.expected)} guarantees ran: this is no verdict"
            for nodeid, account in self.accounts.items()
            if account.missing
        ]

    def _problems(self, nodeid: str, account: Account, *, selected: bool) -> Iterator[str]:
        if account.trouble:
            yield account.trouble
        elif account.missing and not selected and not account.unable:
            yield (
                f"{_listed(account.missing)} did not run, though the command line leaves out nothing: a settings file, "
                "PYTEST_ADDOPTS, a conftest.py or a plugin took them away, or the run was ended"
            )
        elif account.idle and not selected:
            yield "everything was left out, so nothing was tested: see what this class is given, and its tiers"
        hidden = [id_ for id_ in account.failed if (nodeid, id_) not in self.reported]
        if hidden and selected:
            yield f"{_listed(hidden)} failed too, which pytest was not told: the command line ends it early, or selects"
        elif hidden:
            yield (
                f"{_listed(hidden)} failed, and pytest was not told: a conftest.py or a plugin took over the tests or "
                "changed their reports, or the run was ended"
            )
        if account.failed:
            yield f"{len(account.failed)} of {len(account.expected)} guarantees failed: {_listed(account.failed)}"


def _listed(ids: list[str]) -> str:
    more = len(ids) - _NAMED
    return ", ".join(ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")


#: By session: not where hooks are handed it.
_LEDGERS: Final[WeakKeyDictionary[pytest.Config, Ledger]] = WeakKeyDictionary()


def begin(config: pytest.Config) -> Ledger:
    """Begin the ledger of a session."""
    return _LEDGERS.setdefault(config, Ledger())


def ledger_of(config: pytest.Config) -> Ledger:
    """Return the ledger of a session."""
    return _LEDGERS[config]


def dismiss(config: pytest.Config) -> None:
    """Have no last word in a session whose outcomes are taken from the engine itself."""
    _LEDGERS[config].dismissed = True
