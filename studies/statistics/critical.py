"""Critical values: the distribution of the largest ratio of effect to standard error, simulated for the design at hand.

It accounts for the actual correlation of the effects, such as -1/2 between neighbours of a roadmap, which share a rung (Hochberg and
Tamhane, Multiple Comparison Procedures, 1987, chapter 2; Dunnett's and Tukey's procedures are special cases), for the few degrees of
freedom, for looks already taken, and for unequal noise: the values hold in each of `WORLDS`, so they are the largest over these. The random
numbers are fixed: the same design always has the same values. What they leave open, up to 0.2 points of an error rate of 5 %, is put on
the safe side: by two standard errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .layout import Layout, Mask, Matrix, first_seeds, lay_out
from .moderation import moderate

Spending = Literal["obrien-fleming", "pocock"]
Single = NDArray[np.float32]
World = Callable[[np.random.Generator, int, NDArray[np.intp]], Matrix]

CELLS = 4_000_000  # numbers drawn for each world
PIECES = 32  # in which studies are judged: what is at hand at a time fits into a processor's cache


def _equal(generator: np.random.Generator, draws: int, arm: NDArray[np.intp]) -> Matrix:
    return generator.standard_normal((draws, len(arm)))


def _random_half(generator: np.random.Generator, draws: int, arm: NDArray[np.intp]) -> Matrix:
    arms = int(arm.max()) + 1
    twice = generator.random((draws, arms)).argsort(axis=1) < arms / 2
    return np.asarray(_equal(generator, draws, arm) * np.where(twice, 2.0, 1.0)[:, arm])


def _first_half(generator: np.random.Generator, draws: int, arm: NDArray[np.intp]) -> Matrix:
    return np.asarray(_equal(generator, draws, arm) * np.where(arm < (arm.max() + 1) / 2, 2.0, 1.0))


def _last_half(generator: np.random.Generator, draws: int, arm: NDArray[np.intp]) -> Matrix:
    return np.asarray(_equal(generator, draws, arm) * np.where(arm < (arm.max() + 1) / 2, 1.0, 2.0))


def _any(generator: np.random.Generator, draws: int, arm: NDArray[np.intp]) -> Matrix:
    return np.asarray(_equal(generator, draws, arm) * 2 ** generator.uniform(-1, 1, (draws, int(arm.max()) + 1))[:, arm])


# Noise (draws, K) for cells of the arms `arm` (K,): equal; twice the standard deviation in half of the arms, drawn at random or first
# or last; any between 0.5 and 2.
WORLDS: tuple[World, ...] = (_equal, _random_half, _first_half, _last_half, _any)


@dataclass(frozen=True, kw_only=True)
class Null:
    """What the ratios do where every effect is 0. `alone` (worlds, effects, draws) holds each effect's ratio at the last look, sorted;
    `largest` (worlds, looks, draws) the largest over the effects of every draw. `scale` is what the moderated variance has on average
    over the true one where noise is equal, and `unequal` (draws,) the sorted statistic of equal variances there."""

    layout: Layout
    alone: Single
    largest: Single
    scale: float
    unequal: Matrix
    looks: tuple[int, ...]
    horizon: int
    spending: Spending
    bounds: dict[float, Matrix] = field(default_factory=dict)  # boundaries found so far, by alpha

    @property
    def draws(self) -> int:
        """How many studies were simulated in each world."""
        return int(self.largest.shape[2])

    def critical_alone(self, alpha: float) -> Matrix:
        """(effects,): what each effect's ratio exceeds with probability `alpha` at most."""
        at = min(self.draws - 1, self.draws - 1 - self._above(alpha))
        return np.asarray(self.alone[:, :, at].max(axis=0), dtype=float)

    def p_alone(self, ratio: Matrix) -> Matrix:
        """How improbable each effect's `ratio` (effects,) is, never below 1 / (draws + 1)."""
        out = np.empty(len(ratio))
        for i, r in enumerate(ratio):
            below = min(int(np.searchsorted(world[i], np.float32(r), side="left")) for world in self.alone)
            out[i] = self.draws - below
        return cautious(out, self.draws)

    def boundary(self, alpha: float) -> Matrix:
        """(looks,): critical values whose chance to be exceeded by any effect at any look is `alpha` at most, spent as `spending` says."""
        if alpha not in self.bounds:
            budget = [2 * spent(alpha / 2, n / self.horizon, self.spending) for n in self.looks]
            self.bounds[alpha] = _spent(self.largest, [self._above(b) for b in budget])
        return self.bounds[alpha]

    def p_together(self, ratio: Matrix) -> Matrix:
        """For each ratio, the smallest `alpha` at which the last look's boundary is exceeded; never below 1 / (draws + 1)."""
        if len(self.looks) == 1 and self.looks[0] == self.horizon:
            below = np.min([np.searchsorted(np.sort(world[0]), ratio.astype(np.float32), side="left") for world in self.largest], axis=0)
            return cautious(self.draws - below, self.draws)
        alphas, bounds = self._curve()
        return np.asarray(np.exp(np.interp(ratio, bounds[::-1], np.log(alphas)[::-1])))

    def p_equal_variances(self, unequal: float) -> float:
        """How often equal variances look as unequal as that."""
        below = int(np.searchsorted(self.unequal, unequal, side="left"))
        return (1 + len(self.unequal) - below) / (len(self.unequal) + 1)

    def _above(self, alpha: float) -> int:
        """How many draws may exceed a critical value for `alpha`; -1 where alpha is too small to tell."""
        return int(np.searchsorted(cautious(np.arange(self.draws), self.draws), alpha + 1e-12, side="right")) - 1

    def _curve(self) -> tuple[Matrix, Matrix]:
        alphas = np.unique(np.concatenate([np.geomspace(1 / self.draws, 0.99, 24), [0.01, 0.05, 0.1]]))
        bounds = np.array([self.boundary(a)[-1] for a in alphas])
        return alphas, np.minimum.accumulate(bounds)


