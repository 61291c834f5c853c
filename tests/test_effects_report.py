"""Reports of ablations: effects by estimand, what weakens them, and their tables and figures."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from vitnas.studies.effect import AT_BEST, Effect
from vitnas.studies.plan import Plan
from vitnas.studies.report.changes import changed_images, read_correct, read_labels
from vitnas.studies.report.effects import EffectRow
from vitnas.studies.report.effects_figure import effects_figure, span_of
from vitnas.studies.report.effects_table import effects_csv, effects_tables
from vitnas.studies.report.images import images_figure
from vitnas.studies.report.interactions_figure import axes_of, interactions_figure
from vitnas.studies.report.make import load_summary, make_report, print_report, summary_of, to_markdown
from vitnas.studies.report.replicates import outcomes
from vitnas.studies.report.shapley_figure import shapley_figure
from vitnas.studies.report.summary import Summary, summarise
from vitnas.studies.report.tables import number, to_csv
from vitnas.studies.store import Store
from vitnas.studies.tracking.runs import effect_metrics
from vitnas.studies.trial import PLACEBO_SEEDS

from .synthetic import COUNTS, synthetic_study

FEW = "recipe,stage-ratio,width,kernel-size,depthwise"
Study = tuple[Store, Plan]


def ablation(root: Path, design: str = "leave-one-out", steps: str = FEW, **options: Any) -> Study:
    return synthetic_study(root, kind="ablate", design=design, steps=steps, **({"placebo": True} | options))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Leave-one-out over five steps with a placebo, three seeds, reported."""
    found = ablation(tmp_path_factory.mktemp("store"))
    make_report(found[0], found[1].study.folder_name)
    return found


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """All subsets of three steps with their interactions."""
    return ablation(tmp_path_factory.mktemp("store"), "factorial", "recipe,gelu,layer-norm", interactions="all")


def effect(summary: Summary, name: str) -> EffectRow:
    return next(e for e in summary.effects if e.name == name)


def printed(summary: Summary, **options: Any) -> str:
    file = io.StringIO()
    print_report(summary, Console(file=file, **options))
    return file.getvalue()


def test_effects_are_weighted_means_of_the_trials(study: Study) -> None:
    """Every effect equals its weights times the means of the trials' own scores, and its intervals lie around it."""
    store, plan = study
    rows = json.loads((store.studies / plan.study.folder_name / "report.json").read_text())["effects"]
    assert [r["name"] for r in rows] == [e.name for e in plan.effects]
    for planned, shown in zip(plan.effects, rows, strict=True):
        value = 0.0
        for arm, weight in planned.weights:
            value += weight * statistics.mean([store.result(t).scores["test"].top1 for t in plan.arms[arm].trials])  # type: ignore[union-attr]
        assert shown["value"] == pytest.approx(value)
        low, high = shown["simultaneous"].values()
        assert low < shown["interval"]["low"] < value < shown["interval"]["high"] < high
        assert dict(shown["arms"]) == {plan.arms[a].name: w for a, w in planned.weights}


def test_effects_that_were_put_in_are_found(study: Study, crossed: Study) -> None:
    """A step that adds points helps, a step that costs points hurts, and two that go together interact."""
    words = {e.name.partition(" +")[0]: e.word for e in load_summary(study[0], study[1].study.folder_name).effects}
    assert words["recipe"] == words["width"] == "helps" and words["placebo"] == "undecided"
    summary = summary_of(*crossed)
    pair = next(e for e in summary.effects if e.order == 2 and {"gelu", "layer-norm"} == set(e.name.split(" x ")))
    assert pair.word == "helps" and pair.value == pytest.approx(1.6, abs=0.5)
    assert all(e.word != "helps" for e in summary.effects if e.order == 2 and e is not pair)


