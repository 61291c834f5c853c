"""Optimal designs over the legal networks, where steps require each other or have several levels: regular fractions do not exist there.

The model is an intercept, an effect of every level against absence, and the requested interactions. Of the legal networks, those are
trained whose information matrix X'X has the largest determinant (D-optimality; Atkinson, Donev and Tobias, Optimum Experimental Designs,
with SAS, 2007, chapters 11 and 12), found by Fedorov's exchange from several starts. The effects are the least-squares estimates. What the
model leaves out biases them by the alias matrix (X'X)^-1 X'X2 (Box and Wilson, 1951), which is told with every effect.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..effect import Effect
from .design import Design, DesignError, Factors, sparse
from .interactions import Interactions, Level, all_pairs, pair_name, requested
from .lattice import LISTED, Point, count, picked, points, sample

Matrix = NDArray[np.float64]
STARTS = 12
TOLD = 0.1  # smaller coefficients of aliases are not listed
SEED = 1951


def optimal(factors: Factors, *, interactions: Interactions = (), runs: int | None = None) -> Design:
    """`runs` distinct networks (default: three more than parameters, or the next multiple of four), everything on first among them.

    Effects of single steps are taken with every other step halfway between its levels; an interaction is a difference of differences.
    An effect's note tells its variance (in units of a trial's) beside that of an orthogonal design of as many networks; its `aliases` are
    the interactions of two steps that would bias it, with their coefficients. DesignError where `runs` is below the number of parameters
    or above that of legal networks.
    """
    pairs, notes = requested(factors, interactions)
    levels = [(i, v) for i, (_, values) in enumerate(factors.steps) for v in values]
    terms: list[tuple[Level, ...]] = [(), *((one,) for one in levels), *pairs]
    total = count(factors)
    if runs is not None and runs > total:
        raise DesignError(f"runs: there are only {total} legal networks of these steps: take that many or fewer, or --design factorial")
    if runs is not None and runs < len(terms):
        raise DesignError(f"runs: {len(terms)} parameters (base, steps, interactions) need as many networks: take {len(terms)} or more")
    wanted = runs or min(total, default_runs(len(terms)))
    generator = np.random.Generator(np.random.PCG64(SEED))
    candidates = points(factors) if total <= LISTED else sample(factors, LISTED, generator)
    everything = factors.everything()
    modern: Point = tuple(everything[s.name] for s, _ in factors.steps)
    candidates = (modern, *(p for p in candidates if p != modern))
    x = model_matrix(factors, candidates, terms)
    rows = exchange(x, wanted, generator)
    chosen = x[rows]
    inverse = np.linalg.inv(chosen.T @ chosen)
    estimator = inverse @ chosen.T
    left = [p for p in all_pairs(factors) if p not in pairs]
    aliased = estimator @ model_matrix(factors, [candidates[r] for r in rows], left)
    effects = []
    for k, term in enumerate(terms[1:], 1):
        weights = dict(enumerate(estimator[k].tolist()))
        aliases = _aliases(factors, left, aliased[k])
        note = f"variance {inverse[k, k]:.2f} of a trial's; orthogonal {_orthogonal(factors, term, wanted):.2f}"
        if len(term) == 1:
            step, value = factors.steps[term[0][0]][0], term[0][1]
            effects.append(factors.effect(step, value, weights, "main effect plus aliases", note=note, aliases=aliases))
        else:
            name = pair_name(factors, (term[0], term[1]))
            effects.append(
                Effect(
                    name=name,
                    title=name,
                    estimand="main effect plus aliases",
                    weights=sparse(weights),
                    order=2,
                    aliases=aliases,
                    note=note,
                )
            )
    ratios = [inverse[k, k] / _orthogonal(factors, term, wanted) for k, term in enumerate(terms[1:], 1)]
    about = (
        f"optimal: {wanted} of {total:,} legal networks for {len(terms)} parameters, D-optimal; an effect's variance is "
        f"{min(ratios):.2f} to {max(ratios):.2f} times that of an orthogonal design of as many",
        f"an alias enters an effect with the coefficient before it; those below {TOLD} are not listed",
    )
    rungs = tuple(factors.rung(picked(factors, candidates[r]), parent=None if k == 0 else 0) for k, r in enumerate(rows))
    return Design(rungs=rungs, effects=tuple(effects), notes=(*factors.notes(), *about, *notes))


def default_runs(parameters: int) -> int:
    """Three networks more than parameters, or the next multiple of four where that is more."""
    return max(parameters + 3, 4 * (parameters // 4 + 1))


def model_matrix(factors: Factors, found: Sequence[Point], terms: Sequence[tuple[Level, ...]]) -> Matrix:
    """(points, terms): 1 for the intercept `()`, 1 where a level is on, and the product of two levels that are centred at the mean over a
    step's levels, so that a coefficient is an effect in points, and that of a pair its difference of differences."""

    def on(level: Level) -> Matrix:
        return np.array([float(p[level[0]] == level[1]) for p in found])

    columns = []
    for term in terms:
        if len(term) < 2:
            columns.append(on(term[0]) if term else np.ones(len(found)))
        else:
            columns.append(np.prod([on(one) - 1 / (1 + len(factors.steps[one[0]][1])) for one in term], axis=0))
    return np.stack(columns, axis=1) if columns else np.zeros((len(found), 0))


