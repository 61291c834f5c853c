"""MLflow as a view of the store: one experiment a study, made and mended from the store alone. The only file that imports mlflow.

Every run carries its key and, written last, a digest of what it shows. `sync` finds runs by key, makes those that are missing,
completes those without a digest, and leaves the rest alone: twice is as once, also after a kill in between.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..addresses import public_uri
from ..store import Busy, Store, locked
from .runs import RunRecord, Shown, dataset, shown, source_tags
from .trouble import why
from .view import LONGEST_NOTE, VIEW_TAG, note, view_state

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

KIND, KEY, DIGEST, PARENT = "vitnas.kind", "vitnas.key", "vitnas.digest", "mlflow.parentRunId"
SQLITE = "sqlite:///"
METRICS, OTHERS = 900, 90  # in one log_batch, which takes 1,000 values, 100 params and 100 tags
LONGEST = 5000  # characters of a param or tag
PATIENCE = 10.0  # seconds to wait for another process that writes to MLflow
LOCKED = 5.0  # seconds to wait for another program that writes to a sqlite file
ENVIRONMENT = {  # unless the user has set them: no telemetry, no chatter, an answer within seconds about a server that is down
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


class TrackingError(ValueError):
    """MLflow could not be brought up to date; the message names the next move. The store has lost nothing."""


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """What `sync` did: runs made, mended (or replaced), left alone, and removed because the study no longer has them."""

    uri: str  # without a password
    experiment: str  # MLflow's id
    created: int
    mended: int
    unchanged: int
    removed: int
    seconds: float

    def __str__(self) -> str:
        total = self.created + self.mended + self.unchanged
        changes = f"{self.created} new, {self.mended} mended, {self.removed} removed"
        return f"{total} runs at {self.uri} ({changes}) in {self.seconds:.1f} s"


def tracking_uri(store: Store) -> str:
    """MLFLOW_TRACKING_URI where it is set (a relative sqlite file made absolute), else a sqlite file in the store."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{store.root / 'mlflow.db'}"
    return f"{SQLITE}{Path(uri.removeprefix(SQLITE)).absolute()}" if uri.startswith(SQLITE) else uri


def sync(
    store: Store,
    name: str,
    *,
    uri: str | None = None,
    only: Collection[str] | None = None,
    on_progress: Callable[[str], None] = lambda line: None,
) -> SyncReport:
    """Bring MLflow up to date with study `name`, from the store alone. With `only`, log no more than the seeds of these trials.

    `on_progress` is told of every run that is written, in a few words. Raises TrackingError where MLflow cannot be used, store.Busy
    where another process keeps writing to it, StoreError where there is no such study.
    """
    began = time.monotonic()
    uri = uri or tracking_uri(store)
    wanted = shown(store, name, only=only)
    with _waited(store.root / "mlflow.lock"), _one_line(uri, name):
        client = _client(uri, on_progress)
        mirror = _Mirror(client, store, wanted, uri, on_progress)
        mirror.write(bare=only is not None)
        if only is None:
            mirror.remove_others()
            mirror.describe()
    return SyncReport(
        uri=public_uri(uri),
        experiment=mirror.experiment.experiment_id,
        created=mirror.created,
        mended=mirror.mended,
        unchanged=mirror.unchanged,
        removed=mirror.removed,
        seconds=time.monotonic() - began,
    )


