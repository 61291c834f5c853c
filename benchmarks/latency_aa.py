"""The same network measured as if it were two: how far apart are the answers?

    python benchmarks/latency_aa.py [--passes 20] [--seconds 2] [--runs 1] [--threads 1] [--only aa burn company] [--json]

aa: twelve networks of different size and kind, each entered twice, loaded anew in every pass, by vitnas's protocol, by a plain loop of 30
forward passes (repeated until the time is spent; the mean) and by torch.utils.benchmark (blocked_autorange; the median). They take
turns, pass by pass, at equal time: vitnas measures for `--seconds` a network, warm-up and discarded passes among them, and the others get
all the time that this took, with the start of processes and the repeats of disturbed ones. Printed: the 95th percentile of |log ratio|
over all pairs of all passes with a 95 % bootstrap interval (passes are drawn, for pairs of one pass share its troubles), the share of
readings accepted, and the rank correlation of whole passes.

burn: the protocol alone, while another process burns one core during the middle third of the passes. Printed: the largest error of an
accepted reading against the network's median outside the burning, and the share of readings accepted outside it.

company: every pass measures a random half of the networks. Printed: how often two readings of one network have intervals that overlap.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch.utils.benchmark import Timer

from vitnas.roadmap.model import Network
from vitnas.roadmap.spec import from_dict
from vitnas.roadmap.zoo import variant
from vitnas.studies.latency.bursts import REFERENCE
from vitnas.studies.latency.device import Conditions
from vitnas.studies.latency.estimate import Latency
from vitnas.studies.latency.measure import WORKER, Subject, deployed_files
from vitnas.studies.latency.protocol import Disturbed, Effort, in_process, run_session
from vitnas.studies.latency.quiet import alone

NETWORKS = (
    "resnet-50",
    "mobilenetv2",
    "mobilenetv3-l",
    "efficientnet-b0",
    "levit-128s",
    "deit-ti",
    "repvit-m0.9",
    "mobilevit-xxs",
    "mixer-s-32",
    "van-b0",
    "swin-micro",
    "convnext-micro",
)
SECOND = " (2)"
REFERENCES: list[float] = []  # the reference's time in every session so far (ms)
Times = dict[str, float]  # network -> ms
Entries = list[dict[str, Any]]


def effort_of(options: argparse.Namespace) -> Effort:
    """Exactly the seconds that were asked for, and the load that is accepted."""
    load = dict.fromkeys(("foreign", "drift", "between"), math.inf) if options.any_load else {}
    return Effort(seconds=options.seconds, extend=0, energy=False, **load)  # type: ignore[arg-type]


def protocol(folder: Path, entries: Entries, conditions: Conditions, effort: Effort, seed: int) -> dict[str, Latency]:
    """vitnas's readings of one session; none where it was refused. The reference is held against its usual time so far, as in a store."""
    usual = statistics.median(REFERENCES) if REFERENCES else None
    try:
        session = run_session(entries, conditions, effort, in_process(folder, WORKER), reference_ms=usual, seed=seed)
    except Disturbed as refused:
        print(f"  {refused}", flush=True)
        return {}
    REFERENCES.append(session.latencies[REFERENCE].median)
    return {name: latency for name, latency in session.latencies.items() if name != REFERENCE}


def load(folder: Path, entry: dict[str, Any]) -> Callable[[], object]:
    """A network of a session in this process, in new memory, as a call."""
    network = Network(from_dict(entry["spec"])).eval().requires_grad_(False)
    network.load_state_dict(torch.load(folder / entry["file"], weights_only=True))
    image = torch.from_numpy(np.load(folder / entry["example"])["image"])

    def call() -> object:
        with torch.inference_mode():
            return network(image)

    return call


def plain_loop(call: Callable[[], object], seconds: float) -> float:
    """Milliseconds a pass: the mean of 30 forward passes, over and over until the time is spent."""
    means: list[float] = []
    give_up = time.perf_counter() + seconds
    while not means or time.perf_counter() < give_up:
        started = time.perf_counter()
        for _ in range(30):
            call()
            if means and time.perf_counter() >= give_up:
                return statistics.mean(means)
        means.append((time.perf_counter() - started) / 30 * 1e3)
    return statistics.mean(means)


