"""Studies that add seeds until every effect is decided or given up: false positives over all looks, coverage where they stop, power."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from vitnas.studies.statistics.critical import null
from vitnas.studies.statistics.evalues import e_adjusted, e_values_of
from vitnas.studies.statistics.judgement import judge
from vitnas.studies.statistics.sequential import FUTILE, chance_to_decide

from .fixed import ARMS, RESOLUTION_III, leave_one_out, roadmap
from .simulate import TARGET, Noise, any_sd, equal, random_half

Matrix = NDArray[np.float64]
LOOKS = (2, 3, 5, 8)
FAR = -250.0  # a diverged trial's value, in standard deviations


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """A study with looks. `means` and `margin` are in standard deviations of the noise; `futility` False never gives an effect up.
    `diverge` is every trial's chance to diverge, far below all others."""

    name: str
    weights: Matrix
    means: Matrix
    noise: Noise
    margin: float
    looks: tuple[int, ...] = LOOKS
    futility: bool = True
    diverge: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """What came of it. `false` counts repetitions with any effect of 0 ever called *helps* or *hurts*, or any outside the margin ever
    called *equivalent*; `upper` is its upper 95 % bound. `joint` is the coverage of all intervals at each study's last look; `power` the
    share of true effects found, at `median_seeds` seeds (of those found); `equivalent` and `undecided` are shares of the null
    effects at the end; `mean_seeds` is an arm's at the end; `e_power` what e-values find by the last look."""

    scenario: str
    repetitions: int
    effects: int
    false: float
    upper: float
    joint: float
    power: float | None
    median_seeds: float | None
    equivalent: float | None
    undecided: float | None
    mean_seeds: float
    e_false: float | None
    e_power: float | None
    met: bool


def run(study: Sequence, repetitions: int, *, chunk: int = 10_000) -> Stopped:
    """Simulate and judge `repetitions` studies, look by look. A claim stands from the look at which it is first made."""
    rng = np.random.default_rng([20220111, sum(map(ord, study.name))])
    truth = study.weights @ study.means
    zero, beyond = np.abs(truth) < 1e-9, np.abs(truth) > study.margin
    horizon = study.looks[-1]
    mask = np.ones((len(study.means), horizon), dtype=bool)
    critical = float(null(mask, study.weights, looks=study.looks).boundary(0.05)[-1])
    wrong = covered = e_wrong = 0
    ended: list[Matrix] = []
    found: list[Matrix] = []
    equivalent = undecided = e_found = 0.0
    for start in range(0, repetitions, chunk):
        size = min(chunk, repetitions - start)
        values = study.means[:, None] + study.noise(rng, size, len(study.means), horizon)
        diverged = rng.random(values.shape) < study.diverge if study.diverge else None
        if diverged is not None:
            values[diverged] = FAR
        going = np.ones(size, dtype=bool)
        claimed = np.full((size, len(truth)), np.inf)  # seeds at which an effect was first called helps or hurts
        same, given_up = np.zeros(claimed.shape, dtype=bool), np.zeros(claimed.shape, dtype=bool)
        seeds, inside = np.full(size, float(horizon)), np.zeros(size, dtype=bool)
        evidence = np.zeros(claimed.shape)
        for number, n in enumerate(study.looks):
            looks, marks = study.looks[: number + 1], None if diverged is None else diverged[:, :, :n]
            judged = judge(values[:, :, :n], study.weights, diverged=marks, looks=looks, horizon=horizon, p_values=False)
            within = np.abs(judged.value) + judged.together <= study.margin
            decided = judged.decided & ~same & going[:, None]
            claimed = np.where(decided, np.minimum(claimed, n), claimed)
            same |= within & going[:, None] & ~np.isfinite(claimed)
            if n < horizon:
                error = judged.together / judged.null.boundary(0.05)[-1]
                chance = chance_to_decide(judged.value, error, n / horizon, critical, study.margin)
                given_up = (chance < FUTILE) & study.futility & ~np.isfinite(claimed) & ~same
            else:
                given_up = ~np.isfinite(claimed) & ~same
            ends = going & (np.all(np.isfinite(claimed) | same | given_up, axis=1) | (n == horizon))
            inside[ends] = ~np.any(np.abs(judged.value - truth)[ends] > judged.together[ends], axis=1)
            undecided += float(np.sum((given_up & zero)[ends]))
            seeds[ends] = n
            going &= ~ends
            if diverged is None:
                evidence = np.maximum(evidence, e_adjusted(e_values_of(values[:, :, :n], study.weights)))
        wrong += int(np.sum(np.any(np.isfinite(claimed) & zero, axis=1) | np.any(same & beyond, axis=1)))
        covered += int(np.sum(inside))
        equivalent += float(np.sum(same & zero))
        e_wrong += int(np.sum(np.any((evidence >= 20) & zero, axis=1)))
        e_found += float(np.sum((evidence >= 20) & ~zero))
        found.append(claimed[:, ~zero])
        ended.append(seeds)
    hits = np.concatenate(found)
    some, nulls = bool((~zero).any()), int(zero.sum()) * repetitions
    power = float(np.mean(np.isfinite(hits))) if some else None
    upper = float(beta.ppf(0.95, wrong + 1, repetitions - wrong))
    joint = covered / repetitions
    return Stopped(
        scenario=study.name,
        repetitions=repetitions,
        effects=len(truth),
        false=wrong / repetitions,
        upper=upper,
        joint=joint,
        power=power,
        median_seeds=float(np.median(hits[np.isfinite(hits)])) if some else None,
        equivalent=equivalent / nulls if nulls else None,
        undecided=undecided / nulls if nulls else None,
        mean_seeds=float(np.mean(np.concatenate(ended))),
        e_false=None if study.diverge else e_wrong / repetitions,
        e_power=e_found / hits.size if some else None,
        met=upper <= TARGET and joint >= 0.93,
    )


