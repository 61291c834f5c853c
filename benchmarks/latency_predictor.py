"""How well the predictor ranks networks it has not seen, and how seldom it admits one that is too slow.

    python benchmarks/latency_predictor.py space [--measured 20] [--unseen 100] [--store .vitnas-predictor] [--seconds 2] [--extend 6]
        [--any-load]
    python benchmarks/latency_predictor.py table FILE.csv[.gz] [--readings 10] [--draws 5]

space: random legal networks of the track convnext-t at scale micro are measured, most of them only to judge. Printed: Spearman's rank
correlation over all unseen networks and within groups whose multiply-adds (MACs) lie within 10 %, beside MACs alone and a linear model of
MACs and parameters; of the networks admitted under a limit (the median), the share that measures above it; how often intervals held.

table: a file with a column `arch` (NAS-Bench-201 strings) and columns `latency_ms_*`, a device each. For every device, the architectures
to be read are chosen by their encoding alone (how often each operation occurs), from a random 2,000 of the table; all others of these
are predicted, from the encoding alone and with the other devices' columns. Printed: the mean Spearman over draws, by device.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from vitnas.roadmap.cost import cost
from vitnas.roadmap.steps import StepError
from vitnas.roadmap.tracks import track
from vitnas.studies.latency.deploy import deployed_spec
from vitnas.studies.latency.device import Conditions
from vitnas.studies.latency.measure import Subject, measure
from vitnas.studies.latency.predictor import BRIEF, Predictor, look_up
from vitnas.studies.latency.protocol import ANY_LOAD, Effort
from vitnas.studies.latency.regression import diverse, fit
from vitnas.studies.store import Store

Floats = NDArray[np.float64]


def networks(count: int, seed: int) -> list[Subject]:
    """Distinct random legal networks of the track at scale micro: each step on or off, with what it requires, at a random level."""
    rng = np.random.default_rng(seed)
    convnext = track("convnext-t")
    steps = [s for s in convnext.steps if s.owner == "network" and s.adopted]
    out: dict[str, Subject] = {}
    while len(out) < count:
        share = rng.uniform(0.2, 1)
        choice = {s.name: s.value for s in steps if rng.random() < share}
        for step in reversed(steps):
            if step.name in choice:
                choice |= {name: convnext.step(name).value for name in step.requires if name not in choice}
        for step in steps:
            numbers = [v for v in step.levels if isinstance(v, int)]
            if step.name in choice and numbers:
                choice[step.name] = int(rng.choice(numbers))
        try:
            spec = convnext.spec(choice, scale="micro", input_size=32, classes=10)
        except StepError:
            continue
        out.setdefault(deployed_spec(spec).fingerprint, Subject(name=f"net{len(out)}", spec=spec, input_size=32))
    return list(out.values())


def work(subject: Subject) -> tuple[float, float]:
    """Multiply-adds and parameters in deployment form."""
    counted = cost(deployed_spec(subject.spec), subject.input_size)
    return float(counted.macs), float(counted.params)


def within_groups(predicted: Floats, true: Floats, macs: Floats) -> float:
    """Spearman's correlation in groups of five or more whose MACs lie within 10 % of their least, weighted by size."""
    order = np.argsort(macs)
    groups: list[list[int]] = []
    for i in order:
        if groups and macs[i] <= 1.1 * macs[groups[-1][0]]:
            groups[-1].append(int(i))
        else:
            groups.append([int(i)])
    found = [(len(g), float(spearmanr(predicted[g], true[g])[0])) for g in groups if len(g) >= 5]
    found = [(n, rho) for n, rho in found if not math.isnan(rho)]
    return sum(n * rho for n, rho in found) / sum(n for n, _ in found) if found else math.nan


