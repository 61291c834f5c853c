"""What a search leaves in its folder beside its log: plan.json and errors.json, by which status and MLflow know its trainings, and
search.json, of which its report is made. All are made of the log and can be made again."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any
from weakref import WeakKeyDictionary

from ...roadmap.cost import cost
from ..designs.planner import describe
from ..library import ERRORS, SEARCH_RECORD
from ..plan import Arm, Plan
from ..search.choosing import front, hypervolumes, scored
from ..search.engine import Engine
from ..search.halving import Score
from ..search.state import Met, Run
from ..store import read_json, remove, write_atomic, write_json
from .search_ready import Search

FEW = 4  # trained networks from which on the importance of dimensions is told
HALF = 1.96  # standard errors of half an interval of 95 %
SPARE = 10  # times as long as writing took is nothing written again: it takes the longer the more was trained
LONGEST = 60.0  # seconds of that: where a search goes on, writing takes long once

_AGAIN: WeakKeyDictionary[Engine, float] = WeakKeyDictionary()  # when its files are due again (s, monotonic)


def keep(search: Search, engine: Engine, *, ended: bool = False, over: bool = False) -> None:
    """Write the files as things stand, where it is the first time, they are due again, or the search has `ended` here (`over`: for good);
    what failed always. What takes time to tell waits until it has ended."""
    _keep_errors(search.folder / ERRORS, {r.trial: r.error for r in engine.state.runs.values() if r.status == "failed"})
    began = time.monotonic()
    if not ended and began < _AGAIN.get(engine, -math.inf):
        return
    if engine.state.runs:
        _write(search.folder / "plan.json", plan_of(search, engine).to_dict())
    _write(search.folder / SEARCH_RECORD, record_of(search, engine, ended=ended) | {"over": over})
    now = time.monotonic()
    _AGAIN[engine] = now + min(LONGEST, SPARE * (now - began))


def _keep_errors(path: Path, failed: dict[str, str]) -> None:
    if failed and read_json(path) != failed:
        write_json(path, failed)
    elif not failed and path.exists():
        remove(path)


def _write(path: Path, value: dict[str, Any]) -> None:
    """Without line breaks, which take long."""
    text = json.dumps(value, allow_nan=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


_cost = lru_cache(maxsize=None)(cost)


def label(met: Met) -> str:
    """How people call a candidate of the search."""
    return f"net-{met.number:03d}"


def plan_of(search: Search, engine: Engine) -> Plan:
    """The search's trainings as arms: a network and its rung, scored on validation; finalists on test."""
    groups: dict[tuple[str, int, bool], list[Run]] = {}
    for run in engine.state.runs.values():
        if run.candidate not in search.pool.candidates:
            continue  # a published network that is asked for no more
        if run.purpose == "final" and not search.trainings.wants(run):
            continue  # of an earlier part of the search, with other --final-epochs
        groups.setdefault((run.candidate, run.rung, run.purpose == "final"), []).append(run)
    top = len(search.problem.rule.rungs) - 1
    arms: list[Arm] = []
    for (candidate, rung, final), runs in sorted(groups.items(), key=lambda g: (g[0][2], _number(search, engine, g[0][0]), g[0][1])):
        runs = sorted(runs, key=lambda r: r.seed)
        found, met = search.pool.candidates[candidate], engine.state.met.get(candidate)
        name = label(met) if met else search.names[candidate]
        counted = _cost(found.spec, found.input_size)
        trial = search.trainings.added(runs[0].trial)
        arms.append(
            Arm(
                index=len(arms),
                name=name + (", final" if final else f", {trial.epochs} epoch{'s' * (trial.epochs != 1)}" if rung < top else ""),
                title=", ".join(f"{k} {v}" for k, v in search.pool.points[candidate]) or name,
                parent=None,
                side=False,
                choice=search.space.choice(search.pool.points[candidate]) if met else {},
                network=name,
                fingerprint=found.spec.fingerprint,
                params=counted.params,
                macs=counted.macs,
                macs_conv_linear=counted.macs_conv_linear,
                recipe=trial.recipe,
                epochs=trial.epochs,
                trials=tuple(r.trial for r in runs),
                seeds=tuple(r.seed for r in runs),
                fraction=search.study.data_fraction,
                split="" if final else "validation",
            )
        )
    return Plan(study=search.study, arms=tuple(arms), data=describe(search.data(search.size), search.size, search.study))


def _number(search: Search, engine: Engine, candidate: str) -> int:
    met = engine.state.met.get(candidate)
    return met.number if met else len(engine.state.met)


