"""The same network measured as if it were two: how far apart are the answers?

    python benchmarks/latency_aa.py [--passes 20] [--seconds 0.5] [--runs 3] [--device cpu] [--threads 1] [--only aa burn company]
                                    [--methods NAME ...] [--results FILE] [--minutes M] [--json]

aa: twelve networks of different size and kind, each entered twice, loaded anew in every pass, by vitnas's protocol, by a plain loop of 30
forward passes (repeated until the time is spent; the mean; on a GPU, synchronised after the 30) and by torch.utils.benchmark
(blocked_autorange; the median). They take turns, pass by pass, at equal time: vitnas measures for `--seconds` a network, discarded passes
among them, and the others get all the time that this took, with the start of processes and the repeats of disturbed ones. Printed: the
95th percentile of |log ratio| over all pairs of all passes with a 95 % bootstrap interval (passes are drawn, for pairs of one pass share
its troubles), the share of passes accepted, and the rank correlation of whole passes.

burn: the protocol alone, with further processes until its intervals are narrow, while another process burns one core during the middle
third of the passes. Printed: the largest error of an accepted reading against the network's median outside the burning, and the share of
readings accepted outside it (a network whose interval stays wide has none).

company: the same, every pass with a random half of the networks. Printed: how often two readings of one network have intervals that
overlap.

With `--results` every pass is kept in a file as it ends, with what each block gave, and running again goes on after the last; `--minutes`
ends it early.
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
from vitnas.studies.latency.bursts import Block, is_reference
from vitnas.studies.latency.device import DEVICES, Conditions
from vitnas.studies.latency.levels import quiet_passes, typical
from vitnas.studies.latency.measure import WORKER, Subject, deployed_files
from vitnas.studies.latency.protocol import ANY_LOAD, PROTOCOL, Disturbed, Effort, in_process, run_session
from vitnas.studies.latency.quiet import alone

NETWORKS = (  # at input sizes that let a pass over all of them end within a tenth of a second
    "resnet-50@64",
    "mobilenetv2@96",
    "mobilenetv3-l@96",
    "efficientnet-b0@64",
    "levit-128s@96",
    "deit-ti@64",
    "repvit-m0.9@64",
    "mobilevit-xxs@96",
    "mixer-s-32@64",
    "van-b0@64",
    "swin-micro@32",
    "convnext-micro@32",
)
METHODS = ("vitnas", "plain loop", "torch.utils.benchmark")
SECOND = " (2)"
BURN = "import os\nstarted = os.getppid()\nwhile os.getppid() == started: pass"  # ends with this process
Times = dict[str, float]  # network -> ms
Entries = list[dict[str, Any]]
Pass = dict[str, Any]  # what is kept of one method's pass


class Results:
    """All passes so far, in memory and, where there is one, in a file."""

    def __init__(self, file: Path | None, minutes: float) -> None:
        self.file = file
        lines = file.read_text().splitlines() if file and file.exists() else []
        self.passes: list[Pass] = [p for p in map(json.loads, lines) if p.get("protocol") == PROTOCOL]  # others do not compare
        self.end = time.monotonic() + 60 * minutes

    def of(self, **wanted: Any) -> list[Pass]:
        """The passes with these entries, in order."""
        return [p for p in self.passes if all(p[k] == v for k, v in wanted.items())]

    def add(self, found: Pass) -> None:
        """Keep a pass."""
        found = {"protocol": PROTOCOL, **found}
        self.passes.append(found)
        if self.file:
            with self.file.open("a") as file:
                file.write(json.dumps(found) + "\n")

    @property
    def late(self) -> bool:
        """Whether the minutes are spent."""
        return time.monotonic() >= self.end


def effort_of(options: argparse.Namespace, **own: Any) -> Effort:
    """The seconds that were asked for, and the load that is accepted."""
    load: dict[str, Any] = ANY_LOAD if options.any_load else {}
    return Effort(**{"seconds": options.seconds, "energy": False} | own | load)


def protocol(folder: Path, entries: Entries, conditions: Conditions, effort: Effort, seed: int, results: Results) -> Pass:
    """vitnas's readings of one session; none where it was refused. The references are held against those before them, as in a store."""
    earlier = [p["reference"] for p in results.passes if p.get("reference")]
    start, blocks = in_process(folder, WORKER), list[dict[str, Any]]()

    def kept(job: dict[str, Any]) -> dict[str, Any]:
        found = start(job)
        for block in (Block(**b) for b in found.get("blocks", [])):
            typicals = {name: round(1e3 * float(typical(np.concatenate(t))), 6) for name, t in quiet_passes(block).items()}
            blocks.append({"seed": job["seed"], "rounds": len(block.rounds), "loud": sum(map(bool, block.notes)), "ms": typicals})
        return found

    try:
        session = run_session(entries, conditions, effort, kept, earlier=earlier, seed=seed)
    except Disturbed as refused:
        print(f"  {refused}", flush=True)
        return {"times": {}, "intervals": {}, "notes": [str(refused)], "reference": None, "blocks": blocks}
    found = {name: latency for name, latency in session.latencies.items() if not is_reference(name)}
    return {
        "times": {name: latency.typical for name, latency in found.items()},
        "intervals": {name: (latency.low, latency.high) for name, latency in found.items()},
        "bursts": {name: latency.bursts for name, latency in found.items()},
        "notes": list(session.notes),
        "reference": session.reference_ms,
        "blocks": blocks,
    }


