"""What must hold before a change lands: `uv run nox`, or one session of it by `uv run nox -s NAME`."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from zipfile import ZipFile

import nox
from nox.virtualenv import UV
from packaging.metadata import Metadata
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent
SETTINGS = nox.project.load_toml(ROOT / "pyproject.toml")["tool"]["uv"]
MEMBERS: list[str] = SETTINGS["workspace"]["members"]
#: Tests wait more than they compute. Which ones stay together says conftest.py.
SIDE_BY_SIDE = ["--numprocesses=4", "--dist=loadscope"]
#: What a package alone is tested by, where that is not all that it has: what asks its oldest dependencies for nothing
#: is tested once, in the session `tests`, and so is what needs the other packages.
APART = ["cli", "demo", "local", "randomised", "sharing"]
OWN_TESTS = {
    "core": ["core/tests", *(f"--ignore=core/tests/{folder}" for folder in APART)],
    "conformance": [f"conformance/tests/{tests}" for tests in ("servers", "faults", "suite/test_rules.py")],
}
#: The backends that several processes share.
TARGETS = ["local", "redis", "zookeeper", "memcached", "etcd"]
#: Those whose fault tier runs for every change; the others' runs every night.
ALWAYS = [f"faults({target})" for target in TARGETS[:3]]
#: The suite on each backend, which goes beside nothing else.
CONFORMANCE = ["conformance/tests/test_embedded.py"]
CONFORMANCE += [str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("backends/*/tests/test_conformance.py"))]
#: Where the packages are built.
PACKAGES = ROOT / ".nox/dist"
PYTHONS = nox.project.python_versions(nox.project.load_toml(ROOT / "core/pyproject.toml"))


def is_installed(python: str) -> bool:
    """Tell whether uv finds this version of Python here, without a download."""
    command = [UV, "python", "find", "--no-python-downloads", python]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "types", *(f"tests-{p}" for p in PYTHONS if is_installed(p))]
nox.options.sessions += ["mutants", *ALWAYS, "template", "wheels", "etcd3"]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format, names of changelog fragments, what git tracks, and the pins."""
    sync(session, "--only-group=lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("towncrier", "build", "--draft", "--version=next", silent=True)
    refuse_tracked_leftovers(session)
    refuse_wrong_pins(session)


@nox.session
def types(session: nox.Session) -> None:
    """Annotations: of everything by mypy in strict mode, of the packages by basedpyright as well."""
    sync(session, "--group=types")
    session.run("mypy")
    session.run("basedpyright", f"--pythonpath={session.bin}/python")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The tests of the whole workspace, on the source; arguments after `--` go to pytest."""
    sync(session)
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("pytest", *SIDE_BY_SIDE, "--durations=10", *(f"--ignore={path}" for path in CONFORMANCE))
    # Each of these is as many guarantees side by side as two cores carry, in times that count.
    session.run("pytest", *CONFORMANCE)


@nox.session
def mutants(session: nox.Session) -> None:
    """The suite against backends broken on purpose, each of which it must kill by the guarantees that are named.

    Those alone are tested, unless arguments for the matrix are given: `--workers=2` is enough for the whole matrix of
    stores in memory, `--full` for that of all backends.
    """
    sync(session)
    path = {"PYTHONPATH": str(ROOT / "conformance/mutants")}
    session.run("python", "-m", "drumbeat_mutants", *(session.posargs or ["--quick"]), env=path)


@nox.session(venv_backend="none")
def build(session: nox.Session) -> None:
    """Build all packages."""
    shutil.rmtree(PACKAGES, ignore_errors=True)
    session.run(UV, "build", "--all-packages", f"--out-dir={PACKAGES}", external=True, silent=True)
    wheels_ = {module_of(path): path for path in PACKAGES.glob("*.whl")}
    siblings = "".join(f"{name} @ {path.as_uri()}\n" for name, path in wheels_.items())
    (PACKAGES / "siblings.txt").write_text(siblings)


@nox.session(requires=["build"])
def template(session: nox.Session) -> None:
    """A package as `drumbeat new-backend` writes it, installed from wheels, and taken through its own workflow."""
    _, siblings = packages("core")
    pins = write_pins(session, SETTINGS["constraint-dependencies"])
    alone = ["--no-config", "--no-sources", f"--constraints={siblings}", f"--constraints={pins}"]
    session.install(*alone, "drumbeat[cli]")
    folder = Path(session.create_tmp()).resolve() / "package"
    shutil.rmtree(folder, ignore_errors=True)
    session.run("drumbeat", "new-backend", "my-store", f"--into={folder}")
    session.install(*alone, f"--editable={folder}", f"--group={folder}/pyproject.toml:dev")
    workflow = (folder / ".github/workflows/ci.yml").read_text()
    session.chdir(folder)
    for command in re.findall(r"^ *- run: (.+)$", workflow, re.MULTILINE):
        if not command.startswith("python -m pip "):
            session.run(*shlex.split(command))


@nox.session
@nox.parametrize("target", TARGETS, ids=TARGETS)
def faults(session: nox.Session, target: str) -> None:
    """The fault tier of the suite on one backend: processes, links and servers that fail."""
    sync(session)
    session.run("drumbeat-conformance", target, "--tier=faults", *session.posargs)


@nox.session
@nox.parametrize("target", TARGETS, ids=TARGETS)
def soak(session: nox.Session, target: str) -> None:
    """Ten minutes of random faults on one backend, with the history checker on."""
    sync(session)
    session.run("drumbeat-conformance", target, *(session.posargs or ["--soak=10m"]))


@nox.session(requires=["build"])
@nox.parametrize("member", MEMBERS, ids=MEMBERS)
def wheels(session: nox.Session, member: str) -> None:
    """Each package built, its wheel installed alone on the oldest dependencies that it allows, and tested so."""
    wheel, siblings = packages(member)
    refuse_bad_metadata(session, wheel)
    # The siblings stand by as constraints: one is installed only where the package asks for it.
    alone = ["--no-config", "--no-sources", f"--constraints={siblings}", f"--constraints={other_pins(session, wheel)}"]
    session.install(*alone, "--resolution=lowest-direct", str(wheel))
    refuse_impure_install(session, module=module_of(wheel))
    session.install(*alone, str(wheel), f"--group={member}/pyproject.toml:dev")
    apart = [f"--ignore={path}" for path in CONFORMANCE]
    session.run("pytest", *SIDE_BY_SIDE, *OWN_TESTS.get(member, [f"{member}/tests"]), *apart, *session.posargs)


@nox.session
def etcd3(session: nox.Session) -> None:
    """The etcd backend on the original client, whose protobuf is too old for any other environment."""
    session.install("--editable=backends/etcd[etcd3]", "--group=backends/etcd/pyproject.toml:tests")
    (suite,) = (path for path in CONFORMANCE if "etcd" in path)
    session.run("pytest", *SIDE_BY_SIDE, "backends/etcd/tests", f"--ignore={suite}", *session.posargs)
    session.run("pytest", suite, *session.posargs)


if (ROOT / "docs/conf.py").exists():

    @nox.session
    def docs(session: nox.Session) -> None:
        """Pages of docs/, where a broken reference is an error."""
        sync(session, "--group=docs")
        session.run("sphinx-build", "--nitpicky", "--fail-on-warning", "docs", "docs/_build")

    nox.options.sessions = [*nox.options.sessions, "docs"]


def sync(session: nox.Session, *selection: str) -> None:
    """Make the session's environment what the workspace and its pins say."""
    here = session.virtualenv.location
    session.run_install("uv", "sync", f"--python={here}", *selection, env={"UV_PROJECT_ENVIRONMENT": here})


def packages(member: str) -> tuple[Path, Path]:
    """Return a member's wheel, and a file that tells where the others' are; for sessions that require `build`."""
    name = nox.project.load_toml(ROOT / member / "pyproject.toml")["project"]["name"].replace("-", "_")
    (wheel,) = PACKAGES.glob(f"{name}-*.whl")
    return wheel, PACKAGES / "siblings.txt"


def other_pins(session: nox.Session, wheel: Path) -> Path:
    """Return a file with the pins of all but the wheel's own dependencies, whose oldest versions are wanted."""
    own = {canonicalize_name(needed.name) for needed in metadata_of(wheel).requires_dist or [] if not needed.marker}
    pins = [pin for pin in SETTINGS["constraint-dependencies"] if pin.partition("==")[0] not in own]
    return write_pins(session, pins)


def write_pins(session: nox.Session, pins: list[str]) -> Path:
    """Return a file with these pins."""
    path = Path(session.create_tmp()).resolve() / "pins.txt"
    path.write_text("\n".join(pins))
    return path


def module_of(wheel: Path) -> str:
    """Return the name that a wheel of this workspace is imported by."""
    return wheel.name.partition("-")[0]


def metadata_of(wheel: Path) -> Metadata:
    """Return what a wheel says of itself; raise if an index would refuse it."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Metadata.from_email(archive.read(name), validate=True)


def refuse_bad_metadata(session: nox.Session, wheel: Path) -> None:
    """Fail when an index would not take the wheel's metadata, or could show no description."""
    if not metadata_of(wheel).description:
        session.error(f"{wheel.name} has no description: name its README.md in [project]")


def refuse_impure_install(session: nox.Session, *, module: str) -> None:
    """Fail when the package is not imported from its wheel, or core brings more than pluggy."""
    names = "(found.name for found in importlib.metadata.distributions())"
    code = f"import importlib.metadata, {module}; print({module}.__file__, *{names}, sep='\\n')"
    where, *installed = str(session.run("python", "-Ic", code, silent=True)).splitlines()
    if not Path(where).is_relative_to(ROOT / session.virtualenv.location):
        session.error(f"{module} was imported from {where}, not from its wheel")
    if module == "drumbeat" and sorted(installed) != ["drumbeat", "pluggy"]:
        session.error(f"The core must depend on pluggy alone; installing it brought {sorted(installed)}")


def refuse_tracked_leftovers(session: nox.Session) -> None:
    """Fail when git tracks what .gitignore names, such as uv.lock."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        session.log("No git checkout here, so nothing is tracked that should not be.")
        return
    listing = ["ls-files", "--cached", "--ignored", "--exclude-standard"]
    tracked = str(session.run("git", "-c", "safe.directory=*", *listing, external=True, silent=True))
    if tracked:
        session.error(f"git tracks what .gitignore names; remove it by `git rm --cached`:\n{tracked.strip()}")


def refuse_wrong_pins(session: nox.Session) -> None:
    """Fail when the pins are not exactly what the workspace resolves to."""
    # The extra needs another protobuf than everything else, which is why protobuf has no pin.
    everything = ["--all-groups", "--all-extras", "--no-extra=etcd3", "--no-emit-workspace"]
    everything.append("--no-emit-package=protobuf")
    plain = ["--quiet", "--no-hashes", "--no-annotate", "--no-header"]
    exported = session.run("uv", "export", *everything, *plain, silent=True)
    resolved = {line.partition(";")[0].strip() for line in str(exported).splitlines()}
    pinned = set(SETTINGS["constraint-dependencies"])
    if resolved != pinned:
        add, drop = sorted(resolved - pinned), sorted(pinned - resolved)
        session.error(f"[tool.uv] constraint-dependencies: add {add}, drop {drop}")
