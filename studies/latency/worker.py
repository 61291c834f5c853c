"""One measuring process: it reads a job, prepares every network, checks that it computes what it should, and times blocks of bursts.

    python -m <package>.worker JOB.json RESULT.json

A process has allocations of its own and gives new ones for every block. This file needs numpy and the backend's library alone (torch
for its own backends): it travels in bundles.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .bursts import PREPARING, Block, Burst, Layout, Pace, is_reference, lay_out, run_block, timed, warm_up
from .device import Conditions, LatencyError, out_of_memory
from .onnx_backends import onnx_backend
from .power import Peak, energy_counter, joules_per_pass, peak_memory, settle
from .quiet import pin

# Root mean square of the difference from eager float32 on the processor, as a fraction of the outputs' standard deviation over classes.
TOLERANCE = {"fp32": 1e-3, "fp16": 0.03, "bf16": 0.4, "int8": 0.8}
Array = NDArray[Any]


class Candidate:
    """One network of a job, ready to be timed: its passes, its output, and new memory for it."""

    def __init__(self, entry: dict[str, Any], folder: Path, conditions: Conditions, backend: Any) -> None:
        self.name: str = entry["name"]
        self.backend, self.conditions = backend, conditions
        example = np.load(folder / entry["example"])
        batch = entry.get("batch") or conditions.batch
        self.image: Array = np.ascontiguousarray(np.repeat(example["image"], batch, axis=0))
        self.expected: Array = np.repeat(example["expected"], batch, axis=0)
        self.file = str(folder / entry["file"])
        self.spec: dict[str, Any] = entry.get("spec", {})
        self.ballast: Array = np.zeros(0)
        self.device_ballast: Any = None
        self.call: Any = None

    def prepare(self) -> None:
        """Load the network; afterwards `call` is one pass."""
        if self.conditions.backend in ("eager", "compile"):
            import torch

            from ...roadmap.model import Network
            from ...roadmap.spec import from_dict
            from .torch_backends import Uninitialised

            with Uninitialised():
                network = Network(from_dict(self.spec)).eval().requires_grad_(False)
            network.load_state_dict(torch.load(self.file, weights_only=True, mmap=True), assign=True)
            self.call = self.backend.prepare(network, self.image)
            if self.conditions.device == "cuda":
                self.call()
                self.call.capture()
        else:
            self.call = self.backend.prepare(self.file, self.image)

    def move(self, draw: np.random.Generator) -> None:
        """New memory for the network, behind a ballast of random size, so that another block has other addresses."""
        size = int(draw.integers(1, 1 << 20))
        self.ballast = np.ones(size, dtype=np.uint8)
        if self.conditions.device == "cuda" and hasattr(self.call, "move"):
            import torch

            self.device_ballast = torch.empty(size, dtype=torch.uint8, device="cuda")
        if hasattr(self.call, "move"):
            self.call.move()
        else:
            self.call = self.backend.prepare(self.file, np.array(self.image))

    def check(self) -> None:
        """LatencyError where the output differs from eager's by more than the precision's tolerance."""
        output = self.call.output() if hasattr(self.call, "output") else self.call()
        difference = parity(np.asarray(output, dtype=np.float32), self.expected)
        most = TOLERANCE[self.conditions.precision]
        if not difference <= most:
            raise LatencyError(
                f"{self.name}: {self.conditions.backend} in {self.conditions.precision} differs from eager by {difference:.1e} of its "
                f"outputs' spread, more than {most:g}: it is not timed; use another backend or precision"
            )

    def burst(self, before: Callable[[], object] | None) -> Burst:
        """Timed passes, with the device's own clock."""
        if self.conditions.device == "cuda" and hasattr(self.call, "cuda_burst"):
            burst: Burst = self.call.cuda_burst(before)
            return burst
        return timed(self.call, before=before)


def parity(output: Array, expected: Array) -> float:
    """The root mean square of the difference, as a fraction of the standard deviation of `expected` (N, classes) over classes."""
    spread = float(np.std(expected, axis=-1).mean())
    return float(np.sqrt(np.mean((output - expected) ** 2))) / max(spread, 1e-12)


