"""Studies that go by what they have found: the tuned settings, the looks already taken, and the seeds that are added until all is decided.

Nothing of it is kept but the trials: where a study stands is worked out from the store each time, so that a study that was stopped goes on
as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ..designs.tuning import Best, choose
from ..library import known_plan, results
from ..plan import Plan
from ..report.standing import standing
from ..store import Store
from ..study import Study

GROWTH = 1.5  # seeds at a look, against those at the look before


def best_settings(store: Store, grid: Plan) -> dict[int, Best] | None:
    """The best setting of every arm, once all trials of the `grid` are done."""
    return choose(grid, results(store, grid))


def with_looks(store: Store, plan: Plan) -> Plan:
    """The plan with the numbers of seeds at which this study was judged: those of the plan that the store has of it, where that was run
    to its end, and the present one. One seed is no look, since nothing is judged by it."""
    now, before = plan.study.seeds, known_plan(store, plan.study.folder_name)
    earlier = before.looks if before else ()
    if before and len(results(store, before)) < len({t for arm in before.arms for t in arm.trials}):
        earlier = earlier[:-1]
    return replace(plan, looks=(*(n for n in earlier if n < now), *((now,) if now > 1 else ())))


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
        known = results(store, plan)
        if k == len(looks) - 1 or any(t not in known for arm in plan.arms for t in arm.trials):
            break
        found = standing(plan, known)
        if found.settled:
            break
        for arm in plan.arms:
            if plan.root(arm) not in found.active and not arm.placebo:
                seeds_of.setdefault(arm.index, seeds)
    return plan
