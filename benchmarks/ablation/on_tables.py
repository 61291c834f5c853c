"""Designs fed from real complete tables, whose own effects are the truth.

Two tables: 40 legal subsets of seven steps of convnext-t, five seeds each (complete_table.py), and NAS-Bench-Macro (2^8 sub-tables of
two operations a layer, three seeds; arXiv 2103.11922). A design sees fresh trainings of its networks: the table's mean of the arm plus
noise resampled from the table's own residuals, with what equal seeds share in all arms added to them. Counted is how often the
simultaneous intervals hold all of the table's effects at once, and how often an effect's own interval holds it.

For fractions of a factorial the truth is what the weights give on the whole table: the main effect plus its aliases. Beside it stands how
often the interval holds the main effect itself, which a fraction does not promise.
"""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, make_dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitnas.roadmap.spec import NetSpec
from vitnas.roadmap.steps import Selection, Step, Track, select
from vitnas.roadmap.tracks import track
from vitnas.studies.designs.catalogue import make_design
from vitnas.studies.designs.design import Design, Factors
from vitnas.studies.statistics.analysis import analyse

from .complete_table import STEPS, read

Matrix = NDArray[np.float64]
REPETITIONS = 1000
SEEDS = 3


@dataclass(frozen=True)
class Game:
    """A complete table: `means` by set of steps, its factors, and the noise of its trials: `residuals` about the means of arms and of
    seeds, and what equal seeds `shared` in all arms, both scaled to their variance."""

    name: str
    factors: Factors
    means: dict[frozenset[str], float]
    residuals: Matrix
    shared: Matrix

    @classmethod
    def of(cls, name: str, factors: Factors, values: dict[frozenset[str], Matrix]) -> Game:
        """The game of a table: for each set of steps, top-1 (%) by seed."""
        table = np.array(list(values.values()))
        arms, seeds = table.shape
        shared = table.mean(axis=0) - table.mean()
        rest = table - table.mean(axis=1, keepdims=True) - shared
        rest *= (arms * seeds / ((arms - 1) * (seeds - 1))) ** 0.5
        shared = shared * (seeds / (seeds - 1)) ** 0.5
        return cls(name, factors, {k: float(v.mean()) for k, v in values.items()}, rest.ravel(), shared)

    def trainings(self, means: Matrix, seeds: int, rng: np.random.Generator) -> Matrix:
        """Fresh trainings of networks with these means, (networks, seeds)."""
        noise = rng.choice(self.residuals, (len(means), seeds)) + rng.choice(self.shared, seeds)
        return np.asarray(means[:, None] + noise)


def digits() -> Game:
    """The complete table of convnext-t at micro scale on the digits."""
    table = read()
    convnext = track("convnext-t")
    values = dict(zip(table.arms, table.test, strict=True))
    return Game.of("digits, 7 steps", Factors.of(select(convnext, ",".join(STEPS))), values)


OPERATIONS = ("skip", "MBConv 3x3 expansion 3", "MBConv 5x5 expansion 6")  # of NAS-Bench-Macro, by their digit


def nb_macro(path: Path, base: int, other: int) -> Game:
    """The 2^8 sub-table of NAS-Bench-Macro in which every layer is operation `base` or `other`."""
    accuracy: dict[str, list[float]] = {}  # by operation of each layer; the file drops leading zeros
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            accuracy[row["arch"].zfill(8)] = [float(row[f"acc_seed{i}"]) for i in range(3)]
    names = [f"layer{i + 1}" for i in range(8)]
    values = {
        frozenset(n for n, on in zip(names, bits, strict=True) if on): np.array(accuracy["".join(str((base, other)[b]) for b in bits)])
        for bits in product((0, 1), repeat=8)
    }
    return Game.of(f"NAS-Bench-Macro, {OPERATIONS[base]} or {OPERATIONS[other]}", _free(names), values)


def _free(names: list[str]) -> Factors:
    """Two-level factors that require nothing of each other."""

    def no_network(decisions: Any, *, scale: str, input_size: int, classes: int) -> NetSpec:
        raise NotImplementedError  # a table has no networks to build

    steps = tuple(Step(name=n, title=n, field=n, value="on", levels=("off", "on"), definition="the other operation") for n in names)
    decisions = make_dataclass("Layers", [(n, str, "off") for n in names])
    made = Track(name="table", title="table", base="base", decisions=decisions, network=no_network, steps=steps, scales=())
    return Factors.of(Selection(made, tuple((s, ("on",)) for s in steps)))