def test_estimands_never_share_a_table(study: Study, crossed: Study) -> None:
    """The effects of one kind have one table, interactions theirs, and the placebo, of another kind, has its own in every output."""
    store, plan = study
    summary = load_summary(store, plan.study.folder_name)
    tables = effects_tables(summary)
    assert [t[0].partition(":")[0] for t in tables] == ["At the modern corner", "The reference again"]
    for heading, members, _ in tables:
        assert {e.estimand for e in members} == {heading.partition(":")[0].lower()}
    apart = effects_tables(summary_of(*crossed))
    assert [{e.order for e in members} for _, members, _ in apart] == [{1}, {2}, {1}] and apart[1][0].startswith("Interactions, ")
    markdown = to_markdown(summary, ["effects"])
    text = printed(summary, width=160)
    for output in (markdown, text):
        assert output.index("At the modern corner: ") < output.index("The reference again: ") < output.index("MMACs")
    lines = list(csv.DictReader(io.StringIO(effects_csv(summary))))
    assert {(x["name"], x["estimand"]) for x in lines} == {(e.name, e.estimand) for e in summary.effects}
    assert float(lines[0]["simultaneous_low"]) == summary.effects[0].simultaneous.low  # type: ignore[union-attr]


def test_arms_of_an_ablation_have_no_deltas(study: Study) -> None:
    """Their table and CSV hold sizes, seeds and means; no change, no word, and no rung of the paper."""
    summary = load_summary(study[0], study[1].study.folder_name)
    columns = next(csv.reader(io.StringIO(to_csv(summary))))
    assert not [c for c in columns if "delta" in c or c in ("word", "verdict", "parent")] and "top1_mean" in columns
    arms = printed(summary, width=160).split("\narm ")[1].splitlines()
    assert "simultaneous" not in arms[0] and "verdict" not in arms[0] and "paper" not in arms[0]
    assert len([x for x in arms[1:] if re.match(r"(all|placebo)", x)]) == len(summary.rows)
    assert all(r.paper is None for r in summary.rows)


def test_a_cumulative_ablation_has_the_waterfall(tmp_path: Path) -> None:
    """A cumulative design is drawn as a roadmap, with the effects against the rung before and the placebo as a row."""
    store, plan = ablation(tmp_path, "cumulative", "recipe,depthwise")
    summary = make_report(store, plan.study.folder_name)
    folder = store.studies / plan.study.folder_name
    assert (folder / "roadmap.png").exists() and [r.parent for r in summary.rows] == [None, 0, 1, 0]
    deltas = [r.delta.value if r.delta else None for r in summary.rows]
    assert deltas == [None, effect(summary, "recipe").value, effect(summary, "depthwise").value, None]
    assert summary.rows[-1].placebo and "placebo" in summary.rows[-1].verdict
    assert any("share a rung" in f for f in summary.footers)


def test_a_roadmap_reports_its_placebo_apart(tmp_path: Path) -> None:
    """A roadmap's deltas stand beside its rungs, the placebo's effect, of another kind, in a table of its own."""
    store, plan = synthetic_study(tmp_path, steps="recipe,depthwise", placebo=True)
    text = printed(summary_of(store, plan), width=160)
    assert "The reference again: " in text and "In the paper's order: " not in text
    row = next(line for line in text.splitlines() if line.startswith("placebo") and "placebo" in line[8:])
    assert "[" not in row


@pytest.mark.parametrize(("shift", "alarmed"), [(-4.0, True), (0.0, False)])
def test_a_placebo_that_differs_is_told_first(tmp_path: Path, shift: float, alarmed: bool) -> None:
    """A placebo with a word of its own makes the report begin with the warning; one without does not."""
    store, plan = ablation(tmp_path, shift=shift)
    summary = make_report(store, plan.study.folder_name)
    assert bool(summary.alarms) == alarmed == (effect(summary, "placebo").word in ("helps", "hurts"))
    folder = store.studies / plan.study.folder_name
    told = "NOT TO BE TRUSTED"
    assert printed(summary, width=160).startswith(told) == alarmed
    assert printed(summary, width=100, force_terminal=True, color_system=None).startswith(told) == alarmed
    assert (told in (folder / "report.md").read_text().partition("![")[0]) == alarmed
    assert (told in (folder / "report.tex").read_text()) == alarmed
    assert json.loads((folder / "report.json").read_text())["alarms"] == list(summary.alarms)


