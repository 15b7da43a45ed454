"""The command that lists what is installed: backends."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from drumbeat import SPEC_VERSION, Capability, DrumbeatError, SystemClock
from drumbeat._plugins import BACKENDS, KNOWN_PACKAGES, installed, load_backend_factory
from drumbeat._session import load_backend
from drumbeat._settings import CORE_OPTIONS, read_settings
from drumbeat.cli import _options as options
from drumbeat.cli._report import answer, in_columns, print_lines

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

#: The package whose backends are embedded: they can be asked for their claims, because there is no server to ask.
_EMBEDDING = "drumbeat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What is known of an installed backend without talking to a server."""

    scheme: str
    package: str
    version: str
    spec_version: int | None = None
    #: The URL options beside those that every backend takes.
    options: dict[str, str]
    #: Labels of what it claims; None where only its server can tell.
    capabilities: list[str] | None = None
    #: Why it cannot be used, if so.
    problem: str | None = None


def backends(*, as_json: bool = options.JSON) -> None:
    """List the installed backends: URL scheme, package, URL options, and what each one claims.

    What a backend with a server claims may depend on that server: `drumbeat doctor URL` asks it.

    --json: {"spec_version", "backends": [{"scheme", "package", "version", "spec_version", "options": {name: help},
    "capabilities": [label] or null, "problem"}], "available": {package: [scheme]}, "options": {name: help},
    "capabilities": {label: promise}}
    """
    points = installed(BACKENDS)
    found = [_examine(point) for _, point in sorted(points.items())]
    available: dict[str, list[str]] = {}
    for scheme in sorted(KNOWN_PACKAGES.keys() - points.keys()):
        available.setdefault(KNOWN_PACKAGES[scheme], []).append(scheme)
    if as_json:
        answer(
            {
                "spec_version": SPEC_VERSION,
                "backends": [asdict(backend) for backend in found],
                "available": available,
                "options": dict(CORE_OPTIONS),
                "capabilities": {capability.label: capability.promise for capability in Capability},
            }
        )
    else:
        _print(found, available)


def origin(point: EntryPoint) -> tuple[str, str]:
    """Return name and version of the package that announces a backend."""
    return ("unknown", "unknown") if point.dist is None else (point.dist.name, point.dist.version)


def _examine(point: EntryPoint) -> Installed:
    package, version = origin(point)
    try:
        factory = load_backend_factory(point.name)
        return Installed(
            scheme=point.name,
            package=package,
            version=version,
            spec_version=factory.spec_version,
            options=dict(factory.options),
            capabilities=_claims(point.name) if package == _EMBEDDING else None,
        )
    except DrumbeatError as error:
        return Installed(scheme=point.name, package=package, version=version, options={}, problem=str(error))


def _claims(scheme: str) -> list[str]:
    settings = read_settings(f"{scheme}://", {})
    profile = load_backend(settings, clock=SystemClock()).describe(timeout=settings.connect_timeout)
    return sorted(capability.label for capability in profile.capabilities)


def _print(found: list[Installed], available: dict[str, list[str]]) -> None:
    lines = [f"contract version {SPEC_VERSION}", ""]
    for backend in found:
        lines += [f"{backend.scheme}://  {backend.package} {backend.version}", *_details(backend), ""]
    lines += ["options of every backend", *_indented(list(CORE_OPTIONS.items())), ""]
    for package, schemes in available.items():
        lines.append(f"not installed: {', '.join(schemes)}  (python3 -m pip install {package})")
    print_lines(lines)


def _details(backend: Installed) -> list[str]:
    if backend.problem is not None:
        return [f"  cannot be used: {backend.problem}"]
    promises = {capability.label: capability.promise for capability in Capability}
    if backend.capabilities is None:
        claims = ["  claims: depend on the server; ask `drumbeat doctor URL`"]
    else:
        claims = ["  claims", *_indented([(label, promises[label]) for label in backend.capabilities])]
    known = ["  options", *_indented(list(backend.options.items()))] if backend.options else []
    return claims + known


def _indented(rows: list[tuple[str, str]]) -> list[str]:
    return [f"    {line}" for line in in_columns(rows)]
