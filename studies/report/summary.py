"""Summary: a study's outcome as plain data, made of its plan and its trials' results. All outputs are drawn from it.

What depends on when and where trials ran is kept apart in `execution`, so that a study that was killed and resumed
has the same summary as an undisturbed one in every other field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

from ...roadmap.tracks import track as track_named
from ..plan import Arm, Plan
from ..robustness import Robustness
from ..statistics.deltas import CONFIDENCE, MARGIN, Delta, Interval, Sample, Word, deltas, mean, mean_interval, pooled_variance, sd, word
from ..study import EXECUTION
from ..trial import TrialResult
from .caveats import caveats
from .published import Published, published


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """One seed of an arm: its trial, what became of it, and the top-1 (%) that the analysis uses (chance level if it diverged).

    `missing` trials have not run yet, or were not scored on the split that is reported. `scores` holds top-1 (%) by split, `corrupted`
    the mean over corrupted images, where the study asks for it.
    """

    seed: int
    trial: str
    status: Literal["complete", "diverged", "missing"]
    top1: float | None
    scores: Mapping[str, float]
    diverged_epoch: int | None = None
    corrupted: float | None = None


@dataclass(frozen=True, kw_only=True)
class Corrupted:
    """An arm's top-1 (%) on corrupted test images, over `n` trials (chance level if one diverged): the mean over corruptions and
    severities with its sd over seeds, and the means by corruption and by severity (1 to 5)."""

    n: int
    mean: float
    sd: float | None
    by_corruption: Mapping[str, float]
    by_severity: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One arm. Top-1 in %, deltas in points against the arm `parent` (an index); `n` counts finished trials.

    `same_as` is the index of the row whose trials it shares; `same_network` where that makes it equal to its parent.
    `parent_mark` says what is amiss with the parent, which weakens the delta.
    """

    index: int
    name: str
    title: str
    choice: Mapping[str, str]
    parent: int | None
    side: bool
    placebo: bool
    same_as: int | None
    same_network: bool
    parent_mark: str
    network: str
    fingerprint: str
    params: int
    macs: int
    macs_conv_linear: int
    epochs: int
    replicates: tuple[Replicate, ...]
    n: int
    mean: float | None
    sd: float | None
    interval: Interval | None
    delta: Delta | None
    word: Word | None
    diverged: int
    missing: int
    liveness: str
    liveness_note: str
    paper: Published | None
    corrupted: Corrupted | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """The finished trials' top-1 (%), in the order of seeds."""
        return tuple(r.top1 for r in self.replicates if r.top1 is not None)

    @property
    def verdict(self) -> str:
        """The word, and whatever a reader must know beside it."""
        if not self.n:
            return "not run"
        parts: list[str] = [self.word] if self.word else []
        if self.same_network:
            parts.append("same network")
        elif self.liveness in ("dead", "same"):
            parts.append(f"{self.liveness}, no verdict")
        elif self.liveness != "live":
            parts.append(f"{self.liveness} live" if self.liveness == "partly" else self.liveness)
        if self.diverged:
            parts.append(f"{self.diverged}/{self.n} diverged")
        if self.n == 1:
            parts.append("n=1")
        if self.parent_mark and not (self.n == 1 and self.parent_mark == "parent n=1"):
            parts.append(self.parent_mark)
        if self.missing:
            parts.append(f"{self.missing} of {len(self.replicates)} not run")
        if self.placebo:
            parts.append("placebo")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything that a report shows. `split` is the one reported, of `images` images; `recipes` are those of the first and the last
    arm; `seed_sd` is the pooled standard deviation over seeds (points) with its degrees of freedom."""

    name: str
    title: str
    study: Mapping[str, Any]
    track: str
    scale: str
    data: Mapping[str, Any]
    split: str
    images: int | None
    scorings: int
    seeds: int
    confidence: float
    margin: float
    chance: float
    seed_sd: float | None
    seed_df: float | None
    rows: tuple[Row, ...]
    footers: tuple[str, ...]
    paper_source: str
    recipes: tuple[Mapping[str, Any], Mapping[str, Any]]
    execution: Mapping[str, Any]

    @property
    def epochs(self) -> str:
        """Epochs of training, a range where arms differ."""
        counts = sorted({r.epochs for r in self.rows})
        return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

    @property
    def n(self) -> str:
        """Finished trials an arm, a range where arms differ."""
        counts = sorted({r.n for r in self.rows})
        return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for report.json."""
        rows = [asdict(r) | {"verdict": r.verdict} for r in self.rows]
        return {k: v for k, v in asdict(self).items() if k not in ("rows", "execution")} | {"rows": rows, "execution": dict(self.execution)}


