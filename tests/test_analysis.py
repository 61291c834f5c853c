"""The analysis of a study against statsmodels, textbook formulas and simulated studies with known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import stats as scipy_stats

from vitnas.studies.statistics.analysis import Analysis, Estimate, analyse, rank_check
from vitnas.studies.statistics.critical import null
from vitnas.studies.statistics.images import image_variance, with_new_images
from vitnas.studies.statistics.judgement import judge
from vitnas.studies.statistics.layout import Matrix
from vitnas.studies.statistics.logit import analyse_logits, logits
from vitnas.studies.statistics.means import Interval
from vitnas.studies.statistics.power import detectable

STEP = np.array([[-1.0, 1.0]])


def roadmap(arms: int) -> Matrix:
    return np.asarray(np.eye(arms)[1:] - np.eye(arms)[:-1])


def study(arms: int, seeds: int, *, block: float = 0.0, seed: int = 0) -> Matrix:
    """Top-1 (%) of arms that gain a point each, with a noise of 0.4 points."""
    rng = np.random.default_rng(seed)
    return 90 + np.arange(float(arms))[:, None] + rng.normal(0, 0.4, (arms, seeds)) + block * rng.normal(0, 1, seeds)


def two_way(values: Matrix) -> tuple[Matrix, float, float]:
    """Ordinary least squares of value on arm and seed: the arms' coefficients, residual variance and degrees of freedom."""
    arm, seed = np.nonzero(~np.isnan(values))
    design = np.hstack([np.eye(len(values))[arm], np.eye(values.shape[1])[seed][:, 1:]])
    fit = sm.OLS(values[arm, seed], design).fit()
    return fit.params[: len(values)], fit.mse_resid, fit.df_resid


def test_complete_study_is_the_mixed_models() -> None:
    """Where every arm has every seed, effects and noise are those of statsmodels' mixed model with seed as a random block."""
    values = study(5, 6, block=0.5)
    arm, seed = np.nonzero(~np.isnan(values))
    fit = sm.MixedLM(values[arm, seed], np.eye(5)[arm], groups=seed).fit(reml=True)
    found = analyse(values, roadmap(5))
    assert [e.value for e in found.estimates] == pytest.approx(np.diff(fit.fe_params))
    assert found.residual_sd == pytest.approx(fit.scale**0.5, rel=1e-3)
    between = float(np.asarray(fit.cov_re)[0, 0])
    assert found.correlation == pytest.approx(between / (between + fit.scale), rel=0.01)
    assert found.seed_sd == pytest.approx((between + fit.scale) ** 0.5, rel=0.01)


def test_missing_cells_are_least_squares() -> None:
    """With trials missing, effects, noise and degrees of freedom are those of the two-way least squares."""
    values = study(5, 4, block=2.0)
    values[1, 3] = values[4, 0] = np.nan
    means, variance, df = two_way(values)
    found = analyse(values, roadmap(5))
    assert [e.value for e in found.estimates] == pytest.approx(np.diff(means))
    assert found.residual_sd == pytest.approx(variance**0.5)
    assert found.residual_df == df
    assert found.estimates[0].value != pytest.approx(np.nanmean(values[1]) - np.nanmean(values[0]), abs=0.1)


@pytest.mark.parametrize("seeds", [3, 5])
def test_one_step_is_the_paired_t_test(seeds: int) -> None:
    """Two arms with equal seeds: value and p are the paired t-test's, and the interval is Student's within the simulation's error."""
    values = study(2, seeds, block=1.0, seed=3)
    values[1] -= 0.6
    found = analyse(values, STEP).estimates[0]
    reference = scipy_stats.ttest_rel(values[1], values[0])
    low, high = reference.confidence_interval(0.95)
    assert found.value == pytest.approx(values[1].mean() - values[0].mean())
    assert found.p == pytest.approx(reference.pvalue, abs=0.01)
    assert found.interval and found.interval == found.simultaneous
    assert found.interval.low == pytest.approx(low, abs=0.04 * (high - low))
    assert found.interval.high == pytest.approx(high, abs=0.04 * (high - low))