def exchange(x: Matrix, runs: int, generator: np.random.Generator, *, starts: int = STARTS) -> list[int]:
    """Indices of `runs` distinct rows of `x`, of which the first is row 0, with the largest determinant of their X'X that exchanging one
    row at a time finds from `starts` random choices (Fedorov, Theory of Optimal Experiments, 1972; Cook and Nachtsheim, 1980).

    DesignError where every choice is singular. Gains are compared after rounding, so that ties fall alike on every machine.
    """
    found: tuple[float, list[int]] = (-np.inf, [])
    parameters = x.shape[1]
    for _ in range(starts):
        rows = [0, *(1 + generator.permutation(len(x) - 1)[: runs - 1]).tolist()]
        improved, changed = True, True
        while improved:
            improved = False
            for k in range(1, runs):
                if changed:
                    seen = x @ np.linalg.inv(x[rows].T @ x[rows] + 1e-6 * np.eye(parameters))
                    variance = np.sum(seen * x, axis=1)
                leaving = rows[k]
                ratio = (1 + variance) * (1 - variance[leaving]) + (seen @ x[leaving]) ** 2
                ratio[rows] = 0.0
                gain = np.round(np.log(np.maximum(ratio, 1e-9)), 6)
                best = int(np.argmax(gain))
                changed = bool(gain[best] > 0)
                if changed:
                    rows[k] = best
                    improved = True
        sign, size = np.linalg.slogdet(x[rows].T @ x[rows])
        if sign > 0 and size > found[0] + 1e-6:
            found = (float(size), rows)
    if not found[1] or np.linalg.matrix_rank(x[found[1]]) < parameters:
        raise DesignError("runs: these networks cannot tell the effects apart: take more with --runs, or fewer --interactions")
    return [0, *sorted(found[1][1:])]


def _orthogonal(factors: Factors, term: Sequence[Level], runs: int) -> float:
    """The variance that an orthogonal design would have, every level equally often: 4/runs for a two-level step, 16/runs for a pair."""
    out = 1.0
    for i, _ in term:
        out *= 2 * (1 + len(factors.steps[i][1]))
    return out / runs


def _aliases(factors: Factors, left: Sequence[tuple[Level, Level]], coefficients: Matrix) -> tuple[str, ...]:
    """`0.33 width x gelu` and the like, the largest first."""
    shown = [(round(float(c), 2), pair_name(factors, p)) for p, c in zip(left, coefficients, strict=True)]
    return tuple(f"{c:.2f} {name}" for c, name in sorted(shown, key=lambda s: (-abs(s[0]), s[1])) if abs(c) > TOLD)
