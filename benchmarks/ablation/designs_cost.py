"""How many trainings each design needs for intervals of the same width on the same estimands.

    python benchmarks/ablation/designs_cost.py [--json]

Over a track's real requirements, with seed noise of standard deviation 1 in every network. The width is that of a leave-one-out with five
seeds in every network: variance 2/5. Designs differ in estimand (in the order, at a corner, averaged), so they are compared where all
estimands are the same, in an additive truth: the rows of any design then determine the steps' own values, and those any sums of them.
Two sets of estimands are priced: what leave-one-out tells (a step with everything that requires it), and every step alone. With
interactions, aliases bias the fractions and the corners stand for themselves only; no number of trainings changes that.

Columns: `worst` and `mean` variance of the estimands with one training a network; `exact` trainings if the number of seeds were
divisible, (networks) x (worst) / (2/5); `seeds` in whole numbers, at least two, since one tells no noise; `trainings` with those. Of
fractions, the default size and that of 8 to 64 networks which needs the fewest trainings are shown.
Optimally allocated designs give every network its own number of trainings; for the star of leave-one-out with k comparisons that is
Dunnett's rule, sqrt(k) times as many for the reference (Dunnett, 1955), which stands beside the numerical optimum.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from vitnas.roadmap.steps import select
from vitnas.roadmap.tracks import track
from vitnas.studies.designs.catalogue import make_design
from vitnas.studies.designs.design import Design, Factors
from vitnas.studies.designs.lattice import count, dependants

Matrix = NDArray[np.float64]
TARGET = 2 / 5
TRACKS = ("convnext-t", "repvit-m0.9")
SIZES = range(8, 65)
COLUMNS = ("design", "networks", "worst", "mean", "exact", "seeds", "trainings")


def weights(design: Design) -> Matrix:
    """(effects, networks): the design's own rows."""
    out = np.zeros((len(design.effects), len(design.rungs)))
    for row, effect in zip(out, design.effects, strict=True):
        for arm, weight in effect.weights:
            row[arm] = weight
    return out


def single_steps(factors: Factors, design: Design) -> Matrix:
    """(steps, networks): each step alone, from the design's rows and what they are sums of in an additive truth."""
    names = [s.name for s, _ in factors.steps]
    sums = np.array([[float(n in (names[k], *e.along)) for n in names] for k, e in enumerate(design.effects)])
    return np.asarray(np.linalg.solve(sums, weights(design)))


def with_dependants(factors: Factors) -> Matrix:
    """(steps, steps): the sums that leave-one-out tells, a step and all that require it."""
    size = len(factors.steps)
    return np.array([[float(j == i or j in dependants(factors, i)) for j in range(size)] for i in range(size)])


def allocated(rows: Matrix) -> float:
    """The fewest trainings, each network with a (fractional) number of its own, at which every row has at most the target variance."""
    squares = rows**2
    used = np.flatnonzero(squares.any(axis=0))
    squares = squares[:, used]
    start = np.full(len(used), squares.sum(axis=1).max() / TARGET)
    found = minimize(
        lambda n: n.sum(),
        start,
        jac=np.ones_like,
        constraints={
            "type": "ineq",
            "fun": lambda n: TARGET - squares @ (1 / n),
            "jac": lambda n: squares / n**2,
        },
        bounds=[(1e-3, None)] * len(used),
        method="SLSQP",
        options={"maxiter": 1000, "ftol": 1e-9},
    )
    assert found.success, found.message
    return float(found.x.sum())


def dunnett(comparisons: int) -> float:
    """The same for `comparisons` networks against one reference, by Dunnett's rule: (1 + sqrt(k))^2 / target."""
    return (1 + math.sqrt(comparisons)) ** 2 / TARGET


def priced(name: str, rows: Matrix) -> dict[str, Any]:
    """A line of the table: equal numbers of trainings for all networks."""
    variance = np.sum(rows**2, axis=1)
    networks = rows.shape[1]
    seeds = max(2, math.ceil(round(variance.max() / TARGET, 9)))
    return {
        "design": name,
        "networks": networks,
        "worst": round(float(variance.max()), 3),
        "mean": round(float(variance.mean()), 3),
        "exact": round(networks * float(variance.max()) / TARGET, 1),
        "seeds": seeds,
        "trainings": networks * seeds,
    }


def section(*, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """For each track, its lines by set of estimands, and trainings of the optimally allocated one-factor-at-a-time designs."""
    tracks: dict[str, Any] = {}
    for name in TRACKS:
        factors = Factors.of(select(track(name), "all"))
        sums = with_dependants(factors)
        designs = {n: make_design(n, factors) for n in ("leave-one-out", "add-one-in", "cumulative", "orders")}
        designs["factorial"] = make_design("factorial", factors)
        steps = {n: single_steps(factors, d) for n, d in designs.items()}
        fractions = {f"fractional, {len(d.rungs)} networks": single_steps(factors, d) for d in _fractions(factors)}
        told: dict[str, Any] = {}
        for estimands, combine in (("a step with all that require it", sums), ("every step alone", np.eye(len(sums)))):
            lines = [priced(n, combine @ rows) for n, rows in steps.items()]
            lines.append(min((priced(n, combine @ rows) for n, rows in fractions.items()), key=lambda line: line["trainings"]))
            default = f"fractional, {len(make_design('fractional', factors).rungs)} networks"
            if lines[-1]["design"] != default:
                lines.insert(-1, priced(default + " (default)", combine @ fractions[default]))
            told[estimands] = {
                "equal": sorted(lines, key=lambda line: -line["trainings"]),
                "optimal": {n: round(allocated(combine @ steps[n]), 1) for n in ("leave-one-out", "add-one-in", "cumulative")},
            }
        told["legal networks"] = count(factors)
        told["dunnett"] = round(dunnett(len(sums)), 1)
        tracks[name] = told
    found = {"target_variance": TARGET, "tracks": tracks}
    for line in report(found):
        say(line)
    return found


def _fractions(factors: Factors) -> list[Design]:
    out = []
    for runs in SIZES:
        try:
            out.append(make_design("fractional", factors, runs=runs))
        except ValueError:  # too few, or no power of two where the steps are independent
            continue
    return out


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    found = section(say=(lambda line: None) if as_json else print)
    if as_json:
        print(json.dumps(found, indent=1))


def report(found: dict[str, Any]) -> Iterator[str]:
    """The tables as lines."""
    for name, told in found["tracks"].items():
        yield f"{name}: {told['legal networks']:,} legal networks; variance of every estimand at most {found['target_variance']}"
        for estimands in ("a step with all that require it", "every step alone"):
            yield f"\n{estimands}, the same trainings for every network"
            rows = [COLUMNS, *(tuple(str(line[c]) for c in COLUMNS) for line in told[estimands]["equal"])]
            widths = [max(len(r[i]) for r in rows) for i in range(len(COLUMNS))]
            for row in rows:
                yield "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
            best = ", ".join(f"{n} {v}" for n, v in told[estimands]["optimal"].items())
            yield f"optimally allocated: {best} (Dunnett's rule for a star: {told['dunnett']})"
        yield ""


if __name__ == "__main__":
    main()
