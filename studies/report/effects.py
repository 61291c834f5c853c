"""Effects: what a study estimates of each step, judged together in one analysis of all its distinct arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...roadmap.steps import Track
from ..effect import AT_BEST, ESTIMANDS, Effect, Estimand
from ..plan import Plan
from ..statistics.analysis import Analysis, Estimate, analyse, rank_check
from ..statistics.images import with_new_images
from ..statistics.logit import analyse_logits
from ..statistics.means import Interval, Word
from ..statistics.sequential import Verdict
from ..statistics.staged import Staged, staged
from .published import published
from .replicates import Outcomes

MEANING: dict[Estimand, str] = {
    "in the paper's order": "each step on top of those before it",
    "in the order given": "each step on top of those before it, in an order that is not the paper's",
    "at the base corner": "each step alone, on the base and what the step requires",
    "at the modern corner": "all of the study's steps on, minus the same without this one and what requires it",
    "averaged over legal subsets": "the mean over all legal pairs of networks that differ in this step alone",
    "main effect plus aliases": "the design cannot tell the effect from the aliases named beside it",
    "averaged over legal orders": "Shapley values, the mean over all legal orders of switching the steps on",
    "the reference again": "a placebo, the reference's network and recipe trained with other seeds; its true effect is 0",
    "against the first level": "each level of a factor against its first, averaged over the design's networks",
}


def acting(same_network: bool, liveness: str) -> list[str]:
    """What keeps a step from acting here, in words; empty where nothing does."""
    if same_network:
        return ["same network"]
    return {"dead": ["dead, no verdict"], "same": ["same, no verdict"], "partly": ["partly live"]}.get(liveness, [])


INTERACTION_WORDS: dict[Word, str] = {"helps": "help each other", "hurts": "get in each other's way", "equivalent": "add up"}


@dataclass(frozen=True, kw_only=True)
class EffectRow:
    """One effect with all that is known of it, in points of top-1; `logit` is its value on the logit scale, with the simultaneous interval.

    `interval` holds alone and `simultaneous` for all effects of the study at once (both: this split, new seeds); `images` covers new
    images too. `p_adjusted` has the correction of `simultaneous`. `rank` is the word of the same analysis of ranks, where a trial
    diverged. `orders_se` is the standard error from sampling orders, beside those intervals. `paper` is the paper's own delta, which is
    in the paper's order. `latency` is the change in latency that goes with it (%, with its interval). `arms` are the names and weights
    of the networks compared, `n` the smallest number of their seeds, `diverged` of `trials` their diverged trials. `same_network` marks
    an effect that is 0 because both sides are one network and recipe, `tuning_dependent` one whose sign is another at the shared setting
    than with each arm at its best.
    """

    name: str
    title: str
    estimand: Estimand
    order: int
    context: str
    along: tuple[str, ...]
    aliases: tuple[str, ...]
    note: str
    liveness: str
    liveness_note: str
    same_network: bool
    value: float | None
    se: float | None = None
    df: float | None = None
    interval: Interval | None = None
    simultaneous: Interval | None = None
    images: Interval | None = None
    p: float | None = None
    p_adjusted: float | None = None
    word: Word | None = None
    tuning_dependent: bool = False
    logit: float | None = None
    logit_interval: Interval | None = None
    rank: Word | None = None
    orders_se: float | None = None
    paper: float | None = None
    latency: float | None = None
    latency_interval: Interval | None = None
    arms: tuple[tuple[str, float], ...]
    n: int
    trials: int
    diverged: int

    @property
    def placebo(self) -> bool:
        """Whether its true value is 0 by construction."""
        return self.estimand == "the reference again"

    @property
    def label(self) -> str:
        """Its name, and under which level of a factor it is taken."""
        return f"{self.name} ({self.context})" if self.context else self.name

    @property
    def verdict(self) -> str:
        """The word, and whatever a reader must know beside it."""
        if self.value is None:
            return "not all run"
        said = INTERACTION_WORDS.get(self.word, self.word) if self.word and self.order == 2 else self.word
        parts: list[str] = [said] if said else ["tuning-dependent"] if self.tuning_dependent else []
        parts += acting(self.same_network, self.liveness)
        if self.diverged:
            parts.append(f"{self.diverged}/{self.trials} diverged")
        if self.n == 1 and not self.same_network:
            parts.append("n=1")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """All effects in the plan's order, and the analysis that they come from. `family` counts those with a simultaneous interval."""

    effects: tuple[EffectRow, ...]
    analysis: Analysis

    @property
    def family(self) -> int:
        """How many effects the simultaneous intervals hold for."""
        return sum(e.simultaneous is not None for e in self.effects)


