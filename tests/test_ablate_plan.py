"""From an ablation to its arms and trials: fixed steps, factors, tuning, the placebo, and what is said before the start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vitnas.roadmap.liveness import Liveness
from vitnas.studies.declaration import declare
from vitnas.studies.designs.drafts import input_size
from vitnas.studies.designs.planner import PLACEBO, Unseen, plan_study
from vitnas.studies.designs.tuning import REPLICATES, Best, choose, grid_study
from vitnas.studies.effect import AT_BEST
from vitnas.studies.plan import Plan
from vitnas.studies.recipe import PRESETS, TECHNIQUES, with_techniques
from vitnas.studies.running.cautions import warnings_of
from vitnas.studies.running.seed_noise import noise_for
from vitnas.studies.running.stages import schedule, with_looks
from vitnas.studies.store import Store, write_json
from vitnas.studies.study import Study, StudyError
from vitnas.studies.trial import PLACEBO_SEEDS, TUNING_SEEDS, TrialResult

from .synthetic import Digits, write_trial

FREE = "stage-ratio,patchify-stem,gelu"


def plan_of(**options: object) -> Plan:
    """The plan of an ablation over a few free steps, on the digits."""
    study = Study(kind="ablate", **{"steps": FREE, "placebo": False, "seeds": 2, **options})  # type: ignore[arg-type]
    return plan_study(study, Digits(), precision="float32")


@pytest.mark.parametrize("preset", PRESETS, ids=lambda p: p.name)
def test_all_techniques_together_are_the_modern_recipe(preset: object) -> None:
    """Every field in which the ends of a preset differ belongs to a technique, so that taking one out changes nothing else."""
    assert with_techniques(preset.base, preset.modern, TECHNIQUES) == preset.modern  # type: ignore[attr-defined]


def test_a_fixed_step_is_in_every_arm_and_is_not_estimated() -> None:
    """--fix holds a step on, at both corners."""
    plan = plan_of(fix="recipe,gelu")
    assert all("gelu" in a.choice and "recipe" in a.choice for a in plan.arms)
    assert sorted(e.name for e in plan.effects) == ["patchify-stem", "stage-ratio"]


def test_a_technique_of_a_fixed_recipe_can_be_taken_out_alone() -> None:
    """With the recipe fixed, leaving mixup out changes mixup and nothing else."""
    plan = plan_of(steps="mixup", fix="recipe")
    (effect,) = plan.effects
    with_, without = (plan.arms[i] for i, _ in sorted(effect.weights, key=lambda w: -w[1]))
    changed = {k for k, v in with_.recipe.to_dict().items() if without.recipe.to_dict()[k] != v}
    assert changed == {"mixup"} and without.recipe.mixup == 0


def test_what_is_fixed_must_be_legal() -> None:
    """A fixed step that lacks what it requires is refused with the step to fix too."""
    with pytest.raises(StudyError, match="fix: kernel-size requires depthwise: fix it too"):
        plan_of(fix="kernel-size")


def test_the_placebo_is_the_reference_with_seeds_of_its_own() -> None:
    """Same network and recipe, other replicate indices, an effect of its own; its trials are shared with no arm."""
    plan = plan_of(placebo=True)
    placebo = plan.arms[-1]
    assert placebo.placebo and placebo.name == PLACEBO
    assert (placebo.fingerprint, placebo.recipe) == (plan.arms[0].fingerprint, plan.arms[0].recipe)
    assert placebo.seeds == (PLACEBO_SEEDS, PLACEBO_SEEDS + 1) and placebo.same_as is None
    assert plan.effects[-1].estimand == "the reference again"
    assert plan.effects[-1].weights == ((placebo.index, 1.0), (0, -1.0))


def test_factors_repeat_the_design_and_compare_its_effects() -> None:
    """Every level has all arms; effects stand by level, with their differences from the first level as interactions."""
    plan = plan_of(steps="gelu,stage-ratio", factor={"data-fraction": [0.5, 1], "scale": "micro,small"})
    assert len(plan.arms) == 3 * 4
    assert {(a.context, a.fraction) for a in plan.arms} >= {("data-fraction=0.5, scale=micro", 0.5), ("data-fraction=1, scale=small", 1.0)}
    small = next(a for a in plan.arms if a.context == "data-fraction=1, scale=small")
    assert small.params > plan.arms[0].params
    by_level = [e for e in plan.effects if e.name == "gelu" and e.order == 1]
    assert sorted(e.context for e in by_level) == sorted({a.context for a in plan.arms})
    assert any(e.order == 2 and "scale=small" in e.name for e in plan.effects)
    assert all(abs(sum(w for _, w in e.weights)) < 1e-9 for e in plan.effects)
    assert len({t.data.fraction for t in plan.trials}) == 2


def test_levels_of_a_step_as_a_factor() -> None:
    """--factor mixer=... compares mixers alone, where no step is varied."""
    plan = plan_of(steps="none", fix="recipe,depthwise,inverted-bottleneck,move-up-depthwise", factor={"mixer": "conv,large-kernel"})
    assert [a.context for a in plan.arms] == ["mixer=conv", "mixer=large-kernel"]
    assert [e.estimand for e in plan.effects] == ["against the first level"]
    with pytest.raises(ValueError, match="move-up-depthwise"):
        plan_of(steps="none", factor={"mixer": "conv,large-kernel"})


def test_scales_of_one_study_share_their_input_size() -> None:
    """Scales with inputs of different sizes need one to be named."""
    study = Study(kind="ablate", factor={"scale": "micro,paper"})
    with pytest.raises(StudyError, match="inputs of 32 and 224 pixels: choose one with --input-size"):
        input_size(study)
    assert input_size(replace(study, input_size=64)) == 64


def results(plan: Plan, store: Store, tops: dict[str, float], default: float = 90.0) -> dict[str, TrialResult]:
    """Results of all trials; arms named in `tops` have that validation top-1."""
    by_id = {t.id: t for t in plan.trials}
    found = {}
    for arm in plan.arms:
        for trial in arm.trials:
            found[trial] = write_trial(store, by_id[trial], top1=tops.get(arm.name, default), score_on="validation")
    return found


def test_tuning_takes_each_arms_best_and_flags_the_edge(tmp_path: Path) -> None:
    """The grid is a study of its own on validation, with seeds of its own; its best settings make further arms and effects."""
    study = Study(kind="ablate", steps="gelu", tune="lr", seeds=2, placebo=False)
    grid = plan_study(grid_study(study), Digits(), precision="float32")
    assert len(grid.arms) == 2 * 3 and grid.study.score_on == "validation"
    assert all(a.seeds == tuple(range(TUNING_SEEDS, TUNING_SEEDS + REPLICATES)) for a in grid.arms)
    store = Store(tmp_path)
    store.prepare()
    assert choose(grid, {}) is None
    best = choose(grid, results(grid, store, {grid.arms[1].name: 96.0, grid.arms[3].name: 96.0}))
    assert best == {0: Best(setting={"lr": 1 / 3}, edge=("lr",)), 1: Best(setting={"lr": 1.0}, edge=())}
    plan = plan_study(study, Digits(), precision="float32", best=best)
    assert [a.context for a in plan.arms] == ["", "", AT_BEST], "an arm that is best at the shared setting does not stand twice"
    assert plan.arms[2].recipe.lr == pytest.approx(plan.arms[0].recipe.lr / 3)
    shared, tuned = plan.effects
    assert tuned.context == AT_BEST and f"edge of the grid: {plan.arms[0].name} (lr /3)" in tuned.note and not shared.note
    assert {arm for arm, _ in tuned.weights} == {2, 1}


def test_more_seeds_are_another_look(tmp_path: Path) -> None:
    """Three seeds, then five: two looks, where the first was run to its end; one seed is none."""
    store = Store(tmp_path)
    store.prepare()

    def keep(plan: Plan) -> Plan:
        write_json(store.studies / plan.study.folder_name / "plan.json", plan.to_dict())
        return plan

    assert with_looks(store, plan_of(seeds=1)).looks == ()
    three = keep(with_looks(store, plan_of(seeds=3)))
    assert three.looks == (3,)
    assert with_looks(store, plan_of(seeds=5)).looks == (5,), "nobody has seen three seeds yet"
    results(three, store, {})
    five = keep(with_looks(store, plan_of(seeds=5)))
    assert five.looks == (3, 5)
    assert with_looks(store, plan_of(seeds=5)).looks == (3, 5), "the same command again is no further look"


def test_until_decided_ends_at_its_largest_number() -> None:
    """Half as many seeds again at every look, up to the last."""
    assert schedule(Study(kind="ablate", until_decided=True, seeds=3, max_seeds=12)) == (3, 4, 6, 9, 12)
    assert schedule(Study(kind="ablate", until_decided=True, seeds=5, max_seeds=5)) == (5,)


def test_warnings_name_what_to_mend() -> None:
    """Too few steps, long warm-up, a long average, steps that cannot act."""
    plan = plan_of(set={"warmup": 0.5, "ema": 0.25}, steps="gelu")
    text = "\n".join(warnings_of(plan, dict.fromkeys(range(9), 120)))
    assert "all arms train for 120 optimizer steps, fewer than 300: --epochs 30 would do" in text
    assert "warm up for 50 % of training" in text and "average weights over 25 %" in text
    assert warnings_of(plan_of(steps="gelu"), dict.fromkeys(range(9), 300)) == ()
    plan = plan_of(steps="kernel-size=11", fix="depthwise")
    gone = replace(plan.effects[0], liveness=Liveness(state="dead", taps=8, note="0 of the 8 taps it adds touch pixels"))
    (dead,) = warnings_of(replace(plan, effects=(gone,)), dict.fromkeys(range(9), 300))
    assert dead == "kernel-size=11 is dead at this input size (0 of the 8 taps it adds touch pixels): no verdict on it"


def test_seed_noise_is_that_of_the_store(tmp_path: Path) -> None:
    """Assumed, then from alike trials, then from the study's own; never from other data."""
    store = Store(tmp_path)
    store.prepare()
    plan = plan_of(seeds=3)
    assert "assumed" in noise_for(store, plan).source
    other = plan_study(Study(kind="ablate", steps="layer-norm", seeds=3, placebo=False), Digits(), precision="float32")
    for trial in other.trials:
        write_trial(store, trial, top1=90.0)
    alike = noise_for(store, plan)
    assert alike.source.startswith("other trials") and alike.df == 4
    assert "assumed" in noise_for(store, plan_study(plan.study, Unseen(fingerprint="f" * 16), precision="float32")).source
    for trial in plan.trials:
        write_trial(store, trial, top1=90.0)
    assert noise_for(store, plan).source.startswith("this study")


