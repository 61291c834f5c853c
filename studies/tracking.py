"""MLflow as a view of the store: one experiment a study, made and mended from the store alone. The only file that imports mlflow.

Every run carries its key and, written last, a digest of what it shows. `sync` finds runs by key, makes those that are missing,
completes those without a digest, and leaves the rest alone: twice is as once, also after a kill in between.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from getpass import getuser
from pathlib import Path
from subprocess import DEVNULL, SubprocessError, check_output
from typing import TYPE_CHECKING, Any

from .mlflow_runs import RunRecord, Shown, dataset, shown
from .mlflow_view import VIEW_KEY, VIEW_TAG, view_state
from .store import Store, locked
from .study import StudyError

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run
    from mlflow.tracking import MlflowClient

KIND, KEY, DIGEST = "vitnas.kind", "vitnas.key", "vitnas.digest"
NOTE = "mlflow.note.content"
CHUNK_METRICS, CHUNK_OTHERS = 1000, 100  # MLflow's limits for one log_batch
MAX_VALUE = 5000  # characters of a param or tag
ENVIRONMENT = {  # unless set by the user: no telemetry, and an answer within seconds from a server that is down
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}


class TrackingError(ValueError):
    """MLflow could not be brought up to date; the message names the next move. The store has lost nothing."""


@dataclass(frozen=True, kw_only=True)
class SyncReport:
    """What `sync` did: runs made, mended (or replaced), left alone, and removed because the study no longer has them."""

    uri: str
    experiment: str  # MLflow's id
    created: int
    mended: int
    unchanged: int
    removed: int
    seconds: float


def tracking_uri(store: Store) -> str:
    """MLFLOW_TRACKING_URI where it is set, else a sqlite file in the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.root / 'mlflow.db'}"


