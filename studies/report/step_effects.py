"""A study's effects for comparison with another source: each with its noise, the pairs that it tells apart, and what it stands on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...roadmap.steps import Choice, Value
from ..effect import Effect, Estimand
from ..library import open_plan
from ..plan import Plan
from ..statistics.means import CONFIDENCE, Interval, t_quantile
from ..store import Store
from .agreement import Side
from .effects import EffectRow
from .make import load_summary
from .replicates import Outcomes, outcomes
from .summary import Summary


@dataclass(frozen=True, kw_only=True)
class StepEffect:
    """One effect: as planned (`effect`), and as the report has it (`row`)."""

    effect: Effect
    row: EffectRow

    @property
    def key(self) -> tuple[str, Estimand, str]:
        """What makes it the same effect in another study: name, estimand and context."""
        return self.effect.name, self.effect.estimand, self.effect.context

    @property
    def dead(self) -> bool:
        """Whether nothing of the step acts here, so that there is nothing to judge."""
        return self.row.same_network or not self.effect.liveness.verdict

    @property
    def decided(self) -> bool:
        """Whether its sign is known: the simultaneous interval excludes zero."""
        return not self.dead and excludes_zero(self.row.simultaneous)


@dataclass(frozen=True, kw_only=True)
class StudyEffects:
    """A study with its effects of single steps; interactions and the placebo are left out. `found` holds its distinct arms' top-1."""

    name: str
    plan: Plan
    summary: Summary
    found: Outcomes
    effects: tuple[StepEffect, ...]

    @property
    def estimands(self) -> tuple[Estimand, ...]:
        """The estimands of its effects."""
        return tuple(dict.fromkeys(e.effect.estimand for e in self.effects))


def study_effects(store: Store, name: str) -> StudyEffects:
    """The effects of study `name` as the store has it now; StoreError where there is no such study."""
    plan, summary = open_plan(store, name), load_summary(store, name)
    both = [StepEffect(effect=e, row=r) for e, r in zip(plan.effects, summary.effects, strict=True)]
    return StudyEffects(
        name=name,
        plan=plan,
        summary=summary,
        found=outcomes(plan, [row.replicates for row in summary.rows]),
        effects=tuple(
            e for e in both if e.effect.order == 1 and e.effect.estimand not in ("the reference again", "against the first level")
        ),
    )


def side(study: StudyEffects, chosen: Sequence[StepEffect]) -> Side:
    """`chosen` as one side of a comparison of ranks; they must have standard errors.

    Every effect brings its own standard error; how two of them, which may share arms, are correlated follows from their weights and the
    arms' seeds with one variance in all arms. A pair is resolved where Student's 95 % interval of its difference, with the fewer degrees
    of freedom of the two, excludes zero.
    """
    values = np.array([e.row.value for e in chosen], dtype=float)
    counts = np.maximum(np.sum(~np.isnan(study.found.values), axis=1), 1)
    rows = np.array([study.plan.row(e.effect.weights) for e in chosen]).reshape(len(chosen), len(counts)) / np.sqrt(counts)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    errors = np.array([e.row.se for e in chosen], dtype=float)
    covariance = rows @ rows.T * np.outer(errors, errors)
    df = np.array([e.row.df for e in chosen], dtype=float)
    quantile = np.array([[t_quantile(CONFIDENCE, min(a, b)) for b in df] for a in df]).reshape(covariance.shape)
    spread = np.sqrt(np.maximum(errors[:, None] ** 2 + errors[None] ** 2 - 2 * covariance, 0.0))
    resolved = np.abs(values[:, None] - values[None]) > quantile * spread
    return Side(values=values, covariance=covariance, resolved=resolved & ~np.eye(len(chosen), dtype=bool), df=float(min(df, default=1)))


def excludes_zero(interval: Interval | None) -> bool:
    """Whether there is an interval and it lies on one side of zero."""
    return interval is not None and (interval.low > 0 or interval.high < 0)


def stands_on(plan: Plan, effect: Effect) -> frozenset[tuple[frozenset[tuple[str, Value]], float]]:
    """What an effect compares: the choices of its arms with their weights."""
    return frozenset((frozenset(plan.arms[arm].choice.items()), round(weight, 9)) for arm, weight in effect.weights)


def with_and_without(plan: Plan, effect: Effect) -> tuple[Choice, Choice] | None:
    """The choices of the two arms that an effect compares, with the step and without it; None where it compares more."""
    arms = {weight: plan.arms[arm].choice for arm, weight in effect.weights}
    return (arms[1.0], arms[-1.0]) if sorted(weight for _, weight in effect.weights) == [-1.0, 1.0] else None
