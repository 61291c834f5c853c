"""The driver: prepares data, plans, runs what is not yet known, logs, reports. Running it again continues where it stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ..data.prepare import prepare
from ..designs.planner import check_study, input_size, plan_study
from ..plan import Plan
from ..robustness import CORRUPTIONS
from ..store import Store, locked, write_json
from ..study import Study
from ..study_file import write_study
from ..training.run_trial import How
from ..training.teacher import candidate, keep_teacher
from ..trial import Trial, TrialResult
from .execution import Machine, resolve
from .executors import run_local
from .live import View, duration


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """A study that is ready to run: its plan, the prepared data, the machine, what is known already and what is left: `todo` to train,
    and, of the known, `unscored` to score on more than before."""

    store: Store
    plan: Plan
    data: Path
    machine: Machine
    splits: tuple[str, ...]
    known: dict[str, TrialResult]
    todo: tuple[Trial, ...]
    unscored: tuple[Trial, ...]

    @property
    def left(self) -> str:
        """What is left to do, in words."""
        return f"{len(self.todo)} to train" + (f", {len(self.unscored)} to score further" if self.unscored else "")


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
    chosen = candidate(store, study, input_size(study)) if study.distill_from else None
    prepared = prepare(study.data, input_size=input_size(study), cache=store.data, on_progress=say)
    teacher = keep_teacher(store, chosen, prepared) if chosen else ""
    plan = plan_study(study, prepared, precision=machine.precision, teacher=teacher)
    splits = ("validation", "test") if study.score_on == "test" else ("validation",)
    splits = (*splits, CORRUPTIONS) if study.eval == CORRUPTIONS else splits
    known = {t.id: r for t in plan.trials if (r := store.result(t.id))}
    todo = tuple(t for t in plan.trials if t.id not in known)
    unscored = tuple(t for t in plan.trials if t.id in known and store.lacks(t.id, splits))
    return Prospect(
        store=store,
        plan=plan,
        data=prepared.folder,
        machine=resolve(study, max(1, len(todo) + len(unscored))),
        splits=splits,
        known=known,
        todo=todo,
        unscored=unscored,
    )


def run_study(store: Store, study: Study, console: Console) -> Outcome:
    """Run `study` to its end: train what the store does not know, report, and bring MLflow up to date.

    store.Busy where another driver runs it; ValueError for anything that the user can mend. Whatever stops it, the same command goes on
    from there.
    """
    from ..report.make import make_report, print_report
    from ..tracking.tracker import Tracker

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    ready = prospect(store, study, say=say)
    name = study.folder_name
    folder = store.studies / name
    with locked(folder / "lock", f"study {name}"):
        write_study(folder / "study.yaml", study)
        write_json(folder / "plan.json", ready.plan.to_dict())
        for note in (*ready.plan.notes, *ready.machine.notes):
            say(f"note: {note}")
        say(f"{name}: {len(ready.plan.arms)} arms, {len(ready.plan.trials)} trials, {len(ready.known)} known, {ready.left}")
        with Tracker(store, name, warn=say) as tracker:
            errors = _train(store, ready, console, tracker.trial_done) if ready.todo or ready.unscored else {}
            print_report(make_report(store, name), console)
        if tracker.report is not None:
            say(f"MLflow at {tracker.report.uri} is up to date")
    trained = sum(t.id not in errors for t in ready.todo)
    scored = sum(t.id not in errors for t in ready.unscored)
    further = f", {scored} of them scored further" if ready.unscored else ""
    say(f"{trained} trials trained, {len(ready.known)} known before{further}; tables and figures in {folder}")
    say(f"compare in the browser: vitnas ui {name} --store {store.root}")
    for trial, reason in errors.items():
        say(f"trial {trial} failed: {reason}")
    return Outcome(trained=trained, known=len(ready.known), failed=errors)


def _train(store: Store, ready: Prospect, console: Console, done: Callable[[str], None]) -> dict[str, str]:
    """Train and score what is left; gives the trials that still lack something, with the reason."""
    study, machine = ready.plan.study, ready.machine
    how = How(
        device=machine.device, threads=machine.threads, micro_batch=study.micro_batch, compile=machine.compile, executor=study.executor
    )
    order = by_seed((*ready.todo, *ready.unscored))
    at_once = machine.concurrency if study.executor == "ray" else 1
    threads = f"{machine.threads} thread" + ("s" if machine.threads > 1 else "")
    console.print(f"{len(order)} trials on {machine.device}, {at_once} at a time, {threads} each", highlight=False)
    with View(ready.plan, ready.known, console, also=done, unscored={t.id for t in ready.unscored}) as view:
        if study.executor == "local":
            run_local(store, order, ready.data, how, splits=ready.splits, listener=view)
        else:
            from .runner import run_ray

            run_ray(store, order, ready.data, how, splits=ready.splits, listener=view, concurrency=machine.concurrency, gpus=machine.gpus)
    unfinished = [t.id for t in order if store.lacks(t.id, ready.splits)]
    return {t: view.errors.get(t, "it did not finish: run the same command again") for t in unfinished}


def by_seed(trials: tuple[Trial, ...]) -> list[Trial]:
    """All arms at the first seed before any at the second: a study that is cut off is then whole at fewer seeds."""
    return sorted(trials, key=lambda t: t.seed)


def estimate(ready: Prospect, seconds_per_epoch: dict[str, float]) -> str:
    """Time that the trials to train will take here, from seconds an epoch per network fingerprint."""
    total = sum(t.epochs * seconds_per_epoch[t.network.fingerprint] for t in ready.todo)
    return duration(total / ready.machine.concurrency)


def print_plan(ready: Prospect, console: Console, *, as_json: bool) -> None:
    """Print what would run, how much of it is known, and how long it will take here."""
    from .calibrate import seconds_per_epoch

    times = seconds_per_epoch(ready, say=lambda line: Console(stderr=True).print(line, highlight=False, style="dim"))
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
            "to_score": len(ready.unscored),
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
        f"{len(ready.plan.trials)} trials, {len(ready.known)} known, {ready.left}: about {estimate(ready, times)} "
        f"on {machine.device}, {machine.concurrency} at a time with {machine.threads} thread(s) each",
        highlight=False,
    )
