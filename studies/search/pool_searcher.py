"""The searcher `vitnas`: costs of a whole pool of networks are known, so trainings are spent on accuracy alone.

A Gaussian process of accuracy over what is known of a network without training it (its choices, its costs, what else is counted) proposes
what is expected to add most to the hypervolume of accuracy and costs. The first trainings are spread over the costs: the cheapest network,
which is on the true front whatever its accuracy, and then one network in each of equal slices of the pool, unlike those before it. A batch
for parallel workers takes every network of it as trained, with the accuracy that is expected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import pareto
from .acquisition import ehvi
from .gaussian_process import Hyper, Posterior, fit

Array = NDArray[np.float64]
FITTED = 250  # observations that hyper-parameters are fitted to, at most
CLIP = 2.0  # accuracies count as no worse than this many ranges of the middle half below the median: broken networks say little
TOTALS = 4.0  # how much more costs and counts weigh than one choice, before the model has learned it
MARGIN = 0.1  # of the ranges, by which the reference point lies beyond the worst of the front


@dataclass
class _Told:
    values: list[float] = field(default_factory=list)
    weight: float = 0.0

    @property
    def mean(self) -> float:
        return float(np.mean(self.values))


class PoolSearcher:
    """Proposes rows of a pool. One accuracy is maximised and noisy; the costs, one or more, are minimised and known.

    features (n, d): encoded networks, columns in [0, 1]. costs (n, k). counted (n, q): what else is known without training and may say
    something of accuracy, in any unit (logarithms of parameters, depth). `log_costs`: costs count by their logarithm (default: where all
    are positive). `reference`: accuracy below which a network is worth nothing (default: a tenth of the range seen below the worst of the
    front). `initial`: trainings before the model proposes. The same calls in the same order give the same proposals.

    Raises `ValueError` where features and costs do not fit, or a cost is not finite.
    """

    def __init__(
        self,
        features: ArrayLike,
        costs: ArrayLike,
        *,
        counted: ArrayLike | None = None,
        seed: int = 0,
        reference: float | None = None,
        log_costs: bool | None = None,
        initial: int = 10,
    ) -> None:
        self._encoded = np.asarray(features, dtype=np.float64)
        raw = np.asarray(costs, dtype=np.float64)
        raw = raw[:, None] if raw.ndim == 1 else raw
        if self._encoded.ndim != 2 or raw.ndim != 2 or len(raw) != len(self._encoded) or not len(raw):
            raise ValueError(
                f"features (n, d) and costs (n, k) must have the same rows, one or more: {self._encoded.shape} and {raw.shape}"
            )
        if not np.isfinite(raw).all() or not np.isfinite(self._encoded).all():
            raise ValueError("features and costs must be finite; leave networks of unknown cost out of the pool")
        self._log = bool((raw > 0).all()) if log_costs is None else log_costs
        if self._log and not (raw > 0).all():
            raise ValueError("costs must be positive to count by their logarithm; pass log_costs=False")
        self._raw = raw.copy()
        self._counted = np.empty((len(raw), 0)) if counted is None else _in_range(np.asarray(counted, dtype=np.float64))
        self._reference, self._initial = reference, initial
        self._rng = np.random.default_rng(seed)
        self._told: dict[int, _Told] = {}
        self._pending: list[int] = []
        self._closed = np.zeros(len(raw), dtype=bool)  # asked, told or forbidden
        self._design: list[int] = []
        self._posterior: Posterior | None = None
        self._hyper: Hyper | None = None
        self._fitted = 0
        self._scale = (0.0, 1.0)
        self._clip = -math.inf
        self._place()

    def _place(self) -> None:
        """Costs and features as the model takes them: all in units of the pool's range."""
        self._costs = _in_range(np.log(self._raw) if self._log else self._raw)
        self._x = np.concatenate([self._encoded, TOTALS * self._costs, TOTALS * self._counted], axis=1)

    # --- what it is told ------------------------------------------------------------------------------------------

    def tell(self, index: int, value: float | None, *, noise: float | None = None) -> None:
        """The accuracy of a training of row `index`, asked for or not; once more for every further seed. None: it failed.

        `noise`: how many times the variance of a usual training this one has (default 1).
        """
        if index in self._pending:
            self._pending.remove(index)
        self._closed[index] = True
        if value is None:
            return
        again = index in self._told
        told = self._told.setdefault(index, _Told())
        told.values.append(value)
        told.weight += 1.0 / (noise or 1.0)
        if self._posterior is not None:
            if again:
                self._posterior = None
            else:
                self._posterior.observe(index, self._standard(value), told.weight)

    def pending(self, index: int) -> None:
        """Row `index` is in training: the proposals that follow take it as trained, with the accuracy that is expected."""
        self._closed[index] = True
        self._pending.append(index)

    def forbid(self, index: int) -> None:
        """Never propose row `index`, or not any more."""
        if index in self._pending:
            self._pending.remove(index)
        self._closed[index] = True

    def correct(self, index: int, costs: ArrayLike) -> None:
        """Measured costs (k,) of row `index` in place of predicted ones."""
        self._raw[index] = np.asarray(costs, dtype=np.float64)
        self._place()
        self._posterior = None

    def front(self) -> list[int]:
        """The rows told that no other passes over, by the mean of the accuracies observed, cheapest first."""
        rows = list(self._told)
        if not rows:
            return []
        table = np.array([[self._told[i].mean, *self._raw[i]] for i in rows])
        kept = pareto.non_dominated(table, [True] + [False] * self._raw.shape[1])
        return sorted((i for i, keep in zip(rows, kept, strict=True) if keep), key=lambda i: (*self._raw[i], i))

    # --- what it asks ---------------------------------------------------------------------------------------------

    def ask(self, count: int = 1) -> list[int]:
        """Up to `count` rows to train, none of them asked, told or forbidden before; fewer where the pool has no more."""
        out: list[int] = []
        while len(out) < count and len(self._told) + len(self._pending) < self._initial and not self._closed.all():
            self._take(self._spread(), out)
        if len(out) < count and not self._closed.all():
            if len(self._told) < 2:  # nothing to model yet
                self._take(self._spread(), out)
                return out + (self.ask(count - len(out)) if len(out) < count else [])
            self._model()
            assert self._posterior is not None
            guess = self._posterior.trial()
            for i in self._pending:
                guess.observe(i)
            while len(out) < count and not self._closed.all():
                self._take(self._best(guess), out)
                guess.observe(out[-1])
        return out

    def _take(self, index: int, out: list[int]) -> None:
        self._closed[index] = True
        self._pending.append(index)
        out.append(index)

    def _spread(self) -> int:
        """The next row of the design: the cheapest, then slice after slice of the pool by cost, far from what was taken before."""
        open_ = np.flatnonzero(~self._closed)
        done = len(self._told) + len(self._pending)
        axis = done % self._costs.shape[1]
        if done < self._costs.shape[1]:
            return int(open_[int(np.argmin(self._costs[open_, axis]))])
        slices = max(1, self._initial - self._costs.shape[1])
        place = self._slice(done, slices)
        order = open_[np.argsort(self._costs[open_, axis], kind="stable")]
        first = len(order) * place // slices
        part = order[first : max(first + 1, len(order) * (place + 1) // slices)]
        part = self._rng.choice(part, min(len(part), 32), replace=False)
        taken = np.array([*self._told, *self._pending], dtype=np.int64)
        far: Array = ((self._x[part][:, None] - self._x[taken][None]) ** 2).sum(axis=2).min(axis=1)
        return int(part[np.argmax(far)])

    def _slice(self, done: int, slices: int) -> int:
        after = done - int(self._costs.shape[1])
        if after == 0 or len(self._design) != slices:
            self._design = [int(i) for i in self._rng.permutation(slices)]
        return self._design[after % slices]

    def _standard(self, value: float) -> float:
        return (max(value, self._clip) - self._scale[0]) / self._scale[1]

    def _model(self) -> None:
        """The posterior of all that is told; hyper-parameters anew when a tenth more is known."""
        known = len(self._told)
        if self._posterior is not None and known < self._fitted + max(2, self._fitted // 10):
            return
        rows = np.array(list(self._told), dtype=np.int64)
        raw = np.array([self._told[int(i)].mean for i in rows])
        low, middle, high = np.quantile(raw, [0.25, 0.5, 0.75])
        self._clip = float(middle - CLIP * max(high - low, 1e-9))
        clipped = np.maximum(raw, self._clip)
        self._scale = (float(clipped.mean()), float(clipped.std()) or 1.0)
        y = (clipped - self._scale[0]) / self._scale[1]
        weights = np.array([self._told[int(i)].weight for i in rows])
        if self._hyper is None or known >= self._fitted + max(2, self._fitted // 10):
            part = np.arange(known) if known <= FITTED else self._rng.choice(known, FITTED, replace=False)
            self._hyper = fit(self._x[rows[part]], y[part], weights[part], self._hyper)
            self._fitted = known
        self._posterior = Posterior(self._x, self._hyper, rows, y, weights)

    def _best(self, guess: Posterior) -> int:
        open_ = np.flatnonzero(~self._closed)
        known = np.array([*self._told, *self._pending], dtype=np.int64)
        values = guess.mean[known]
        costs = self._costs[known]
        front = pareto.non_dominated(np.column_stack([values, costs]), [True] + [False] * costs.shape[1])
        values, costs = values[front], costs[front]
        if self._reference is None:
            floor = float(values.min() - MARGIN * np.ptp(guess.mean[known]))
        else:
            floor = self._standard(self._reference)
        ceiling = np.full(costs.shape[1], 1.0 + MARGIN)
        gain = ehvi(guess.mean[open_], np.sqrt(guess.variance[open_]), self._costs[open_], values, costs, floor, ceiling)
        return int(open_[np.argmax(gain)])


def _in_range(columns: Array) -> Array:
    """Columns in [0, 1]; 0 where they do not vary."""
    low, high = columns.min(axis=0), columns.max(axis=0)
    return np.asarray((columns - low) / np.where(high > low, high - low, 1.0))
