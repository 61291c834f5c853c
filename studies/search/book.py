"""The book of a search: every candidate's costs, counted exactly, measured, or predicted until they are; and what breaks a limit.

Predictions are ridge regressions on the logarithms of size and work of the deployed network, fitted to what was measured of networks of
the same space, with intervals calibrated on readings left out (`latency.regression`). They improve with every batch that is measured, and
decide one thing alone: what is not worth measuring. Whatever is trained or reported was measured.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...roadmap.counts import Count, count
from ...roadmap.spec import NetSpec
from ..latency.regression import Ridge, diverse, fit
from ..objectives import Objective, objective
from .work import work

PROBES = 12  # networks that are measured before the first is proposed: one session
LEAST = 8  # readings before predictions are trusted
GIVEN_UP = 100  # networks that could not be measured after which no others take their place
COVERAGE = 0.9  # of the intervals of predictions
LEAST_COST = 1e-9  # what a cost of nothing counts as, in logarithms

Values = Mapping[str, Mapping[str, float]]  # by candidate and quantity


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network in the book; `features` are what predictions go by."""

    name: str
    spec: NetSpec
    input_size: int
    counted: Count
    features: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A limit that a candidate breaks: which quantity, how it is known, and in words."""

    quantity: str
    how: str
    words: str


class Book:
    """Costs of candidates under `limits` (by quantity, in base units). `measured` are the quantities that the device has to tell."""

    def __init__(self, objectives: Sequence[Objective], limits: Mapping[str, float]) -> None:
        self.objectives, self.limits = tuple(objectives), dict(limits)
        names = [*(o.name for o in objectives), *limits]
        self.quantities = tuple(dict.fromkeys(n for n in names if objective(n).source == "measured"))
        self.entries: dict[str, Entry] = {}
        self.pool: dict[str, None] = {}  # in order
        self._measured: Values = {}
        self._seen: tuple[Values, int, int] = ({}, 0, 0)  # what was learned from: readings, and how many networks there were
        self._fits: dict[str, Ridge] = {}
        self._predictions: dict[str, dict[str, tuple[float, float, float]]] = {}
        self._ranges: dict[str, tuple[float, float]] = {}

    @property
    def measures(self) -> bool:
        """Whether anything has to be measured."""
        return bool(self.quantities)

    def add(self, candidate: str, name: str, spec: NetSpec, input_size: int) -> Entry:
        """Enter a network; ValueError where the size does not fit it."""
        if candidate not in self.entries:
            found = count(spec, input_size)
            features = work(spec, input_size) if self.measures else np.zeros(0)
            self.entries[candidate] = Entry(name=name, spec=spec, input_size=input_size, counted=found, features=features)
        return self.entries[candidate]

    def own(self, candidate: str) -> None:
        """Take an entered network for one of the space's own, from which ranges are taken."""
        self.pool[candidate] = None
        self._ranges = {}

    def learn(self, measured: Values) -> None:
        """Take in all that was measured so far."""
        seen = (dict(measured), len(self.entries), len(self.pool))
        if seen == self._seen:
            return
        self._seen = seen
        self._measured, self._fits, self._ranges = seen[0], self._fitted(measured), {}
        self._predictions = self._predicted([*self.entries])

    def _fitted(self, measured: Values) -> dict[str, Ridge]:
        """A fit by quantity, none where too little was measured."""
        known = [c for c in measured if c in self.entries]
        if not self.measures or len(known) < min(LEAST, max(4, len(self.pool))):
            return {}
        features = np.stack([self.entries[c].features for c in known])
        population = np.stack([self.entries[c].features for c in ([*self.pool] or known)])
        values = {q: np.log([max(measured[c][q], LEAST_COST) for c in known]) for q in self.quantities}
        return {q: fit(features, v, population=population) for q, v in values.items()}

    def probes(self, measured: Values, failed: Mapping[str, str]) -> list[str]:
        """Networks to measure before any is proposed, so that others can be predicted: those that tell most of the space.
        Where some of them cannot be measured, others take their place until there are readings enough to predict by."""
        if not self.measures or len(self.pool) <= 1 or len(measured) >= PROBES:
            return []
        pool = [*self.pool]
        features = np.stack([self.entries[c].features for c in pool])
        chosen = [pool[i] for i in diverse(features, min(PROBES, len(pool)))]
        if first := [c for c in chosen if c not in measured and c not in failed]:
            return first
        left = [i for i, c in enumerate(pool) if c not in measured and c not in failed]
        if not left or len(measured) >= LEAST or len(failed) >= GIVEN_UP:
            return []
        return [pool[left[i]] for i in diverse(features[left], LEAST - len(measured))]

    def complete(self, candidate: str) -> bool:
        """Whether all that the device has to tell of it was measured."""
        return not self.measures or candidate in self._measured

    def cost(self, candidate: str, quantity: str) -> float:
        """A cost in base units: counted, measured, or predicted until then (NaN before predictions are made)."""
        if objective(quantity).source == "counted":
            return float(getattr(self.entries[candidate].counted, quantity))
        if candidate in self._measured:
            return self._measured[candidate][quantity]
        return self._prediction(candidate, quantity)[0]

    def interval(self, candidate: str, quantity: str) -> tuple[float, float]:
        """Between what a cost is expected to lie: both ends are the cost itself where it is known."""
        if objective(quantity).source == "counted" or candidate in self._measured:
            return (self.cost(candidate, quantity),) * 2
        return self._prediction(candidate, quantity)[1:]

    def broken(self, candidate: str) -> Broken | None:
        """The first limit that it breaks, as far as is known: a predicted cost breaks one where its whole interval lies above."""
        for quantity, limit in self.limits.items():
            o = objective(quantity)
            low = self.interval(candidate, quantity)[0]
            if low <= limit or math.isnan(low):
                continue
            how = "counted" if o.source == "counted" else "measured" if candidate in self._measured else "predicted"
            least = "at least " if how == "predicted" else ""
            words = f"{how} {o.title} of {least}{o.show(low)} {o.unit}, above the limit of {o.show(limit)}"
            return Broken(quantity=quantity, how=how, words=words)
        return None

    def excess(self, candidate: str) -> float:
        """The cost over the limit, of the limit that it breaks most, as far as is counted, measured or predicted; up to 1 where it breaks
        none."""
        over = (self.interval(candidate, q)[0] / limit for q, limit in self.limits.items())
        return max((share for share in over if not math.isnan(share)), default=0.0)

    def range(self, quantity: str) -> tuple[float, float]:
        """The least and the largest cost over the pool, the largest no more than the limit; they differ."""
        if quantity not in self._ranges:
            values = np.array([self.cost(c, quantity) for c in self.pool])
            values = values[np.isfinite(values)]
            low, high = (max(LEAST_COST, float(values.min())), float(values.max())) if len(values) else (1.0, 1.0)
            high = max(min(high, self.limits.get(quantity, math.inf)), low * 1.001)
            self._ranges[quantity] = (low, high)
        return self._ranges[quantity]

    def nearest(self, tried: Collection[str]) -> list[str]:
        """The pool's networks other than those `tried`, those predicted to come nearest to the limits first."""
        left = [c for c in self.pool if c not in tried and not ((b := self.broken(c)) and b.how == "counted")]

        return sorted(left, key=self.excess)

    def unreachable(self) -> str:
        """Which limit no network of the space keeps to, and how near the nearest comes."""
        for quantity, limit in self.limits.items():
            o = objective(quantity)
            known = [c for c in self.pool if o.source == "counted" or c in self._measured]
            if not known:
                continue
            best = min(known, key=lambda c: self.cost(c, quantity))
            value = self.cost(best, quantity)
            if value > limit:
                word = {"latency": "fastest", "latency-p99": "fastest"}.get(quantity, "smallest")
                seen = "" if o.source == "counted" else " measured"
                return (
                    f"max-{quantity}: no network was found in this space that keeps to {o.words(limit)}: the {word} of "
                    f"{len(known):,}{seen} has {o.words(value)}; raise --max-{quantity}, or take another --space"
                )
        return "no network was found in this space that keeps to all limits at once: raise one of them, or take another --space"

    def _prediction(self, candidate: str, quantity: str) -> tuple[float, float, float]:
        if not self._fits:
            return (math.nan,) * 3
        if candidate not in self._predictions:
            self._predictions |= self._predicted([candidate])
        return self._predictions[candidate][quantity]

    def _predicted(self, candidates: Sequence[str]) -> dict[str, dict[str, tuple[float, float, float]]]:
        """By candidate and quantity the prediction and its interval."""
        out: dict[str, dict[str, tuple[float, float, float]]] = {c: {} for c in candidates}
        features = np.stack([self.entries[c].features for c in candidates])
        for quantity, ridge in self._fits.items():
            middle, (low, high) = np.exp(ridge.predict(features)), (np.exp(b) for b in ridge.interval(features, COVERAGE))
            for i, c in enumerate(candidates):
                out[c][quantity] = (float(middle[i]), float(low[i]), float(high[i]))
        return out
