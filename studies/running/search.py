"""The driver of a search: prepares it, lets its engine say what to do next, trains and measures, reports. Running it again goes on.

Ray Tune hands out the trainings through a Searcher of our own (`search_ray.py`); `--executor local` runs them in this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from typing import Any

from rich.console import Console

from ...roadmap.tracks import track as find_track
from ...roadmap.zoo import VARIANTS, variant
from ..addresses import public_uri
from ..data.prepare import Prepared, prepare
from ..latency.protocol import PROTOCOL
from ..objectives import parse_objectives, shown_count
from ..search.book import Book
from ..search.engine import Engine, Measure, Nothing, Over, Problem, Train
from ..search.log import Log, Record
from ..search.pool import Pool
from ..search.proposers import optuna_entries, proposer_of
from ..search.space_file import load_space
from ..search.state import Run, State
from ..search.trainings import Trainings, horizon, rule_of
from ..store import Store, StoreError, locked, store_trouble
from ..study import Study, StudyError
from ..study_file import write_study
from .cluster import Cluster
from .driver import Outcome, check_shares
from .execution import resolve
from .executors import explain, run_here
from .live import duration
from .measured import conditions_of, key_of
from .search_measure import baseline_of, device_of, measure
from .search_ready import Search
from .search_record import keep
from .search_view import SearchView

SPLITS = {"search": ("validation",), "replicate": ("validation",), "final": ("test",)}

Say = Callable[[str], None]


def default_space(study: Study) -> str:
    """The space of a study that names none: a few dozen networks at scale micro, else the track's own preset."""
    if study.scale == "micro":
        return "micro"
    return "repvit" if study.track.lower().startswith("repvit") else "convnext"


def prepare_search(store: Store, study: Study, *, say: Say, cluster: Cluster | None = None, plan: bool = False) -> Search:
    """Everything that a search needs before its first step, here or on `cluster`. ValueError for anything that the user can mend. A `plan`
    is made on machines without the device too."""
    track = find_track(study.track)
    load_space(study.space or default_space(study), track, study.scale)  # refused before data are read
    objectives = parse_objectives(study.objectives)
    rule = rule_of(study)
    if study.sampler != "vitnas" and len(rule.rungs) > 1:
        from ..search.optuna_samplers import early_stopping_refusal

        if refusal := early_stopping_refusal(study.sampler):
            raise StudyError(refusal)
    if study.published not in ("auto", "none"):
        try:
            variant(study.published)
        except ValueError as error:
            raise StudyError(f"published: {error}, or auto, or none") from None
    if any(o.source == "measured" for o in objectives) or "latency" in study.limits:
        (conditions_of if plan else key_of)(study)
    machine = cluster.machine(study) if cluster else resolve(study, 10**6)
    store.prepare()
    if cluster:
        store.declare_shared()

    @cache
    def data(size: int) -> Prepared:
        return prepare(study.data, input_size=size, cache=store.data, recall=store.recall_data, on_progress=say)

    classes = data(track.scale(study.scale).input_size).classes
    if study.min_accuracy is not None and study.min_accuracy <= 100 / classes:
        raise StudyError(
            f"min-accuracy: {study.min_accuracy:g} % is no more than guessing reaches with {classes} classes ({100 / classes:.3g} %); it "
            "is in percent: write 92 for 92 %"
        )
    space = load_space(study.space or default_space(study), track, study.scale, classes=classes)
    book = Book(objectives, study.limits)
    pool = Pool(space, book)
    problem = Problem(
        objectives=objectives,
        limits=study.limits,
        min_accuracy=study.min_accuracy,
        trials=study.trials,
        seconds=study.max_seconds,
        min_gain=study.min_gain,
        rule=rule,
        finalists=study.finalists,
        seeds=study.seeds,
        chance=100 / classes,
    )
    trainings = Trainings(store, study, track, pool.candidates, data, precision=machine.precision)
    return Search(
        store=store,
        study=study,
        track=track,
        space=space,
        book=book,
        pool=pool,
        problem=problem,
        trainings=trainings,
        machine=machine,
        data=data,
        size=space.candidate(space.start).input_size,
        cluster=cluster,
    )