def torch_timer(call: Callable[[], object], seconds: float) -> float:
    """Milliseconds a pass by torch.utils.benchmark."""
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    found = timer.blocked_autorange(min_run_time=seconds)
    return float(found.median) * 1e3


def peers(folder: Path, entries: Entries, method: Callable[[Callable[[], object], float], float], seconds: float, seed: int) -> Times:
    """All entries one after another, in an order of the pass's own."""
    order = [e for e in entries if e["name"] != REFERENCE]
    np.random.default_rng(seed).shuffle(order)  # type: ignore[arg-type]
    return {e["name"]: method(load(folder, e), seconds) for e in order}


def ratios(times: Times) -> list[float]:
    """|log ratio| of every pair that is complete."""
    return [abs(math.log(ms / times[name + SECOND])) for name, ms in times.items() if name + SECOND in times]


def p95(passes: Sequence[list[float]]) -> float:
    """The 95th percentile over all pairs, in percent."""
    return 100 * float(np.quantile([r for one in passes for r in one], 0.95))


def bootstrap(passes: Sequence[list[float]], draws: int = 2000) -> tuple[float, float]:
    """The 95 % interval of `p95`, passes drawn with replacement."""
    rng = np.random.default_rng(0)
    found = [p95([passes[i] for i in rng.integers(0, len(passes), len(passes))]) for _ in range(draws)]
    return float(np.quantile(found, 0.025)), float(np.quantile(found, 0.975))


def aa(folder: Path, entries: Entries, conditions: Conditions, options: argparse.Namespace, run: int) -> dict[str, Any]:
    """One run of all three methods."""
    twice = [entries[0], *entries[1:], *({**e, "name": e["name"] + SECOND} for e in entries[1:])]
    effort = effort_of(options)
    found: dict[str, list[Times]] = {"vitnas": [], "plain loop": [], "torch.utils.benchmark": []}
    spent = dict.fromkeys(found, 0.0)
    for number in range(options.passes):
        seed = 100_000 * run + 1_000 * number
        # The others get all the time that the protocol took so far, its processes' starts and its repeats included.
        share = max(options.seconds, spent["vitnas"] / max(1, len(found["vitnas"])) / (len(twice) - 1))
        turns: list[tuple[str, Callable[[], Times]]] = [
            ("vitnas", lambda s=seed: {n: x.median for n, x in protocol(folder, twice, conditions, effort, s).items()}),  # type: ignore[misc]
            ("plain loop", lambda s=seed, t=share: peers(folder, twice, plain_loop, t, s)),  # type: ignore[misc]
            ("torch.utils.benchmark", lambda s=seed, t=share: peers(folder, twice, torch_timer, t, s)),  # type: ignore[misc]
        ]
        for name, turn in turns[number % 3 :] + turns[: number % 3]:
            started = time.perf_counter()
            found[name].append(turn())
            spent[name] += time.perf_counter() - started
        print(
            f"run {run + 1}, pass {number + 1}: " + ", ".join(f"{n} {100 * max(ratios(t[-1]), default=0):.2f} %" for n, t in found.items())
        )
    out: dict[str, Any] = {}
    for name, passes in found.items():
        kept = [t for t in passes if t]
        if not kept:
            out[name] = {"accepted": 0.0}
            continue
        pairs = [ratios(t) for t in kept]
        names = sorted(kept[0])
        ranks = [float(spearmanr([a[n] for n in names], [b[n] for n in names])[0]) for a, b in itertools.pairwise(kept)]
        out[name] = {
            "pairs": sum(map(len, pairs)),
            "median": 100 * float(np.median([r for one in pairs for r in one])),
            "p95": p95(pairs),
            "interval": bootstrap(pairs),
            "largest": 100 * max(r for one in pairs for r in one),
            "accepted": len(kept) / len(passes),
            "rank correlation": min(ranks, default=None),
            "seconds a network": spent[name] / len(passes) / (len(twice) - 1),
        }
    return out


