"""Shapley values under precedence: every step's share of the total gain, averaged over the legal orders in which steps could be added.

A step's value is the mean, over all orders in which each step comes after what it requires, of what it adds when its turn comes (U.
Faigle and W. Kern, The Shapley value for cooperative games under precedence constraints, 1992). The values sum to the network with all
steps minus the base. Legal orders are the linear extensions of the requirements; they are counted by dynamic programming over the
subsets closed under requirements, and drawn exactly uniformly by those counts. Adding a random permitted step at a time would not be
uniform: with a required by b, and c free, it draws c first in half of the orders instead of a third.

shapiq (1.4) was judged for this: its games know no precedence, so it evaluates coalitions that are no legal network, and its samplers
draw all permutations alike. It does not count or draw linear extensions, so nothing of it applies here.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from ...roadmap.steps import Value, rung_name
from ..effect import Weights
from .design import Design, DesignError, Factors, sparse
from .lattice import components, count, picked, points, requirements

ARMS = 64  # networks that are trained without being asked
Subset = frozenset[int]


def orders(factors: Factors, *, number: int | None = None, arms: int = ARMS, seed: int = 0) -> Design:
    """Exact values where there are at most `arms` legal networks and no `number` is given; else the mean over `number` drawn orders.

    Without `number`, as many are drawn as surely need no more than `arms` networks; `seed` fixes which. An order trains k + 1 networks
    for k steps, of which the first and the last are common to all. `sampled` of an effect holds its weights order by order, whose scatter
    is the error of sampling. DesignError where a step has several levels, for a gain is shared among steps.
    """
    for step, values in factors.steps:
        if len(values) > 1:
            levels = ", ".join(rung_name(step, v) for v in values)
            raise DesignError(f"orders: {step.name} has several levels ({levels}): name one of them, or take --design factorial")
    if number is None and count(factors) <= arms:
        return _exact(factors)
    size = len(factors.steps)
    return _drawn(factors, number or max(2, (arms - 2) // max(1, size - 1)), seed)


def beside_own_order(factors: Factors, design: Design) -> Design:
    """The design with what each step adds in the track's own order, to be read beside its share; networks that this needs are added."""
    rungs = list(design.rungs)
    index = {frozenset(r.choice.items()): k for k, r in enumerate(rungs)}
    effects = list(design.effects)
    here: dict[str, Value] = {}
    parent = index[frozenset(factors.rung({}).choice.items())]
    for step, values in factors.steps:
        here[step.name] = values[0]
        rung = factors.rung(dict(here), parent=0)
        key = frozenset(rung.choice.items())
        if key not in index:
            index[key] = len(rungs)
            rungs.append(rung)
        effects.append(factors.effect(step, values[0], {index[key]: 1.0, parent: -1.0}, "in the paper's order"))
        parent = index[key]
    return replace(design, rungs=tuple(rungs), effects=tuple(effects))


def edge_shares(below: Sequence[frozenset[int]], subsets: Sequence[Subset]) -> dict[tuple[Subset, int], float]:
    """For every legal subset and step that may come next, the share of all legal orders that pass there.

    `below` gives what each step requires; `subsets` are all that are closed under it, smaller ones first. A share is (orders of the subset)
    x (orders of what is left after the step) / (all orders).
    """
    full = subsets[-1]
    known = set(subsets)
    up: dict[Subset, int] = {subsets[0]: 1}  # orders that lead from nothing to the subset
    for s in subsets[1:]:
        up[s] = sum(up[s - {i}] for i in s if s - {i} in known)
    down: dict[Subset, int] = {full: 1}  # orders that lead from the subset to everything
    for s in reversed(subsets[:-1]):
        down[s] = sum(down[s | {i}] for i in _next(below, s))
    return {(s, i): up[s] * down[s | {i}] / up[full] for s in subsets for i in _next(below, s)}


def draw_order(factors: Factors, generator: random.Random) -> tuple[int, ...]:
    """One legal order of the steps, each as likely as any other.

    Steps in different components have nothing to do with each other: each component's order is drawn by counting, and they are
    interleaved at random.
    """
    below = requirements(factors)
    ordered = [_draw_component(below, frozenset(c), generator) for c in components(factors)]
    turns = [k for k, c in enumerate(ordered) for _ in c]
    generator.shuffle(turns)
    queues = [iter(c) for c in ordered]
    return tuple(next(queues[k]) for k in turns)


def _draw_component(below: Sequence[frozenset[int]], members: Subset, generator: random.Random) -> list[int]:
    left: dict[Subset, int] = {members: 1}

    def remaining(subset: Subset) -> int:
        """Legal orders of the members that are not in `subset`."""
        if subset not in left:
            left[subset] = sum(remaining(subset | {i}) for i in _next(below, subset, members))
        return left[subset]

    out: list[int] = []
    here: Subset = frozenset()
    while here != members:
        ticket = generator.randrange(remaining(here))
        for i in _next(below, here, members):
            ticket -= remaining(here | {i})
            if ticket < 0:
                out.append(i)
                here = here | {i}
                break
    return out


def _next(below: Sequence[frozenset[int]], subset: Subset, members: Subset | None = None) -> list[int]:
    """The steps that may be added to `subset`."""
    return [i for i in (sorted(members) if members is not None else range(len(below))) if i not in subset and below[i] <= subset]


def _exact(factors: Factors) -> Design:
    found = points(factors)
    subsets = [frozenset(i for i, v in enumerate(p) if v is not None) for p in found]
    index = {s: k for k, s in enumerate(subsets)}
    rungs = tuple(factors.rung(picked(factors, p), parent=None if k == 0 else 0) for k, p in enumerate(found))
    weights: list[dict[int, float]] = [{} for _ in factors.steps]
    for (subset, i), share in edge_shares(requirements(factors), subsets).items():
        weights[i][index[subset | {i}]] = share
        weights[i][index[subset]] = -share
    effects = tuple(
        factors.effect(step, values[0], w, "averaged over legal orders") for (step, values), w in zip(factors.steps, weights, strict=True)
    )
    notes = (f"exact over all legal orders: all {len(rungs)} legal networks are trained; the values sum to all steps minus the base",)
    return Design(rungs=rungs, effects=effects, notes=(*factors.notes(), *notes))


def _drawn(factors: Factors, number: int, seed: int) -> Design:
    generator = random.Random(seed)
    drawn = [draw_order(factors, generator) for _ in range(number)]
    passed = {frozenset(order[:k]) for order in drawn for k in range(len(order) + 1)}
    subsets = sorted(passed, key=lambda s: (len(s), sorted(s)))
    index = {s: k for k, s in enumerate(subsets)}
    rungs = tuple(
        factors.rung({factors.steps[i][0].name: factors.steps[i][1][0] for i in sorted(s)}, parent=None if k == 0 else 0)
        for k, s in enumerate(subsets)
    )
    effects = []
    for i, (step, values) in enumerate(factors.steps):
        single: list[Weights] = []
        total: dict[int, float] = {}
        for order in drawn:
            before = frozenset(order[: order.index(i)])
            single.append(sparse({index[before]: -1.0, index[before | {i}]: 1.0}))
            for arm, weight in single[-1]:
                total[arm] = total.get(arm, 0.0) + weight / number
        effects.append(factors.effect(step, values[0], total, "averaged over legal orders", sampled=tuple(single)))
    notes = (
        f"{number} legal orders, each as likely as any other; the values sum to all steps minus the base",
        "intervals for new seeds hold for the average over these orders; the scatter between orders comes on top",
    )
    return Design(rungs=rungs, effects=tuple(effects), notes=(*factors.notes(), *notes))
