"""A Gaussian process of a noisy accuracy over encoded networks: main effects, their interactions, and noise that is learned.

    k(x, x') = v * Matern-5/2(|(x - x') / lengths|) + w * <x, x'> / d + c

The linear part carries what every choice adds on its own (for one-hot columns: an additive model), the Matern part what depends on several.
All of it, with the noise, is found at the maximum of the posterior of the hyper-parameters, by L-BFGS with gradients in closed form. The
prior of the lengths grows with the square root of the number of columns (Hvarfner et al. 2024, 2402.02229).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

Array = NDArray[np.float64]
SQRT5 = math.sqrt(5.0)
JITTER = 1e-8


@dataclass(frozen=True)
class Hyper:
    """The logarithms of: lengths (d,), variance of the Matern part, of the linear part, and of the noise of one training."""

    lengths: Array
    matern: float
    linear: float
    noise: float

    @classmethod
    def start(cls, columns: int) -> Hyper:
        """The middle of the prior."""
        return cls(np.full(columns, _prior_length(columns)), *(PRIOR[k][0] for k in ("matern", "linear", "noise")))

    def packed(self) -> Array:
        return np.concatenate([self.lengths, [self.matern, self.linear, self.noise]])

    @classmethod
    def unpacked(cls, values: Array) -> Hyper:
        return cls(values[:-3], float(values[-3]), float(values[-2]), float(values[-1]))


# Of logarithms: mean and deviation. Values are standardised, so that variances are shares of the whole.
PRIOR = {"matern": (math.log(0.5), 1.0), "linear": (math.log(0.5), 1.5), "noise": (math.log(0.02), 1.5)}
LENGTH_DEVIATION = 1.0
CONSTANT = 1.0


def _prior_length(columns: int) -> float:
    return 0.5 + 0.5 * math.log(max(1, columns))


def _scaled(a: Array, b: Array, lengths: Array) -> Array:
    """Distances (len(a), len(b)) in units of the lengths."""
    left, right = a * np.exp(-lengths), b * np.exp(-lengths)
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1)[None] - 2 * left @ right.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)))


def covariance(a: Array, b: Array, hyper: Hyper) -> Array:
    """k of every row of a (n, d) with every row of b (m, d), without noise: (n, m)."""
    r = SQRT5 * _scaled(a, b, hyper.lengths)
    out: Array = math.exp(hyper.matern) * (1 + r + r**2 / 3) * np.exp(-r)
    out += math.exp(hyper.linear) / a.shape[1] * (a @ b.T) + CONSTANT
    return out


def loss(values: Array, x: Array, y: Array, weights: Array, squares: Array | None = None) -> tuple[float, Array]:
    """Minus the log posterior of packed hyper-parameters, and its gradient. x (n, d); y (n,); the noise of row i has variance /
    weights[i]."""
    hyper = Hyper.unpacked(values)
    n, d = x.shape
    r = SQRT5 * _scaled(x, x, hyper.lengths)
    decay = math.exp(hyper.matern) * np.exp(-r)
    matern = decay * (1 + r + r**2 / 3)
    linear = math.exp(hyper.linear) / d * (x @ x.T)
    noise = math.exp(hyper.noise) / weights
    k = matern + linear + CONSTANT
    k[np.diag_indices(n)] += noise + JITTER
    try:
        root = cholesky(k, lower=True, check_finite=False)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(values)
    alpha = cho_solve((root, True), y, check_finite=False)
    inverse = cho_solve((root, True), np.eye(n), check_finite=False)
    out = 0.5 * float(y @ alpha) + float(np.log(np.diag(root)).sum())
    outer = np.outer(alpha, alpha) - inverse  # d(-loss) = trace(outer dK) / 2
    # dk/d(log length_j) = 5/3 v exp(-r) (1 + r) (x_j - x'_j)^2 / length_j^2
    w = outer * decay * (1 + r) * (5.0 / 3.0)
    rows = w.sum(axis=1)
    by_length = 2 * (rows @ x**2 - np.einsum("nd,nd->d", x, w @ x)) * np.exp(-2 * hyper.lengths)
    grad = -0.5 * np.concatenate(
        [by_length, [float((outer * matern).sum()), float((outer * linear).sum()), float((np.diag(outer) * noise).sum())]]
    )
    means = np.concatenate([np.full(d, _prior_length(d)), [PRIOR[k][0] for k in ("matern", "linear", "noise")]])
    spreads = np.concatenate([np.full(d, LENGTH_DEVIATION), [PRIOR[k][1] for k in ("matern", "linear", "noise")]])
    z = (values - means) / spreads
    return out + 0.5 * float(z @ z), grad + z / spreads


def fit(x: Array, y: Array, weights: Array, start: Hyper | None = None, steps: int = 60) -> Hyper:
    """The hyper-parameters of largest posterior, from `start` or the middle of the prior."""
    first = (start or Hyper.start(x.shape[1])).packed()
    bounds = [(-3.0, 7.0)] * x.shape[1] + [(-9.0, 4.0), (-9.0, 4.0), (-12.0, 1.0)]
    best = minimize(loss, first, args=(x, y, weights), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps})
    return Hyper.unpacked(best.x)


class Posterior:
    """Mean and deviation over a pool (p, d) whose rows are what is observed; a further observation costs one pass over what is stored.

    With V = L^-1 K(observed, pool), L L' = K(observed, observed) + noise, the posterior covariance of the pool with row i is
    k(pool, i) - V' V[:, i]: an observation of row i adds one row to V and changes mean and variance by it.
    """

    def __init__(self, pool: Array, hyper: Hyper, rows: NDArray[np.int64], y: Array, weights: Array) -> None:
        self.pool, self.hyper = pool, hyper
        prior = math.exp(hyper.matern) + math.exp(hyper.linear) / pool.shape[1] * (pool**2).sum(axis=1) + CONSTANT
        k = covariance(pool[rows], pool, hyper)
        inner = k[:, rows] + np.diag(math.exp(hyper.noise) / weights + JITTER)
        root = cholesky(inner, lower=True, check_finite=False)
        self._v = solve_triangular(root, k, lower=True, check_finite=False, overwrite_b=True)
        self._n = len(rows)
        self.mean: Array = self._v.T @ solve_triangular(root, y, lower=True, check_finite=False)
        self.variance: Array = np.maximum(prior - np.einsum("np,np->p", self._v, self._v), 1e-12)

    def observe(self, row: int, y: float | None = None, weight: float = 1.0) -> None:
        """One more observation; without a value, one that comes out as expected (a fantasy: the mean stays, the deviation falls)."""
        if self._n == len(self._v):
            self._v = np.concatenate([self._v, np.empty((max(16, self._n // 4), self._v.shape[1]))])
        v = self._v[: self._n]
        shared = covariance(self.pool[row : row + 1], self.pool, self.hyper)[0] - v[:, row] @ v
        new = shared / math.sqrt(max(self.variance[row], 0.0) + math.exp(self.hyper.noise) / weight + JITTER)
        if y is not None:
            spread = math.sqrt(max(self.variance[row], 0.0) + math.exp(self.hyper.noise) / weight + JITTER)
            self.mean = self.mean + new * ((y - self.mean[row]) / spread)
        self.variance = np.maximum(self.variance - new**2, 1e-12)
        self._v[self._n] = new
        self._n += 1

    def trial(self) -> Posterior:
        """A copy whose further observations do not touch this one."""
        out: Posterior = object.__new__(Posterior)
        out.__dict__.update(self.__dict__)
        return out
