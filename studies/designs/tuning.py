"""Tuning: the same small grid of recipe settings for every arm, chosen on validation with replicates of their own.

The grid is a study of its own (`kind: tune`), whose arms are the settings of every arm of the ablation. What is compared is scientific,
what is tuned is nuisance (after Godbole et al., Deep Learning Tuning Playbook, 2023): an effect is reported at the setting all
arms share and at each arm's best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from statistics import fmean

from ..plan import Arm, Plan
from ..recipe import Recipe
from ..study import TUNABLE, Study, override, tuned_fields
from ..trial import TrialResult

FACTORS = (1.0, 1 / 3, 3.0)  # of the shared value, which comes first
REPLICATES = 2  # trainings a setting, from the range of seeds that is kept for tuning

Setting = Mapping[str, float]  # factor by the term of --tune, as in {"lr": 3.0}


@dataclass(frozen=True, kw_only=True)
class Best:
    """The setting that did best on validation for one arm; `edge` names the terms whose best factor ends the grid."""

    setting: Setting
    edge: tuple[str, ...]


def grid(study: Study) -> tuple[Setting, ...]:
    """Every combination of factors of the tuned terms; the shared setting (all 1) first."""
    terms = tuned_fields(study.tune)
    return tuple(dict(zip(terms, factors, strict=True)) for factors in product(FACTORS, repeat=len(terms)))


def grid_study(study: Study) -> Study:
    """The study that tunes the arms of `study`: the same design, its grid, scored on validation alone."""
    return replace(
        study,
        kind="tune",
        name=f"{study.folder_name}-tuning",
        seeds=REPLICATES,
        score_on="validation",
        placebo=False,
        until_decided=False,
        eval="none",
        latency=False,
    )


def at(recipe: Recipe, setting: Setting) -> Recipe:
    """`recipe` with the tuned fields multiplied."""
    return override(recipe, {TUNABLE[k]: getattr(recipe, TUNABLE[k]) * f for k, f in setting.items() if f != 1})


def spelled(setting: Setting) -> str:
    """A setting in words: `lr x3`, `wd /3`; `shared` for the one all arms share."""
    parts = [f"{k} {f'x{f:g}' if f > 1 else f'/{1 / f:g}'}" for k, f in setting.items() if f != 1]
    return ", ".join(parts) or "shared"


def choose(plan: Plan, results: Mapping[str, TrialResult]) -> dict[int, Best] | None:
    """The best setting of every arm that `plan` (of kind tune) tunes, by that arm's index; None until all its trials are done.

    The highest mean validation top-1, a diverged training at chance level; ties go to the setting nearest to the shared one.
    """
    if any(t not in results for arm in plan.arms for t in arm.trials):
        return None
    chance = 100 / plan.data["classes"]
    by_arm: dict[int, list[Arm]] = {}
    for arm in plan.arms:
        assert arm.tunes is not None
        by_arm.setdefault(arm.tunes, []).append(arm)
    return {index: _best(arms, results, chance) for index, arms in by_arm.items()}


def _best(arms: Sequence[Arm], results: Mapping[str, TrialResult], chance: float) -> Best:
    def score(arm: Arm) -> tuple[float, int]:
        found = [results[t] for t in arm.trials]
        top1 = fmean(chance if r.status == "diverged" else r.scores["validation"].top1 for r in found)
        return top1, -sum(f != 1 for f in arm.setting.values())

    best = max(arms, key=score)
    return Best(setting=best.setting, edge=tuple(k for k, f in best.setting.items() if f in (min(FACTORS), max(FACTORS))))
