"""Crossing a design with factors that are no steps, such as the data's fraction or the scale: does a step pay more with little data?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...roadmap.steps import Rung
from ..effect import Effect, Weights
from .design import Design, DesignError, sparse

Context = Mapping[str, str]  # the level of every factor, by its name


def cross(design: Design, contexts: tuple[Context, ...]) -> tuple[tuple[tuple[Rung, Context], ...], tuple[Effect, ...]]:
    """The design in every context: arms context by context (each with parents in its own), and effects.

    `contexts` are all combinations of the factors' levels, the first levels first. Effects are those of the design in each context
    (`context` says which); for every effect of a single step and every level beyond a factor's first, an interaction of order 2: the
    effect there minus that at the first level; and the level's own effect on all the design's networks, against the first level.
    The last two are taken with the other factors at their first levels. DesignError where a combination is missing or twice there.
    """
    if contexts in ((), ({},)):
        return tuple((rung, {}) for rung in design.rungs), design.effects
    place = {_key(c): k for k, c in enumerate(contexts)}
    levels = {factor: tuple(dict.fromkeys(c[factor] for c in contexts)) for factor in contexts[0]}
    first: Context = {factor: values[0] for factor, values in levels.items()}
    shift = len(design.rungs)
    arms = []
    effects: list[Effect] = []
    if len(place) < len(contexts):
        raise DesignError("factor: a combination of levels is there twice: name every level once")
    for k, context in enumerate(contexts):
        for rung in design.rungs:
            parent = None if rung.parent is None else rung.parent + k * shift
            arms.append((replace(rung, parent=parent), context))
        effects += [replace(_moved(e, k * shift), context=spelled(context)) for e in design.effects]
    for factor, values in levels.items():
        for level in values[1:]:
            here = {**first, factor: level}
            if _key(here) not in place or _key(first) not in place:
                raise DesignError(f"factor: {spelled(here)} is missing: every combination of levels is needed")
            there, base = place[_key(here)] * shift, place[_key(first)] * shift
            others = spelled({k: v for k, v in first.items() if k != factor})
            changed = f"{factor}={level}"
            effects += [_interaction(e, there, base, changed, others) for e in design.effects if e.order == 1]
            mean = {base + i: -1 / shift for i in range(shift)} | {there + i: 1 / shift for i in range(shift)}
            effects.append(
                Effect(
                    name=changed,
                    title=f"{factor} {level}",
                    estimand="against the first level",
                    weights=sparse(mean),
                    context=others,
                    note=f"against {factor}={values[0]}, averaged over the design's {shift} network{'s' * (shift > 1)}",
                )
            )
    return tuple(arms), tuple(effects)


def spelled(context: Context) -> str:
    """A context in words: `scale=small, data-fraction=0.1`."""
    return ", ".join(f"{k}={v}" for k, v in context.items())


def _interaction(effect: Effect, there: int, base: int, changed: str, others: str) -> Effect:
    def difference(weights: Weights) -> Weights:
        return sparse({there + i: w for i, w in weights} | {base + i: -w for i, w in weights})

    return replace(
        effect,
        name=f"{effect.name} x {changed}",
        title=f"{effect.title} x {changed}",
        weights=difference(effect.weights),
        sampled=tuple(difference(w) for w in effect.sampled),
        order=2,
        context=others,
        paper_key="",
    )


def _moved(effect: Effect, shift: int) -> Effect:
    def moved(weights: Weights) -> Weights:
        return tuple((i + shift, w) for i, w in weights)

    return replace(effect, weights=moved(effect.weights), sampled=tuple(moved(w) for w in effect.sampled))


def _key(context: Context) -> frozenset[tuple[str, str]]:
    return frozenset(context.items())