@dataclass(frozen=True)
class Held:
    """How a design did on a table: `joint` share of repetitions in which all simultaneous intervals held the truth, `alone` share of
    effects whose own interval did, `pure` share of effects whose simultaneous interval held the table's averaged effect itself."""

    table: str
    design: str
    networks: int
    seeds: int
    repetitions: int
    joint: float
    alone: float
    pure: float | None


def numbers(game: Game, design: Design) -> tuple[Matrix, Matrix]:
    """The means of the design's networks in the table (networks,), and its effects' weights (effects, networks)."""
    keys = [frozenset(s.name for s, _ in game.factors.steps if s.name in r.choice) for r in design.rungs]
    weights = np.zeros((len(design.effects), len(keys)))
    for row, effect in zip(weights, design.effects, strict=True):
        for arm, weight in effect.weights:
            row[arm] += weight
    return np.array([game.means[k] for k in keys]), weights


def run(game: Game, name: str, design: Design, *, repetitions: int, seeds: int, rng: np.random.Generator) -> Held:
    """Feed `design` from `game`, `repetitions` times."""
    means, weights = numbers(game, design)
    truth = weights @ means
    averaged = averages(game)
    pure = np.array([averaged.get(e.name, np.nan) if e.order == 1 else np.nan for e in design.effects])
    told = "averaged" in design.effects[0].estimand or "main effect" in design.effects[0].estimand
    joint = alone = held = counted = 0
    for _ in range(repetitions):
        found = analyse(game.trainings(means, seeds, rng), weights).estimates
        inside = [e.simultaneous is not None and e.simultaneous.low <= t <= e.simultaneous.high for e, t in zip(found, truth, strict=True)]
        joint += all(inside)
        alone += sum(e.interval is not None and e.interval.low <= t <= e.interval.high for e, t in zip(found, truth, strict=True))
        for e, p in zip(found, pure, strict=True):
            if not np.isnan(p) and e.simultaneous is not None:
                counted, held = counted + 1, held + (e.simultaneous.low <= p <= e.simultaneous.high)
    return Held(
        table=game.name,
        design=name,
        networks=len(means),
        seeds=seeds,
        repetitions=repetitions,
        joint=joint / repetitions,
        alone=alone / (repetitions * len(truth)),
        pure=held / counted if told and counted else None,
    )


def averages(game: Game) -> dict[str, float]:
    """Each step's effect averaged over all pairs of the table's networks that differ in it alone."""
    out = {}
    for step, _ in game.factors.steps:
        pairs = [game.means[k | {step.name}] - v for k, v in game.means.items() if step.name not in k and k | {step.name} in game.means]
        out[step.name] = float(np.mean(pairs))
    return out


DESIGNS: dict[str, dict[str, Any]] = {
    "cumulative": {},
    "leave-one-out": {},
    "add-one-in": {},
    "factorial": {},
    "orders": {},
    "fractional": {},
}


def tables() -> Iterator[tuple[Game, dict[str, dict[str, Any]]]]:
    """Every table with the designs that suit it; NAS-Bench-Macro where VITNAS_SHARED points at it."""
    yield digits(), DESIGNS
    shared = os.environ.get("VITNAS_SHARED")
    path = Path(shared) / "nas-tables" / "nb_macro.csv.gz" if shared else None
    if path is not None and path.exists():
        for base, other in ((1, 2), (0, 1), (0, 2)):
            designs = {f"fractional, resolution {r}": {"resolution": r} for r in (5, 4, 3)}
            yield nb_macro(path, base, other), {"factorial": {}, **designs}


def section(repetitions: int = REPETITIONS, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """All designs on all tables."""
    rows = []
    for game, designs in tables():
        for name, options in designs.items():
            rng = np.random.default_rng([20220110, len(rows)])
            design = make_design(name.partition(",")[0], game.factors, **options)
            found = run(game, name, design, repetitions=repetitions, seeds=SEEDS, rng=rng)
            rows.append(found)
            say(line(found))
    return {"designs on real tables": [vars(r) for r in rows]}


def line(held: Held) -> str:
    """One row in words."""
    pure = "" if held.pure is None else f", the averaged effect itself {100 * held.pure:.1f} %"
    return (
        f"{held.table:66} {held.design:24} {held.networks:3} networks x {held.seeds} seeds: joint {100 * held.joint:5.1f} %, "
        f"each alone {100 * held.alone:5.1f} %{pure} (n = {held.repetitions})"
    )


if __name__ == "__main__":
    section(say=print)