def test_the_placebos_seeds_are_its_own(study: Study) -> None:
    """It is not paired with the other arms: its values stand in columns of their own."""
    summary = load_summary(study[0], study[1].study.folder_name)
    found = outcomes(study[1], [r.replicates for r in summary.rows])
    assert found.seeds == (0, 1, 2, *(PLACEBO_SEEDS + i for i in range(3)))
    assert np.isnan(found.values[-1, :3]).all() and np.isnan(found.values[:-1, 3:]).all() and not np.isnan(found.values[-1, 3:]).any()


def test_one_seed_has_no_words(tmp_path: Path) -> None:
    """With one seed an effect stands alone: no interval, no p-value, no word."""
    summary = summary_of(*ablation(tmp_path, seeds=1))
    assert all(e.value is not None for e in summary.effects)
    assert not any(e.word or e.interval or e.simultaneous or e.p is not None for e in summary.effects)
    assert {e.verdict.removeprefix("partly live, ").removeprefix("dead, no verdict, ") for e in summary.effects} == {"n=1"}
    assert not summary.alarms and effects_figure(summary) is not None


def test_dead_and_same_effects_have_no_word(study: Study) -> None:
    """Where nothing of a step acts, its value stands without a word; one network on both sides differs by exactly 0."""
    store, plan = study
    first = plan.effects[0]
    dead = replace(first, liveness=replace(first.liveness, state="dead", note="no tap touches a pixel"))
    twin = replace(plan.arms[1], index=len(plan.arms), name="twin", same_as=1)
    same = Effect(name="nothing", title="nothing", estimand="at the modern corner", weights=((twin.index, 1.0), (1, -1.0)))
    changed = replace(plan, arms=(*plan.arms, twin), effects=(dead, *plan.effects[1:], same))
    summary = summary_of(store, changed)
    assert summary.effects[0].value == pytest.approx(summary_of(store, plan).effects[0].value)
    assert summary.effects[0].word is None and summary.effects[0].verdict == "dead, no verdict"
    nothing = effect(summary, "nothing")
    assert nothing.value == 0 and nothing.same_network and nothing.verdict == "same network" and nothing.interval is None


def test_divergence_is_counted_and_survivors_are_not_averaged(tmp_path: Path) -> None:
    """A diverged trial counts at chance level; tables get a column of diverged trials, and the images of that effect are left out."""
    store, plan = ablation(tmp_path, "add-one-in", "recipe,width", diverged={("width", 1)})
    summary = summary_of(store, plan)
    width, recipe = effect(summary, "width"), effect(summary, "recipe")
    values = [r.top1 for r in summary.rows[2].replicates]
    assert 10.0 in values and width.value == pytest.approx(np.mean(values) - summary.rows[0].mean)  # type: ignore[arg-type, operator]
    assert (width.diverged, width.trials, recipe.diverged) == (1, 6, 0)
    table = effects_tables(summary)[0][2]
    assert [line[table[0].index("diverged")] for line in table] == ["diverged", "0/6", "1/6"]
    assert {c.name for c in summary.changed} == {"recipe", "placebo"}
    low, high = span_of(summary.effects, 0.3)
    assert low < high


def test_further_views_of_an_effect(tmp_path: Path, study: Study) -> None:
    """New images make an interval wider, the logit scale keeps the sign of a large effect, ranks are asked where a trial diverged."""
    summary = load_summary(study[0], study[1].study.folder_name)
    for e in summary.effects:
        assert e.images and e.interval and e.interval.low < e.interval.high
        assert e.images.low <= e.interval.low + 1e-9 and e.interval.high - 1e-9 <= e.images.high
        assert (
            e.p is not None and e.p_adjusted is not None and e.p <= e.p_adjusted and (e.p_adjusted < 0.05) == (e.word in ("helps", "hurts"))
        )
        assert e.rank is None
    assert any(e.images.high > e.interval.high for e in summary.effects if e.images and e.interval)
    recipe = effect(summary, "recipe")
    counts = [[round(v * COUNTS["test"] / 100) for v in r.values] for r in summary.rows[:2]]
    odds = [statistics.mean(math.log((k + 0.5) / (COUNTS["test"] - k + 0.5)) for k in arm) for arm in counts]
    assert recipe.logit == pytest.approx(odds[0] - odds[1]) and recipe.logit_interval and recipe.logit_interval.low > 0
    broken = summary_of(*ablation(tmp_path, "add-one-in", "recipe,width", diverged={("width", 1)}))
    ranked = effects_tables(broken)[0][2]
    assert "by rank" in ranked[0] and effect(broken, "recipe").rank is not None and effect(broken, "width").images is None


