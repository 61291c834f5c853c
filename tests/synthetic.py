"""A finished study without any training: the real arms of a track at micro scale, with results that could be true.

The store it writes is a real one (study.yaml, plan.json, trial.json, curve.jsonl, predictions.npz, result.json, ledger, labels of the
prepared data), so that reports and tracking are tested on the files that a run leaves behind.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from vitnas.roadmap.tracks import track as track_named
from vitnas.studies.designs.planner import plan_study
from vitnas.studies.plan import Arm, Plan
from vitnas.studies.store import Store, write_atomic, write_json
from vitnas.studies.study import Study
from vitnas.studies.study_file import write_study
from vitnas.studies.trial import Execution, Score, Trial, TrialResult

CLASSES = 10
COUNTS = {"train": 1149, "validation": 288, "test": 360}
GOAL_TOP1 = 97.4  # of the last rung; the others keep the paper's distances, shrunk
SHRINK = 0.6
SEED_SD = 0.25
PAYS = {  # points of top-1 in an ablation, where every step that is on adds its own
    "recipe": 2.4,
    "stage-ratio": 0.5,
    "depthwise": -1.2,
    "width": 1.5,
    "inverted-bottleneck": 0.4,
    "move-up-depthwise": -0.6,
    "kernel-size": 0.8,
    "fewer-activations": 0.9,
    "separate-downsampling": 0.6,
}
BASE_TOP1 = 91.0
TOGETHER = {("gelu", "layer-norm"): 1.6}  # points more where both are on


@dataclass(frozen=True)
class Digits:
    """What a plan asks of prepared data."""

    name: str = "digits"
    fingerprint: str = "5d1fa27c90be4e31"
    classes: int = CLASSES
    mirror: bool = False
    duplicates: int = 0


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
    shift: float = 0.0,
    **options: Any,
) -> tuple[Store, Plan]:
    """A store in `root` with one study. `diverged` and `missing` name trials by (arm, seed); those not missing are complete.

    `options` are further fields of the study, such as `kind="ablate"` and its design. `shift` is added to the placebo (points).
    """
    named = {"track": track, "steps": steps, "seeds": seeds, "epochs": epochs, "score_on": score_on}
    plan = _drawn_up(json.dumps(named | options))
    study = plan.study
    store = Store(root)
    store.prepare()
    write_labels(store)
    folder = store.studies / study.folder_name
    write_study(folder / "study.yaml", study)
    write_json(folder / "plan.json", plan.to_dict())
    by_id = {t.id: t for t in plan.trials}
    for arm in plan.arms:
        for seed, trial_id in zip(arm.seeds, arm.trials, strict=True):
            if arm.same_as is not None or (arm.name, seed) in missing:
                continue
            top1 = _expected(plan, arm) + shift * arm.placebo
            write_trial(store, by_id[trial_id], top1=top1, diverged=(arm.name, seed) in diverged, score_on=score_on)
    return store, plan


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
    write_predictions(folder / "predictions.npz", trial, {s: scores[s].top1 for s in scores})
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


def write_predictions(path: Path, trial: Trial, top1: dict[str, float]) -> None:
    """Which images were right, as a run keeps it: as many as `top1` (%, by split) says, the same hard images in most trials."""
    generator = np.random.default_rng(int(trial.id, 16))
    stored: dict[str, Any] = {}
    for split, value in top1.items():
        images = COUNTS[split]
        hard = np.random.default_rng(7).permutation(images) / images + 0.06 * generator.standard_normal(images)
        correct = np.argsort(np.argsort(hard)) < round(images * value / 100)
        stored[f"{split}_correct"] = np.packbits(correct)
        stored[f"{split}_probability"] = np.where(correct, 0.9, 0.2).astype(np.float32)
    buffer = BytesIO()
    np.savez(buffer, **stored)
    write_atomic(path, lambda file: file.write(buffer.getbuffer()))


def write_labels(store: Store) -> None:
    """Of the prepared data, what a report reads: the classes of the test images."""
    folder = store.data / "digits-32"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "test_labels.npy", np.arange(COUNTS["test"]) % CLASSES)
    write_json(folder / "meta.json", {"fingerprint": Digits().fingerprint, "class_names": [f"digit {i}" for i in range(CLASSES)]})


@cache
def _drawn_up(options: str) -> Plan:
    return plan_study(Study(**json.loads(options)), Digits(), precision="float32")


def _expected(plan: Plan, arm: Arm) -> float:
    if plan.study.kind == "ablate":
        pairs = sum(points for pair, points in TOGETHER.items() if set(pair) <= set(arm.choice))
        return BASE_TOP1 + sum(PAYS.get(name, 0.0) for name in arm.choice) + pairs - 4 * (1 - arm.fraction)
    paper = track_named(plan.study.track).paper
    best = max(p.top1 for p in paper.values() if p.top1 is not None)
    here = paper[arm.paper_key].top1 if arm.paper_key in paper else None
    return GOAL_TOP1 - SHRINK * (best - (here if here is not None else best - 1))


def _counted(top1: float, images: int) -> float:
    return 100 * min(images, round(images * top1 / 100)) / images
