"""Legal choices of a design's steps: which there are, how many, and what requires what.

A point is a choice of the varied steps: a value for each, None where the step is absent. Steps that neither require each other nor
share a requirement (directly or through others) form components of their own; the legal points are the product of the components',
so that they can be counted and drawn without being listed. Subsets closed under their requirements form a distributive lattice (Davey
and Priestley, Introduction to Lattices and Order, 2002, chapter 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from ...roadmap.steps import Value
from .design import DesignError, Factors

Point = tuple[Value | None, ...]
LISTED = 2**14  # points that may be listed


def requirements(factors: Factors) -> tuple[frozenset[int], ...]:
    """For each varied step, the indices of the varied steps that it requires directly."""
    index = {s.name: i for i, (s, _) in enumerate(factors.steps)}
    return tuple(frozenset(index[r] for r in s.requires if r in index) for s, _ in factors.steps)


def closure(factors: Factors, step: int) -> frozenset[int]:
    """The varied steps that `step` requires, directly or not, without itself."""
    direct = requirements(factors)
    out: set[int] = set()
    open_ = set(direct[step])
    while open_:
        out |= open_
        open_ = {r for i in open_ for r in direct[i]} - out
    return frozenset(out)


def dependants(factors: Factors, step: int) -> frozenset[int]:
    """The varied steps that require `step`, directly or not."""
    return frozenset(i for i in range(len(factors.steps)) if step in closure(factors, i))


def independent(factors: Factors) -> bool:
    """Whether no varied step requires another one."""
    return not any(requirements(factors))


def components(factors: Factors) -> tuple[tuple[int, ...], ...]:
    """The steps in groups without requirements between them, each in an order in which requirements come first."""
    direct = requirements(factors)
    label = list(range(len(direct)))
    for i, needed in enumerate(direct):
        for j in needed:
            old, new = label[i], label[j]
            label = [new if k == old else k for k in label]
    groups = [[i for i, k in enumerate(label) if k == g] for g in dict.fromkeys(label)]
    return tuple(tuple(sorted(g, key=lambda i: (len(closure(factors, i)), i))) for g in groups)


def count(factors: Factors) -> int:
    """The number of legal points."""
    return math.prod(len(_component_points(factors, c)) for c in components(factors))


def points(factors: Factors) -> tuple[Point, ...]:
    """All legal points, those with fewer steps first. DesignError above 2^14 of them."""
    parts = components(factors)
    lists = [_component_points(factors, c) for c in parts]
    total = math.prod(map(len, lists))
    if total > LISTED:
        raise DesignError(f"steps: {total:,} legal choices are more than the {LISTED:,} that can be listed: vary fewer steps")
    out = [_joined(len(factors.steps), parts, combination) for combination in product(*lists)]
    rank = [{v: k for k, v in enumerate((None, *values))} for _, values in factors.steps]
    return tuple(sorted(out, key=lambda p: (_size(p), [-rank[i][v] for i, v in enumerate(p)])))


def sample(factors: Factors, number: int, generator: np.random.Generator) -> tuple[Point, ...]:
    """Distinct legal points out of `number` independent uniform draws, in the order drawn."""
    parts = components(factors)
    lists = [_component_points(factors, c) for c in parts]
    draws = np.stack([generator.integers(len(choices), size=number) for choices in lists], axis=1)
    found = (_joined(len(factors.steps), parts, [choices[k] for choices, k in zip(lists, row, strict=True)]) for row in draws)
    return tuple(dict.fromkeys(found))


def picked(factors: Factors, point: Point) -> dict[str, Value]:
    """The choice of `point`, in the steps' order."""
    return {s.name: v for (s, _), v in zip(factors.steps, point, strict=True) if v is not None}


def _size(point: Point) -> int:
    return sum(v is not None for v in point)


def _component_points(factors: Factors, component: Sequence[int]) -> list[Point]:
    """Values of the component's steps, in its order, for each of its legal choices."""
    direct = requirements(factors)
    place = {i: k for k, i in enumerate(component)}
    found: list[Point] = [()]
    for i in component:
        longer: list[Point] = []
        for so_far in found:
            longer.append((*so_far, None))
            if all(so_far[place[r]] == factors.steps[r][0].value for r in direct[i]):
                longer += [(*so_far, v) for v in factors.steps[i][1]]
        found = longer
        if len(found) > LISTED:
            raise DesignError(f"steps: more than {LISTED:,} legal choices of steps that require each other: vary fewer steps")
    return found


def _joined(size: int, parts: Sequence[Sequence[int]], combination: Sequence[Point]) -> Point:
    out: list[Value | None] = [None] * size
    for component, values in zip(parts, combination, strict=True):
        for i, value in zip(component, values, strict=True):
            out[i] = value
    return tuple(out)
