"""Verify: verdicts, Kendall's tau with its interval and ceiling, the paper's own noise, and the record of the first look."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from vitnas.roadmap.tracks import track
from vitnas.studies.designs.planner import plan_study
from vitnas.studies.plan import Plan
from vitnas.studies.report.agreement import Side, agreement, kendall
from vitnas.studies.report.paper_side import PaperEffect, departures, other_corner, paper_effect, paper_side
from vitnas.studies.report.step_effects import side, study_effects
from vitnas.studies.report.verify import Compared, Verification, choose, match, verification_lines, verification_table, verify
from vitnas.studies.statistics.analysis import analyse
from vitnas.studies.statistics.means import Interval
from vitnas.studies.store import Store, StoreError, read_json, write_json
from vitnas.studies.study import Study, StudyError
from vitnas.studies.trial import Score

from .synthetic import synthetic_study, write_trial

CONVNEXT = track("convnext-t")


@dataclass(frozen=True)
class ImageNet:
    """What a plan asks of prepared data."""

    name: str = "imagenet-1k"
    fingerprint: str = "9c3e11d07a52b846"
    classes: int = 1000
    mirror: bool = True
    duplicates: int = 0


def planned(steps: str = "recipe,stage-ratio,patchify-stem", *, seeds: int = 3, epochs: int | None = None, **study: Any) -> Plan:
    """A study at the paper's setting, but for what is given."""
    own: dict[str, Any] = {"data": "ILSVRC/imagenet-1k", "scale": "paper", "recipe": "imagenet-paper"}
    return plan_study(Study(**own | study, steps=steps, seeds=seeds, epochs=epochs), ImageNet(), precision="bfloat16")


def run(root: Path, plan: Plan, top1: Mapping[str, float], *, sd: float = 0.05) -> Store:
    """A store where every arm of `plan` has the given mean top-1 exactly, with seeds `sd` apart."""
    store = Store(root)
    store.prepare()
    write_json(store.studies / plan.study.folder_name / "plan.json", plan.to_dict())
    by_id = {t.id: t for t in plan.trials}
    for k, arm in enumerate(plan.arms):
        offsets = np.random.default_rng(k).permutation(np.linspace(-1, 1, len(arm.seeds)) if len(arm.seeds) > 1 else np.zeros(1))
        for offset, trial in zip(offsets, arm.trials, strict=True):
            result = write_trial(store, by_id[trial], top1=50.0)
            score = Score(images=50_000, top1=top1[arm.name] + sd * float(offset), loss=1.0)
            result = replace(result, scores={"validation": score, "test": score})
            write_json(store.trial_folder(trial) / "result.json", result.to_dict())
    return store


def paper_top1(plan: Plan) -> dict[str, float]:
    return {arm.name: CONVNEXT.paper[arm.name].top1 or 0.0 for arm in plan.arms}


def verified(store: Store, plan: Plan) -> Verification:
    return verify(store, plan.study.folder_name, paper="convnext")


def by_name(found: Verification) -> dict[str, Compared]:
    return {s.name: s for s in found.steps}


def known(values: list[float], sd: float) -> Side:
    """Independent effects of known noise, all pairs resolved."""
    k = len(values)
    return Side(values=np.array(values), covariance=np.eye(k) * sd**2, resolved=np.ones((k, k), dtype=bool))


