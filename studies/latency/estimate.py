"""From bursts to a latency with an interval, hierarchical over process, allocation, burst and pass.

A network's time in a block is the mean of the fastest third of its passes: whatever else runs makes passes slower, never faster. Blocks
differ in level (`levels`), and a network's own time follows the level about in proportion: by how much is learned from its blocks, from
proportion as prior knowledge, and its time is what it is at the usual level. This file needs the standard library and numpy: it travels in
bundles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .bursts import Block
from .levels import Floats, Levels, levels, quiet_passes, spread, student, typical

FOLLOWS = 0.3  # sd over networks of how much more or less than in proportion a network's time follows the level
SCATTER = 0.03  # sd of a network's time from block to block, about
LATE = 0.04  # a block in which a network alone took longer than in the others by this fraction counts half for it
STEPS = 5
DRAWS = 200  # of bursts, for what their number alone leaves uncertain


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The time of one pass in milliseconds.

    `typical` is that of an undisturbed pass and what networks are compared by: the mean of the fastest third of a block's timed passes in
    quiet rounds, over all blocks, at the usual level; `low` to `high` is its 95 % interval. `median`, `p10`, `p90` and `p99` are of the
    passes of all blocks, brought to the session's mean level. `factor` takes that level to the usual one, in proportion; `typical` and
    its interval are at the usual one already.
    """

    typical: float
    low: float
    high: float
    median: float
    p10: float
    p90: float
    p99: float
    processes: int
    blocks: int
    bursts: int
    passes: int
    factor: float = 1.0

    @property
    def half_width(self) -> float:
        """Half the interval as a fraction of the typical time."""
        return (self.high - self.low) / 2 / self.typical

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def estimate(blocks: Sequence[tuple[int, Block]], usual_ms: float | None = None) -> tuple[dict[str, Latency], float]:
    """The latency of every network (the references among them) from (process, block) pairs where the references take `usual_ms` (by
    default what they took in these), and what they took. Disturbed rounds are left out; every block must have a quiet one."""
    found = levels([block for _, block in blocks], usual_ms)
    passes = [quiet_passes(block) for _, block in blocks]
    processes = np.array([process for process, _ in blocks])
    return {name: _latency([p[name] for p in passes], processes, found) for name in passes[0]}, found.reference_ms


def _latency(bursts: Sequence[Sequence[Floats]], processes: Floats, found: Levels) -> Latency:
    """One network's latency from its bursts (s) by block."""
    centre, half = interval(bursts, processes, found)
    together = np.concatenate([np.concatenate(b) / math.exp(off - found.middle) for b, off in zip(bursts, found.off, strict=True)]) * 1e3
    p10, median, p90, p99 = (float(q) for q in np.quantile(together, (0.1, 0.5, 0.9, 0.99)))
    return Latency(
        typical=math.exp(centre) * 1e3,
        low=math.exp(centre - half) * 1e3,
        high=math.exp(centre + half) * 1e3,
        median=median,
        p10=p10,
        p90=p90,
        p99=p99,
        processes=len(set(processes.tolist())),
        blocks=len(bursts),
        bursts=sum(map(len, bursts)),
        passes=len(together),
        factor=math.exp(-found.middle),
    )


def interval(bursts: Sequence[Sequence[Floats]], processes: Floats, found: Levels) -> tuple[float, float]:
    """The logarithm of the typical time (s) at the usual level, and the half width of its 95 % interval.

    The error of the mean over blocks is the largest of three: that of the number of bursts, drawn anew within their blocks; that of blocks,
    which differ by allocation; that of processes. To it come that of the references, and how far the level is from the usual one times
    what is not known of how the network follows it.
    """
    times = np.array([math.log(typical(np.concatenate(b))) for b in bursts]) - found.off
    line = _follow(times, found.off, found.weights)
    for _ in range(STEPS):  # what was late in a block for this network alone counts for less
        own = found.weights / (1 + (np.maximum(line.left, 0) / LATE) ** 2)
        line = _follow(times, found.off, own / own.sum())
    weights, share = line.weights, float(line.weights @ line.weights)
    rng = np.random.default_rng(0)
    drawn = [np.stack(b)[rng.integers(0, len(b), (DRAWS, len(b)))].reshape(DRAWS, -1) for b in bursts]
    luck = np.array([float(np.std(np.log(typical(d)))) for d in drawn])
    halves = [student(max(1, sum(map(len, bursts)) - 1)) * math.sqrt(float(weights**2 @ luck**2)), spread(line.left, weights)]
    of = [processes == p for p in sorted(set(processes.tolist()))]
    if len(of) > 1:
        means = [float(weights[i] @ line.left[i] / weights[i].sum()) for i in of]
        halves.append(student(max(1, round(1 / share) - 1)) * float(np.std(means, ddof=1)) / math.sqrt(len(means)))
    return line.usual, math.hypot(max(halves), found.error, 1.96 * line.unknown)


@dataclass(frozen=True)
class Line:
    """How a network's blocks follow the level: the logarithm of its time at the usual level, what is `left` of each block (B,), the
    blocks' `weights` (B,), and the standard error of `usual` that comes from not knowing how the network follows."""

    usual: float
    left: Floats
    weights: Floats
    unknown: float


def _follow(times: Floats, off: Floats, weights: Floats) -> Line:
    """A ridge regression of `times` (logarithms, what is in proportion taken out) on the levels `off`."""
    share = float(weights @ weights)
    middle, mean = float(weights @ off), float(weights @ times)
    apart = off - middle
    certain = float(weights @ apart**2) / share / SCATTER**2 + 1 / FOLLOWS**2
    more = float(weights @ (apart * (times - mean))) / share / SCATTER**2 / certain
    return Line(mean - more * middle, times - mean - more * apart, weights, abs(middle) / math.sqrt(certain))