def studies() -> Iterator[Sequence]:
    """All of them."""
    none, designs = np.zeros(ARMS), {"roadmap": roadmap(), "leave-one-out": leave_one_out(), "2^(7-4)": RESOLUTION_III[1]}
    for name, weights in designs.items():
        zeros = np.zeros(weights.shape[1])
        yield Sequence(name=f"{name}, nothing works", weights=weights, means=zeros, noise=equal, margin=1.0)
    yield Sequence(name="roadmap, nothing works, never futile", weights=roadmap(), means=none, noise=equal, margin=1.0, futility=False)
    yield Sequence(name="roadmap, wide margin", weights=roadmap(), means=none, noise=equal, margin=2.5)
    yield Sequence(name="roadmap, looks at 3 and 5", weights=roadmap(), means=none, noise=equal, margin=1.0, looks=(3, 5))
    yield Sequence(name="roadmap, a random half 2 sd", weights=roadmap(), means=none, noise=random_half, margin=1.0)
    yield Sequence(name="roadmap, sd 0.5 to 2", weights=roadmap(), means=none, noise=any_sd, margin=1.0)
    yield Sequence(name="roadmap, 3 % diverge", weights=roadmap(), means=none, noise=equal, margin=1.0, diverge=0.03)
    half = np.cumsum([0.0, *([2.0, 0.0] * ARMS)])[:ARMS]
    yield Sequence(name="roadmap, every other step 2 sd", weights=roadmap(), means=half, noise=equal, margin=1.0)
    yield Sequence(name="roadmap, every other step at the margin", weights=roadmap(), means=1.26 * half, noise=equal, margin=2.5)
    all_ = 2.0 * np.arange(ARMS)
    yield Sequence(name="roadmap, all steps 2 sd", weights=roadmap(), means=all_, noise=equal, margin=0.5)
    ends = np.where(np.arange(ARMS) % 2, -2.0, 0.0)
    yield Sequence(name="leave-one-out, every other step 2 sd", weights=leave_one_out(), means=ends, noise=equal, margin=1.0)
    levels, weights = RESOLUTION_III
    effects = np.array([2.0, 0, 2.0, 0, 0, -2.0, 0])
    yield Sequence(name="2^(7-4), three effects of 2 sd", weights=weights, means=levels @ effects / 2, noise=equal, margin=0.5)


def section(repetitions: int, *, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """False positives, coverage and power of `--until-decided`."""
    out = []
    say(HEADER)
    for study in studies():
        out.append(asdict(run(study, repetitions)))
        say(line(out[-1]))
    return {"until decided": out}


COLUMNS = ("false", "upper", "joint", "power", "equivalent", "undecided", "e_false", "e_power")
HEADER = f"{'until decided, looks at 2, 3, 5, 8 seeds':44} " + " ".join(f"{c[:7]:>7}" for c in COLUMNS) + "  seeds: found, all"


def line(row: dict[str, Any]) -> str:
    """One outcome as a line of the table, in %."""
    cells = " ".join(f"{100 * row[c]:7.2f}" if row[c] is not None else "      -" for c in COLUMNS)
    median = f"{row['median_seeds']:.0f}" if row["median_seeds"] is not None else "-"
    return f"{row['scenario']:44} {cells}  {median:>6} {row['mean_seeds']:8.2f}{'' if row['met'] else '   MISSED'}"
