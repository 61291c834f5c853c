"""What a plan warns of before the first training: schedules too short for what they contain, and steps that cannot act."""

from __future__ import annotations

from collections.abc import Mapping

from ..plan import Arm, Plan

FEW_STEPS = 300  # optimizer steps below which a comparison says more of warm-up than of networks
LONG_WARMUP = 0.3
LONG_EMA = 0.2


def warnings_of(plan: Plan, steps: Mapping[int, int]) -> tuple[str, ...]:
    """Warnings for `plan`, given the optimizer steps of every arm's training by the arm's index."""
    arms = [a for a in plan.arms if a.same_as is None]
    out = []
    if short := [a for a in arms if steps[a.index] < FEW_STEPS]:
        fewest = min(steps[a.index] for a in short)
        epochs = max(-(-FEW_STEPS * a.epochs // steps[a.index]) for a in short)
        out.append(f"{_whose(short, arms)} train for {fewest} optimizer steps, fewer than {FEW_STEPS}: --epochs {epochs} would do")
    if warm := [a for a in arms if a.recipe.warmup > LONG_WARMUP]:
        out.append(f"{_whose(warm, arms)} warm up for {100 * warm[0].recipe.warmup:.0f} % of training, more than {100 * LONG_WARMUP:.0f} %")
    if averaged := [a for a in arms if a.recipe.ema > LONG_EMA]:
        horizon = 100 * averaged[0].recipe.ema
        out.append(f"{_whose(averaged, arms)} average weights over {horizon:.0f} % of training, more than {100 * LONG_EMA:.0f} %")
    dead = {e.name: e.liveness for e in plan.effects if not e.liveness.verdict}
    dead |= {a.name: a.liveness for a in arms if not a.liveness.verdict}
    for name, liveness in dead.items():
        out.append(
            f"{name} is {liveness.state} at this input size" + (f" ({liveness.note})" if liveness.note else "") + ": no verdict on it"
        )
    return tuple(out)


def _whose(some: list[Arm], all_: list[Arm]) -> str:
    if len(some) == len(all_):
        return "all arms"
    return ", ".join(a.name for a in some) if len(some) <= 3 else f"{len(some)} arms"
