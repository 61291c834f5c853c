"""Confidence sequences: intervals that hold at every number of seeds at once, by inverting the e-values of evalues.py.

An effect is excluded where its e-value, divided by the number of effects, would exceed 1 / alpha. They hold whatever the reason to look or
to stop was (Ville's inequality), and are wider than those of planned looks.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .analysis import Estimate
from .evalues import SPREAD, e_values
from .layout import Mask, Matrix, lay_out
from .means import CONFIDENCE, MARGIN, Interval, word
from .moderation import moderate


def anytime(
    estimates: tuple[Estimate, ...],
    values: Matrix,
    weights: Matrix,
    *,
    diverged: Mask | None = None,
    confidence: float = CONFIDENCE,
    margin: float = MARGIN,
    spread: float = SPREAD,
) -> tuple[Estimate, ...]:
    """`estimates` of `weights` (effects, arms) from `values` (arms, seeds) with simultaneous intervals, adjusted p-values and words that
    hold at any time. An effect for which there is no e-value (unpaired, diverged) keeps its value alone."""
    evidence = e_values(values, weights, diverged=diverged, spread=spread)
    broken = np.zeros(len(values), dtype=bool) if diverged is None else np.any(diverged, axis=1)
    mask = ~np.isnan(values) & ~broken[:, None]
    layout = lay_out(mask, weights)
    noise = float(moderate(values[None][:, mask], layout).residual[0]) if mask.any() else 0.0
    family = max(1, int(np.sum(~np.isnan(evidence))))
    size = layout.spread.sum(axis=1)
    out = []
    for i, estimate in enumerate(estimates):
        plain = replace(estimate, simultaneous=None, p_adjusted=None, word=None)
        if np.isnan(evidence[i]) or estimate.value is None:
            out.append(plain)
            continue
        more = 1 + spread**2 * float(np.sum(weights[i] ** 2)) / 2 / float(size[i])
        half = _half_width(more, layout.df, family / (1 - confidence)) * (noise * float(size[i])) ** 0.5
        if not np.isfinite(half):
            out.append(replace(plain, word="undecided"))
            continue
        both = Interval(low=estimate.value - half, high=estimate.value + half)
        p = min(1.0, family / max(float(evidence[i]), 1e-300))
        out.append(replace(plain, simultaneous=both, p_adjusted=p, word=word(both, margin=margin)))
    return tuple(out)


def _half_width(more: float, df: float, threshold: float) -> float:
    """The ratio of effect to standard error at which the e-value reaches `threshold`; infinite where it never does."""
    r = np.exp(2 * (np.log(threshold) + 0.5 * np.log(more)) / (df + 1))
    return float("inf") if r >= more else float(np.sqrt(df * (r - 1) / (1 - r / more)))