def test_missing_trials_leave_an_effect_out(tmp_path: Path) -> None:
    """An effect of which an arm has not run has no value and says so; the others are reported."""
    missing = {("all but width", s) for s in range(3)}
    store, plan = ablation(tmp_path, missing=missing)
    summary = make_report(store, plan.study.folder_name)
    width = effect(summary, "width")
    assert width.value is None and width.verdict == "not all run"
    assert effect(summary, "recipe").word == "helps"


def test_nothing_run_is_reported(tmp_path: Path) -> None:
    """Before the first trial has finished, a report of an ablation can be made."""
    store, plan = ablation(tmp_path, seeds=1, steps="recipe", missing={("all", 0), ("all but recipe", 0), ("placebo", 0)})
    summary = make_report(store, plan.study.folder_name)
    assert [e.verdict for e in summary.effects] == ["not all run"] * 2 and effects_figure(summary) is None


def test_resolution_three_is_labelled(tmp_path: Path) -> None:
    """Effects that the design cannot tell from interactions say so in the heading, with the aliases beside them."""
    steps = "recipe,stage-ratio,patchify-stem,width,gelu,layer-norm,separate-downsampling"
    summary = summary_of(*ablation(tmp_path, "fractional", steps, resolution=3, seeds=2))
    tables = effects_tables(summary)
    assert tables[0][0].startswith("Main effect plus aliases: ") and all(e.aliases for e in tables[0][1])
    text = printed(summary, width=160)
    assert "Main effect plus aliases: " in text and summary.effects[0].aliases[0] in text


def test_a_sign_that_depends_on_tuning_gets_no_word(study: Study) -> None:
    """Helps at the shared setting and the other way at each arm's best: tuning-dependent, at both; agreement keeps the words."""
    store, plan = study
    first, second = plan.effects[0], plan.effects[1]
    turned = replace(first, context=AT_BEST, weights=tuple((a, -w) for a, w in first.weights))
    again = replace(second, context=AT_BEST)
    effects = summary_of(store, replace(plan, effects=(*plan.effects, turned, again))).effects
    both = [e for e in effects if e.name == first.name]
    assert [e.verdict for e in both] == ["tuning-dependent"] * 2 and all(e.word is None and e.tuning_dependent for e in both)
    assert not any(e.tuning_dependent for e in effects if e.name == second.name)


def test_images_won_and_lost_add_up(study: Study) -> None:
    """The net images of an effect are its points times the images; by class they add up to it; single images are those of the trials."""
    store, plan = study
    summary = load_summary(store, plan.study.folder_name)
    assert len(summary.changed) == len(plan.effects)
    for changed, shown in zip(summary.changed, summary.effects, strict=True):
        assert changed.net == pytest.approx(shown.value * COUNTS["test"] / 100)  # type: ignore[operator]
        assert sum(changed.by_class.values()) == pytest.approx(changed.net, abs=1e-4)
    planned, changed = plan.effects[0], summary.changed[0]
    image = changed.won[0]
    net = 0.0
    for arm, weight in planned.weights:
        for trial in plan.arms[arm].trials:
            with np.load(store.trial_folder(trial) / "predictions.npz") as stored:
                net += weight / 3 * np.unpackbits(stored["test_correct"])[image.index]
    assert image.net == pytest.approx(net) and image.label == f"digit {image.index % 10}"
    assert [i.net for i in changed.won] == sorted((i.net for i in changed.won), reverse=True) and all(i.net < 0 for i in changed.lost)


def test_without_labels_images_are_still_named(study: Study) -> None:
    """Where the prepared data are gone, images have no classes and there is no map; where predictions are gone, there is neither."""
    store, plan = study
    full = load_summary(store, plan.study.folder_name)
    results = {t: r for arm in plan.arms for t in arm.trials if (r := store.result(t))}
    found = outcomes(plan, [r.replicates for r in full.rows])
    correct = read_correct(store, plan, results)
    assert read_labels(store, replace(plan, data={**plan.data, "fingerprint": "another"})) is None
    bare = changed_images(plan, found, full.effects, correct, None)
    assert [c.net for c in bare] == [c.net for c in full.changed] and not any(c.by_class for c in bare)
    assert images_figure(replace(full, changed=bare)) is None and images_figure(replace(full, changed=())) is None
    assert summarise(plan, results, scorings=0).changed == ()


