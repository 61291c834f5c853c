"""Power: what a design can detect with so many seeds."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .critical import null
from .layout import Matrix
from .means import CONFIDENCE

POWER = 0.80
DEFAULT_SD = 0.4  # points of top-1 over seeds, where nothing is known: between CIFAR-10 networks (0.15 to 0.3) and small test sets (0.5)
ENOUGH = 10  # seeds, from which on the critical value changes by less than 1 %


def detectable(
    weights: Matrix, seeds: int, sd: float, *, power: float = POWER, confidence: float = CONFIDENCE, correlation: float = 0.0
) -> Matrix:
    """The smallest true value of each row of `weights` (effects, arms), in the unit of `sd`, whose simultaneous interval excludes 0 with
    the given power: every arm has `seeds` seeds with noise `sd` and a `correlation` between arms at equal seeds.

    By the noncentral t distribution with the analysis' own critical values (Cohen, Statistical Power Analysis, 1988, chapter 2).
    """
    if seeds < 2:
        raise ValueError(f"seeds: an interval needs 2 or more, not {seeds}")
    rows = _rows(weights)
    shifts, norms = _shifts(rows.tobytes(), rows.shape, seeds, power, confidence)
    return np.asarray(shifts * norms * sd * (1 - correlation) ** 0.5)


def _rows(weights: Matrix) -> Matrix:
    """The weights without arms that no effect touches."""
    rows = np.atleast_2d(np.asarray(weights, dtype=float))
    return np.ascontiguousarray(rows[:, np.any(rows != 0, axis=0)])


@lru_cache(maxsize=64)
def _shifts(weights: bytes, shape: tuple[int, int], seeds: int, power: float, confidence: float) -> tuple[Matrix, Matrix]:
    """Noncentralities that give the power, and the effects' standard errors at noise 1."""
    from scipy.optimize import brentq
    from scipy.stats import nct

    rows = np.frombuffer(weights, dtype=float).reshape(shape)
    found = null(np.ones((shape[1], min(seeds, ENOUGH)), dtype=bool), rows)
    df = (shape[1] - 1) * (seeds - 1)
    critical = float(found.boundary(1 - confidence)[-1]) * found.scale**0.5  # against standard errors that are right on average
    shift = float(brentq(lambda d: nct.sf(critical, df, d) - power, 0.0, 20 * critical + 20))
    return np.full(shape[0], shift), np.linalg.norm(rows, axis=1) / seeds**0.5
