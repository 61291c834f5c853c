"""How fast the host was in each block, by all networks together, and what that says of how much to trust it.

A host that others use too slows all networks at once, by some per cent and for seconds or minutes. How much in a block is told by all of
its networks; what that is in milliseconds by the references. This file needs the standard library and numpy: it travels in bundles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .bursts import Block, is_reference

TRUSTED = 0.1  # a block that is slower than the fastest by this fraction counts half: slow blocks scatter more

# Student's t, two-sided 95 %, by degrees of freedom from 1 (any table of it).
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """The levels of blocks: `off` (B,) are the logarithms of how much slower each was than where the references take `usual_ms`, `weights`
    (B,) add up to 1, and `error` is the half width (a fraction) of the 95 % interval of the references' own time."""

    off: Floats
    weights: Floats
    usual_ms: float
    error: float

    @property
    def middle(self) -> float:
        """The logarithm of how much slower the blocks were in the weighted mean."""
        return float(self.weights @ self.off)

    @property
    def reference_ms(self) -> float:
        """The references' time in the weighted mean of the blocks."""
        return self.usual_ms * math.exp(self.middle)


def levels(blocks: Sequence[Block], usual_ms: float | None) -> Levels:
    """The levels of `blocks`, which all have a quiet round, against `usual_ms`, or against their own mean where that is None."""
    slower = np.log1p(excess(blocks))
    weights = 1 / (1 + (slower / TRUSTED) ** 2)
    weights /= weights.sum()
    own = []  # the references' time in the fastest block, as each block tells it
    for block, by in zip(blocks, slower, strict=True):
        references = [math.log(typical(np.concatenate(times))) for name, times in quiet_passes(block).items() if is_reference(name)]
        own.append(float(np.mean(references)) - by)
    fastest, error = float(weights @ np.array(own)), spread(np.array(own), weights)
    usual = fastest + float(weights @ slower) if usual_ms is None else math.log(usual_ms / 1e3)
    return Levels(slower + fastest - usual, weights, math.exp(usual) * 1e3, error)


def spread(values: Floats, weights: Floats) -> float:
    """The half width of the 95 % interval of the weighted mean of `values`; 0 for one value."""
    share = float(weights @ weights)
    if len(values) < 2 or share >= 1:
        return 0.0
    variance = float(weights @ (values - weights @ values) ** 2) / (1 - share)
    return student(max(1, round(1 / share) - 1)) * math.sqrt(variance * share)


def excess(blocks: Sequence[Block]) -> list[float]:
    """By which fraction networks were slower in each block than in the fastest one: the median over all networks, in quiet rounds. Without
    end for a block that has no quiet round."""
    logs = [{name: math.log(typical(np.concatenate(times))) for name, times in quiet_passes(block).items()} for block in blocks]
    names = next((list(level) for level in logs if level), [])
    usual = {name: np.mean([level[name] for level in logs if level]) for name in names}
    above = [float(np.median([level[name] - usual[name] for name in names])) if level else math.inf for level in logs]
    return [math.exp(by - min(above)) - 1 if math.isfinite(by) else math.inf for by in above]


def quiet_passes(block: Block) -> dict[str, list[Floats]]:
    """By network the seconds of its passes in a block's quiet rounds, an array a burst; nothing where no round was quiet."""
    quiet = [r for r, note in zip(block.rounds, block.notes, strict=True) if not note]
    return {name: [np.asarray(r[name]) for r in quiet] for name in (quiet[0] if quiet else ())}


def typical(passes: Floats) -> Floats:
    """The mean of the fastest third along the last axis."""
    count = max(1, round(passes.shape[-1] / 3))
    return np.asarray(np.partition(passes, count - 1)[..., :count].mean(axis=-1))


def student(degrees: int) -> float:
    """Student's t for a two-sided 95 % interval, within 0.5 % beyond the table."""
    return T95[degrees - 1] if degrees <= len(T95) else 1.96 + 2.5 / degrees
