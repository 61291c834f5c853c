"""Looking more than once: boundaries by alpha spending, and when a study may stop.

With a known variance the boundaries come from the recursive integration of Armitage, McPherson and Rowe (Journal of the Royal Statistical
Society A 132, 1969, 235-244). Studies have a variance estimated from few seeds and many effects, so theirs come from the same spending
functions by simulation (critical.py): `analyse(..., looks=(3, 5), horizon=8)` gives repeated confidence intervals (Jennison and
Turnbull, Group Sequential Methods, 2000, chapter 9), which hold at all looks whatever the reason to stop was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from .analysis import Analysis, Estimate
from .critical import Spending, spent
from .means import MARGIN

FUTILE = 0.10  # chance to be decided by the last look, below which an effect is given up
Matrix = NDArray[np.float64]
Verdict = Literal["decided", "futile", "go on"]


def boundaries(information: Sequence[float], *, alpha: float = 0.05, spending: Spending = "obrien-fleming", sides: int = 2) -> Matrix:
    """Critical values of the standardised estimate at each look, for one effect and a known variance.

    `information` are the shares of the data at the looks, ascending to 1 at most; `alpha` is the error of all looks and `sides` (1 or 2).
    """
    shares = np.asarray(information, dtype=float)
    if not len(shares) or shares[0] <= 0 or np.any(np.diff(shares) <= 0) or shares[-1] > 1:
        raise ValueError("looks: name ascending shares of the data, above 0 and up to 1")
    return _boundaries(shares, alpha, spending, sides)


def _boundaries(shares: Matrix, alpha: float, spending: Spending, sides: int) -> Matrix:
    from scipy.optimize import brentq

    budget = np.array([sides * spent(alpha / sides, s, spending) for s in shares])
    out: list[float] = []
    grid, density = np.zeros(1), np.ones(1)  # of the score S = Z sqrt(information), with the quadrature's weights in it
    before, left = 0.0, 0.0
    for share, upto in zip(shares, budget, strict=True):
        step = (share - left) ** 0.5

        def crossing(c: float, share: float = share, step: float = step, grid: Matrix = grid, density: Matrix = density) -> float:
            up = ndtr(-(c * share**0.5 - grid) / step)
            down = ndtr((-c * share**0.5 - grid) / step) if sides == 2 else 0.0
            return float(np.sum(density * (up + down)))

        wanted = max(upto - before, 1e-15)
        c = float(brentq(lambda c, wanted=wanted: np.log(max(crossing(c), 1e-300)) - np.log(wanted), 0.0, 12.0, xtol=1e-10))
        out.append(c)
        low = -c * share**0.5 if sides == 2 else -8.0 * share**0.5
        points, weights = np.polynomial.legendre.leggauss(400)
        half, middle = (c * share**0.5 - low) / 2, (c * share**0.5 + low) / 2
        new = middle + half * points
        kernel = np.exp(-0.5 * ((new[:, None] - grid[None, :]) / step) ** 2) / (step * np.sqrt(2 * np.pi))
        density = half * weights * (kernel @ density)
        grid, before, left = new, upto, share
    return np.array(out)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Where an effect stands: *decided* by its word, *futile* where `chance`, that of being decided by the last look, is below 10 %, else
    *go on*. Futility does not bind: going on all the same keeps the error rates."""

    verdict: Verdict
    chance: float


def decide(analysis: Analysis, *, seeds: int, horizon: int, margin: float = MARGIN) -> list[Decision]:
    """The decision for each effect at a look with `seeds` seeds of `horizon` at most, given the `analysis` made with that horizon.

    The chance to be decided is taken over what the data so far leave possible (predictive power: Spiegelhalter, Freedman and Blackburn,
    Controlled Clinical Trials 7, 1986, 8-17): it is conditional power averaged over the effect's posterior, which two or three seeds
    leave too wide to pin the effect at its estimate. An effect without an interval goes on until the last look.
    """
    if seeds > horizon:
        raise ValueError(f"horizon: {seeds} seeds are more than the {horizon} that were planned: name a larger horizon")
    critical = analysis.critical if analysis.last_critical is None else analysis.last_critical
    return [_decision(e, seeds / horizon, margin, critical) for e in analysis.estimates]


def settled(decisions: Sequence[Decision]) -> bool:
    """Whether nothing is left to go on for."""
    return all(d.verdict != "go on" for d in decisions)


def _decision(estimate: Estimate, share: float, margin: float, critical: float | None) -> Decision:
    if estimate.word not in (None, "undecided"):
        return Decision(verdict="decided", chance=1.0)
    if share >= 1:
        return Decision(verdict="futile", chance=0.0)
    if estimate.value is None or estimate.se is None or critical is None:
        return Decision(verdict="go on", chance=1.0)
    chance = float(chance_to_decide(np.array(estimate.value), np.array(estimate.se), share, critical, margin))
    return Decision(verdict="futile" if chance < FUTILE else "go on", chance=chance)


def chance_to_decide(value: Matrix, se: Matrix, share: float, critical: float, margin: float) -> Matrix:
    """The probability that the last look's interval excludes 0 or lies within the margin, given `value` and `se` when a `share` of the
    data is in; `critical` is what their ratio must exceed at that look."""
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = se * (1 - share) ** 0.5  # of the final estimate about the present one
        half = critical * se * share**0.5
        beyond = ndtr((value - half) / spread) + ndtr((-value - half) / spread)
        room = np.maximum(margin - half, 0.0)
        within = ndtr((room - value) / spread) - ndtr((-room - value) / spread)
    return np.asarray(np.minimum(1.0, beyond + within))
