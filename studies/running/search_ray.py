"""A search on Ray Tune: a Searcher of our own asks the engine for every training, and tells it what came of it.

Tune schedules and nothing more. While networks are measured the Searcher does not answer, and the trainings that run wait at the host's
gate. Nothing is restored from Tune: the log and the store are all that a search is continued from.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from typing import Any

from ..search.engine import Engine, Hold, Measure, Over
from ..search.state import Run
from ..store import StoreError
from .executors import RETRIES
from .in_order import in_order
from .runner import local_ray, patient, trainable
from .search_measure import measure
from .search_ready import Search
from .search_view import SearchView
from .together import resources


def run_ray(search: Search, engine: Engine, view: SearchView) -> None:
    """Run what the engine asks for, as many trainings at once as the machine takes. StoreError as soon as the store cannot be written."""
    machine, how = search.machine, search.how()
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(machine.concurrency)
    with contextlib.ExitStack() as held:
        cluster = held.enter_context(search.cluster.seeing(search.store, machine)) if search.cluster else None
        if cluster is None:
            held.enter_context(local_ray(cpus=int(machine.concurrency * machine.cpus_per_trial), gpus=machine.gpus * machine.concurrency))
        retries = cluster.demand.retries if cluster else RETRIES
        from ray import tune
        from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
        from ray.tune.search import Searcher

        from .search import SPLITS, tell

        class Ask(Searcher):  # type: ignore[misc]
            """Hands out what the engine wants trained."""

            def __init__(self) -> None:
                super().__init__(metric="epoch", mode="max")
                self.runs: dict[str, Run] = {}
                self.elsewhere: list[Run] = []  # a worker of an earlier driver trains them still: asked for again until it has ended
                self.errors: dict[str, str] = {}
                self.busy: set[str] = set()
                self.stop: str | None = None
                self.trouble: Exception | None = None

            def __reduce__(self) -> Any:
                return (int, ())  # Tune pickles its Searcher too

            def __deepcopy__(self, memo: Any) -> Ask:
                return self

            def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
                return True

            def suggest(self, trial_id: str) -> Any:
                try:
                    return self._suggest(trial_id)
                except Exception as error:  # Tune would end with a trace of its own
                    self.trouble = error
                    return Searcher.FINISHED

            def _suggest(self, trial_id: str) -> Any:
                if self.stop is not None or self.trouble is not None:
                    return Searcher.FINISHED
                if len(self.runs) >= machine.concurrency:
                    return None
                if self.elsewhere:
                    return self._handed_out(trial_id, self.elsewhere.pop(0))
                while isinstance(step := engine.next(), Measure):
                    measure(search, engine, step.candidates, view)
                if isinstance(step, Over):
                    return Searcher.FINISHED
                if isinstance(step, Hold):
                    return None
                return self._handed_out(trial_id, step.run)

            def _handed_out(self, trial_id: str, run: Run) -> dict[str, Any]:
                self.runs[trial_id] = run
                size = search.store.trial(run.trial).recipe.input_size
                data = search.data(size).folder
                search.store.share_data(data)
                view.started(run)
                return {"trial": run.trial, "data": str(data), "splits": list(SPLITS[run.purpose])}

            def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
                run = self.runs.pop(trial_id, None)
                if run is None:
                    return
                if trial_id in self.busy:
                    self.elsewhere.append(run)
                    return
                cut = self.stop is not None or self.trouble is not None
                died = f"its worker died {retries + 1} times: see trial {run.trial} in {search.store.address}" if error else ""
                search.store.refresh([run.trial])
                why = self.errors.pop(trial_id, died)
                try:
                    if why or not cut or search.store.result(run.trial) is not None:  # else it was ended by the search's own end
                        tell(search, engine, run, view, why)
                except Exception as trouble:
                    self.trouble = self.trouble or trouble

            def save(self, checkpoint_path: str) -> None:
                """Nothing: the log is the truth."""

            def restore(self, checkpoint_path: str) -> None:
                """Never called."""

        ask = Ask()

        class Watch(Callback):  # type: ignore[misc]
            """Hands epochs and errors on."""

            def __reduce__(self) -> Any:
                return (int, ())  # Tune pickles its callbacks for a restore that is never made

            def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
                run = ask.runs.get(trial.trial_id)
                if run is not None and "record" in result:
                    view.epoch(run, json.loads(result["record"]))
                elif "busy" in result:
                    ask.busy.add(trial.trial_id)
                elif "error" in result:
                    ask.errors[trial.trial_id] = result["error"]
                    ask.stop = result["error"] if result["fatal"] else ask.stop

            def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                if trial.trial_id in ask.runs:
                    view.lost(ask.runs[trial.trial_id])

        scratch = tempfile.mkdtemp(prefix="vitnas-tune-")
        try:
            tuner = Tuner(
                tune.with_resources(patient() if cluster else trainable, resources(machine)),
                param_space={"store": search.store.address, "how": asdict(how), "probe": cluster.probe if cluster else ""},
                tune_config=TuneConfig(
                    search_alg=ask,
                    scheduler=in_order(),
                    num_samples=-1,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=RunConfig(
                    name="search",
                    storage_path=scratch,
                    callbacks=[Watch()],
                    failure_config=FailureConfig(max_failures=retries),
                    stop=lambda key, result: ask.stop is not None or ask.trouble is not None,
                    verbose=0,
                ),
            )
            tuner.fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if ask.stop is not None:
            raise StoreError(ask.stop)
        if ask.trouble is not None:
            raise ask.trouble
