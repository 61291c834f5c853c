"""Studies judged look by look, and intervals that hold at any time."""

from __future__ import annotations

import numpy as np
import pytest

from vitnas.studies.statistics.analysis import analyse
from vitnas.studies.statistics.anytime import anytime
from vitnas.studies.statistics.evalues import e_adjusted, e_values
from vitnas.studies.statistics.staged import staged

ARMS = 5
WEIGHTS = np.hstack([-np.ones((ARMS - 1, 1)), np.eye(ARMS - 1)])


def study(seeds: int, effects: tuple[float, ...] = (0, 0, 0, 0), *, seed: int = 0) -> np.ndarray:
    """Top-1 of five arms, the last four of which differ from the first by `effects`, noise of 0.5 points."""
    draw = np.random.default_rng(seed)
    return 90 + np.array([0.0, *effects])[:, None] + draw.normal(0, 0.5, (ARMS, seeds)) + draw.normal(0, 0.3, seeds)


def test_a_settled_effect_stays_as_it_was_judged() -> None:
    """An effect decided at the first look keeps that look's interval, whatever later seeds would say."""
    values = study(8, (6.0, 0.0, 0.0, 0.0))
    found = staged(values, WEIGHTS, looks=(5, 8), horizon=8)
    assert found.settled_at[0] == 5 and found.verdicts[0] == "decided"
    first = analyse(values[:, :5], WEIGHTS, looks=(5,), horizon=8)
    kept = found.analysis.estimates[0].simultaneous
    assert kept and first.estimates[0].simultaneous and kept.low == pytest.approx(first.estimates[0].simultaneous.low)
    later = values.copy()
    later[1, 5:] -= 12
    assert staged(later, WEIGHTS, looks=(5, 8), horizon=8).analysis.estimates[0].simultaneous == kept


def test_nothing_goes_on_beyond_the_horizon() -> None:
    """At the last look every effect is settled; before it, an effect without evidence goes on."""
    values = study(8)
    assert not staged(values[:, :2], WEIGHTS, looks=(2,), horizon=8).settled
    assert staged(values, WEIGHTS, looks=(2, 8), horizon=8).settled


def test_nothing_goes_on_for_the_sake_of_what_is_ignored() -> None:
    """An ignored effect is judged, and ends no later than the others."""
    values = study(5, (6.0, 0.6, 0.6, 0.6))
    ignored = np.array([False, True, True, True])
    assert staged(values, WEIGHTS, looks=(5,), horizon=8, ignored=ignored).settled
    assert not staged(values, WEIGHTS, looks=(5,), horizon=8).settled


def test_arms_that_stopped_are_judged_with_the_seeds_they_have() -> None:
    """A settled arm has no later seeds; the others are judged with theirs."""
    values = study(8, (6.0, 0.0, 0.0, 1.5))
    values[1, 5:] = np.nan
    found = staged(values, WEIGHTS, looks=(5, 8), horizon=8)
    assert found.settled_at[0] == 5 and all(e.value is not None for e in found.analysis.estimates)


def test_a_confidence_sequence_is_the_inverted_e_value() -> None:
    """At the end of the interval, the adjusted e-value of what is left is exactly 1 / alpha."""
    values = study(12, (1.0, 0.2, 0.0, -3.0))
    found = anytime(analyse(values, WEIGHTS).estimates, values, WEIGHTS)
    for i, estimate in enumerate(found):
        assert estimate.simultaneous is not None
        moved = values.copy()
        moved[i + 1] -= estimate.simultaneous.low
        assert e_adjusted(e_values(moved, WEIGHTS))[i] == pytest.approx(20, rel=1e-6)
    assert found[3].word == "hurts"


def test_a_confidence_sequence_holds_at_all_looks() -> None:
    """Over looks after every seed, all four intervals hold at once in 95 % of studies or more."""
    missed = 0
    for seed in range(100):
        values = study(8, seed=seed)
        looks = [anytime(analyse(values[:, :n], WEIGHTS).estimates, values[:, :n], WEIGHTS) for n in (3, 5, 8)]
        missed += any(e.simultaneous and not e.simultaneous.low <= 0 <= e.simultaneous.high for found in looks for e in found)
    assert missed <= 10  # binomial, 100 x 5 %: above it with probability 1.1 %


def test_stopping_by_e_values() -> None:
    """The option decides a large effect and says so by the confidence sequence."""
    values = study(8, (6.0, 0.0, 0.0, 0.0))
    found = staged(values, WEIGHTS, looks=(5, 8), horizon=8, stopping="e-values")
    assert found.verdicts[0] == "decided" and found.analysis.estimates[0].word == "helps"