def evict(conditions: Conditions) -> Callable[[], object] | None:
    """What empties the caches before a pass, where they are to be cold: data of twice the largest cache, 128 MB at most, is read and
    written (256 MB on a GPU)."""
    if conditions.cache == "warm":
        return None
    if conditions.device == "cuda":
        import torch

        filler = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
        return filler.zero_
    sizes = [p.read_text().strip() for p in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    largest = max((int(s.rstrip("KM")) << (10 if s.endswith("K") else 20) for s in sizes), default=32 << 20)
    block = np.zeros(2 * min(largest, 64 << 20), dtype=np.uint8)
    return lambda: np.add(block, 1, out=block)


def run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Carry out `job`, whose files lie in `folder`; plain data of its blocks, or of what stood in the way by network."""
    pinned = pin(job["pace"]["pinned"])
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # indices of GPUs as nvidia-smi has them
    conditions = Conditions(**job["conditions"])
    if conditions.backend in ("eager", "compile"):
        from .torch_backends import torch_backend

        backend: Any = torch_backend(conditions)
    else:
        backend = onnx_backend(conditions)
    candidates, memory, errors = [], {}, {}
    for entry in job["candidates"]:
        (folder / PREPARING).write_text(f"{entry['name']}: ")
        try:
            candidate = Candidate(entry, folder, conditions, backend)
            with _peak(conditions) as peak:
                candidate.prepare()
                candidate.check()
        except LatencyError as error:
            errors[entry["name"]] = str(error)
            continue
        except Exception as error:  # runtimes raise errors of classes of their own; this network's must not end the others'
            errors[entry["name"]] = trouble(entry["name"], error, conditions)
            continue
        candidates.append(candidate)
        memory[candidate.name] = peak.megabytes
    (folder / PREPARING).unlink(missing_ok=True)
    if errors:
        return {"errors": errors}
    before = evict(conditions)
    draw = np.random.default_rng(job["seed"])
    reference = next(c for c in candidates if is_reference(c.name))
    settle(job["settle"], reference.call)
    pace = Pace(**job["pace"])
    blocks: list[Block] = []
    once: dict[str, float] = {}
    layout = Layout(blocks=1, counts={})
    while len(blocks) < layout.blocks:
        order = draw.permutation(len(candidates)) if conditions.device == "cuda" else range(len(candidates))  # its allocator repeats itself
        for i in order:
            try:
                candidates[i].move(draw)
            except Exception as error:
                return {"errors": {candidates[i].name: trouble(candidates[i].name, error, conditions)}}
        bursts = {c.name: c.burst(before) for c in candidates}
        if not blocks:  # code is warm after the first block; new memory wants one pass
            once = warm_up(bursts, pace.seconds / 20 / len(bursts))
            layout = lay_out(once, pace)
        blocks.append(run_block(bursts, layout, pace, seed=job["seed"] + len(blocks)))
    counter = energy_counter(conditions.device) if job.get("energy") else None
    joules: dict[str, float | None] = {}
    if counter is not None:
        emptying = repeated(before, conditions) if before is not None else None
        joules = {c.name: joules_per_pass(bursts[c.name], once[c.name], counter, emptying) for c in candidates}
    captured = {c.name: bool(c.call.captured) for c in candidates if conditions.device == "cuda" and hasattr(c.call, "captured")}
    return {"blocks": [asdict(b) for b in blocks], "memory": memory, "joules": joules, "captured": captured, "pinned": pinned}


def repeated(before: Callable[[], object], conditions: Conditions) -> Callable[[int], object]:
    """`before` alone, n times, until the device has done it."""

    def burst(times: int) -> None:
        for _ in range(times):
            before()
        if conditions.device == "cuda":
            import torch

            torch.cuda.synchronize()

    return burst


@contextlib.contextmanager
def _peak(conditions: Conditions) -> Iterator[Peak]:
    """The growth of peak memory within the block: of what torch holds on a GPU, else of this process's resident memory."""
    if conditions.device != "cuda" or conditions.backend not in ("eager", "compile"):
        with peak_memory() as peak:
            yield peak
        return
    import torch

    peak = Peak()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    yield peak
    peak.grew((torch.cuda.max_memory_allocated() - before) / 1e6)


def trouble(name: str, error: Exception, conditions: Conditions) -> str:
    """One line for an error of a library, with the next move."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if out_of_memory(error):
        return f"{name} does not fit in the memory of the {conditions.device}: use a smaller --batch or --input-size"
    return f"{name} does not run on {conditions.backend} in {conditions.precision} ({text[:200]}): use another backend"


def _end_with_parent() -> None:
    """End when the process that started this one is gone: nobody would read the result, and the next measuring would be disturbed."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Read the job named first, write its result to the file named second."""
    job_file, result_file = Path(sys.argv[1]), Path(sys.argv[2])
    job = json.loads(job_file.read_text())
    _end_with_parent()
    try:
        result = run(job, job_file.parent)
    except LatencyError as error:
        result = {"errors": {"": str(error)}}
    result_file.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