def public_uri(uri: str) -> str:
    """`uri` without a password."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)


def sync(
    store: Store,
    name: str,
    *,
    uri: str | None = None,
    only: Collection[str] | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> SyncReport:
    """Bring MLflow up to date with study `name`, from the store alone. With `only`, log no more than the seeds of these trials.

    `on_progress` is told of every run that is written. Raises TrackingError where MLflow cannot be used, store.Busy where another
    process is at it, ValueError where there is no such study.
    """
    began = time.monotonic()
    uri = uri or tracking_uri(store)
    wanted = shown(store, name, only=only)
    with locked(store.studies / name / "mlflow.lock", f"the sync of study {name}"), _one_line(uri, name):
        mirror = _Mirror(store, wanted, uri, on_progress or (lambda line: None))
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

    def __init__(self, store: Store, wanted: Shown, uri: str, on_progress: Callable[[str], None]) -> None:
        self.store, self.wanted, self.on_progress = store, wanted, on_progress
        self.created = self.mended = self.unchanged = self.removed = 0
        self.client = _client(uri)
        self.experiment = self._experiment(local=not uri.startswith(("http://", "https://", "databricks", "uc:")))
        self.runs: dict[str, Run] = {}
        self.doubles: list[Run] = []
        for run in self._all_runs():
            known = self.runs.setdefault(run.data.tags[KEY], run)
            if known is not run:
                self.doubles.append(run)

    def _experiment(self, *, local: bool) -> Experiment:
        name = self.wanted.name
        found = self.client.get_experiment_by_name(name)
        if found is None:
            place = (self.store.root / "mlartifacts" / name).as_uri() if local else None
            found = self.client.get_experiment(self.client.create_experiment(name, artifact_location=place))
        elif found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return found

    def _all_runs(self) -> Iterator[Run]:
        """Those that carry a key; oldest first, so that of two with the same key the first is kept."""
        token = None
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
            parent = self.runs[record.parent].info.run_id if record.parent else ""
            if run and ((bare and record.kind == "arm") or self._same(run, record, parent)):
                self.unchanged += 1
                continue
            if run and _clashes(run, record):
                self.client.delete_run(run.info.run_id)
                self.mended += 1
                run = None
            elif run:
                self.mended += 1
            else:
                self.created += 1
            self._write(run, record, parent, finish=not (bare and record.kind == "arm"))
            self.on_progress(record.name)

    def _same(self, run: Run, record: RunRecord, parent: str) -> bool:
        tags = run.data.tags
        return bool(tags.get(DIGEST) == record.digest and tags.get("mlflow.parentRunId", "") == parent and run.info.status == record.status)

    def _write(self, run: Run | None, record: RunRecord, parent: str, *, finish: bool) -> None:
        from mlflow.entities import Metric, Param, RunTag

        client, known = self.client, run
        if run is None:
            tags = {KIND: record.kind, KEY: record.key} | ({"mlflow.parentRunId": parent} if parent else {}) | _source_tags()
            start = record.start or round(time.time() * 1000)
            run = client.create_run(self.experiment.experiment_id, start_time=start, tags=tags, run_name=record.name)
            self.runs[record.key] = run
        run_id = run.info.run_id
        if record.kind != "study" and (known is None or DIGEST not in known.data.tags):
            self._log_data(run_id)
        for path in record.files:
            client.log_artifact(run_id, str(path))
        now = record.end if record.kind == "seed" and record.end else round(time.time() * 1000)
        latest = known.data.metrics if known else {}
        metrics = [Metric(k, v, now, 0) for k, v in record.metrics.items() if latest.get(k) != v]
        metrics += [Metric(p.key, p.value, p.ms, p.step) for p in record.curve]
        params = [Param(k, v[:MAX_VALUE]) for k, v in record.params.items() if not known or k not in known.data.params]
        tags_now = [RunTag(k, v[:MAX_VALUE]) for k, v in record.tags.items()]
        while metrics or params or tags_now:
            room = CHUNK_OTHERS - len(params[:CHUNK_OTHERS])
            client.log_batch(run_id, metrics=metrics[: CHUNK_METRICS - 100], params=params[:CHUNK_OTHERS], tags=tags_now[:room])
            metrics, params, tags_now = metrics[CHUNK_METRICS - 100 :], params[CHUNK_OTHERS:], tags_now[room:]
        if not finish:
            return
        if record.end is None:
            client.update_run(run_id, status=record.status)
        else:
            client.set_terminated(run_id, record.status, end_time=record.end)
        client.set_tag(run_id, DIGEST, record.digest)

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
        tags = {
            NOTE: _note(self.wanted.report, self.runs[self.wanted.name].info.run_id),
            VIEW_TAG: view_state(self.wanted.plan),
            "vitnas.study": self.wanted.name,
            "vitnas.store": str(self.store.root),
        }
        for key, value in tags.items():
            if self.experiment.tags.get(key) != value:
                self.client.set_experiment_tag(self.experiment.experiment_id, key, value)


def _clashes(run: Run, record: RunRecord) -> bool:
    """Whether MLflow cannot make `run` into `record`: params are for good, and so are the points of a curve."""
    other = any(record.params.get(k) != v for k, v in run.data.params.items())
    return other or (record.kind == "seed" and run.data.tags.get(DIGEST, record.digest) != record.digest)


def _note(report: str, run_id: str) -> str:
    return report[:5000]


@cache
def _source_tags() -> dict[str, str]:
    """User, program and, where it runs from a checkout, git commit."""
    tags = {"mlflow.source.name": "vitnas", "mlflow.source.type": "LOCAL"}
    with suppress(OSError, KeyError):  # no such user, as in some containers
        tags["mlflow.user"] = getuser()
    root = Path(__file__).resolve().parent.parent
    with suppress(OSError, SubprocessError):
        if (root / ".git").exists():
            commit = check_output(["git", "-C", str(root), "rev-parse", "HEAD"], stderr=DEVNULL, timeout=5, text=True)
            tags["mlflow.source.git.commit"] = commit.strip()
    return tags


def _client(uri: str) -> MlflowClient:
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # else it warns of every attempt
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri)


@contextmanager
def _one_line(uri: str, name: str) -> Iterator[None]:
    """Turn what MLflow raises into one line with the next move."""
    try:
        yield
    except Exception as error:
        raise
