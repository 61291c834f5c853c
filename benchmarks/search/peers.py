"""Searchers to compare with that need no library: random, local search, regularised evolution."""

from __future__ import annotations

import numpy as np

from search.game import Game
from vitnas.studies.search import pareto

POPULATION, TOURNAMENT = 20, 5
START = 10


def random(game: Game, seed: int) -> None:
    """Rows of the table, each as likely."""
    rng = np.random.default_rng(seed)
    while True:
        game.propose(game.table.choices[rng.integers(len(game.table.cost))])


def local(game: Game, seed: int) -> None:
    """Pareto local search (Paquete et al. 2004): START random networks; then a network of the front whose neighbours were not all tried,
    and a neighbour of it, in random order; a random network where all neighbours were."""
    rng = np.random.default_rng(seed)
    choices = game.table.choices
    trained: list[int] = []
    tried: set[tuple[int, ...]] = set()

    def take(proposal: tuple[int, ...]) -> None:
        tried.add(proposal)
        row, _ = game.propose(proposal)
        if row >= 0:
            trained.append(row)
            tried.add(tuple(choices[row].tolist()))

    while True:
        if len(trained) < START:
            take(tuple(choices[rng.integers(len(choices))].tolist()))
            continue
        rows = np.unique(trained)
        front = rows[pareto.non_dominated(np.array([game.values(int(r)) for r in rows]), [True, False])]
        for row in rng.permutation(front):
            around = [n for n in neighbours(tuple(choices[row].tolist()), game.table.levels) if n not in tried]
            if around:
                take(around[rng.integers(len(around))])
                break
        else:
            take(tuple(choices[rng.integers(len(choices))].tolist()))


def evolution(game: Game, seed: int) -> None:
    """Regularised evolution (Real et al. 2019) by non-dominated rank: the best of TOURNAMENT of the last POPULATION networks changes one
    choice."""
    rng = np.random.default_rng(seed)
    alive: list[int] = []
    choices = game.table.choices
    while True:
        if len(alive) < POPULATION:
            row, _ = game.propose(choices[rng.integers(len(choices))])
        else:
            rank = pareto.ranks(np.array([game.values(r) for r in alive]), [True, False])
            among = rng.choice(len(alive), TOURNAMENT, replace=False)
            parent = alive[int(among[np.argmin(rank[among])])]
            around = neighbours(tuple(choices[parent].tolist()), game.table.levels)
            row, _ = game.propose(around[rng.integers(len(around))])
        if row >= 0:
            alive = [*alive, row][-POPULATION:]


def neighbours(choices: tuple[int, ...], levels: tuple[int, ...]) -> list[tuple[int, ...]]:
    """One choice changed."""
    return [(*choices[:j], v, *choices[j + 1 :]) for j, n in enumerate(levels) for v in range(n) if v != choices[j]]
