"""From runs to what is reported, by table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from search.protocol import Scorer, median, reached
from search.runs import Run, Task
from search.tables import Floats

AT = (20, 40, 100, 200)
LEADERS = {"tpe": 40, "tpe+free": 100}  # whose median after ALL trainings is to be reached, and in how many
ALL = 200


def table(name: str, scorer: Scorer, runs: Mapping[Task, Run]) -> dict[str, Any]:
    """What every method came to on a table: hypervolume after AT trainings (share of the best choosable set), regret, and after how many
    trainings it was at the median of each leader after all of its own."""
    curves: dict[str, list[Floats]] = {}
    seconds: dict[str, list[float]] = {}
    for task, run in sorted(runs.items()):
        if task.table == name:
            curve = scorer.curve(run.rows)  # a search that ended early had nothing left to train
            curves.setdefault(task.method, []).append(np.append(curve, [curve[-1]] * (task.trainings - len(curve))))
            seconds.setdefault(task.method, []).append(run.seconds)
    levels = {leader: float(np.median(_at(curves[leader], ALL))) for leader in LEADERS if _at(curves.get(leader, []), ALL)}
    out: dict[str, Any] = {"table": name, "networks": len(set(scorer.table.kind.tolist())), "levels": levels, "methods": {}}
    for method, found in curves.items():
        entry: dict[str, Any] = {"n": len(found), "seconds": float(np.median(seconds[method]))}
        entry |= {f"at_{t}": median(ends) for t in AT if (ends := _at(found, t))}
        if at100 := _at(found, 100):
            entry["regret_100"] = median([100 * (1 - v) for v in at100])
        for leader, level in levels.items():
            counts = [reached(c, level) for c in found]
            entry[f"reaches_{leader}"] = median(counts)
            entry[f"reached_{leader}"] = sum(math.isfinite(c) for c in counts)
        out["methods"][method] = entry
    return out


def _at(curves: Iterable[Floats], t: int) -> list[float]:
    """The curves that are so long, after t trainings."""
    return [float(c[t - 1]) for c in curves if len(c) >= t]


def show(found: Mapping[str, Any], say: Callable[[str], None]) -> None:
    """One table as lines."""
    levels = ", ".join(f"{leader} {level:.4f}" for leader, level in found["levels"].items())
    say(f"\n{found['table']}: {found['networks']:,} networks; medians after {ALL}: {levels or 'not run'}")
    say(
        f"  {'':15}{'n':>3}" + "".join(f"{f'at {t}':>8}" for t in AT) + f"{'regret at 100, %':>24}{'to tpe':>18}{'to tpe+free':>18}{'s':>7}"
    )
    for method, e in found["methods"].items():
        ends = "".join(f"{e[f'at_{t}'][0]:8.4f}" if f"at_{t}" in e else f"{'':8}" for t in AT)
        regret = "{:.2f} [{:.2f}, {:.2f}]".format(*e["regret_100"]) if "regret_100" in e else ""
        to = "".join(f"{trainings(e.get(f'reaches_{leader}')):>18}" for leader in LEADERS)
        say(f"  {method:15}{e['n']:>3}{ends}{regret:>24}{to}{e['seconds']:7.1f}")


def goals(tables: Iterable[Mapping[str, Any]], say: Callable[[str], None]) -> dict[str, Any]:
    """Whether `vitnas` kept to the goals, on how many tables."""
    out: dict[str, Any] = {}
    rows = [t for t in tables if "vitnas" in t["methods"]]
    for leader, most in LEADERS.items():
        judged = [t for t in rows if leader in t["levels"]]
        kept = [t["table"] for t in judged if t["methods"]["vitnas"][f"reaches_{leader}"][0] <= most]
        out[leader] = {
            "within": most,
            "kept": len(kept),
            "of": len(judged),
            "missed": [t["table"] for t in judged if t["table"] not in kept],
        }
        say(f"median of {leader} after {ALL} reached by vitnas in {most} or fewer (median): {len(kept)} of {len(judged)} tables")
    judged = [t for t in rows if "regret_100" in t["methods"]["vitnas"]]
    kept = [t["table"] for t in judged if t["methods"]["vitnas"]["regret_100"][0] <= 0.5]
    out["regret"] = {"within": 0.5, "kept": len(kept), "of": len(judged), "missed": [t["table"] for t in judged if t["table"] not in kept]}
    say(f"regret of vitnas at 100 at or below 0.5 % (median): {len(kept)} of {len(judged)} tables")
    return out


def trainings(value: tuple[float, float, float] | None) -> str:
    """A median with its interval, *never* where it is not reached."""
    if value is None:
        return ""
    middle, low, high = ("never" if math.isinf(v) else f"{v:g}" for v in value)
    return f"{middle} [{low}, {high}]"