def burn(folder: Path, entries: Entries, conditions: Conditions, options: argparse.Namespace) -> dict[str, Any]:
    """Readings while another process burns a core during the middle third of the passes."""
    effort = effort_of(options)
    first, last = options.passes // 3, 2 * options.passes // 3
    calm: dict[str, list[float]] = {e["name"]: [] for e in entries[1:]}
    loud: dict[str, list[float]] = {e["name"]: [] for e in entries[1:]}
    burner = None
    try:
        for number in range(options.passes):
            if number == first:
                burner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            if number == last and burner is not None:
                burner.kill()
                burner.wait()
            place = loud if first <= number < last else calm
            for name, latency in protocol(folder, entries, conditions, effort, 7_000_000 + 1_000 * number).items():
                place[name].append(latency.median)
            print(f"pass {number + 1}{', beside a burning process' if place is loud else ''}", flush=True)
    finally:
        if burner is not None:
            burner.kill()
            burner.wait()
    truth = {name: statistics.median(values) for name, values in calm.items() if values}
    errors = [abs(v / truth[n] - 1) for place in (calm, loud) for n, values in place.items() if n in truth for v in values]
    outside = options.passes - (last - first)
    return {
        "largest error of an accepted reading": 100 * max(errors, default=math.nan),
        "accepted outside": sum(map(len, calm.values())) / (outside * len(calm)),
        "accepted beside": sum(map(len, loud.values())) / ((last - first) * len(loud)) if last > first else 0.0,
        "readings": len(errors),
    }


def company(folder: Path, entries: Entries, conditions: Conditions, options: argparse.Namespace) -> dict[str, Any]:
    """Readings of a random half of the networks in every pass."""
    effort = effort_of(options)
    rng = np.random.default_rng(0)
    readings: dict[str, list[Latency]] = {}
    for number in range(options.passes):
        half = rng.permutation(len(entries) - 1)[: max(1, (len(entries) - 1) // 2)] + 1
        chosen = [entries[0], *(entries[i] for i in half)]
        for name, latency in protocol(folder, chosen, conditions, effort, 8_000_000 + 1_000 * number).items():
            readings.setdefault(name, []).append(latency)
        print(f"pass {number + 1}", flush=True)
    pairs = [(a, b) for several in readings.values() for a, b in itertools.combinations(several, 2)]
    agree = [a.low <= b.high and b.low <= a.high for a, b in pairs]
    widths = [latency.half_width for several in readings.values() for latency in several]
    return {
        "pairs": len(pairs),
        "agree": sum(agree) / len(agree) if agree else math.nan,
        "typical half width": 100 * statistics.median(widths) if widths else math.nan,
    }


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=2.0, help="a network, for each method")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--only", nargs="+", choices=("aa", "burn", "company"), default=["aa", "burn", "company"])
    parser.add_argument("--any-load", action="store_true", help="accept readings whatever else runs (not what vitnas records)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    conditions = Conditions(threads=options.threads)
    found = [variant(name) for name in options.networks]
    subjects = [Subject(name=v.name, spec=v.spec(input_size=v.input_size), input_size=v.input_size) for v in found]
    results: dict[str, Any] = {}
    with alone(), deployed_files(subjects, conditions) as (folder, entries):
        if "aa" in options.only:
            results["aa"] = [aa(folder, entries, conditions, options, run) for run in range(options.runs)]
        if "burn" in options.only:
            results["burn"] = burn(folder, entries, conditions, options)
        if "company" in options.only:
            results["company"] = company(folder, entries, conditions, options)
    if options.json:
        print(json.dumps(results, indent=1))
        return
    for number, run in enumerate(results.get("aa", []), start=1):
        print(f"\nrun {number}: |log ratio| of one network measured as two, {options.seconds:g} s a network")
        for name, r in run.items():
            if "p95" not in r:
                print(f"{name:24s} nothing was accepted")
                continue
            print(
                f"{name:24s} p95 {r['p95']:5.2f} % ({r['interval'][0]:.2f} to {r['interval'][1]:.2f}), median {r['median']:.2f} %, largest "
                f"{r['largest']:.2f} %, n = {r['pairs']}; accepted {r['accepted']:.0%}; least rank correlation {r['rank correlation']}; "
                f"{r['seconds a network']:.1f} s a network in all"
            )
    for part in ("burn", "company"):
        for key, value in results.get(part, {}).items():
            print(f"{part}: {key} {value:.2f}")


if __name__ == "__main__":
    main()