def record_of(search: Search, engine: Engine, *, ended: bool) -> dict[str, Any]:
    """Where the search stands, as plain data."""
    state, problem, book = engine.state, search.problem, search.book
    found = scored(problem, state, book)
    on_front = set(front(problem, state, book))
    noise = _noise(search, engine)
    chosen = state.chosen or {}
    spent = search.trainings.spent([t for t in state.told if state.runs[t].status in ("complete", "diverged")])
    met = [_candidate(search, engine, m, found.get(m.id), noise, m.id in on_front) for m in state.met.values()]
    names = search.names | {m.id: label(m) for m in state.met.values()}
    final = []
    for candidate in dict.fromkeys([*chosen.get("finalists", ()), *([p] if (p := chosen.get("published")) in names else [])]):
        wanted = {search.trainings(candidate, seed=seed, rung=len(problem.rule.rungs) - 1, final=True) for seed in range(problem.seeds)}
        runs = [r for r in state.runs.values() if r.trial in wanted]
        final.append(
            {
                "candidate": candidate,
                "name": names[candidate],
                "published": candidate == chosen.get("published"),
                "variant": search.names.get(candidate, ""),  # which may be a network that the search proposed too
                "winner": candidate == chosen.get("winner"),
                "validation": found.get(candidate),
                "costs": _costs(search, candidate),
                "trials": [r.trial for r in runs],
                **_interval([r.accuracy for r in runs if r.accuracy is not None], noise),
                "diverged": sum(r.status == "diverged" for r in runs),
            }
        )
    proposals = [r for r in engine.log.records if r["what"] == "propose"]
    begin = state.begin or {}
    return {
        "name": search.name,
        "study": search.study.to_dict(),
        "objectives": [o.name for o in problem.objectives],
        "limits": dict(problem.limits),
        "min_accuracy": problem.min_accuracy,
        "device": begin.get("latency-device", ""),
        "data": describe(search.data(search.size), search.size, search.study),
        "fingerprints": sorted({search.data(size).fingerprint for size in _sizes(search, engine)}),
        "space": {
            "name": search.space.name,
            "title": search.track.title,
            "points": search.points,
            "dimensions": len(search.space.dimensions),
            "pool": len(search.pool.own),
            "whole": search.pool.whole,
        },
        "rungs": list(problem.rule.rungs),
        "noise": noise,
        "trained": engine.trained,
        "known": sum(m.known for m in state.met.values()),
        "failed": sum(r.status == "failed" for r in state.runs.values()),
        "stopped": state.stopped["reason"] if state.stopped else "",
        "seconds": engine.seconds(),
        "epochs": spent,
        "rejected": sum(r.get("rejected", 0) for r in proposals),
        "random": sum(bool(r.get("random")) for r in proposals),
        "refused": dict(Counter(m.quantity for m in state.met.values() if m.refused)),
        "hypervolume": hypervolumes(problem, state, book) if ended else [],
        "hypervolume_now": engine.hypervolume(),
        "candidates": met,
        "final": final,
        "winner": names.get(chosen.get("winner") or "", ""),
        "importance": _importance(search, found) if ended else {},
    }


def _sizes(search: Search, engine: Engine) -> set[int]:
    """The input sizes of what was trained, and the space's usual one."""
    known = search.pool.candidates
    return {search.size} | {known[r.candidate].input_size for r in engine.state.runs.values() if r.candidate in known}


def _candidate(search: Search, engine: Engine, met: Met, mean: float | None, noise: float, on_front: bool) -> dict[str, Any]:
    state, top = engine.state, len(search.problem.rule.rungs) - 1
    values = state.accuracies(met.id, top) if mean is not None else []
    runs = state.of(met.id)
    counted = search.book.entries[met.id].counted
    return {
        "candidate": met.id,
        "name": label(met),
        "point": dict(met.point),
        "by": met.by,
        "known": met.known,
        "refused": met.refused,
        "fingerprint": search.pool.candidates[met.id].spec.fingerprint,
        "params": counted.params,
        "macs": counted.macs,
        "costs": _costs(search, met.id),
        "epochs": max((r.epochs for r in runs), default=0),
        "reached": max((r.accuracy for r in runs if r.accuracy is not None), default=None),
        "trials": [r.trial for r in runs],
        "front": on_front,
        **_interval(values, noise),
        "diverged": sum(r.status == "diverged" for r in runs),
    }


def _costs(search: Search, candidate: str) -> dict[str, Any]:
    """Each cost that counts, in base units, with its interval and how it is known."""
    out = {}
    for name in dict.fromkeys([*(o.name for o in search.problem.costs), *search.problem.limits]):
        value = search.book.cost(candidate, name)
        low, high = search.book.interval(candidate, name)
        reading = search.readings.get(candidate, {}).get(name)
        if reading is not None:
            value, low, high = reading
        how = "measured" if reading else "counted" if name in ("params", "macs") else "predicted"
        out[name] = None if math.isnan(value) else {"value": value, "low": low, "high": high, "how": how}
    return out


def _interval(values: list[float], noise: float) -> dict[str, Any]:
    """The mean over seeds with the interval that the noise of seeds gives it."""
    if not values:
        return {"top1": None, "low": None, "high": None, "n": 0}
    mean, error = fmean(values), HALF * noise / math.sqrt(len(values))
    return {"top1": mean, "low": max(0.0, mean - error), "high": min(100.0, mean + error), "n": len(values)}


def _noise(search: Search, engine: Engine) -> float:
    """Standard deviation over seeds of whole trainings."""
    scores = [
        Score(candidate=r.candidate, rung=r.rung, seed=r.seed, value=r.accuracy)
        for r in engine.state.runs.values()
        if r.status != "running" and r.purpose != "final"
    ]
    return search.problem.rule.noise_at(scores, len(search.problem.rule.rungs) - 1)


def _importance(search: Search, found: dict[str, float]) -> dict[str, float]:
    if len(found) < FEW:
        return {}
    from ..search.optuna_view import importance

    return importance(search.space, {search.pool.points[c]: top1 for c, top1 in found.items() if search.pool.points[c]})
