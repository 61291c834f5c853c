"""Where a study that runs until all is decided stands after a look: what is settled, and which arms are still needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..plan import Plan
from ..trial import TrialResult
from .effects import by_look, rows_of
from .replicates import outcomes, replicates


@dataclass(frozen=True, kw_only=True)
class Standing:
    """`active` are the indices of the distinct arms that an effect which goes on still needs."""

    active: frozenset[int]

    @property
    def settled(self) -> bool:
        """Whether the study is over."""
        return not self.active


def standing(plan: Plan, results: Mapping[str, TrialResult]) -> Standing:
    """The standing of `plan`, of which all trials are among `results`."""
    chance = 100 / plan.data["classes"]
    found = outcomes(plan, [replicates(arm, results, {}, plan.study.score_on, chance) for arm in plan.arms])
    told = by_look(plan, found)
    active: set[int] = set()
    for row, verdict in zip(rows_of(plan), told.verdicts, strict=True):
        if verdict == "go on":
            active |= {plan.distinct[i] for i in np.flatnonzero(row)}
    return Standing(active=frozenset(active))