def test_appendix_holds_what_a_repetition_needs(study: Study) -> None:
    """Fingerprint, split, seeds, command, and the derived values by arm: what the networks are, in numbers."""
    store, plan = study
    text = (store.studies / plan.study.folder_name / "report.md").read_text()
    for part in (
        "## To repeat it",
        str(plan.data["fingerprint"]),
        "split seed 0",
        "seeds: 0 to 2",
        "vitnas sweep study.yaml",
        "| optimizer |",
    ):
        assert part in text
    summary = load_summary(store, plan.study.folder_name)
    derived = {r.name: r.derived for r in summary.rows}
    assert derived["all"]["kernels"] == "7/7/7/7" and derived["all but kernel-size"]["kernels"] == "3/3/3/3"
    assert derived["all"]["blocks"] == "1/1/3/1" and derived["all but stage-ratio"]["blocks"] == "1/1/2/1"
    assert derived["all"]["channels"] == "96/192/384/768" and derived["all but width"]["channels"] == "64/128/256/512"
    assert derived["all but recipe"]["optimizer"] == "sgd" and derived["all"]["optimizer"] == "adamw"
    assert {r.derived["groups"] for r in summary.rows} >= {"24/48/96/192", "1/1/1/1"}
    block = text[text.index("Derived values") :].partition("The same in all arms")[0]
    assert "7/7/7/7" in block and "adamw" in block and "sgd" in block


def test_equal_events_are_told_once(study: Study) -> None:
    """Events that befell many trials stand once with their number; a rare one names its trials."""
    store, plan = study
    summary = load_summary(store, plan.study.folder_name)
    trials = [
        {**t, "events": ["attempt 1 on node-1", *(["continued after epoch 3"] if i == 4 else [])]}
        for i, t in enumerate(summary.execution["trials"])
    ]
    text = to_markdown(replace(summary, execution={**summary.execution, "trials": trials}), [])
    assert text.count("attempt 1 on node-1") == 1 and f"attempt 1 on node-1: {len(trials)} trials" in text
    assert re.search(r"- continued after epoch 3: all but \S+, seed \d", text)


@pytest.mark.parametrize("width", [80, 110, 160])
def test_terminal_tables_fit(study: Study, width: int) -> None:
    """In a terminal no line is wider than it, and no effect is cut."""
    summary = load_summary(study[0], study[1].study.folder_name)
    text = printed(summary, width=width, force_terminal=True, color_system=None)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    assert all(e.name in text for e in summary.effects) and "simultaneous" in text


def test_the_report_is_reproducible(study: Study) -> None:
    """Made again from the same store, every file has the same bytes; figures that a study has no longer are removed."""
    store, plan = study
    folder = store.studies / plan.study.folder_name
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert {"effects.png", "images.svg", "effects.csv", "report.tex"} <= before.keys() and "interactions.png" not in before
    (folder / "interactions.png").write_bytes(b"old")
    make_report(store, plan.study.folder_name)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_interactions_fill_a_triangle(crossed: Study) -> None:
    """Every pair has a cell below the diagonal, with its value; a study without interactions has no map."""
    summary = summary_of(*crossed)
    pairs = [e for e in summary.effects if e.order == 2]
    rows, columns = axes_of(pairs)
    assert len(pairs) == 3 and len(rows) == len(columns) == 2 and set(rows) | set(columns) == {"recipe", "gelu", "layer-norm"}
    figure = interactions_figure(summary)
    assert figure is not None
    shown = sorted(t.get_text().removesuffix(" =") for t in figure.axes[0].texts)
    assert shown == sorted(number(e.value, sign=True) for e in pairs)
    assert interactions_figure(replace(summary, effects=tuple(e for e in summary.effects if e.order == 1))) is None


