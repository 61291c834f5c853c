"""From bursts to a latency with an interval: the fastest third of the passes, hierarchical over process, allocation, burst and pass.

A host that others use too makes passes slower, never faster, and for seconds at a time; what a network needs when it has the host to
itself is at the fast end. The mean of the fastest third moves less than a median does from one measuring to the next, and less than the
fastest pass alone. This file needs the standard library and numpy: it travels in bundles.
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

DRAWS = 200  # of bursts, for what their number alone leaves uncertain

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The time of one pass in milliseconds.

    `typical` is that of an undisturbed pass and what networks are compared by: the mean of the fastest third of all timed passes in quiet
    rounds; `low` to `high` is its 95 % interval. `median`, `p10`, `p90` and `p99` are of the same passes, as the clock gave them. The first
    three were multiplied by `factor`, which takes them to the device's usual speed (`protocol.at_usual_speed`).
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


@dataclass(frozen=True)
class Bursts:
    """A network's timed passes (s) in one block's quiet rounds, a burst each."""

    process: int
    times: tuple[Floats, ...]


def estimate(blocks: Sequence[tuple[int, Block]]) -> dict[str, Latency]:
    """The latency of every network (the reference among them) from (process, block) pairs; disturbed rounds are left out.

    Processes are taken to the level of the fastest: by how much one is slower for all networks alike is drift, not the networks'.
    """
    found = quiet_bursts(blocks)
    processes = sorted({process for process, _ in blocks})
    each = {p: [block for process, block in blocks if process == p] for p in processes}
    above = {p: slower(own, each[processes[0]]) for p, own in each.items()} if len(processes) > 1 else dict.fromkeys(processes, 0.0)
    least = min(above.values(), default=0.0)
    level = {p: (1 + least) / (1 + by) for p, by in above.items()}
    return {name: _latency(own, level) for name, own in found.items()}


def quiet_bursts(blocks: Sequence[tuple[int, Block]]) -> dict[str, list[Bursts]]:
    """By network its passes in quiet rounds, a Bursts a block that has any."""
    out: dict[str, list[Bursts]] = {}
    for process, block in blocks:
        quiet = [r for r, note in zip(block.rounds, block.notes, strict=True) if not note]
        for name in quiet[0] if quiet else ():
            out.setdefault(name, []).append(Bursts(process, tuple(np.asarray(r[name]) for r in quiet)))
    return out


def typical(passes: Floats) -> float:
    """The mean of the fastest third."""
    count = max(1, round(len(passes) / 3))
    return float(np.partition(passes, count - 1)[:count].mean())


def interval(blocks: Sequence[Bursts]) -> tuple[float, float]:
    """The logarithm of the typical time (s), and the half width of its 95 % interval.

    The standard error is the largest of three: that of the number of bursts, drawn anew within their blocks; that of blocks, which differ
    by allocation; that of processes. One block alone gives no spread of allocations: that of its bursts stands for all.
    """
    centre = math.log(typical(np.concatenate([t for b in blocks for t in b.times])))
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(DRAWS):
        chosen = [b.times[i] for b in blocks for i in rng.integers(0, len(b.times), len(b.times))]
        drawn.append(math.log(typical(np.concatenate(chosen))))
    errors = [float(np.std(drawn))]
    degrees = max(1, sum(len(b.times) for b in blocks) - 1)
    if len(blocks) > 1:
        errors.append(_error([math.log(typical(np.concatenate(b.times))) for b in blocks]))
        degrees = len(blocks) - 1
        processes = sorted({b.process for b in blocks})
        if len(processes) > 1:
            together = [[t for b in blocks if b.process == p for t in b.times] for p in processes]
            errors.append(_error([math.log(typical(np.concatenate(times))) for times in together]))
    return centre, student(degrees) * max(errors)


def slower(blocks: Sequence[Block], others: Sequence[Block]) -> float:
    """By which fraction networks were slower in `blocks` than in `others`, in quiet rounds: the median over all networks. 0 where either
    has no quiet round."""
    here, there = (quiet_bursts([(0, b) for b in several]) for several in (blocks, others))
    ratios = [_level(here[name]) / _level(there[name]) for name in here if name in there]
    return float(np.median(ratios)) - 1 if ratios else 0.0


def student(degrees: int) -> float:
    """Student's t for a two-sided 95 % interval, within 0.5 % beyond the table."""
    return T95[degrees - 1] if degrees <= len(T95) else 1.96 + 2.5 / degrees


def _latency(blocks: Sequence[Bursts], level: Mapping[int, float]) -> Latency:
    centre, half = interval([Bursts(b.process, tuple(t * level[b.process] for t in b.times)) for b in blocks])
    passes = np.concatenate([t for b in blocks for t in b.times]) * 1e3
    p10, median, p90, p99 = (float(q) for q in np.quantile(passes, (0.1, 0.5, 0.9, 0.99)))
    return Latency(
        typical=math.exp(centre) * 1e3,
        low=math.exp(centre - half) * 1e3,
        high=math.exp(centre + half) * 1e3,
        median=median,
        p10=p10,
        p90=p90,
        p99=p99,
        processes=len({b.process for b in blocks}),
        blocks=len(blocks),
        bursts=sum(len(b.times) for b in blocks),
        passes=len(passes),
    )


def _level(blocks: Sequence[Bursts]) -> float:
    return typical(np.concatenate([t for b in blocks for t in b.times]))


def _error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))