def test_tau_over_all_pairs_is_scipys() -> None:
    """Without ties and over all pairs, tau is scipy's."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(size=(2, 9))
        pairs = np.array(list(combinations(range(9), 2)))
        assert float(kendall(a, b, pairs)) == pytest.approx(stats.kendalltau(a, b).statistic)


def test_tau_counts_resolved_pairs_only() -> None:
    """Of three pairs one is resolved on both sides; the reversed one that ours does not resolve does not count."""
    ours, paper = known([1.0, 2.0, 1.9], 0.1), known([1.0, 2.0, 2.5], 0.1)
    ours.resolved[1, 2] = ours.resolved[2, 1] = False
    paper.resolved[0, 2] = paper.resolved[2, 0] = False
    found = agreement(ours, paper)
    assert (found.tau, found.pairs, found.of, found.unresolved_here, found.unresolved_paper) == (1.0, 1, 3, 1, 1)
    assert agreement(known([1.0, 2.0, 1.9], 0.1), known([1.0, 2.0, 2.5], 0.1)).discordant == ((1, 2),)


def test_no_resolved_pair_gives_no_tau() -> None:
    """Where nothing is resolved there is no tau, not a tau of 0."""
    ours = known([1.0, 2.0], 1.0)
    ours.resolved[:] = False
    found = agreement(ours, known([1.0, 2.0], 1.0))
    assert (found.tau, found.interval, found.ceiling, found.of) == (None, None, None, 1)


def test_ceiling_of_one_pair_is_known_in_closed_form() -> None:
    """Two repetitions order one pair alike with probability q = p^2 + (1 - p)^2, p = Phi(gap / sd of the difference): tau is 2 q - 1."""
    for gap in (0.2, 0.5, 1.0):
        paper = known([0.0, gap], 0.4)
        p = stats.norm.cdf(gap / (0.4 * math.sqrt(2)))
        found = agreement(known([0.0, 1.0], 0.1), paper).ceiling
        assert found == pytest.approx(2 * (p**2 + (1 - p) ** 2) - 1, abs=0.02)


def test_interval_and_ceiling_follow_the_noise() -> None:
    """Without noise both are exactly 1; with much noise the interval is wide and two repetitions hardly agree."""
    values = [0.0, 1.0, 2.0, 3.0]
    sharp = agreement(known(values, 1e-6), known(values, 1e-6))
    assert sharp.interval and (sharp.interval.low, sharp.interval.high, sharp.ceiling) == (1.0, 1.0, 1.0)
    dull = agreement(known(values, 20.0), known(values, 20.0))
    assert dull.interval and dull.interval.low < -0.3 and dull.interval.high > 0.3
    assert dull.ceiling == pytest.approx(0.0, abs=0.05)


def test_interval_covers_the_true_tau() -> None:
    """Over random true effects and noisy estimates of them, 95 % intervals hold the true tau over the resolved pairs as often."""
    rng = np.random.default_rng(5)
    inside = count = 0
    for _ in range(150):
        mine = rng.normal(0, 1.2, 8)
        its = 0.7 * mine + rng.normal(0, 0.8, 8)
        sides = []
        for true in (mine, its):
            estimates = rng.normal(true, 0.5)
            apart = np.abs(estimates[:, None] - estimates[None]) > 1.96 * 0.5 * math.sqrt(2)
            sides.append(replace(known(list(estimates), 0.5), resolved=apart))
        found = agreement(*sides)
        if found.tau is not None and found.interval:
            i, j = np.triu_indices(8, 1)
            pairs = np.stack([i, j], axis=1)[sides[0].resolved[i, j] & sides[1].resolved[i, j]]
            tau = float(kendall(mine, its, pairs))
            inside += found.interval.low - 1e-9 <= tau <= found.interval.high + 1e-9
            count += 1
    assert count > 120
    assert inside >= 0.93 * count


def test_covariance_of_neighbours(tmp_path: Path) -> None:
    """Neighbouring effects share an arm with opposite signs: their correlation is -1/2; effects without a common arm have none."""
    store, plan = synthetic_study(tmp_path, steps="stage-ratio,gelu,separate-downsampling")
    study = study_effects(store, plan.study.folder_name)
    covariance = side(study, study.effects).covariance
    assert covariance is not None
    errors = [e.row.se or 0.0 for e in study.effects]
    assert [covariance[i, i] for i in range(3)] == pytest.approx([se**2 for se in errors])
    assert covariance[0, 1] == pytest.approx(-errors[0] * errors[1] / 2)
    assert covariance[0, 2] == pytest.approx(0.0, abs=1e-12)


def test_pairs_are_resolved_by_the_noise_of_their_difference(tmp_path: Path) -> None:
    """Two neighbouring effects share a rung, so their difference has three times the variance of one effect, as `analyse` has it too."""
    store, plan = synthetic_study(tmp_path, steps="recipe,stage-ratio,gelu")
    study = study_effects(store, plan.study.folder_name)
    mine = side(study, study.effects)
    assert mine.covariance is not None
    rows = np.array([[1.0, -2.0, 1.0, 0.0], [0.0, 1.0, -2.0, 1.0]])
    for (i, j), estimate in zip([(0, 1), (1, 2)], analyse(study.found.values, rows).estimates, strict=True):
        variance = mine.covariance[i, i] + mine.covariance[j, j] - 2 * mine.covariance[i, j]
        assert estimate.se and estimate.interval
        assert math.sqrt(variance) == pytest.approx(estimate.se, rel=0.15)
        assert mine.resolved[i, j] == (estimate.interval.low > 0 or estimate.interval.high < 0)


def test_papers_error_is_that_of_two_means_of_three() -> None:
    """width: 80.50 with sd 0.02 after depthwise 78.28 with sd 0.08; scipy's Welch test gives its interval."""
    found = paper_effect(CONVNEXT, "width")
    assert found and found.se and found.interval
    assert found.delta == pytest.approx(2.22)
    assert found.se == pytest.approx(math.sqrt(0.02**2 + 0.08**2) / math.sqrt(3))
    welch = stats.ttest_ind_from_stats(80.50, 0.02, 3, 78.28, 0.08, 3, equal_var=False)
    assert found.delta / found.se == pytest.approx(welch.statistic)
    assert 2 * stats.t.sf(found.delta / found.se, found.df) == pytest.approx(welch.pvalue)


