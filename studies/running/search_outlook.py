"""What a search would look at, before it trains anything: the space's size, its distinct networks, and the range of their costs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console

from ..latency.readings import known
from ..objectives import exactly, limits_in_words, objective
from ..search.space_size import extremes
from ..search.trainings import ETA, epochs_of
from ..study import StudyError
from .live import duration
from .measured import key_of
from .search_measure import needs_of, quantities
from .search_ready import Search

TIMED = 3  # networks by which the time of a training is estimated
SAMPLE = 100  # points by which the number of distinct networks and the range of costs are estimated, where all cannot be looked at


def print_search_outlook(search: Search, console: Console, *, as_json: bool) -> None:
    """Print the outlook of a search."""
    found = outlook(search, say=lambda line: Console(stderr=True).print(line, highlight=False, style="dim"))
    if as_json:
        console.print(json.dumps(found, indent=1), highlight=False, markup=False, soft_wrap=True)
        return
    for line in lines(found):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def outlook(search: Search, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Size of the space, its distinct networks (with an interval where they are estimated), the least and the most of each cost, how long
    the trainings take."""
    space, rng = search.space, np.random.default_rng(0)
    distinct = space.distinct(rng, SAMPLE)
    least, most = extremes(space, rng, SAMPLE)
    search.pool.fill(min(search.study.pool, 20 * SAMPLE), 0)
    readings, elsewhere = _learn(search) if search.book.measures else (0, "")
    params = [search.book.entries[c].counted.params for c in search.pool.own] + [least.params, most.params]
    found: dict[str, Any] = {
        "space": space.name,
        "points": space.spelled(),
        "points_exact": space.exact,
        "distinct": asdict(distinct),
        "dimensions": {d.name: list(d.levels) for d in space.dimensions},
        "macs": [least.macs, most.macs],
        "params": [min(params), max(params)],
        "pool": len(search.pool.own),
        "within_limits": len(search.pool.feasible),
        "trials": search.study.trials,
        "limits": dict(search.problem.limits),
        "min_accuracy": search.problem.min_accuracy,
        "sampler": search.study.sampler,
        "scheduler": search.study.scheduler,
        "rungs": list(search.problem.rule.rungs),
        "finalists": search.problem.finalists,
        "seeds": search.problem.seeds,
        "published": search.study.published,
        "final_epochs": search.study.final_epochs or epochs_of(search.study),
        "unreachable": "" if search.pool.feasible else search.book.unreachable(),
        "readings": readings,
        "elsewhere": elsewhere,
    }
    found["seconds"] = _seconds(search, say) if search.pool.feasible else None
    for quantity in search.book.quantities:
        bounds = [search.book.interval(c, quantity) for c in search.pool.own]
        bounds = [b for b in bounds if np.isfinite(b).all()]
        found[quantity] = [min(b[0] for b in bounds), max(b[1] for b in bounds)] if bounds else None
    return found


def _seconds(search: Search, say: Callable[[str], None]) -> float | None:
    """Seconds on this machine for the networks and finalists asked for, by a few steps of `TIMED` networks of the pool between its least
    and its most multiply-adds; None where none has the space's usual input size."""
    import torch

    from ..data.prepared import open_prepared
    from ..training.run_trial import configure
    from .calibrate import seconds_a_step, steps_per_epoch

    study, machine, macs = search.study, search.machine, {c: search.book.entries[c].counted.macs for c in search.pool.feasible}
    ranked = sorted((c for c in macs if search.pool.candidates[c].input_size == search.size), key=lambda c: macs[c])
    if not ranked:
        return None
    configure(search.how())
    prepared, device = open_prepared(search.data(search.size).folder), torch.device(machine.device)
    work, times = [], []
    for i in range(TIMED):
        say(f"timing {i + 1} of {TIMED}")
        candidate = ranked[round((i + 0.5) / TIMED * (len(ranked) - 1))]
        trial = search.trainings.trial(candidate, seed=0, rung=0, final=False)
        step = seconds_a_step(search.store, trial, prepared, device, machine.processes, study.micro_batch)
        work.append(macs[candidate])
        times.append(step * steps_per_epoch(prepared, trial))
    epoch = float(np.mean(np.interp([macs[c] for c in ranked], work, times)))
    rungs = search.problem.rule.rungs
    epochs = sum(study.trials / ETA**i * (e - (rungs[i - 1] if i else 0)) for i, e in enumerate(rungs))
    finals = (search.problem.finalists + (study.published != "none")) * search.problem.seeds * (study.final_epochs or epochs_of(study))
    return epoch * (epochs + finals) / machine.concurrency


