"""What MLflow shows of a study, as plain data and without MLflow: one run for the study, one an arm, one a seed beneath its arm.

It is made of the store alone, and the same store always makes the same runs, so that a run can be told by its digest.

Metrics of an arm: `top1` is the mean over seeds (%), `delta` its difference from the arm it is compared with (points), `delta_low` and
`delta_high` the simultaneous interval, by which the verdict goes; `latency_ms` is the latency of the network that stands for the arm, with
its interval and 99th percentile, where the study measures it. A seed's `top1` is that of the split that the study reports.

The study's own run has its effects as metrics `effect/<estimand>/<name>`, in points, with `_low` and `_high` for the simultaneous interval.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from colorsys import hls_to_rgb
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache, cached_property
from getpass import getuser
from pathlib import Path
from subprocess import DEVNULL, SubprocessError, check_output
from typing import Any, Literal, NamedTuple

from ...roadmap.spec import canonical_json
from ...roadmap.tracks import track as track_named
from ..library import SEARCH_RECORD, open_plan
from ..plan import Arm, Plan
from ..report.make import summary_of
from ..report.summary import Row, Summary
from ..store import Store, read_json
from ..study import ABLATION, EXECUTION, GROWS, SEARCH, SEARCH_GROWS, option
from ..trial import TrialResult
from .searched import Network, networks, totals

LONGEST_KEY = 230  # characters of a metric's name; MLflow takes 250
NOT_SEARCHED = ("steps", "score-on", "placebo", "margin", "train-on", "latency", "max-seeds", "eval")  # options that searches have not
CURVES = {"loss": "curve/loss", "lr": "curve/lr", "top1": "curve/validation_top1"}


class Point(NamedTuple):
    """One value of a metric; `ms` since 1970, UTC."""

    key: str
    value: float
    ms: int
    step: int


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run. `key` finds it again; `parent` is the key of the run above it. `metrics` are single values, `curve` has a step an epoch.

    `end` is None while some of it is still to be trained. `files` are artifacts.
    """

    key: str
    name: str
    kind: Literal["study", "arm", "seed"]
    parent: str | None = None
    status: Literal["FINISHED", "FAILED", "SCHEDULED"]
    start: int | None
    end: int | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[Point, ...] = ()
    files: tuple[Path, ...] = ()

    @cached_property
    def digest(self) -> str:
        """Changes when anything that MLflow is to show of the run changes, the content of its files included."""
        told = asdict(self) | {"files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in self.files}}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """All that MLflow shows of a study: the runs (parents before children), the report, and whether its arms have deltas and latencies."""

    name: str
    plan: Plan
    runs: tuple[RunRecord, ...]
    report: str
    deltas: bool = True
    latency: bool = False


def shown(store: Store, name: str, *, only: Collection[str] | None = None) -> Shown:
    """What MLflow is to show of study `name`. With `only`, the seeds of these trials, and arms without their metrics."""
    plan = open_plan(store, name)
    ids = dict.fromkeys(t for arm in plan.arms for t in arm.trials)
    results = {t: r for t in ids if (only is None or t in only) and (r := store.result(t))}
    summary = summary_of(store, plan) if only is None else None
    record = read_json(store.studies / name / SEARCH_RECORD) if plan.study.kind == "search" else None
    searched = networks(record) if record else {}
    runs = [_study_run(store, name, plan, results, summary, record)] if summary else []
    common = _common_params(plan)
    for arm in plan.arms:
        mine = [results[t] for t in arm.trials if t in results]
        own = searched.get(arm.network, Network())
        params = {**common, **_arm_params(plan, arm), **own.params}
        runs.append(_arm_run(name, plan, arm, params, summary.rows[arm.index] if summary else None, mine, own))
        runs += _seed_runs(store, name, plan, arm, params, results)
    report = store.studies / name / "report.md"
    return Shown(
        name=name,
        plan=plan,
        runs=tuple(runs),
        report=report.read_text() if report.exists() else "",
        deltas=plan.study.kind == "roadmap",
        latency=plan.study.latency or any("latency_ms" in n.metrics for n in searched.values()),
    )


def arm_name(plan: Plan, arm: Arm) -> str:
    """The arm's name with a number in front by which arms sort as they stand in the study."""
    return f"{arm.index:0{max(2, len(str(len(plan.arms) - 1)))}d} {arm.name}"


def _colour(plan: Plan, arm: Arm) -> str:
    """A colour of its own for each arm, running from blue over green to red in the study's order, the first one grey."""
    if arm.index == 0:
        return "#808080"
    hue = 0.62 * (1 - (arm.index - 1) / max(1, len(plan.arms) - 2))
    return "#" + "".join(f"{round(255 * c):02x}" for c in hls_to_rgb(hue, 0.45, 0.65))


def _study_run(
    store: Store, name: str, plan: Plan, results: Mapping[str, TrialResult], summary: Summary, record: Mapping[str, Any] | None
) -> RunRecord:
    folder = store.studies / name
    locks = ("", "lock", "lease")  # and what is hidden; a lease's file is another every few seconds
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name.partition(".")[0] not in locks]
    times = [_span(r) for r in results.values()]
    done = all(t in results for arm in plan.arms for t in arm.trials)
    options = {f"vitnas.option.{k}": str(v) for k, v in plan.study.to_dict().items() if k in EXECUTION}
    return RunRecord(
        key=name,
        name="study",
        kind="study",
        status="FINISHED" if done else "SCHEDULED",
        start=min((s for s, _ in times), default=None),
        end=max((e for _, e in times), default=None) if done else None,
        params=_common_params(plan),
        tags=options | {"vitnas.arms": str(len(plan.arms)), "vitnas.seeds": str(plan.study.seeds)},
        metrics=effect_metrics(summary) | (totals(record) if record else {}),
        files=tuple(files),
    )