def test_shapley_beside_cumulative(tmp_path: Path) -> None:
    """With both kinds of effect over the same trials the two are drawn in panels of their own; with one kind there is no figure."""
    store, plan = ablation(tmp_path, "orders", "recipe,stage-ratio,width", seeds=2)
    assert shapley_figure(summary_of(store, plan)) is None or any(e.estimand == "in the paper's order" for e in plan.effects)
    by_choice = {frozenset(a.choice): a.index for a in plan.arms if not a.placebo}
    order = ["recipe", "stage-ratio", "width"]
    added = tuple(
        Effect(
            name=name,
            title=name,
            estimand="in the paper's order",
            weights=((by_choice[frozenset(order[: i + 1])], 1.0), (by_choice[frozenset(order[:i])], -1.0)),
        )
        for i, name in enumerate(order)
    )
    only = tuple(e for e in plan.effects if e.estimand != "in the paper's order")
    summary = summary_of(store, replace(plan, effects=(*only, *added)))
    figure = shapley_figure(summary)
    assert figure is not None
    assert [a.get_title(loc="left").partition(",")[0] for a in figure.axes] == ["averaged over legal orders", "in the paper's order"]
    total = sum(e.value or 0.0 for e in summary.effects if e.estimand == "averaged over legal orders")
    assert total == pytest.approx(sum(e.value or 0.0 for e in summary.effects if e.estimand == "in the paper's order"))


MANY = "recipe..separate-downsampling,-patchify-stem"


@pytest.fixture(scope="module")
def summaries(study: Study, crossed: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Summary]:
    """Studies with few and with many effects, with interactions, and with a placebo that hurts."""
    root = tmp_path_factory.mktemp("stores")
    many = ablation(root / "many", steps=MANY, seeds=2, factor={"data-fraction": ["0.1", "0.3", "1"]})
    alarmed = ablation(root / "alarmed", steps="recipe,width", shift=-4.0)
    return {name: summary_of(*found) for name, found in (("few", study), ("crossed", crossed), ("many", many), ("alarmed", alarmed))}


FIGURES = [(effects_figure, c) for c in ("few", "many", "crossed", "alarmed")] + [(images_figure, c) for c in ("few", "many", "alarmed")]


@pytest.mark.parametrize(("draw", "case"), [*FIGURES, (interactions_figure, "crossed"), (interactions_figure, "many")])
def test_nothing_in_a_figure_is_cut_or_overlaps(summaries: dict[str, Summary], draw: Callable[[Summary], Any], case: str) -> None:
    """All text lies inside the figure, and the rows' names clear of each other, with few and many effects and a warning above."""
    figure = draw(summaries[case])
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    drawn, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height
    for axes in figure.axes:
        labels = [t.get_window_extent(renderer) for t in axes.get_yticklabels() if t.get_text()]
        boxes = sorted(labels, key=lambda b: b.y0)
        assert all(a.y1 <= b.y0 + 1 for a, b in pairwise(boxes))
    texts = [t.get_window_extent(renderer) for t in figure.texts if t.get_text()]
    panels = [a.get_tightbbox(renderer) for a in figure.axes]
    assert not any(a.overlaps(b) for a in texts for b in panels)


def test_mlflow_takes_the_effects(study: Study) -> None:
    """Each effect is a metric by estimand and name with the ends of its simultaneous interval; names are legal and differ."""
    summary = load_summary(study[0], study[1].study.folder_name)
    metrics = effect_metrics(summary)
    recipe = effect(summary, "recipe")
    assert metrics["effect/at-the-modern-corner/recipe"] == pytest.approx(recipe.value, rel=1e-5)
    assert metrics["effect/at-the-modern-corner/recipe_low"] == pytest.approx(recipe.simultaneous.low, rel=1e-5)  # type: ignore[union-attr]
    assert "effect/the-reference-again/placebo" in metrics and len(metrics) == 3 * len(summary.effects)
    odd = [
        replace(recipe, name=n, context=c) for n in ("mixer=conv/window x gelu", "mixer=conv,window x gelu") for c in ("", "scale=small")
    ]
    names = effect_metrics(replace(summary, effects=tuple(odd)))
    assert len(names) == 12 and all(re.fullmatch(r"[\w.\- /]+", n) and ".." not in n and "//" not in n for n in names)
