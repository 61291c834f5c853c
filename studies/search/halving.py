"""Successive halving of candidates with one trained objective (the more the better) and known costs (the less the better). No I/O.

Trainings stop at rungs. At each rung candidates are ranked by how far the front passes over them, and the best move up. A score is of
one seed, so being passed over counts only beyond noise: a candidate within `k` standard errors of the front at its cost is near the
front and is not left behind. It moves up too or, where that is much dearer than another seed, is trained with another seed first and
moves up if it still is near. Costs need no training and have no noise.

Everything is worked out from the scores each time, so that a log of scores is all that a search has to keep.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Costs = Mapping[str, tuple[float, ...]]
Training = tuple[str, int, int]  # candidate, rung, seed
Place = Literal["on", "off", "open"]
Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
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
    place: Place


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
    `k` = 0 is plain asynchronous (ASHA) or synchronous halving by non-dominated rank. Below the top a candidate has up to `seeds`, where a
    further one costs no more than `worth` of moving up. At the top, those on the front have two at least, and those whose place is
    open get up to `final_seeds`; differences that are known to within `indifference` are not pursued.
    """

    rungs: tuple[int, ...]
    eta: float = 3.0
    synchronous: bool = False
    k: float = 1.0
    noise: float = 0.5
    seeds: int = 2
    worth: float = 0.25
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
        candidates come. Replications, and what is near the front beyond 1 in `eta`, wait until a rung's candidates are complete; those at
        the top do not wait for each other. Where halving is synchronous everything waits so: what is trained then does not depend on the
        order in which scores arrive.
        """
        board = [self.standings(costs, scores, rung) for rung in range(len(self.rungs))]
        tasks = set(pending) | {(s.candidate, s.rung, s.seed) for s in scores}
        decisions: list[Promote | Replicate] = []
        for rung in range(len(self.rungs) - 1):
            complete = closed and not decisions and not any(r <= rung for _, r, _ in pending)
            decisions += self._moves(board[rung], rung, tasks, complete)
        decisions.sort(key=lambda d: (isinstance(d, Replicate), -d.rung))  # stable: what is nearest to the top first
        known = {(s.candidate, len(board) - 1) for s in board[-1]}
        if not decisions and closed and not any(self.synchronous or (c, r) not in known for c, r, _ in pending):
            again = {c for c, _, _ in pending}
            decisions += [d for d in self._final_seeds(costs, board[-1], tasks) if d.candidate not in again]
        return [*decisions] or [Done() if closed and not pending else Wait()]

    def standings(self, costs: Costs, scores: Sequence[Score], rung: int) -> list[Standing]:
        """The candidates of a rung, best first."""
        own = _by_candidate(scores, rung)
        names = sorted(own)
        if not names:
            return []
        mean = np.array([-math.inf if None in own[c] else fmean(v for v in own[c] if v is not None) for c in names])
        error = self.noise_at(scores, rung) / np.sqrt([len(own[c]) for c in names])
        ahead = _ahead(mean, error, np.array([costs[c] for c in names], dtype=float))
        rank, behind = _ranks(ahead > self.k), ahead.max(axis=0)
        out = [
            Standing(
                candidate=c,
                mean=None if math.isinf(mean[i]) else float(mean[i]),
                error=float(error[i]),
                seeds=len(own[c]),
                rank=int(rank[i]),
                behind=float(behind[i]),
            )
            for i, c in enumerate(names)
        ]
        return sorted(out, key=lambda s: (s.mean is None, s.rank, s.behind, s.candidate))

    def finalists(self, costs: Costs, scores: Sequence[Score]) -> list[Finalist]:
        """The candidates of the top rung, by rising cost."""
        board = self.standings(costs, scores, len(self.rungs) - 1)
        out = []
        for s in board:
            place: Place = "off" if s.mean is None or s.behind > self.k else "on" if s.behind < -self.k else "open"
            out.append(Finalist(candidate=s.candidate, mean=s.mean, error=s.error, seeds=s.seeds, place=place))
        return sorted(out, key=lambda f: (costs[f.candidate], f.candidate))

    def noise_at(self, scores: Sequence[Score], rung: int) -> float:
        """The standard deviation over seeds at a rung: pooled over its replicated candidates, with that of the rung below as prior."""
        expected = self.noise_at(scores, rung - 1) if rung else self.noise
        groups = [[v for v in values if v is not None] for values in _by_candidate(scores, rung).values()]
        groups = [g for g in groups if len(g) > 1]
        squares = sum(variance(g) * (len(g) - 1) for g in groups)
        return math.sqrt((PRIOR_DF * expected**2 + squares) / (PRIOR_DF + sum(len(g) - 1 for g in groups)))

    def _moves(self, board: list[Standing], rung: int, tasks: set[Training], complete: bool) -> list[Promote | Replicate]:
        """Who of a rung moves up or gets another seed."""
        if self.synchronous and not complete:
            return []
        sound = [s for s in board if s.mean is not None]
        count = math.floor(len(board) / self.eta)
        best = sound[: max(1, count) if complete else count]
        near = [s for s in sound[len(best) :] if s.rank == 0] if complete and self.k else []
        moved = {candidate for candidate, r, _ in tasks if r == rung + 1}
        most = self.seeds if self.rungs[rung] <= self.worth * (self.rungs[rung + 1] - self.rungs[rung]) else 1
        again = [s for s in near if s.seeds < most and s.candidate not in moved]
        out: list[Promote | Replicate] = [Replicate(s.candidate, rung, _new_seed(s.candidate, rung, tasks)) for s in again]
        if not (self.synchronous and again):
            up = [s for s in [*best, *near] if s not in again and s.candidate not in moved]
            out += [Promote(s.candidate, rung + 1, min(seed for c, r, seed in tasks if (c, r) == (s.candidate, rung))) for s in up]
        return out

    def _final_seeds(self, costs: Costs, board: list[Standing], tasks: set[Training]) -> list[Replicate]:
        """Who of the top rung gets another seed: those on the front that have one alone, and, of each pair between which it is open who
        passes over the other, the one with fewer seeds."""
        top = len(self.rungs) - 1
        wanted: dict[str, float] = {}
        sound = [s for s in board if s.mean is not None]
        for s in sound:
            if s.behind <= self.k and s.seeds < min(2, self.final_seeds):
                wanted[s.candidate] = -math.inf
            if s.behind <= self.k:
                for rival in sound:
                    error = math.hypot(s.error, rival.error)
                    gap = abs((s.mean or 0.0) - (rival.mean or 0.0)) / error
                    if rival is s or not _no_more(costs[rival.candidate], costs[s.candidate]) or gap > self.k:
                        continue
                    fewer = min((s, rival), key=lambda x: (x.seeds, x.candidate))
                    if self.k * error > self.indifference and fewer.seeds < self.final_seeds:
                        wanted[fewer.candidate] = min(gap, wanted.get(fewer.candidate, math.inf))
        return [Replicate(c, top, _new_seed(c, top, tasks)) for c in sorted(wanted, key=lambda c: (wanted[c], c))]


def _by_candidate(scores: Sequence[Score], rung: int) -> dict[str, list[float | None]]:
    """The values of each candidate at a rung, by seed."""
    out: dict[str, dict[int, float | None]] = {}
    for s in scores:
        if s.rung == rung:
            out.setdefault(s.candidate, {})[s.seed] = s.value
    return {c: [values[seed] for seed in sorted(values)] for c, values in out.items()}


def _no_more(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return all(x <= y for x, y in zip(a, b, strict=True))


def _ahead(mean: Vector, error: Vector, costs: Matrix) -> Matrix:
    """(n, n): by how many standard errors of their difference the row's candidate is ahead of the column's, -inf where it costs more."""
    no_more = np.all(costs[:, None, :] <= costs[None, :, :], axis=2) & ~np.eye(len(costs), dtype=bool)
    with np.errstate(invalid="ignore"):
        ahead = (mean[:, None] - mean[None, :]) / np.hypot(error[:, None], error[None, :])
    return np.where(no_more & ~np.isnan(ahead), ahead, -np.inf)


def _ranks(passes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,): the length of the longest chain of candidates above each, where `passes` (n, n) says who passes over whom (no cycles)."""
    rank = np.zeros(len(passes), dtype=np.int64)
    left = np.ones(len(passes), dtype=bool)
    level = 0
    while left.any():
        top = left & ~passes[left].any(axis=0)
        rank[top] = level
        left &= ~top
        level += 1
    return rank


def _new_seed(candidate: str, rung: int, tasks: set[Training]) -> int:
    """The lowest seed that the candidate has not had at a rung."""
    had = {seed for c, r, seed in tasks if (c, r) == (candidate, rung)}
    return next(seed for seed in range(len(had) + 1) if seed not in had)
