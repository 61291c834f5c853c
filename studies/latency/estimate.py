"""From bursts to a latency with an interval: the fastest third of the passes, hierarchical over process, allocation, burst and pass.

A host that others use too makes passes slower, never faster, and for seconds at a time; what a network needs when it has the host to
itself is at the fast end. The mean of the fastest third moves less than a median does from one measuring to the next, and less than the
fastest pass alone. Blocks in which all networks were slower tell of the host; those that are little slower are taken to the level of the
fastest, others are left out. This file needs the standard library and numpy: it travels in bundles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bursts import Block, is_reference

# Student's t, two-sided 95 %, by degrees of freedom from 1 (any table of it).
T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)

DRAWS = 200  # of bursts, for what their number alone leaves uncertain

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The time of one pass in milliseconds.

    `typical` is that of an undisturbed pass and what networks are compared by: the mean of the fastest third of all timed passes in quiet
    rounds; `low` to `high` is its 95 % interval. `median`, `p10`, `p90` and `p99` are of the same passes, as the clock gave them. The first
    three were multiplied by `factor`, which takes them to one speed of the device (`protocol.at_speed`).
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
    """A network's timed passes (s) in one block's quiet rounds, a burst each; they were multiplied by `factor`."""

    process: int
    times: tuple[Floats, ...]
    factor: float = 1.0


def estimate(blocks: Sequence[tuple[int, Block]]) -> dict[str, Latency]:
    """The latency of every network (the references among them) from (process, block) pairs; disturbed rounds are left out.

    Blocks are taken to the level of the fastest: by how much one is slower for all networks alike is drift, not the networks'.
    """
    level = [1 / (1 + by) for by in excess([block for _, block in blocks])]
    found: dict[str, list[Bursts]] = {}
    for (process, block), factor in zip(blocks, level, strict=True):
        for name, times in quiet_passes(block).items():
            found.setdefault(name, []).append(Bursts(process, tuple(t * factor for t in times), factor))
    return {name: _latency(own) for name, own in found.items()}


def quiet_passes(block: Block) -> dict[str, list[Floats]]:
    """By network the seconds of its passes in a block's quiet rounds, an array a burst; nothing where no round was quiet."""
    quiet = [r for r, note in zip(block.rounds, block.notes, strict=True) if not note]
    return {name: [np.asarray(r[name]) for r in quiet] for name in (quiet[0] if quiet else ())}


def excess(blocks: Sequence[Block]) -> list[float]:
    """By which fraction networks were slower in each block than in the fastest one: the median over all networks, in quiet rounds. Without
    end for a block that has no quiet round."""
    levels = [{name: math.log(typical(np.concatenate(times))) for name, times in quiet_passes(block).items()} for block in blocks]
    names = next((list(level) for level in levels if level), [])
    usual = {name: np.mean([level[name] for level in levels if level]) for name in names}
    above = [float(np.median([level[name] - usual[name] for name in names])) if level else math.inf for level in levels]
    return [math.exp(by - min(above)) - 1 if math.isfinite(by) else math.inf for by in above]


def fastest_reference(blocks: Sequence[Block], slower: Sequence[float]) -> float:
    """The references' time (geometric mean, ms) in the fastest block, told by all blocks: each is `slower` than that one by a fraction."""
    logs = []
    for block, by in zip(blocks, slower, strict=True):
        own = [np.log(typical(np.concatenate(times))) for name, times in quiet_passes(block).items() if is_reference(name)]
        logs += [float(np.mean(own)) - math.log(1 + by)] if own else []
    return math.exp(float(np.median(logs))) * 1e3 if logs else math.nan


def typical(passes: Floats) -> Floats:
    """The mean of the fastest third along the last axis."""
    count = max(1, round(passes.shape[-1] / 3))
    return np.asarray(np.partition(passes, count - 1)[..., :count].mean(axis=-1))


def interval(blocks: Sequence[Bursts]) -> tuple[float, float]:
    """The logarithm of the typical time (s), and the half width of its 95 % interval.

    The standard error is the largest of three: that of the number of bursts, drawn anew within their blocks; that of blocks, which differ
    by allocation; that of processes. One block alone gives no spread of allocations: that of its bursts stands for all.
    """
    centre = math.log(typical(np.concatenate([t for b in blocks for t in b.times])))
    rng = np.random.default_rng(0)
    drawn = [np.stack(b.times)[rng.integers(0, len(b.times), (DRAWS, len(b.times)))].reshape(DRAWS, -1) for b in blocks]
    errors = [float(np.std(np.log(typical(np.concatenate(drawn, axis=1)))))]
    degrees = max(1, sum(len(b.times) for b in blocks) - 1)
    if len(blocks) > 1:
        errors.append(_error([math.log(typical(np.concatenate(b.times))) for b in blocks]))
        degrees = len(blocks) - 1
        processes = sorted({b.process for b in blocks})
        if len(processes) > 1:
            together = [[t for b in blocks if b.process == p for t in b.times] for p in processes]
            errors.append(_error([math.log(typical(np.concatenate(times))) for times in together]))
    return centre, student(degrees) * max(errors)


def student(degrees: int) -> float:
    """Student's t for a two-sided 95 % interval, within 0.5 % beyond the table."""
    return T95[degrees - 1] if degrees <= len(T95) else 1.96 + 2.5 / degrees


def _latency(blocks: Sequence[Bursts]) -> Latency:
    centre, half = interval(blocks)
    passes = np.concatenate([t / b.factor for b in blocks for t in b.times]) * 1e3
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


def _error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))