def test_settings_are_scientific_nuisance_or_fixed() -> None:
    """What is compared, what is taken care of, what is held: each setting stands in one of them."""
    told = declare(plan_of(steps="gelu", fix="recipe", tune="lr", factor={"data-fraction": [0.5, 1]}))
    assert "gelu" in told["scientific"] and "data-fraction (0.5, 1)" in told["scientific"]
    assert "lr (tuned" in told["nuisance"] and "seed" in told["nuisance"]
    assert "recipe" in told["fixed"]


def test_many_trials_are_asked_for() -> None:
    """A factorial design of more than 64 trials wants --yes; the message names the cheaper design."""
    with pytest.raises(StudyError, match="8 networks, 72 trials: confirm with --yes, or use --design fractional"):
        plan_of(design="factorial", seeds=9)
    assert len(plan_of(design="factorial", seeds=9, confirmed=True).trials) == 72


def test_a_technique_within_a_fixed_recipe_is_live() -> None:
    """Leaving mixup out of a recipe that is on is another training, not the same network; nothing claims that it is off in every arm."""
    plan = plan_of(steps="mixup,gelu", fix="recipe")
    assert {e.name: e.liveness.state for e in plan.effects} == {"mixup=modern": "live", "gelu": "live"}
    assert "no mixup" not in " ".join(plan.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": {"data-fraction": "0.1,0.10"}}, "needs two different levels"),
        ({"factor": {1: [1, 2]}}, "1 is no factor"),
        ({"factor": {"data-fraction": "0.1,1"}, "data_fraction": 0.3}, "leave --data-fraction out"),
        ({"factor": {"width": "resnet,wide", "Width": "resnet,wide"}, "steps": "gelu"}, "name it once"),
        ({"factor": {"mixup": "off,modern"}}, "mixup has no levels"),
        ({"tune": "lr,lr"}, "twice"),
        ({"tune": "momentum"}, "lr and wd can"),
        ({"fix": "none"}, "names no step"),
        ({"interactions": "gelu"}, "write pairs such as"),
        ({"resolution": 6}, "must be 3, 4 or 5"),
        ({"seeds": 5, "until_decided": True, "max_seeds": 3}, "ends at --max-seeds"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    """One line that names the option and the next move."""
    with pytest.raises(ValueError, match=message) as refused:
        plan_of(**options)
    assert "\n" not in str(refused.value)


def test_a_plan_whose_parts_do_not_belong_together_is_not_read() -> None:
    """An effect of an arm that is not there, a weight that is no number, looks that are no numbers."""
    good = plan_of().to_dict()
    assert Plan.from_dict(good).to_dict() == good
    for key, value in (("arms", []), ("looks", ["a"]), ("effects", [good["effects"][0] | {"weights": [[99, 1.0], [0, -1.0]]}])):
        with pytest.raises(ValueError, match="do not belong together"):
            Plan.from_dict(good | {key: value})