class _Mirror:
    """One study's experiment in MLflow, compared with what it should show."""

    def __init__(self, client: MlflowClient, store: Store, wanted: Shown, uri: str, on_progress: Callable[[str], None]) -> None:
        self.client, self.wanted, self.on_progress = client, wanted, on_progress
        self.created = self.mended = self.unchanged = self.removed = 0
        self.database = re.match(r"(sqlite|postgresql|mysql|mssql)\b", uri) is not None
        # For a database MLflow would put artifacts into the current folder; a server has its own place.
        self.experiment = self._experiment((store.root / "mlartifacts" / wanted.name).as_uri() if self.database else None)
        self.runs: dict[str, Run] = {}
        self.doubles: list[Run] = []
        for run in self._all_runs():
            if self.runs.setdefault(run.data.tags[KEY], run) is not run:
                self.doubles.append(run)

    def _experiment(self, artifacts: str | None) -> Experiment:
        found = self.client.get_experiment_by_name(self.wanted.name)
        if found is None:
            return self.client.get_experiment(self.client.create_experiment(self.wanted.name, artifact_location=artifacts))
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found

    def _all_runs(self) -> Iterator[Run]:
        """Those that carry a key; oldest first, so that of two with the same key the first is kept."""
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment.experiment_id], order_by=["attributes.start_time"], max_results=1000, page_token=token
            )
            yield from (run for run in page if KEY in run.data.tags)
            token = page.token
            if not token:
                return

    def write(self, *, bare: bool) -> None:
        """Make, complete or replace every run that is not as it should be. `bare` leaves arms that exist as they are."""
        for record in self.wanted.runs:
            run = self.runs.get(record.key)
            unfinished = bare and record.kind == "arm"
            parent = {PARENT: self.runs[record.parent].info.run_id} if record.parent else {}
            if run and (unfinished or _same(run, record, parent)):
                self.unchanged += 1
                continue
            self.mended, self.created = self.mended + bool(run), self.created + (not run)
            if run and _clashes(run, record):
                self.client.delete_run(run.info.run_id)
                run = None
            self._write(run, record, parent, finish=not unfinished)
            self.on_progress(record.name)

    def _write(self, known: Run | None, record: RunRecord, parent: dict[str, str], *, finish: bool) -> None:
        run = known or self._create(record, parent)
        self.runs[record.key] = run
        run_id = run.info.run_id
        if record.kind != "study" and DIGEST not in run.data.tags:
            self._log_data(run_id)
        for path in record.files:
            self.client.log_artifact(run_id, str(path))
        if finish and record.end is None:
            self.client.update_run(run_id, status=record.status)
        elif finish:
            self.client.set_terminated(run_id, record.status, end_time=record.end)
        tags = {**record.tags, **parent} if known else {}  # a new run has them from its start
        self._log_values(run, record, tags | ({DIGEST: record.digest} if finish else {}))

    def _create(self, record: RunRecord, parent: dict[str, str]) -> Run:
        tags = {**record.tags, **parent, **source_tags(), KIND: record.kind, KEY: record.key}
        start = record.start or round(time.time() * 1000)
        tags = {k: v[:LONGEST] for k, v in tags.items()}
        return self.client.create_run(self.experiment.experiment_id, start_time=start, tags=tags, run_name=record.name)

    def _log_values(self, run: Run, record: RunRecord, tags: Mapping[str, str]) -> None:
        """Log what `run` lacks, and `tags`: in the last batch, of which MLflow writes the tags last."""
        from mlflow.entities import Metric, Param, RunTag

        now = record.end if record.kind == "seed" and record.end else round(time.time() * 1000)
        metrics = [Metric(k, v, now, 0) for k, v in record.metrics.items() if run.data.metrics.get(k) != v]
        metrics += [Metric(p.key, p.value, p.ms, p.step) for p in record.curve]
        params = [Param(k, v[:LONGEST]) for k, v in record.params.items() if k not in run.data.params]
        while len(metrics) > METRICS or len(params) > OTHERS:
            self.client.log_batch(run.info.run_id, metrics=metrics[:METRICS], params=params[:OTHERS])
            metrics, params = metrics[METRICS:], params[OTHERS:]
        named = [RunTag(k, v[:LONGEST]) for k, v in tags.items()]
        self.client.log_batch(run.info.run_id, metrics=metrics, params=params, tags=named)

    def _log_data(self, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = dataset(self.wanted.plan)
        used = Dataset(name=data["name"], digest=data["digest"], source_type="vitnas", source=data["source"], profile=data["profile"])
        self.client.log_inputs(run_id, datasets=[DatasetInput(dataset=used, tags=[InputTag("mlflow.data.context", "training")])])

    def remove_others(self) -> None:
        """Delete runs of ours that the study no longer has, and second ones of the same key."""
        keys = {record.key for record in self.wanted.runs}
        for run in [*self.doubles, *(r for k, r in self.runs.items() if k not in keys)]:
            self.client.delete_run(run.info.run_id)
            self.removed += 1

    def describe(self) -> None:
        """Set the experiment's description and the prepared view."""
        from mlflow.utils import validation

        here = getattr(validation, "MAX_EXPERIMENT_TAG_VAL_LENGTH", LONGEST_NOTE)
        longest = here if self.database else LONGEST_NOTE  # a server may be of another version
        study = next(r for r in self.wanted.runs if r.kind == "study")
        tags = {
            "mlflow.note.content": note(self.wanted.report, self.runs[study.key].info.run_id, [p.name for p in study.files], longest),
            "mlflow.experimentKind": "custom_model_development",  # the page's name for training, as against GenAI
            VIEW_TAG: view_state(deltas=self.wanted.deltas, latency=self.wanted.latency),
        }
        for key, value in tags.items():
            if self.experiment.tags.get(key) != value:
                self.client.set_experiment_tag(self.experiment.experiment_id, key, value)


def _same(run: Run, record: RunRecord, parent: dict[str, str]) -> bool:
    tags = run.data.tags
    return run.info.status == record.status and tags.get(DIGEST) == record.digest and tags.get(PARENT) == parent.get(PARENT)


def _clashes(run: Run, record: RunRecord) -> bool:
    """Whether MLflow cannot make `run` into `record`: params are for good, and so are the points of a curve."""
    params = any(record.params.get(k, "")[:LONGEST] != v for k, v in run.data.params.items())
    return params or (record.kind == "seed" and run.data.tags.get(DIGEST, record.digest) != record.digest)


def _client(uri: str, on_progress: Callable[[str], None]) -> MlflowClient:
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # else it warns of every attempt
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])  # Ray may have imported it before the variable was set
    on_progress("MLflow is loaded")
    if uri.startswith(SQLITE):
        _prepare_sqlite(Path(uri.removeprefix(SQLITE)))
        on_progress("the database is there")
    return MlflowClient(tracking_uri=uri)


