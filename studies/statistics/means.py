"""Means of a few seeds' results, the words that an interval earns, and the types that both are told in.

A mean's interval rests on the variance over seeds pooled over arms; an arm with diverged trials brings a variance of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

CONFIDENCE = 0.95
MARGIN = 0.3  # points of top-1 within which a step changes nothing that matters

Word = Literal["helps", "hurts", "equivalent", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Top-1 (%) of one arm's finished trials; `diverged` of them are among the values, at chance level."""

    values: tuple[float, ...]
    diverged: int = 0

    @property
    def regular(self) -> bool:
        """Whether its seed noise is that of the other arms."""
        return self.diverged == 0


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Both ends of a confidence interval, in points of top-1 unless its owner says otherwise."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Delta:
    """Mean of an arm minus mean of its parent (points), its interval alone, and the one that holds for all deltas at once."""

    value: float
    interval: Interval | None = None
    simultaneous: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class Variance:
    """An estimated variance (points squared) and its degrees of freedom."""

    value: float
    df: float


def mean(values: Sequence[float]) -> float | None:
    """The mean, or None without values."""
    return sum(values) / len(values) if values else None


def sd(values: Sequence[float]) -> float | None:
    """The standard deviation with n - 1 in the denominator, or None below two values."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def pooled_variance(samples: Sequence[Sample]) -> Variance | None:
    """Seed variance pooled over the arms in which nothing diverged; None where it cannot be told (one seed, or no scatter at all)."""
    used = [s.values for s in samples if s.regular and len(s.values) > 1]
    df = sum(len(v) - 1 for v in used)
    squares = sum(float(np.var(v, ddof=1)) * (len(v) - 1) for v in used)
    return Variance(value=squares / df, df=df) if squares > 0 else None


def own_variance(sample: Sample, pooled: Variance | None) -> Variance | None:
    """The variance that describes a sample: the pooled one, or its own where some of it diverged. None below two values."""
    if len(sample.values) < 2:
        return None
    if sample.regular:
        return pooled
    return Variance(value=float(np.var(sample.values, ddof=1)), df=len(sample.values) - 1)


def mean_interval(sample: Sample, pooled: Variance | None, *, confidence: float = CONFIDENCE) -> Interval | None:
    """Student's interval of the mean, within [0, 100]; None where there is no variance to go by."""
    variance = own_variance(sample, pooled)
    if variance is None or variance.value == 0:
        return None
    centre = float(np.mean(sample.values))
    half = t_quantile(confidence, variance.df) * (variance.value / len(sample.values)) ** 0.5
    return Interval(low=max(0.0, centre - half), high=min(100.0, centre + half))


def t_quantile(confidence: float, df: float) -> float:
    """Student's two-sided quantile."""
    from scipy.special import stdtrit  # type: ignore[import-untyped]

    return float(stdtrit(df, 0.5 + confidence / 2))


def word(simultaneous: Interval, *, margin: float = MARGIN) -> Word:
    """What an interval says: *helps* or *hurts* where it excludes zero, *equivalent* within plus or minus `margin`, else *undecided*."""
    if simultaneous.low > 0:
        return "helps"
    if simultaneous.high < 0:
        return "hurts"
    if -margin <= simultaneous.low and simultaneous.high <= margin:
        return "equivalent"
    return "undecided"
