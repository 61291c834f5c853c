"""What a study compares, what it holds fixed, and what it must take care of without asking about it (nuisance).

The words are those of the Deep Learning Tuning Playbook (Godbole et al., 2023): scientific, fixed and nuisance hyperparameters.
"""

from __future__ import annotations

from .plan import Plan
from .study import factor_levels, tuned_fields


def declare(plan: Plan) -> dict[str, str]:
    """The settings of a study under `scientific`, `nuisance` and `fixed`, in words."""
    study = plan.study
    names = list(
        dict.fromkeys(e.name for e in plan.effects if e.order == 1 and e.estimand not in ("the reference again", "against the first level"))
    )
    factors = [f"{k} ({', '.join(factor_levels(v))})" for k, v in study.factor.items()]
    network = [study.network] if study.network else []
    tuned = [f"{t} (tuned by arm on validation)" for t in tuned_fields(study.tune)]
    fixed = [
        f"recipe {study.recipe}",
        f"data {plan.data['name']}",
        f"split seed {study.split_seed}",
        f"input of {plan.data['input_size']} pixels",
    ]
    fixed += [f"{k} {v}" for k, v in study.set.items()]
    if "scale" not in study.factor and not study.network:
        fixed.append(f"scale {study.scale}")
    if study.fix:
        fixed.append(f"steps {study.fix}")
    return {
        "scientific": "; ".join([*names, *factors, *network]) or "nothing",
        "nuisance": "; ".join([*tuned, "seed (a block: the same in every arm)"]),
        "fixed": "; ".join(fixed),
    }
