"""Early stopping on real training: annealed rungs and promotion that minds noise, against ASHA on the prefixes of a cosine.

    python benchmarks/early_stopping.py [--data FOLDER] [--store .vitnas-early] [--minutes 60] [--pools 3] [--candidates 40] [--json]

Images: `--images` of the train part of CIFAR-10 (FOLDER has its two parquet files; default shared/data/cifar10), a tenth held out as
validation, `--fraction` of the rest to train on, and 5,000 test images. Candidates: random legal networks of the track convnext-t at
scale micro, with random widths and depths; their cost is multiply-adds. All methods get the same candidates in the same order, one
worker each, the recipe `short`, and the rungs of `--rungs` epochs.

    asha       trains a cosine of the last rung's epochs and stops it at rungs; 1 in 3 moves up, by non-dominated rank (k = 0)
    annealed   every rung cools down, as in `vitnas search` (schedule wsd, docs/rungs.md); 1 in `--eta` moves up, and who is near the
               front (k = 1)

With `--ablate` also either half of the second alone: `minding`, the promotion on a cosine's prefixes, and `cooling`, plain halving of
annealed rungs. Epochs are counted as each method spends them: what a rung takes from the candidate's earlier rungs is free.

A method returns its front at the top rung, by validation. To judge, every returned network is trained from scratch with the whole
cosine and `--judges` seeds that no method used, and scored on the test images. Hypervolume: the logarithm of multiply-adds and the judged
accuracy, both scaled to [0, 1] over the pool's candidates and over all networks judged in it; reference one tenth beyond the worst
corner. Intervals come from the noise of the judging seeds, pooled over networks. Differences are to `asha`.

It stops after `--minutes`; run it again to continue, or to print what is known. Trainings are kept in the store.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitnas.roadmap.cost import cost
from vitnas.roadmap.numbers import Numbers
from vitnas.roadmap.spec import NetSpec
from vitnas.roadmap.steps import StepError
from vitnas.roadmap.tracks import track
from vitnas.studies.data.prepare import prepare
from vitnas.studies.recipe import SHORT, Recipe
from vitnas.studies.search.halving import Done, Halving, Promote, Replicate, Score, Training
from vitnas.studies.search.trainings import ETA, annealed
from vitnas.studies.store import Store
from vitnas.studies.training.run_trial import How, run_part, run_trial
from vitnas.studies.trial import DataRef, Trial

SIZE, CLASSES, TEST = 32, 10, 5000
LARGEST = 6e6  # multiply-adds
JUDGING = 100  # seeds from here judge
RECIPE = replace(SHORT.modern, input_size=SIZE, precision="float32", flip=True)


class TimeIsUp(Exception):
    """The minutes are spent; what was trained is in the store."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A rule, and whether its rungs are annealed."""

    name: str
    rule: Halving
    annealed: bool


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all processes share: where trainings are kept, the data, the rungs, and until when (seconds since 1970)."""

    root: Path
    data: Path
    ref: DataRef
    rungs: tuple[int, ...]
    deadline: float


@dataclass(frozen=True, kw_only=True)
class Explored:
    """What a method found in a pool: names of its front by rising cost, epochs spent, trainings at each rung."""

    front: tuple[str, ...]
    epochs: int
    trainings: tuple[int, ...]


def methods(rungs: tuple[int, ...], eta: float, ablate: bool) -> list[Method]:
    """The methods; finalists are not replicated, in none of them."""
    plain = Halving(rungs=rungs, k=0, final_seeds=1)
    minding = replace(plain, k=1, eta=eta)
    own = [Method(name="asha", rule=plain, annealed=False), Method(name="annealed", rule=minding, annealed=True)]
    halves = [Method(name="minding", rule=minding, annealed=False), Method(name="cooling", rule=plain, annealed=True)]
    return own + halves if ablate else own


def some_images(source: Path, folder: Path, images: int) -> Path:
    """A folder with `images` random images of the train part, and the first `TEST` of the test part, as parquet files."""
    import pyarrow.parquet as pq

    if not (folder / "test.parquet").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("train", "test"):
            (file,) = sorted(source.glob(f"{part}-*.parquet"))
            table = pq.read_table(file)
            rows = np.arange(TEST) if part == "test" else np.sort(np.random.default_rng(0).permutation(len(table))[:images])
            pq.write_table(table.take(rows), folder / f"{part}.parquet")
    return folder


def pools(number: int, candidates: int) -> list[dict[str, NetSpec]]:
    """Distinct random legal networks: each step on or off, widths and depths by random factors; by fingerprint, in drawing order."""
    rng = np.random.default_rng(6)
    convnext = track("convnext-t")
    steps = [s for s in convnext.steps if s.owner == "network" and s.adopted]
    found: dict[str, NetSpec] = {}
    while len(found) < number * candidates:
        choice = {s.name: s.value for s in steps if rng.random() < 0.6}
        numbers = Numbers(width_factor=float(rng.choice([0.5, 0.75, 1, 1.5, 2])), depth_factor=float(rng.choice([1, 2])))
        try:
            spec = convnext.spec(choice, scale="micro", input_size=SIZE, classes=CLASSES, numbers=numbers)
        except StepError:
            continue
        if cost(spec, SIZE).macs <= LARGEST:
            found.setdefault(spec.fingerprint, spec)
    names = list(found)
    return [{n: found[n] for n in names[i * candidates : (i + 1) * candidates]} for i in range(number)]


def trial_of(setting: Setting, method: Method, spec: NetSpec, rung: int, seed: int) -> Trial:
    """The training of a rung: a whole one that cools down, or the cosine that is stopped there."""
    if method.annealed:
        recipe, epochs = annealed(RECIPE, setting.rungs), setting.rungs[rung]
    else:
        recipe, epochs = RECIPE, setting.rungs[-1]
    return Trial(network=spec, recipe=recipe, data=setting.ref, epochs=epochs, seed=seed)


def train(setting: Setting, method: Method, spec: NetSpec, rung: int, seed: int) -> float | None:
    """Validation top-1 (%) at a rung; None where it diverged."""
    store, trial = Store(setting.root), trial_of(setting, method, spec, rung, seed)
    if method.annealed:
        result = run_trial(store, trial, setting.data, How(), splits=("validation",), on_epoch=clock(setting))
        return result.scores["validation"].top1 if result.scores else None
    curve = run_part(store, trial, setting.data, How(), setting.rungs[rung], on_epoch=clock(setting))
    top1: float | None = curve[-1]["top1"]
    return top1


def clock(setting: Setting) -> Callable[[dict[str, Any]], None]:
    """What stops a training between epochs when the time is up."""

    def look(record: dict[str, Any]) -> None:
        if time.time() > setting.deadline:
            raise TimeIsUp

    return look


def epochs_of(recipe: Recipe, epochs: int, before: int) -> int:
    """Epochs that a rung of `epochs` adds to one of `before` (0: none)."""
    shared = recipe.trunk_epochs(before) if recipe.schedule == "wsd" and before else before
    return epochs - shared


def explore(setting: Setting, method: Method, pool: dict[str, NetSpec]) -> Explored | None:
    """Run a method on a pool with one worker; None where the time was up first."""
    costs = {name: (float(cost(spec, SIZE).macs),) for name, spec in pool.items()}
    new, scores, epochs = list(pool), [], 0
    trained: dict[tuple[str, int], int] = {}  # by candidate and seed: epochs of the highest rung
    try:
        while (decision := method.rule.decide(costs, scores, closed=not new)[0]) != Done():
            if isinstance(decision, Promote | Replicate):
                task: Training = (decision.candidate, decision.rung, decision.seed)
            else:
                task = (new.pop(0), 0, 0)
            name, rung, seed = task
            value = train(setting, method, pool[name], rung, seed)
            scores.append(Score(candidate=name, rung=rung, seed=seed, value=value))
            recipe = trial_of(setting, method, pool[name], rung, seed).recipe
            epochs += epochs_of(recipe, setting.rungs[rung], trained.get((name, seed), 0))
            trained[name, seed] = setting.rungs[rung]
    except TimeIsUp:
        return None
    best, front = -math.inf, []
    for f in method.rule.finalists(costs, scores):
        if f.mean is not None and f.mean > best:
            best = f.mean
            front.append(f.candidate)
    return Explored(front=tuple(front), epochs=epochs, trainings=tuple(sum(s.rung == r for s in scores) for r in range(len(setting.rungs))))


def judge(setting: Setting, spec: NetSpec, seed: int) -> float | None:
    """Test top-1 (%) after the whole cosine with a judging seed; None where the time was up first."""
    trial = Trial(network=spec, recipe=RECIPE, data=setting.ref, epochs=setting.rungs[-1], seed=JUDGING + seed)
    try:
        clock(setting)({})
        result = run_trial(Store(setting.root), trial, setting.data, How(), splits=("test",), on_epoch=clock(setting))
    except TimeIsUp:
        return None
    return result.scores["test"].top1 if result.scores else 100 / CLASSES


def hypervolume(points: np.ndarray) -> float:
    """Of points `(n, 2)` of cost and accuracy in [0, 1], with the reference at a cost of 1.1 and an accuracy of -0.1."""
    total, reached = 0.0, -0.1
    for x, y in sorted(map(tuple, points), key=lambda p: (p[0], -p[1])):
        if y > reached:
            total += (1.1 - x) * (y - reached)
            reached = y
    return total


def compare(pool: dict[str, NetSpec], found: dict[str, Explored], judged: dict[str, list[float]], sd: float) -> dict[str, Any]:
    """Epochs and hypervolumes of the methods on a pool, with draws of the difference to `asha` over the judging noise."""
    macs = {name: math.log(cost(spec, SIZE).macs) for name, spec in pool.items()}
    low, high = min(macs.values()), max(macs.values())
    names = sorted(judged)
    mean = np.array([np.mean(judged[n]) for n in names])
    worst, span = mean.min(), max(mean.max() - mean.min(), 1e-9)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, sd, (1000, len(names))) / np.sqrt([len(judged[n]) for n in names])

    def volume(method: str, top1: np.ndarray) -> float:
        rows = [(macs[n] - low) / (high - low) for n in found[method].front]
        ys = [(top1[names.index(n)] - worst) / span for n in found[method].front]
        return hypervolume(np.array([rows, ys]).T)

    out: dict[str, Any] = {}
    for method, own in found.items():
        draws = [volume(method, mean + e) - volume("asha", mean + e) for e in noise]
        out[method] = {
            "epochs": own.epochs,
            "share": own.epochs / found["asha"].epochs,
            "trainings": list(own.trainings),
            "front": len(own.front),
            "hypervolume": volume(method, mean),
            "difference": volume(method, mean) - volume("asha", mean),
            "interval": [float(q) for q in np.quantile(draws, [0.025, 0.975])],
        }
    return out


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Train what the store does not know, as far as time reaches; what is known then, as plain data."""
    started = time.time()
    store = Store(options.store)
    store.prepare()
    images = some_images(options.data, store.root / "images", options.images)
    prepared = prepare(str(images), input_size=SIZE, cache=store.data)
    ref = DataRef(name="cifar10", fingerprint=prepared.fingerprint, classes=CLASSES, fraction=options.fraction)
    deadline = started + 60 * options.minutes
    setting = Setting(root=store.root, data=prepared.folder, ref=ref, rungs=options.rungs, deadline=deadline)
    chosen = methods(options.rungs, options.eta, options.ablate)
    drawn = pools(options.pools, options.candidates)
    found: list[dict[str, Explored]] = [{} for _ in drawn]
    judged: list[dict[str, list[float]]] = [{} for _ in drawn]
    with ProcessPoolExecutor(options.processes) as workers:
        # Methods with trainings in common run one after the other: each of the two lists may do without a lock.
        for half in range(len(chosen) // 2):
            pairs = [(p, m) for p in range(len(drawn)) for m in chosen[2 * half : 2 * half + 2]]
            runs = [workers.submit(explore, setting, m, drawn[p]) for p, m in pairs]
            for (p, m), task in zip(pairs, runs, strict=True):
                explored = task.result()
                if explored is not None:
                    found[p][m.name] = explored
        names = [(p, n) for p, own in enumerate(found) for n in sorted({n for e in own.values() for n in e.front})]
        tasks = {(p, n, s): workers.submit(judge, setting, drawn[p][n], s) for p, n in names for s in range(options.judges)}
        for (p, n, _), task in tasks.items():
            top1 = task.result()
            if top1 is not None:
                judged[p].setdefault(n, []).append(top1)
    whole = [p for p, own in enumerate(found) if len(own) == len(chosen) and _judged(own, judged[p], options.judges)]
    groups = [v for p in whole for v in judged[p].values()]
    sd = math.sqrt(float(np.mean([np.var(v, ddof=1) for v in groups]))) if groups and options.judges > 1 else math.nan
    return {
        "complete": len(whole) == len(drawn),
        "seconds": time.time() - started,
        "candidates": options.candidates,
        "rungs": list(options.rungs),
        "judging noise": sd,
        "pools": [compare(drawn[p], found[p], judged[p], sd) for p in whole],
    }


def _judged(found: dict[str, Explored], judged: dict[str, list[float]], seeds: int) -> bool:
    return all(len(judged.get(n, [])) == seeds for e in found.values() for n in e.front)


def show(found: dict[str, Any], pools: int) -> None:
    """Print the comparison."""
    print(f"{'pool':>4} {'method':10} {'epochs':>7} {'share':>6} {'rungs':>14} {'front':>5} {'hypervolume':>11} {'difference':>10}  95 %")
    for number, pool in enumerate(found["pools"]):
        for name, m in pool.items():
            low, high = m["interval"]
            rungs = "/".join(map(str, m["trainings"]))
            print(
                f"{number:4} {name:10} {m['epochs']:7} {m['share']:6.2f} {rungs:>14} {m['front']:5} {m['hypervolume']:11.3f} "
                f"{m['difference']:+10.3f}  {low:+.3f} to {high:+.3f}"
            )
    for name in found["pools"][0] if found["pools"] else ():
        shares = [p[name]["share"] for p in found["pools"]]
        gains = [p[name]["difference"] for p in found["pools"]]
        print(
            f"{name}: {np.mean(shares):.2f} of the epochs ({min(shares):.2f} to {max(shares):.2f}), hypervolume "
            f"{np.mean(gains):+.3f} ({min(gains):+.3f} to {max(gains):+.3f}), n = {len(gains)} pools"
        )
    print(f"judging noise {found['judging noise']:.2f} points a seed; {found['seconds']:.0f} s now")
    if not found["complete"]:
        print(f"{len(found['pools'])} of {pools} pools are complete: run it again to continue")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("VITNAS_SHARED", "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data" / "cifar10")
    parser.add_argument("--store", type=Path, default=Path(".vitnas-early"))
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--pools", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=40)
    parser.add_argument("--rungs", type=lambda text: tuple(map(int, text.split(","))), default=(2, 6, 18))
    parser.add_argument("--eta", type=float, default=ETA)
    parser.add_argument("--images", type=int, default=20000)
    parser.add_argument("--fraction", type=float, default=0.2)
    parser.add_argument("--judges", type=int, default=2)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--ablate", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def main() -> None:
    """Parse, run, print."""
    options = parse()
    found = run(options)
    if options.json:
        print(json.dumps(found))
    else:
        show(found, options.pools)


if __name__ == "__main__":
    main()
