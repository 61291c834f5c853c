"""Caveats: the sentences under a report's table, without which its numbers would say too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ..plan import Arm, Plan
from ..robustness import Robustness
from ..statistics.means import CONFIDENCE
from ..trial import TrialResult
from .effects import EffectRow, Judged, in_order


def caveats(
    plan: Plan,
    results: Mapping[str, TrialResult],
    *,
    judged: Judged,
    images: int | None,
    scorings: int,
    margin: float,
    paper_source: str,
    robustness: Mapping[str, Robustness],
    latency: Sequence[str] = (),
) -> tuple[str, ...]:
    """All sentences that apply to this study, in the order in which a reader needs them."""
    used = {t: results[t] for arm in plan.arms for t in arm.trials if t in results}
    out = [*_split(plan, images, scorings), *_intervals(plan, judged, margin), *_effects(judged.effects), *_outcomes(plan, used)]
    out += [*_corrupted(plan, used, robustness), *latency, *_arms(plan.arms), *_alike(plan.arms, used.values())]
    if paper_source:
        out.append(
            f"The paper's values: {paper_source}. Other data, another scale, another length of training: nothing here should equal them. "
            "Its rows are cumulative, and its deltas are to the row before in its own table."
        )
    return (*out, *plan.notes)


def _split(plan: Plan, images: int | None, scorings: int) -> list[str]:
    split, name = plan.study.score_on, plan.data["name"]
    size = f", {images} images (one image is {100 / images:.2f} points)" if images else ""
    times = f"{scorings} time{'' if scorings == 1 else 's'}"
    if split == "test":
        out = [f"Top-1 in % on the test split of {name}{size}, after the last epoch; the test split was scored {times} in this store."]
    else:
        out = [
            f"Top-1 in % on the validation split of {name}{size}, after the last epoch: held out of training, but what is selected "
            f"is selected on it. The test split was scored {times} in this store."
        ]
    if plan.study.data_fraction < 1:
        out.append(f"Trained on {100 * plan.study.data_fraction:g} % of the training images.")
    return [*out, _duplicates(plan.data["duplicates"])]


def _duplicates(count: int) -> str:
    if not count:
        return "No test image is also in the training part."
    return f"{count} test images are exact duplicates of images in the training part: scores on them flatter."


def alarms(effects: Sequence[EffectRow]) -> tuple[str, ...]:
    """What makes a study not to be trusted: a placebo that helps or hurts. It stands at the head of the report."""
    out = []
    for e in effects:
        if e.placebo and e.word in ("helps", "hurts") and e.value is not None:
            out.append(
                f"NOT TO BE TRUSTED: the placebo {e.word} ({e.value:+.2f} points). It is the reference's own network and recipe with other "
                "seeds, so its true effect is 0: either this is one of the few studies in which chance alone does that, or the trials "
                "differ in more than their steps. Believe no word below; see whether all trials ran alike, and ask for more seeds."
            )
    return tuple(out)


def _intervals(plan: Plan, judged: Judged, margin: float) -> list[str]:
    if plan.study.seeds == 1:
        return ["One seed (n=1): effects stand without interval or word; ask for more with --seeds 3."]
    analysis = judged.analysis
    if analysis.seed_sd is None or analysis.df is None:
        return ["No interval can be given yet: no arm has two finished trials that differ."]
    percent = f"{100 * CONFIDENCE:g} %"
    new = any(e.images for e in judged.effects)
    out = [
        f"Intervals are {percent}, from the variance over seeds pooled over arms (sd {analysis.seed_sd:.2f}, {analysis.df:.3g} "
        f"degree{'' if analysis.df == 1 else 's'} of freedom). They cover the luck of seeds, not the choice of images, which is one "
        f"and the same in every arm{'; the column of new images covers both' if new else ''}."
    ]
    if judged.family:
        count = f"all {judged.family} effects at once" if judged.family > 1 else "the one effect"
        out.append(
            f"Words go by the simultaneous interval, which holds for {count}: helps or hurts where it excludes zero, "
            f"equivalent where it lies within ±{margin:g} points, else undecided. Undecided is not without effect."
        )
    if analysis.correlation is not None:
        out.append(f"Arms at equal seeds correlate by {analysis.correlation:+.2f} in this study (estimated, not assumed).")
    if analysis.equal_variances_p is not None:
        p = analysis.equal_variances_p
        found = "they differ, which the intervals allow for" if p < 0.05 else "no sign that they differ"
        out.append(f"Equal variances over the arms: p = {p:.2g}, {found}.")
    if len(plan.looks) > 1:
        seeds = ", ".join(map(str, plan.looks))
        out.append(
            f"Judged at {seeds} seeds: simultaneous intervals, adjusted p and words hold over all {len(plan.looks)} looks, "
            "the rest for the last look alone."
        )
    if plan.study.until_decided:
        out.append(
            "An effect stands as of the look that settled it, with the seeds its arms had then; the arms' means are of all their seeds."
        )
    if plan.study.tune:
        out.append(f"Each arm's best setting was chosen on validation, by seeds of its own, in the study {plan.study.folder_name}-tuning.")
    return [*out, *analysis.notes]


def _effects(effects: Sequence[EffectRow]) -> list[str]:
    kinds = [name for name, members in in_order(effects) if not members[0].placebo]
    out = []
    if len(kinds) > 1:
        out.append(f"Effects {'; '.join(kinds)}: different questions, not to be compared number by number.")
    signed = [(name, weight > 0) for e in effects if e.estimand == "in the paper's order" for name, weight in e.arms]
    if {name for name, plus in signed if plus} & {name for name, plus in signed if not plus}:
        out.append("Adjacent deltas share a rung: one that came out low by chance lowers its own delta and raises the next.")
    sampled = [e.orders_se for e in effects if e.orders_se is not None]
    if sampled:
        out.append(f"Orders were sampled: beside the intervals, that brings a standard error of up to {max(sampled):.2f} points.")
    if any(e.tuning_dependent for e in effects):
        out.append("tuning-dependent: the sign is another at the shared setting than with each arm at its best.")
    return out


def _outcomes(plan: Plan, used: Mapping[str, TrialResult]) -> list[str]:
    out = []
    diverged = sum(r.status == "diverged" for r in used.values())
    if diverged:
        chance = 100 / plan.data["classes"]
        out.append(
            f"{diverged} of {len(used)} trials diverged: they count at chance level ({chance:g} %), and their arms bring a "
            "variance of their own."
        )
    split = plan.study.score_on
    planned = {t for arm in plan.arms for t in arm.trials}
    unscored = sum(r.status == "complete" and split not in r.scores for r in used.values())
    waiting = len(planned) - len(used)
    if waiting:
        out.append(f"{waiting} of {len(planned)} trials have not run: n is smaller there; the same command runs them.")
    if unscored:
        out.append(f"{unscored} trials finished without a score on the {split} split and are left out.")
    return out


def _corrupted(plan: Plan, used: Mapping[str, TrialResult], robustness: Mapping[str, Robustness]) -> list[str]:
    if plan.study.eval == "none" or not used:
        return []
    waiting = sum(r.status == "complete" and t not in robustness for t, r in used.items())
    some = next(iter(robustness.values()), None)
    out = []
    if some:
        out.append(
            f"corrupted: top-1 in % on the test images under {len(some.top1)} corruptions at {len(some.by_severity)} severities (after "
            "arXiv 1903.12261), the plain mean over both; each corruption is the same for every network."
        )
    if waiting:
        out.append(f"{waiting} trained networks have not been scored on corrupted images yet; the same command does it.")
    return out


def _arms(arms: Sequence[Arm]) -> list[str]:
    out = [
        f"{arm.name}: the same network and recipe as {arms[arm.same_as].name}, whose trials it shares."
        for arm in arms
        if arm.same_as is not None
    ]
    for state, meaning in LIVENESS.items():
        found = [
            f"{a.name}{f' ({a.liveness.note})' * bool(a.liveness.note)}" for a in arms if a.liveness.state == state and a.same_as is None
        ]
        if found:
            out.append(f"{meaning}: {'; '.join(found)}.")
    epochs = Counter(a.epochs for a in arms)
    if len(epochs) > 1:
        usual = epochs.most_common(1)[0][0]
        others = ", ".join(f"{a.name} {a.epochs}" for a in arms if a.epochs != usual)
        out.append(f"Arms differ in length: {usual} epochs, but {others}.")
    return out


LIVENESS = {
    "partly": "Only in part live at this input",
    "dead": "Dead at this input, so without a verdict",
    "same": "Without effect here, so without a verdict",
}


def _alike(arms: Iterable[Arm], results: Iterable[TrialResult]) -> list[str]:
    """Say in what the compared trials differ that they should not differ in: device, compilation, precision, versions."""
    ways: dict[str, Counter[str]] = {"precision": Counter(a.recipe.precision for a in arms for _ in a.trials)}
    for result in results:
        execution = result.execution
        ways.setdefault("device", Counter())[execution.device] += 1
        ways.setdefault("compiled", Counter())["yes" if execution.compiled else "no"] += 1
        for name, version in execution.versions.items():
            ways.setdefault(name, Counter())[version] += 1
    mixed = [f"{way} {', '.join(f'{v} ({n})' for v, n in sorted(c.items()))}" for way, c in ways.items() if len(c) > 1]
    return [f"The trials compared did not all run alike (number of trials): {'; '.join(mixed)}."] if mixed else []
