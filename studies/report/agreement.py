"""Rank agreement of two sources on the same effects: Kendall's tau over the pairs that both resolve, its interval, and its ceiling.

Effects that a source cannot tell apart have no order there, so tau counts only pairs that both sides resolve. A tau below 1 may be the
paper's own noise: the ceiling says what two repetitions of the paper would reach with each other over the same pairs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..statistics.means import CONFIDENCE, Interval

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

DRAWS = 20_000
SEED = 20220110


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one source reports: `values` (k,), points; `covariance` (k, k) of their errors, None where the source tells no noise;
    `resolved` (k, k), whether it tells the order of two effects; `df` of the covariance, None where it is taken as known."""

    values: Array
    covariance: Array | None
    resolved: Mask
    df: float | None = None

    def draws(self, generator: np.random.Generator) -> Array:
        """(DRAWS, k): repetitions of this source, normal around its values; Student's t where the covariance has degrees of freedom."""
        if self.covariance is None:
            return np.broadcast_to(self.values, (DRAWS, len(self.values)))
        eigenvalues, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(
            np.maximum(eigenvalues, 0.0)
        )  # a difference's variance estimated on its own may make it slightly indefinite
        noise = generator.standard_normal((DRAWS, len(self.values))) @ root.T
        if self.df is not None:
            noise = noise / np.sqrt(generator.chisquare(self.df, DRAWS) / self.df)[:, None]
        out: Array = self.values + noise
        return out


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Kendall's tau over `pairs` pairs of `of`, with its interval. `ceiling` is the mean tau of two repetitions of the paper with each
    other over the same pairs, `ceiling_interval` where those lie; None where the paper tells no noise. `unresolved` are the pairs that
    ours, the paper's, or neither resolve."""

    tau: float | None
    pairs: int
    of: int
    discordant: tuple[tuple[int, int], ...] = ()
    unresolved_here: int = 0
    unresolved_paper: int = 0
    interval: Interval | None = None
    ceiling: float | None = None
    ceiling_interval: Interval | None = None


def kendall(a: Array, b: Array, pairs: NDArray[np.intp]) -> Array:
    """Kendall's tau (Biometrika 30, 1938) of `a` and `b` (..., k) over the given `pairs` (p, 2) of effects: the share of pairs in the same
    order minus the share in the opposite one; a tie counts for neither."""
    i, j = pairs.T
    same: Array = np.mean(np.sign((a[..., i] - a[..., j]) * (b[..., i] - b[..., j])), axis=-1)
    return same


def agreement(ours: Side, paper: Side, *, confidence: float = CONFIDENCE) -> Agreement:
    """Compare two sides' effects, index by index.

    The interval is a parametric bootstrap over both sides' noise (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section
    6.5), percentiles, over the same pairs throughout; over resolved pairs it held the true tau in 96 to 99 % of simulations. The ceiling
    draws both repetitions around the paper's values: these hold the paper's noise already, which spreads them, so it is a little generous.
    """
    k = len(ours.values)
    every = np.array([(i, j) for i in range(k) for j in range(i + 1, k)], dtype=np.intp).reshape(-1, 2)
    here = ours.resolved[every[:, 0], every[:, 1]]
    there = paper.resolved[every[:, 0], every[:, 1]]
    pairs = every[here & there]
    found = Agreement(tau=None, pairs=len(pairs), of=len(every), unresolved_here=int(np.sum(~here)), unresolved_paper=int(np.sum(~there)))
    if not len(pairs):
        return found
    single = np.array([float(kendall(ours.values, paper.values, pair[None])) for pair in pairs])
    generator = np.random.Generator(np.random.PCG64(SEED))
    mine, its, again = ours.draws(generator), paper.draws(generator), paper.draws(generator)
    noisy = ours.covariance is not None
    ceiling = None if paper.covariance is None else kendall(its, again, pairs)
    return replace(
        found,
        tau=float(single.mean()),
        discordant=tuple((int(i), int(j)) for (i, j), sign in zip(pairs, single, strict=True) if sign < 0),
        interval=_middle(kendall(mine, its, pairs), confidence) if noisy else None,
        ceiling=None if ceiling is None else float(ceiling.mean()),
        ceiling_interval=None if ceiling is None else _middle(ceiling, confidence),
    )


def _middle(draws: Array, confidence: float) -> Interval:
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(low=float(low), high=float(high))
