"""Summary: a study's outcome as plain data, made of its plan and its trials' results. All outputs are drawn from it.

What depends on when and where trials ran is kept apart in `execution`, so that a study that was killed and resumed
has the same summary as an undisturbed one in every other field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...roadmap.spec import NetSpec
from ...roadmap.tracks import track as track_named
from ..declaration import declare
from ..plan import Arm, Plan
from ..robustness import Robustness
from ..statistics.means import CONFIDENCE, Delta, Interval, Sample, Word, mean, mean_interval, pooled_variance, sd
from ..study import EXECUTION
from ..trial import TrialResult
from .caveats import alarms, caveats
from .changes import Changed, Labels, changed_images
from .derived import derived
from .effects import EffectRow, acting, judge
from .latencies import Latencies, Timed, with_latency
from .published import Published, published
from .replicates import Corrupted, Replicate, corrupted, outcomes, replicates, sample


@dataclass(frozen=True, kw_only=True)
class Row:
    """One arm. Top-1 in %; `n` counts finished trials; `context` says under which levels of the study's factors it stands.

    `delta` (points) and `word` are those of the effect that compares it with the arm `parent` (an index): a roadmap's rungs have one.
    `same_as` is the index of the row whose trials it shares; `same_network` where that makes it equal to its parent.
    `parent_mark` says what is amiss with the parent, which weakens the delta. `ms` is the latency of the network that stands for the arm,
    `ms_interval` its interval and `ms_p99` its 99th percentile, where the study has them. `derived` are all values of network and recipe.
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
    derived: Mapping[str, str]
    context: str = ""
    ms: float | None = None
    ms_interval: Interval | None = None
    ms_p99: float | None = None
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
        parts += acting(self.same_network, self.liveness)
        mark = "" if self.n == 1 and self.parent_mark == "parent n=1" else self.parent_mark
        return ", ".join(p for p in (*parts, self.note, mark) if p)

    @property
    def note(self) -> str:
        """What a reader must know of the arm by itself."""
        parts = [f"{self.diverged}/{self.n} diverged"] if self.diverged else []
        if self.n == 1:
            parts.append("n=1")
        if self.missing:
            parts.append(f"{self.missing} of {len(self.replicates)} not run" if self.n else "not run")
        if self.placebo:
            parts.append("placebo")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Everything that a report shows. `split` is the one reported, of `images` images; `recipes` are those of the first and the last
    arm; `seed_sd` is the pooled standard deviation over seeds (points) with its degrees of freedom, `correlation` that of arms at equal
    seeds, `equal_variances_p` the p-value of equal variances. `alarms` say what makes the study not to be trusted. `changed` holds
    the images that the effects of single steps won and lost. `latency_of` says which networks' latencies stand beside the arms, and on
    which device."""

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
    correlation: float | None
    equal_variances_p: float | None
    rows: tuple[Row, ...]
    effects: tuple[EffectRow, ...]
    changed: tuple[Changed, ...]
    alarms: tuple[str, ...]
    footers: tuple[str, ...]
    declaration: Mapping[str, str]
    paper_source: str
    latency_of: str
    recipes: tuple[Mapping[str, Any], Mapping[str, Any]]
    execution: Mapping[str, Any]

    @property
    def ablation(self) -> bool:
        """Whether its effects are not simply those of each arm against its parent, so that its arms have no deltas."""
        return self.study["kind"] in ("ablate", "tune")

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
        effects = [asdict(e) | {"verdict": e.verdict} for e in self.effects]
        out = {k: v for k, v in asdict(self).items() if k not in ("rows", "effects", "execution")}
        return out | {"rows": rows, "effects": effects, "execution": dict(self.execution)}


def summarise(
    plan: Plan,
    results: Mapping[str, TrialResult],
    *,
    scorings: int,
    robustness: Mapping[str, Robustness] | None = None,
    correct: Mapping[str, NDArray[np.bool_]] | None = None,
    labels: Labels | None = None,
    networks: Mapping[str, NetSpec] | None = None,
    latency: Latencies | None = None,
) -> Summary:
    """The summary of `plan`, given the results so far (by trial id) and how often the data's test split was scored.

    What else is at hand adds to it: `robustness`, the scores on corrupted images by trial; `correct`, per-image results by trial, with
    the images' `labels`; `networks` by their fingerprints; `latency`, the readings of the arms.
    """
    split, chance, margin = plan.study.score_on, 100 / plan.data["classes"], plan.study.margin
    robust, specs, times = robustness or {}, networks or {}, latency or Latencies(by_arm={})
    found = [replicates(arm, results, robust, split, chance) for arm in plan.arms]
    samples = [sample(r) for r in found]
    matrix = outcomes(plan, found)
    track = track_named(plan.study.track) if plan.study.kind != "train" else None
    images = next((r.scores[split].images for r in results.values() if split in r.scores), None)
    judged = judge(plan, matrix, track=track, images=images, correct=correct)
    judged = replace(judged, effects=with_latency(plan, judged.effects, times.by_arm))
    own = _own(plan, judged.effects)
    pooled = pooled_variance([samples[i] for i in matrix.arms])
    in_order = plan.study.kind == "roadmap" or plan.study.design == "cumulative"  # the paper's rungs are no others' arms
    rows = []
    for i, arm in enumerate(plan.arms):
        effect, parent = own.get(i, (None, arm.parent))
        same = parent is not None and plan.root(arm) == plan.root(plan.arms[parent])
        robust_here = [robust.get(t) for t in arm.trials]
        rows.append(
            _row(
                arm,
                found[i],
                samples[i],
                effect=effect,
                parent=parent,
                same_network=same,
                parent_mark="" if parent is None or same else _parent_mark(samples[parent]),
                interval=mean_interval(samples[i], pooled),
                paper=published(track, arm.paper_key) if track and in_order else None,
                corrupted=corrupted(robust_here, diverged=samples[i].diverged, chance=chance),
                derived=derived(arm, specs.get(arm.fingerprint)),
                timed=times.by_arm.get(arm.index),
            )
        )
    source = track.paper_source if track and any(r.paper for r in rows) else ""
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
        seed_sd=judged.analysis.seed_sd,
        seed_df=judged.analysis.df,
        correlation=judged.analysis.correlation,
        equal_variances_p=judged.analysis.equal_variances_p,
        rows=tuple(rows),
        effects=judged.effects,
        changed=changed_images(plan, matrix, judged.effects, correct or {}, labels),
        alarms=alarms(judged.effects),
        declaration=declare(plan),
        footers=caveats(
            plan,
            results,
            judged=judged,
            images=images,
            scorings=scorings,
            margin=margin,
            paper_source=source,
            robustness=robust,
            latency=times.notes,
        ),
        paper_source=source,
        latency_of=f"{times.of}; {times.device}" if times.by_arm else "",
        recipes=(main[0].recipe.to_dict(), main[-1].recipe.to_dict()),
        execution=_execution(plan, results),
    )


def _own(plan: Plan, effects: tuple[EffectRow, ...]) -> dict[int, tuple[EffectRow, int]]:
    """(effect, parent) by arm, for effects in the paper's order and the placebo, which each compare one arm with one other."""
    out = {}
    for effect, row in zip(plan.effects, effects, strict=True):
        sides = {weight: arm for arm, weight in effect.weights}
        if (row.estimand == "in the paper's order" or row.placebo) and not row.context and set(sides) == {1.0, -1.0}:
            out[sides[1.0]] = (row, sides[-1.0])
    return out