def summarise(
    plan: Plan,
    results: Mapping[str, TrialResult],
    *,
    scorings: int,
    margin: float = MARGIN,
    robustness: Mapping[str, Robustness] | None = None,
) -> Summary:
    """The summary of `plan`, given the results so far (by trial id) and how often the data's test split was scored.

    `robustness` holds the scores on corrupted images so far, where the study asks for them.
    """
    split, chance = plan.study.score_on, 100 / plan.data["classes"]
    robust = robustness or {}
    replicates = [_replicates(arm, results, robust, split, chance) for arm in plan.arms]
    samples = [_sample(r) for r in replicates]
    roots = [_root(plan, arm) for arm in plan.arms]
    pairs = [(roots[a.index], roots[a.parent]) for a in plan.arms if a.parent is not None]
    distinct = [s if roots[i] == i else Sample(values=()) for i, s in enumerate(samples)]  # shared trials count once
    found = iter(deltas(distinct, pairs))
    by_arm = [next(found) if a.parent is not None else None for a in plan.arms]
    pooled = pooled_variance(distinct)
    track = track_named(plan.study.track) if plan.study.kind != "train" else None
    papers = [published(track, a.paper_key) if track else None for a in plan.arms]
    rows = tuple(
        _row(
            arm,
            replicates[i],
            samples[i],
            same_network=arm.parent is not None and roots[i] == roots[arm.parent],
            parent_mark="" if arm.parent is None or roots[i] == roots[arm.parent] else _parent_mark(samples[arm.parent]),
            interval=mean_interval(samples[i], pooled),
            delta=by_arm[i],
            paper=papers[i],
            margin=margin,
            corrupted=_corrupted([robust.get(t) for t in arm.trials], diverged=samples[i].diverged, chance=chance),
        )
        for i, arm in enumerate(plan.arms)
    )
    images = next((r.scores[split].images for r in results.values() if split in r.scores), None)
    source = track.paper_source if track and any(papers) else ""
    main = [a for a in plan.arms if not a.side and not a.placebo] or list(plan.arms)
    study = {k: v for k, v in plan.study.to_dict().items() if k not in (*EXECUTION, "seeds")} | {"seeds": plan.study.seeds}
    return Summary(
        name=plan.study.folder_name,
        title=track.title if track else plan.study.network,
        study=study,
        track=track.name if track else "",
        scale=plan.study.scale,
        data=plan.data,
        split=split,
        images=images,
        scorings=scorings,
        seeds=plan.study.seeds,
        confidence=CONFIDENCE,
        margin=margin,
        chance=chance,
        seed_sd=None if pooled is None else pooled.value**0.5,
        seed_df=None if pooled is None else pooled.df,
        rows=rows,
        footers=caveats(
            plan,
            results,
            pooled=pooled,
            judged=sum(d is not None and d.simultaneous is not None for d in by_arm),
            images=images,
            scorings=scorings,
            margin=margin,
            paper_source=source,
            robustness=robust,
        ),
        paper_source=source,
        recipes=(main[0].recipe.to_dict(), main[-1].recipe.to_dict()),
        execution=_execution(plan, results),
    )