def test_papers_side_without_noise() -> None:
    """The row before has no sd (recipe), the track has one seed (convnext-b), or no value (expansion-ratio): no interval, or nothing."""
    recipe = paper_effect(CONVNEXT, "recipe")
    assert recipe and recipe.se is None and recipe.interval is None and recipe.delta == pytest.approx(2.69)
    gelu = paper_effect(track("convnext-b"), "gelu")
    assert gelu and gelu.se is None and gelu.delta == pytest.approx(-0.11)
    assert paper_effect(track("repvit-m0.9"), "expansion-ratio") is None
    assert paper_effect(track("repvit-m0.9"), "width") is None
    assert paper_effect(CONVNEXT, "pre-norm=extra") is None


def test_papers_pairs_share_rows() -> None:
    """Neighbours have the covariance of the row between them, and the paper does not tell the small steps gelu and layer-norm apart."""
    effects = [e for key in ("width", "inverted-bottleneck", "gelu", "layer-norm") if (e := paper_effect(CONVNEXT, key))]
    paper = paper_side(CONVNEXT, effects)
    assert paper.covariance is not None
    assert paper.covariance[0, 1] == pytest.approx(-(0.02**2) / 3)
    assert paper.covariance[0, 2] == 0.0
    assert paper.resolved[0, 2] and paper.resolved[0, 1] and not paper.resolved[2, 3]


def test_matches_at_the_papers_setting(tmp_path: Path) -> None:
    """The paper's own values with little noise match; the recipe cannot, for the paper gives no noise to its first row."""
    plan = planned()
    assert departures(CONVNEXT, plan) == ()
    found = verified(run(tmp_path, plan, paper_top1(plan), sd=0.02), plan)
    assert found.departures == ()
    steps = by_name(found)
    assert steps["stage-ratio"].verdict == "matches"
    assert steps["stage-ratio"].difference and steps["stage-ratio"].difference.low < 0 < steps["stage-ratio"].difference.high
    assert (steps["recipe"].verdict, steps["recipe"].note) == ("needs seeds", "the paper gives no noise for it")


def test_differs_at_the_papers_setting(tmp_path: Path) -> None:
    """A step that brings 2 points where the paper has 0.54 differs, whatever its sign."""
    plan = planned()
    top1 = paper_top1(plan)
    top1["stage-ratio"] += 1.5
    top1["patchify-stem"] += 1.5
    step = by_name(verified(run(tmp_path, plan, top1), plan))["stage-ratio"]
    assert step.verdict == "differs"
    assert step.ours and step.ours > 0 and step.paper and step.paper > 0


