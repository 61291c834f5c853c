"""Layout: what least squares makes of the cells (arm, seed) that hold a value. Linear algebra alone, no data, done once for a design.

The model is the two-way one, value = arm + seed + noise, with the seed as a block. Where every arm has every seed, its intra-block
analysis is that of the linear mixed model with random seeds (Searle, Casella and McCulloch, Variance Components, 1992, section 4.7);
where cells are missing, it stays exact and leaves out what the blocks' own means would add. An effect between arms that share no seed,
directly or through others (a placebo), is estimated from plain means, and the variance between blocks is part of its error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The design's matrices, for K cells in the order of `np.nonzero(mask)`.

    `estimator` (effects, K) gives the effects and `spread` (effects, arms) the sums of its squares within arms; the first is 0 for effects
    that touch an arm without values, the second for those that touch an arm without a second value. `residual` (K, K) projects on the
    residuals, with `df` degrees of freedom, of which `arm_df` (arms,) are the arms' own. `member` (K, arms) says which arm a cell belongs
    to and `counts` (arms,) how many cells an arm has. `known`, `judged` and `paired` (effects,) say which effects have an estimate,
    which have a variance and which are estimated within blocks. `overlap` (arms, arms) holds the degrees of freedom that two arms'
    own variances share.
    """

    mask: Mask
    estimator: Matrix
    spread: Matrix
    residual: Matrix
    df: int
    arm_df: Matrix
    member: Matrix
    counts: Matrix
    known: Mask
    judged: Mask
    paired: Mask
    overlap: Matrix


def lay_out(mask: Mask, weights: Matrix) -> Layout:
    """The layout of the cells `mask` (arms, seeds) for the effects `weights` (effects, arms)."""
    arms, seeds = mask.shape
    arm, seed = np.nonzero(mask)
    cells = len(arm)
    member = np.zeros((cells, arms))
    member[np.arange(cells), arm] = 1.0
    block = np.zeros((cells, seeds))
    block[np.arange(cells), seed] = 1.0
    counts = member.sum(axis=0)
    design = np.hstack([member, block])
    inverse = np.linalg.pinv(design)
    residual = np.eye(cells) - design @ inverse
    rank = int(np.round(cells - np.trace(residual)))
    touched = weights != 0
    known = np.array([bool(np.all(counts[t] > 0)) for t in touched], dtype=bool)
    judged = np.array([bool(np.all(counts[t] > 1)) for t in touched], dtype=bool)
    wanted = np.hstack([weights, np.zeros((len(weights), seeds))])
    estimable = np.abs(wanted @ inverse @ design - wanted).max(axis=1, initial=0.0) < 1e-8
    paired = known & estimable & (cells > rank)
    plain = weights / np.maximum(counts, 1) @ member.T
    within = wanted @ inverse
    balanced = np.abs(within - plain).max(axis=1, initial=0.0) < 1e-9  # exact means, without the pseudo-inverse's rounding
    estimator = np.where((paired & ~balanced)[:, None], within, plain)
    estimator[~known] = 0.0
    estimator[np.abs(estimator) < 1e-12] = 0.0
    overlap = np.maximum((mask.astype(float) @ mask.T.astype(float)) - 1, 0.0)
    return Layout(
        mask=mask,
        estimator=estimator,
        spread=np.where(judged[:, None], estimator**2 @ member, 0.0),
        residual=residual,
        df=cells - rank,
        arm_df=np.diag(residual) @ member,
        member=member,
        counts=counts,
        known=known,
        judged=judged,
        paired=paired,
        overlap=overlap,
    )


def first_seeds(mask: Mask, seeds: int) -> Mask:
    """The first `seeds` cells of every arm."""
    return np.asarray(mask & (np.cumsum(mask, axis=1) <= seeds))
