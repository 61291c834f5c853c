"""From bursts to a latency with an interval: drift taken out, hierarchical over process, allocation, burst and pass.

This file needs the standard library and numpy: it travels in bundles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bursts import Block

# Student's t, two-sided 95 %, by degrees of freedom from 1 (any table of it).
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The time of one pass in milliseconds.

    `median` is the quiet machine's: the mean over blocks (an allocation in a process) of their median burst, drift taken out; `low` to
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

    A burst's value is the logarithm of its median pass. What all other networks of a round have in common is the round's drift; it is
    subtracted as far as this network was seen to follow it. The interval is Student's t over the means of blocks, at least as wide as
    the spread of processes or that of bursts makes it; passes enter through their burst.
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
    corrected = without_drift(values, owner)
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


def without_drift(values: Floats, owner: NDArray[np.int_]) -> Floats:
    """`values` (networks, rounds), logarithms, less each round's drift; `owner` (rounds,) is the block that a round belongs to.

    For each network the drift is the median deviation of the others, so that nobody's own noise is taken from himself; the share of it
    that is subtracted (from none to all) is the slope with which the network's deviations followed it.
    """
    deviations = values - _typical(values, owner)
    out = values.copy()
    for i in range(len(values)):
        others = np.delete(deviations, i, axis=0)
        if not len(others):
            continue
        drift = np.median(others, axis=0)
        out[i] = values[i] - following(deviations[i], drift) * drift
    return out


def following(own: Floats, drift: Floats) -> float:
    """The slope of `own` on `drift` (rounds,) through the origin, held to [0, 1]; outliers count as three typical deviations."""
    limit = 3 * 1.4826 * np.median(np.abs(drift))
    x, y = np.clip(drift, -limit, limit), own
    spread = 3 * 1.4826 * np.median(np.abs(own))
    y = np.clip(y, -spread, spread)
    power = float(x @ x)
    return min(1.0, max(0.0, float(x @ y) / power)) if power > 0 else 0.0


def _typical(values: Floats, owner: NDArray[np.int_]) -> Floats:
    """Each network's median over all rounds (networks, 1)."""
    return np.median(values, axis=1, keepdims=True)


def interval(values: Floats, owner: NDArray[np.int_], process_of: NDArray[np.int_]) -> tuple[float, float]:
    """Centre and half width (95 %) of `values` (rounds,), nested in blocks (`owner`) and these in processes.

    One block alone gives no spread of allocations: its bursts' spread stands for all, and the interval says less.
    """
    blocks = sorted(set(owner.tolist()))
    means = np.array([np.median(values[owner == b]) for b in blocks])
    centre = float(np.mean(means))
    within = np.concatenate([values[owner == b] - m for b, m in zip(blocks, means, strict=True)])
    # The median's standard error, from the spread that is robust to late bursts.
    errors = [1.2533 * 1.4826 * float(np.median(np.abs(within))) / math.sqrt(len(within))]
    degrees = max(1, len(within) - len(blocks))
    if len(blocks) > 1:
        errors.append(float(np.std(means, ddof=1)) / math.sqrt(len(means)))
        degrees = len(blocks) - 1
        groups = [
            np.mean([m for b, m in zip(blocks, means, strict=True) if process_of[owner == b][0] == p])
            for p in sorted(set(process_of.tolist()))
        ]
        if len(groups) > 1:
            errors.append(float(np.std(groups, ddof=1)) / math.sqrt(len(groups)))
    return centre, student(degrees) * max(errors)


def student(degrees: int) -> float:
    """Student's t for a two-sided 95 % interval, within 0.5 % beyond the table."""
    return T95[degrees - 1] if degrees <= len(T95) else 1.96 + 2.5 / degrees


def summary(latencies: Mapping[str, Latency]) -> float:
    """The widest half width, a fraction."""
    return max((latency.half_width for latency in latencies.values()), default=math.inf)
