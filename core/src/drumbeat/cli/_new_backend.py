"""The command that writes a third party's package: new-backend.

The template is plain files with `@@{name}` where names belong, filled in by `string.Template`. A template engine was
weighed: Copier and Cookiecutter each bring about twenty packages (templates, prompts, git, YAML), for ten files with
five names in them. What Copier would give beyond that, `copier update`, merges later changes of the template by git; it
needs a repository of the template's own, and here what changes between versions of Drumbeat is not in the
template's files but in what they depend on: the base class and the conformance suite.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

import typer

from drumbeat import ConfigurationError
from drumbeat._plugins import BACKENDS, KNOWN_PACKAGES, installed
from drumbeat.cli import _options as options
from drumbeat.cli._report import answer, print_lines

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*")
#: Characters of a name, which becomes part of longer ones.
_LONGEST: Final = 30
#: Packages of Drumbeat that are no backends.
_OWN: Final = frozenset({"drumbeat-benchmarks", "drumbeat-conformance", "drumbeat-mutants", "drumbeat-tooz"})

#: What is written: a path in the new package, with its names, and the file of the template.
_FILES: Final = {
    ".github/workflows/ci.yml": "workflow.yml.txt",
    ".gitignore": "gitignore.txt",
    "README.md": "README.md.txt",
    "pyproject.toml": "pyproject.toml.txt",
    "src/@@{module}/__init__.py": "init.py.txt",
    "src/@@{module}/_backend.py": "backend.py.txt",
    "src/@@{module}/_store.py": "store.py.txt",
    "src/@@{module}/py.typed": "py.typed.txt",
    "tests/test_backend.py": "test_backend.py.txt",
    "tests/test_conformance.py": "test_conformance.py.txt",
}

_INTO: Final = typer.Option(
    None, "--into", metavar="DIR", help="Where the package goes: a new or an empty folder. [default: ./drumbeat-NAME]"
)
_SCHEME_OPTION: Final = typer.Option(
    None, "--scheme", metavar="SCHEME", help="What its URLs begin with. [default: NAME]"
)


class _Filled(Template):
    # Workflows and shells have the dollar sign for themselves.
    delimiter = "@@"


@dataclass(frozen=True, slots=True)
class Names:
    """What the new package and its parts are called."""

    name: str
    scheme: str

    @property
    def package(self) -> str:
        """The name to install it by."""
        return f"drumbeat-{self.name}"

    @property
    def module(self) -> str:
        """The name to import it by."""
        return self.package.replace("-", "_")

    @property
    def title(self) -> str:
        """The store's name in prose."""
        return self.name.replace("-", " ").title()

    @property
    def backend(self) -> str:
        """The backend's class."""
        return f"{self.title.replace(' ', '')}Backend"

    def fill(self, text: str) -> str:
        """Return the text with the names in their places; an unknown one is a KeyError."""
        return _Filled(text).substitute(
            name=self.name,
            scheme=self.scheme,
            package=self.package,
            module=self.module,
            title=self.title,
            backend=self.backend,
            version=version("drumbeat"),
        )


def new_backend(
    name: str = typer.Argument(..., metavar="NAME", help="What the store is called, for example consul or my-store."),
    *,
    into: Path | None = _INTO,
    scheme: str | None = _SCHEME_OPTION,
    as_json: bool = options.JSON,
) -> None:
    """Write a package for a backend of your own: one that works, passes the contract tier, and is yours to change.

    It keeps its keys in the memory of one process, until you put your client library in the place of that store. With
    it come tests, the conformance suite, a workflow for continuous integration, and a README with the steps from there.

    Nothing that exists is overwritten. A licence is not among the files: choose one.

    --json: {"package", "module", "class", "scheme", "folder", "files": [path], "next": [command]}; CLONE in a command
    stands for a clone of Drumbeat's repository
    """
    names = Names(name, name if scheme is None else scheme)
    _refuse_bad_names(names)
    folder = Path(names.package) if into is None else into
    written = write(names, folder)
    commands = _next(names, folder)
    if as_json:
        facts = {"package": names.package, "module": names.module, "class": names.backend, "scheme": names.scheme}
        answer({**facts, "folder": str(folder.resolve()), "files": written, "next": commands})
        return
    print_lines([f"{names.package} is in {folder}. To see it pass:", "", *(f"  {line}" for line in commands), ""])
    print_lines(["CLONE is a clone of Drumbeat's repository; leave that line out once drumbeat is released.", ""])
    print_lines([f"What to change, and in which order, says {folder / 'README.md'}."])


def write(names: Names, folder: Path) -> list[str]:
    """Write the package into a new or empty folder; return the paths in it.

    Raises ConfigurationError if there is something in the folder already, or if it cannot be written; in the second
    case some of the files may be there.
    """
    template = files("drumbeat.cli") / "template"
    texts = {names.fill(path): names.fill((template / source).read_text("utf-8")) for path, source in _FILES.items()}
    try:
        _claim(folder)
        for path, text in texts.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise ConfigurationError(f"cannot write {error.filename or folder}: {error.strerror}; see --into") from error
    return sorted(texts)


def _claim(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigurationError(f"{folder} is not a folder; name a new or an empty one with --into")
    folder.mkdir(parents=True, exist_ok=True)
    found = min((path.name for path in folder.iterdir()), default=None)
    if found is not None:
        raise ConfigurationError(
            f"{folder} holds {found!r} and maybe more, and nothing is overwritten; name a new or an empty folder "
            "with --into"
        )


def _refuse_bad_names(names: Names) -> None:
    if not _NAME.fullmatch(names.name) or len(names.name) > _LONGEST:
        raise ConfigurationError(
            f"{names.name!r} cannot be part of a package's and a module's name: take up to {_LONGEST} lower-case "
            "letters and digits, the first one a letter, with single hyphens between words, as in 'my-store'"
        )
    if keyword.iskeyword(names.name) or keyword.issoftkeyword(names.name):
        raise ConfigurationError(f"{names.name!r} is a word of Python's own; name the store that the backend is for")
    if names.package in _OWN or names.package in KNOWN_PACKAGES.values() or names.package == "drumbeat-drumbeat":
        raise ConfigurationError(f"{names.package} is a package of Drumbeat's own; take another name")
    _refuse_bad_scheme(names.scheme)


def _refuse_bad_scheme(scheme: str) -> None:
    if not _SCHEME.fullmatch(scheme) or len(scheme) > _LONGEST:
        raise ConfigurationError(
            f"{scheme!r} cannot begin a URL: take up to {_LONGEST} lower-case letters, digits, '+', '.' and '-', the "
            "first one a letter"
        )
    point = installed(BACKENDS).get(scheme)
    owner = KNOWN_PACKAGES.get(scheme) if point is None or point.dist is None else point.dist.name
    if owner is not None or point is not None:
        raise ConfigurationError(
            f"{scheme}:// is taken by {owner or 'an installed package'}, and one process cannot have two backends for "
            "it; name another with --scheme"
        )


def _next(names: Names, folder: Path) -> list[str]:
    from shlex import quote

    return [
        f"cd {quote(str(folder))}",
        "python3 -m venv .venv && . .venv/bin/activate",
        "python3 -m pip install --upgrade pip",
        "python3 -m pip install CLONE/core CLONE/conformance",
        "python3 -m pip install --editable . --group dev",
        "python3 -m pytest",
        f"drumbeat-conformance {names.scheme}://localhost --in-process --badge conformance.svg",
    ]
