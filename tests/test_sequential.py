"""Looks, boundaries, stopping and e-values, against published values and simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from vitnas.studies.statistics.analysis import Analysis, Estimate, analyse
from vitnas.studies.statistics.critical import null, spent
from vitnas.studies.statistics.evalues import e_adjusted, e_values, e_values_of
from vitnas.studies.statistics.judgement import judge
from vitnas.studies.statistics.layout import Matrix
from vitnas.studies.statistics.means import Interval
from vitnas.studies.statistics.sequential import boundaries, chance_to_decide, decide, settled

FIVE = [0.2, 0.4, 0.6, 0.8, 1.0]


def roadmap(arms: int) -> Matrix:
    return np.asarray(np.eye(arms)[1:] - np.eye(arms)[:-1])


@pytest.mark.parametrize(
    ("spending", "alpha", "sides", "expected"),
    [
        ("obrien-fleming", 0.025, 1, [4.877, 3.357, 2.680, 2.290, 2.031]),
        ("obrien-fleming", 0.05, 2, [4.877, 3.357, 2.680, 2.290, 2.031]),
        ("pocock", 0.05, 2, [2.438, 2.427, 2.410, 2.397, 2.386]),
    ],
)
def test_boundaries_are_the_published_ones(spending: str, alpha: float, sides: int, expected: list[float]) -> None:
    """Five equal looks after Lan and DeMets, as published (Reboussin et al., Controlled Clinical Trials 21, 2000)."""
    assert boundaries(FIVE, alpha=alpha, spending=spending, sides=sides) == pytest.approx(expected, abs=6e-4)  # type: ignore[arg-type]


def test_one_look_is_the_plain_test() -> None:
    """A single look at all data has the normal quantile."""
    assert boundaries([1.0], alpha=0.05) == pytest.approx([1.95996], abs=1e-5)


def test_boundaries_hold_in_a_random_walk() -> None:
    """Unequal looks cross their boundaries as often as alpha says."""
    shares = np.array([0.25, 0.375, 0.625, 1.0])
    c = boundaries(list(shares), spending="pocock")
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((200_000, 4)) * np.sqrt(np.diff(shares, prepend=0))
    crossed = np.any(np.abs(steps.cumsum(axis=1) / np.sqrt(shares)) > c, axis=1)
    assert crossed.mean() == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize("information", [[], [0.0, 1.0], [0.5, 0.4], [0.5, 1.2]])
def test_looks_must_ascend(information: list[float]) -> None:
    """Shares of the data ascend from above 0 to 1 at most."""
    with pytest.raises(ValueError, match="ascending"):
        boundaries(information)


def test_spending_ends_at_alpha() -> None:
    """All of alpha is spent when all the data are in, and less before."""
    for spending in ("obrien-fleming", "pocock"):
        parts = [spent(0.05, share, spending) for share in FIVE]  # type: ignore[arg-type]
        assert parts[-1] == pytest.approx(0.05) and parts == sorted(parts)


def test_many_seeds_and_one_effect_have_the_boundaries_of_a_known_variance() -> None:
    """Simulated boundaries of one effect in a large study approach those of the recursive integration."""
    weights = np.zeros((1, 40))
    weights[0] = np.repeat([-1 / 20, 1 / 20], 20)
    found = null(np.ones((40, 10), dtype=bool), weights, looks=(4, 6, 8, 10))
    expected = boundaries([0.4, 0.6, 0.8, 1.0])
    assert found.boundary(0.05)[1:] * found.scale**0.5 == pytest.approx(expected[1:], rel=0.06)


def test_a_second_look_widens_intervals() -> None:
    """Looking at three seeds before five costs a little, and the first of two planned looks costs a lot."""
    values = np.random.default_rng(1).normal(0, 1, (5, 5))
    once, twice = analyse(values, roadmap(5)), analyse(values, roadmap(5), looks=(3, 5))
    early = analyse(values[:, :3], roadmap(5), looks=(3,), horizon=5)
    plain = analyse(values[:, :3], roadmap(5))
    assert once.critical and twice.critical and early.critical and plain.critical
    assert once.critical < twice.critical < 1.1 * once.critical
    assert early.critical > 1.1 * plain.critical
    assert [e.interval for e in twice.estimates] == [e.interval for e in once.estimates]
    assert early.last_critical == pytest.approx(twice.critical, rel=0.02)


def test_looks_beyond_the_horizon_are_refused() -> None:
    """More seeds than were planned for have no boundary."""
    values = np.random.default_rng(1).normal(0, 1, (3, 5))
    with pytest.raises(ValueError, match="horizon"):
        analyse(values, roadmap(3), looks=(3, 5), horizon=4)


@pytest.mark.parametrize("spending", ["obrien-fleming", "pocock"])
def test_all_looks_together_keep_the_error(spending: str) -> None:
    """Studies in which nothing works, judged at 2, 3 and 5 seeds, call something in 5 % of cases at most."""
    rng = np.random.default_rng(2)
    values = rng.normal(0, 1, (3000, 6, 5))
    called = np.zeros(3000, dtype=bool)
    for k, n in enumerate((2, 3, 5)):
        looks = (2, 3, 5)[: k + 1]
        found = judge(values[:, :, :n], roadmap(6), looks=looks, horizon=5, spending=spending, p_values=False)  # type: ignore[arg-type]
        called |= found.decided.any(axis=1)
    assert scipy_stats.binomtest(int(called.sum()), 3000, 0.05, alternative="greater").pvalue > 0.001
    assert called.mean() > 0.02


def judged(value: float, se: float, word: str = "undecided") -> Analysis:
    """An analysis of one effect that needs twice its standard error."""
    half = 2 * se
    interval = Interval(low=value - half, high=value + half)
    estimate = Estimate(value=value, se=se, df=20, interval=interval, simultaneous=interval, word=word)  # type: ignore[arg-type]
    return Analysis(estimates=(estimate,), seed_sd=1.0, df=20, critical=2.0)


def test_decisions() -> None:
    """A word decides; an effect that is near it goes on; one between zero and the margin that no seeds will tell is futile."""
    assert decide(judged(1.0, 0.1, "helps"), seeds=3, horizon=8)[0].verdict == "decided"
    assert decide(judged(1.0, 0.6), seeds=3, horizon=8)[0].verdict == "go on"
    hopeless = decide(judged(0.3, 0.5), seeds=7, horizon=8, margin=0.3)
    assert hopeless[0].verdict == "futile" and hopeless[0].chance < 0.1 and settled(hopeless)
    assert decide(judged(1.0, 0.6), seeds=8, horizon=8)[0].verdict == "futile"
    assert decide(Analysis(estimates=(Estimate(value=1.0),), seed_sd=None, df=None), seeds=1, horizon=8)[0].verdict == "go on"
    with pytest.raises(ValueError, match="horizon"):
        decide(judged(1.0, 0.6), seeds=9, horizon=8)


def test_the_chance_to_be_decided_is_right() -> None:
    """It is how often the last look decides, over effects that are what the first look left possible."""
    rng = np.random.default_rng(4)
    value, se, share, critical, margin = 0.5, 0.4, 0.4, 2.5, 0.9
    true = value + se * rng.standard_normal(400_000)
    rest = true + se * (share / (1 - share)) ** 0.5 * rng.standard_normal(400_000)
    last, half = share * value + (1 - share) * rest, critical * se * share**0.5
    decided = (np.abs(last) > half) | (np.abs(last) + half <= margin)
    found = chance_to_decide(np.array(value), np.array(se), share, critical, margin)
    assert float(found) == pytest.approx(decided.mean(), abs=0.004)


def test_e_values_average_one_where_nothing_works() -> None:
    """E-values of null effects have an expectation of 1, whatever arms and blocks add."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (40_000, 4, 3)) + rng.normal(0, 5, (40_000, 1, 3))
    weights = np.array([[-1.0, 1.0, 0.0, 0.0]])
    values[:, 2] += 7.0
    assert float(np.mean(e_values_of(values, weights))) == pytest.approx(1.0, abs=0.08)


def test_e_values_may_be_looked_at_after_every_seed() -> None:
    """Looking after every seed from the second to the twelfth, fewer than 5 % of studies in which nothing works ever reach 20."""
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, (3000, 5, 12))
    ever = np.zeros(3000, dtype=bool)
    for n in range(2, 13):
        ever |= (e_adjusted(e_values_of(values[:, :, :n], roadmap(5))) >= 20).any(axis=1)
    assert ever.mean() < 0.05


def test_e_values_find_large_effects_and_skip_diverged_arms() -> None:
    """An effect of many standard deviations has a large e-value; what touches a diverged trial has none."""
    values = np.random.default_rng(3).normal(0, 0.3, (4, 5)) + np.array([90.0, 93.0, 93.0, 93.0])[:, None]
    values[3, 0] = 10.0
    found = e_values(values, roadmap(4), diverged=values == 10.0)
    assert found[0] > 200 and found[1] < 1.5 and np.isnan(found[2])
    assert e_adjusted(found)[0] == pytest.approx(found[0] / 2)
