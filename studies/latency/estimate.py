"""From bursts to a latency with an interval: drift taken out, hierarchical over process, allocation, burst and pass.

This file needs the standard library and numpy: it travels in bundles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bursts import Block

# Student's t, two-sided 95 %, by degrees of freedom from 1 (any table of it).
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)

MIDDLE = 1.1  # standard error of the mean of the middle half over that of the mean, for normal values

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The time of one pass in milliseconds.

    `median` is typical of a pass: the median within a burst, the mean of the middle half over quiet bursts, drift taken out; `low` to
    `high` is its 95 % interval. `p10`, `p90` and `p99` are of single passes in quiet rounds as the clock gave them.
    """

    median: float
    low: float
    high: float
    p10: float
    p90: float
    p99: float
    processes: int
    blocks: int
    bursts: int
    passes: int

    @property
    def half_width(self) -> float:
        """Half the interval as a fraction of the median."""
        return (self.high - self.low) / 2 / self.median

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def estimate(blocks: Sequence[tuple[int, Block]]) -> dict[str, Latency]:
    """The latency of every network (the reference among them) from (process, block) pairs; disturbed rounds are left out.

    A burst's value is the logarithm of its median pass. What all other networks of a round have in common is the round's drift, which
    is subtracted. The interval is Student's t over blocks (an allocation in a process), at least as wide as the spread of processes or
    that of bursts makes it; passes enter through their burst.
    """
    rounds = [
        (process, b, r) for b, (process, block) in enumerate(blocks) for r, note in zip(block.rounds, block.notes, strict=True) if not note
    ]
    if not rounds:
        return {}
    names = list(rounds[0][2])
    values = np.array([[math.log(float(np.median(r[name]))) for _, _, r in rounds] for name in names])
    owner = np.array([b for _, b, _ in rounds])
    process_of = np.array([process for process, _, _ in rounds])
    corrected = without_drift(values)
    out = {}
    for name, own in zip(names, corrected, strict=True):
        middle, half = interval(own, owner, process_of)
        passes = np.concatenate([r[name] for _, _, r in rounds]) * 1e3
        p10, p90, p99 = (float(q) for q in np.quantile(passes, (0.1, 0.9, 0.99)))
        out[name] = Latency(
            median=math.exp(middle) * 1e3,
            low=math.exp(middle - half) * 1e3,
            high=math.exp(middle + half) * 1e3,
            p10=p10,
            p90=p90,
            p99=p99,
            processes=len(set(process_of.tolist())),
            blocks=len(set(owner.tolist())),
            bursts=len(rounds),
            passes=len(passes),
        )
    return out


def without_drift(values: Floats) -> Floats:
    """`values` (networks, rounds), logarithms, less each round's drift: the median deviation of all other networks.

    Nobody's own noise is taken from himself, so spreads stay honest; a network with no company but the reference is set in ratio to it.
    """
    if len(values) < 2:
        return values
    deviations = values - np.median(values, axis=1, keepdims=True)
    return np.stack([own - np.median(np.delete(deviations, i, axis=0), axis=0) for i, own in enumerate(values)])


def interval(values: Floats, owner: NDArray[np.int_], process_of: NDArray[np.int_]) -> tuple[float, float]:
    """Centre and half width (95 %) of `values` (rounds,), nested in blocks (`owner`) and these in processes.

    The centre is the mean of the middle half over all rounds: late bursts do not move it, and it wastes less than a median does where
    rounds are few. One block alone gives no spread of allocations: that of its bursts stands for all, and the
    interval says less.
    """
    centre = middle_mean(values)
    blocks = sorted(set(owner.tolist()))
    middles = np.array([middle_mean(values[owner == b]) for b in blocks])
    errors = [MIDDLE * float(np.std(values, ddof=1)) / math.sqrt(len(values))] if len(values) > 1 else [0.0]
    degrees = max(1, len(values) - 1)
    if len(blocks) > 1:
        errors.append(float(np.std(middles, ddof=1)) / math.sqrt(len(middles)))
        degrees = len(blocks) - 1
        home = np.array([process_of[owner == b][0] for b in blocks])
        groups = [middles[home == process].mean() for process in sorted(set(home.tolist()))]
        if len(groups) > 1:
            errors.append(float(np.std(groups, ddof=1)) / math.sqrt(len(groups)))
    return centre, student(degrees) * max(errors)


def middle_mean(values: Floats) -> float:
    """The mean without the least and the largest fourth (the interquartile mean)."""
    ordered, cut = np.sort(values), len(values) // 4
    return float(ordered[cut : len(values) - cut].mean())


def student(degrees: int) -> float:
    """Student's t for a two-sided 95 % interval, within 0.5 % beyond the table."""
    return T95[degrees - 1] if degrees <= len(T95) else 1.96 + 2.5 / degrees
