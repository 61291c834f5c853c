"""A study judged look by look: an effect is settled at the look that decides it, or that finds it futile, and stays as it was judged then.

Arms of which every effect is settled get no more seeds. What later looks would say of a settled effect is not asked, so that the error of
all looks together stays within its bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from .analysis import Analysis, Estimate, Matrix, analyse
from .anytime import anytime
from .layout import Mask, first_seeds
from .means import MARGIN
from .sequential import Verdict, decide

Stopping = Literal["alpha-spending", "e-values"]


@dataclass(frozen=True, kw_only=True)
class Staged:
    """The analysis at the last look, with each effect's estimate as of the look that settled it; `verdicts` and `settled_at` (seeds, or
    None while it goes on) in the order of effects."""

    analysis: Analysis
    verdicts: tuple[Verdict, ...]
    settled_at: tuple[int | None, ...]

    @property
    def settled(self) -> bool:
        """Whether no effect goes on."""
        return all(v != "go on" for v in self.verdicts)

    def among(self, places: Sequence[int], of: int) -> Staged:
        """These effects at their `places` among `of` effects, the others being 0 by construction and settled from the start."""
        estimates: list[Estimate] = [Estimate(value=0.0)] * of
        verdicts: list[Verdict] = ["decided"] * of
        at: list[int | None] = [None] * of
        for k, place in enumerate(places):
            estimates[place], verdicts[place], at[place] = self.analysis.estimates[k], self.verdicts[k], self.settled_at[k]
        return Staged(analysis=replace(self.analysis, estimates=tuple(estimates)), verdicts=tuple(verdicts), settled_at=tuple(at))


def staged(
    values: Matrix,
    weights: Matrix,
    *,
    looks: tuple[int, ...],
    horizon: int,
    diverged: Mask | None = None,
    ignored: Mask | None = None,
    margin: float = MARGIN,
    stopping: Stopping = "alpha-spending",
) -> Staged:
    """Judge `values` (arms, seeds) at every one of `looks` (numbers of seeds), of `horizon` seeds at most.

    `weights` is (effects, arms). `stopping` by "alpha-spending" gives repeated confidence intervals over these looks, by "e-values"
    confidence sequences, which hold at any others too and know no futility. Effects that are `ignored` (effects,) are judged too, but
    nothing goes on for their sake.
    """
    waived = np.zeros(len(weights), dtype=bool) if ignored is None else ignored
    estimates: list[Estimate | None] = [None] * len(weights)
    verdicts: list[Verdict] = ["go on"] * len(weights)
    at: list[int | None] = [None] * len(weights)
    analysis: Analysis | None = None
    for k, seeds in enumerate(looks):
        seen = first_seeds(~np.isnan(values), seeds)
        now = np.where(seen, values, np.nan)
        analysis = analyse(now, weights, diverged=diverged, margin=margin, looks=looks[: k + 1], horizon=horizon)
        if stopping == "e-values":
            analysis = replace(analysis, estimates=anytime(analysis.estimates, now, weights, diverged=diverged, margin=margin))
        for i, decision in enumerate(decide(analysis, seeds=seeds, horizon=horizon, margin=margin)):
            if at[i] is not None:
                continue
            estimates[i] = analysis.estimates[i]
            verdict = "go on" if stopping == "e-values" and decision.verdict == "futile" else decision.verdict
            if verdict != "go on" or seeds >= horizon:
                verdicts[i], at[i] = ("futile" if verdict == "go on" else verdict), seeds
            elif waived[i]:
                verdicts[i] = "futile"
    if analysis is None:
        raise ValueError("looks: name the seeds of one look or more")
    merged = tuple(e or Estimate(value=None) for e in estimates)
    return Staged(analysis=replace(analysis, estimates=merged), verdicts=tuple(verdicts), settled_at=tuple(at))
