"""Successive halving of candidates with one trained objective (the more the better) and known costs (the less the better). No I/O.

Trainings stop at rungs. At each rung candidates are ranked by how far the front passes over them, and the best move up. A score is of
one seed, so being passed over counts only beyond noise: a candidate within `k` standard errors of the front at its cost is near the
front, gets another seed before it is left behind, and moves up if it still is. Costs need no training and have no noise.

Everything is worked out from the scores each time, so that a log of scores is all that a search has to keep.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Costs = Mapping[str, tuple[float, ...]]
Training = tuple[str, int, int]  # candidate, rung, seed
PRIOR_DF = 4.0  # degrees of freedom that the expected noise counts for beside what is seen


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a candidate reached at a rung (index from 0) with a seed; None where it diverged."""

    candidate: str
    rung: int
    seed: int
    value: float | None


@dataclass(frozen=True)
class Promote:
    """Train the candidate up to `rung`, with the seed that it has come with."""

    candidate: str
    rung: int
    seed: int


@dataclass(frozen=True)
class Replicate:
    """Train the candidate to `rung` again, with a new seed."""

    candidate: str
    rung: int
    seed: int


@dataclass(frozen=True)
class Wait:
    """None of the known candidates deserves a training now: start a new one if there are more, or wait for what is pending."""


@dataclass(frozen=True)
class Done:
    """Nothing is left to train: no new candidates come, and the front is settled or its candidates have all the seeds they may have."""


Decision = Promote | Replicate | Wait | Done


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a candidate stands at a rung: mean over `seeds` scores (None: diverged) and its standard error.

    `rank` counts from 0, near the front: how many candidates, each passed over beyond noise by the next, stand above it. `behind` is by
    how many standard errors of the difference the best candidate of no more cost is ahead (below 0: nobody is).
    """

    candidate: str
    mean: float | None
    error: float
    seeds: int
    rank: int
    behind: float


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A candidate of the top rung; `place` says whether it is on the front, off it, or which of both is open within noise."""

    candidate: str
    mean: float | None
    error: float
    seeds: int
    place: Literal["on", "off", "open"]


def rungs(least: int, most: int, eta: float) -> tuple[int, ...]:
    """Epochs of the rungs: `most`, and each below it by a factor `eta`, down to `least`; ascending."""
    if not (1 <= least <= most and eta > 1):
        raise ValueError(f"rungs go from 1 epoch or more to more, by a factor above 1, not from {least} to {most} by {eta:g}")
    out = [most]
    while round(most / eta ** len(out)) >= least:
        out.append(round(most / eta ** len(out)))
    return tuple(sorted(set(out)))


@dataclass(frozen=True, kw_only=True)
class Halving:
    """The rule. Of the candidates at each of `rungs` (epochs), 1 in `eta` moves up, and all that stay near the front.

    `noise` is the expected standard deviation over seeds, in units of the objective; what replicated candidates show takes its place.
    `k` = 0 is plain asynchronous (ASHA) or synchronous halving by non-dominated rank. `seeds` a candidate at most below the top rung.
    At the top, those on the front have two at least, and those whose place is open get up to `final_seeds`; differences that are known to
    within `indifference` are not pursued.
    """

    rungs: tuple[int, ...]
    eta: float = 3.0
    synchronous: bool = False
    k: float = 1.0
    noise: float = 0.5
    seeds: int = 2
    final_seeds: int = 3
    indifference: float = 0.1

    def __post_init__(self) -> None:
        if not self.rungs or list(self.rungs) != sorted(set(self.rungs)) or self.rungs[0] < 1:
            raise ValueError(f"rungs must be epochs from 1, ascending, not {self.rungs}")
        if not (self.eta > 1 and self.k >= 0 and self.noise > 0 and self.seeds >= 1 and self.final_seeds >= 1 and self.indifference >= 0):
            raise ValueError(
                "halving needs eta above 1, k of 0 or more, noise above 0, 1 seed or more and indifference of 0 or more, not "
                f"{self.eta:g}, {self.k:g}, {self.noise:g}, {self.seeds}, {self.final_seeds} and {self.indifference:g}"
            )

    def decide(self, costs: Costs, scores: Sequence[Score], pending: Collection[Training] = (), *, closed: bool = False) -> list[Decision]:
        """What to train next, the most urgent first; one Wait or Done where there is nothing. Never empty.

        `costs` are of all candidates with scores. `pending` are trainings that run: their decisions are not given again. `closed`: no new
        candidates come. Replications, and what is near the front beyond 1 in `eta`, wait until a rung's candidates are complete; so does
        everything where halving is synchronous, which makes decisions independent of the order in which scores arrive.
        """
        raise NotImplementedError

    def standings(self, costs: Costs, scores: Sequence[Score], rung: int) -> list[Standing]:
        """The candidates of a rung, best first."""
        raise NotImplementedError

    def finalists(self, costs: Costs, scores: Sequence[Score]) -> list[Finalist]:
        """The candidates of the top rung, by rising cost."""
        raise NotImplementedError

    def noise_at(self, scores: Sequence[Score], rung: int) -> float:
        """The standard deviation over seeds at a rung: pooled over its replicated candidates, with that of the rung below as prior."""
        raise NotImplementedError
