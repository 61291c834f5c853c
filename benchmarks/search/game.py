"""A table as a searcher sees it: it asks for trainings, and some of its questions are answered without one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.tables import Table

PATIENCE = 10  # proposals in a row that cost no training, before a random network is trained instead


class Over(Exception):
    """The trainings are spent, or there is nothing left to train."""


class Game:
    """Counts trainings. Plain: every proposal is one, also of what was trained before.

    `free`: what costs more than `limit` is refused before it is trained, a spelling is trained as the one of the same network that costs
    least, and what was trained is not trained again. After PATIENCE such proposals in a row a random network that is left is trained for
    the searcher.
    """

    def __init__(self, table: Table, trainings: int, *, free: bool, limit: float, seed: int) -> None:
        self.table, self.trainings, self.free, self.limit = table, trainings, free, limit
        self.rows: list[int] = []
        self.instead = 0
        self._idle = 0
        self._rng = np.random.default_rng([seed, 6])
        rows = np.arange(len(table.cost))
        self.left = set((rows[(table.representatives == rows) & (table.cost <= limit)] if free else rows).tolist())

    def propose(self, choices: Sequence[int]) -> tuple[int, bool]:
        """The row trained for these choices, and whether it stands for them; False: none of these, a random one instead. (-1, False):
        refused.

        Raises `Over` when the trainings are spent.
        """
        if len(self.rows) >= self.trainings or not self.left:
            raise Over
        found = self.table.row(choices)
        if found is None:  # a table that does not have all: the nearest that may be trained
            return self._train(self.table.nearest(choices, np.array(sorted(self.left)))), True
        if not self.free:
            return self._train(found), True
        row = int(self.table.representatives[found])
        if row in self.left:
            return self._train(row), True
        self._idle += 1
        if self._idle < PATIENCE:
            return -1, False
        self.instead += 1
        return self._train(int(self._rng.choice(sorted(self.left)))), False

    def _train(self, row: int) -> int:
        self._idle = 0
        self.rows.append(row)
        if self.free:
            self.left.remove(row)
        return row

    def trained(self, choices: Sequence[int]) -> int | None:
        """The row that was trained for these choices; None where none was. Costs no training."""
        found = self.table.row(choices)
        row = None if found is None else int(self.table.representatives[found])
        return row if row in self.rows else None

    def train(self, row: int) -> int:
        """A row of the table itself."""
        if len(self.rows) >= self.trainings or not self.left:
            raise Over
        return self._train(row)

    def values(self, row: int) -> tuple[float, float]:
        """What a training says: the objective, and the logarithm of the cost."""
        return float(self.table.objective[row]), float(np.log(self.table.cost[row]))