def _replicates(
    arm: Arm, results: Mapping[str, TrialResult], robust: Mapping[str, Robustness], split: str, chance: float
) -> tuple[Replicate, ...]:
    out = []
    for seed, trial in zip(arm.seeds, arm.trials, strict=True):
        result = results.get(trial)
        scores = {k: s.top1 for k, s in result.scores.items()} if result else {}
        if result and result.status == "diverged":
            out.append(
                Replicate(seed=seed, trial=trial, status="diverged", top1=chance, scores=scores, diverged_epoch=result.diverged_epoch)
            )
        elif split in scores:
            corrupted = robust[trial].mean if trial in robust else None
            out.append(Replicate(seed=seed, trial=trial, status="complete", top1=scores[split], scores=scores, corrupted=corrupted))
        else:
            out.append(Replicate(seed=seed, trial=trial, status="missing", top1=None, scores=scores))
    return tuple(out)


def _corrupted(scored: Sequence[Robustness | None], *, diverged: int, chance: float) -> Corrupted | None:
    found = [r for r in scored if r is not None]
    if not found:
        return None
    level = Robustness(images=found[0].images, top1={name: (chance,) * len(values) for name, values in found[0].top1.items()})
    found += [level] * diverged
    means = [r.mean for r in found]
    return Corrupted(
        n=len(found),
        mean=fmean(means),
        sd=sd(means),
        by_corruption={name: fmean(r.by_corruption[name] for r in found) for name in level.top1},
        by_severity=tuple(fmean(values) for values in zip(*(r.by_severity for r in found), strict=True)),
    )


def _sample(replicates: tuple[Replicate, ...]) -> Sample:
    values = tuple(r.top1 for r in replicates if r.top1 is not None)
    return Sample(values=values, diverged=sum(r.status == "diverged" for r in replicates))


def _parent_mark(sample: Sample) -> str:
    if not sample.values:
        return "parent not run"
    if sample.diverged:
        return "parent diverged"
    return "parent n=1" if len(sample.values) == 1 else ""


def _root(plan: Plan, arm: Arm) -> int:
    """The index of the arm whose trials `arm` uses: its own, unless it is the same network."""
    while arm.same_as is not None:
        arm = plan.arms[arm.same_as]
    return arm.index


def _row(
    arm: Arm,
    replicates: tuple[Replicate, ...],
    sample: Sample,
    *,
    same_network: bool,
    parent_mark: str,
    interval: Interval | None,
    delta: Delta | None,
    paper: Published | None,
    margin: float,
    corrupted: Corrupted | None,
) -> Row:
    judged = delta is not None and delta.simultaneous is not None and arm.liveness.verdict
    return Row(
        index=arm.index,
        name=arm.name,
        title=arm.title,
        choice={k: "/".join(v) if isinstance(v, tuple) else str(v) for k, v in arm.choice.items()},
        parent=arm.parent,
        side=arm.side,
        placebo=arm.placebo,
        same_as=arm.same_as,
        same_network=same_network,
        parent_mark=parent_mark,
        network=arm.network,
        fingerprint=arm.fingerprint,
        params=arm.params,
        macs=arm.macs,
        macs_conv_linear=arm.macs_conv_linear,
        epochs=arm.epochs,
        replicates=replicates,
        n=len(sample.values),
        mean=mean(sample.values),
        sd=sd(sample.values),
        interval=interval,
        delta=delta,
        word=word(delta.simultaneous, margin=margin) if judged and delta and delta.simultaneous else None,
        diverged=sample.diverged,
        missing=sum(r.status == "missing" for r in replicates),
        liveness=arm.liveness.state,
        liveness_note=arm.liveness.note,
        paper=paper,
        corrupted=corrupted,
    )


def _execution(plan: Plan, results: Mapping[str, TrialResult]) -> dict[str, Any]:
    """How the study ran: its options for that, and a record a trial with device, versions, times, attempts and events."""
    study = plan.study.to_dict()
    used = [results[t] for t in dict.fromkeys(t for arm in plan.arms for t in arm.trials) if t in results]
    trials = [{k: v for k, v in r.to_dict().items() if k not in ("scores", "diverged_epoch", "status")} for r in used]
    return {"options": {k: study[k] for k in EXECUTION if k in study}, "seconds": sum(r.seconds for r in used), "trials": trials}