def test_all_pairs_are_tukeys_where_noise_is_known_to_be_equal() -> None:
    """Critical values for every pair of four arms are Tukey's or above, by what robustness against unequal noise costs."""
    pairs = np.array([np.eye(4)[i] - np.eye(4)[j] for i in range(4) for j in range(i)])
    found = null(np.ones((4, 10), dtype=bool), pairs)
    tukey = scipy_stats.studentized_range.ppf(0.95, 4, 27) / math.sqrt(2)
    assert tukey <= found.boundary(0.05)[0] * found.scale**0.5 <= 1.2 * tukey


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_p_values_and_intervals_agree(level: float) -> None:
    """An interval with confidence 1 - alpha excludes 0 exactly where the p-value with the same correction is alpha at most."""
    rng = np.random.default_rng(5)
    for _ in range(40):
        values = rng.normal(0, 1, (6, 3)) + rng.normal(0, 2, 6)[:, None]
        values[5] = np.where(rng.random(3) < 0.3, -80.0, values[5])
        found = analyse(values, roadmap(6), diverged=values == -80.0, confidence=1 - level)
        for e in found.estimates:
            assert e.interval and e.simultaneous and e.p is not None and e.p_adjusted is not None
            assert (e.interval.low > 0 or e.interval.high < 0) == (e.p <= level)
            assert (e.simultaneous.low > 0 or e.simultaneous.high < 0) == (e.p_adjusted <= level)
            assert e.p <= e.p_adjusted


def test_one_seed_gives_values_and_no_words() -> None:
    """With one seed there are deltas alone."""
    found = analyse(np.array([[90.0], [91.5]]), STEP)
    assert found.estimates == (Estimate(value=1.5),)
    assert found.seed_sd is None and found.df is None and found.correlation is None


def test_an_arm_with_one_seed_is_not_judged() -> None:
    """Beside arms with more seeds, the arm with one has a delta without an interval, and an arm without any has none."""
    values = study(4, 3)
    values[2, 1:] = values[3] = np.nan
    first, second, third = analyse(values, roadmap(4)).estimates
    assert first.simultaneous
    assert second.value is not None and second.simultaneous is None and second.word is None
    assert third == Estimate(value=None)


def test_no_scatter_gives_no_interval() -> None:
    """Equal results in every seed say nothing of the noise."""
    assert analyse(np.array([[90.0, 90.0], [91.0, 91.0]]), STEP).estimates == (Estimate(value=1.0),)


def test_blocks_are_taken_out() -> None:
    """What a seed adds to all arms alike changes no effect and no interval, but shows in the correlation."""
    values = study(6, 4)
    shifted = values + np.array([0.0, 3.0, -2.0, 1.0])
    plain, blocked = analyse(values, roadmap(6)), analyse(shifted, roadmap(6))
    for a, b in zip(plain.estimates, blocked.estimates, strict=True):
        assert a.simultaneous and b.simultaneous
        assert (a.value, a.simultaneous.low) == pytest.approx((b.value, b.simultaneous.low))
    assert blocked.correlation is not None and blocked.correlation > 0.9


def test_a_placebo_is_unpaired_and_in_the_family() -> None:
    """An arm with seeds of its own is compared by plain means, with the blocks' variance in its error, and widens all intervals."""
    values = study(5, 4, block=3.0)
    wide = np.full((6, 8), np.nan)
    wide[:5, :4] = values
    wide[5, 4:] = study(1, 4, block=3.0, seed=9)[0]
    weights = np.zeros((5, 6))
    weights[:4, :5], weights[4, [0, 5]] = roadmap(5), (-1.0, 1.0)
    found = analyse(wide, weights)
    alone = analyse(values, roadmap(5))
    placebo = found.estimates[4]
    assert placebo.value == pytest.approx(wide[5, 4:].mean() - values[0].mean())
    assert placebo.se is not None and found.seed_sd is not None
    assert placebo.se == pytest.approx(found.seed_sd * 0.5**0.5, rel=0.35)
    assert placebo.se > 3 * max(e.se or 0 for e in found.estimates[:4])
    assert found.critical and alone.critical and found.critical > alone.critical
    assert any("between seeds, not within" in note for note in found.notes)


def test_unequal_variances_are_seen() -> None:
    """The check of equal variances flags arms of very different noise, and is uniform where noise is equal."""
    rng = np.random.default_rng(2)
    sd = np.array([0.1, 0.1, 0.1, 0.1, 2.0, 2.0])
    assert (analyse(rng.normal(0, 1, (6, 5)) * sd[:, None], roadmap(6)).equal_variances_p or 1) < 0.01
    p = judge(rng.normal(0, 1, (2000, 6, 5)), roadmap(6)).unequal_p
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.001


