"""Studies with a fixed number of seeds: false positives, coverage, and what robustness costs in width."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .simulate import Scenario, any_sd, blocks, equal, first_half, heavy, last_half, own_residuals, random_half, resampled, run

Matrix = NDArray[np.float64]
ARMS = 14  # the rungs of convnext-t
DATA = Path(__file__).parent.parent / "data" / "digits_complete.csv.gz"


def roadmap(arms: int = ARMS) -> Matrix:
    """Every rung against the one before it."""
    return np.asarray(np.eye(arms)[1:] - np.eye(arms)[:-1])


def leave_one_out(arms: int = ARMS) -> Matrix:
    """The reference against every other arm."""
    return np.asarray(np.eye(arms)[0] - np.eye(arms)[1:])


def fraction(basic: int, generators: tuple[tuple[int, ...], ...]) -> tuple[Matrix, Matrix]:
    """Levels (runs, factors) as -1 and 1, and the main effects' weights (factors, runs), of the regular design with `basic` factors in full
    and one more for each generator, the product of the named basic factors."""
    full = np.array([[1 if run >> k & 1 else -1 for k in range(basic)] for run in range(2**basic)])
    levels = np.hstack([full, *[np.prod(full[:, list(g)], axis=1, keepdims=True) for g in generators]])
    return levels, levels.T * 2 / len(levels)


def with_placebo(weights: Matrix) -> Matrix:
    """The same effects, and one more arm against the first."""
    out = np.zeros((len(weights) + 1, weights.shape[1] + 1))
    out[:-1, :-1] = weights
    out[-1, [0, -1]] = -1.0, 1.0
    return out


RESOLUTION_III = fraction(3, ((0, 1), (0, 2), (1, 2), (0, 1, 2)))
RESOLUTION_IV = fraction(4, ((0, 1, 2), (1, 2, 3), (0, 2, 3), (0, 1, 3)))


def interacting(levels: Matrix, seed: int) -> Matrix:
    """Arms' means with main effects and two-factor interactions drawn at random, of a standard deviation of 2 and 1."""
    rng = np.random.default_rng(seed)
    factors = levels.shape[1]
    pairs = [(i, j) for i in range(factors) for j in range(i)]
    terms = np.array([levels[:, i] * levels[:, j] for i, j in pairs]).T
    return np.asarray(levels @ rng.normal(0, 2, factors) / 2 + terms @ rng.normal(0, 1, len(pairs)) / 2)


