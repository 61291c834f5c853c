"""A short calibration: seconds an epoch of every distinct network, from a few real training steps on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from ..data.feed import Feed
from ..data.prepare import split, subset
from ..data.prepared import open_prepared
from ..training.run_trial import How, configure
from ..training.teacher import load_teacher
from ..training.train import Training

if TYPE_CHECKING:
    from .driver import Prospect

STEPS = 2  # in each of two passes; the first warms up


def seconds_per_epoch(ready: Prospect, *, say: Callable[[str], None]) -> dict[str, float]:
    """Seconds an epoch by network fingerprint, for the trials that are left to train: a few steps' mean, times the steps.
    They are what this machine takes now, one training at a time."""
    machine = ready.machine
    configure(How(device=machine.device, threads=machine.threads))
    prepared = open_prepared(ready.data)
    out: dict[str, float] = {}
    for trial in ready.todo:
        if trial.network.fingerprint in out:
            continue
        train, _ = split(prepared, trial.data.split_seed)
        train = subset(train, prepared.labels("train")[train], trial.data.fraction, trial.data.split_seed)
        steps = len(train) // min(trial.recipe.batch_size, len(train))
        device = torch.device(machine.device)
        few = train[: STEPS * min(trial.recipe.batch_size, len(train))]
        say(f"timing {trial.network.name or trial.network.fingerprint}")
        training = Training(
            trial,
            Feed(prepared, "train", few, device),
            mean=prepared.mean,
            std=prepared.std,
            micro_batch=ready.plan.study.micro_batch,
            teacher=load_teacher(ready.store, trial.recipe.teacher, device) if trial.recipe.teacher else None,
        )
        training.train_epoch()
        started = time.perf_counter()
        training.train_epoch()
        if device.type == "cuda":
            torch.cuda.synchronize()
        out[trial.network.fingerprint] = (time.perf_counter() - started) / training.steps_per_epoch * steps
    return out