@pytest.mark.parametrize("sd", [np.ones(8), np.array([1, 1, 1, 1, 2, 2, 2, 2]), np.array([2, 0.5, 2, 0.5, 1, 2, 0.5, 1])])
def test_families_keep_their_error(sd: Matrix) -> None:
    """At three seeds, no effect is called in 95 % of studies in which nothing works, with equal noise and with unequal."""
    rng = np.random.default_rng(11)
    found = judge(rng.normal(0, 1, (4000, 8, 3)) * sd[:, None], roadmap(8), p_values=False)
    false = int(np.sum(found.decided.any(axis=1)))
    assert scipy_stats.binomtest(false, 4000, 0.05, alternative="greater").pvalue > 0.001
    assert false > 0.01 * 4000


def test_a_diverged_trial_widens_its_own_effects_alone() -> None:
    """One divergence leaves its own effects wide open, at Welch's standard error, and the noise of the others as it was."""
    values = study(5, 3, seed=4)
    broken = values.copy()
    broken[4, 1] = 10.0
    found = analyse(broken, roadmap(5), diverged=broken == 10.0)
    own = np.var(broken[4], ddof=1) / 3
    last = found.estimates[3]
    assert last.value == pytest.approx(broken[4].mean() - broken[3].mean()) and last.word == "undecided"
    assert last.se is not None and last.df is not None and last.value is not None
    assert last.se == pytest.approx(own**0.5, rel=0.01) and last.df == pytest.approx(2, rel=0.01)
    assert last.p == pytest.approx(2 * scipy_stats.t.sf(abs(last.value) / last.se, last.df))
    clean = analyse(values[:4], roadmap(4))
    assert found.seed_sd == pytest.approx(clean.seed_sd) and found.residual_sd == pytest.approx(clean.residual_sd)


def test_an_arm_that_always_diverges_hurts() -> None:
    """Three of three diverged beside none elsewhere is more than chance, by Fisher's exact test over the whole study."""
    values = study(8, 3)
    values[3] = 10.0
    found = analyse(values, roadmap(8), diverged=values == 10.0)
    exact = scipy_stats.fisher_exact([[3, 0], [0, 21]]).pvalue
    assert found.estimates[2].word == "hurts" and found.estimates[3].word == "helps"
    assert found.estimates[2].p == pytest.approx(2 * exact, rel=0.01)


def test_divergence_that_strikes_everywhere_is_no_effect_of_a_step() -> None:
    """Two of two diverged says little where others diverge as well."""
    values = study(6, 2)
    values[2] = values[0, 0] = values[4, 1] = 10.0
    found = analyse(values, roadmap(6), diverged=values == 10.0)
    assert found.estimates[1].word == found.estimates[2].word == "undecided"


def test_a_study_in_which_all_diverged_has_no_words() -> None:
    """Nothing is claimed where every trial diverged."""
    found = analyse(np.full((3, 3), 10.0), roadmap(3), diverged=np.ones((3, 3), dtype=bool))
    assert [(e.value, e.word) for e in found.estimates] == [(0.0, None)] * 2


def test_ranks_agree_and_no_outlier_sways_them() -> None:
    """Ranks find what is plain to see, also beside a diverged trial that drowns it in the values' own analysis; none is equivalent."""
    values = study(4, 5) + 2 * np.arange(4.0)[:, None]
    assert rank_check(values, roadmap(4)) == ("helps",) * 3
    values[0, 2] = 10.0
    ends = np.array([[-1.0, 0.0, 0.0, 1.0]])
    assert analyse(values, ends, diverged=values == 10.0).estimates[0].word == "undecided"
    assert rank_check(values, ends) == ("helps",)
    assert "equivalent" not in rank_check(np.random.default_rng(0).normal(0, 1, (4, 5)), roadmap(4))


def test_logits() -> None:
    """Log odds are finite at both ends, and a factor on the odds is one effect at any level."""
    assert logits(np.array([[50.0, 100.0, 0.0, np.nan]]), 99) == pytest.approx(
        np.array([[0.0, math.log(99.5 / 0.5), -math.log(99.5 / 0.5), np.nan]]), nan_ok=True
    )
    odds = np.array([1.0, 2.0, 20.0, 40.0])
    noise = np.random.default_rng(0).normal(0, 0.01, (4, 5))
    values = 100 / (1 + 1 / (odds[:, None] * np.exp(noise)))
    found = analyse_logits(values, np.array([[-1.0, 1, 0, 0], [0, 0, -1, 1]]), images=1_000_000)
    assert [e.value for e in found.estimates] == pytest.approx([math.log(2)] * 2, abs=0.02)
    with pytest.raises(ValueError, match="images"):
        logits(values, 0)


