"""Changes: the images and classes that each step won and lost, from the trials' per-image results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..plan import Plan
from ..store import Store, read_json
from ..trial import TrialResult
from .effects import EffectRow
from .replicates import Outcomes

LARGEST = 5  # images named for each step on either side

Correct = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True, kw_only=True)
class Labels:
    """The classes' names, and the class of every image of the split `(N,)`."""

    names: tuple[str, ...]
    classes: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ChangedImage:
    """An image by its index in the split and its class (None where it is not known); `net` is the share of the seeds that got it right
    with the step minus the share without."""

    index: int
    label: str | None
    net: float


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What one effect changed: `net` images won minus lost, the mean over seeds; `by_class` the same by class (empty where the images'
    classes are not known); the images that changed most, `won` and `lost`."""

    name: str
    label: str
    estimand: str
    net: float
    by_class: Mapping[str, float]
    won: tuple[ChangedImage, ...]
    lost: tuple[ChangedImage, ...]


def read_correct(store: Store, plan: Plan, results: Mapping[str, TrialResult]) -> dict[str, NDArray[np.bool_]]:
    """By trial, whether each image of the reported split was classified rightly `(N,)`, where the trial's predictions are at hand."""
    split = plan.study.score_on
    out = {}
    for trial, result in results.items():
        path = store.trial_folder(trial) / "predictions.npz"
        if split not in result.scores or not path.exists():
            continue
        with np.load(path) as stored:
            bits = stored.get(f"{split}_correct")
        if bits is not None:
            out[trial] = np.unpackbits(bits, count=result.scores[split].images).astype(bool)
    return out


def read_labels(store: Store, plan: Plan) -> Labels | None:
    """The classes of the test split's images, from the store's prepared data; None where those are not at hand, and for validation."""
    if plan.study.score_on != "test":
        return None
    store.refresh_labels()
    for meta in sorted(store.data.glob("*/meta.json")):
        data = read_json(meta)
        if isinstance(data, dict) and data.get("fingerprint") == plan.data["fingerprint"] and (meta.parent / "test_labels.npy").exists():
            return Labels(names=tuple(data["class_names"]), classes=np.load(meta.parent / "test_labels.npy"))
    return None


def changed_images(
    plan: Plan, found: Outcomes, effects: Sequence[EffectRow], correct: Correct, labels: Labels | None
) -> tuple[Changed, ...]:
    """What every effect of one step changed, image by image.

    Left out are effects whose arms lack a per-image result, those of one network with itself, interactions, and those with a diverged
    trial: survivors alone would flatter it.
    """
    shares: list[NDArray[np.float64] | None] = []
    for trials, values, diverged in zip(found.trials, found.values, found.diverged, strict=True):
        done = [correct[t] for t, v in zip(trials, values, strict=True) if np.isfinite(v) and t in correct]
        whole = len(done) == np.sum(np.isfinite(values)) > 0 and not diverged.any()
        shares.append(np.mean(done, axis=0) if whole else None)
    out = []
    for effect, row in zip(plan.effects, effects, strict=True):
        weights = plan.row(effect.weights)
        used = [(w, shares[i]) for i, w in enumerate(weights) if w]
        if row.order > 1 or not used or any(share is None for _, share in used):
            continue
        net = np.sum([w * share for w, share in used if share is not None], axis=0)
        if labels is not None and len(labels.classes) != len(net):
            labels = None
        out.append(_changed(row, net, labels))
    return tuple(out)


def _changed(row: EffectRow, net: NDArray[np.float64], labels: Labels | None) -> Changed:
    by_class = {}
    if labels:
        sums = np.bincount(labels.classes, weights=net, minlength=len(labels.names))
        by_class = {name: round(float(total), 6) for name, total in zip(labels.names, sums, strict=True)}
    order = np.argsort(-net, kind="stable")

    def images(indices: NDArray[np.int64]) -> tuple[ChangedImage, ...]:
        return tuple(
            ChangedImage(index=int(i), label=labels.names[labels.classes[i]] if labels else None, net=round(float(net[i]), 6))
            for i in indices
        )

    return Changed(
        name=row.name,
        label=row.label,
        estimand=row.estimand,
        net=round(float(net.sum()), 6),
        by_class=by_class,
        won=images(np.array([i for i in order[:LARGEST] if net[i] > 1e-9], dtype=np.int64)),
        lost=images(np.array([i for i in np.argsort(net, kind="stable")[:LARGEST] if net[i] < -1e-9], dtype=np.int64)),
    )