def effect_metrics(summary: Summary) -> dict[str, float]:
    """The effects by a metric's name that MLflow takes; a second one that would have the same name gets a number."""
    out: dict[str, float] = {}
    for effect in summary.effects:
        if effect.value is None:
            continue
        key = "/".join(["effect", *(_legal(part) for part in (effect.estimand, effect.context, effect.name) if part)])[:LONGEST_KEY]
        number = 2
        while key in out:
            key, number = f"{key.partition(' ')[0]} {number}", number + 1
        around = effect.simultaneous
        values = {key: effect.value, f"{key}_low": around.low if around else None, f"{key}_high": around.high if around else None}
        out |= {k: float(f"{v:.6g}") for k, v in _finite(values).items()}
    return out


def _legal(text: str) -> str:
    """A part of a metric's name: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "-"


def _arm_run(
    name: str, plan: Plan, arm: Arm, params: Mapping[str, str], row: Row | None, results: Collection[TrialResult], own: Network
) -> RunRecord:
    done = len(results) == len(arm.trials)
    times = [_span(r) for r in results]
    diverged = done and all(r.status == "diverged" for r in results)
    tags = {"vitnas.title": arm.title, "vitnas.fingerprint": arm.fingerprint, "mlflow.runColor": _colour(plan, arm)}
    if row:
        tags |= {"vitnas.verdict": row.verdict} if row.verdict else {}
        tags |= {"vitnas.compared_with": arm_name(plan, plan.arms[arm.parent])} if arm.parent is not None else {}
    return RunRecord(
        key=f"{name}/{arm.name}",
        name=arm_name(plan, arm),
        kind="arm",
        status="FAILED" if diverged else "FINISHED" if done else "SCHEDULED",
        start=min((s for s, _ in times), default=None),
        end=max(e for _, e in times) if done else None,
        params=params,
        tags={**tags, **own.tags} if row else tags,
        metrics={**_arm_metrics(arm, row), **own.metrics} if row else {},
    )


def _arm_metrics(arm: Arm, row: Row) -> dict[str, float]:
    delta, around = row.delta, row.delta.simultaneous if row.delta else None
    values = {
        "top1": row.mean,
        "top1_sd": row.sd,
        "top1_low": row.interval.low if row.interval else None,
        "top1_high": row.interval.high if row.interval else None,
        "corrupted_top1": row.corrupted.mean if row.corrupted else None,
        "n": float(row.n),
        "delta": delta.value if delta else None,
        "delta_low": around.low if around else None,
        "delta_high": around.high if around else None,
        "latency_ms": row.ms,
        "latency_ms_low": row.ms_interval.low if row.ms_interval else None,
        "latency_ms_high": row.ms_interval.high if row.ms_interval else None,
        "latency_ms_p99": row.ms_p99,
        "gmacs": arm.macs / 1e9,
        "mmacs": arm.macs / 1e6,
        "mparams": arm.params / 1e6,
        "diverged": float(row.diverged) if row.diverged else None,
    }
    return {k: float(f"{v:.6g}") for k, v in _finite(values).items()}  # as many digits as a column of the page shows


def _seed_runs(
    store: Store, name: str, plan: Plan, arm: Arm, params: Mapping[str, str], results: Mapping[str, TrialResult]
) -> Iterator[RunRecord]:
    for seed, trial_id in zip(arm.seeds, arm.trials, strict=True):
        result = results.get(trial_id)
        if result is None:
            continue
        start, end = _span(result)
        scores = {f"{split}_{k}": v for split, s in result.scores.items() for k, v in (("top1", s.top1), ("loss", s.loss))}
        own = scores.get(f"{arm.split or plan.study.score_on}_top1")
        values = scores | {"top1": own, "gmacs": arm.macs / 1e9, "mparams": arm.params / 1e6}
        values |= {"seconds": result.seconds, "images_per_second": result.images_per_second, "diverged_epoch": result.diverged_epoch}
        yield RunRecord(
            key=f"{name}/{arm.name}/{trial_id}",
            name=f"{arm_name(plan, arm)} seed {seed}",
            kind="seed",
            parent=f"{name}/{arm.name}",
            status="FAILED" if result.status == "diverged" else "FINISHED",
            start=start,
            end=end,
            params={**params, "seed": str(seed)},
            tags={"vitnas.arm": arm.name, "vitnas.trial": trial_id} | _execution_tags(result),
            metrics=_finite(values),
            curve=_curve(store, trial_id, result),
        )


def _curve(store: Store, trial_id: str, result: TrialResult) -> tuple[Point, ...]:
    """The epochs' values, at the times at which they would have ended had the training not been interrupted."""
    start, end = _span(result)
    out = []
    for record in store.curve(trial_id):
        epoch = record["epoch"]
        ms = start + (end - start) * min(epoch, result.epochs) // result.epochs
        values = {CURVES[k]: record.get(k) for k in CURVES}
        out += [Point(key, value, ms, epoch) for key, value in _finite(values).items()]
    return tuple(out)


