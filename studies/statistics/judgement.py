"""The judgement of many repetitions of a study at once: effects, intervals alone and together, p-values. `analyse` is one repetition.

Where nothing diverged, effects are least-squares estimates with moderated variances (layout.py, moderation.py) against simulated critical
values (critical.py). An arm with diverged trials breaks the model of common noise: effects that touch it are differences of plain means,
with the arm's own variance, Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946, 110-114) and Bonferroni's share of
the error; the other effects keep the rest of it. An arm of which every trial diverged shows no variance. It counts as if one of them had
not, but against one arm in which none diverged the chance of divergence itself is compared, by Fisher's exact test with all the
study's trials, and the interval is the test's (Miettinen, American Journal of Epidemiology 103, 1976, 226-235).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, stdtr, stdtrit

from .critical import Null, Spending, null
from .layout import Layout, Mask, Matrix, lay_out
from .moderation import Moderated, moderate, reference_df, same_tail

Rows = NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Arrays (repetitions, effects), NaN where there is nothing to tell; `alone` and `together` are half widths of intervals, and
    `irregular` marks effects that touch a diverged trial. Arrays (repetitions,): the standard deviation over seeds within an arm with
    its degrees of freedom, the correlation of arms at equal seeds, the standard deviation within blocks and the p-value of equal
    variances. `null` is what critical values come from."""

    value: Matrix
    se: Matrix
    df: Matrix
    alone: Matrix
    together: Matrix
    p: Matrix
    p_together: Matrix
    null: Null
    seed_sd: Matrix
    seed_df: Matrix
    correlation: Matrix
    residual_sd: Matrix
    unequal_p: Matrix
    irregular: Mask

    @property
    def decided(self) -> Mask:
        """Which effects' simultaneous intervals exclude 0."""
        return np.asarray(np.abs(self.value) > self.together)


