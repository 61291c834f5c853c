"""Regular fractions of the two-level factorial, where the steps are independent: many steps from few networks, each effect from all.

An effect is the mean of the networks with the step minus the mean of those without. What it is confounded with is known beforehand:
its aliases. At resolution III they are interactions of two steps, each of which enters a step's effect with half its size (an interaction
is a difference of differences, as in `interactions`); at IV, steps are clear of them but they are confounded with each other; at V both
are clear, and only interactions of three steps and more are assumed absent.
"""

from __future__ import annotations

import numpy as np

from ..effect import Effect
from .design import Design, DesignError, Factors, sparse
from .interactions import Interactions, pair_name, requested
from .lattice import independent, picked
from .regular import LONGEST, Regular, best, letters, smallest

DEFAULT = 4  # resolution
ROMAN = {3: "III", 4: "IV", 5: "V", 6: "VI", 7: "VII", 8: "VIII"}
SHOWN = 31  # defining words that a note lists


def is_regular(factors: Factors) -> bool:
    """Whether the steps have one level each and none requires another one."""
    return independent(factors) and all(len(values) == 1 for _, values in factors.steps)


def fractional(factors: Factors, *, interactions: Interactions = (), resolution: int | None = None, runs: int | None = None) -> Design:
    """The fraction of minimum aberration in `runs` networks, or in the fewest that reach `resolution` (3, 4 or 5; default 4).

    The first network has every step on. Rows that interactions of two steps are aliased with have the estimand *main effect plus
    aliases*. DesignError where the steps are not independent, where `runs` is no power of two or does not reach `resolution`, and where a
    requested interaction is aliased with a step or with another requested one.
    """
    if not is_regular(factors):
        raise DesignError("design: a regular fraction needs independent steps of one level each: use the optimal design")
    plan = chosen(len(factors.steps), resolution=resolution, runs=runs)
    pairs, _ = requested(factors, interactions)
    asked = {(1 << a[0]) | (1 << b[0]): pair_name(factors, (a, b)) for a, b in pairs}
    _refuse_aliased(factors, plan, asked)
    signs = plan.signs()[::-1]
    longest = 3 if plan.resolution >= 5 else 2

    def spelled(term: int) -> str:
        return " x ".join(s.name for i, (s, _) in enumerate(factors.steps) if term >> i & 1)

    def contrast(term: int) -> dict[int, float]:
        on = np.prod(signs[:, [i for i in range(plan.factors) if term >> i & 1]], axis=1)
        return {run: float(2 ** term.bit_count() * sign / plan.runs) for run, sign in enumerate(on)}

    effects = []
    for i, (step, values) in enumerate(factors.steps):
        clear = not plan.aliases(1 << i, 2)
        aliases = tuple(spelled(a) for a in plan.aliases(1 << i, longest))
        estimand = "averaged over legal subsets" if clear else "main effect plus aliases"
        effects.append(factors.effect(step, values[0], contrast(1 << i), estimand, aliases=aliases))  # type: ignore[arg-type]
    for term, name in asked.items():
        effects.append(
            Effect(
                name=name,
                title=name,
                estimand="main effect plus aliases" if plan.aliases(term, 2) else "averaged over legal subsets",
                weights=sparse(contrast(term)),
                order=2,
                aliases=tuple(spelled(a) for a in plan.aliases(term, longest)),
            )
        )
    on = [tuple(v[0] if sign > 0 else None for (_, v), sign in zip(factors.steps, row, strict=True)) for row in signs]
    rungs = tuple(factors.rung(picked(factors, p), parent=None if k == 0 else 0) for k, p in enumerate(on))
    return Design(rungs=rungs, effects=tuple(effects), notes=(*factors.notes(), *_described(factors, plan)))


def chosen(steps: int, *, resolution: int | None = None, runs: int | None = None) -> Regular:
    """The fraction for `steps` factors, by `runs`, by `resolution`, or by both where the first reach the second."""
    if steps > LONGEST:
        raise DesignError(f"design: fractions of more than {LONGEST} steps are not searched, and these are {steps}: vary fewer steps")
    if resolution not in (None, 3, 4, 5):
        raise DesignError(f"resolution: it can be 3, 4 or 5, not {resolution}")
    if runs is None:
        return smallest(steps, resolution or DEFAULT)
    if runs < 2 or runs & (runs - 1):
        least = smallest(steps, 3).runs
        near = [r for r in (1 << (runs.bit_length() - 1), 1 << runs.bit_length()) if r >= least] or [least]
        raise DesignError(f"runs: a regular fraction has a power of two, not {runs}: take {' or '.join(map(str, near))}")
    if runs > 2**steps:
        raise DesignError(f"runs: {steps} steps have only {2**steps} networks: take that many or fewer")
    found = best(steps, runs)
    if found is None:
        raise DesignError(f"runs: {runs} networks cannot tell {steps} steps apart: take {smallest(steps, 3).runs}")
    if resolution and found.resolution < resolution:
        least = smallest(steps, resolution).runs
        raise DesignError(
            f"runs: {runs} networks of {steps} steps reach resolution {_roman(found)}, not {ROMAN[resolution]}: take {least}, or leave "
            "--resolution out"
        )
    return found


def _refuse_aliased(factors: Factors, plan: Regular, asked: dict[int, str]) -> None:
    for term, name in asked.items():
        for alias in plan.aliases(term, 2):
            if alias.bit_count() == 1:
                other, wanted = factors.steps[alias.bit_length() - 1][0].name, 4
            elif alias in asked:
                other, wanted = asked[alias], 5
            else:
                continue
            raise DesignError(
                f"interactions: {name} cannot be told from {other} at resolution {_roman(plan)}: take --resolution {wanted} "
                f"({smallest(plan.factors, wanted).runs} networks)"
            )


def _described(factors: Factors, plan: Regular) -> tuple[str, ...]:
    if not plan.words:
        return (f"regular: all {plan.runs} networks of {plan.factors} independent steps; nothing is aliased",)
    names = ", ".join(f"{letters(1 << i)} {s.name}" for i, (s, _) in enumerate(factors.steps))
    listed = " = ".join(letters(w) for w in plan.words[:SHOWN])
    rest = f", and {len(plan.words) - SHOWN} longer words" if len(plan.words) > SHOWN else ""
    assumed = {3: "each alias of two steps enters a step's effect with half its size", 4: "interactions of three steps are assumed absent"}
    return (
        f"regular: a 2^({plan.factors}-{plan.factors - plan.basic}) fraction of resolution {_roman(plan)}: {plan.runs} of "
        f"{2**plan.factors:,} networks; the steps are independent",
        f"defining relation: I = {listed}{rest}, where {names}",
        assumed.get(plan.resolution, "interactions of three steps and more are assumed absent from effects of steps and pairs"),
    )


def _roman(plan: Regular) -> str:
    return ROMAN.get(plan.resolution, str(plan.resolution))