def _learn(search: Search) -> tuple[int, str]:
    """Take in the readings that the store has of the pool's networks on this device; how many there are, or why there is no such device
    here."""
    from dataclasses import replace

    from ..latency.deploy import deployed_spec

    try:
        key = key_of(search.study)
    except StudyError as error:
        return 0, str(error)
    values = {}
    for candidate in search.pool.own:
        found = search.pool.candidates[candidate]
        under = replace(key, conditions=replace(key.conditions, input_size=found.input_size))
        reading = known(search.store, deployed_spec(found.spec).fingerprint, under, needs=needs_of(search))
        if reading is not None:
            values[candidate] = {q: v[0] for q, v in quantities(reading).items() if v is not None}
    search.book.learn(values)
    return len(values), ""


def lines(found: dict[str, Any]) -> list[str]:
    """The outlook for people."""
    d, about = found["distinct"], "" if found["points_exact"] else "about "
    if d["low"] == d["high"]:
        distinct = f"{d['value']:,.0f} distinct networks"
    else:
        distinct = f"about {d['value']:.3g} distinct networks (95 %: {d['low']:.3g} to {d['high']:.3g}, from {SAMPLE} points)"
    out = [
        f"space {found['space']}: {about}{found['points']:,} points in {len(found['dimensions'])} dimensions, {distinct}",
        *(f"  {name}: {', '.join(levels)}" for name, levels in found["dimensions"].items()),
        f"the pool: {found['pool']:,} distinct networks, {found['within_limits']:,} within the limits as far as is known"
        + (f" ({limits})" if (limits := limits_in_words(found["limits"], None)) else ""),
        *([found["unreachable"]] if found["unreachable"] else []),
    ]
    for quantity in ("macs", "params"):
        o = objective(quantity)
        low, high = found[quantity]
        out.append(f"{o.title}: {o.show(low)} to {o.show(high)} {o.unit}")
    for quantity in ("latency", "latency-p99", "memory", "energy"):
        if quantity in found:
            o = objective(quantity)
            if found[quantity]:
                low, high = found[quantity]
                out.append(
                    f"predicted {o.title}: {o.show(low)} to {o.show(high)} {o.unit}, from {found['readings']} readings of this device"
                )
            elif found["elsewhere"]:
                out.append(f"{o.title}: not predicted, for this machine cannot measure it: {found['elsewhere']}")
            else:
                out.append(
                    f"{o.title}: not predicted yet, for the store has {found['readings']} readings of these networks on this device; "
                    "the search measures a dozen first"
                )
    return out if found["unreachable"] else [*out, *_trainings(found)]


def _trainings(found: dict[str, Any]) -> list[str]:
    """What would be trained, in words."""
    rungs, finalists, final = found["rungs"], found["finalists"], found["final_epochs"]
    how = f"by rungs ({found['scheduler']}) of" if len(rungs) > 1 else "for"
    takes = f"about {duration(found['seconds'])} here in all; further seeds of those near the front come on top"
    least = found["min_accuracy"]
    goal = [] if least is None else [f"the winner will be the cheapest that reaches {exactly(least)} % on validation"]
    published = "" if found["published"] == "none" else " and a published network"
    return [
        f"{found['trials']} networks to train, proposed by {found['sampler']}, {how} {', '.join(map(str, rungs))} "
        f"epoch{'s' * (rungs != [1])}",
        f"then up to {finalists} finalist{'s' * (finalists != 1)}{published}, {found['seeds']} seed{'s' * (found['seeds'] != 1)} each, for "
        f"{final} epoch{'s' * (final != 1)}",
        *goal,
        *([takes] if found["seconds"] else []),
    ]
