"""The driver: prepares data, plans, runs what is not yet known, logs, reports. Running it again continues where it stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from .data import prepare
from .designs import check_study, input_size, plan_study
from .execution import Machine, resolve
from .executors import run_local
from .live import View, duration
from .plan import Plan
from .run_trial import How
from .store import Store, locked, write_json
from .study import Study
from .study_file import write_study
from .trial import Trial, TrialResult


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """A study that is ready to run: its plan, the prepared data, the machine, what is known already and what is left."""

    plan: Plan
    data: Path
    machine: Machine
    splits: tuple[str, ...]
    known: dict[str, TrialResult]
    todo: tuple[Trial, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a study went: trials trained now, found already known, and failed (with the reason)."""

    trained: int
    known: int
    failed: dict[str, str]


def prospect(store: Store, study: Study, *, say: Callable[[str], None]) -> Prospect:
    """Prepare the data and plan `study`; trains nothing. ValueError for anything that the user can mend."""
    check_study(study)
    machine = resolve(study, 10**6)
    store.prepare()
    prepared = prepare(study.data, input_size=input_size(study), cache=store.data, on_progress=say)
    plan = plan_study(study, prepared, precision=machine.precision)
    splits = ("validation", "test") if study.score_on == "test" else ("validation",)
    known = {t.id: r for t in plan.trials if (r := store.result(t.id)) and (r.status == "diverged" or set(splits) <= set(r.scores))}
    todo = tuple(t for t in plan.trials if t.id not in known)
    return Prospect(plan=plan, data=prepared.folder, machine=resolve(study, max(1, len(todo))), splits=splits, known=known, todo=todo)


def run_study(store: Store, study: Study, console: Console) -> Outcome:
    """Run `study` to its end: every trial that the store does not know, then report and MLflow. Busy where another driver runs it."""

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False)

    ready = prospect(store, study, say=say)
    name = study.folder_name
    folder = store.studies / name
    with locked(folder / "lock", f"study {name}"):
        write_study(folder / "study.yaml", study)
        write_json(folder / "plan.json", ready.plan.to_dict())
        for note in ready.plan.notes:
            say(f"note: {note}")
        known = len(ready.known)
        say(f"{name}: {len(ready.plan.arms)} arms, {len(ready.plan.trials)} trials, {known} known, {len(ready.todo)} to train")
        errors = _run(store, ready, console) if ready.todo else {}
        return Outcome(trained=len(ready.todo) - len(errors), known=known, failed=errors)


def _run(store: Store, ready: Prospect, console: Console) -> dict[str, str]:
    from .tracking import Tracker

    study, machine = ready.plan.study, ready.machine
    how = How(device=machine.device, threads=machine.threads, micro_batch=study.micro_batch, compile=study.compile, executor=study.executor)
    order = by_seed(ready.todo)
    console.print(
        f"{len(order)} trials on {machine.device}, {machine.concurrency if study.executor == 'ray' else 1} at a time "
        f"with {machine.threads} thread{'s' if machine.threads > 1 else ''} each",
        highlight=False,
    )
    with contextlib.ExitStack() as stack:
        tracker = stack.enter_context(Tracker(store, study.folder_name, warn=lambda line: console.print(line, highlight=False)))
        view = stack.enter_context(View(ready.plan, ready.known, console, also=tracker.trial_done))
        if study.executor == "local":
            run_local(store, order, ready.data, how, splits=ready.splits, listener=view)
        else:
            from .runner import run_ray

            run_ray(
                store,
                order,
                ready.data,
                how,
                splits=ready.splits,
                listener=view,
                concurrency=machine.concurrency,
                gpus=machine.gpus,
            )
    missing = {t.id: "it did not finish: run the same command again" for t in order if store.result(t.id) is None}
    return missing | {k: v for k, v in view.errors.items() if store.result(k) is None}


def by_seed(trials: tuple[Trial, ...]) -> list[Trial]:
    """All arms at the first seed before any at the second: a study that is cut off is then whole at fewer seeds."""
    return sorted(trials, key=lambda t: t.seed)


def estimate(ready: Prospect, seconds_per_epoch: dict[str, float]) -> str:
    """Time that the trials to train will take here, from seconds an epoch per network fingerprint."""
    total = sum(t.epochs * seconds_per_epoch[t.network.fingerprint] for t in ready.todo)
    return duration(total / ready.machine.concurrency)


def finish(store: Store, study: Study, outcome: Outcome, console: Console) -> None:
    """Report what the store holds of the study, bring MLflow up to date, and say where things are."""
    from .report import make_report, print_report
    from .tracking import sync

    name = study.folder_name
    summary = make_report(store, name)
    print_report(summary, console)
    try:
        console.print(f"MLflow: {sync(store, name)}", highlight=False)
    except ValueError as error:
        console.print(f"MLflow could not be brought up to date ({error}): run `vitnas sync {name}` later", highlight=False)
    console.print(f"trained {outcome.trained}, known {outcome.known}; files in {store.studies / name}", highlight=False)
    console.print(f"compare in the browser: vitnas ui {name} --store {store.root}", highlight=False)
    for trial, reason in outcome.failed.items():
        console.print(f"trial {trial}: {reason}", highlight=False, markup=False)


def print_plan(ready: Prospect, console: Console, *, as_json: bool) -> None:
    """Print what would run, how much of it is known, and how long it will take here."""
    from .calibrate import seconds_per_epoch

    times = seconds_per_epoch(ready)
    study = ready.plan.study
    if as_json:
        import json

        rows = [
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
                "seconds_per_epoch": times.get(a.fingerprint),
            }
            for a in ready.plan.arms
        ]
        total = {
            "trials": len(ready.plan.trials),
            "known": len(ready.known),
            "to_train": len(ready.todo),
            "estimate": estimate(ready, times),
        }
        print(json.dumps({"study": study.to_dict(), "arms": rows, **total}, indent=1))
        return
    from rich.table import Table

    table = Table(title=f"{study.folder_name} (nothing is trained)", box=None, title_justify="left")
    for column in ("", "arm", "params", "MMACs", "change", "epochs", "known", "here"):
        table.add_column(column, justify="left" if column in ("arm", "here") else "right")
    for a in ready.plan.arms:
        same = f"same as {a.same_as}" if a.same_as is not None else ""
        table.add_row(
            str(a.index),
            ("  or " if a.side else "") + a.title,
            f"{a.params:,}",
            f"{a.macs / 1e6:,.1f}",
            "" if a.parent is None else f"{a.liveness.macs / 1e6:+,.1f}",
            str(a.epochs),
            f"{sum(t in ready.known for t in a.trials)}/{len(a.trials)}",
            same or (a.liveness.state if a.liveness.state != "live" else "") + (f": {a.liveness.note}" if a.liveness.note else ""),
        )
    console.print(table)
    for note in ready.plan.notes:
        console.print(f"note: {note}", highlight=False)
    machine = ready.machine
    console.print(
        f"{len(ready.plan.trials)} trials, {len(ready.known)} known, {len(ready.todo)} to train: about {estimate(ready, times)} on {machine.device}, "
        f"{machine.concurrency} at a time with {machine.threads} thread(s) each",
        highlight=False,
    )
