"""How a search is scored: what it returns is chosen on the objective, and what that is worth is said by the judge.

Axes: the judge over the range of the table, and the logarithm of the cost over its range, both to [0, 1]. Reference: one tenth beyond the
nadir of the true front, which is that of judge and cost over the whole table. The hypervolume of a returned set is divided by that of the
best set that can be chosen from the whole table by the same objective: 1 - that is the regret, below 0 where the objective's luck was good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from search.tables import Floats, Table
from vitnas.studies.search import pareto

BEYOND = 0.1
BOOTSTRAPS = 2000


@dataclass(frozen=True)
class Scorer:
    """The scale of a table."""

    table: Table

    @cached_property
    def scaled(self) -> Floats:
        """(n, 2): judge and minus the cost, more the better, each over a range of 1."""
        judge, cost = self.table.judge, np.log(self.table.cost)
        return np.column_stack([(judge - judge.min()) / np.ptp(judge), (cost.max() - cost) / np.ptp(cost)])

    @cached_property
    def reference(self) -> Floats:
        front = pareto.non_dominated(self.scaled, [True, True])
        return np.asarray(self.scaled[front].min(axis=0) - BEYOND)

    @cached_property
    def dearest(self) -> float:
        """The cost of the reference point: what is above it is worth nothing."""
        low, high = np.log(self.table.cost.min()), np.log(self.table.cost.max())
        return float(math.exp(high - self.reference[1] * (high - low)))

    @cached_property
    def best(self) -> float:
        """The hypervolume of the set that the objective chooses from the whole table."""
        return self._volume(np.arange(len(self.table.cost)))

    def hypervolume(self, rows: Sequence[int]) -> float:
        """Of what is returned after these trainings, as a share of `best`."""
        return self._volume(np.asarray(rows, dtype=np.int64)) / self.best

    def curve(self, rows: Sequence[int]) -> Floats:
        """(t,): hypervolume after 1, 2, ... trainings."""
        out, front = [], np.empty(0, dtype=np.int64)
        for row in rows:
            front = self._chosen(np.unique(np.append(front, row)))
            out.append(pareto.hypervolume(self.scaled[front], self.reference) / self.best)
        return np.array(out)

    def _chosen(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        table = np.column_stack([self.table.objective[rows], self.table.cost[rows]])
        return np.asarray(rows[pareto.non_dominated(table, [True, False])])

    def _volume(self, rows: NDArray[np.int64]) -> float:
        return pareto.hypervolume(self.scaled[self._chosen(rows)], self.reference)


def reached(curve: Floats, level: float) -> float:
    """After how many trainings a curve is at `level`; infinite where it is not."""
    at = np.flatnonzero(curve >= level)
    return float(at[0] + 1) if len(at) else math.inf


def median(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """The median and its interval of 95 % (bootstrap of percentiles); infinite values, *not reached*, are kept as such."""
    given = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(given), (BOOTSTRAPS, len(given)))
    medians = np.sort(np.array([_middle(given[d]) for d in draws]))
    return _middle(given), float(medians[int(0.025 * BOOTSTRAPS)]), float(medians[int(0.975 * BOOTSTRAPS) - 1])


def _middle(values: Floats) -> float:
    """The median; between a number and infinity, infinity."""
    ranked = np.sort(values)
    low, high = ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2]
    return float(low if low == high else (low + high) / 2)
