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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .bursts import PREPARING, Block, Pace, is_reference
from .device import Conditions, LatencyError
from .estimate import Latency, estimate
from .levels import excess
from .quiet import calmest, usable_cores

PROTOCOL = 4  # raised by any change after which readings would not compare
ANEW = "`vitnas latency run NAMES --new-baseline` begins anew"  # a bundle's script has no such option
NARROW = 0.01  # half width of an interval, as a fraction: wider ones are said to be wide
LOUD = 2  # processes beside which others used the host: then it will not be quiet soon
ANY_LOAD = dict.fromkeys(("foreign", "level", "swing", "widest"), math.inf)  # of an effort: whatever else runs is accepted


class Disturbed(LatencyError):
    """The host was not quiet, and nothing was recorded; the message says what disturbed. `readings` are those of other networks that were
    asked for together with these, which are recorded."""

    readings: Sequence[Any] = ()


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured, and what is accepted.

    `seconds` a network are shared out over `processes` and up to `allocations` in each. While an interval's half width is more than
    `narrow` (a fraction), up to `extend` further processes follow; a network whose interval then is wider than `widest` has no reading.

    `foreign` is how much of a core other processes may use; `level` how much slower than the fastest block others may be, for all networks
    alike, and `swing` how much slower or faster than in the first session the references (fractions). Up to `repeats` further processes
    make up for those that were louder or slower. `patience` bounds the time spent on waiting for quiet, in multiples of `seconds`.
    """

    seconds: float = 2.0
    processes: int = 2
    allocations: int = 4
    narrow: float = NARROW
    widest: float = 0.03
    extend: int = 6
    repeats: int = 4
    foreign: float = 0.1
    level: float = 0.25
    swing: float = 0.2
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
    """What a session found: latencies by network (the references among them), peak memory (MB) and energy (J) a pass where known.

    `reference_ms` is the geometric mean of the references' times in this session. Networks whose intervals stayed too wide are in `wide`
    instead, with half widths as fractions; `asked` is the half width that was asked for. `notes` tell what was repeated or left out, and
    `away` in words how far the references were from their speed in the first session, where that widens intervals by much.
    """

    latencies: Mapping[str, Latency]
    reference_ms: float
    wide: Mapping[str, float] = field(default_factory=dict)
    memory: Mapping[str, float | None] = field(default_factory=dict)
    joules: Mapping[str, float | None] = field(default_factory=dict)
    asked: float
    notes: tuple[str, ...] = ()
    away: str = ""
    pinned: bool


Start = Callable[[dict[str, Any]], dict[str, Any]]  # a job -> what its process gave


def run_session(
    candidates: Sequence[dict[str, Any]],
    conditions: Conditions,
    effort: Effort,
    start: Start,
    *,
    earlier: Sequence[float] = (),
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Session:
    """Measure `candidates` (entries of a job, the references among them) together.

    `start` runs one process; `earlier` are the references' times (ms) in earlier sessions under this key, in order: readings are taken to
    the first. LatencyError where a network does not run, `Disturbed` where too little was quiet for a reading.
    """
    usual = earlier[0] if earlier and math.isfinite(effort.swing) else None
    names = [c["name"] for c in candidates]
    assert any(map(is_reference, names)) and len(set(names)) == len(names)
    kept: list[tuple[int, Block]] = []
    notes: list[str] = []
    memory: dict[str, float | None] = {}
    joules: dict[str, float | None] = {}
    pinned, loud = True, 0
    level: list[tuple[int, Block]] = []
    latencies: dict[str, Latency] = {}
    here = 0.0
    why = ""  # there is no reading yet
    for process in range(effort.processes + effort.extend + effort.repeats):
        try:
            result = start(_job(candidates, conditions, effort, process, seed, say, energy=effort.energy and not joules))
            if result.get("errors"):
                raise LatencyError(next(iter(result["errors"].values())))
        except LatencyError as error:
            if why or not latencies:
                raise
            notes.append(f"process {process + 1} was lost: {error}")
            break
        blocks = [Block(**b) for b in result["blocks"]]
        if trouble := disturbed(blocks):
            notes.append(f"process {process + 1} was repeated: {trouble}")
            say(f"disturbed: {trouble}")
            loud += 1
            if loud > min(LOUD, effort.repeats):
                break
            continue
        kept += [(process, block) for block in blocks]
        pinned &= bool(result["pinned"])
        memory = {name: _most(memory.get(name), result["memory"].get(name)) for name in names}
        joules |= result["joules"]
        level = [
            pair for pair, by in zip(kept, excess([block for _, block in kept]), strict=True) if by <= effort.level and math.isfinite(by)
        ]
        latencies, here = estimate(level, usual)
        why = _beyond(level, here, effort, usual)
        if not why and (_narrow(latencies, effort) or len({p for p, _ in kept}) >= effort.processes + effort.extend):
            break
    if why or not latencies:
        why = trouble if loud > min(LOUD, effort.repeats) else why
        raise Disturbed(f"not recorded: {why} ({process + 1} processes): measure when nothing else runs on this machine")
    if len(level) < len(kept):
        notes.append(f"{len(kept) - len(level)} of {len(kept)} blocks were left out: all networks were slower in them, or all rounds loud")
    wide = {name: one.half_width for name, one in latencies.items() if one.half_width > effort.widest and not is_reference(name)}
    away = usual is not None and abs(here / usual - 1) > effort.widest
    return Session(
        latencies={name: one for name, one in latencies.items() if name not in wide},
        reference_ms=here,
        wide=wide,
        memory=memory,
        joules=joules,
        asked=effort.narrow,
        notes=tuple(notes),
        away=_away(here, usual) if away and usual is not None else "",
        pinned=pinned,
    )


def _job(
    candidates: Sequence[dict[str, Any]],
    conditions: Conditions,
    effort: Effort,
    process: int,
    seed: int,
    say: Callable[[str], None],
    *,
    energy: bool,
) -> dict[str, Any]:
    """What one process is to do."""
    cores = usable_cores()
    networks = sum(not is_reference(c["name"]) for c in candidates)
    pace = Pace(
        seconds=effort.seconds * networks / effort.processes,
        blocks=effort.allocations,
        patience=effort.patience,
        burst=effort.burst,
        foreign=max(effort.foreign, 0.05 * len(cores) if len(cores) > 8 else 0.0),
        cores=cores,
        pinned=calmest(cores, conditions.threads) if conditions.device == "cpu" else cores,
        gpu=conditions.device == "cuda",
    )
    several = "s" * (networks != 1)
    say(f"process {process + 1}: {networks} network{several}, about {max(1, pace.seconds):.0f} s, more while others use the host")
    return {
        "protocol": PROTOCOL,
        "conditions": asdict(conditions),
        "candidates": list(candidates),
        "pace": asdict(pace),
        "settle": effort.settle,
        "seed": seed + 100 * process,
        "energy": energy,
    }


def disturbed(blocks: Sequence[Block]) -> str:
    """What was wrong with a process's blocks, in words; empty where nothing was. Wrong are less than half of its rounds quiet."""
    notes = [note for block in blocks for note in block.notes]
    loud = [note for note in notes if note]
    if len(loud) > len(notes) / 2 or len(notes) - len(loud) < 2:
        return max(set(loud), key=loud.count) if loud else "no time for two rounds"
    return ""


