"""How large a space is: its points counted without listing them, its distinct candidates counted or estimated, the range of its costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...roadmap.counts import Count, count

if TYPE_CHECKING:
    from .space import Dimension, Point, Space

ENUMERABLE = 4096  # points up to which all are looked at
CLASS = 256  # spellings of one candidate that are looked for
Z = 1.959964  # of a 95 % interval

Known = tuple[tuple[str, str], ...]


class Tree:
    """The points of dimensions of which each applies or not, given the levels of those before it, as a tree.

    What lies below a node depends on the levels that later dimensions read, and on no others, so equal subtrees are counted once.
    """

    def __init__(self, dimensions: Sequence[Dimension], applies: Callable[[Dimension, Mapping[str, str]], bool]) -> None:
        self.dimensions, self._applies = dimensions, applies
        self._live = [{n for d in dimensions[k:] for n in d.reads} for k in range(len(dimensions) + 1)]
        self._counts: dict[tuple[int, Known], int] = {}

    @property
    def total(self) -> int:
        """The number of points."""
        return self._below(0, ())

    def points(self) -> Iterator[Point]:
        """All points, the last dimension's levels changing fastest."""
        yield from self._points(0, ())

    def draw(self, rng: np.random.Generator) -> Point:
        """A point, each with the same chance."""
        point: Known = ()
        known: Known = ()
        for k, d in enumerate(self.dimensions):
            if self._applies(d, dict(known)):
                weights = np.array([self._below(k + 1, self._kept(k + 1, (*known, (d.name, x)))) for x in d.levels], dtype=float)
                level = d.levels[int(np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(), side="right"))]
                point, known = (*point, (d.name, level)), (*known, (d.name, level))
            known = self._kept(k + 1, known)
        return point

    def _points(self, k: int, point: Known) -> Iterator[Known]:
        if k == len(self.dimensions):
            yield point
            return
        d = self.dimensions[k]
        if not self._applies(d, dict(point)):
            yield from self._points(k + 1, point)
            return
        for level in d.levels:
            yield from self._points(k + 1, (*point, (d.name, level)))

    def _below(self, k: int, known: Known) -> int:
        if k == len(self.dimensions):
            return 1
        if (k, known) not in self._counts:
            d = self.dimensions[k]
            if not self._applies(d, dict(known)):
                found = self._below(k + 1, self._kept(k + 1, known))
            elif d.name in self._live[k + 1]:
                found = sum(self._below(k + 1, self._kept(k + 1, (*known, (d.name, x)))) for x in d.levels)
            else:
                found = len(d.levels) * self._below(k + 1, self._kept(k + 1, known))
            self._counts[k, known] = found
        return self._counts[k, known]

    def _kept(self, k: int, known: Known) -> Known:
        return tuple(x for x in known if x[0] in self._live[k])


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number of candidates with a 95 % interval; both ends are the number itself where it is exact."""

    value: float
    low: float
    high: float

    @property
    def exact(self) -> bool:
        """Whether all were counted."""
        return self.low == self.high


def distinct(space: Space, rng: np.random.Generator, sample: int) -> Estimate:
    """The number of distinct candidates: counted where all points can be looked at, else estimated from `sample` points.

    A candidate with m spellings is met m times as often as one with a single one, so their number is that of the points times the mean of
    1/m. Spellings are looked for from neighbour to neighbour; those that more than one change parts from all others are taken for
    other candidates.
    """
    points = space.spelled()
    if points <= ENUMERABLE:
        found = len({space.candidate(p).id for p in space.points()})
        return Estimate(value=found, low=found, high=found)
    shares = np.array([1 / len(spellings(space, space.draw(rng))) for _ in range(sample)])
    mean, error = float(shares.mean()), float(shares.std(ddof=1)) / math.sqrt(sample)
    if error == 0:  # all alike: up to 3 in `sample` may be of another kind (the rule of three)
        return Estimate(value=points * mean, low=points * mean * max(0.0, 1 - 3 / sample), high=points * min(1.0, mean * (1 + 3 / sample)))
    return Estimate(value=points * mean, low=points * max(0.0, mean - Z * error), high=points * min(1.0, mean + Z * error))


def spellings(space: Space, point: Point) -> list[Point]:
    """The points that are the same candidate as `point` and lead to it by single changes, `point` first; `CLASS` at most."""
    wanted = space.candidate(point)
    found = {point: None}
    queue = [point]
    while queue and len(found) < CLASS:
        for near in space.neighbours(queue.pop()):
            if near not in found and space.candidate(near) == wanted:
                found[near] = None
                queue.append(near)
    return list(found)


def extremes(space: Space, rng: np.random.Generator, sample: int = 100) -> tuple[Count, Count]:
    """The counts of a small and of a large network of the space: the least and the most multiply-adds among all points, or where these are
    too many, from `sample` of them on by single changes until none leads further."""
    if space.spelled() <= ENUMERABLE:
        counts = [_count(space, p) for p in space.points()]
        return min(counts, key=lambda c: c.macs), max(counts, key=lambda c: c.macs)
    points = [space.draw(rng) for _ in range(sample)]
    return _descend(space, points, 1), _descend(space, points, -1)


def _descend(space: Space, points: Sequence[Point], sign: int) -> Count:
    here = min(points, key=lambda p: sign * _count(space, p).macs)
    while True:
        near = min(space.neighbours(here), key=lambda p: sign * _count(space, p).macs, default=here)
        if sign * _count(space, near).macs >= sign * _count(space, here).macs:
            return _count(space, here)
        here = near


def _count(space: Space, point: Point) -> Count:
    candidate = space.candidate(point)
    return count(candidate.spec, candidate.input_size)