def load(folder: Path, entry: dict[str, Any], device: str) -> Callable[[], object]:
    """A network of a session in this process, in new memory, as a call."""
    network = Network(from_dict(entry["spec"])).eval().requires_grad_(False)
    network.load_state_dict(torch.load(folder / entry["file"], weights_only=True))
    network = network.to(device)
    image = torch.from_numpy(np.load(folder / entry["example"])["image"]).to(device)

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
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        means.append((time.perf_counter() - started) / 30 * 1e3)
    return statistics.mean(means)


def torch_timer(call: Callable[[], object], seconds: float) -> float:
    """Milliseconds a pass by torch.utils.benchmark."""
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    found = timer.blocked_autorange(min_run_time=seconds)
    return float(found.median) * 1e3


def peers(
    folder: Path, entries: Entries, device: str, method: Callable[[Callable[[], object], float], float], seconds: float, seed: int
) -> Times:
    """All entries one after another, in an order of the pass's own."""
    order = [e for e in entries if not is_reference(e["name"])]
    np.random.default_rng(seed).shuffle(order)  # type: ignore[arg-type]
    return {e["name"]: method(load(folder, e, device), seconds) for e in order}


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


def aa(folder: Path, entries: Entries, conditions: Conditions, options: argparse.Namespace, run: int, results: Results) -> dict[str, Any]:
    """One run of all three methods."""
    twice = [*entries, *({**e, "name": e["name"] + SECOND} for e in entries if not is_reference(e["name"]))]
    count = 2 * len(options.networks)
    effort = effort_of(options, extend=0, widest=math.inf)
    place = {"part": "aa", "run": run, "seconds": options.seconds}
    for number in range(options.passes):
        if results.late:
            break
        seed = 100_000 * run + 1_000 * number
        # vitnas comes first in the first pass of all; from then on the others get what it took on average so far, by turns.
        turn = number % 3 if results.of(part="aa", seconds=options.seconds, method="vitnas") else 0
        for name in [m for m in METHODS[turn:] + METHODS[:turn] if m in options.methods]:
            if results.of(**place, number=number, method=name):
                continue
            taken = [p["spent"] for p in results.of(part="aa", seconds=options.seconds, method="vitnas")]
            started = time.perf_counter()
            if name == "vitnas":
                found = protocol(folder, twice, conditions, effort, seed, results)
            else:
                method = plain_loop if name == "plain loop" else torch_timer
                found = {"times": peers(folder, twice, conditions.device, method, statistics.mean(taken) / count, seed)}
            results.add({**place, "number": number, "method": name, "spent": time.perf_counter() - started, **found})
        last = {name: results.of(**place, number=number, method=name)[0]["times"] for name in options.methods}
        print(f"run {run + 1}, pass {number + 1}: " + ", ".join(f"{n} {100 * max(ratios(t), default=0):.2f} %" for n, t in last.items()))
    return {name: summary(results.of(**place, method=name)) for name in options.methods}


def summary(passes: Sequence[Pass]) -> dict[str, Any]:
    """What one method's passes of one run came to."""
    kept = [p["times"] for p in passes if p["times"]]
    if not kept:
        return {"accepted": 0.0}
    pairs = [ratios(t) for t in kept]
    names = sorted(kept[0])
    ranks = [float(spearmanr([a[n] for n in names], [b[n] for n in names])[0]) for a, b in itertools.pairwise(kept)]
    return {
        "pairs": sum(map(len, pairs)),
        "median": 100 * float(np.median([r for one in pairs for r in one])),
        "p95": p95(pairs),
        "interval": bootstrap(pairs),
        "largest": 100 * max(r for one in pairs for r in one),
        "accepted": len(kept) / len(passes),
        "rank correlation": min(ranks, default=None),
        "seconds a network": statistics.mean(p["spent"] for p in passes) / len(names),
    }


