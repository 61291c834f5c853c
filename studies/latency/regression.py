"""Ridge regression for a handful of readings, with intervals that are calibrated on readings left out.

The intervals are the jackknife+ (Barber et al., 1905.02928): each reading is predicted by a fit that has not seen it, and the quantile of
those errors bounds the next one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0)  # noise variance over the variance that features explain


@dataclass(frozen=True, kw_only=True)
class Ridge:
    """A fit of values to standardised features, in its dual form.

    `points` (n, d) and `values` (n,) are the readings, `penalty` the one that was chosen. `errors` (n,) are the readings less what fits
    without them predicted.
    """

    centre: Floats
    scale: Floats
    points: Floats
    values: Floats
    penalty: float
    errors: Floats

    def predict(self, features: Floats) -> Floats:
        """Predicted values (m,) of `features` (m, d)."""
        return _dual(self.points, self.values, self._standard(features), self.penalty)

    def without(self, index: int, features: Floats) -> Floats:
        """Predicted values (m,) of `features` (m, d) by the fit that has not seen reading `index`."""
        return _without(self.points, self.values, index, self._standard(features), self.penalty)

    def interval(self, features: Floats, coverage: float) -> tuple[Floats, Floats]:
        """Bounds (m,) that hold a new value with at least about this probability (jackknife+), as wide as the readings allow."""
        fits, errors = self._fits(features), np.abs(self.errors)[:, None]
        n = len(self.values)
        rank = min(n, math.ceil(coverage * (n + 1)))
        low: Floats = np.sort(fits - errors, axis=0)
        high: Floats = np.sort(fits + errors, axis=0)
        return low[n - rank], high[rank - 1]

    def upper(self, features: Floats, coverage: float) -> Floats:
        """A bound (m,) that a new value exceeds with at most about 1 - coverage: the jackknife+ with signed errors."""
        n = len(self.values)
        ordered: Floats = np.sort(self._fits(features) + self.errors[:, None], axis=0)
        bound: Floats = ordered[min(n, math.ceil(coverage * (n + 1))) - 1]
        return bound

    def _fits(self, features: Floats) -> Floats:
        """Predictions (n, m) of each fit without one reading."""
        means, weights, _ = _left_out(self.points, self.values, self.penalty)
        fits: Floats = means[:, None] + (self._standard(features) @ (self.points.T @ weights)).T
        return fits

    def _standard(self, features: Floats) -> Floats:
        standard: Floats = (np.asarray(features, dtype=float) - self.centre) / self.scale
        return standard


def fit(
    features: Floats,
    values: Floats,
    *,
    weights: Sequence[float] | None = None,
    population: Floats | None = None,
    penalty: float | None = None,
) -> Ridge:
    """Fit `values` (n,) to `features` (n, d); ValueError for fewer than four readings.

    The penalty, where none is given, is the one with the least error on readings left out. `weights` (d,) say how much each feature is
    trusted beforehand; `population` are the features of all that may be asked for, which give their centre and scale (default: the
    readings' own).
    """
    features, values = np.asarray(features, dtype=float), np.asarray(values, dtype=float)
    if len(values) < 4:
        raise ValueError(f"a predictor needs 4 readings at least, not {len(values)}: measure more networks")
    known = features if population is None else np.asarray(population, dtype=float)
    trust = np.ones(features.shape[1]) if weights is None else np.asarray(weights, dtype=float)
    centre = known.mean(axis=0)
    spread = known.std(axis=0)
    scale = np.where(spread > 1e-12, spread, np.inf) * math.sqrt(features.shape[1]) / trust
    points = (features - centre) / scale
    tried = {p: _errors(points, values, p) for p in (PENALTIES if penalty is None else (penalty,))}
    best = min(tried, key=lambda p: float(np.mean(tried[p] ** 2)))
    return Ridge(centre=centre, scale=scale, points=points, values=values, penalty=best, errors=tried[best])


def diverse(features: Floats, count: int) -> list[int]:
    """Indices of `count` rows of `features` (m, d) that tell most about the others: each the one least determined by those before."""
    features = np.asarray(features, dtype=float)
    spread = features.std(axis=0)
    points = (features - features.mean(axis=0)) / np.where(spread > 1e-12, spread, np.inf) / math.sqrt(features.shape[1])
    variance = (points**2).sum(axis=1)
    basis: list[Floats] = []
    out: list[int] = []
    for _ in range(min(count, len(points))):
        here = int(np.argmax(np.where(np.isin(np.arange(len(points)), out), -1.0, variance)))
        out.append(here)
        covariance = points @ points[here] - sum((b * b[here] for b in basis), np.zeros(len(points)))
        basis.append(covariance / math.sqrt(max(variance[here], 0.0) + 0.1))
        variance = variance - basis[-1] ** 2
    return out


def _dual(points: Floats, values: Floats, new: Floats, penalty: float) -> Floats:
    """Ridge through the points' products, their mean value as the intercept; the penalty is relative to the values' variance."""
    mean = float(values.mean())
    dual = np.linalg.solve(points @ points.T + penalty * np.eye(len(points)), values - mean)
    out: Floats = mean + new @ (points.T @ dual)
    return out


def _without(points: Floats, values: Floats, index: int, new: Floats, penalty: float) -> Floats:
    return _dual(np.delete(points, index, 0), np.delete(values, index), new, penalty)


def _errors(points: Floats, values: Floats, penalty: float) -> Floats:
    return _left_out(points, values, penalty)[2]


def _left_out(points: Floats, values: Floats, penalty: float) -> tuple[Floats, Floats, Floats]:
    """Of the fits that lack one reading each: the means of their values (n,), their dual weights (n, n), a column each and 0 for what it
    lacks, and by how much the reading exceeds what they predict (n,).

    With B = (K + penalty)^-1 of all products K, the weights for targets t without reading i are Bt - B_i (Bt)_i / B_ii, and (Bt)_i / B_ii
    is what t_i exceeds them by. The mean that is taken off is that of the others: t = values - means_i.
    """
    means = (values.sum() - values) / (len(values) - 1)
    inverse = np.linalg.inv(points @ points.T + penalty * np.eye(len(points)))
    middle = values.mean()  # taken off first: values far from 0 would lose digits
    targets = (inverse @ (values - middle))[:, None] - inverse.sum(axis=1)[:, None] * (means - middle)
    errors: Floats = np.diag(targets) / np.diag(inverse)
    weights: Floats = targets - inverse * errors
    return means, weights, errors
