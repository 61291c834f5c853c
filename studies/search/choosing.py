"""Who is on the front, who is worth more seeds, and who wins: decided on validation alone."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from . import pareto
from .book import LEAST_COST, Book
from .halving import Score
from .state import State

if TYPE_CHECKING:
    from .engine import Problem


def scored(problem: Problem, state: State, book: Book, told: Collection[str] | None = None) -> dict[str, float]:
    """Mean validation top-1 (%) of the candidates that reached the top rung, are measured and keep to the limits, without those that
    diverged with some seed, if there are others; with `told`, from these trials and those known from the start alone."""
    own = set(state.told) - set(told) if told is not None else set()
    out = {c: v for c, v in _means(problem, state, book).items() if not own & set(state.met[c].runs)}
    top = len(problem.rule.rungs) - 1
    return {c: v for c, v in out.items() if not state.diverged(c, top)} or out


def _means(problem: Problem, state: State, book: Book) -> dict[str, float]:
    """As `scored`, with those that diverged."""
    top, out = len(problem.rule.rungs) - 1, {}
    for met in state.met.values():
        mean = state.mean(met.id, top)
        if mean is not None and not met.refused and book.complete(met.id) and not book.broken(met.id):
            out[met.id] = mean
    return out


def hypervolume(problem: Problem, state: State, book: Book, told: Collection[str] | None = None) -> float:
    """The share of the box from guessing to 100 % and, in logarithms, from the least cost of the space to the largest that is allowed
    which the candidates trained so far (those of `told`) pass over."""
    found = scored(problem, state, book, told)
    if not found:
        return 0.0
    points = np.array([_place(problem, book, c, top1) for c, top1 in found.items()])
    return float(pareto.hypervolume(points, np.zeros(points.shape[1])))


def hypervolumes(problem: Problem, state: State, book: Book) -> list[float]:
    """`hypervolume` after each training that was told, from it and those before it alone."""
    top, order = len(problem.rule.rungs) - 1, {trial: i for i, trial in enumerate(state.told)}
    new: dict[int, list[tuple[bool, list[float]]]] = {}  # by the training that completes them: whether they diverged, and where they lie
    for c, top1 in _means(problem, state, book).items():
        at = max((order[trial] for trial in state.met[c].runs if trial in order), default=-1)
        new.setdefault(at, []).append((state.diverged(c, top) > 0, _place(problem, book, c, top1)))
    points: dict[bool, list[list[float]]] = {False: [], True: []}
    volumes = [0.0]
    for i in range(-1, len(order)):
        for diverged, point in new.get(i, ()):
            points[diverged].append(point)
        if i not in new:
            volumes.append(volumes[-1])
            continue
        table = np.array(points[False] or points[True])
        table = table[pareto.non_dominated(table, [True] * table.shape[1])]
        points[not points[False]] = table.tolist()
        volumes.append(float(pareto.hypervolume(table, np.zeros(table.shape[1]))))
    return volumes[2:]


def front(problem: Problem, state: State, book: Book) -> list[str]:
    """The candidates that no other passes over, by rising cost."""
    found = scored(problem, state, book)
    return _front(problem, book, found)


def known_front(problem: Problem, state: State, book: Book) -> list[str]:
    """Candidates that the store knew already and that were not measured yet, where by prediction no other known one that went as far passes
    over them."""
    known = [m.id for m in state.met.values() if m.known and not m.refused]
    if not book.measures or all(book.complete(c) for c in known):
        return []
    out = []
    for rung in range(len(problem.rule.rungs) - 1, -1, -1):
        means = {c: mean for c in known if (mean := state.mean(c, rung)) is not None and not book.broken(c)}
        known = [c for c in known if c not in means]
        out += [c for c in _front(problem, book, means) if not book.complete(c)]
    return out


def ripe(problem: Problem, state: State, book: Book, candidate: str) -> bool:
    """Whether it was trained to the end before the search, and all its costs are known and keep to the limits: samplers may learn of it."""
    met, top = state.met.get(candidate), len(problem.rule.rungs) - 1
    if met is None or not met.known or met.refused or state.mean(candidate, top) is None:
        return False
    return (not book.measures or candidate in state.measured) and not book.broken(candidate)


def contenders(problem: Problem, state: State, book: Book) -> list[str]:
    """The candidates that are, or with the luck of seeds could be, the best choice of finalists: as many as `finalists`, taken one after
    another by what each adds to the hypervolume; each stands one standard error above its mean, less the more seeds it has.

    Under `min_accuracy` they are the cheapest that reach it so, among them the cheapest whose mean does, or the most accurate where
    none does.
    """
    found = scored(problem, state, book)
    top = len(problem.rule.rungs) - 1
    noise = problem.rule.noise_at(_scores(state), top)
    hopeful = {c: v + noise / math.sqrt(max(1, len(state.accuracies(c, top)))) for c, v in found.items()}
    if problem.min_accuracy is not None:
        able = [c for c, v in hopeful.items() if v >= problem.min_accuracy]
        if not able:
            return sorted(hopeful, key=lambda c: -hopeful[c])[:1]
        able.sort(key=lambda c: (_first_cost(problem, book, c), c))
        sure = next((c for c in able if found[c] >= problem.min_accuracy), None)
        few = able[: problem.finalists]
        return few if sure is None or sure in few else [*few[:-1], sure]
    if not problem.costs:
        return sorted(hopeful, key=lambda c: (-hopeful[c], c))[: problem.finalists]
    chosen: list[str] = []
    left = _front(problem, book, hopeful)
    while left and len(chosen) < problem.finalists:
        if not chosen:  # the most accurate one is always among them
            best = max(left, key=lambda c: (hopeful[c], c))
        else:
            best = max(left, key=lambda c: (_volume(problem, book, [*chosen, c], hopeful), c))
        chosen.append(best)
        left.remove(best)
    return sorted(chosen, key=lambda c: (_first_cost(problem, book, c), c))


def winner(problem: Problem, state: State, book: Book, finalists: Sequence[str]) -> str | None:
    """Of the finalists the most accurate one on validation; under `min_accuracy` the cheapest that reaches it (None where none does). One
    that diverged when it was trained again is passed over for those that did not."""
    found, top = scored(problem, state, book), len(problem.rule.rungs) - 1
    finalists = [c for c in finalists if not state.diverged(c, top, final=True)] or finalists
    if problem.min_accuracy is None:
        return max(finalists, key=lambda c: (found[c], c), default=None)
    able = [c for c in finalists if found[c] >= problem.min_accuracy]
    return min(able, key=lambda c: (_first_cost(problem, book, c), c), default=None)


def _front(problem: Problem, book: Book, values: dict[str, float]) -> list[str]:
    if not values:
        return []
    names = list(values)
    table = np.array([[values[c], *(book.cost(c, o.name) for o in problem.costs)] for c in names])
    kept = pareto.non_dominated(table, [True, *(False for _ in problem.costs)])
    return sorted((c for c, keep in zip(names, kept, strict=True) if keep), key=lambda c: (_first_cost(problem, book, c), c))


def _volume(problem: Problem, book: Book, chosen: Sequence[str], values: dict[str, float]) -> float:
    points = np.array([_place(problem, book, c, values[c]) for c in chosen])
    return float(pareto.hypervolume(points, np.zeros(points.shape[1])))


def _place(problem: Problem, book: Book, candidate: str, top1: float) -> list[float]:
    """Where a candidate lies in the box, each axis from 0 (worst) to 1."""
    out = [(top1 - problem.chance) / (100 - problem.chance)]
    for o in problem.costs:
        low, high = book.range(o.name)
        out.append(1 - math.log(max(book.cost(candidate, o.name), LEAST_COST) / low) / math.log(high / low))
    return [min(1.0, max(0.0, v)) for v in out]


def _first_cost(problem: Problem, book: Book, candidate: str) -> float:
    return book.cost(candidate, problem.costs[0].name) if problem.costs else 0.0


def _scores(state: State) -> list[Score]:
    return [
        Score(candidate=r.candidate, rung=r.rung, seed=r.seed, value=r.accuracy)
        for r in state.runs.values()
        if r.status != "running" and r.purpose != "final"
    ]