def judge(
    plan: Plan,
    found: Outcomes,
    *,
    track: Track | None,
    images: int | None = None,
    correct: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Judged:
    """Estimate all effects of `plan` in one analysis. `images` is the size of the split; `correct` holds per-image results by trial, where
    they are at hand."""
    weights = rows_of(plan)
    real = [i for i, w in enumerate(weights) if w.any()]
    margin = plan.study.margin
    if plan.study.until_decided:
        told = by_look(plan, found)
        analysis = told.analysis
        estimates = {i: analysis.estimates[i] for i in real}
    else:
        analysis = analyse(found.values, weights[real], diverged=found.diverged, margin=margin, looks=plan.looks)
        estimates = dict(zip(real, analysis.estimates, strict=True))
    rows = [_row(plan, e, found, w, estimates.get(i), track) for i, (e, w) in enumerate(zip(plan.effects, weights, strict=True))]
    if plan.study.until_decided:
        rows = [
            replace(r, note=_ended(r, v, at, plan.study.max_seeds)) for r, v, at in zip(rows, told.verdicts, told.settled_at, strict=True)
        ]
    second = _second_opinions(found, weights[real], [estimates[i] for i in real], images=images, looks=plan.looks, correct=correct)
    for i, opinion in zip(real, second, strict=True):
        rows[i] = replace(rows[i], **opinion)
    return Judged(effects=tuple(_muted(r, rows) for r in rows), analysis=analysis)


def _ended(row: EffectRow, verdict: Verdict, at: int | None, most: int) -> str:
    """The row's note, with how its effect was settled."""
    if at is None or row.same_network:
        return row.note
    how = f"settled at {at} seeds"
    if verdict == "futile":
        low = f"given up at {at} of {most} seeds: the chance to be decided by then was below 10 %"
        how = low if at < most else f"still undecided at {at} seeds, the most that were allowed"
    return "; ".join(n for n in (row.note, how) if n)


def by_look(plan: Plan, found: Outcomes) -> Staged:
    """The effects of a study that runs until all is decided, each as of the look that settled it. Nothing goes on for the sake of the
    placebo, of an effect that is 0 by construction, nor of steps that cannot act."""
    weights = rows_of(plan)
    real = [i for i, w in enumerate(weights) if w.any()]
    waived = [plan.effects[i].estimand == "the reference again" or not plan.effects[i].liveness.verdict for i in real]
    told = staged(
        found.values,
        weights[real],
        looks=plan.looks,
        horizon=plan.study.max_seeds,
        diverged=found.diverged,
        ignored=np.array(waived, dtype=bool),
        margin=plan.study.margin,
        stopping=plan.study.stopping,
    )
    return told.among(real, len(weights))


def rows_of(plan: Plan) -> NDArray[np.float64]:
    """The effects' weights over the plan's distinct arms: (effects, arms)."""
    return np.array([plan.row(e.weights) for e in plan.effects]).reshape(len(plan.effects), len(plan.distinct))


def question(estimand: Estimand, order: int = 1) -> str:
    """The estimand and what it means, as a heading."""
    if order == 2:
        kind = "with aliases" if "aliases" in estimand else estimand
        return f"Interactions, {kind}: how many points more the first pays with the second than without"
    return f"{estimand[0].upper()}{estimand[1:]}: {MEANING[estimand]}"


def in_order(effects: Sequence[EffectRow]) -> list[tuple[Estimand, list[EffectRow]]]:
    """The effects by estimand, the placebo last; within one, single steps before interactions."""
    names = sorted(ESTIMANDS, key=lambda name: name == "the reference again")
    groups = [(name, sorted((e for e in effects if e.estimand == name), key=lambda e: e.order)) for name in names]
    return [(name, members) for name, members in groups if members]


def _second_opinions(
    found: Outcomes,
    weights: NDArray[np.float64],
    estimates: Sequence[Estimate],
    *,
    images: int | None,
    looks: tuple[int, ...],
    correct: Mapping[str, NDArray[np.bool_]] | None,
) -> list[dict[str, Any]]:
    """For every row of `weights`: the interval over new images too, the effect on the logit scale, and, where a trial diverged, the word
    by ranks."""
    out: list[dict[str, Any]] = [{} for _ in estimates]
    by_arm = [_right(found, i, correct or {}) for i in range(len(found.arms))]
    for row, w, estimate in zip(out, weights, estimates, strict=True):
        row["images"] = with_new_images(estimate, by_arm, w)
    if images:
        logits = analyse_logits(found.values, weights, images=images, diverged=found.diverged, looks=looks).estimates
        for row, logit in zip(out, logits, strict=True):
            row |= {"logit": logit.value, "logit_interval": logit.simultaneous}
    if found.diverged.any():
        for row, word in zip(out, rank_check(found.values, weights), strict=True):
            row["rank"] = word
    return out


def _right(found: Outcomes, arm: int, correct: Mapping[str, NDArray[np.bool_]]) -> list[NDArray[np.bool_]]:
    """Per-image results of an arm's trials; none where some are not at hand or a trial diverged, since survivors alone would flatter."""
    trials = [t for t, value in zip(found.trials[arm], found.values[arm], strict=True) if np.isfinite(value)]
    whole = all(t in correct for t in trials) and not found.diverged[arm].any()
    return [correct[t] for t in trials] if whole else []


def _row(
    plan: Plan, effect: Effect, found: Outcomes, weights: NDArray[np.float64], estimate: Estimate | None, track: Track | None
) -> EffectRow:
    used = np.flatnonzero(weights)
    counts = np.sum(~np.isnan(found.values), axis=1)
    means = np.array([np.nanmean(v) if k else np.nan for v, k in zip(found.values, counts, strict=True)])
    in_order = effect.estimand == "in the paper's order"  # which is the order of the paper's own deltas
    paper = published(track, effect.paper_key) if track and effect.paper_key and in_order else None
    same = not len(used)
    e = estimate or Estimate(value=0.0)
    return EffectRow(
        name=effect.name,
        title=effect.title,
        estimand=effect.estimand,
        order=effect.order,
        context=effect.context,
        along=effect.along,
        aliases=effect.aliases,
        note=effect.note,
        liveness=effect.liveness.state,
        liveness_note=effect.liveness.note,
        same_network=same,
        value=e.value,
        se=e.se,
        df=e.df if e.df is not None and math.isfinite(e.df) else None,
        interval=e.interval,
        simultaneous=e.simultaneous,
        p=e.p,
        p_adjusted=e.p_adjusted,
        word=e.word,
        orders_se=_orders_se([np.array(plan.row(w)) for w in effect.sampled], means),
        paper=paper.delta if paper else None,
        arms=tuple((plan.arms[found.arms[i]].name, float(weights[i])) for i in used),
        n=int(min((counts[i] for i in used), default=0)),
        trials=int(sum(counts[i] for i in used)),
        diverged=int(np.sum(found.diverged[used])),
    )


def _orders_se(sampled: Sequence[NDArray[np.float64]], means: NDArray[np.float64]) -> float | None:
    """The standard error of a mean over sampled orders, of which the networks' own noise is a part; None below two orders."""
    values = np.array([np.sum(w[w != 0] * means[w != 0]) for w in sampled])
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 and np.isfinite(values).all() else None


def _muted(row: EffectRow, rows: Sequence[EffectRow]) -> EffectRow:
    """No word where there is nothing to judge (one network on both sides, a step of which nothing acts here), none where the sign
    depends on the tuning, and no *equivalent* where a training diverged: two networks at chance level are not alike."""
    if row.same_network or row.liveness in ("dead", "same"):
        return replace(row, word=None, rank=None)
    if row.diverged and row.word == "equivalent":
        return replace(row, word="undecided")
    tuned = AT_BEST in row.context
    other = row.context.removesuffix(AT_BEST).removesuffix(", ") if tuned else f"{row.context}, {AT_BEST}".removeprefix(", ")
    twin = next((r for r in rows if (r.name, r.estimand, r.context) == (row.name, row.estimand, other)), None)
    if twin is None or row.value is None or twin.value is None:
        return row
    depends = row.value * twin.value < 0 and bool({row.word, twin.word} & {"helps", "hurts"})
    return replace(row, word=None, tuning_dependent=True) if depends else row
