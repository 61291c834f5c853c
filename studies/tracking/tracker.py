"""The tracker: keeps MLflow up to date while a study runs, and never in its way.

A thread of its own logs seeds as they finish. When MLflow is down, training goes on; it is told once, in one line, and what was not
logged is logged later: by the tracker when MLflow is back, at the latest at the end, or by `vitnas sync`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..addresses import public_uri
from ..store import Store
from .sync import SyncReport, sync, tracking_uri

ARMS_EVERY = 60.0  # seconds between two updates of the arms' summaries
AGAIN_AFTER = 60.0  # seconds before MLflow is tried again after a failure
PATIENCE = 8.0  # seconds without progress after which a server is given up at the end
LOCAL_PATIENCE = 30.0  # the same for a file, which may be slow but does not hang; also for MLflow's import


class Tracker:
    """A context around a study's run and its report. `trial_done` says that a trial has its result in the store; on leaving, everything
    that the store holds is brought to MLflow, and `report` says how (None where MLflow was down). Whoever holds `still` has the thread
    wait.

    `warn` gets the one line. Leaving takes no longer than MLflow needs while it works; where it makes no progress for `patience` seconds,
    it is given up.
    """

    def __init__(
        self, store: Store, name: str, *, warn: Callable[[str], None], uri: str | None = None, patience: float | None = None
    ) -> None:
        self.store, self.name, self.warn = store, name, warn
        self.uri = uri or tracking_uri(store)
        self.patience = patience or (LOCAL_PATIENCE if self.uri.startswith("sqlite:") else PATIENCE)
        self.report: SyncReport | None = None
        self.still = threading.Lock()
        self._new: list[str] = []
        self._wake = threading.Condition()
        self._closing = self._warned = self._loaded = False
        self._progress = time.monotonic()
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def __enter__(self) -> Tracker:
        self._thread.start()
        return self

    def trial_done(self, trial_id: str) -> None:
        """A trial has finished: its result is in the store. Returns at once."""
        with self._wake:
            self._new.append(trial_id)
            self._wake.notify()

    def __exit__(self, *exc: object) -> None:
        with self._wake:
            self._closing = True
            self._progress = time.monotonic()
            self._wake.notify()
        while self._thread.is_alive() and time.monotonic() - self._progress < self._patience_now():
            self._thread.join(0.05)
        if self._thread.is_alive():  # it is left behind: a daemon that waits for an answer
            self._trouble("no answer")

    def _patience_now(self) -> float:
        if not self._loaded:
            return LOCAL_PATIENCE
        return self.patience / 2 if self._warned else self.patience

    def _work(self) -> None:
        pending: list[str] = []
        retry_at = arms_at = 0.0
        while not self._closing:
            with self._wake:
                self._wake.wait_for(lambda: self._closing or bool(self._new), timeout=AGAIN_AFTER if pending else None)
                pending, self._new = pending + self._new, []
            if self._closing or not pending or time.monotonic() < retry_at:
                continue
            whole = time.monotonic() > arms_at > 0
            if self._sync(None if whole else pending):
                pending = []
                arms_at = time.monotonic() + ARMS_EVERY if whole or not arms_at else arms_at
            else:
                retry_at = time.monotonic() + AGAIN_AFTER
        self._sync(None)

    def _sync(self, only: list[str] | None) -> bool:
        if not (self.store.studies / self.name / "plan.json").exists():  # a search that has trained nothing
            return True
        try:
            with self.still:
                report = sync(self.store, self.name, uri=self.uri, only=only, on_progress=self._tick)
        except Exception as error:  # whatever it is, it must not end the study
            self._trouble(str(error))
            return False
        self.report = report if only is None else None
        return True

    def _tick(self, line: str) -> None:
        self._progress = time.monotonic()
        self._loaded = True

    def _trouble(self, reason: str) -> None:
        if not self._warned:
            self._warned = True
            if f"vitnas sync {self.name}" not in reason:
                reason = f"MLflow at {public_uri(self.uri)} is not up to date ({reason}): `vitnas sync {self.name}` catches up later"
            self.warn(" ".join(reason.split()))
