"""Means and differences of a few seeds' results, with intervals that hold together over a whole study.

The model: a trial's top-1 is its arm's mean plus seed noise, whose variance is the same in all arms and pooled over them (a
one-way layout). Arms that diverged break that model and bring a variance of their own. Same seeds share order and augmentation
across arms; they are treated as independent, which errs on the wide side where they help or hurt all arms alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
MARGIN = 0.3  # points of top-1 within which a step changes nothing that matters
DRAWS = 200_000

Word = Literal["helps", "hurts", "equivalent", "undecided"]
Pair = tuple[int, int]  # (arm, parent), indices of samples


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
    """Both ends of a confidence interval, in points of top-1."""

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


def deltas(samples: Sequence[Sample], pairs: Sequence[Pair], *, confidence: float = CONFIDENCE) -> list[Delta | None]:
    """The difference of each (arm, parent), in order; None where either has no values.

    A difference has intervals where both arms have two values or more. The simultaneous ones hold for all of them at once
    with the given confidence: `max_modulus_quantile` for arms with the common variance. Differences that touch a diverged arm get
    Welch's standard error with Satterthwaite's degrees of freedom and Bonferroni's share of the error; the rest of the
    error goes to the others, so that the whole keeps its confidence. A pair of one arm with itself is exactly 0.
    """
    pooled = pooled_variance(samples)
    variances = [own_variance(s, pooled) for s in samples]
    errors = [_difference_variance(samples, variances, pair) for pair in pairs]
    family = [i for i, error in enumerate(errors) if error is not None]
    regular = [i for i in family if all(samples[a].regular for a in pairs[i])]
    alpha = 1 - confidence
    common = 0.0
    if regular and pooled is not None:
        sizes = [len(s.values) for s in samples]
        share = alpha * len(regular) / len(family)
        common = max_modulus_quantile(contrasts([pairs[i] for i in regular], sizes), pooled.df, confidence=1 - share)
    out: list[Delta | None] = []
    for i, ((arm, parent), error) in enumerate(zip(pairs, errors, strict=True)):
        here, there = mean(samples[arm].values), mean(samples[parent].values)
        if here is None or there is None:
            out.append(None)
        elif error is None:
            out.append(Delta(value=here - there))
        else:
            alone = t_quantile(confidence, error.df)
            together = common if i in regular else t_quantile(1 - alpha / len(family), error.df)
            out.append(
                Delta(value=here - there, interval=_around(here - there, alone, error), simultaneous=_around(here - there, together, error))
            )
    return out


def _difference_variance(samples: Sequence[Sample], variances: Sequence[Variance | None], pair: Pair) -> Variance | None:
    """Variance of a difference of two means, None where there is none to speak of; Satterthwaite's df if the two differ in kind."""
    arm, parent = pair
    a, b = variances[arm], variances[parent]
    if arm == parent or a is None or b is None:
        return None
    parts = [(v.value / len(samples[i].values), v.df) for i, v in ((arm, a), (parent, b))]
    total = sum(p for p, _ in parts)
    if total == 0:
        return None
    if a is b:  # the pooled one
        return Variance(value=total, df=a.df)
    return Variance(value=total, df=total**2 / sum(p**2 / df for p, df in parts))


def _around(centre: float, quantile: float, error: Variance) -> Interval:
    half = float(quantile * error.value**0.5)
    return Interval(low=max(-100.0, centre - half), high=min(100.0, centre + half))


def contrasts(pairs: Sequence[Pair], sizes: Sequence[int]) -> NDArray[np.float64]:
    """(pairs, samples): each difference of means as weights on the standardised arm means, scaled to variance 1."""
    rows = np.zeros((len(pairs), len(sizes)))
    for row, (arm, parent) in zip(rows, pairs, strict=True):
        row[arm] += sizes[arm] ** -0.5
        row[parent] -= sizes[parent] ** -0.5
        row /= np.linalg.norm(row)
    return rows


def max_modulus_quantile(rows: NDArray[np.float64], df: float, *, confidence: float = CONFIDENCE) -> float:
    """The quantile of max |T| for the multivariate t of the differences `rows` (see `contrasts`) with `df` degrees of freedom.

    This is the critical value of simultaneous intervals that accounts for the actual correlation of the differences, such as
    -1/2 between neighbours of a roadmap, which share a rung (Hochberg and Tamhane, Multiple Comparison Procedures, 1987,
    chapter 2; Dunnett's and Tukey's are special cases). By Monte Carlo with fixed random numbers: always the same value, with a
    standard error of 0.2 % of it at 10 degrees of freedom or more, 0.3 % at 4 and 0.5 % at 2.
    """
    rows = rows[:, rows.any(axis=0)]  # arms that no difference touches change nothing, not even the random numbers
    generator = np.random.Generator(np.random.PCG64(20220103))
    largest = np.abs(generator.standard_normal((DRAWS, rows.shape[1])) @ rows.T).max(axis=1)
    scale = np.sqrt(generator.chisquare(df, DRAWS) / df)
    return float(np.quantile(largest / scale, confidence))


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