def judge(
    values: Matrix,
    weights: Matrix,
    *,
    diverged: Mask | None = None,
    confidence: float = 0.95,
    looks: tuple[int, ...] = (),
    horizon: int = 0,
    spending: Spending = "obrien-fleming",
    p_values: bool = True,
) -> Judgement:
    """Judge `values` (repetitions, arms, seeds), of which the same cells are NaN in every repetition. `diverged` has the same shape.

    `p_values` False leaves p-values out, for speed.
    """
    mask = ~np.isnan(values[0])
    broken = np.zeros(values.shape[:2], dtype=bool) if diverged is None else np.any(diverged & mask, axis=2)
    reference = null(mask, weights, looks=looks, horizon=horizon, spending=spending)
    shape = (len(values), len(weights))
    out = {name: np.full(shape, np.nan) for name in ("value", "se", "df", "alone", "together", "p", "p_together")}
    of = {name: np.full(len(values), np.nan) for name in ("seed_sd", "seed_df", "correlation", "residual_sd", "unequal_p")}
    irregular = broken @ (weights != 0).T.astype(int) > 0
    patterns, which = np.unique(broken, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        rows = np.flatnonzero(which.reshape(-1) == number)
        regular = mask & ~pattern[:, None]
        layout = reference.layout if not pattern.any() else lay_out(regular, weights)
        found = moderate(values[rows][:, regular], layout) if regular.any() else None
        if found is not None:
            _regular(out, of, rows, found, layout, reference, 1 - confidence, p_values=p_values)
        if pattern.any():
            marks = np.zeros(values[rows].shape, dtype=bool) if diverged is None else diverged[rows] & mask
            _irregular(out, rows, values[rows], marks, weights, pattern, found, layout, 1 - confidence)
    return Judgement(**out, **of, null=reference, irregular=irregular)


def _regular(
    out: dict[str, Matrix],
    of: dict[str, Matrix],
    rows: Rows,
    found: Moderated,
    layout: Layout,
    reference: Null,
    alpha: float,
    *,
    p_values: bool,
) -> None:
    """Fill in the effects of arms in which nothing diverged, and what is common to all arms."""
    family = int(np.sum(reference.layout.judged))
    share = float(np.sum(layout.judged)) / max(family, 1)
    freedom, usual = reference_df(layout), reference_df(reference.layout)
    noise = found.total if not layout.df else found.residual
    own = (noise > 0) & (freedom > 0)
    at = np.ix_(rows, layout.known)
    out["value"][at] = found.value[:, layout.known]
    judged = layout.judged[None, :] & own[:, None] & (found.variance > 0)
    error = np.sqrt(found.variance)
    if share > 0:
        together = np.full(len(layout.judged), reference.boundary(alpha * share)[-1])
        alone = reference.critical_alone(alpha)
        crit_together = _own_scale(together[None, :], found, layout, freedom, usual)
        crit_alone = _own_scale(alone[None, :], found, layout, freedom, usual)
        fill = {
            "se": error / reference.scale**0.5,
            "df": np.where(layout.paired[None, :], freedom, found.total_df[:, None]),
            "alone": crit_alone * error,
            "together": crit_together * error,
        }
        if p_values:
            ratio = found.ratio(layout)
            if freedom != usual:
                ratio = same_tail(ratio, freedom, usual)
            fill["p"] = np.array([reference.p_alone(r) for r in ratio])
            fill["p_together"] = np.minimum(1.0, np.array([reference.p_together(r) for r in ratio]) / share)
        for name, new in fill.items():
            out[name][rows] = np.where(judged, np.broadcast_to(new, judged.shape), np.nan)
    total = float(np.sum(np.maximum(layout.counts - 1, 0)))
    some = (found.total > 0) & (total > 0)
    of["seed_sd"][rows] = np.where(some, np.sqrt(found.total), np.nan)
    of["seed_df"][rows] = np.where(some, found.total_df, np.nan)
    of["residual_sd"][rows] = np.where(own, np.sqrt(noise), np.nan)
    of["correlation"][rows] = np.where(own & (layout.df > 0), found.correlation, np.nan)
    if layout.df and np.sum(layout.arm_df > 0.25) > 2 and freedom == usual and p_values:
        of["unequal_p"][rows] = np.where(own, [reference.p_equal_variances(u) for u in found.unequal], np.nan)


def _own_scale(critical: Matrix, found: Moderated, layout: Layout, freedom: float, usual: float) -> Matrix:
    """Critical values, stated for `usual` degrees of freedom, on the scale of each effect's own: (repetitions, effects)."""
    out = np.broadcast_to(critical, found.value.shape)
    loose = layout.judged & ~layout.paired
    if freedom != usual and freedom > 0:
        out = np.broadcast_to(same_tail(critical, usual, freedom), found.value.shape)
    if loose.any():
        out = np.array(out)
        out[:, loose] = same_tail(np.broadcast_to(critical, out.shape)[:, loose], usual, found.total_df[:, None])
    return np.asarray(out)


def _irregular(
    out: dict[str, Matrix],
    rows: Rows,
    values: Matrix,
    diverged: Mask,
    weights: Matrix,
    pattern: Mask,
    found: Moderated | None,
    layout: Layout,
    alpha: float,
) -> None:
    """Fill in the effects that touch an arm in which something diverged."""
    mask = ~np.isnan(values[0])
    n, failed = mask.sum(axis=1), diverged.sum(axis=2)
    means = np.nansum(values, axis=2) / np.maximum(n, 1)
    touched = (weights != 0) & pattern
    mine = np.flatnonzero(touched.any(axis=1) & np.all((weights == 0) | (n > 0), axis=1))
    out["value"][np.ix_(rows, mine)] = means @ weights[mine].T
    tested = [i for i in range(len(weights)) if np.all(n[weights[i] != 0] > 1)]
    mine = np.array([i for i in mine if i in tested], dtype=int)
    if not len(mine):
        return
    level = np.nansum(np.where(diverged, values, np.nan), axis=(1, 2)) / diverged.sum(axis=(1, 2))
    fine = np.where(mask & ~diverged, np.nan_to_num(values), 0.0).sum(axis=(1, 2)) / np.maximum(np.sum(mask & ~diverged, axis=(1, 2)), 1)
    gap = np.where((mask & ~diverged).any(axis=(1, 2)), fine - level, np.nan)[:, None] ** 2  # unknown where all diverged
    squares = np.nansum((values - means[:, :, None]) ** 2, axis=2)
    own = np.where(failed == n, gap / np.maximum(n, 1), squares / np.maximum(n - 1, 1)) / np.maximum(n, 1)  # of an arm's mean
    calm = np.zeros((len(rows), 1)) if found is None else found.total[:, None]
    calm_df = np.ones((len(rows), 1)) if found is None else found.total_df[:, None]
    parts = np.where(pattern, own, 0.0) @ (weights[mine] ** 2).T
    rest = calm * ((weights[mine] ** 2 / np.maximum(n, 1)) @ (~pattern).astype(float))[None, :]
    variance = parts + rest
    freedom = np.where(pattern, own**2 / np.maximum(n - 1, 1), 0.0) @ (weights[mine] ** 4).T + rest**2 / np.maximum(calm_df, 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(freedom > 0, variance**2 / freedom, np.nan)
        ratio = np.abs(out["value"][np.ix_(rows, mine)]) / np.sqrt(variance)
        p = 2 * stdtr(df, -ratio)
    for column, i in enumerate(mine):
        p[:, column], df[:, column] = _whole_arms(p[:, column], df[:, column], weights[i], n, failed)
    df = np.where(df > 1e6, np.inf, df)
    with np.errstate(divide="ignore", invalid="ignore"):
        shown = np.abs(out["value"][np.ix_(rows, mine)])
        quantile = np.where(np.isinf(df), stdtrit(1e6, 1 - p / 2), stdtrit(df, 1 - p / 2))
        se = np.where(np.isinf(df), shown / quantile, np.sqrt(variance))
        few = np.where(np.isinf(df), 1e6, df)
        fill = {
            "se": se,
            "df": df,
            "alone": stdtrit(few, 1 - alpha / 2) * se,
            "together": stdtrit(few, 1 - alpha / 2 / len(tested)) * se,
            "p": p,
            "p_together": np.minimum(1.0, p * len(tested)),
        }
    usable = np.isfinite(se) & (se > 0)
    for name, new in fill.items():
        out[name][np.ix_(rows, mine)] = np.where(usable, new, np.nan)


def _whole_arms(p: Matrix, df: Matrix, weights: Matrix, n: Matrix, failed: Matrix) -> tuple[Matrix, Matrix]:
    """Fisher's two-sided p-value where one arm diverged in every trial and the other in none, with infinite df as the mark of that."""
    used = np.flatnonzero(weights)
    if len(used) != 2:
        return p, df
    p, df = p.copy(), df.copy()
    for whole, sound in (used, used[::-1]):
        at = (failed[:, whole] == n[whole]) & (failed[:, sound] == 0)
        elsewhere = failed.sum(axis=1) - failed[:, whole]
        trials, all_failed = float(n.sum()), elsewhere + n[whole]
        exact = np.exp(_choose(all_failed, n[whole]) - _choose(np.full_like(all_failed, trials, dtype=float), n[whole]))
        p = np.where(at, np.minimum(1.0, 2 * exact), p)
        df = np.where(at, np.inf, df)
    return p, df


def _choose(n: Matrix, k: Matrix) -> Matrix:
    """The logarithm of the binomial coefficient."""
    return np.asarray(gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0))
