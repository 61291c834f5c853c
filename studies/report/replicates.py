"""Replicates: what became of every trial of an arm, and the arms of a plan as one matrix for the analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..plan import Arm, Plan
from ..robustness import Robustness
from ..statistics.means import Sample, sd
from ..trial import TrialResult


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """One seed of an arm: its trial, what became of it, and the top-1 (%) that the analysis uses (chance level if it diverged).

    `missing` trials have not run yet, or were not scored on the split that is reported. `scores` holds top-1 (%) by split, `corrupted`
    the mean over corrupted images, where the study asks for it.
    """

    seed: int
    trial: str
    status: Literal["complete", "diverged", "missing"]
    top1: float | None
    scores: Mapping[str, float]
    diverged_epoch: int | None = None
    corrupted: float | None = None


@dataclass(frozen=True, kw_only=True)
class Corrupted:
    """An arm's top-1 (%) on corrupted test images, over `n` trials (chance level if one diverged): the mean over corruptions and
    severities with its sd over seeds, and the means by corruption and by severity (1 to 5)."""

    n: int
    mean: float
    sd: float | None
    by_corruption: Mapping[str, float]
    by_severity: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """The distinct arms of a plan as a matrix: `arms` are their indices in the plan, `seeds` the replicate indices.

    `values` (arms, seeds) holds top-1 in %, NaN where a trial is missing; `diverged` (arms, seeds) marks values at chance level;
    `trials` holds the trials' ids, empty where an arm has no such seed.
    """

    arms: tuple[int, ...]
    seeds: tuple[int, ...]
    values: NDArray[np.float64]
    diverged: NDArray[np.bool_]
    trials: tuple[tuple[str, ...], ...]


def replicates(
    arm: Arm, results: Mapping[str, TrialResult], robust: Mapping[str, Robustness], split: str, chance: float
) -> tuple[Replicate, ...]:
    """The arm's replicates, in the order of seeds."""
    out, split = [], arm.split or split
    for seed, trial in zip(arm.seeds, arm.trials, strict=True):
        result = results.get(trial)
        scores = {k: s.top1 for k, s in result.scores.items()} if result else {}
        if result and result.status == "diverged":
            epoch = result.diverged_epoch
            out.append(Replicate(seed=seed, trial=trial, status="diverged", top1=chance, scores=scores, diverged_epoch=epoch))
        elif split in scores:
            corrupted = robust[trial].mean if trial in robust else None
            out.append(Replicate(seed=seed, trial=trial, status="complete", top1=scores[split], scores=scores, corrupted=corrupted))
        else:
            out.append(Replicate(seed=seed, trial=trial, status="missing", top1=None, scores=scores))
    return tuple(out)


def corrupted(scored: Sequence[Robustness | None], *, diverged: int, chance: float) -> Corrupted | None:
    """The arm's scores on corrupted images; None where there are none."""
    found = [r for r in scored if r is not None]
    if not found:
        return None
    level = Robustness(images=found[0].images, top1={name: (chance,) * len(values) for name, values in found[0].top1.items()})
    found += [level] * diverged
    means = [r.mean for r in found]
    return Corrupted(
        n=len(found),
        mean=fmean(means),
        sd=sd(means),
        by_corruption={name: fmean(r.by_corruption[name] for r in found) for name in level.top1},
        by_severity=tuple(fmean(values) for values in zip(*(r.by_severity for r in found), strict=True)),
    )


def sample(found: Sequence[Replicate]) -> Sample:
    """The finished trials' top-1 (%)."""
    values = tuple(r.top1 for r in found if r.top1 is not None)
    return Sample(values=values, diverged=sum(r.status == "diverged" for r in found))


def outcomes(plan: Plan, found: Sequence[Sequence[Replicate]]) -> Outcomes:
    """The matrix of all distinct arms; `found` holds the replicates of every arm of the plan."""
    arms = plan.distinct
    seeds = tuple(sorted({r.seed for i in arms for r in found[i]}))
    values = np.full((len(arms), len(seeds)), np.nan)
    diverged = np.zeros(values.shape, dtype=bool)
    trials = [[""] * len(seeds) for _ in arms]
    for row, i in enumerate(arms):
        for r in found[i]:
            column = seeds.index(r.seed)
            trials[row][column] = r.trial
            if r.top1 is not None:
                values[row, column] = r.top1
                diverged[row, column] = r.status == "diverged"
    return Outcomes(arms=arms, seeds=seeds, values=values, diverged=diverged, trials=tuple(map(tuple, trials)))