def beginning(search: Search) -> Record:
    """What a search is: whoever goes on with it must agree."""
    study, space = search.study, search.space
    key = key_of(study) if search.book.measures else None
    return {
        "what": "begin",
        "objectives": study.objectives,
        "limits": dict(study.limits),
        "min-accuracy": study.min_accuracy,
        "track": search.track.name,
        "scale": space.scale,
        "space": {d.name: list(d.levels) for d in space.dimensions} | {"its first network": [space.candidate(space.start).id]},
        "pool": study.pool,
        "sampler": study.sampler,
        "rungs": list(search.problem.rule.rungs),
        "scheduler": study.scheduler,
        **({} if study.scheduler == "none" else {"horizon": horizon(search.problem.rule.rungs)}),
        "data": search.data(search.size).fingerprint,
        "data-fraction": study.data_fraction,
        "split-seed": study.split_seed,
        "recipe": [study.recipe, {k: str(v) for k, v in study.set.items()}],
        "precision": search.trainings.recipe(space.candidate(space.start), final=True).precision,
        "latency-device": device_of(key) if key else "",
        "latency-protocol": PROTOCOL if key else 0,
        "latency-baseline": baseline_of(search.store, key) if key else "",
    }


LATER = ("precision", "latency-protocol", "latency-baseline")  # what logs have not held from the start


def check_same(before: Record, now: Record, name: str) -> None:
    """StudyError where a search would go on as another one; names the first difference."""
    for key, value in now.items():
        old = before.get(key)
        if key in ("at", "what") or old == value or (key in LATER and old is None):
            continue
        if key == "space" and old is not None:
            for dimension in dict.fromkeys((*old, *value)):
                if old.get(dimension) != value.get(dimension):
                    old, value = f"{dimension}: {_told(old.get(dimension))}", f"{dimension}: {_told(value.get(dimension))}"
                    break
        what = "epochs" if key == "rungs" else key
        raise StudyError(
            f"{what}: the search {name} was begun with {_told(old)}, and would go on with {_told(value)}: give the new one another --name"
        )


