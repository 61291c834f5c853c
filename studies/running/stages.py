"""Studies that go by what they have found: the tuned settings, the looks already taken, and the seeds that are added until all is decided.

Nothing of it is kept but the trials: where a study stands is worked out from the store each time, so that a study that was stopped goes on
as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..designs.tuning import Best, choose
from ..library import known_plan
from ..plan import Plan
from ..report.replicates import root
from ..report.standing import standing
from ..store import Store
from ..study import Study
from ..trial import TrialResult

GROWTH = 1.5  # seeds at a look, against those at the look before


def results_of(store: Store, plan: Plan) -> dict[str, TrialResult]:
    """What the store knows of the plan's trials."""
    return {t: r for arm in plan.arms for t in arm.trials if (r := store.result(t))}


def best_settings(store: Store, grid: Plan) -> dict[int, Best] | None:
    """The best setting of every arm, once all trials of the `grid` are done."""
    return choose(grid, results_of(store, grid))


def with_looks(store: Store, plan: Plan) -> Plan:
    """The plan with the numbers of seeds at which this study was judged: those of the plan that the store has of it, where that was run
    to its end, and the present one. One seed is no look, since nothing is judged by it."""
    before = known_plan(store, plan.study.folder_name)
    if before is None or before.study.seeds >= plan.study.seeds or before.study.until_decided:
        return replace(plan, looks=before.looks if before and before.study.seeds == plan.study.seeds else _judged(plan.study.seeds))
    ended = all(t in results_of(store, before) for arm in before.arms for t in arm.trials)
    return replace(plan, looks=(*(before.looks if ended else before.looks[:-1]), *_judged(plan.study.seeds)))


def _judged(seeds: int) -> tuple[int, ...]:
    return (seeds,) if seeds > 1 else ()


def schedule(study: Study) -> tuple[int, ...]:
    """Seeds at every look of a study that runs until all is decided: from `seeds`, half as many again each time, to `max_seeds`."""
    looks = [study.seeds]
    while looks[-1] < study.max_seeds:
        looks.append(min(study.max_seeds, max(looks[-1] + 1, round(looks[-1] * GROWTH))))
    return tuple(looks)


def furthest(store: Store, study: Study, draw_up: Callable[..., Plan]) -> Plan:
    """The plan of the first look that is not all trained yet, or of the last one.

    Arms of which every effect is settled keep the seeds that they have; the reference and the placebo go on with the others.
    """
    looks = schedule(study)
    seeds_of: dict[int, int] = {}
    for k, seeds in enumerate(looks):
        plan = replace(draw_up(replace(study, seeds=seeds), seeds_of=seeds_of), study=study, looks=looks[: k + 1])
        results = results_of(store, plan)
        if k == len(looks) - 1 or any(t not in results for arm in plan.arms for t in arm.trials):
            break
        found = standing(plan, results)
        if found.settled:
            break
        for arm in plan.arms:
            if root(plan, arm) not in found.active and not arm.placebo:
                seeds_of.setdefault(arm.index, seeds)
    return plan
