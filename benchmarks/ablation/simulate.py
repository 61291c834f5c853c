"""Studies with known truth, simulated in large numbers and judged by the very code that `analyse` runs, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from vitnas.studies.statistics import critical
from vitnas.studies.statistics.judgement import judge

Matrix = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int, int, int], Matrix]  # generator, repetitions, arms, seeds -> (repetitions, arms, seeds)

TARGET = 0.055
LEVEL, CHANCE = 90.0, 10.0  # top-1 (%) of a network that trains, and of one that diverged


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One kind of study. `means` (arms,) are the arms' true values in standard deviations of the noise; `noise` makes the rest.
    `diverge` is every trial's chance to diverge. `placebo` seeds are unpaired: the last arm's noise is in columns of its own.
    `exact` says that the joint coverage has to lie within 93 and 97 %, else at 93 % at least; `stress` goes beyond what is promised, and
    is only shown."""

    name: str
    weights: Matrix
    means: Matrix
    seeds: int
    noise: Noise
    diverge: float = 0.0
    placebo: bool = False
    exact: bool = False
    stress: bool = False
    estimand: str = "difference of means"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a scenario: false positives of the family (share of repetitions, and the upper 95 % bound), joint coverage of the
    simultaneous intervals, coverage of each interval alone, their width against the pooled analysis, and the share of true effects found.
    `met` says whether all targets are."""

    scenario: str
    repetitions: int
    seeds: int
    effects: int
    false: float | None
    upper: float | None
    joint: float
    alone: float
    width: float | None
    power: float | None
    met: bool | None


def run(scenario: Scenario, repetitions: int, *, chunk: int = 10_000) -> Outcome:
    """Simulate and judge `repetitions` studies."""
    rng = np.random.default_rng([20220110, sum(map(ord, scenario.name))])
    truth = scenario.weights @ scenario.means
    null = np.abs(truth) < 1e-9
    plain = _plain(scenario)
    false = joint = alone = found = 0.0
    width: list[float] = []
    for start in range(0, repetitions, chunk):
        values, diverged = draw(scenario, rng, min(chunk, repetitions - start))
        judged = judge(values, scenario.weights, diverged=diverged, p_values=False)
        decided = judged.decided
        off = np.abs(judged.value - truth)
        false += float(np.sum(np.any(decided[:, null], axis=1)))
        joint += float(np.sum(~np.any(off > judged.together, axis=1)))  # no interval (NaN) claims nothing
        alone += float(np.sum(~(off > judged.alone))) / len(truth)
        found += float(np.sum(decided[:, ~null]))
        if plain is not None:
            width.append(float(np.nanmean(judged.together / (judged.residual_sd[:, None] * plain))))
    upper = float(beta.ppf(0.95, false + 1, repetitions - false)) if null.any() else None
    covered = joint / repetitions
    met = (upper is None or upper <= TARGET) and covered >= 0.93 and (not scenario.exact or covered <= 0.97)
    return Outcome(
        scenario=scenario.name,
        repetitions=repetitions,
        seeds=scenario.seeds,
        effects=len(truth),
        false=false / repetitions if null.any() else None,
        upper=upper,
        joint=covered,
        alone=alone / repetitions,
        width=float(np.mean(width)) if width else None,
        power=found / repetitions / int(np.sum(~null)) if not null.all() else None,
        met=None if scenario.stress else bool(met),
    )


def draw(scenario: Scenario, rng: np.random.Generator, repetitions: int) -> tuple[Matrix, NDArray[np.bool_] | None]:
    """Values (repetitions, arms, seeds) and which of them stand for a diverged trial."""
    arms = len(scenario.means)
    values = LEVEL + scenario.means[:, None] + scenario.noise(rng, repetitions, arms, scenario.seeds)
    if scenario.placebo:
        own = np.full((repetitions, arms, scenario.seeds), np.nan)
        own[:, -1] = LEVEL + scenario.means[-1] + scenario.noise(rng, repetitions, arms, scenario.seeds)[:, -1]
        values[:, -1] = np.nan
        values = np.concatenate([values, own], axis=2)
    if not scenario.diverge:
        return values, None
    diverged = rng.random(values.shape) < scenario.diverge
    values[diverged] = CHANCE
    return values, diverged


def _plain(scenario: Scenario) -> Matrix | None:
    """Half widths of the analysis that trusts one pooled variance, in units of its standard deviation."""
    if scenario.diverge or scenario.placebo:
        return None
    size = np.linalg.norm(scenario.weights, axis=1)
    df = (len(scenario.means) - 1) * (scenario.seeds - 1)
    return np.asarray(_largest_t(scenario.weights / size[:, None], df) * size / scenario.seeds**0.5)


def remember_more() -> None:
    """Keep the null distributions of thousands of designs: where arms drop out, they do so in many ways that come again and again."""
    critical._null = lru_cache(maxsize=4096)(critical._null.__wrapped__)


def _largest_t(rows: Matrix, df: float, draws: int = 200_000) -> float:
    """The 95 % quantile of the largest |T| of `rows` (effects, arms), each of length 1, with `df` degrees of freedom."""
    rng = np.random.default_rng(20220103)
    largest = np.abs(rng.standard_normal((draws, rows.shape[1])) @ rows.T).max(axis=1)
    return float(np.quantile(largest / np.sqrt(rng.chisquare(df, draws) / df), 0.95))


def equal(rng: np.random.Generator, repetitions: int, arms: int, seeds: int) -> Matrix:
    """Standard normal."""
    return rng.standard_normal((repetitions, arms, seeds))


def blocks(rng: np.random.Generator, repetitions: int, arms: int, seeds: int) -> Matrix:
    """Seeds that all arms share, as large as the noise: a correlation of one half."""
    return equal(rng, repetitions, arms, seeds) + rng.standard_normal((repetitions, 1, seeds))


def random_half(rng: np.random.Generator, repetitions: int, arms: int, seeds: int) -> Matrix:
    """Half of the arms, drawn anew each time, with twice the standard deviation."""
    twice = rng.random((repetitions, arms)).argsort(axis=1) < arms // 2
    return equal(rng, repetitions, arms, seeds) * np.where(twice, 2.0, 1.0)[:, :, None]


def last_half(rng: np.random.Generator, repetitions: int, arms: int, seeds: int) -> Matrix:
    """The later half of the arms with twice the standard deviation."""
    return equal(rng, repetitions, arms, seeds) * np.where(np.arange(arms) >= arms / 2, 2.0, 1.0)[:, None]


def first_half(rng: np.random.Generator, repetitions: int, arms: int, seeds: int) -> Matrix:
    """The earlier half of the arms, the reference among them, with twice the standard deviation."""
    return last_half(rng, repetitions, arms, seeds)[:, ::-1]


def any_sd(rng: np.random.Generator, repetitions: int, arms: int, seeds: int) -> Matrix:
    """Standard deviations log-uniform between 0.5 and 2."""
    return equal(rng, repetitions, arms, seeds) * 2 ** rng.uniform(-1, 1, (repetitions, arms, 1))


def heavy(rng: np.random.Generator, repetitions: int, arms: int, seeds: int) -> Matrix:
    """Student's t with 5 degrees of freedom."""
    return rng.standard_t(5, (repetitions, arms, seeds))