def space(options: argparse.Namespace) -> None:
    """Measure, learn and judge."""
    store = Store(options.store)
    store.prepare()
    load = ANY_LOAD if options.any_load else {}
    effort = Effort(**{"seconds": options.seconds, "extend": options.extend, "energy": False} | load)  # type: ignore[arg-type]
    brief = Effort(**vars(BRIEF) | load)
    subjects = networks(options.measured + options.unseen, seed=0)
    conditions = Conditions(threads=1)
    times = np.array([r.latency.typical for r in measure(store, subjects, conditions, effort, say=print)])
    counts = np.array([work(s) for s in subjects])
    # The ones to learn from are chosen by what is known without measuring.
    chosen = diverse(np.log(counts), options.measured)
    rest = np.setdiff1d(np.arange(len(subjects)), chosen)
    known = [subjects[i] for i in chosen]
    predictor = Predictor.learn(known, times[chosen].tolist(), look_up(store, known, conditions, brief, say=print))
    found = predictor.predict([subjects[i] for i in rest])
    ours = np.array([p.milliseconds for p in found])
    linear = fit(np.log(counts[chosen]), np.log(times[chosen])).predict(np.log(counts[rest]))
    true, macs = times[rest], counts[rest, 0]
    for name, values in (("predictor", ours), ("MACs", macs), ("linear model", linear)):
        print(f"{name:13s} Spearman {spearmanr(values, true)[0]:.3f}, within 10 % of MACs {within_groups(values, true, macs):.3f}")
    limit = float(np.median(true))
    admitted = np.array([p.upper <= limit for p in found])
    above = float(np.mean(true[admitted] > limit)) if admitted.any() else math.nan
    held = np.mean([p.low <= t <= p.high for p, t in zip(found, true, strict=True)])
    print(
        f"admitted under {limit:.2f} ms: {admitted.sum()} of {np.sum(true <= limit)} that belong there, {above:.1%} of these measure above"
    )
    print(f"intervals (90 %) held {held:.0%}; {predictor.error}")


def encoding(arch: str) -> list[str]:
    """The operations of an architecture string, one an edge."""
    return [part.partition("~")[0] for part in arch.replace("+", "").split("|") if part]


def table(options: argparse.Namespace) -> None:
    """Predict every device of the table from a few of its readings."""
    data = options.file.read_bytes()
    text = (gzip.decompress(data) if options.file.suffix == ".gz" else data).decode()
    rows = list(csv.DictReader(text.splitlines()))
    devices = [name for name in rows[0] if name.startswith("latency_ms")]
    edges = [encoding(row["arch"]) for row in rows]
    operations = sorted({op for e in edges for op in e})
    counts = np.array([[float(e.count(op)) for op in operations] for e in edges])
    times = np.array([[float(row[d]) for d in devices] for row in rows])
    rng = np.random.default_rng(0)
    means: dict[str, list[float]] = {"encoding": [], "with other devices": []}
    for index, device in enumerate(devices):
        found: dict[str, list[float]] = {name: [] for name in means}
        together = np.hstack([counts, np.delete(times, index, axis=1)])
        for _ in range(options.draws):
            pool = rng.choice(len(rows), min(2000, len(rows)), replace=False)
            read = pool[diverse(counts[pool], options.readings)]
            rest = np.setdiff1d(pool, read)
            value = times[:, index]
            for name, features in (("encoding", counts), ("with other devices", together)):
                predicted = fit(features[read], value[read] / value[read].std(), population=features[pool]).predict(features[rest])
                found[name].append(float(spearmanr(predicted, value[rest])[0]))
        for name, values in found.items():
            means[name].append(float(np.mean(values)))
        print(f"{device:26s} " + ", ".join(f"{name} {np.mean(v):.3f} (least {min(v):.3f})" for name, v in found.items()))
    print("mean over devices: " + ", ".join(f"{name} {np.mean(v):.3f}" for name, v in means.items()) + f"; {options.draws} draws each")


def main() -> None:
    """Run the part that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    one = parts.add_parser("space")
    one.add_argument("--measured", type=int, default=20)
    one.add_argument("--unseen", type=int, default=100)
    one.add_argument("--seconds", type=float, default=2.0)
    one.add_argument("--store", type=Path, default=Path(".vitnas-predictor"))
    one.add_argument("--extend", type=int, default=Effort.extend, help="further processes at most while intervals are wide")
    one.add_argument("--any-load", action="store_true", help="accept readings whatever else runs (not what vitnas records)")
    one.set_defaults(part=space)
    two = parts.add_parser("table")
    two.add_argument("file", type=Path)
    two.add_argument("--readings", type=int, default=10)
    two.add_argument("--draws", type=int, default=5)
    two.set_defaults(part=table)
    options = parser.parse_args()
    options.part(options)


if __name__ == "__main__":
    main()