def _common_params(plan: Plan) -> dict[str, str]:
    """The study's options, by the names they have on the command line; not those that may differ between two runs of it."""
    study = {option(k): v for k, v in asdict(plan.study).items()}
    left_out = {*EXECUTION, "name", "set", "epochs", "network", "input-size", "distill"}
    if plan.study.kind == "search":
        left_out |= {*SEARCH_GROWS, *map(option, ABLATION), *NOT_SEARCHED}
    else:
        left_out |= {*GROWS, *map(option, SEARCH)}
    study = {k: v for k, v in study.items() if k not in left_out}
    return {k: str(v) for k, v in study.items() if v not in (None, "")} | {f"set.{k}": str(v) for k, v in plan.study.set.items()}


def _arm_params(plan: Plan, arm: Arm) -> dict[str, str]:
    steps = track_named(plan.study.track).steps if plan.study.kind != "train" else ()
    toggles = {f"step.{s.name}": "off" if s.name not in arm.choice else _level(arm.choice[s.name], s.value) for s in steps}
    recipe = {f"recipe.{option(k)}": str(v) for k, v in arm.recipe.to_dict().items() if v not in (None, "")}
    sizes = {"network": arm.network, "params": str(arm.params), "macs": str(arm.macs), "epochs": str(arm.epochs)}
    return toggles | recipe | sizes | {"input-size": str(arm.recipe.input_size)}


def _level(value: Any, adopted: Any) -> str:
    if value == adopted and not isinstance(value, int):
        return "on"
    return "/".join(value) if isinstance(value, tuple) else str(value)


def _execution_tags(result: TrialResult) -> dict[str, str]:
    execution = {f"vitnas.{k}": str(v) for k, v in asdict(result.execution).items() if k != "versions"}
    versions = {f"vitnas.version.{k}": v for k, v in result.execution.versions.items()}
    outcome = {"vitnas.status": result.status, "vitnas.attempts": str(result.attempts)}
    return execution | versions | outcome | ({"vitnas.events": "; ".join(result.events)} if result.events else {})


def _span(result: TrialResult) -> tuple[int, int]:
    """Start and end (ms since 1970)."""
    end = round(datetime.fromisoformat(result.finished).timestamp() * 1000)
    return end - round(result.seconds * 1000), end


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if v is not None and math.isfinite(v)}


def dataset(plan: Plan) -> dict[str, str]:
    """The data as MLflow's dataset: name, digest (at most 36 characters), source and profile as JSON."""
    source = {"data": plan.study.data, "split-seed": plan.study.split_seed, "data-fraction": plan.study.data_fraction}
    profile = {k: v for k, v in plan.data.items() if k not in ("name", "fingerprint")}
    return {
        "name": str(plan.data["name"]),
        "digest": str(plan.data["fingerprint"])[:36],
        "source": canonical_json(source),
        "profile": json.dumps(profile, sort_keys=True),
    }


@cache
def source_tags() -> dict[str, str]:
    """User, program and, where it runs from a checkout, git commit."""
    tags = {"mlflow.source.name": "vitnas", "mlflow.source.type": "LOCAL"}
    with suppress(OSError, KeyError):  # a user without a name, as in some containers
        tags["mlflow.user"] = getuser()
    root = Path(__file__).resolve().parents[2]
    if (root / ".git").exists():
        with suppress(OSError, SubprocessError):
            commit = check_output(["git", "-C", str(root), "rev-parse", "HEAD"], stderr=DEVNULL, timeout=5, text=True)
            tags["mlflow.source.git.commit"] = commit.strip()
    return tags