def resampled(table: Matrix) -> Noise:
    """Noise drawn with replacement from the residuals of `table` (arms, seeds): every arm has the standard deviation of one of the table's
    arms and the shape of all their residuals together, each of them standardised by the other seeds of its arm.

    Standard deviations of five seeds differ by chance alone, so they are drawn towards the common one as far as that explains them
    (empirical Bayes by moments: Smyth, 2004); without that the simulated arms would be more unequal than the real ones.
    """
    residuals, sds = _standardised(table)

    def noise(rng: np.random.Generator, repetitions: int, arms: int, seeds: int) -> Matrix:
        which = rng.random((repetitions, len(sds))).argsort(axis=1)[:, :arms]
        return np.asarray(rng.choice(residuals, (repetitions, arms, seeds)) * sds[which][:, :, None])

    return noise


def own_residuals(table: Matrix) -> Noise:
    """Noise drawn with replacement from each arm's own few residuals, as if they were all that the arm can do: more unequal and more
    skewed than the arms it was taken from."""
    centred = table - table.mean(axis=1, keepdims=True)
    scaled = centred * (table.shape[1] / (table.shape[1] - 1)) ** 0.5

    def noise(rng: np.random.Generator, repetitions: int, arms: int, seeds: int) -> Matrix:
        which = rng.random((repetitions, len(scaled))).argsort(axis=1)[:, :arms]
        return np.asarray(scaled[which[:, :, None], rng.integers(0, scaled.shape[1], (repetitions, arms, seeds))])

    return noise


def _standardised(table: Matrix) -> tuple[Matrix, Matrix]:
    """All residuals, each over what the other seeds of its arm say of its standard deviation, and the arms' standard deviations."""
    others = np.array([_drawn_together(np.delete(table, seed, axis=1)) for seed in range(table.shape[1])]).T
    residuals = ((table - table.mean(axis=1, keepdims=True)) / others).ravel()
    return residuals / residuals.std(), _drawn_together(table)


def _drawn_together(table: Matrix) -> Matrix:
    df = table.shape[1] - 1
    variances = table.var(axis=1, ddof=1)
    common = float(variances.mean())
    spread = float(variances.var(ddof=1)) / common**2
    true = max(0.0, (spread - 2 / df) / (1 + 2 / df))  # squared coefficient of variation of the true variances
    weight = true / (true + 2 / df * (1 + true))
    return np.asarray(np.sqrt(common + weight * (variances - common)))
