"""E-values: evidence that may be looked at after every seed, with no plan of looks at all.

For each effect the safe t-test: the likelihood ratio of a normal mixture of standardised effects against 0, with the nuisance parameters
integrated under the right Haar measure (Perez-Ortiz, Lardy, de Heide and Grünwald, Annals of Statistics 52, 2024, 1410-1432). Over seeds
it is a test martingale where the effect is 0, so it exceeds 1 / alpha at any time with probability alpha at most (Ville's inequality). It
takes equal variances for granted. The price of that freedom is power, against a planned sequence of looks
(benchmarks/ablation_statistics.py prints both).
"""

from __future__ import annotations

import numpy as np

from .layout import Mask, Matrix, lay_out
from .moderation import moderate

SPREAD = 1.5  # standard deviation of the mixture of effects, in units of the noise of one trial within blocks


def e_values(values: Matrix, weights: Matrix, *, diverged: Mask | None = None, spread: float = SPREAD) -> Matrix:
    """The e-value against *no effect* of each row of `weights` (effects, arms), given `values` (arms, seeds), NaN where missing.

    NaN for an effect that has no variance, touches a diverged trial or compares arms without common seeds.
    """
    return np.asarray(e_values_of(values[None], weights, diverged=diverged, spread=spread)[0])


def e_values_of(values: Matrix, weights: Matrix, *, diverged: Mask | None = None, spread: float = SPREAD) -> Matrix:
    """The same for many repetitions: `values` (repetitions, arms, seeds) with the same cells missing, to (repetitions, effects)."""
    broken = np.zeros(values.shape[1], dtype=bool) if diverged is None else np.any(diverged, axis=1)
    mask = ~np.isnan(values[0]) & ~broken[:, None]
    layout = lay_out(mask, weights)
    found = moderate(values[:, mask], layout)
    size = layout.spread.sum(axis=1)
    out = np.full(found.value.shape, np.nan)
    fit = layout.judged & layout.paired & (size > 0)
    if not fit.any() or not layout.df:
        return out
    with np.errstate(divide="ignore", invalid="ignore"):
        square = found.value[:, fit] ** 2 / (found.residual[:, None] * size[fit])
    more = 1 + spread**2 * np.sum(weights[fit] ** 2, axis=1) / 2 / size[fit]
    nu = layout.df
    log = -0.5 * np.log(more) + (nu + 1) / 2 * (np.log1p(square / nu) - np.log1p(square / nu / more))
    out[:, fit] = np.exp(np.minimum(log, 600.0))
    out[found.residual <= 0] = np.nan
    return out


def e_adjusted(values: Matrix) -> Matrix:
    """E-values divided by how many there are: one of them exceeds 1 / alpha with probability alpha at most (Bonferroni for e-values)."""
    return np.asarray(values / max(1, np.sum(~np.isnan(values), axis=-1).max(initial=1)))