def right(rng: np.random.Generator, images: int, arms: int, seeds: int) -> tuple[list[list[NDArray[np.bool_]]], Matrix]:
    """Which images are right, for arms that are all equal: hard images, seeds that are good or bad, and luck."""
    hard = 4 * (rng.normal(1.0, 1.0, images) + rng.normal(0, 0.7, (arms, 1, images)))
    logit = hard + rng.normal(0, 0.1, (arms, seeds, 1))
    correct = rng.random((arms, seeds, images)) < 1 / (1 + np.exp(-logit))
    return [list(arm) for arm in correct], 100 * correct.mean(axis=2)


def test_intervals_over_new_images_cover() -> None:
    """Over new seeds and images the wide interval holds the truth in 95 % of studies, where the one over seeds alone does not."""
    rng = np.random.default_rng(7)
    wide = narrow = 0
    for _ in range(400):
        correct, values = right(rng, 300, 3, 3)
        estimate = analyse(values, np.array([[-1.0, 1.0, 0.0]])).estimates[0]
        interval = with_new_images(estimate, correct, np.array([-1.0, 1.0, 0.0]))
        assert interval and estimate.interval and interval.low <= estimate.interval.low + 1e-9
        wide += interval.low <= 0 <= interval.high
        narrow += estimate.interval.low <= 0 <= estimate.interval.high
    assert scipy_stats.binomtest(wide, 400, 0.95, alternative="less").pvalue > 0.001
    assert scipy_stats.binomtest(narrow, 400, 0.95, alternative="less").pvalue < 0.001


def test_image_variance_is_the_paired_bootstraps() -> None:
    """Its closed form is what resampling images gives, less the seeds' own noise within images."""
    rng = np.random.default_rng(1)
    correct, _ = right(rng, 400, 2, 3)
    by_image = np.mean(correct[1], axis=0) - np.mean(correct[0], axis=0)
    draws = [by_image[rng.integers(0, 400, 400)].mean() for _ in range(4000)]
    within = sum(np.mean(np.var(arm, axis=0, ddof=1)) / 3 for arm in correct) / 400
    assert image_variance(correct, STEP[0]) == pytest.approx(1e4 * (np.var(draws) - within), rel=0.12)


def test_new_images_need_per_image_results() -> None:
    """Without an array for every arm, or without an interval, there is none over images."""
    estimate = Estimate(value=1.0, se=0.1, df=4, interval=Interval(low=0.7, high=1.3))
    arrays = [np.ones(10, dtype=bool)] * 3
    assert with_new_images(estimate, [arrays, []], STEP[0]) is None
    assert with_new_images(Estimate(value=1.0), [arrays, arrays], STEP[0]) is None
    assert with_new_images(estimate, [arrays, [np.ones(9, dtype=bool)]], STEP[0]) is None


def test_detectable_effects_are_found_at_the_stated_power() -> None:
    """Studies with effects of the size that is called detectable find four of five of them."""
    weights = roadmap(6)
    size = detectable(weights, 4, 0.5)
    assert size == pytest.approx(np.full(5, size[0]))
    rng = np.random.default_rng(3)
    values = size[0] * np.arange(6)[:, None] + rng.normal(0, 0.5, (3000, 6, 4))
    assert float(judge(values, weights, p_values=False).decided.mean()) == pytest.approx(0.8, abs=0.03)


def test_one_seed_detects_nothing() -> None:
    """Power needs an interval."""
    with pytest.raises(ValueError, match="seeds"):
        detectable(roadmap(4), 1, 0.5)


def test_the_same_study_gives_the_same_digits() -> None:
    """Nothing is drawn at random: analyses repeat to the bit, alone or among others."""
    values = study(4, 3)
    first: Analysis = analyse(values, roadmap(4))
    assert analyse(values.copy(), roadmap(4)) == first
    both = judge(np.stack([study(4, 3, seed=1), values]), roadmap(4))
    assert both.value[1] == pytest.approx([e.value for e in first.estimates])
    assert both.p_together[1] == pytest.approx([e.p_adjusted for e in first.estimates])
