"""Where a study that runs until all is decided stands after a look: what is settled, and which arms are still needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..plan import Plan
from ..statistics.staged import Staged, staged
from ..trial import TrialResult
from .effects import row_of
from .replicates import Outcomes, outcomes, replicates


@dataclass(frozen=True, kw_only=True)
class Standing:
    """`active` are the indices of the distinct arms that an effect which goes on still needs."""

    active: frozenset[int]

    @property
    def settled(self) -> bool:
        """Whether the study is over."""
        return not self.active


def stages(plan: Plan, found: Outcomes) -> Staged:
    """The plan's effects, judged look by look. Nothing goes on for the sake of the placebo, nor of steps that cannot act."""
    weights = np.array([row_of(plan, found, e.weights) for e in plan.effects]).reshape(len(plan.effects), len(found.arms))
    waived = np.array([e.estimand == "the reference again" or not e.liveness.verdict for e in plan.effects], dtype=bool)
    return staged(
        found.values,
        weights,
        looks=plan.looks,
        horizon=plan.study.max_seeds,
        diverged=found.diverged,
        ignored=waived,
        margin=plan.study.margin,
    )


def standing(plan: Plan, results: Mapping[str, TrialResult]) -> Standing:
    """The standing of `plan`, of which all trials are among `results`."""
    chance = 100 / plan.data["classes"]
    found = outcomes(plan, [replicates(arm, results, {}, plan.study.score_on, chance) for arm in plan.arms])
    told = stages(plan, found)
    active: set[int] = set()
    for effect, verdict in zip(plan.effects, told.verdicts, strict=True):
        if verdict == "go on":
            active |= {found.arms[i] for i in np.flatnonzero(row_of(plan, found, effect.weights))}
    return Standing(active=frozenset(active))
