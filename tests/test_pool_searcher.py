"""The model against scikit-learn and finite differences, its expected gain against counting, and the searcher against chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern

from vitnas.studies.search import gaussian_process as gp
from vitnas.studies.search import pareto
from vitnas.studies.search.acquisition import ehvi, sampled_staircase, staircase
from vitnas.studies.search.pool_searcher import PoolSearcher


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (25, 4)) / 2
    return x, x[:, 0] - x[:, 1] * x[:, 2] + rng.normal(0, 0.1, 25)


def test_the_gradient_is_that_of_the_loss(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    at = np.random.default_rng(1).normal(0, 0.5, 7) - [0, 0, 0, 0, 0, 0, 2]
    weights = np.linspace(1, 3, 25)
    error = check_grad(lambda v: gp.loss(v, x, y, weights)[0], lambda v: gp.loss(v, x, y, weights)[1], at)
    assert error < 1e-4 * np.linalg.norm(gp.loss(at, x, y, weights)[1])


def test_the_posterior_is_that_of_scikit_learn(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    hyper = gp.Hyper(np.log([0.5, 1.0, 2.0, 3.0]), math.log(0.7), math.log(1.3), math.log(0.05))
    pool = np.concatenate([x, np.random.default_rng(2).random((10, 4))])
    ours = gp.Posterior(pool, hyper, np.arange(25), y, np.ones(25))
    kernel = (
        ConstantKernel(0.7) * Matern([0.5, 1.0, 2.0, 3.0], nu=2.5)
        + ConstantKernel(1.3 / 4) * DotProduct(1e-6)
        + ConstantKernel(gp.CONSTANT)
    )
    mean, sd = GaussianProcessRegressor(kernel, alpha=0.05, optimizer=None).fit(x, y).predict(pool, return_std=True)
    assert ours.mean == pytest.approx(mean, abs=1e-5)
    assert np.sqrt(ours.variance) == pytest.approx(sd, abs=1e-5)


def test_observations_one_by_one_or_all_at_once(data: tuple[np.ndarray, np.ndarray]) -> None:
    """And a fantasy leaves the mean, and what it was made from."""
    x, y = data
    hyper = gp.fit(x, y, np.ones(25))
    whole = gp.Posterior(x, hyper, np.arange(25), y, np.linspace(1, 2, 25))
    part = gp.Posterior(x, hyper, np.arange(20), y[:20], np.linspace(1, 2, 25)[:20])
    before = part.variance.copy()
    fantasy = part.trial()
    fantasy.observe(22)
    assert fantasy.mean == pytest.approx(part.mean) and fantasy.variance[22] < before[22]
    assert (part.variance == before).all()
    for i in range(20, 25):
        part.observe(i, y[i], np.linspace(1, 2, 25)[i])
    assert part.mean == pytest.approx(whole.mean, abs=1e-8)
    assert part.variance == pytest.approx(whole.variance, abs=1e-8)


@pytest.mark.parametrize("costs", [1, 2, 3])
def test_expected_gain_is_the_mean_of_the_gains(costs: int) -> None:
    rng = np.random.default_rng(costs)
    values, at = rng.normal(0, 1, 7), rng.random((7, costs))  # some of them passed over, one outside the reference
    values[0], at[1, 0] = -3.0, 1.2
    pool_at, mean, sd = rng.random((3, costs)), rng.normal(0.5, 1, 3), rng.random(3) + 0.1
    ceiling = np.full(costs, 1.1)
    expected = ehvi(mean, sd, pool_at, values, at, -2.0, ceiling)
    reference = np.concatenate([[-2.0], -ceiling])
    front = np.column_stack([values, -at])
    base = pareto.hypervolume(front, reference)
    for i in range(3):
        draws = norm.ppf((np.arange(150) + 0.5) / 150, mean[i], sd[i])  # as many as make equal shares of the distribution
        gains = [pareto.hypervolume(np.vstack([front, [v, *-pool_at[i]]]), reference) - base for v in draws]
        assert expected[i] == pytest.approx(np.mean(gains), rel=0.01, abs=1e-3)


@pytest.mark.parametrize("costs", [2, 4, 5])
def test_expected_gain_over_fixed_points_is_near_the_exact_one(costs: int) -> None:
    """And the same at every call."""
    rng = np.random.default_rng(costs)
    values, at, pool_at = rng.normal(0, 1, 5), rng.random((5, costs)), rng.random((40, costs))
    ceiling, gain = np.full(costs, 1.1), np.array([[0.7, 0.5, 0.3, 0.2, 0.1, 0.05]])
    levels, exact = staircase(values, at, pool_at, -2.0, ceiling)
    same, sampled = sampled_staircase(values, at, pool_at, -2.0, ceiling)
    assert (same == levels).all() and sampled.sum(axis=1) == pytest.approx(exact.sum(axis=1))  # all that lies beyond
    assert (sampled * gain).sum(axis=1) == pytest.approx((exact * gain).sum(axis=1), rel=0.05)
    assert (sampled_staircase(values, at, pool_at, -2.0, ceiling)[1] == sampled).all()


def test_five_costs_and_a_long_front_fit_the_memory() -> None:
    """The stairs would have 61^5 cells."""
    rng = np.random.default_rng(0)
    gain = ehvi(rng.random(50), np.full(50, 0.1), rng.random((50, 5)), rng.random(60), rng.random((60, 5)), -1.0, np.full(5, 1.1))
    assert (gain >= 0).all() and gain.max() > 0


def cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All 729 networks of six stages of three widths: accuracy (main effects, one interaction, noise) and cost."""
    levels = np.stack(np.meshgrid(*[np.arange(3)] * 6), axis=-1).reshape(-1, 6)
    features = (levels[:, :, None] == np.arange(3)).reshape(729, 18).astype(float)
    accuracy = 70 + levels @ [3.0, 2.0, 1.5, 1.0, 0.5, 0.2] - 2.0 * (levels[:, 0] == 2) * (levels[:, 1] == 0)
    return features, accuracy + np.random.default_rng(0).normal(0, 0.3, 729), np.exp(levels @ [0.2, 0.3, 0.1, 0.25, 0.3, 0.2])


