"""The analysis of a study: weighted sums of arms' means, with intervals alone and together, p-values and words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .deltas import CONFIDENCE, MARGIN, Interval, Word, max_modulus_quantile, t_quantile, word

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
    freedom, the correlation of arms at equal seeds (None where it cannot be told), and the p-value of equal variances."""

    estimates: tuple[Estimate, ...]
    seed_sd: float | None
    df: float | None
    correlation: float | None = None
    equal_variances_p: float | None = None
    notes: tuple[str, ...] = ()


def analyse(
    values: Matrix,
    weights: Matrix,
    *,
    diverged: NDArray[np.bool_] | None = None,
    confidence: float = CONFIDENCE,
    margin: float = MARGIN,
    looks: tuple[int, ...] = (),
) -> Analysis:
    """Estimate `weights @ means`: `values` (arms, seeds) with NaN where a trial is missing, `weights` (effects, arms).

    A column is a replicate index and serves as a block; an arm whose replicates lie in columns of its own (the placebo) is not paired.
    `diverged` marks values that stand for a diverged trial. `looks` are the numbers of seeds at which the study was judged before and
    is judged now, in order, where that happened more than once.
    """
    arms, _ = values.shape
    n = np.sum(~np.isnan(values), axis=1)
    means = np.array([np.nanmean(v) if k else np.nan for v, k in zip(values, n, strict=True)])
    df = float(np.sum(np.maximum(n - 1, 0)))
    squares = float(sum(np.nansum((v - m) ** 2) for v, m in zip(values, means, strict=True)))
    used = [bool(np.all(n[w != 0] > 0)) for w in weights]
    if df == 0 or squares == 0:
        found = tuple(Estimate(value=float(np.nansum(w * means)) if ok else None) for w, ok in zip(weights, used, strict=True))
        return Analysis(estimates=found, seed_sd=None, df=None)
    variance = squares / df
    judged = [i for i, w in enumerate(weights) if used[i] and np.all(n[w != 0] > 1)]
    rows = np.array([weights[i] / np.sqrt(np.maximum(n, 1)) for i in judged]).reshape(len(judged), arms)
    norms = np.linalg.norm(rows, axis=1)
    together = max_modulus_quantile(rows / norms[:, None], df, confidence=confidence) if judged else 0.0
    out = []
    for i, w in enumerate(weights):
        if not used[i]:
            out.append(Estimate(value=None))
            continue
        value = float(np.nansum(w * means))
        if i not in judged:
            out.append(Estimate(value=value))
            continue
        se = float(np.sqrt(variance) * norms[judged.index(i)])
        alone, all_ = t_quantile(confidence, df) * se, together * se
        both = Interval(low=value - all_, high=value + all_)
        out.append(
            Estimate(
                value=value,
                se=se,
                df=df,
                interval=Interval(low=value - alone, high=value + alone),
                simultaneous=both,
                word=word(both, margin=margin),
            )
        )
    return Analysis(estimates=tuple(out), seed_sd=variance**0.5, df=df)