@pytest.mark.parametrize(
    ("value", "se", "word"),
    [
        (0.5, 0.02, "matches"),
        (0.7, 0.02, "matches"),
        (0.9, 0.02, "differs"),
        (0.1, 0.02, "differs"),
        (0.75, 0.12, "needs seeds"),
        (0.3, 0.12, "needs seeds"),
    ],
)
def test_match_by_bonferroni_and_welch(tmp_path: Path, value: float, se: float, word: str) -> None:
    """Against a paper's 0.5 with error 0.02 and a margin of 0.3: the word goes by Welch's interval at the Bonferroni level of 13 steps."""
    plan = planned()
    study = study_effects(run(tmp_path, plan, paper_top1(plan)), plan.study.folder_name)
    ours = replace(study.effects[1].row, value=value, se=se, df=28.0)
    paper = PaperEffect(key="stage-ratio", delta=0.5, se=0.02, df=4.0, interval=Interval(low=0.44, high=0.56))
    found, interval, _ = match(ours, paper, family=13, margin=0.3)
    df = (se**2 + 0.02**2) ** 2 / (se**4 / 28 + 0.02**4 / 4)
    half = float(stats.t.ppf(1 - 0.025 / 13, df)) * math.hypot(se, 0.02)
    assert interval and (interval.low, interval.high) == pytest.approx((value - 0.5 - half, value - 0.5 + half))
    assert found == word


@pytest.mark.parametrize(("seeds", "sd", "note"), [(1, 0.0, "one seed here"), (3, 1.5, "")])
def test_needs_seeds_at_the_papers_setting(tmp_path: Path, seeds: int, sd: float, note: str) -> None:
    """One seed, or too much scatter for the margin, neither matches nor differs."""
    plan = planned(seeds=seeds)
    step = by_name(verified(run(tmp_path, plan, paper_top1(plan), sd=sd), plan))["stage-ratio"]
    assert (step.verdict, step.note) == ("needs seeds", note)


def test_other_ground_cannot_match(tmp_path: Path) -> None:
    """At the paper's setting, a step without those that the paper has before it is another effect: its sign is compared, nothing more."""
    plan = planned("recipe,width")
    top1 = {"ResNet-50": 76.13, "recipe": 78.82, "width": 81.04}
    found = verified(run(tmp_path, plan, top1, sd=0.02), plan)
    assert found.departures == ()
    assert by_name(found)["width"].verdict == "sign agrees"
    assert by_name(found)["width"].difference is None


@pytest.mark.parametrize(
    ("study", "word"),
    [
        ({"recipe": "paper"}, "recipe paper"),
        ({"set": {"lr": 0.01}}, "recipe fields changed: lr=0.01"),
        ({"epochs": 300}, "300 epochs instead of 90 (ResNet-50)"),
        ({"scale": "small", "input_size": 224}, "scale small"),
        ({"input_size": 256}, "256 pixels"),
        ({"data_fraction": 0.1}, "10 % of the training images"),
        ({"score_on": "validation"}, "scored on validation"),
    ],
)
def test_every_departure_from_the_paper_is_named(study: dict[str, Any], word: str) -> None:
    """Data, scale, input, recipe and epochs must all be the paper's; each departure is named."""
    assert any(d.startswith(word) for d in departures(CONVNEXT, planned("recipe", **study)))


@pytest.mark.parametrize(("name", "classes", "same"), [("imagenet", 1000, True), ("imagenet-1k", 100, False), ("imagenette", 1000, False)])
def test_imagenet_by_name_and_classes(name: str, classes: int, same: bool) -> None:
    """ImageNet-1K is known by its name and its 1000 classes; a subset of it is other data."""
    plan = planned("recipe")
    other = replace(plan, data={**plan.data, "name": name, "classes": classes})
    assert (departures(CONVNEXT, other) == ()) is same


def test_signs_elsewhere(tmp_path: Path) -> None:
    """Away from the paper's setting only signs are compared: agrees, disagrees, and undecided where either side's interval holds zero."""
    plan = planned(recipe="short", epochs=2)
    top1 = {"ResNet-50": 60.0, "recipe": 59.0, "stage-ratio": 61.0, "patchify-stem": 64.0}
    steps = by_name(verified(run(tmp_path, plan, top1), plan))
    assert steps["recipe"].verdict == "sign disagrees"
    assert steps["stage-ratio"].verdict == "sign agrees"
    patchify = steps["patchify-stem"]
    assert (patchify.verdict, patchify.note) == ("undecided here", "the paper's own interval holds zero")


def test_undecided_where_ours_holds_zero(tmp_path: Path) -> None:
    """An effect of the paper's sign whose simultaneous interval holds zero is undecided, and nothing matches away from the paper."""
    plan = planned(recipe="short", epochs=2)
    found = verified(run(tmp_path, plan, paper_top1(plan), sd=2.0), plan)
    assert {s.verdict for s in found.steps} <= {"undecided here", "sign agrees"}
    assert by_name(found)["stage-ratio"].verdict == "undecided here"
    assert "matches" not in "\n".join(verification_lines(found))


