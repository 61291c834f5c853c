"""Seed noise: the standard deviation of top-1 over seeds, as the store knows it for the data and the length of training at hand."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ..plan import Plan
from ..statistics.power import DEFAULT_SD
from ..store import Store, StoreError
from ..trial import Trial


@dataclass(frozen=True, kw_only=True)
class Noise:
    """A standard deviation over seeds (points of top-1), its degrees of freedom (None for an assumed one), and where it is from."""

    sd: float
    df: int | None
    source: str


def noise_for(store: Store, plan: Plan) -> Noise:
    """From this study's own arms where they have seeds already, else from other trials on the same data, split and length, else assumed."""
    split = plan.study.score_on
    own = [[r.scores[split].top1 for t in a.trials if (r := store.result(t)) and split in r.scores] for a in plan.arms if a.same_as is None]
    if found := _pooled(own, "this study's trials so far"):
        return found
    sample = plan.trials[0] if plan.trials else None
    if sample and (found := _pooled(_alike(store, sample, split), "other trials of this store on the same data and epochs")):
        return found
    return Noise(sd=DEFAULT_SD, df=None, source="assumed, for want of trials in this store")


def _alike(store: Store, sample: Trial, split: str) -> list[list[float]]:
    groups: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for folder in sorted(store.trials.iterdir()) if store.trials.is_dir() else ():
        result = store.result(folder.name)
        if result is None or split not in result.scores:
            continue
        try:
            trial = store.trial(folder.name)
        except (StoreError, ValueError):
            continue
        if (trial.data.fingerprint, trial.data.split_seed, trial.epochs) == (
            sample.data.fingerprint,
            sample.data.split_seed,
            sample.epochs,
        ):
            groups[trial.network.fingerprint, repr(trial.recipe)].append(result.scores[split].top1)
    return list(groups.values())


def _pooled(groups: list[list[float]], source: str) -> Noise | None:
    used = [g for g in groups if len(g) > 1]
    df = sum(len(g) - 1 for g in used)
    squares = sum(float(np.var(g)) * len(g) for g in used)
    if not squares:
        return None
    return Noise(sd=(squares / df) ** 0.5, df=df, source=f"{source}, {df} degree{'s' if df > 1 else ''} of freedom")
