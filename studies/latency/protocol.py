"""The protocol of a measuring session: several processes, repeats of disturbed ones, and an end when the intervals are narrow.

This file needs the standard library and numpy: it travels in bundles, so that every device is measured alike.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .bursts import REFERENCE, Block, Pace
from .device import Conditions, LatencyError
from .estimate import Latency, estimate, slower
from .quiet import calmest, usable_cores

PROTOCOL = 2  # raised by any change after which readings would not compare
FOLLOW = 0.7  # of the reference's deviation from its usual time; what made networks agree best between sessions on a shared machine


class Disturbed(LatencyError):
    """The host was not quiet, and nothing was recorded; the message says what disturbed."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured, and what is accepted.

    `seconds` a network are shared out over `processes` and up to `allocations` in each. While an interval's half width is more than
    `narrow` (a fraction), up to `extend` further processes follow. A disturbed process is repeated up to `repeats` times. `foreign` is
    how much of a core other processes may use; `swing` how much slower a process's networks may be than those of another, and its
    reference than in earlier sessions (fractions). Without end, the two accept everything. `patience` bounds the time spent on waiting
    for quiet, in multiples of `seconds`.
    """

    seconds: float = 2.0
    processes: int = 2
    allocations: int = 4
    narrow: float = 0.01
    extend: int = 4
    repeats: int = 2
    foreign: float = 0.1
    swing: float = 0.15
    patience: float = 2.0
    burst: float = 0.01
    settle: float = 0.5
    energy: bool = True

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise LatencyError(f"seconds: must be more than 0, not {self.seconds}")
        if self.processes < 1 or self.allocations < 1:
            raise LatencyError("processes and allocations: at least one of each is needed")


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a session found: latencies by network (the reference among them), peak memory (MB) and energy (J) a pass where known.

    `narrow` says whether every interval became as narrow as asked; `notes` tell what was repeated.
    """

    latencies: Mapping[str, Latency]
    memory: Mapping[str, float | None] = field(default_factory=dict)
    joules: Mapping[str, float | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    narrow: bool
    pinned: bool


Start = Callable[[dict[str, Any]], dict[str, Any]]  # a job -> what its process gave


def run_session(
    candidates: Sequence[dict[str, Any]],
    conditions: Conditions,
    effort: Effort,
    start: Start,
    *,
    reference_ms: float | None = None,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Session:
    """Measure `candidates` (entries of a job, the reference among them) together.

    `start` runs one process; `reference_ms` is the reference's usual time in earlier sessions under the same key. LatencyError where a
    network does not run, `Disturbed` where a process stayed disturbed through its repeats.
    """
    names = [c["name"] for c in candidates]
    assert REFERENCE in names and len(set(names)) == len(names)
    kept: list[tuple[int, list[Block]]] = []
    notes: list[str] = []
    memory: dict[str, float | None] = {}
    joules: dict[str, float | None] = {}
    pinned, started, latencies = True, 0, dict[str, Latency]()
    while started < effort.processes + effort.extend + effort.repeats and len(kept) < effort.processes + effort.extend:
        earlier = [block for _, blocks in kept for block in blocks]
        try:
            result, blocks = _calm_process(candidates, conditions, effort, start, started, seed, earlier, reference_ms, notes, say)
        except Disturbed:
            if len(kept) < effort.processes:
                raise
            break  # what is there is enough for a reading, if a wide one
        kept.append((started, blocks))
        started += 1
        late = [blocks for _, blocks in kept if any(slower(blocks, other) > effort.swing for _, other in kept if other is not blocks)]
        if late:
            notes.append(f"{len(late)} processes were left out: networks were slower in them than in a later one")
            kept = [(process, blocks) for process, blocks in kept if not any(blocks is one for one in late)]
        pinned &= bool(result["pinned"])
        memory = {name: _most(memory.get(name), result["memory"].get(name)) for name in names}
        joules |= result["joules"]
        latencies = estimate([(process, block) for process, blocks in kept for block in blocks])
        if len(kept) >= effort.processes and _narrow(latencies, effort):
            break
    if len(kept) < effort.processes:
        raise Disturbed(f"not recorded: {notes[-1]}: measure when nothing else runs on this machine")
    if reference_ms and math.isfinite(effort.swing):
        latencies = at_usual_speed(latencies, reference_ms)
    return Session(latencies=latencies, memory=memory, joules=joules, notes=tuple(notes), narrow=_narrow(latencies, effort), pinned=pinned)


def _calm_process(
    candidates: Sequence[dict[str, Any]],
    conditions: Conditions,
    effort: Effort,
    start: Start,
    process: int,
    seed: int,
    earlier: Sequence[Block],
    reference_ms: float | None,
    notes: list[str],
    say: Callable[[str], None],
) -> tuple[dict[str, Any], list[Block]]:
    """One process that was not disturbed, with its blocks."""
    for attempt in range(effort.repeats + 1):
        cores = usable_cores()
        pace = Pace(
            seconds=effort.seconds * (len(candidates) - 1) / effort.processes,
            blocks=effort.allocations,
            patience=effort.patience,
            burst=effort.burst,
            foreign=max(effort.foreign, 0.05 * len(cores) if len(cores) > 8 else 0.0),
            cores=cores,
            pinned=calmest(cores, conditions.threads) if conditions.device == "cpu" else cores,
            gpu=conditions.device == "cuda",
        )
        say(f"process {process + 1}: {len(candidates) - 1} networks, about {pace.seconds:.0f} s")
        job = {
            "protocol": PROTOCOL,
            "conditions": asdict(conditions),
            "candidates": list(candidates),
            "pace": asdict(pace),
            "settle": effort.settle,
            "seed": seed + 1000 * process + 100 * attempt,
            "energy": effort.energy and process == 0,
        }
        result = start(job)
        if result.get("errors"):
            raise LatencyError(next(iter(result["errors"].values())))
        blocks = [Block(**b) for b in result["blocks"]]
        trouble = disturbed(blocks, earlier, effort, reference_ms)
        if not trouble:
            return result, blocks
        notes.append(f"process {process + 1} was repeated: {trouble}")
        say(f"disturbed: {trouble}")
    raise Disturbed(
        f"not recorded: {notes[-1].partition(': ')[2]} ({effort.repeats + 1} attempts): measure when nothing else runs on this machine"
    )


def at_usual_speed(latencies: Mapping[str, Latency], reference_ms: float) -> dict[str, Latency]:
    """The networks' latencies as they would be if the reference took `reference_ms`, its usual time; its own stays.

    From one session to the next a shared machine is some per cent faster or slower for all networks alike, and the reference tells by how
    much. It is small and swings wider than most: of its deviation `FOLLOW` is taken, and as much of its uncertainty is added.
    """
    reference = latencies[REFERENCE]
    factor = (reference_ms / reference.typical) ** FOLLOW
    out = {}
    for name, latency in latencies.items():
        half = math.hypot(math.log(latency.high / latency.low), FOLLOW * math.log(reference.high / reference.low)) / 2
        middle = latency.typical * factor
        ends = {"typical": middle, "low": middle * math.exp(-half), "high": middle * math.exp(half), "factor": factor}
        out[name] = latency if name == REFERENCE else replace(latency, **ends)
    return out


def disturbed(blocks: Sequence[Block], earlier: Sequence[Block], effort: Effort, reference_ms: float | None) -> str:
    """What was wrong with a process's blocks, in words; empty where nothing was.

    Wrong are less than half of its rounds quiet, networks slower than in other processes, and a reference slower than in earlier sessions.
    """
    notes = [note for block in blocks for note in block.notes]
    loud = [note for note in notes if note]
    if len(loud) > len(notes) / 2 or len(notes) - len(loud) < 2:
        return max(set(loud), key=loud.count) if loud else "no time for two rounds"
    if earlier and (by := slower(blocks, earlier)) > effort.swing:
        return f"networks were {by:.0%} slower than in the other processes"
    here = estimate([(0, block) for block in blocks])[REFERENCE].typical if reference_ms else 0.0
    if reference_ms and here > reference_ms * (1 + effort.swing):
        return f"the reference took {here:.2f} ms, {reference_ms:.2f} ms in earlier sessions"
    return ""


def _narrow(latencies: Mapping[str, Latency], effort: Effort) -> bool:
    return all(latency.half_width <= effort.narrow for name, latency in latencies.items() if name != REFERENCE)


def _most(a: float | None, b: float | None) -> float | None:
    return max((v for v in (a, b) if v is not None), default=None)


def in_process(folder: Path, module: str, *, cwd: Path | None = None) -> Start:
    """A `start` that runs jobs in `python -m module`, their files in `folder`; threads are fixed before any library is loaded."""

    def start(job: dict[str, Any]) -> dict[str, Any]:
        job_file, result_file = folder / "job.json", folder / "result.json"
        job_file.write_text(json.dumps(job))
        result_file.unlink(missing_ok=True)
        threads = str(job["conditions"]["threads"])
        env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads) | {"PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [sys.executable, "-m", module, str(job_file), str(result_file)], env=env, cwd=cwd, capture_output=True, text=True, check=False
        )
        with contextlib.suppress(OSError, json.JSONDecodeError):
            result: dict[str, Any] = json.loads(result_file.read_text())
            return result
        if done.returncode < 0:
            raise LatencyError(
                f"the measuring process was ended by signal {-done.returncode}"
                + (": out of memory? Measure fewer or smaller networks at a time" if done.returncode == -9 else "")
            )
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise LatencyError(f"the measuring process failed ({last[:300]}): try another backend, or --backend eager")

    return start