def volume(rows: list[int], accuracy: np.ndarray, cost: np.ndarray) -> float:
    return pareto.hypervolume(np.column_stack([accuracy, -np.log(cost)])[rows], [68.0, -3.0])


def test_forty_trainings_beat_a_hundred_and_fifty_at_random() -> None:
    features, accuracy, cost = cells()
    found = []
    for seed in range(3):
        searcher = PoolSearcher(features, cost, seed=seed)
        while len(searcher._told) < 40:
            for i in searcher.ask(4):
                searcher.tell(i, accuracy[i])
        found.append(volume(searcher.front(), accuracy, cost))
    chance = [volume(list(np.random.default_rng(s).choice(729, 150, replace=False)), accuracy, cost) for s in range(20)]
    assert min(found) > max(chance)
    assert min(found) > 0.98 * volume(list(range(729)), accuracy, cost)


def test_rows_are_asked_once_and_never_when_forbidden() -> None:
    features, accuracy, cost = cells()
    searcher = PoolSearcher(features[::9], cost[::9], seed=1, initial=6)
    searcher.tell(3, 75.0)  # known from before
    searcher.forbid(5)
    asked: list[int] = []
    while batch := searcher.ask(7):
        asked += batch
        for i in batch[:-1]:  # one of every batch stays pending, and one in two fails
            searcher.tell(i, accuracy[9 * i] if i % 2 else None)
    assert sorted(asked) == [i for i in range(81) if i not in (3, 5)]


def test_a_pool_of_few_networks_is_asked_to_its_end() -> None:
    """By accuracy alone too: costs that do not vary."""
    searcher, out = PoolSearcher(np.eye(4), np.ones(4), seed=0), []
    while batch := searcher.ask(2):
        out += batch
        for i in batch:
            searcher.tell(i, None if i == 2 else 50.0)
    assert sorted(out) == [0, 1, 2, 3]


def test_the_same_calls_give_the_same_proposals() -> None:
    features, accuracy, cost = cells()

    def play() -> list[int]:
        searcher, out = PoolSearcher(features, np.column_stack([cost, cost[::-1]]), seed=3), []
        for _ in range(5):
            for i in searcher.ask(4):
                searcher.tell(i, accuracy[i])
                out.append(i)
        return out

    assert play() == play()


def test_a_seed_more_and_a_measured_cost_are_taken_in() -> None:
    features, accuracy, cost = cells()
    searcher = PoolSearcher(features, cost, seed=0)
    for i in searcher.ask(10):
        searcher.tell(i, accuracy[i])
    best = max(searcher.front(), key=lambda i: accuracy[i])
    searcher.tell(best, accuracy[best] - 40)
    assert best not in searcher.front() or best == searcher.front()[0]
    cheapest = searcher.front()[0]
    searcher.correct(cheapest, [100.0])
    assert searcher.front()[0] != cheapest
    assert searcher.ask(2)


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(ValueError, match="must have the same rows"):
        PoolSearcher(np.zeros((3, 2)), [1.0, 2.0])
    with pytest.raises(ValueError, match="must be finite"):
        PoolSearcher(np.zeros((2, 2)), [1.0, math.inf])
    with pytest.raises(ValueError, match="must be positive"):
        PoolSearcher(np.zeros((2, 2)), [1.0, 0.0], log_costs=True)