def scenarios() -> Iterator[Scenario]:
    """All of them, with normal noise."""
    none = np.zeros(ARMS)
    designs = {"roadmap": roadmap(), "leave-one-out": leave_one_out(), "add-one-in": -leave_one_out(), "2^(7-4)": RESOLUTION_III[1]}
    for seeds in (3, 5):
        for name, weights in designs.items():
            zeros = np.zeros(weights.shape[1])
            yield Scenario(name=f"{name}, equal noise, n={seeds}", weights=weights, means=zeros, seeds=seeds, noise=equal, exact=True)
    two = roadmap(2)
    yield Scenario(name="one step, equal noise, n=3", weights=two, means=np.zeros(2), seeds=3, noise=equal, exact=True)
    yield Scenario(name="roadmap, correlated seeds, n=3", weights=designs["roadmap"], means=none, seeds=3, noise=blocks, exact=True)
    placebo = with_placebo(designs["roadmap"])
    zeros = np.zeros(ARMS + 1)
    for title, noise in (("equal noise", equal), ("correlated seeds", blocks)):
        yield Scenario(
            name=f"roadmap + placebo, {title}, n=3", weights=placebo, means=zeros, seeds=3, noise=noise, placebo=True, exact=True
        )
    half = np.cumsum([0.0, *([3.0, 0.0] * ARMS)])[:ARMS]
    yield Scenario(name="roadmap, every other step works, n=3", weights=designs["roadmap"], means=half, seeds=3, noise=equal, exact=True)
    ends = np.where(np.arange(ARMS) % 2, 3.0, 0.0)
    yield Scenario(name="leave-one-out, every other step works, n=3", weights=leave_one_out(), means=ends, seeds=3, noise=equal, exact=True)
    for name, (levels, weights) in {"2^(7-4), III": RESOLUTION_III, "2^(8-4), IV": RESOLUTION_IV}.items():
        yield Scenario(
            name=f"{name}, interactions, n=3",
            weights=weights,
            means=interacting(levels, 5),
            seeds=3,
            noise=equal,
            exact=True,
            estimand="main effect plus its aliases",
        )
    for title, noise in (("a random half", random_half), ("the later half", last_half), ("the earlier half", first_half)):
        for name in ("roadmap", "leave-one-out"):
            yield Scenario(name=f"{name}, {title} 2 sd, n=3", weights=designs[name], means=none, seeds=3, noise=noise)
    for name, weights in designs.items():
        zeros = np.zeros(weights.shape[1])
        yield Scenario(name=f"{name}, sd 0.5 to 2, n=3", weights=weights, means=zeros, seeds=3, noise=any_sd)
    yield Scenario(name="2^(7-4), a random half 2 sd, n=3", weights=RESOLUTION_III[1], means=np.zeros(8), seeds=3, noise=random_half)
    yield Scenario(name="roadmap, sd 0.5 to 2, n=5", weights=designs["roadmap"], means=none, seeds=5, noise=any_sd)
    yield Scenario(name="roadmap, heavy tails, n=3", weights=designs["roadmap"], means=none, seeds=3, noise=heavy)
    for chance in (0.03, 0.1):
        for name in ("roadmap", "2^(7-4)"):
            zeros = np.zeros(designs[name].shape[1])
            title = f"{name}, {100 * chance:.0f} % diverge, n=3"
            yield Scenario(name=title, weights=designs[name], means=zeros, seeds=3, noise=_scaled(equal, 0.3), diverge=chance)


def real(path: Path) -> Iterator[Scenario]:
    """Noise resampled from the trainings in `path`, a csv with `arm`, `seed` and `test` or `top1` (%)."""
    table = residuals(path)
    for seeds in (3, 5):
        for title, noise, stress in (("real trainings", resampled(table), False), ("each its own five", own_residuals(table), True)):
            for name, weights in {"roadmap": roadmap(), "leave-one-out": leave_one_out(), "2^(7-4)": RESOLUTION_III[1]}.items():
                zeros, full = np.zeros(weights.shape[1]), f"{name}, {title}, n={seeds}"
                yield Scenario(name=full, weights=weights, means=zeros, seeds=seeds, noise=noise, stress=stress)


def residuals(path: Path) -> Matrix:
    """Top-1 (%) by arm and seed."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        rows = list(csv.DictReader(file))
    column = "test" if "test" in rows[0] else "top1"
    arms: dict[str, list[float]] = {}
    for row in rows:
        arms.setdefault(row["arm"], []).append(float(row[column]))
    return np.array(list(arms.values()))


def section(repetitions: int, *, data: Path = DATA, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """False positives and coverage at fixed n."""
    out = []
    chosen = [*scenarios(), *(real(data) if data.exists() else ())]
    say(HEADER)
    for scenario in chosen:
        found = run(scenario, repetitions)
        out.append(asdict(found) | {"estimand": scenario.estimand})
        say(line(out[-1]))
    return {"fixed": out}


MARK = {True: "", False: "   MISSED", None: "   stress, no target"}
HEADER = f"{'scenario':44} {'false':>6} {'upper':>6} {'joint':>6} {'alone':>6} {'width':>6} {'power':>6}"


def line(row: dict[str, Any]) -> str:
    """One outcome as a line of the table, in %; width is a ratio."""

    def percent(key: str) -> str:
        return f"{100 * row[key]:6.2f}" if row[key] is not None else "     -"

    width = f"{row['width']:6.3f}" if row["width"] is not None else "     -"
    cells = " ".join(percent(k) for k in ("false", "upper", "joint", "alone"))
    return f"{row['scenario']:44} {cells} {width} {percent('power')}{MARK[row['met']]}"


def _scaled(noise: Any, sd: float) -> Any:
    return lambda rng, repetitions, arms, seeds: sd * noise(rng, repetitions, arms, seeds)
