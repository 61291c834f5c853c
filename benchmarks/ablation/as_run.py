"""`--until-decided` exactly as it runs: effects are settled for good at the look that decides them or gives them up, and arms that no
unsettled effect needs get no more seeds (`vitnas.studies.statistics.staged`). Slower to simulate than until_decided.py, in which all arms
go on, so with small designs and fewer repetitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from vitnas.studies.statistics.staged import Staged, staged

from .simulate import TARGET, remember_more

Matrix = NDArray[np.float64]
LOOKS = (2, 3, 5, 8)
MOST = 2000  # repetitions a scenario


@dataclass(frozen=True, kw_only=True)
class AsRun:
    """`false`: repetitions in which an effect of 0 was called *helps* or *hurts*, or one outside the margin *equivalent*; `upper` its upper
    95 % bound; `joint` coverage of all intervals together as finally reported; `power` the share of true effects found; `trainings` and
    `of`: trainings used on average, and those of a fixed study of all seeds."""

    scenario: str
    repetitions: int
    false: float
    upper: float
    joint: float
    power: float | None
    trainings: float
    of: int
    met: bool


def one(values: Matrix, weights: Matrix, margin: float) -> tuple[Staged, int]:
    """One study: looks until nothing goes on; gives where it ended and the trainings that it took."""
    arms, horizon = values.shape
    seen = np.zeros(values.shape, dtype=bool)
    active = np.ones(arms, dtype=bool)
    for k, seeds in enumerate(LOOKS):
        seen[active, :seeds] = True
        found = staged(np.where(seen, values, np.nan), weights, looks=LOOKS[: k + 1], horizon=horizon, margin=margin)
        if found.settled:
            break
        going = np.array([v == "go on" for v in found.verdicts])
        active = (weights[going] != 0).any(axis=0)
    return found, int(seen.sum())


def run(name: str, weights: Matrix, means: Matrix, *, margin: float, repetitions: int, sd: Matrix | float = 1.0) -> AsRun:
    """Simulate `repetitions` studies; `means` and `margin` in standard deviations of the noise."""
    rng = np.random.default_rng([20220112, sum(map(ord, name))])
    truth = weights @ means
    zero, beyond = np.abs(truth) < 1e-9, np.abs(truth) > margin
    wrong = covered = trained = 0
    power = 0.0
    for _ in range(repetitions):
        noise = rng.normal(size=(len(means), LOOKS[-1])) * np.broadcast_to(sd, (len(means),))[:, None]
        found, used = one(means[:, None] + noise, weights, margin)
        estimates = found.analysis.estimates
        worked = np.array([e.word in ("helps", "hurts") for e in estimates])
        same = np.array([e.word == "equivalent" for e in estimates])
        wrong += bool(np.any(worked & zero) or np.any(same & beyond))
        covered += all(e.simultaneous and e.simultaneous.low <= t <= e.simultaneous.high for e, t in zip(estimates, truth, strict=True))
        power += float(np.sum(worked & ~zero))
        trained += used
    upper = float(beta.ppf(0.95, wrong + 1, repetitions - wrong))
    return AsRun(
        scenario=name,
        repetitions=repetitions,
        false=wrong / repetitions,
        upper=upper,
        joint=covered / repetitions,
        power=power / (repetitions * int((~zero).sum())) if (~zero).any() else None,
        trainings=trained / repetitions,
        of=len(means) * LOOKS[-1],
        met=upper <= TARGET and covered / repetitions >= 0.93,
    )


def scenarios() -> Iterator[dict[str, Any]]:
    """Five networks each: in a row, and all against one."""
    arms = 5
    row = np.eye(arms)[1:] - np.eye(arms)[:-1]
    one_out = np.hstack([np.ones((arms - 1, 1)), -np.eye(arms - 1)])
    for name, weights in (("roadmap", row), ("leave-one-out", one_out)):
        yield {"name": f"{name}, nothing works", "weights": weights, "means": np.zeros(arms), "margin": 1.0}
    yield {"name": "roadmap, nothing works, wide margin", "weights": row, "means": np.zeros(arms), "margin": 2.0}
    yield {"name": "roadmap, sd 1 or 2", "weights": row, "means": np.zeros(arms), "margin": 1.0, "sd": np.array([1, 2, 1, 2, 1.0])}
    yield {"name": "roadmap, every other step 3 sd", "weights": row, "means": np.array([0, 3.0, 3, 6, 6]), "margin": 1.0}
    yield {"name": "leave-one-out, half 3 sd", "weights": one_out, "means": np.array([0, -3.0, 0, -3, 0]), "margin": 1.0}


def section(repetitions: int = MOST, *, say: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """All scenarios, with `MOST` repetitions each at most."""
    remember_more()
    out = []
    for scenario in scenarios():
        found = run(**scenario, repetitions=min(repetitions, MOST))
        out.append(asdict(found))
        say(line(found))
    return {"until decided, as run": out}


def line(found: AsRun) -> str:
    """One outcome in words."""
    power = "" if found.power is None else f", power {100 * found.power:5.1f} %"
    return (
        f"{found.scenario:38} false {100 * found.false:5.2f} % (upper {100 * found.upper:5.2f}), joint {100 * found.joint:5.1f} %{power}, "
        f"{found.trainings:4.1f} of {found.of} trainings (n = {found.repetitions}){'' if found.met else '   MISSED'}"
    )


if __name__ == "__main__":
    section(say=print)
