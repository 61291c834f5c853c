"""The analysis of a study: weighted sums of arms' means, with intervals alone and together, p-values and words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .critical import Spending, null
from .judgement import Judgement, judge
from .means import CONFIDENCE, MARGIN, Interval, Word, word
from .moderation import reference_df

Matrix = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One effect: `value` and `se` in the unit of the values; `interval` alone, `simultaneous` for all effects at once; `p` alone and
    `p_adjusted` with the correction of the simultaneous interval. None where there is nothing to go by (one seed, no scatter)."""

    value: float | None
    se: float | None = None
    df: float | None = None
    interval: Interval | None = None
    simultaneous: Interval | None = None
    p: float | None = None
    p_adjusted: float | None = None
    word: Word | None = None


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """All estimates, in the order of the weights, and what they rest on: sd over seeds within an arm (`seed_sd`) with its degrees of
    freedom, the correlation of arms at equal seeds (None where it cannot be told), and the p-value of equal variances (the locally best
    invariant test on residuals within blocks, by simulation). `residual_sd`, with `residual_df`, is what is left of the noise once the
    seeds' own means are taken out; paired effects rest on it. `critical` is what the ratio of an effect to its `se` must exceed, at the
    looks and in the family at hand, `last_critical` the same at the horizon's last look, where that is still to come."""

    estimates: tuple[Estimate, ...]
    seed_sd: float | None
    df: float | None
    correlation: float | None = None
    equal_variances_p: float | None = None
    notes: tuple[str, ...] = ()
    residual_sd: float | None = None
    residual_df: float | None = None
    critical: float | None = None
    last_critical: float | None = None


def analyse(
    values: Matrix,
    weights: Matrix,
    *,
    diverged: NDArray[np.bool_] | None = None,
    confidence: float = CONFIDENCE,
    margin: float = MARGIN,
    looks: tuple[int, ...] = (),
    horizon: int = 0,
    spending: Spending = "obrien-fleming",
) -> Analysis:
    """Estimate `weights @ means`: `values` (arms, seeds) with NaN where a trial is missing, `weights` (effects, arms).

    A column is a replicate index and serves as a block; an arm whose replicates lie in columns of its own (the placebo) is not paired.
    `diverged` marks values that stand for a diverged trial. `looks` are the numbers of seeds at which the study was judged before and
    is judged now, in order, where that happened more than once; `horizon` is the most seeds that it may reach, if more are to come.
    Simultaneous intervals hold over all effects and all looks; the others for one effect at this look alone.
    """
    rows = np.asarray(weights, dtype=float).reshape(-1, len(values))
    if np.isnan(values).all():
        return Analysis(estimates=(Estimate(value=None),) * len(rows), seed_sd=None, df=None)
    marks = None if diverged is None else diverged[None]
    found = judge(values[None], rows, diverged=marks, confidence=confidence, looks=looks, horizon=horizon, spending=spending)
    layout = found.null.layout
    residual = _or_none(found.residual_sd[0])
    ratio = found.together[0] / found.se[0]
    regular = ratio[np.isfinite(ratio) & ~found.irregular[0]]
    return Analysis(
        estimates=tuple(_estimate(found, i, margin) for i in range(len(rows))),
        seed_sd=_or_none(found.seed_sd[0]),
        df=_or_none(found.seed_df[0]),
        correlation=_or_none(found.correlation[0]),
        equal_variances_p=_or_none(found.unequal_p[0]),
        notes=_notes(found),
        residual_sd=residual,
        residual_df=reference_df(layout) if residual is not None and not (marks is not None and marks.any()) else None,
        critical=float(regular.min()) if len(regular) else None,
        last_critical=_last_critical(rows, looks, horizon, confidence, spending),
    )


def rank_check(values: Matrix, weights: Matrix, *, confidence: float = CONFIDENCE) -> tuple[Word | None, ...]:
    """The words by ranks, a second opinion that no outlier can sway: all of the study's values are replaced by their ranks (ties share
    the mean rank), diverged trials being the lowest, and judged alike (Conover and Iman, The American Statistician 35, 1981, 124-129).
    *helps*, *hurts* or *undecided*, never *equivalent*, for ranks have no margin; None where the values have no interval either."""
    from scipy.stats import rankdata

    ranks = np.full(values.shape, np.nan)
    known = ~np.isnan(values)
    ranks[known] = rankdata(values[known])
    return tuple(e.word for e in analyse(ranks, weights, confidence=confidence, margin=0.0).estimates)


def _last_critical(weights: Matrix, looks: tuple[int, ...], horizon: int, confidence: float, spending: Spending) -> float | None:
    """What the ratio of an effect to its `se` must exceed with all of the horizon's seeds in every arm; None where they are in."""
    if not looks or horizon <= looks[-1] or not len(weights):
        return None
    last = null(np.ones((weights.shape[1], horizon), dtype=bool), weights, looks=(*looks, horizon), spending=spending)
    return float(last.boundary(1 - confidence)[-1] * last.scale**0.5)


def _estimate(found: Judgement, i: int, margin: float) -> Estimate:
    value = _or_none(found.value[0, i])
    if value is None or np.isnan(found.together[0, i]):
        return Estimate(value=value)
    both = _around(value, float(found.together[0, i]))
    return Estimate(
        value=value,
        se=_or_none(found.se[0, i]),
        df=_or_none(found.df[0, i]),
        interval=_around(value, float(found.alone[0, i])),
        simultaneous=both,
        p=_or_none(found.p[0, i]),
        p_adjusted=_or_none(found.p_together[0, i]),
        word=word(both, margin=margin),
    )


def _notes(found: Judgement) -> tuple[str, ...]:
    layout, out = found.null.layout, []
    loose = bool(np.any(layout.judged & ~layout.paired))
    if loose and layout.df:
        out.append("Arms without common seeds (the placebo has its own) are compared between seeds, not within.")
    if found.irregular[0].any():
        out.append("Effects that touch a diverged trial rest on their own arms' variance, with Bonferroni's share of the error.")
    return tuple(out)


def _around(centre: float, half: float) -> Interval:
    return Interval(low=centre - half, high=centre + half)


def _or_none(number: float) -> float | None:
    return None if np.isnan(number) else float(number)
