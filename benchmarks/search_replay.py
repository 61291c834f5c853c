"""Searches replayed on tables of real trainings: how few trainings until the front of accuracy and cost is found.

    python benchmarks/search_replay.py [--shared FOLDER] [--tables scored|development|NAME,...] [--methods NAME,...] [--seeds 20]
        [--trainings 200] [--results FILE] [--minutes M] [--workers 2] [--slow] [--speed] [--json]
    python benchmarks/search_replay.py --table FILE.csv.gz --arch COLUMN --objective COLUMN --judge COLUMN --cost COLUMN [--json]

A searcher is told the objective (noisy: validation, or one seed); what it returns is chosen on that and scored by the judge (test, or the
mean of three seeds). Axes, reference point and regret: `search/protocol.py`. Tables, and which of them hyper-parameters were chosen on:
`search/tables.py`.
Plain methods train whatever they propose. With `+free` they know costs beforehand as `vitnas` does: what costs more than the reference
point is not trained, spellings of one network are one network (the one that costs least), and none is trained twice (`search/game.py`).

`--slow` adds Optuna's GP and BoTorch's qLogNEHVI, 5 seeds and 100 trainings on three named tables; BoTorch is not installed with vitnas.
`--speed` times proposals. Runs are appended to `--results`, a line each; run it again to continue or to see what is known. After
`--minutes` no new one starts. `--arch` may be given several times, a column a choice.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from search import speed, summary
from search.runs import METHODS, SLOW, Task, missing, run, scorer
from search.tables import DEVELOPMENT, NAMED, SCORED, Table, known, read

SLOW_SEEDS, SLOW_TRAININGS = 5, 100


@dataclass(frozen=True)
class Shared:
    """The tables of a folder by name."""

    folder: Path

    def __call__(self, name: str) -> Table:
        return known(self.folder)[name]()


@dataclass(frozen=True)
class Given:
    """The one table of the command line, under any name."""

    path: Path
    arch: tuple[str, ...]
    objective: str
    judge: str
    cost: str

    def __call__(self, name: str) -> Table:
        return read(self.path, self.arch, self.objective, self.judge, self.cost)


def tasks(tables: list[str], methods: list[str], seeds: int, trainings: int, slow: bool) -> list[Task]:
    """All searches, seed by seed, so that a part of them covers all tables."""
    out = [Task(t, m, s, trainings) for s in range(seeds) for t in tables for m in methods]
    if slow:
        able = [m for m in SLOW if missing(m) is None]
        out += [
            Task(t, m, s, min(SLOW_TRAININGS, trainings)) for s in range(min(SLOW_SEEDS, seeds)) for t in tables if t in NAMED for m in able
        ]
    return out


def plain(value: Any) -> Any:
    """For JSON: what is infinite (not reached) as null."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    """Run what is asked for and print it by table, or everything as JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("VITNAS_SHARED", Path(__file__).parent.parent / "shared")) / "nas-tables"
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--tables", default="scored")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--trainings", type=int, default=200)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--table", type=Path)
    parser.add_argument("--arch", action="append")
    parser.add_argument("--objective")
    parser.add_argument("--judge")
    parser.add_argument("--cost")
    options = parser.parse_args()
    say = (lambda line: None) if options.json else partial(print, flush=True)
    start = time.monotonic()
    methods = [m for m in options.methods.split(",") if m]
    if unknown := [m for m in methods if m not in METHODS]:
        parser.error(f"unknown method {unknown[0]!r}; there are {', '.join(METHODS)}")
    make: Shared | Given
    if options.table:
        if not (options.arch and options.objective and options.judge and options.cost):
            parser.error("--table needs --arch, --objective, --judge and --cost")
        make, names = Given(options.table, tuple(options.arch), options.objective, options.judge, options.cost), [options.table.name]
    else:
        if not options.shared.is_dir():
            parser.error(f"no tables in {options.shared}; set VITNAS_SHARED, or name a file with --table")
        make = Shared(options.shared)
        names = list({"scored": SCORED, "development": DEVELOPMENT}.get(options.tables, options.tables.split(",")))
        if unknown := [n for n in names if n not in known(options.shared)]:
            parser.error(f"unknown table {unknown[0]!r}; there are {', '.join(known(options.shared))}")
    try:
        scorers = {name: scorer(make, name) for name in names}
    except ValueError as error:
        parser.error(str(error))
    wanted = tasks(names, methods, options.seeds, options.trainings, options.slow)
    until = start + 60 * options.minutes
    done = run(wanted, make, options.results, workers=options.workers, until=until)
    done = {task: done[task] for task in wanted if task in done}
    found: dict[str, Any] = {"trainings": options.trainings, "runs": len(done), "left": len(wanted) - len(done), "tables": []}
    for name in names:
        entry = summary.table(name, scorers[name], done)
        found["tables"].append(entry)
        summary.show(entry, say)
    say("")
    found["goals"] = summary.goals(found["tables"], say)
    if options.slow:
        found["skipped"] = {m: reason for m in SLOW if (reason := missing(m))}
        for method, reason in found["skipped"].items():
            say(f"{method}: skipped, {reason}")
    if options.speed:
        found["speed"] = speed.section(say=say)
    found["seconds"] = time.monotonic() - start
    found["search_seconds"] = sum(r.seconds for r in done.values())
    say(f"{len(done)} runs ({len(wanted) - len(done)} left), {found['search_seconds']:.0f} s of searches, {found['seconds']:.0f} s now")
    if options.json:
        print(json.dumps(plain(found), indent=1))


if __name__ == "__main__":
    main()