def cautious(above: Matrix | NDArray[np.int64], draws: int) -> Matrix:
    """The share of draws that lie at or above something, counted as (1 + above) / (draws + 1), and two standard errors more."""
    share = (1.0 + above) / (draws + 1)
    return np.asarray(np.minimum(1.0, share + 2 * np.sqrt(share * np.maximum(0.0, 1 - share) / draws)))


def _spent(largest: Single, budget: list[int]) -> Matrix:
    """Critical values that so many draws exceed, cumulated over looks, as `budget` says, in the worst world."""
    worlds, looks, draws = largest.shape
    out = np.zeros(looks)
    crossed = np.zeros((worlds, draws), dtype=bool)
    for look, cumulated in enumerate(budget):
        needed = 0.0
        for world in range(worlds):
            left = cumulated - int(crossed[world].sum())
            values = largest[world, look][~crossed[world]]
            at = len(values) - 1 - left
            told = 0 <= left < len(values)
            needed = max(needed, float(np.partition(values, at)[at] if told else 1.5 * values.max(initial=0.0)))
        out[look] = needed
        crossed |= largest[:, look] > needed
    return out


def spent(alpha: float, information: float, spending: Spending) -> float:
    """The part of a one-sided `alpha` that may be spent until a share `information` of the data is in (Lan and DeMets, Biometrika 70, 1983,
    659-663): 2 - 2 Phi(z / sqrt(information)) after O'Brien and Fleming, alpha ln(1 + (e - 1) information) after Pocock."""
    from scipy.special import ndtr, ndtri

    if information >= 1:
        return alpha
    if spending == "pocock":
        return float(alpha * np.log1p((np.e - 1) * information))
    return float(2 * ndtr(ndtri(alpha / 2) / information**0.5))


def null(mask: Mask, weights: Matrix, *, looks: tuple[int, ...] = (), horizon: int = 0, spending: Spending = "obrien-fleming") -> Null:
    """The null distribution for the cells `mask` (arms, seeds) and the effects `weights` (effects, arms), remembered by design.

    `looks` are the numbers of seeds at which the study was and is judged, `horizon` the most that it may reach (the last look, if 0).
    """
    if horizon and looks and looks[-1] > horizon:
        raise ValueError(f"looks: {looks[-1]} seeds are more than the horizon of {horizon}: name a larger horizon")
    last = looks[-1] if looks else int(mask.sum(axis=1).max(initial=1))
    return _null(mask.tobytes(), mask.shape, np.round(weights, 12).tobytes(), looks or (last,), max(horizon, last), spending)


@lru_cache(maxsize=24)
def _null(cells: bytes, shape: tuple[int, int], weights: bytes, looks: tuple[int, ...], horizon: int, spending: Spending) -> Null:
    return replace(_simulated(cells, shape, weights, looks), horizon=horizon, spending=spending, bounds={})


@lru_cache(maxsize=24)
def _simulated(cells: bytes, shape: tuple[int, int], weights: bytes, looks: tuple[int, ...]) -> Null:
    """The null distribution with the last look as its horizon."""
    mask = np.frombuffer(cells, dtype=bool).reshape(shape)
    rows = np.frombuffer(weights, dtype=float).reshape(-1, shape[0])
    arm = np.nonzero(mask)[0]
    layouts = [lay_out(first_seeds(mask, n), rows) for n in looks[:-1]] + [lay_out(mask, rows)]
    inside = [layout.mask[mask] for layout in layouts]
    draws = int(np.clip(CELLS // max(1, len(arm)), 10_000, 50_000))
    alone = np.zeros((len(WORLDS), len(rows), draws), dtype=np.float32)
    largest = np.zeros((len(WORLDS), len(looks), draws), dtype=np.float32)
    scale, unequal = 1.0, np.zeros(1)
    for number, world in enumerate(WORLDS):
        generator = np.random.Generator(np.random.PCG64([20220103, number]))
        values = world(generator, draws, arm)
        for look, layout in enumerate(layouts):
            found = [moderate(piece[:, inside[look]], layout) for piece in np.array_split(values, PIECES)]
            ratio = np.concatenate([piece.ratio(layout) for piece in found])
            largest[number, look] = ratio.max(axis=1, initial=0.0)
        alone[number] = np.sort(ratio, axis=0).T
        if world is _equal:
            unequal = np.sort(np.concatenate([piece.unequal for piece in found]))
            true = layouts[-1].spread.sum(axis=1)
            some = true > 0
            scale = float(np.mean(np.concatenate([piece.variance for piece in found])[:, some] / true[some])) if some.any() else 1.0
    return Null(
        layout=layouts[-1],
        alone=alone,
        largest=largest,
        scale=scale,
        unequal=unequal,
        looks=looks,
        horizon=looks[-1],
        spending="obrien-fleming",
    )
