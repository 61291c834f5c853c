"""Running trials in this process, one after another: the executor that needs neither Ray nor a second process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ..store import Busy, Store, StoreError, store_trouble
from ..training.group import PeerLost
from ..training.run_trial import How, run_trial
from ..training.team import LocalPeers, Peers
from ..trial import Trial, TrialResult

Work = Callable[..., TrialResult]  # what does a trial: run_trial, or what takes its place

RETRIES = 3  # of a trial of which a process died
LOCK_PATIENCE = 60.0  # seconds to wait for a trial's lock, which a dying process may still hold


class Listener(Protocol):
    """Who is told how trials get on. All calls come from the driver's process."""

    def started(self, trial_id: str) -> None: ...
    def epoch(self, trial_id: str, record: dict[str, Any]) -> None: ...
    def finished(self, trial_id: str, result: TrialResult) -> None: ...
    def lost(self, trial_id: str) -> None: ...
    def failed(self, trial_id: str, error: str) -> None: ...


def run_patiently(
    store: Store,
    trial: Trial,
    data: Path,
    how: How,
    splits: Sequence[str],
    on_epoch: Any,
    leaving: Any = lambda: False,
    peers: Callable[[], Peers] = LocalPeers,
    work: Work = run_trial,
) -> TrialResult:
    """`work`, waiting for the trial's lock while a process that is going away still holds it."""
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            return work(store, trial, data, how, splits=splits, on_epoch=on_epoch, leaving=leaving, peers=peers)
        except Busy:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def run_here(
    store: Store,
    trial: Trial,
    data: Path,
    how: How,
    splits: Sequence[str],
    on_epoch: Any,
    lost: Callable[[], None] = lambda: None,
    *,
    work: Work = run_trial,
) -> TrialResult:
    """run_patiently in this process; where another process of the trial is `lost`, the trial goes on from its last epoch, so often."""
    left = RETRIES
    while True:
        try:
            return run_patiently(store, trial, data, how, splits, on_epoch, work=work)
        except PeerLost as error:
            if not left:
                raise RuntimeError(f"{error}, after {RETRIES} attempts before") from None
        left -= 1
        lost()


def explain(store: Store, error: BaseException) -> str:
    """One line for what went wrong in a trial."""
    if isinstance(error, OSError):
        return store_trouble(store.root, error)
    if isinstance(error, ValueError):
        return str(error)
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def run_local(
    store: Store, trials: Sequence[Trial], data: Path, how: How, *, splits: Sequence[str], listener: Listener, work: Work = run_trial
) -> None:
    """Do `work` on `trials` here, one after another; a trial that fails does not stop the others, a store that cannot be written does."""
    for trial in trials:
        listener.started(trial.id)
        try:
            result = run_here(
                store,
                trial,
                data,
                how,
                splits,
                lambda record, t=trial: listener.epoch(t.id, record),
                lambda t=trial: listener.lost(t.id),  # type: ignore[misc]
                work=work,
            )
        except OSError as error:
            listener.failed(trial.id, explain(store, error))
            raise StoreError(store_trouble(store.root, error)) from None
        except (ValueError, RuntimeError) as error:
            listener.failed(trial.id, explain(store, error))
        else:
            listener.finished(trial.id, result)