def test_ranks_and_reversed_ranks(tmp_path: Path) -> None:
    """A study with the paper's values has tau 1; with all deltas of the other sign every resolved pair is discordant and tau is -1."""
    plan = planned("recipe..width", recipe="short", epochs=2)
    top1 = paper_top1(plan)
    straight = verified(run(tmp_path / "straight", plan, top1), plan)
    turned = verified(run(tmp_path / "turned", plan, {k: 160 - v for k, v in top1.items()}), plan)
    assert straight.ranks.tau == 1.0 and straight.ranks.discordant == ()
    assert turned.ranks.tau == -1.0 and len(turned.ranks.discordant) == turned.ranks.pairs > 0
    assert straight.ranks.ceiling is not None and 0.9 < straight.ranks.ceiling <= 1.0
    assert "recipe" in straight.ranked  # it is compared, but in no pair: the paper gives it no noise
    assert all("recipe" not in (turned.ranked[i], turned.ranked[j]) for i, j in turned.ranks.discordant)


def test_alternative_kernels_only_where_present(tmp_path: Path) -> None:
    """Kernels 5 and 9 stand beside the paper's own where the study has them, each against the rung before all kernels."""
    store, plan = synthetic_study(tmp_path, steps="all,kernel-size=5,kernel-size=9")
    steps = by_name(verified(store, plan))
    assert steps["kernel-size=5"].paper == pytest.approx(80.35 - 79.92)
    assert steps["kernel-size=9"].paper == pytest.approx(80.57 - 79.92)
    assert "kernel-size=11" not in steps


def test_steps_on_other_ground_are_marked(tmp_path: Path) -> None:
    """GELU without the steps that the paper has before it says so, in few words, and does not where they are all there."""
    store, plan = synthetic_study(tmp_path, steps="recipe,stage-ratio,gelu")
    steps = by_name(verified(store, plan))
    assert "unlike the paper without patchify-stem, depthwise and 4 more" in steps["gelu"].note
    assert "unlike" not in steps["stage-ratio"].note
    assert other_corner(CONVNEXT, "stage-ratio", {"recipe": "modern", "mixup": "off", "stage-ratio": "swin"}, {}) == (
        "unlike the paper without recipe and with recipe, mixup"
    )


def test_unfinished_study(tmp_path: Path) -> None:
    """Steps that have not run have no verdict; while nothing has run there is no first look and no record."""
    trials = [(name, s) for name in ("stage-ratio", "gelu") for s in range(3)]
    store, plan = synthetic_study(tmp_path, steps="recipe,stage-ratio,gelu", missing=trials)
    steps = by_name(verified(store, plan))
    assert (steps["gelu"].verdict, steps["gelu"].ours) == (None, None)
    assert "not all run" in steps["gelu"].note
    everything = [(a.name, s) for a in plan.arms for s in a.seeds]
    store, plan = synthetic_study(tmp_path / "none", steps="recipe,stage-ratio,gelu", missing=everything)
    assert verified(store, plan).look is None
    assert not (store.studies / plan.study.folder_name / "verify.json").exists()


def test_first_look_is_written_once(tmp_path: Path) -> None:
    """The first verification writes recipe, data and code; the second finds it and changes nothing."""
    store, plan = synthetic_study(tmp_path, steps="recipe,stage-ratio")
    path = store.studies / plan.study.folder_name / "verify.json"
    first = verified(store, plan).look
    assert first and first.changed == () and first.others == ()
    written = path.read_bytes()
    assert json.loads(written)["arms"]["recipe"]["lr"] == plan.arms[1].recipe.lr
    assert verified(store, plan).look == first
    assert path.read_bytes() == written


def test_changed_recipe_after_the_first_look(tmp_path: Path) -> None:
    """A recipe changed after the paper was looked at is told with both values, and the record stays."""
    store, plan = synthetic_study(tmp_path, steps="recipe,stage-ratio")
    folder = store.studies / plan.study.folder_name
    verified(store, plan)
    before = (folder / "verify.json").read_bytes()
    arms = tuple(replace(a, recipe=replace(a.recipe, weight_decay=0.25)) for a in plan.arms)
    write_json(folder / "plan.json", replace(plan, arms=arms).to_dict())
    found = verified(store, plan)
    assert found.look and "weight-decay 0.05 -> 0.25 (2 arms)" in found.look.changed
    assert "Changed since the first look" in "\n".join(verification_lines(found))
    assert (folder / "verify.json").read_bytes() == before


