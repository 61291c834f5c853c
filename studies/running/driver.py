"""The driver: prepares data, plans, runs what is not yet known, logs, reports. Running it again continues where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from rich.console import Console

from ..data.prepare import Prepared, prepare
from ..designs.planner import check_study, input_size, plan_study
from ..designs.tuning import grid_study
from ..library import ERRORS, results
from ..plan import Plan
from ..robustness import CORRUPTIONS
from ..store import Store, locked, remove, write_json
from ..study import Study
from ..study_file import write_study
from ..training.images import training_images
from ..training.run_trial import How, run_trial
from ..training.teacher import candidate, keep_teacher
from ..training.train import chunk
from ..trial import Trial, TrialResult
from .cluster import Cluster
from .execution import Machine, resolve
from .executors import Work, run_local
from .live import View
from .measured import check_latency, measure_arms
from .stages import best_settings, furthest, with_looks


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
    cluster: Cluster | None = None

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


def prospect(store: Store, study: Study, *, say: Callable[[str], None], cluster: Cluster | None = None) -> Prospect:
    """Prepare the data and plan `study`, to run here or on `cluster`; trains nothing. ValueError for anything that the user can mend."""
    check_study(study)
    if study.latency:
        check_latency(study)
    machine = cluster.machine(study) if cluster else resolve(study, 10**6)
    store.prepare()
    if cluster:
        store.declare_shared()
    chosen = candidate(store, study, input_size(study)) if study.distill_from else None
    prepared = prepare(study.data, input_size=input_size(study), cache=store.data, recall=store.recall_data, on_progress=say)
    teacher = keep_teacher(store, chosen, prepared) if chosen else ""
    draw_up = partial(plan_study, prepared=prepared, precision=machine.precision, teacher=teacher)
    best = best_settings(store, draw_up(grid_study(study))) if study.kind == "ablate" and study.tune else None
    draw_up = partial(draw_up, best=best)
    plan = furthest(store, study, draw_up) if study.until_decided else with_looks(store, draw_up(study))
    splits = ("validation", "test") if study.score_on == "test" else ("validation",)
    splits = ("test",) if study.train_on == "all" else splits
    splits = (*splits, CORRUPTIONS) if study.eval == CORRUPTIONS else splits
    known = results(store, plan)
    todo = tuple(t for t in plan.trials if t.id not in known)
    unscored = tuple(t for t in plan.trials if t.id in known and store.lacks(t.id, splits))
    if machine.processes > 1:
        check_shares(todo, prepared, study.micro_batch, machine.processes)
    return Prospect(
        store=store,
        plan=plan,
        data=prepared.folder,
        machine=machine if cluster else resolve(study, max(1, len(todo) + len(unscored))),
        splits=splits,
        known=known,
        todo=todo,
        unscored=unscored,
        cluster=cluster,
    )


def run_study(store: Store, study: Study, console: Console, cluster: Cluster | None = None) -> Outcome:
    """Run `study` to its end: tune what it tunes, train what the store does not know, report, and bring MLflow up to date.

    store.Busy where another driver runs it; ValueError for anything that the user can mend. Whatever stops it, the same command goes on
    from there.
    """
    outcomes = []
    if study.kind == "ablate" and study.tune:
        outcomes.append(_run(store, grid_study(study), console, cluster))
    while not any(o.failed for o in outcomes):
        outcomes.append(_run(store, study, console, cluster))
        if not study.until_decided or not prospect(store, study, say=lambda line: None, cluster=cluster).todo:
            break
    return Outcome(
        trained=sum(o.trained for o in outcomes),
        known=outcomes[-1].known,
        failed={trial: reason for o in outcomes for trial, reason in o.failed.items()},
    )


def _run(store: Store, study: Study, console: Console, cluster: Cluster | None) -> Outcome:
    """One study, or one look of one that runs until all is decided."""
    from ..report.make import make_report, print_report
    from ..tracking.tracker import Tracker

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    ready = prospect(store, study, say=say, cluster=cluster)
    name = study.folder_name
    folder = store.studies / name
    with locked(folder / "lock", f"study {name}", say=say):
        write_study(folder / "study.yaml", study)
        write_json(folder / "plan.json", ready.plan.to_dict())
        for note in (*ready.plan.notes, *ready.machine.notes, *store.notes):
            say(f"note: {note}")
        say(f"{name}: {len(ready.plan.arms)} arms, {len(ready.plan.trials)} trials, {len(ready.known)} known, {ready.left}")
        with Tracker(store, name, warn=say) as tracker:
            errors = train(ready, console, tracker.trial_done) if ready.todo or ready.unscored else {}
            if study.latency:
                with tracker.still:
                    measure_arms(store, ready.plan, say=say)
            print_report(make_report(store, name), console)
        if tracker.report is not None:
            say(f"MLflow at {tracker.report.uri} is up to date")
    trained = sum(t.id not in errors for t in ready.todo)
    scored = sum(t.id not in errors for t in ready.unscored)
    further = f", {scored} of them scored further" if ready.unscored else ""
    say(f"{trained} trials trained, {len(ready.known)} known before{further}; tables and figures in {store.shown(folder)}")
    say(f"compare in the browser: vitnas ui {name} --store {store.address}")
    for trial, reason in errors.items():
        say(f"trial {trial} failed: {reason}")
    return Outcome(trained=trained, known=len(ready.known), failed=errors)


def train(ready: Prospect, console: Console, done: Callable[[str], None], *, work: Work = run_trial) -> dict[str, str]:
    """Train and score what is left (`work` is how); `done` is told of every trial that has its result. Gives those that still lack
    something, with the reason."""
    store, study, machine = ready.store, ready.plan.study, ready.machine
    how = How(
        device=machine.device,
        threads=machine.threads,
        micro_batch=study.micro_batch,
        compile=machine.compile,
        executor=study.executor,
        processes=machine.processes,
    )
    order = by_seed((*ready.todo, *ready.unscored))
    at_once = machine.concurrency if study.executor == "ray" else 1
    threads = f"{machine.threads} thread" + ("s" if machine.threads > 1 else "")
    threads = f"{machine.processes} processes of {threads}" if machine.processes > 1 else threads
    where = f"{machine.device} of the cluster" if ready.cluster else machine.device
    console.print(f"{len(order)} trials on {where}, {at_once} at a time, {threads} each", highlight=False)
    store.share_data(ready.data)
    errors = store.studies / study.folder_name / ERRORS
    remove(errors)
    with View(
        ready.plan,
        ready.known,
        console,
        also=done,
        unscored={t.id for t in ready.unscored},
        on_failure=lambda failed: write_json(errors, failed),
    ) as view:
        if study.executor == "local":
            run_local(store, order, ready.data, how, splits=ready.splits, listener=view, work=work)
        else:
            from .runner import run_ray

            run_ray(store, order, ready.data, how, splits=ready.splits, listener=view, machine=machine, cluster=ready.cluster, work=work)
    store.refresh([t.id for t in order])
    unfinished = [t.id for t in order if store.lacks(t.id, ready.splits)]
    return {t: view.errors.get(t, "it did not finish: run the same command again") for t in unfinished}


def check_shares(trials: Iterable[Trial], prepared: Prepared, micro_batch: int | None, processes: int) -> None:
    """ValueError where a trial's batches cannot be shared by so many processes, before anything is trained."""
    images = cache(lambda data: len(training_images(prepared, data)[0]))
    for trial in {(t.network.fingerprint, t.recipe, t.data): t for t in trials}.values():
        chunk(trial.network, trial.recipe, min(trial.recipe.batch_size, images(trial.data)), micro_batch, processes)


def by_seed(trials: tuple[Trial, ...]) -> list[Trial]:
    """All arms at the first seed before any at the second: a study that is cut off is then whole at fewer seeds."""
    return sorted(trials, key=lambda t: t.seed)