def _prepare_sqlite(path: Path) -> None:
    """Make the database whole or not at all, and see that it can be written, for which MLflow would try for 100 s."""
    from mlflow.tracking import MlflowClient

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.unlink(missing_ok=True)
        MlflowClient(tracking_uri=f"{SQLITE}{new}").search_experiments(max_results=1)
        new.rename(path)
    with closing(sqlite3.connect(path, timeout=LOCKED)) as connection:
        connection.execute("BEGIN IMMEDIATE")


@contextmanager
def _waited(path: Path) -> Iterator[None]:
    """Hold the lock of all that write to MLflow from this store; Busy where another process keeps it."""
    deadline = time.monotonic() + PATIENCE
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(path, "the writing to MLflow"))
                break
            except Busy:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        yield


@contextmanager
def _one_line(uri: str, name: str) -> Iterator[None]:
    """Turn what MLflow raises into one line with the next move."""
    try:
        yield
    except Exception as error:
        if not _foreign(error):
            raise
        where = f"MLflow at {public_uri(uri)} cannot be used ({why(error)})"
        raise TrackingError(f"{where}: mend that, then `vitnas sync {name}`; the store has every result") from error


def _foreign(error: Exception) -> bool:
    """Whether it comes from MLflow, its database or its server, and not from a fault of ours."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return isinstance(error, MlflowException | SQLAlchemyError | sqlite3.Error | OSError | ImportError)
