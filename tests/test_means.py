"""Means with their intervals, and the words that an interval earns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from scipy import stats as scipy_stats

from vitnas.studies.statistics.means import Interval, Sample, mean_interval, pooled_variance, word


def samples(*values: Sequence[float]) -> list[Sample]:
    return [Sample(values=tuple(v)) for v in values]


def test_mean_interval_is_students() -> None:
    """A mean's interval has the pooled variance and degrees of freedom, and stays within [0, 100]."""
    arms = samples([76.1, 76.5, 76.0], [99.9, 99.1, 99.5])
    pooled = pooled_variance(arms)
    assert pooled and pooled.df == 4
    interval = mean_interval(arms[0], pooled)
    half = scipy_stats.t.ppf(0.975, 4) * math.sqrt(pooled.value / 3)
    assert interval and interval.low == pytest.approx(76.2 - half)
    top = mean_interval(arms[1], pooled)
    assert top and top.high == 100


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.01, 0.2, "helps"),
        (-0.9, -0.01, "hurts"),
        (-0.3, 0.3, "equivalent"),
        (-0.31, 0.2, "undecided"),
        (-0.1, 0.31, "undecided"),
        (0.0, 0.1, "equivalent"),
    ],
)
def test_words(low: float, high: float, expected: str) -> None:
    """A word needs the interval on one side of zero or within the margin; touching zero does not exclude it."""
    assert word(Interval(low=low, high=high), margin=0.3) == expected