def test_another_study_that_looked_before(tmp_path: Path) -> None:
    """A second study on the same data with another recipe says that the paper was looked at before, the first one does not."""
    first = planned(recipe="short", epochs=2)
    second = planned(recipe="short", epochs=2, set={"lr": 0.01})
    store = run(tmp_path, first, paper_top1(first))
    run(tmp_path, second, paper_top1(second))
    assert verified(store, first).look.others == ()  # type: ignore[union-attr]
    look = verified(store, second).look
    assert look and len(look.others) == 1
    assert first.study.folder_name in look.others[0] and "(lr)" in look.others[0]
    path = store.studies / first.study.folder_name / "verify.json"
    write_json(path, {**read_json(path), "time": "2099-01-01T00:00:00+00:00"})
    assert verified(store, second).look.others == ()  # type: ignore[union-attr]


def test_damaged_record_is_not_replaced(tmp_path: Path) -> None:
    """A damaged verify.json is refused, not written anew: it would forget the first look."""
    store, plan = synthetic_study(tmp_path, steps="recipe,stage-ratio")
    path = store.studies / plan.study.folder_name / "verify.json"
    path.write_text("{")
    with pytest.raises(StoreError, match=r"verify\.json is damaged"):
        verified(store, plan)
    assert path.read_text() == "{"


def test_refusals_name_the_next_move(tmp_path: Path) -> None:
    """An unknown paper, a study of another track, other estimands and a store without a fitting study are refused in one line."""
    store, plan = synthetic_study(tmp_path, steps="recipe,stage-ratio")
    name = plan.study.folder_name
    with pytest.raises(StudyError, match="paper: 'swin' is not one of convnext, repvit"):
        verify(store, name, paper="swin")
    with pytest.raises(StudyError, match=r"track convnext-t, the paper's tracks are repvit-m0\.9"):
        verify(store, name, paper="repvit")
    with pytest.raises(StudyError, match=r"run vitnas roadmap --track repvit-m0\.9"):
        choose(store, "repvit")
    other = tuple(replace(e, estimand="at the modern corner") for e in plan.effects)
    write_json(store.studies / name / "plan.json", replace(plan, effects=other).to_dict())
    with pytest.raises(StudyError, match=r"estimates at the modern corner; .* run vitnas roadmap --track convnext-t"):
        verify(store, name, paper="convnext")


def test_choose_takes_the_latest_of_the_paper(tmp_path: Path) -> None:
    """Without a name, the latest study of the paper's tracks is chosen, whatever else was run later."""
    store, convnext = synthetic_study(tmp_path, steps="recipe,stage-ratio")
    _, repvit = synthetic_study(tmp_path, track="repvit-m0.9", steps="separate-mixers")
    assert choose(store, "convnext") == convnext.study.folder_name
    assert choose(store, "repvit") == repvit.study.folder_name
    assert choose(store, "convnext", convnext.study.folder_name[:20]) == convnext.study.folder_name


def test_one_seed_papers_say_so(tmp_path: Path) -> None:
    """convnext-b has one seed: no interval on its side, no ceiling, and the text says so."""
    store, plan = synthetic_study(tmp_path, track="convnext-b", steps="recipe..depthwise")
    found = verified(store, plan)
    text = "\n".join(verification_lines(found))
    assert all(s.paper_interval is None for s in found.steps)
    assert found.ranks.ceiling is None
    assert "without spread: no interval on its side, no ceiling" in text and "one seed" in text


def test_json_and_table_show_the_same(tmp_path: Path) -> None:
    """The verification survives JSON, and the table has a line for every step."""
    store, plan = synthetic_study(tmp_path, steps="recipe,stage-ratio,gelu")
    found = verified(store, plan)
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    lines = verification_table(found)
    assert [s["name"] for s in data["steps"]] == [line[0] for line in lines[1:]] == ["recipe", "stage-ratio", "gelu"]
    assert all(len(line) == len(lines[0]) for line in lines)
    assert [f"{s['ours']:+.2f}" for s in data["steps"]] == [line[1] for line in lines[1:]]
