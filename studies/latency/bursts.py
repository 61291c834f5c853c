"""Interleaved bursts: every network in turn, a few passes at a time, the reference among them, round after round.

Networks that are compared share every moment's drift, and each has the same neighbours' leftovers in the caches: the first passes of a
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

REFERENCE = "*reference*"  # its name among the networks of a session
WINDOW = 0.3  # seconds at least between two looks at the host: the kernel counts in ticks of 10 ms

Burst = Callable[[int], list[float]]  # n passes -> seconds of each


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a block takes and what counts as disturbed.

    `seconds` of quiet measuring are wanted, all networks together; at most `patience` times as long is spent. A burst lasts about
    `burst` seconds, a fourth of which is discarded. `foreign` is how much of a core other processes may use, `drift` how much slower
    than its best quarter the reference may be (a fraction).
    """

    seconds: float
    patience: float = 2.0
    burst: float = 0.02
    foreign: float = 0.1
    drift: float = 0.1
    cores: Sequence[int] = ()
    pinned: Sequence[int] = ()
    gpu: bool = False


@dataclass(kw_only=True)
class Block:
    """What one allocation gave: for each round the seconds of every timed pass by network, and what disturbed it (in words, or nothing)."""

    rounds: list[dict[str, list[float]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    spent: float = 0.0
    quiet: float = 0.0


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
    """Run each network for `seconds` and at least three passes; gives the seconds of a pass, the median of the second half."""
    out = {}
    for name, burst in bursts.items():
        passes: list[float] = []
        give_up = time.perf_counter() + seconds
        while len(passes) < 3 or time.perf_counter() < give_up:
            passes += burst(1)
        out[name] = statistics.median(passes[len(passes) // 2 :])
    return out


def run_block(bursts: Mapping[str, Burst], once: Mapping[str, float], pace: Pace, *, seed: int) -> Block:
    """Rounds of bursts in an order drawn anew for each, until enough of them were quiet or patience is at its end.

    `once` are the seconds of a pass, about. An untimed pass of each comes first and is part of the block's seconds. Python's garbage
    collector rests meanwhile.
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
        wanted = max(pace.seconds - (time.perf_counter() - started), pace.seconds / 2)
        # Four rounds at least, where the networks are fast enough for that.
        length = min(pace.burst, wanted / len(bursts) / 4)
        counts = {name: (max(1, round(0.25 * length / one)), max(2, round(0.75 * length / one))) for name, one in once.items()}
        _rounds(bursts, counts, pace, wanted, block, draw)
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
    names = list(bursts)
    lengths: list[float] = []
    best_clock = 0.0
    give_up = time.perf_counter() + wanted * pace.patience
    while True:
        before, first = look(pace.cores, pace.pinned, gpu=pace.gpu), len(block.rounds)
        while time.perf_counter() - before.wall < min(WINDOW, wanted / 2):
            began = time.perf_counter()
            draw.shuffle(names)
            times = {}
            for name in names:
                discarded, kept = counts[name]
                times[name] = bursts[name](discarded + kept)[discarded:]
            block.rounds.append(times)
            lengths.append(time.perf_counter() - began)
        after = look(pace.cores, pace.pinned, gpu=pace.gpu)
        best_clock = max(best_clock, before.clock, after.clock)
        note = disturbance(before, after, foreign=pace.foreign, best_clock=best_clock)
        block.notes += [note] * (len(block.rounds) - first)
        marked = notes_with_drift(block, pace.drift)
        block.quiet = sum(length for length, note in zip(lengths, marked, strict=True) if not note)
        if len(block.rounds) >= 2 and (block.quiet >= wanted or time.perf_counter() >= give_up):
            block.notes = marked
            return


def notes_with_drift(block: Block, drift: float) -> list[str]:
    """The notes of a block's rounds, with the reference's own drift noted where nothing else was.

    A round's reference counts as slow when the median over it and the rounds beside it is: one late burst is noise, three are drift.
    """
    reference = [statistics.median(r[REFERENCE]) for r in block.rounds]
    level = quarter(reference)
    out = []
    for i, note in enumerate(block.notes):
        here = statistics.median(reference[max(0, i - 1) : i + 2])
        out.append(note or (f"the reference was {here / level - 1:.0%} slower than its best quarter" if here > level * (1 + drift) else ""))
    return out


def quarter(values: Sequence[float]) -> float:
    """The lower quartile."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 4]
