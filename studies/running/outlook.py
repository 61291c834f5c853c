"""The outlook: what a study would run, how long it will take, what it will be able to detect, and what to mend before the start."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.console import Console

from ..data.prepared import open_prepared
from ..declaration import declare
from ..designs.tuning import grid_study
from ..frozen import freeze
from ..plan import Plan
from ..statistics.power import detectable
from .calibrate import Calibration, calibrate, kind_of, steps_per_epoch
from .cautions import warnings_of
from .driver import Prospect
from .live import duration
from .measured import Ahead, ahead
from .seed_noise import Noise, noise_for
from .stages import schedule


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """Numbers of a plan before its start: seconds here and on `workers` such machines, joules where the device tells, the smallest effect
    (points) that would be found at 80 % power with the seed noise assumed, what measuring latency comes to, and warnings."""

    seconds: float
    workers: int
    seconds_on_workers: float
    joules: float | None
    noise: Noise
    detectable: float | None
    warnings: tuple[str, ...]
    latency: Ahead | None = None


def outlook(ready: Prospect, calibration: Calibration, *, workers: int) -> Outlook:
    """The outlook of a study that is ready to run."""
    plan, prepared = ready.plan, open_prepared(ready.data)
    times = [calibration.seconds(t) for t in ready.todo]
    slots = ready.machine.concurrency * workers
    seconds = _span(times, ready.machine.concurrency)
    noise = noise_for(ready.store, plan)
    trials = {t.id: t for t in plan.trials}
    steps = {a.index: a.epochs * steps_per_epoch(prepared, trials[a.trials[0]]) for a in plan.arms}
    return Outlook(
        seconds=seconds,
        workers=workers,
        seconds_on_workers=_span(times, slots),
        joules=None if calibration.watts is None else calibration.watts * seconds,
        noise=noise,
        detectable=_detectable(ready, noise),
        warnings=warnings_of(plan, steps),
        latency=ahead(ready.store, plan) if plan.study.latency else None,
    )


def _span(times: list[float], slots: int) -> float:
    """Seconds until the last of `times` is over, the next trial going to whoever is free."""
    if not times:
        return 0.0
    return max(sum(times) / slots, max(times))


def _detectable(ready: Prospect, noise: Noise) -> float | None:
    """The smallest effect that every effect of the plan would show, or None where nothing is judged."""
    plan = ready.plan
    effects = [e for e in plan.effects if e.liveness.verdict and e.order == 1 and e.estimand != "the reference again"]
    seeds = plan.study.max_seeds if plan.study.until_decided else plan.study.seeds
    if seeds < 2 or not effects:
        return None
    weights = np.array([plan.row(e.weights) for e in effects])
    weights = weights[weights.any(axis=1)]
    if not len(weights):
        return None
    return float(np.max(detectable(weights, seeds, noise.sd)))


def print_outlook(ready: Prospect, console: Console, *, as_json: bool, workers: int | None = None) -> None:
    """Print what would run, how much of it is known, how long it will take and what it can detect; train nothing."""
    calibration = calibrate(ready, say=lambda line: Console(stderr=True).print(line, highlight=False, style="dim"))
    found = outlook(ready, calibration, workers=workers or 1)
    if as_json:
        print(json.dumps(to_dict(ready, calibration, found), indent=1))
        return
    _print_arms(ready, console)
    study = ready.plan.study
    for note in ready.plan.notes:
        console.print(f"note: {note}", highlight=False)
    for key, values in declare(ready.plan).items():
        console.print(f"{key}: {values}", highlight=False)
    if study.kind == "ablate" and study.tune:
        grid = grid_study(study)
        console.print(
            f"first {grid.folder_name}: {len(ready.plan.arms)} arms at every setting of {study.tune}, {grid.seeds} trainings each on "
            "validation; then the arms at their best settings, where those are not the shared ones (not counted below)",
            highlight=False,
        )
    for line in lines(ready, found):
        console.print(line, highlight=False)


def lines(ready: Prospect, found: Outlook) -> list[str]:
    """The outlook in words."""
    plan, machine = ready.plan, ready.machine
    processes = f" in {machine.processes} processes" if machine.processes > 1 else ""
    timed = found.latency
    planned = sum(len(a.trials) for a in plan.arms)
    twice = f" ({planned} before duplicates were removed)" if planned != len(plan.trials) else ""
    out = [
        f"{len(plan.trials)} trials{twice}, {len(ready.known)} known, {ready.left}: about {duration(found.seconds)} on {machine.device}, "
        f"{machine.concurrency} at a time with {machine.threads} thread(s) each{processes}"
        + (f"; {duration(found.seconds_on_workers)} on {found.workers} such machines" if found.workers > 1 else "")
        + (f"; about {found.joules / 3600:.0f} Wh" if found.joules is not None else "")
    ]
    if found.detectable is not None:
        out.append(
            f"smallest effect that would show at 80 % power with {_seeds(plan)}: {found.detectable:.2f} points "
            f"(seed noise of {found.noise.sd:.2f} points: {found.noise.source})"
        )
    elif plan.effects:
        out.append("one seed: deltas without interval or word; --seeds 3 would give them")
    if timed is not None:
        left = timed.networks - timed.known
        takes = f"about {duration(timed.seconds)} to measure {left}" if left else "nothing to measure"
        out.append(f"latency of {timed.networks} networks, {timed.known} known: {takes}, after the training, on {timed.device}")
    return [*out, *(f"warning: {w}" for w in found.warnings)]


def _seeds(plan: Plan) -> str:
    if not plan.study.until_decided:
        return f"{plan.study.seeds} seeds"
    most = plan.study.max_seeds * len(plan.distinct)
    return f"up to {plan.study.max_seeds} seeds (looks at {', '.join(map(str, schedule(plan.study)))}; {most} trials at most)"


def _print_arms(ready: Prospect, console: Console) -> None:
    from rich.table import Table

    table = Table(title=f"{ready.plan.study.folder_name} (nothing is trained)", box=None, title_justify="left")
    for column in ("", "arm", "params", "MMACs", "change", "epochs", "known", "here"):
        table.add_column(column, justify="left" if column in ("arm", "here") else "right")
    for a in ready.plan.arms:
        same = f"same as {a.same_as}" if a.same_as is not None else ""
        title = a.title if a.title == a.name or ready.plan.study.kind == "roadmap" else a.name
        table.add_row(
            str(a.index),
            ("  or " if a.side else "") + title,
            f"{a.params:,}",
            f"{a.macs / 1e6:,.1f}",
            "" if a.parent is None or a.placebo else f"{a.liveness.macs / 1e6:+,.1f}",
            str(a.epochs),
            f"{sum(t in ready.known for t in a.trials)}/{len(a.trials)}",
            same or (a.liveness.state if a.liveness.state != "live" else "") + (f": {a.liveness.note}" if a.liveness.note else ""),
        )
    console.print(table)


def to_dict(ready: Prospect, calibration: Calibration, found: Outlook) -> Mapping[str, Any]:
    """Everything of the outlook as plain data."""
    trials = {t.id: t for t in ready.todo}
    rows = []
    for a in ready.plan.arms:
        left = next((trials[t] for t in a.trials if t in trials), None)
        rows.append(
            {
                "arm": a.name,
                "network": a.network,
                "params": a.params,
                "macs": a.macs,
                "epochs": a.epochs,
                "seeds": len(a.seeds),
                "known": sum(t in ready.known for t in a.trials),
                "liveness": a.liveness.state,
                "note": a.liveness.note,
                "seconds_per_epoch": calibration.epochs[kind_of(left)] if left else None,
            }
        )
    return {
        "study": ready.plan.study.to_dict(),
        "arms": rows,
        "effects": [{"name": e.name, "estimand": e.estimand, "context": e.context, "aliases": list(e.aliases)} for e in ready.plan.effects],
        "declaration": declare(ready.plan),
        "trials": len(ready.plan.trials),
        "known": len(ready.known),
        "to_train": len(ready.todo),
        "to_score": len(ready.unscored),
        "estimate": duration(found.seconds),
        "outlook": asdict(found),
    }


def freeze_plan(ready: Prospect, console: Console | None) -> None:
    """Store what is asked and how it will be judged, before the first training; frozen.FrozenError where that was done otherwise."""
    done = freeze(ready.store, ready.plan, ready.plan.study.margin)
    if console is not None:
        console.print(f"frozen as {done.hash[:12]} in {ready.store.studies / ready.plan.study.folder_name}", highlight=False)
