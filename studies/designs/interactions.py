"""Interactions of two steps, named before the data are seen.

The interaction of a and b is the difference of differences (with a and b) - (with b alone) - (with a alone) + (with neither): how many
points more a pays with b than without; it is the same with the two exchanged. A pair has one only where neither requires the other,
for else one of the four networks does not exist.
"""

from __future__ import annotations

from itertools import combinations

from ...roadmap.steps import Value, rung_name
from .design import DesignError, Factors
from .lattice import closure

Interactions = tuple[tuple[str, str], ...] | str  # pairs of step names, or "all"
Level = tuple[int, Value]  # a step's index and a value other than the base's


def requested(factors: Factors, interactions: Interactions) -> tuple[tuple[tuple[Level, Level], ...], tuple[str, ...]]:
    """The pairs of levels that `interactions` names (pairs of step names, or "all"), and notes on what "all" leaves out.

    DesignError for a step that is not varied, a pair named twice or of one step, and a pair that legal networks cannot tell apart.
    """
    if not interactions:
        return (), ()
    names = [s.name for s, _ in factors.steps]
    if interactions == "all":
        every = list(combinations(range(len(names)), 2))
        pairs = [(i, j) for i, j in every if separable(factors, i, j)]
        left = [f"{names[i]} x {names[j]}" for i, j in every if (i, j) not in pairs]
        notes = (f"no interaction where one step requires the other: {', '.join(left)}",) if left else ()
        return tuple(p for i, j in pairs for p in _levels(factors, i, j)), notes
    if isinstance(interactions, str):
        raise DesignError(f"interactions: name pairs of steps, or all, not {interactions!r}")
    pairs = []
    for one, other in interactions:
        i, j = _index(factors, one), _index(factors, other)
        if i == j:
            raise DesignError(f"interactions: {one} with itself: name two different steps")
        if not separable(factors, i, j):
            above, below = (one, other) if j in closure(factors, i) else (other, one)
            raise DesignError(f"interactions: {above} requires {below}, so there is no {above} without {below}: leave this pair out")
        pairs.append((min(i, j), max(i, j)))
    twice = next((p for k, p in enumerate(pairs) if p in pairs[:k]), None)
    if twice:
        raise DesignError(f"interactions: {names[twice[0]]} and {names[twice[1]]} are named twice: name the pair once")
    return tuple(p for i, j in pairs for p in _levels(factors, i, j)), ()


def separable(factors: Factors, one: int, other: int) -> bool:
    """Whether legal networks exist with either step, both and neither, and all else equal."""
    return one not in closure(factors, other) and other not in closure(factors, one)


def pair_name(factors: Factors, pair: tuple[Level, Level]) -> str:
    """`a x b`, as an effect's name."""
    return " x ".join(rung_name(factors.steps[i][0], v) for i, v in pair)


def all_pairs(factors: Factors) -> tuple[tuple[Level, Level], ...]:
    """Every pair of levels of two steps that legal networks can tell apart."""
    return requested(factors, "all")[0]


def _levels(factors: Factors, i: int, j: int) -> list[tuple[Level, Level]]:
    return [((i, a), (j, b)) for a in factors.steps[i][1] for b in factors.steps[j][1]]


def _index(factors: Factors, name: str) -> int:
    step = factors.selection.track.step(name).name
    for i, (s, _) in enumerate(factors.steps):
        if s.name == step:
            return i
    raise DesignError(f"interactions: {step} is not varied here: add it to the steps, or name one of those that are")
