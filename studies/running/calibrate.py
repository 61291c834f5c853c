"""A short calibration: seconds an epoch of every distinct training, from a few real steps on this machine, and the energy they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..data.feed import Feed
from ..data.prepare import Prepared, split
from ..data.prepared import open_prepared
from ..latency.power import energy_counter
from ..store import Store
from ..training.images import training_images
from ..training.run_trial import How, configure
from ..training.teacher import load_teacher
from ..training.train import Training
from ..trial import Trial

if TYPE_CHECKING:
    from .driver import Prospect

STEPS = 2  # in each of two passes; the first warms up
TIMED = 12  # networks; between them, time goes by multiply-adds

Kind = tuple[str, int, float]  # network fingerprint, batch, fraction of the data: what a trial's time goes by


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Seconds an epoch by kind of training, one training at a time on this machine; `watts` while it trained, where the device tells."""

    epochs: Mapping[Kind, float]
    watts: float | None

    def seconds(self, trial: Trial) -> float:
        """Seconds of training that `trial` takes here, alone."""
        return trial.epochs * self.epochs[kind_of(trial)]


def kind_of(trial: Trial) -> Kind:
    """What a trial's time goes by."""
    return trial.network.fingerprint, trial.recipe.batch_size, trial.data.fraction


def steps_per_epoch(prepared: Prepared, trial: Trial) -> int:
    """Optimizer steps an epoch of `trial`."""
    images = len(training_images(prepared, trial.data)[0])
    return max(1, images // min(trial.recipe.batch_size, images))


def calibrate(ready: Prospect, *, say: Callable[[str], None]) -> Calibration:
    """Time a few steps of the trainings that are left to do (of `TIMED` networks at most): their mean, times the steps of an epoch."""
    machine = ready.machine
    configure(How(device=machine.device, threads=machine.threads))
    prepared = open_prepared(ready.data)
    device = torch.device(machine.device)
    macs = {a.fingerprint: a.macs for a in ready.plan.arms}
    kinds = {(t.network.fingerprint, t.recipe.batch_size): t for t in ready.todo}
    ranked = sorted(kinds, key=lambda k: (macs[k[0]] * k[1], k))
    timed = ranked if len(ranked) <= TIMED else [ranked[round(i * (len(ranked) - 1) / (TIMED - 1))] for i in range(TIMED)]
    per_step: dict[tuple[str, int], float] = {}
    joules, began = energy_counter(machine.device), time.perf_counter()
    before = joules() if joules else 0.0
    for i, key in enumerate(timed, 1):
        say(f"timing {i} of {len(timed)}" + (f" ({len(ranked)} networks in all)" if len(timed) < len(ranked) else ""))
        per_step[key] = seconds_a_step(ready.store, kinds[key], prepared, device, machine.processes, ready.plan.study.micro_batch)
    spent = joules() - before if joules else 0.0  # a counter that began anew meanwhile is below what it was
    watts = spent / (time.perf_counter() - began) if spent > 0 else None
    work = [macs[k[0]] * k[1] for k in timed]
    for key in ranked:
        per_step.setdefault(key, float(np.interp(macs[key[0]] * key[1], work, [per_step[k] for k in timed])))
    out = {
        kind_of(t): per_step[t.network.fingerprint, t.recipe.batch_size] * steps_per_epoch(prepared, t)
        for t in {kind_of(t): t for t in ready.todo}.values()
    }
    return Calibration(epochs=out, watts=watts)


def seconds_a_step(
    store: Store, trial: Trial, prepared: Prepared, device: torch.device, processes: int = 1, micro_batch: int | None = None
) -> float:
    """Seconds of an optimizer step of `trial` on `device`, with its batch shared among so many processes."""
    train, _ = split(prepared, trial.data.split_seed)
    few = train[: STEPS * min(trial.recipe.batch_size, len(train))]
    training = Training(
        trial,
        Feed(prepared, "train", few, device),
        mean=prepared.mean,
        std=prepared.std,
        micro_batch=micro_batch or trial.recipe.batch_size // processes if processes > 1 else micro_batch,
        teacher=load_teacher(store, trial.recipe.teacher, device) if trial.recipe.teacher else None,
    )
    training.train_epoch()
    started = time.perf_counter()
    training.train_epoch()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / training.steps_per_epoch / processes  # what they tell each other is not counted
