"""The paper's side of a comparison: its step effects with the noise it reports, and what its own setting was."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...roadmap.steps import Choice, Track
from ..plan import Plan
from ..recipe import preset
from ..statistics.means import CONFIDENCE, Interval, t_quantile
from .agreement import Side
from .published import published, row_before

SEEDS = 3  # behind every standard deviation that a track's paper gives (2201.03545, Tables 10 and 11)
IMAGENET = re.compile(r"(imagenet|ilsvrc)(2012)?([-_ ]?1k)?", re.IGNORECASE)
CLASSES = 1000
INPUT_SIZE = 224
RECIPE = "imagenet-paper"


@dataclass(frozen=True, kw_only=True)
class PaperEffect:
    """The paper's own delta for one row (points), its standard error with degrees of freedom, and its interval.

    The error is that of a difference of two means over three seeds, sqrt((sd1^2 + sd2^2) / 3), with Welch's degrees of freedom
    (Biometrika 34, 1947). All are None where either row lacks a standard deviation.
    """

    key: str
    delta: float
    se: float | None = None
    df: float | None = None
    interval: Interval | None = None


def paper_effect(track: Track, key: str) -> PaperEffect | None:
    """The paper's delta for the row `key`; None where it reports none."""
    found = published(track, key)
    if found is None or found.delta is None:
        return None
    weights = dict(zip(track.paper, _contrast(track, key), strict=True))
    if any(track.paper[rung].sd is None for rung, weight in weights.items() if weight):
        return PaperEffect(key=key, delta=found.delta)
    se, df = _error(track, _contrast(track, key))
    half = t_quantile(CONFIDENCE, df) * se
    return PaperEffect(key=key, delta=found.delta, se=se, df=df, interval=Interval(low=found.delta - half, high=found.delta + half))


def paper_side(track: Track, effects: Sequence[PaperEffect]) -> Side:
    """The paper's effects as one side of a comparison of ranks; neighbours share a row and its noise.

    A pair is resolved where the 95 % interval of the difference of its two effects excludes zero. Where the paper gives no standard
    deviation at all, its values stand as printed: every pair that differs counts, and there is no noise.
    """
    values = np.array([e.delta for e in effects])
    if all(e.se is None for e in effects):
        return Side(values=values, covariance=None, resolved=np.abs(values[:, None] - values[None]) > 1e-9)
    rows = np.array([_contrast(track, e.key) for e in effects])
    variances = np.array([(p.sd or 0.0) ** 2 / SEEDS for p in track.paper.values()])
    resolved = np.zeros((len(effects), len(effects)), dtype=bool)
    for i, a in enumerate(effects):
        for j, b in enumerate(effects):
            if i != j and a.se is not None and b.se is not None:
                se, df = _error(track, rows[i] - rows[j])
                resolved[i, j] = bool(abs(a.delta - b.delta) > t_quantile(CONFIDENCE, df) * se)
    return Side(values=values, covariance=rows * variances @ rows.T, resolved=resolved)


def departures(track: Track, plan: Plan) -> tuple[str, ...]:
    """In what a study departs from the paper's setting: data, scale, input, recipe and epochs; empty at the paper's own."""
    study, data, its = plan.study, plan.data, preset(RECIPE)
    out = []
    if not IMAGENET.fullmatch(data["name"]) or data["classes"] != CLASSES:
        out.append(f"data {data['name']} ({data['classes']} classes) instead of ImageNet-1K")
    if data["fraction"] != 1:
        out.append(f"{100 * data['fraction']:g} % of the training images")
    if study.score_on != "test":
        out.append(f"scored on {study.score_on} instead of ImageNet's validation images, the test part here")
    if study.scale != "paper":
        out.append(f"scale {study.scale} instead of paper")
    if data["input_size"] != INPUT_SIZE:
        out.append(f"{data['input_size']} pixels instead of {INPUT_SIZE}")
    if study.recipe != RECIPE:
        out.append(f"recipe {study.recipe} instead of {RECIPE}")
    if study.set:
        out.append("recipe fields changed: " + ", ".join(f"{k}={v}" for k, v in study.set.items()))
    if study.distill_from:
        out.append(f"a teacher, {study.distill_from}")
    if study.tune:
        out.append(f"arms tuned by {study.tune}")
    group = next((s.name for s in track.steps if s.techniques), None)
    for arm in plan.arms:
        old = group is not None and group not in arm.choice
        epochs = its.base_epochs if old and its.base_epochs else its.epochs
        if arm.epochs != epochs:
            out.append(f"{arm.epochs} epochs instead of {epochs} ({arm.name})")
            break
    return tuple(out)


def other_corner(track: Track, key: str, with_step: Choice, without: Choice) -> str:
    """What stands differently under the step than in the paper's table, in words; empty where the comparison is the paper's own."""
    name = key.partition("=")[0]
    step = track.step(name)
    before = {s.name: s.value for s in track.steps[: track.steps.index(step)] if s.adopted and s.name in track.paper}
    missing = [s for s in before if without.get(s) != before[s]]
    more = [s for s in without if s not in before]
    more += [s for s in with_step if s != step.name and s not in without]
    words = [f"without {_few(missing)}"] if missing else []
    words += [f"with {_few(more)}"] if more else []
    return f"unlike the paper {' and '.join(words)}" if words else ""


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 4 else f"{names[0]}, {names[1]} and {len(names) - 2} more"


def _contrast(track: Track, key: str) -> list[float]:
    """Weights over the rows of the paper's table."""
    before = row_before(track, key)
    return [1.0 if rung == key else -1.0 if row is before else 0.0 for rung, row in track.paper.items()]


def _error(track: Track, weights: Sequence[float] | np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    """Standard error and Welch's degrees of freedom of a weighted sum of the paper's rows."""
    parts = [w**2 * (p.sd or 0.0) ** 2 / SEEDS for w, p in zip(weights, track.paper.values(), strict=True)]
    return float(sum(parts) ** 0.5), float(sum(parts) ** 2 / sum(p**2 / (SEEDS - 1) for p in parts))
