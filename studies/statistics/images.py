"""The interval *new images too*: what an effect would be with new seeds and another draw of as many images.

A bootstrap over three seeds sees two thirds of their variance at best, and far fewer degrees of freedom than the whole study has. So only
images are resampled, with the seeds as they are, and the analysis' own variance over seeds is added. The bootstrap over images needs
no random numbers: an effect is a mean over images, whose bootstrap variance has a closed form (Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, section 5.3). The noise of seeds within single images is in both variances and is taken out of one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .analysis import Estimate, Matrix
from .means import CONFIDENCE, Interval, t_quantile

Correct = Sequence[NDArray[np.bool_]]  # of one arm: which images were right, an array (images,) for each seed


def image_variance(correct: Sequence[Correct], weights: Matrix) -> float | None:
    """The variance of an effect (points squared) that is due to the draw of images alone; images are paired over arms.

    `correct` holds for every arm its seeds' arrays `(images,)`, `weights` (arms,) the effect. None where an arm with a weight has no
    array, or arrays differ in length.
    """
    used = [(w, np.asarray(arrays, dtype=float)) for w, arrays in zip(weights, correct, strict=True) if w != 0 and len(arrays)]
    if len(used) < int(np.sum(weights != 0)) or len({a.shape[1] for _, a in used}) != 1:
        return None
    images = used[0][1].shape[1]
    if images < 2:
        return None
    by_image = sum((w * a.mean(axis=0) for w, a in used), np.zeros(images))
    seeds = sum(w**2 * float(np.mean(a.var(axis=0, ddof=1))) / len(a) for w, a in used if len(a) > 1)
    return float(1e4 * max(0.0, float(np.var(by_image, ddof=1)) - seeds) / images)


def with_new_images(estimate: Estimate, correct: Sequence[Correct], weights: Matrix, *, confidence: float = CONFIDENCE) -> Interval | None:
    """The interval of one effect over new seeds and new images, never narrower than over new seeds alone; None where `estimate` has no
    interval or per-image results are missing. Values are in points of top-1. Satterthwaite's degrees of freedom; for a paired
    effect the pairing of seeds is in the estimate's own standard error."""
    if estimate.value is None or estimate.se is None or estimate.interval is None or not estimate.df:
        return None
    extra = image_variance(correct, weights)
    if extra is None:
        return None
    images = len(next(a[0] for w, a in zip(weights, correct, strict=True) if w != 0))
    half = (estimate.interval.high - estimate.interval.low) / 2
    own = (half / t_quantile(confidence, min(estimate.df, 1e6))) ** 2  # the variance that the interval alone rests on
    total = own + extra
    df = total**2 / (own**2 / estimate.df + extra**2 / (images - 1)) if total > 0 else estimate.df
    wide = max(half, t_quantile(confidence, min(df, 1e6)) * total**0.5)
    return Interval(low=estimate.value - wide, high=estimate.value + wide)
