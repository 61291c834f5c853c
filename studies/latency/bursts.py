"""Interleaved bursts: every network in turn, a few passes at a time, the references among them, round after round.

Networks that are compared share every moment's troubles, and each has the same neighbours' leftovers in the caches: the first passes of a
burst bring its own data back and are not counted. This file needs the standard library alone: it travels in bundles.
"""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .quiet import disturbance, look

REFERENCE_EVERY = 8  # networks: one burst more of each reference in every round, as sessions are compared by them
ROUNDS = 4  # in a block, where the networks are fast enough for that
REFERENCE_SHARE = 0.02  # of a round's time that each reference has at least
FEWEST = 4  # rounds after which a block ends at the latest once its time is over, where fewer than two were quiet
PREPARING = "preparing"  # the file in which a process says which network it prepares: whose fault it is if it dies
WINDOW = 0.3  # seconds at least between two looks at the host: the kernel counts in ticks of 10 ms

Burst = Callable[[int], list[float]]  # n passes -> seconds of each


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a process measures and what counts as disturbed.

    `seconds` of quiet measuring are wanted, all networks and blocks together; at most `patience` times as long is spent. A burst lasts
    about `burst` seconds, and up to `blocks` blocks are measured, each with new memory. `foreign` is how much of a core other processes
    may use.
    """

    seconds: float
    blocks: int = 1
    patience: float = 2.0
    burst: float = 0.01
    foreign: float = 0.1
    cores: Sequence[int] = ()
    pinned: Sequence[int] = ()
    gpu: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a process's seconds are spent: the number of its blocks, and by network how many passes of a burst are discarded and timed."""

    blocks: int
    counts: Mapping[str, tuple[int, int]]


@dataclass(kw_only=True)
class Block:
    """What one allocation gave: for each round the seconds of every timed pass by network, and what disturbed it (in words, or nothing)."""

    rounds: list[dict[str, list[float]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    spent: float = 0.0
    quiet: float = 0.0


def is_reference(name: str) -> bool:
    """Whether a network of a session is there for comparing sessions: its name is put between stars."""
    return name.startswith("*")


def timed(call: Callable[[], object], *, before: Callable[[], object] | None = None) -> Burst:
    """Passes of `call` one after another, each with its seconds; `before` runs ahead of each and is not counted."""
    clock = time.perf_counter

    def burst(passes: int) -> list[float]:
        out = []
        for _ in range(passes):
            if before is not None:
                before()
            started = clock()
            call()
            out.append(clock() - started)
        return out

    return burst


def warm_up(bursts: Mapping[str, Burst], seconds: float) -> dict[str, float]:
    """Run each network for `seconds` and at least two passes; gives the seconds of a pass, the median of the second half."""
    out = {}
    for name, burst in bursts.items():
        passes: list[float] = []
        give_up = time.perf_counter() + seconds
        while len(passes) < 2 or time.perf_counter() < give_up:
            passes += burst(1)
        out[name] = statistics.median(passes[len(passes) // 2 :])
    return out


def lay_out(once: Mapping[str, float], pace: Pace) -> Layout:
    """Bursts that fit into the time, and as many blocks as leave `ROUNDS` rounds to each; `once` are the seconds of a pass, about.

    Discarded are the first fourth of a burst, and of its first 10 ms up to three passes: a small network needs so many to bring its data
    back. At least one pass is discarded and one is timed, so that slow networks make a round last longer than `burst` for each.
    References have `REFERENCE_SHARE` of a round at least.
    """
    length = min(pace.burst, pace.seconds / len(once) / ROUNDS)
    counts = {}
    for name, one in once.items():
        discarded = max(1, round(0.25 * length / one), min(3, round(0.01 / one)))
        counts[name] = (discarded, max(1, round(length / one) - discarded))
    a_round = sum(once[name] * sum(passes) for name, passes in counts.items())
    for name in filter(is_reference, once):  # beside slow networks they must tell the level of seconds
        discarded, kept = counts[name]
        counts[name] = (discarded, max(kept, round(REFERENCE_SHARE * a_round / once[name])))
    return Layout(blocks=max(1, min(pace.blocks, int(pace.seconds / (ROUNDS * a_round)))), counts=counts)


def run_block(bursts: Mapping[str, Burst], layout: Layout, pace: Pace, *, seed: int) -> Block:
    """Rounds of bursts in an order drawn anew for each, until enough of them were quiet or patience is at its end.

    An untimed pass of each network comes first and is part of the block's seconds. Python's garbage collector rests meanwhile.
    """
    draw = random.Random(seed)
    block = Block()
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    started = time.perf_counter()
    try:
        for burst in bursts.values():
            burst(1)
        wanted = pace.seconds / layout.blocks
        _rounds(bursts, layout.counts, pace, max(wanted - (time.perf_counter() - started), wanted / 2), block, draw)
    finally:
        if was_enabled:
            gc.enable()
    block.spent = time.perf_counter() - started
    return block


def _rounds(
    bursts: Mapping[str, Burst],
    counts: Mapping[str, tuple[int, int]],
    pace: Pace,
    wanted: float,
    block: Block,
    draw: random.Random,
) -> None:
    """Add rounds to `block` until `wanted` quiet seconds are together; a window of rounds is judged as one."""
    names = [*bursts, *[name for name in bursts if is_reference(name)] * (len(bursts) // REFERENCE_EVERY)]
    best_clock = 0.0
    started = time.perf_counter()
    while True:
        before, first = look(pace.cores, pace.pinned, gpu=pace.gpu), len(block.rounds)
        while len(block.rounds) == first or time.perf_counter() - before.wall < min(WINDOW, wanted / 2):
            draw.shuffle(names)
            times: dict[str, list[float]] = {}
            for name in names:
                discarded, kept = counts[name]
                times.setdefault(name, []).extend(bursts[name](discarded + kept)[discarded:])
            block.rounds.append(times)
        after = look(pace.cores, pace.pinned, gpu=pace.gpu)
        best_clock = max(best_clock, before.clock, after.clock)
        note = disturbance(before, after, foreign=pace.foreign, best_clock=best_clock)
        block.notes += [note] * (len(block.rounds) - first)
        block.quiet += 0.0 if note else after.wall - before.wall
        # The end that is nearer: half a round more, or half a round less.
        half = (after.wall - before.wall) / 2
        enough = sum(not n for n in block.notes) >= 2 or len(block.rounds) >= FEWEST
        if enough and (block.quiet + half >= wanted or after.wall + half - started >= wanted * pace.patience):
            return
