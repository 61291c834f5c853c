"""Deltas and their intervals, against textbook formulas and scipy's own procedures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats as scipy_stats

from vitnas.studies.statistics.deltas import (
    Delta,
    Interval,
    Sample,
    contrasts,
    deltas,
    max_modulus_quantile,
    mean_interval,
    pooled_variance,
    word,
)

ROADMAP = [(i, i - 1) for i in range(1, 14)]


def samples(*values: Sequence[float]) -> list[Sample]:
    return [Sample(values=tuple(v)) for v in values]


def test_roadmap_quantile_has_the_stated_confidence() -> None:
    """For the neighbours of a roadmap, the multivariate t between minus and plus the quantile has probability 0.95."""
    rows = contrasts(ROADMAP, [3] * 14)
    quantile = max_modulus_quantile(rows, 28)
    correlation = rows @ rows.T
    assert correlation[0, 1] == pytest.approx(-0.5)
    inside = scipy_stats.multivariate_t(shape=correlation, df=28, seed=1).cdf([quantile] * 13, lower_limit=[-quantile] * 13)
    assert inside == pytest.approx(0.95, abs=0.002)


@pytest.mark.parametrize(("arms", "seeds"), [(2, 3), (3, 3), (5, 4), (14, 3)])
def test_all_pairs_quantile_is_tukeys(arms: int, seeds: int) -> None:
    """With every pair of arms compared (linearly dependent differences), the quantile is Tukey's."""
    pairs = [(i, j) for i in range(arms) for j in range(i)]
    df = arms * (seeds - 1)
    tukey = scipy_stats.studentized_range.ppf(0.95, arms, df) / math.sqrt(2)
    assert max_modulus_quantile(contrasts(pairs, [seeds] * arms), df) == pytest.approx(tukey, rel=0.01)


def test_comparisons_with_one_base_are_dunnetts() -> None:
    """Arms of unequal n that share one parent get Dunnett's simultaneous intervals."""
    values = [[76.1, 76.5, 76.0, 76.3], [77.0, 77.4, 76.8], [76.2, 76.6], [75.1, 75.0, 75.6]]
    found = deltas(samples(*values), [(1, 0), (2, 0), (3, 0)])
    dunnett = scipy_stats.dunnett(*values[1:], control=values[0], random_state=1).confidence_interval(0.95)
    for i, delta in enumerate(found):
        assert delta and delta.simultaneous
        assert delta.simultaneous.low == pytest.approx(dunnett.low[i], abs=0.01)
        assert delta.simultaneous.high == pytest.approx(dunnett.high[i], abs=0.01)


def test_interval_alone_is_students_with_pooled_variance() -> None:
    """One delta's own interval is Student's, with the variance pooled over all arms, also those that it does not compare."""
    values = [[76.1, 76.5, 76.0], [77.0, 77.4, 76.8], [76.2, 79.0, 74.0]]
    delta = deltas(samples(*values), [(1, 0)])[0]
    variance = np.mean([np.var(v, ddof=1) for v in values])
    half = scipy_stats.t.ppf(0.975, 6) * math.sqrt(variance * 2 / 3)
    assert delta and delta.interval
    assert delta.value == pytest.approx(np.mean(values[1]) - np.mean(values[0]))
    assert delta.interval.high - delta.value == pytest.approx(half)
    assert delta.simultaneous and delta.simultaneous.high == pytest.approx(delta.interval.high, rel=0.01)


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


def test_one_seed_gives_deltas_alone() -> None:
    """Arms with one trial have deltas without intervals, even beside arms with more."""
    assert deltas(samples([90.0], [91.0]), [(1, 0)]) == [Delta(value=1.0)]
    mixed = deltas(samples([90.0, 90.4], [91.0, 91.4], [92.0]), [(1, 0), (2, 1)])
    assert mixed[0] and mixed[0].interval
    assert mixed[1] and mixed[1].value == pytest.approx(0.8) and mixed[1].interval is None


def test_no_scatter_gives_no_interval() -> None:
    """Equal results in every arm say nothing of the noise, so no interval is claimed."""
    assert deltas(samples([90.0, 90.0], [91.0, 91.0]), [(1, 0)]) == [Delta(value=1.0)]


def test_an_arm_without_results_has_no_delta() -> None:
    """Trials that have not run leave the delta out."""
    assert deltas(samples([90.0, 90.4], []), [(1, 0)]) == [None]


def test_an_arm_against_itself_is_exactly_zero() -> None:
    """Arms that share their trials differ by 0, and do not widen the others' intervals."""
    arms = samples([90.0, 90.4, 90.1], [91.0, 91.4, 91.3])
    alone = deltas(arms, [(1, 0)])
    with_itself = deltas(arms, [(1, 0), (1, 1)])
    assert with_itself[1] == Delta(value=0.0)
    assert with_itself[0] == alone[0]


def test_partly_diverged_arm_keeps_its_noise_to_itself() -> None:
    """One divergence makes its own deltas wide open and leaves the intervals of the other arms as narrow as they were."""
    regular = samples([90.0, 90.4, 90.1], [93.0, 93.4, 93.3], [93.1, 93.5, 93.2])
    broken = [*regular, Sample(values=(93.0, 10.0, 93.2), diverged=1)]
    assert pooled_variance(broken) == pooled_variance(regular)
    first, _, last = deltas(broken, [(1, 0), (2, 1), (3, 2)])
    assert first and first.simultaneous and first.simultaneous.low > 2
    assert last and last.value == pytest.approx(-27.87, abs=0.01)
    assert last.simultaneous and word(last.simultaneous) == "undecided"


def test_fully_diverged_arm_hurts() -> None:
    """An arm that always diverged is judged at chance level against the noise of its parent."""
    arms = [*samples([90.0, 90.4, 90.1], [90.5, 90.3, 90.7]), Sample(values=(10.0, 10.0, 10.0), diverged=3)]
    delta = deltas(arms, [(1, 0), (2, 1)])[1]
    assert delta and delta.value == pytest.approx(-80.5)
    assert delta.simultaneous and word(delta.simultaneous) == "hurts"


def test_welch_for_a_diverged_arm() -> None:
    """A delta that touches a diverged arm has Welch's interval, with the pooled variance on the regular side."""
    arms = [*samples([60.0, 64.0, 61.0], [62.0, 66.0, 65.0]), Sample(values=(50.0, 58.0, 70.0), diverged=1)]
    delta = deltas(arms, [(2, 1)])[0]
    pooled = pooled_variance(arms)
    assert delta and delta.interval and pooled
    a, b = np.var([50.0, 58.0, 70.0], ddof=1) / 3, pooled.value / 3
    half = scipy_stats.t.ppf(0.975, (a + b) ** 2 / (a**2 / 2 + b**2 / 4)) * math.sqrt(a + b)
    assert delta.interval.high - delta.value == pytest.approx(half)


def test_simultaneous_intervals_are_wider_and_reproducible() -> None:
    """More deltas ask for wider intervals, and the same input gives the same digits."""
    arms = samples(*[[90 + i, 90.4 + i, 90.1 + i] for i in range(6)])
    pairs = [(i, i - 1) for i in range(1, 6)]
    one, all_five = deltas(arms, pairs[:1])[0], deltas(arms, pairs)[0]
    assert one and one.simultaneous and all_five and all_five.simultaneous
    assert all_five.simultaneous.low < one.simultaneous.low
    assert all_five.interval == one.interval
    assert deltas(arms, pairs)[0] == all_five
