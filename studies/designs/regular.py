"""Regular two-level fractions 2^(k-p): which runs they hold, what they confound, and which of them is best.

The first k-p factors run through all their combinations; each further factor is set to the product of some of them (its generator), so
that products of factors which are constant over the runs, the defining words, tell what cannot be told apart (Box, Hunter and Hunter,
Statistics for Experimenters, 2005, chapter 6; Montgomery, Design and Analysis of Experiments, chapter 8). Sets of factors are bit masks
here: bit i is factor i.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

KEPT = 100  # classes of designs carried from one factor to the next; 400 find nothing better for 16 factors in up to 128 runs
LONGEST = 16  # factors


@dataclass(frozen=True)
class Regular:
    """The principal fraction of `factors` factors in 2^`basic` runs; `generators` gives for each further factor the mask of the basic
    ones whose product it is."""

    factors: int
    basic: int
    generators: tuple[int, ...] = ()

    @property
    def runs(self) -> int:
        """Number of runs."""
        return 1 << self.basic

    @cached_property
    def words(self) -> tuple[int, ...]:
        """The defining words, shorter ones first: all products of the generators' words."""
        found = [0]
        for j, generator in enumerate(self.generators):
            found += [w ^ (generator | 1 << (self.basic + j)) for w in found]
        return tuple(sorted(found[1:], key=_alphabetical))

    @property
    def resolution(self) -> int:
        """Length of the shortest defining word: an effect of m factors is confounded with none of fewer than resolution - m. k + 1 for
        all 2^k runs, which confound nothing."""
        return min((w.bit_count() for w in self.words), default=self.factors + 1)

    @property
    def pattern(self) -> tuple[int, ...]:
        """The word-length pattern: the number of defining words of 3, 4, ... k factors."""
        lengths = [w.bit_count() for w in self.words]
        return tuple(lengths.count(n) for n in range(3, self.factors + 1))

    def aliases(self, term: int, longest: int) -> tuple[int, ...]:
        """Products of at most `longest` factors that are equal to `term` in every run, shorter ones first."""
        found = [term ^ w for w in self.words]
        return tuple(sorted((a for a in found if 0 < a.bit_count() <= longest), key=_alphabetical))

    def signs(self) -> NDArray[np.int64]:
        """(runs, factors): +1 and -1, in standard order: the first factor changes fastest; the last run has every factor at +1."""
        run = np.arange(self.runs)[:, None]
        basic = np.where(run >> np.arange(self.basic) & 1, 1, -1)
        columns = [basic] + [np.prod(basic[:, [i for i in range(self.basic) if g >> i & 1]], axis=1)[:, None] for g in self.generators]
        return np.concatenate(columns, axis=1)


def letters(mask: int, names: str = "ABCDEFGHJKLMNOPQ") -> str:
    """A set of factors as textbooks write it: `ABD` (there is no factor I, which is the identity)."""
    return "".join(name for i, name in enumerate(names) if mask >> i & 1)


@cache
def best(factors: int, runs: int) -> Regular | None:
    """The fraction of minimum aberration: of the highest resolution, and among those with the fewest shortest words, and so on (Fries and
    Hunter, Minimum aberration 2^(k-p) designs, 1980). None where `runs` cannot tell the factors' own effects apart.

    Searched factor by factor among classes of equivalent designs, as in Chen, Sun and Wu (A catalogue of two-level and three-level
    fractional factorial designs, 1993).
    """
    basic = runs.bit_length() - 1
    assert runs == 2**basic and factors >= 1
    if factors <= basic:
        return Regular(factors, factors)
    further = factors - basic
    highest = factors * 2 ** (further - 1) // (2**further - 1)  # words have on average k 2^(p-1) / (2^p - 1) factors
    for resolution in range(highest, 2, -1):
        if found := _search(factors, basic, resolution):
            return found
    return None


@cache
def smallest(factors: int, resolution: int) -> Regular:
    """The fraction of minimum aberration of the fewest runs that has at least `resolution`; all 2^k runs where no fraction has it."""
    for basic in range(1, factors):
        if 2**basic < factors + 1 or (resolution >= 5 and 2**basic < 1 + factors * (factors + 1) // 2):
            continue
        if resolution >= 4 and 2 ** (basic - 1) < factors:
            continue
        if (found := best(factors, 2**basic)) and found.resolution >= resolution:
            return found
    return Regular(factors, factors)


def _search(factors: int, basic: int, resolution: int) -> Regular | None:
    columns = sorted((m for m in range(1, 2**basic) if m.bit_count() >= resolution - 1), key=_alphabetical)
    classes = [Regular(basic, basic)]
    for size in range(basic + 1, factors + 1):
        found: dict[object, Regular] = {}
        for design in classes:
            old = np.array((0, *design.words), dtype=np.int64)
            for column in columns:
                if column in design.generators or np.bitwise_count(old ^ (column | 1 << (size - 1))).min() < resolution:
                    continue
                longer = Regular(size, basic, tuple(sorted((*design.generators, column), key=_alphabetical)))
                key = longer.pattern if size == factors else _invariant(longer)
                if key not in found or _first(longer) < _first(found[key]):
                    found[key] = longer
        classes = sorted(found.values(), key=lambda d: d.pattern)[:KEPT]
        if not classes:
            return None
    return classes[0]


def _invariant(design: Regular) -> object:
    """The same for designs that differ in the factors' names alone: how often words of each length hold each factor and each pair."""
    words = np.array(design.words, dtype=np.int64)
    holds = (words[:, None] >> np.arange(design.factors) & 1).astype(np.int64)
    sizes = holds.sum(axis=1)
    pairs = np.stack([holds[sizes == n].T @ holds[sizes == n] for n in range(3, design.factors + 1)], axis=-1)
    rows = [tuple(sorted(map(tuple, np.delete(pairs[i], i, axis=0).tolist()))) for i in range(design.factors)]
    return tuple(sorted((tuple(pairs[i, i].tolist()), rows[i]) for i in range(design.factors)))


def _first(design: Regular) -> list[tuple[int, tuple[int, ...]]]:
    """Among equivalent designs, the one that textbooks write has the shortest and alphabetically first generators."""
    return [_alphabetical(g) for g in design.generators]


def _alphabetical(mask: int) -> tuple[int, tuple[int, ...]]:
    """Shorter words first, then by their letters."""
    return mask.bit_count(), tuple(i for i in range(mask.bit_length()) if mask >> i & 1)
