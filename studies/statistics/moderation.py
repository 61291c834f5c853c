"""Standard errors that hold whether or not all arms are equally noisy, for many repetitions of a study at once.

With three seeds nobody can tell equal variances from unequal ones, and trusting the pooled variance costs up to twice the promised
errors where half of the arms are twice as noisy. So each arm's variance is its own residual variance, drawn towards the pooled one as
if that had been seen with `PRIOR_DF` degrees of freedom (empirical Bayes with a fixed prior: Smyth, Statistical Applications in
Genetics and Molecular Biology 3, 2004, article 3), and all are raised by how unequal the arms look. The ratios' distribution is then
simulated (critical.py), which corrects for the raise and puts a number to what this costs: intervals 5 to 15 % wider than with the pooled
variance where that would have been right (benchmarks/ablation_statistics.py prints it, design by design).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from .layout import Layout, Matrix

PRIOR_DF = 6.0
RAISE = 1.5  # of all variances, times the squared coefficient of variation of the arms' own ones
UNEQUAL_AT_MOST = 4.0  # what that coefficient is taken to be
ROUNDING = 1e-18  # of the values' mean square: less scatter than that is none


@dataclass(frozen=True, kw_only=True)
class Moderated:
    """Effects of many repetitions of a study. `value` and `variance` are (repetitions, effects), the rest (repetitions,).

    `residual` is the variance within blocks and `total` that over seeds within an arm, with `total_df` degrees of freedom (which a
    correlation of arms lowers); `correlation` is that of arms at equal seeds, and `unequal` the squared coefficient of variation of the
    arms' variances, of which chance alone makes 2 / (seeds - 1).
    """

    value: Matrix
    variance: Matrix
    residual: Matrix
    total: Matrix
    total_df: Matrix
    correlation: Matrix
    unequal: Matrix

    def ratio(self, layout: Layout) -> Matrix:
        """Effect over standard error, (repetitions, effects), 0 where there is none; all on the scale of `reference_df`: an unpaired
        effect's ratio is the one that is as improbable there as its own is with the degrees of freedom of `total`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            out = np.abs(np.where(self.variance > 0, self.value / np.sqrt(self.variance), 0.0))
        loose = layout.judged & ~layout.paired
        if loose.any():
            out[:, loose] = same_tail(out[:, loose], self.total_df[:, None], reference_df(layout))
        return np.asarray(out)


def reference_df(layout: Layout) -> float:
    """Degrees of freedom within blocks, or, where no two arms share a seed, those within arms."""
    return float(layout.df) if layout.df else float(np.sum(np.maximum(layout.counts - 1, 0)))


def same_tail(ratio: Matrix, df: Matrix | float, other: Matrix | float) -> Matrix:
    """The ratio that is as improbable with `other` degrees of freedom as `ratio` (not negative) is with `df`, after Student."""
    below = np.maximum(stdtr(df, -ratio), 1e-300)
    return np.asarray(-stdtrit(other, below))


def moderate(cells: Matrix, layout: Layout) -> Moderated:
    """Effects with moderated variances, from the values `cells` (repetitions, K)."""
    arms = layout.member.shape[1]
    rounding = ROUNDING * np.mean(cells**2, axis=1)
    squares = (cells @ layout.residual) ** 2 @ layout.member  # within blocks, by arm
    squares[squares.sum(axis=1) < rounding] = 0.0
    plain = _within(cells, layout)
    plain[plain.sum(axis=1) < rounding] = 0.0
    used = layout.counts > 1
    freedom = float(np.sum(layout.counts[used] - 1))
    total = plain.sum(axis=1) / max(freedom, 1.0)
    if layout.df:
        residual = squares.sum(axis=1) / layout.df
        informed = layout.arm_df > 0.25
        joined = informed & used
        shared = plain[:, joined].sum(axis=1) / max(float(np.sum(layout.counts[joined] - 1)), 1.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            correlation = np.where(shared > 0, 1 - residual / shared, 0.0)
            share = np.where(layout.df * residual[:, None] > 0, squares / np.maximum(layout.arm_df, 1e-9) / residual[:, None], 1.0)
        share = np.where(informed, share, 1.0)
        unequal = _unequal(share[:, informed], layout.arm_df[informed])
        weight = np.where(informed, layout.arm_df / (layout.arm_df + PRIOR_DF), 0.0)
    else:
        residual, correlation, unequal = total, np.zeros_like(total), np.zeros_like(total)
        share, weight = np.ones((len(cells), arms)), np.zeros(arms)
    by_arm = 1 + weight * (share - 1)
    pairs = float(layout.overlap[np.ix_(used, used)].sum() - np.trace(layout.overlap[np.ix_(used, used)]))
    total_df = freedom**2 / np.maximum(freedom + np.clip(correlation, 0, 1) ** 2 * pairs, 1e-9)
    base = np.where(layout.paired, residual[:, None], total[:, None])
    raised = (1 + RAISE * np.minimum(unequal, UNEQUAL_AT_MOST))[:, None]
    return Moderated(
        value=cells @ layout.estimator.T,
        variance=base * (by_arm @ layout.spread.T) * raised,
        residual=residual,
        total=total,
        total_df=total_df,
        correlation=correlation,
        unequal=unequal,
    )


def _within(cells: Matrix, layout: Layout) -> Matrix:
    """Sums of squares about the arms' means (repetitions, arms)."""
    means = cells @ layout.member / np.maximum(layout.counts, 1)
    return np.asarray((cells - means @ layout.member.T) ** 2 @ layout.member)


def _unequal(share: Matrix, df: Matrix) -> Matrix:
    """The squared coefficient of variation of the arms' variances, which is also the locally best invariant test statistic of equal
    variances (Nagao, Annals of Statistics 1, 1973, 700-709). 0 below three arms, where nothing can be told."""
    arms = share.shape[1]
    if arms < 3:
        return np.zeros(len(share))
    return np.asarray((share - 1) ** 2 @ df / df.sum() * arms / (arms - 1))
