"""What one proposal costs: `vitnas` at 1,000 observations in batches of 8, and Optuna's GP at 200, one after another in one process."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution

from vitnas.studies.search.pool_searcher import PoolSearcher

CHOICES, LEVELS = 10, 4  # 4^10 = 1,048,576 networks
POOL, OBSERVED, BATCH, ROUNDS = 10_000, 1_000, 8, 3
PEER_OBSERVED, PEER_PROPOSALS = 200, 4


def networks(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Distinct networks of the space, as levels (count, CHOICES)."""
    numbers = rng.choice(LEVELS**CHOICES, count, replace=False)
    return np.stack([numbers // LEVELS**j % LEVELS for j in range(CHOICES)], axis=1)


def worth(levels: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A made-up accuracy with noise, and a cost: only the time of the search is looked at."""
    x = levels / (LEVELS - 1)
    accuracy = 60 + 10 * np.sqrt(x).mean(axis=1) + 3 * x[:, 0] * x[:, 1] + rng.normal(0, 0.3, len(x))
    return accuracy, np.exp(x @ np.linspace(0.1, 0.5, CHOICES))


def ours(seed: int) -> list[float]:
    """Seconds a proposal of every round: ask for BATCH, tell them. The first one fits the model and builds what later ones add to."""
    rng = np.random.default_rng(seed)
    levels = networks(POOL, rng)
    accuracy, cost = worth(levels, rng)
    searcher = PoolSearcher((levels[:, :, None] == np.arange(LEVELS)).reshape(POOL, -1), cost, seed=seed)
    for index in range(OBSERVED):
        searcher.tell(index, float(accuracy[index]))
    out = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        asked = searcher.ask(BATCH)
        for index in asked:
            searcher.tell(index, float(accuracy[index]))
        out.append((time.perf_counter() - start) / BATCH)
    return out


def peer(seed: int) -> list[float]:
    """Seconds of every proposal of Optuna's GP sampler with both objectives, told in between."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    rng = np.random.default_rng(seed)
    levels = networks(PEER_OBSERVED + PEER_PROPOSALS, rng)
    accuracy, cost = worth(levels, rng)
    space = {f"c{j}": CategoricalDistribution(tuple(range(LEVELS))) for j in range(CHOICES)}
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=optuna.samplers.GPSampler(seed=seed))
    for row, value, price in zip(levels[:PEER_OBSERVED].tolist(), accuracy, np.log(cost), strict=False):
        params = dict(zip(space, row, strict=True))
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, values=[float(value), float(price)]))
    out = []
    for k in range(PEER_PROPOSALS):
        start = time.perf_counter()
        trial = study.ask(fixed_distributions=space)
        out.append(time.perf_counter() - start)
        study.tell(trial, [float(accuracy[PEER_OBSERVED + k]), float(np.log(cost[PEER_OBSERVED + k]))])
    return out


def section(*, say: Callable[[str], None], seed: int = 0) -> dict[str, Any]:
    """Both, one after the other."""
    mine, theirs = ours(seed), peer(seed)
    found = {
        "space": LEVELS**CHOICES,
        "pool": POOL,
        "vitnas": {"observations": OBSERVED, "batch": BATCH, "seconds": mine, "mean": float(np.mean(mine))},
        "optuna-gp": {"observations": PEER_OBSERVED, "seconds": theirs, "mean": float(np.mean(theirs))},
    }
    found["no_slower"] = found["vitnas"]["mean"] <= found["optuna-gp"]["mean"]
    say(f"speed, a pool of {POOL:,} of {LEVELS**CHOICES:,} networks; seconds a proposal, mean (worst)")
    say(f"  vitnas     {np.mean(mine):.3f} ({max(mine):.3f})  {OBSERVED} observations, batches of {BATCH}, {ROUNDS} of them")
    say(f"  optuna gp  {np.mean(theirs):.3f} ({max(theirs):.3f})  {PEER_OBSERVED} observations, {PEER_PROPOSALS} proposals")
    return found
