"""Runs of searchers on tables, kept in a file, a line each, so that the benchmark goes on where it stopped."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from threadpoolctl import threadpool_limits

from search import optuna_peers, peers, pool_peers
from search.game import Game, Over
from search.protocol import Scorer
from search.tables import Table

Method = Callable[[Game, int], None]
# By name: the searcher, and whether it has the free costs and trains no network twice.
METHODS: dict[str, tuple[Method, bool]] = {
    "vitnas": (pool_peers.vitnas, True),
    "tpe": (optuna_peers.tpe, False),
    "tpe+free": (optuna_peers.tpe, True),
    "random": (peers.random, False),
    "random+free": (peers.random, True),
    "local": (peers.local, False),
    "local+free": (peers.local, True),
    "evolution": (peers.evolution, False),
    "evolution+free": (peers.evolution, True),
    "nsga2": (optuna_peers.nsga2, False),
    "nsga2+free": (optuna_peers.nsga2, True),
}
SLOW: dict[str, tuple[Method, bool]] = {
    "gp": (optuna_peers.gp, False),
    "gp+free": (optuna_peers.gp, True),
    "botorch": (pool_peers.botorch, False),
    "botorch+free": (pool_peers.botorch, True),
}


@dataclass(frozen=True, order=True)
class Task:
    """One search."""

    table: str
    method: str
    seed: int
    trainings: int


@dataclass(frozen=True)
class Run:
    """The rows trained in order, and the seconds that it took."""

    task: Task
    rows: tuple[int, ...]
    seconds: float


def missing(method: str) -> str | None:
    """Why a method cannot run here; None where it can."""
    if method.startswith("botorch") and importlib.util.find_spec("botorch") is None:
        return "botorch is not installed (pip install botorch)"
    return None


def play(scale: Scorer, task: Task) -> Run:
    """Run one search until its trainings are spent."""
    method, free = (METHODS | SLOW)[task.method]
    game = Game(scale.table, task.trainings, free=free, limit=scale.dearest, seed=task.seed)
    start = time.perf_counter()
    with contextlib.suppress(Over):
        method(game, task.seed)
    return Run(task, tuple(game.rows), time.perf_counter() - start)


def load(path: Path) -> dict[Task, Run]:
    """What earlier calls ran. A line that was cut off is run again."""
    out = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            continue
        task = Task(entry["table"], entry["method"], entry["seed"], entry["trainings"])
        out[task] = Run(task, tuple(entry["rows"]), entry["seconds"])
    return out


def run(tasks: Iterable[Task], make: Callable[[str], Table], path: Path | None, *, workers: int, until: float) -> dict[Task, Run]:
    """All of these, by the clock `time.monotonic` no new one after `until`."""
    done = load(path) if path else {}
    left = [task for task in tasks if task not in done]
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, initializer=threadpool_limits, initargs=(1,)) as pool:
        for future in as_completed([pool.submit(_play_by_name, make, task, until) for task in left]):
            result = future.result()
            if result is None:
                continue
            done[result.task] = result
            if path:
                entry = vars(result.task) | {"rows": list(result.rows), "seconds": round(result.seconds, 3)}
                with path.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
    return done


def _play_by_name(make: Callable[[str], Table], task: Task, until: float) -> Run | None:
    if time.monotonic() >= until:
        return None
    return play(scorer(make, task.table), task)


@cache
def scorer(make: Callable[[str], Table], name: str) -> Scorer:
    """A table with its scale, made once: workers that are forked after it is asked for have it too."""
    out = Scorer(make(name))
    out.best, out.table.representatives, out.table.features  # noqa: B018 - worked out here, not in every worker
    return out
