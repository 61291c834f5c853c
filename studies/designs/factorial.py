"""The full factorial design: every legal choice of the steps' levels.

An effect is averaged over legal subsets of the other steps, each of the same weight; requirements between steps only mean that there
are fewer of them. Nothing is assumed about interactions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..effect import Effect
from .design import Design, DesignError, Factors, sparse
from .interactions import Interactions, Level, pair_name, requested
from .lattice import Point, picked, points


def factorial(factors: Factors, *, interactions: Interactions = ()) -> Design:
    """Every legal network. The effect of a level is the mean over all legal pairs that differ in it alone, against absence.

    The interaction of two levels is the mean, over all legal fours that differ in the two alone, of the difference of differences: how
    many points more the one pays with the other than without. DesignError above 2^14 networks.
    """
    found = points(factors)
    index = {p: i for i, p in enumerate(found)}
    pairs, notes = requested(factors, interactions)
    rungs = tuple(factors.rung(picked(factors, p), parent=None if i == 0 else 0) for i, p in enumerate(found))
    effects = [
        factors.effect(step, value, average(found, index, ((i, value),)), "averaged over legal subsets")
        for i, (step, values) in enumerate(factors.steps)
        for value in values
    ]
    for pair in pairs:
        name = pair_name(factors, pair)
        weights = average(found, index, pair)
        effects.append(Effect(name=name, title=name, estimand="averaged over legal subsets", weights=sparse(weights), order=2))
    return Design(rungs=rungs, effects=tuple(effects), notes=(*factors.notes(), *notes))


def average(found: Sequence[Point], index: Mapping[Point, int], levels: tuple[Level, ...]) -> dict[int, float]:
    """Weights by point of the mean difference (one level) or difference of differences (two), over all places where it exists.

    `index` gives the place of every point of `found`. DesignError where there is no such place.
    """
    total: dict[int, float] = {}
    places = 0
    for point in found:
        if any(point[i] is not None for i, _ in levels):
            continue
        corners: list[tuple[Point, int]] = [(point, (-1) ** len(levels))]
        for i, value in levels:
            corners += [((*p[:i], value, *p[i + 1 :]), -sign) for p, sign in corners]
        if not all(p in index for p, _ in corners):
            continue
        places += 1
        for p, sign in corners:
            total[index[p]] = total.get(index[p], 0.0) + sign
    if not places:
        raise DesignError("design: no two networks differ in this step alone: vary other steps with it")
    return {arm: weight / places for arm, weight in total.items()}
