"""Effects on the logit scale of the accuracy, where a ceiling creates no interactions.

Near 100 % the same step adds fewer points to a better network; in log odds it need not (Cox, Analysis of Binary Data, 1970, section 2.1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .analysis import Analysis, Matrix, analyse
from .means import CONFIDENCE


def logits(values: Matrix, images: int) -> Matrix:
    """Log odds of accuracies in % over `images` images, from (k + 0.5) / (images + 1), which is finite at 0 and 100 %; NaN stays."""
    if images < 1:
        raise ValueError(f"images: an accuracy needs one image or more, not {images}")
    share = (values / 100 * images + 0.5) / (images + 1)
    return np.asarray(np.log(share) - np.log1p(-share))


def analyse_logits(
    values: Matrix,
    weights: Matrix,
    *,
    images: int,
    diverged: NDArray[np.bool_] | None = None,
    confidence: float = CONFIDENCE,
    looks: tuple[int, ...] = (),
) -> Analysis:
    """`analysis.analyse` of the log odds of `values` (arms, seeds), top-1 in % over `images` images; differences are log odds ratios.
    Words have no margin here: *helps*, *hurts* or *undecided*."""
    return analyse(logits(values, images), weights, diverged=diverged, confidence=confidence, margin=0.0, looks=looks)