def _parent_mark(sample: Sample) -> str:
    if not sample.values:
        return "parent not run"
    if sample.diverged:
        return "parent diverged"
    return "parent n=1" if len(sample.values) == 1 else ""


def _row(
    arm: Arm,
    found: tuple[Replicate, ...],
    sample: Sample,
    *,
    effect: EffectRow | None,
    parent: int | None,
    same_network: bool,
    parent_mark: str,
    interval: Interval | None,
    paper: Published | None,
    corrupted: Corrupted | None,
    derived: Mapping[str, str],
    timed: Timed | None,
) -> Row:
    delta = None
    if effect is not None and effect.value is not None and not effect.placebo:
        delta = Delta(value=effect.value, interval=effect.interval, simultaneous=effect.simultaneous)
    return Row(
        index=arm.index,
        name=arm.name,
        title=arm.title,
        choice={k: "/".join(v) if isinstance(v, tuple) else str(v) for k, v in arm.choice.items()},
        parent=parent,
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
        replicates=found,
        n=len(sample.values),
        mean=mean(sample.values),
        sd=sd(sample.values),
        interval=interval,
        delta=delta,
        word=effect.word if effect else None,
        diverged=sample.diverged,
        missing=sum(r.status == "missing" for r in found),
        liveness=arm.liveness.state,
        liveness_note=arm.liveness.note,
        paper=paper,
        derived=derived,
        context=arm.context,
        ms=timed.ms if timed else None,
        ms_interval=timed.interval if timed else None,
        ms_p99=timed.p99 if timed else None,
        corrupted=corrupted,
    )


def _execution(plan: Plan, results: Mapping[str, TrialResult]) -> dict[str, Any]:
    """How the study ran: its options for that, and a record a trial with device, versions, times, attempts and events."""
    study = plan.study.to_dict()
    used = [results[t] for t in dict.fromkeys(t for arm in plan.arms for t in arm.trials) if t in results]
    trials = [{k: v for k, v in r.to_dict().items() if k not in ("scores", "diverged_epoch", "status")} for r in used]
    return {"options": {k: study[k] for k in EXECUTION if k in study}, "seconds": sum(r.seconds for r in used), "trials": trials}
