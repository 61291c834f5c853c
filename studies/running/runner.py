"""The runner on Ray Tune: one Tune trial a trial, actors reused. Only this file and elsewhere.py import ray.

Ray schedules; the store is the truth. Nothing is restored from Tune's own snapshots: a study that was cut off reads the store and
hands Tune what is left.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..store import Store, StoreError
from ..training.run_trial import How
from ..trial import Trial
from .executors import Listener, explain, run_patiently

RETRIES = 3  # of a trial whose worker process died

QUIET = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # with it Ray listens on every interface
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_V2_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the driver at once; the store has what was done
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def trainable(config: dict[str, Any]) -> None:
    """What a worker runs: one trial, reported epoch by epoch. Errors of the trial are reported, not raised: a retry would not
    change them; only the death of the worker is Tune's to handle."""
    from ray import tune

    store = Store(config["store"])
    try:
        trial = store.trial(config["trial"])
        how = How(**config["how"])
        result = run_patiently(store, trial, Path(config["data"]), how, config["splits"], lambda record: tune.report({"record": record}))
    except OSError as error:
        tune.report({"error": explain(store, error), "fatal": True})
    except Exception as error:
        tune.report({"error": explain(store, error), "fatal": False})
    else:
        tune.report({"result": result.to_dict()})


@contextlib.contextmanager
def local_ray(cpus: int, gpus: float) -> Iterator[None]:
    """A Ray of our own on this machine: loopback only, no dashboard, started from an empty folder and ended with us."""
    os.environ.update(QUIET)
    logging.getLogger("ray").setLevel(logging.ERROR)
    import ray

    here = Path.cwd()
    empty = Path(tempfile.mkdtemp(prefix="vitnas-ray-"))
    on_sigterm = signal.getsignal(signal.SIGTERM)
    os.chdir(empty)
    try:
        ray.init(
            address="local",
            num_cpus=cpus,
            num_gpus=int(gpus) or None,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            configure_logging=True,
            object_store_memory=100 * 2**20,
        )
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own handler prints a trace
        yield
    finally:
        ray.shutdown()
        os.chdir(here)
        shutil.rmtree(empty, ignore_errors=True)


def run_ray(
    store: Store,
    trials: Sequence[Trial],
    data: Path,
    how: How,
    *,
    splits: Sequence[str],
    listener: Listener,
    concurrency: int,
    gpus: float = 0.0,
) -> None:
    """Run `trials`, `concurrency` at a time. StoreError as soon as the store can no longer be written."""
    for trial in trials:
        store.add(trial)
    with local_ray(cpus=concurrency * how.threads, gpus=gpus * concurrency):
        from ray import tune
        from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner

        class Watch(Callback):  # type: ignore[misc]
            """Hands Tune's events to the listener, in the driver."""

            stop: str | None = None

            def __reduce__(self) -> Any:
                return (int, ())  # Tune pickles its callbacks for a restore that is never made; the listener cannot be

            def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                listener.started(trial.config["trial"])

            def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
                key = trial.config["trial"]
                if "record" in result:
                    listener.epoch(key, result["record"])
                elif "error" in result:
                    listener.failed(key, result["error"])
                    self.stop = result["error"] if result["fatal"] else self.stop
                elif "result" in result:
                    store.refresh([key])
                    known = store.result(key)
                    if known is not None:
                        listener.finished(key, known)

            def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                listener.failed(
                    trial.config["trial"], f"its worker died {RETRIES + 1} times: see trial {trial.config['trial']} in {store.address}"
                )

        watch = Watch()
        scratch = tempfile.mkdtemp(prefix="vitnas-tune-")
        config = {"store": store.address, "data": str(data), "how": asdict(how), "splits": list(splits)}
        try:
            tuner = Tuner(
                tune.with_resources(trainable, {"cpu": how.threads, "gpu": gpus}),
                param_space=config | {"trial": tune.grid_search([t.id for t in trials])},
                tune_config=TuneConfig(reuse_actors=True, max_concurrent_trials=concurrency),
                run_config=RunConfig(
                    name="study",
                    storage_path=scratch,
                    callbacks=[watch],
                    failure_config=FailureConfig(max_failures=RETRIES),
                    stop=lambda key, result: watch.stop is not None,
                    verbose=0,
                ),
            )
            tuner.fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if watch.stop is not None:
            raise StoreError(watch.stop)