def burn(folder: Path, entries: Entries, conditions: Conditions, options: argparse.Namespace, results: Results) -> dict[str, Any]:
    """Readings while another process burns a core during the middle third of the passes."""
    effort = effort_of(options)
    first, last = options.passes // 3, 2 * options.passes // 3
    place = {"part": "burn", "seconds": options.seconds}
    for number in range(options.passes):
        if results.late:
            break
        if results.of(**place, number=number):
            continue
        loud = first <= number < last
        burner = subprocess.Popen([sys.executable, "-c", BURN]) if loud else None
        try:
            found = protocol(folder, entries, conditions, effort, 7_000_000 + 1_000 * number, results)
        finally:
            if burner is not None:
                burner.kill()
                burner.wait()
        results.add({**place, "number": number, "loud": loud, **found})
        print(f"pass {number + 1}{', beside a burning process' if loud else ''}", flush=True)
    passes = results.of(**place)
    calm = [p["times"] for p in passes if not p["loud"]]
    beside = [p["times"] for p in passes if p["loud"]]
    names = options.networks
    truth = {name: statistics.median(times) for name in names if (times := [t[name] for t in calm if name in t])}
    errors = [abs(ms / truth[n] - 1) for t in (*calm, *beside) for n, ms in t.items() if n in truth]
    return {
        "largest error of an accepted reading (%)": 100 * max(errors, default=math.nan),
        "95th percentile of errors (%)": 100 * float(np.quantile(errors, 0.95)) if errors else math.nan,
        "accepted outside": statistics.mean(len(t) / len(names) for t in calm) if calm else math.nan,
        "accepted beside": statistics.mean(len(t) / len(names) for t in beside) if beside else math.nan,
        "readings": len(errors),
    }


def company(folder: Path, entries: Entries, conditions: Conditions, options: argparse.Namespace, results: Results) -> dict[str, Any]:
    """Readings of a random half of the networks in every pass."""
    effort = effort_of(options)
    place = {"part": "company", "seconds": options.seconds}
    for number in range(options.passes):
        if results.late:
            break
        if results.of(**place, number=number):
            continue
        drawn = np.random.default_rng(number).permutation(options.networks)
        left_out = set(drawn[max(1, len(drawn) // 2) :].tolist())
        chosen = [e for e in entries if e["name"] not in left_out]
        results.add({**place, "number": number, **protocol(folder, chosen, conditions, effort, 8_000_000 + 1_000 * number, results)})
        print(f"pass {number + 1}", flush=True)
    intervals: dict[str, list[tuple[float, float]]] = {}
    for found in results.of(**place):
        for name, ends in found["intervals"].items():
            intervals.setdefault(name, []).append(tuple(ends))
    agree = [a[0] <= b[1] and b[0] <= a[1] for several in intervals.values() for a, b in itertools.combinations(several, 2)]
    widths = [math.log(high / low) / 2 for several in intervals.values() for low, high in several]
    return {
        "pairs": len(agree),
        "agree": statistics.mean(agree) if agree else math.nan,
        "typical half width (%)": 100 * statistics.median(widths) if widths else math.nan,
    }


def subject(text: str) -> Subject:
    """A published network, or one at an input size of its own: NAME@PIXELS."""
    name, _, size = text.partition("@")
    found = variant(name)
    pixels = int(size) if size else found.input_size
    return Subject(name=text, spec=found.spec(input_size=pixels), input_size=pixels)


def main() -> None:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.5, help="a network, for each method")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--only", nargs="+", choices=("aa", "burn", "company"), default=["aa", "burn", "company"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="of aa; vitnas among them")
    parser.add_argument("--any-load", action="store_true", help="accept readings whatever else runs (not what vitnas records)")
    parser.add_argument("--results", type=Path, default=None, help="file that keeps every pass; running again continues")
    parser.add_argument("--minutes", type=float, default=math.inf, help="end after the pass that reaches them")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    conditions = Conditions(device=options.device, threads=options.threads)
    subjects = [subject(text) for text in options.networks]
    results = Results(options.results, options.minutes)
    out: dict[str, Any] = {}
    with alone(), deployed_files(subjects, conditions) as (folder, entries):
        if "aa" in options.only:
            out["aa"] = [aa(folder, entries, conditions, options, run, results) for run in range(options.runs)]
        if "burn" in options.only:
            out["burn"] = burn(folder, entries, conditions, options, results)
        if "company" in options.only:
            out["company"] = company(folder, entries, conditions, options, results)
    if options.json:
        print(json.dumps(out, indent=1))
        return
    for number, run in enumerate(out.get("aa", []), start=1):
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
        for key, value in out.get(part, {}).items():
            print(f"{part}: {key} {value:.2f}")


if __name__ == "__main__":
    main()
