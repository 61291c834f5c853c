"""A finished study without any training: the real arms of a track at micro scale, with results that could be true.

The store it writes is a real one (study.yaml, plan.json, trial.json, curve.jsonl, result.json, ledger), so that reports and
tracking are tested on the files that a run leaves behind.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection
from dataclasses import replace
from functools import cache
from pathlib import Path

from vitnas.roadmap.cost import Cost, cost
from vitnas.roadmap.spec import NetSpec
from vitnas.roadmap.steps import Choice, Rung, Selection, Track, select
from vitnas.roadmap.tracks import track as track_named
from vitnas.studies.plan import Arm, Liveness, Plan
from vitnas.studies.recipe import Recipe, preset, with_techniques
from vitnas.studies.store import Store, write_atomic, write_json
from vitnas.studies.study import Study
from vitnas.studies.study_file import write_study
from vitnas.studies.trial import DataRef, Execution, Score, Trial, TrialResult

CLASSES = 10
COUNTS = {"train": 1149, "validation": 288, "test": 360}
GOAL_TOP1 = 97.4  # of the last rung; the others keep the paper's distances, shrunk
SHRINK = 0.6
SEED_SD = 0.25


def synthetic_study(
    root: Path,
    *,
    seeds: int = 3,
    track: str = "convnext-t",
    steps: str = "all",
    epochs: int = 12,
    diverged: Collection[tuple[str, int]] = (),
    missing: Collection[tuple[str, int]] = (),
    score_on: str = "test",
) -> tuple[Store, Plan]:
    """A store in `root` with one study. `diverged` and `missing` name trials by (arm, seed); those not missing are complete."""
    study = Study(track=track, steps=steps, seeds=seeds, epochs=epochs, score_on=score_on)  # type: ignore[arg-type]
    plan = synthetic_plan(study)
    store = Store(root)
    store.prepare()
    folder = store.studies / study.folder_name
    write_study(folder / "study.yaml", study)
    write_json(folder / "plan.json", plan.to_dict())
    by_id = {t.id: t for t in plan.trials}
    for arm in plan.arms:
        for seed, trial_id in zip(arm.seeds, arm.trials, strict=True):
            if arm.same_as is not None or (arm.name, seed) in missing:
                continue
            write_trial(store, by_id[trial_id], top1=_expected(plan, arm), diverged=(arm.name, seed) in diverged, score_on=score_on)
    return store, plan


def synthetic_plan(study: Study) -> Plan:
    """The arms of `study` (a roadmap), as its design makes them."""
    track = track_named(study.track)
    selection = select(track, study.steps)
    ref = DataRef(name="digits", fingerprint="5d1fa27c90be4e31", classes=CLASSES, split_seed=study.split_seed)
    arms: list[Arm] = []
    trials: dict[str, Trial] = {}
    seen: dict[tuple[str, ...], int] = {}
    for index, rung in enumerate(selection.cumulative()):
        spec = track.spec(rung.choice, scale=study.scale, classes=CLASSES)
        recipe = _recipe(selection, rung.choice, study.recipe, track.scale(study.scale).input_size)
        mine = [Trial(network=spec, recipe=recipe, data=ref, epochs=study.epochs or 12, seed=s) for s in range(study.seeds)]
        trials |= {t.id: t for t in mine}
        ids = tuple(t.id for t in mine)
        arms.append(_arm(index, rung, track, spec, recipe, mine[0].epochs, ids, seen.get(ids)))
        seen.setdefault(ids, index)
    data = {
        "name": ref.name,
        "fingerprint": ref.fingerprint,
        "classes": CLASSES,
        "counts": COUNTS,
        "duplicates": {"train/test": 0, "train/validation": 0},
        "input_size": 32,
    }
    return Plan(study=study, arms=tuple(arms), data=data, notes=selection.notes, trials=tuple(trials.values()))


def write_trial(
    store: Store, trial: Trial, *, top1: float, diverged: bool = False, score_on: str = "test", **execution: object
) -> TrialResult:
    """Write what a run of `trial` leaves behind; `top1` is the expected value (%), `execution` replaces fields of Execution."""
    folder = store.add(trial)
    draw = random.Random(f"{trial.id}-{trial.seed}")
    last = trial.epochs if not diverged else max(1, trial.epochs // 3)
    final = {split: _counted(top1 + draw.gauss(0, SEED_SD), COUNTS[split]) for split in ("validation", "test")}
    write_curve(folder / "curve.jsonl", trial, final["validation"], last)
    splits = ["validation"] if score_on == "validation" else ["validation", "test"]
    scores = {} if diverged else {s: Score(images=COUNTS[s], top1=final[s], loss=round(0.6 - final[s] / 200, 4)) for s in splits}
    if "test" in scores:
        store.count_test_scoring(trial, "test")
    versions = {"python": "3.11.9", "torch": "2.13.0", "vitnas": "0.1.0"}
    default = Execution(device="cpu", threads=1, micro_batch=64, executor="ray", host="node-1", compiled=False, versions=versions)
    result = TrialResult(
        id=trial.id,
        status="diverged" if diverged else "complete",
        epochs=last,
        scores=scores,
        diverged_epoch=last if diverged else None,
        seconds=round(9 + draw.random(), 2),
        images_per_second=round(1400 + 100 * draw.random(), 1),
        attempts=1,
        finished="2025-05-06T07:08:09+00:00",
        execution=replace(default, **execution),  # type: ignore[arg-type]
    )
    write_json(folder / "result.json", result.to_dict())
    return result


def write_curve(path: Path, trial: Trial, final: float, epochs: int) -> None:
    """A curve that rises from chance to `final` (validation top-1, %), one record an epoch."""
    rows = []
    for epoch in range(1, epochs + 1):
        part = epoch / trial.epochs
        top1 = final - (final - 100 / CLASSES) * math.exp(-5 * part) if epoch < trial.epochs else final
        lr = 0.5 * trial.recipe.peak_lr * (1 + math.cos(math.pi * part))
        rows.append({"epoch": epoch, "loss": round(2.3 * math.exp(-3 * part) + 0.1, 4), "lr": lr, "top1": round(top1, 3), "seconds": 0.75})
    write_atomic(path, lambda file: file.write("".join(json.dumps(r) + "\n" for r in rows).encode()))


def _arm(index: int, rung: Rung, track: Track, spec: NetSpec, recipe: Recipe, epochs: int, ids: tuple[str, ...], same: int | None) -> Arm:
    c = _cost(spec, recipe.input_size)
    step = track.step(rung.name.partition("=")[0]) if index else None
    value = rung.name.partition("=")[2]
    liveness = Liveness()
    if step and step.name == "kernel-size":
        liveness = Liveness(state="partly", taps=240, touching=150, note="150 of 240 added kernel taps touch pixels")
    return Arm(
        index=index,
        name=rung.name,
        title=f"{step.title} {value}".strip() if step else track.base,
        parent=rung.parent,
        side=rung.side,
        choice=rung.choice,
        network=spec.name,
        fingerprint=spec.fingerprint,
        params=c.params,
        macs=c.macs,
        macs_conv_linear=c.macs_conv_linear,
        recipe=recipe,
        epochs=epochs,
        trials=ids,
        seeds=tuple(range(len(ids))),
        liveness=liveness if same is None else Liveness(state="same", note="the network is the one before"),
        same_as=same,
        paper_key=rung.name if rung.name in track.paper else "",
    )


def _recipe(selection: Selection, choice: Choice, name: str, input_size: int) -> Recipe:
    base, modern = preset(name).base, preset(name).modern
    step = next(s for s in selection.track.steps if s.owner == "recipe")
    techniques = [t for t in step.techniques if t not in selection.dropped] if step.name in choice else []
    return replace(with_techniques(base, modern, techniques), input_size=input_size, precision="float32")


def _expected(plan: Plan, arm: Arm) -> float:
    paper = track_named(plan.study.track).paper
    best = max(p.top1 for p in paper.values() if p.top1 is not None)
    here = paper[arm.paper_key].top1 if arm.paper_key else None
    return GOAL_TOP1 - SHRINK * (best - (here if here is not None else best - 1))


def _counted(top1: float, images: int) -> float:
    return 100 * min(images, round(images * top1 / 100)) / images


@cache
def _cost(spec: NetSpec, input_size: int) -> Cost:
    return cost(spec, input_size)
