"""`python -m drumbeat_mutants`: run mutants, print the kill matrix, and fail where a bug goes unnoticed."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from drumbeat_conformance import guarantees as _entered  # noqa: F401 - importing it enters them
from drumbeat_conformance.guarantee import CATALOGUE
from drumbeat_mutants._matrix import as_json, as_markdown, as_text
from drumbeat_mutants._mutant import Mutant, load, modules
from drumbeat_mutants._rules import Results, complaints, complaints_of_all, complaints_of_full
from drumbeat_mutants._run import Bench, Choice, Report


def main() -> int:
    """Return 0 where every mutant that was asked for is killed, and 1 where not."""
    arguments = _arguments()
    everything = load(arguments.module or modules())
    chosen = {name: one for name, one in everything.items() if _chosen(one, arguments)}
    if not chosen:
        print("no mutant is like that; there are:", *sorted(everything), sep="\n  ")
        return 1
    results = _results(chosen, arguments)
    _write(results, arguments)
    found = complaints(results)
    if not (arguments.names or arguments.breaks or arguments.module or arguments.of or arguments.real_time):
        found += complaints_of_all(results, modules())
    if arguments.full and not (arguments.names or arguments.breaks or arguments.of):
        found += complaints_of_full(results)
    print(as_text(results))
    for sentence in found:
        print(f"FAILED: {sentence}\n")
    print(f"{len(chosen)} mutants, {len(CATALOGUE)} guarantees, {len(found)} complaints")
    return 1 if found else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m drumbeat_mutants", description=sys.modules["__main__"].__doc__)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="run these mutants alone")
    add("--breaks", action="append", default=[], metavar="ID", help="run those that break this guarantee")
    add("--module", action="append", default=[], help="run those of this module, like lead")
    add("--of", action="append", default=[], metavar="BACKEND", help="run those of this backend, like redis")
    add("--full", action="store_true", help="every guarantee on every mutant, where time is real too: takes long")
    add("--quick", action="store_true", help="the named guarantees alone, where time is fake too")
    add("--real-time", action="store_true", help="the machine's clock for stores in memory too")
    add("--json", type=Path, metavar="FILE", help="write the matrix there as JSON")
    add("--markdown", type=Path, metavar="FILE", help="write the matrix there as Markdown")
    add("--workers", type=int, default=2, help="processes that compute at once (default 2)")
    return parser.parse_args()


def _chosen(one: Mutant, arguments: argparse.Namespace) -> bool:
    return (
        (not arguments.names or one.name in arguments.names)
        and (not arguments.breaks or not set(one.breaks).isdisjoint(arguments.breaks))
        and (not arguments.module or one.module in arguments.module)
        and (not arguments.of or one.of in arguments.of)
    )


def _results(chosen: dict[str, Mutant], arguments: argparse.Namespace) -> Results:
    started = time.monotonic()

    def tell(name: str, report: Report) -> None:
        failed = ", ".join(report.failed) or "nothing"
        print(f"[{time.monotonic() - started:5.1f} s] {name}: {failed} failed", flush=True)

    choice = Choice(full=arguments.full, quick=arguments.quick, real_time=arguments.real_time)
    with Bench(choice=choice, workers=arguments.workers, tell=tell) as bench:
        controls, reports = bench.run(list(chosen.values()))
    return Results(mutants=chosen, reports=reports, controls=controls, catalogue=CATALOGUE)


def _write(results: Results, arguments: argparse.Namespace) -> None:
    for path, text in ((arguments.json, as_json), (arguments.markdown, as_markdown)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text(results), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