def _told(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        return ", ".join(map(_told, value))
    if isinstance(value, dict):
        return ", ".join(f"{k} {_told(v)}" for k, v in value.items()) or "none"
    return shown_count(value) if isinstance(value, float) else str(value)


def begin(search: Search, log: Log, say: Say) -> State:
    """The state that the log holds, or that of a new search: its pool filled, what the store knows taken in."""
    now = beginning(search)
    try:
        state = State(log.records)
    except (KeyError, TypeError, ValueError):
        raise StoreError(f"{log.path} is damaged: move it away and run the same command again; no training is lost") from None
    trained = any(r["what"] == "train" for r in log.records)
    if state.begin is not None and not trained and any(state.begin.get(k) != v for k, v in now.items()):
        log.clear()  # nothing is lost: no network kept to its limits, or it was stopped before its first training
        state = State()
    if state.begin is None:
        _note(log, state, now)
    check_same(state.begin or now, now, search.name)
    if search.points > search.study.pool:
        say(f"drawing {search.study.pool:,} distinct networks of {search.points:,} points")
    search.pool.fill(search.study.pool, 0)
    _check_shares(search)
    for met in state.met.values():
        (search.pool.take if met.by == "vitnas" else search.pool.enter)(met.point)  # the pool may have grown towards the limits
    names = {v.name for v in VARIANTS}
    for choice in (r for r in log.records if r["what"] == "choose" and r.get("variant") in names):  # whatever --published says now
        search.enter_published(variant(choice["variant"]), choice["winner"] or choice["finalists"][0])
    for run in state.runs.values():
        try:
            search.store.trial(run.trial)
        except StoreError:  # its folder was lost, or damaged
            search.trainings(run.candidate, seed=run.seed, rung=run.rung, final=run.purpose == "final")
    search.book.learn(state.measured)
    search.readings.update(
        {r["candidate"]: {k: (v[0], v[1], v[2]) for k, v in r["values"].items()} for r in log.records if r["what"] == "measure"}
    )
    for candidate, rung, seed, trial in search.trainings.known():
        result = search.store.result(trial)
        if trial in state.runs or candidate in search.names or result is None:
            continue
        epochs, top1 = search.problem.rule.rungs[rung], result.scores["validation"].top1
        point = [list(x) for x in search.pool.points[candidate]]
        record = {"what": "known", "candidate": candidate, "point": point, "by": "the store", "trial": trial, "seed": seed, "rung": rung}
        _note(log, state, record | {"epochs": epochs, "accuracy": top1})
    for run in [r for r in state.runs.values() if r.status == "failed"]:  # tried again
        again = {"candidate": run.candidate, "trial": run.trial, "seed": run.seed, "rung": run.rung, "epochs": run.epochs}
        _note(log, state, {"what": "train", **again, "purpose": run.purpose})
    known = sum(m.known for m in state.met.values())
    what = "all of them" if search.pool.whole else f"of {search.points:,} points"
    say(f"{search.name}: a pool of {len(search.pool.own):,} distinct networks ({what})" + (f", {known} trained before" if known else ""))
    if not search.pool.feasible and not state.measured:
        raise Nothing(search.book.unreachable())
    return state


def _check_shares(search: Search) -> None:
    """ValueError where batches cannot be shared as asked for by some network of the pool, before anything is trained."""
    if search.study.micro_batch is None and search.machine.processes == 1:
        return
    trials = [search.trainings.trial(c, seed=0, rung=0, final=False) for c in search.pool.own]
    for size in {t.recipe.input_size for t in trials}:
        own = [t for t in trials if t.recipe.input_size == size]
        check_shares(own, search.data(size), search.study.micro_batch, search.machine.processes)


def _note(log: Log, state: State, record: Record) -> None:
    record["at"] = state.at
    log.add(record)
    state.apply(record)


def engine_of(search: Search, log: Log, state: State) -> Engine:
    """The engine of a search, where its log ends."""
    began = time.monotonic()
    return Engine(
        search.problem,
        log,
        state,
        proposer_of(search.study.sampler, search.problem, search.pool, log.records, state, seed=0),
        search.book,
        search.trainings,
        elapsed=lambda: time.monotonic() - began,
        published=search.published,
        approach=search.pool.extend,
        batch=search.machine.concurrency if search.study.executor == "ray" else 1,
    )


def run_local(search: Search, engine: Engine, listener: SearchView) -> None:
    """Run what the engine asks for in this process, to the end."""
    how = search.how()
    while not isinstance(step := engine.next(), Over):
        if isinstance(step, Measure):
            measure(search, engine, step.candidates, listener)
            continue
        assert isinstance(step, Train), "nothing runs beside this process"
        run = step.run
        listener.started(run)
        trial = search.store.trial(run.trial)
        data = search.data(trial.recipe.input_size).folder
        try:
            run_here(search.store, trial, data, how, SPLITS[run.purpose], lambda record, r=run: listener.epoch(r, record))
        except OSError as error:
            raise StoreError(store_trouble(search.store.root, error)) from None
        except (ValueError, RuntimeError) as error:
            tell(search, engine, run, listener, explain(search.store, error))
        else:
            tell(search, engine, run, listener)


def tell(search: Search, engine: Engine, run: Run, listener: SearchView, error: str = "") -> None:
    """Tell the engine what the store has of a training."""
    result = search.store.result(run.trial)
    if error or result is None:
        engine.told(run.trial, None, "failed", error or "it did not finish")
    elif result.status == "diverged":
        engine.told(run.trial, None, "diverged")
    else:
        engine.told(run.trial, result.scores[SPLITS[run.purpose][0]].top1, "complete")
    listener.finished(engine.state.runs[run.trial])


def run_search(store: Store, study: Study, console: Console, cluster: Cluster | None = None) -> Outcome:
    """Run a search to its end and report. store.Busy where another driver runs it; ValueError for anything that the user can mend."""
    from ..report.search_report import make_search_report, print_search_report
    from ..tracking.tracker import Tracker

    storage, study = study.optuna_storage, replace(study, optuna_storage=public_uri(study.optuna_storage))  # passwords stay out of files

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    search = prepare_search(store, study, say=say, cluster=cluster)
    search.folder.mkdir(parents=True, exist_ok=True)
    with locked(search.folder / "lock", f"study {search.name}", say=say):
        log = Log(search.folder)
        state = begin(search, log, say)
        write_study(search.folder / "study.yaml", study)
        for note in (*search.space.notes, *search.machine.notes, *store.notes, *([log.damage] if log.damage else [])):
            say(f"note: {note}")
        engine = engine_of(search, log, state)
        mirror = _mirror(search, log, storage, say)
        keep(search, engine)
        mirror()
        before = len(state.runs)
        with Tracker(store, search.name, warn=say) as tracker:

            def also(trial: str) -> None:
                tracker.trial_done(trial)
                mirror()

            with SearchView(search, engine, console, also=also, still=tracker.still) as view:
                try:
                    _run(search, engine, view)
                except BaseException:
                    with suppress(OSError):  # a full disk is told once
                        keep(search, engine, ended=True)
                    raise
                keep(search, engine, ended=True, over=True)
            if study.max_time and not state.runs:
                first = f", as measuring comes first and took {duration(engine.seconds())}" if search.book.measures else ""
                raise StudyError(
                    f"max-time: {study.max_time} were over before anything was trained{first}: raise --max-time; what was measured is kept"
                )
            print_search_report(make_search_report(store, search.name), console)
        if tracker.report is not None:
            say(f"MLflow at {tracker.report.uri} is up to date")
    runs = list(state.runs.values())
    failed = {r.trial: r.error for r in runs if r.status == "failed"}
    say(f"{len(runs) - before} trainings; tables, figure and networks in {store.shown(search.folder)}")
    return Outcome(trained=len(runs) - before, known=before, failed=failed)


def _mirror(search: Search, log: Log, storage: str, say: Say) -> Callable[[], None]:
    """What brings the Optuna `storage`, where there is one, to where the log is. ValueError where its study is of another search, and where
    it cannot be opened before anything was trained (the URL may be wrong); where it is down later on, it is left behind and said, for
    nothing is read from it."""
    if not storage:
        return lambda: None
    from ..search.optuna_view import Mirror, StorageDown

    down = False

    def leave(error: Exception) -> None:
        nonlocal down
        down = True
        reason = public_uri((str(error) or type(error).__name__).splitlines()[0]).partition(": give a URL")[0]
        say(f"{public_uri(storage)} is not up to date ({reason}): the search goes on, and running it again catches up")

    def write() -> None:
        if down:
            return
        try:
            mirror.write(optuna_entries(log.records, search.problem, search.pool))
        except Exception as error:  # Optuna passes on whatever the storage's own library raises
            leave(error)

    directions = {o.name: o.maximise for o in search.problem.objectives}
    try:
        mirror = Mirror(storage, search.name, search.space, directions)
    except StorageDown as error:
        if not any(r["what"] == "train" for r in log.records):
            raise
        leave(error)
    return write


def _run(search: Search, engine: Engine, view: SearchView) -> None:
    if search.study.executor == "local":
        run_local(search, engine, view)
        return
    from .search_ray import run_ray

    while probes := search.book.probes(engine.state.measured, engine.state.unmeasurable):  # before Ray's own processes are there
        measure(search, engine, tuple(probes), view)
    run_ray(search, engine, view)
