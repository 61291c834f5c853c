"""Training throughput on a CPU: vitnas's loop beside a plain eager float32 NCHW loop, on the same rung, in the same run.

    python benchmarks/train_throughput.py [--scale micro] [--batch 64] [--rounds 5] [--threads 0] [--json]

Both loops train the same network on the same resident digits with the same optimizer and no augmentation; a round times one after the
other, `--steps` steps each after warm-up, and the order alternates between rounds. `vitnas` is the training loop with channels_last
memory and a fused optimizer, in float32; `+ bfloat16` adds autocast; `+ side by side` runs as many single-threaded trainings at once as
there are cores, as studies do, and counts all their images. Printed: images per second (median over rounds, least and most), and the
ratio to the plain loop round by round (median, least, most).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from vitnas.roadmap.model import build
from vitnas.roadmap.spec import NetSpec
from vitnas.roadmap.steps import select
from vitnas.roadmap.tracks import track
from vitnas.studies.data.feed import Feed
from vitnas.studies.data.prepare import prepare
from vitnas.studies.data.prepared import Prepared, open_prepared
from vitnas.studies.recipe import Recipe
from vitnas.studies.running.execution import usable_cpus
from vitnas.studies.training.train import Training
from vitnas.studies.trial import DataRef, Trial


def plain(spec: NetSpec, prepared: Prepared, batch: int, steps: int) -> Callable[[], float]:
    """A loop as in a tutorial: eager, float32, NCHW, AdamW as it comes."""
    network = build(spec)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, foreach=False)
    images, labels = prepared.arrays("train")
    x = torch.from_numpy(images[: batch * 8]).permute(0, 3, 1, 2).contiguous().float() / 255
    y = torch.from_numpy(labels[: batch * 8])

    def run() -> float:
        started = time.perf_counter()
        for i in range(steps):
            part = slice(i % 8 * batch, (i % 8 + 1) * batch)
            output = network(x[part])
            F.cross_entropy(output, y[part]).backward()
            optimizer.step()
            optimizer.zero_grad()
        return batch * steps / (time.perf_counter() - started)

    return run


def ours(spec: NetSpec, prepared: Prepared, batch: int, steps: int, precision: Any, compiled: bool) -> Callable[[], float]:
    """The loop that studies run, over `steps` batches an epoch."""
    recipe = Recipe(optimizer="adamw", lr=1e-3, batch_size=batch, flip=False, precision=precision, input_size=prepared.input_size)
    data = DataRef(name="digits", fingerprint=prepared.fingerprint, classes=10)
    trial = Trial(network=spec, recipe=recipe, data=data, epochs=1000, seed=0)
    import numpy as np

    indices = np.arange(batch * steps) % prepared.train
    training = Training(
        trial,
        Feed(prepared, "train", indices, torch.device("cpu")),
        mean=prepared.mean,
        std=prepared.std,
        micro_batch=None,
        compiled=compiled,
    )
    return lambda: (epoch := training.train_epoch()).images / epoch.seconds


WORKER: list[Callable[[], float]] = []


def start(spec: NetSpec, folder: Path, batch: int, steps: int) -> None:
    """Set up one single-threaded training in a worker process."""
    torch.set_num_threads(1)
    WORKER[:] = [ours(spec, open_prepared(folder), batch, steps, "float32", False)]
    WORKER[0]()


def work(_: int) -> float:
    """One timed epoch in a worker."""
    return WORKER[0]()


def measure(spec: NetSpec, prepared: Prepared, options: argparse.Namespace) -> dict[str, list[float]]:
    """Images per second of every loop, round by round."""
    loops = {
        "plain": plain(spec, prepared, options.batch, options.steps),
        "vitnas": ours(spec, prepared, options.batch, options.steps, "float32", False),
        "vitnas + bfloat16": ours(spec, prepared, options.batch, options.steps, "bfloat16", False),
    }
    if options.compile:
        loops["vitnas + compile"] = ours(spec, prepared, options.batch, options.steps, "float32", True)
        loops["vitnas + compile + bfloat16"] = ours(spec, prepared, options.batch, options.steps, "bfloat16", True)
    cores = usable_cpus()
    with ProcessPoolExecutor(cores, initializer=start, initargs=(spec, prepared.folder, options.batch, options.steps)) as pool:
        loops["vitnas, side by side"] = lambda: sum(pool.map(work, range(cores)))
        for loop in loops.values():
            loop()
        out: dict[str, list[float]] = {name: [] for name in loops}
        for i in range(options.rounds):
            for name in list(loops) if i % 2 == 0 else list(reversed(loops)):
                out[name].append(loops[name]())
    return out


def main() -> None:
    """Measure the first and the last rung."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", default="micro")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="threads of the loops that run alone; 0: all cores")
    parser.add_argument("--compile", action="store_true", help="also with torch.compile")
    parser.add_argument("--store", type=Path, default=Path(".vitnas"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or usable_cpus())
    prepared = prepare("digits", input_size=32, cache=options.store / "data")
    t = track("convnext-t")
    rungs = select(t, "all").cumulative()
    results = {}
    for rung in (rungs[0], rungs[-1]):
        choice = {k: v for k, v in rung.choice.items() if t.step(k).owner == "network"}
        spec = replace(t.spec(choice, scale=options.scale, classes=10), name=rung.name)
        rates = measure(spec, prepared, options)
        results[rung.name] = rates
        if not options.json:
            print(
                f"\n{rung.name}, scale {options.scale}, batch {options.batch}, {torch.get_num_threads()} threads, {options.rounds} rounds"
            )
            for name, values in rates.items():
                ratios = [v / p for v, p in zip(values, rates["plain"], strict=True)]
                print(
                    f"{name:28s} {statistics.median(values):8.0f} images/s ({min(values):.0f} to {max(values):.0f})   "
                    f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                )
    if options.json:
        print(json.dumps({"options": {k: str(v) for k, v in vars(options).items()}, "images_per_second": results}, indent=1))


if __name__ == "__main__":
    main()
