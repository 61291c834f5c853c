"""The estimator on real blocks of a machine whose speed drifted: tests/fixtures/latency_blocks.json, from benchmarks/latency_aa.py."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from vitnas.studies.latency.bursts import Block, is_reference
from vitnas.studies.latency.estimate import Latency, estimate
from vitnas.studies.latency.levels import excess
from vitnas.studies.latency.protocol import Effort

EFFORT = Effort()


@pytest.fixture(scope="module")
def sessions() -> list[dict[str, Latency]]:
    """Four sessions' latencies (references left out), each with the first eight processes, taken to the speed of the first."""
    recorded = json.loads((Path(__file__).parent / "fixtures" / "latency_blocks.json").read_text())
    out, usual = [], None
    for session in recorded["sessions"]:
        blocks = [
            (process, Block(rounds=[{n: [t / 1e3] for n, t in zip(recorded["networks"], ms, strict=True)}], notes=[""]))
            for process, ms in zip(session["process"], session["ms"], strict=True)
            if process < EFFORT.processes + EFFORT.extend
        ]
        near = [pair for pair, by in zip(blocks, excess([b for _, b in blocks]), strict=True) if by <= EFFORT.level]
        found, here = estimate(near, usual)
        usual = usual or here
        out.append({name: one for name, one in found.items() if not is_reference(name)})
    return out


def test_recorded_readings_are_right_to_three_per_cent(sessions: list[dict[str, Latency]]) -> None:
    """Most intervals are narrow enough to be recorded, and none of these readings is further from its network's median."""
    truth = {name: np.median([s[name].typical for s in sessions]) for name in sessions[0]}
    recorded = [(name, one) for s in sessions for name, one in s.items() if one.half_width <= EFFORT.widest]
    assert len(recorded) >= 0.85 * sum(map(len, sessions))
    assert max(abs(one.typical / truth[name] - 1) for name, one in recorded) < 0.03


def test_intervals_of_two_sessions_overlap(sessions: list[dict[str, Latency]]) -> None:
    """In nine of ten pairs at least."""
    pairs = [(a[name], b[name]) for a, b in itertools.combinations(sessions, 2) for name in a]
    assert np.mean([one.low <= other.high and other.low <= one.high for one, other in pairs]) >= 0.9


def test_taking_out_the_level_is_what_makes_sessions_agree(sessions: list[dict[str, Latency]]) -> None:
    """As the clock gave them, the same sessions differ several times as much."""
    apart = {
        scaled: np.mean([np.std([np.log(s[name].typical / (1 if scaled else s[name].factor)) for s in sessions]) for name in sessions[0]])
        for scaled in (True, False)
    }
    assert apart[False] > 3 * apart[True]