def _beyond(level: Sequence[tuple[int, Block]], here: float, effort: Effort, usual: float | None) -> str:
    """Why `level`, the blocks that were not much slower than the fastest, do not make a reading yet; empty where they do. `here` and
    `usual` are the references' times (ms) in them and in the first session."""
    at_level = len({process for process, _ in level})
    if at_level < effort.processes:
        return f"all networks were more than {effort.level:.0%} slower in every process but {at_level}"
    if usual is not None and abs(here / usual - 1) > effort.swing:
        return _away(here, usual)
    return ""


def _away(here: float, usual: float) -> str:
    return f"the references took {here:.2f} ms, {usual:.2f} ms in the first session under this key ({ANEW})"


def _narrow(latencies: Mapping[str, Latency], effort: Effort) -> bool:
    return all(latency.half_width <= effort.narrow for name, latency in latencies.items() if not is_reference(name))


def _most(a: float | None, b: float | None) -> float | None:
    return max((v for v in (a, b) if v is not None), default=None)


def in_process(folder: Path, module: str, *, cwd: Path | None = None) -> Start:
    """A `start` that runs jobs in `python -m module`, their files in `folder`; threads are fixed before any library is loaded."""

    def start(job: dict[str, Any]) -> dict[str, Any]:
        job_file, result_file, preparing = folder / "job.json", folder / "result.json", folder / PREPARING
        job_file.write_text(json.dumps(job))
        result_file.unlink(missing_ok=True)
        preparing.unlink(missing_ok=True)
        threads = str(job["conditions"]["threads"])
        env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads) | {"PYTHONHASHSEED": "0"}
        done = subprocess.run(
            [sys.executable, "-m", module, str(job_file), str(result_file)], env=env, cwd=cwd, capture_output=True, text=True, check=False
        )
        with contextlib.suppress(OSError, json.JSONDecodeError):
            result: dict[str, Any] = json.loads(result_file.read_text())
            return result
        whose = preparing.read_text() if preparing.exists() else ""
        if done.returncode < 0:
            raise LatencyError(
                f"{whose}the measuring process was ended by signal {-done.returncode}"
                + (": out of memory? Measure fewer or smaller networks at a time" if done.returncode == -9 else "")
            )
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise LatencyError(f"{whose}the measuring process failed ({last[:300]}): try another backend, or --backend eager")

    return start
