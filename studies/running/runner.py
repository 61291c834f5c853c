"""The runner on Ray Tune: one Tune trial a trial, actors reused. This file, in_order.py, search_ray.py, together.py, cluster.py and
elsewhere.py import ray.

Ray schedules; the store is the truth. Nothing is restored from Tune's own snapshots: a study that was cut off reads the store and
hands Tune what is left.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..store import Busy, Store, StoreError
from ..store_probe import answer_probe
from ..training.group import PeerLost
from ..training.run_trial import How, Left, run_trial
from ..trial import Trial
from .execution import Machine
from .executors import RETRIES, Listener, Work, explain, run_patiently
from .in_order import in_order
from .together import RayPeers, resources
from .token import make_token

if TYPE_CHECKING:
    from .cluster import Cluster

LOOK = 5.0  # seconds between two looks of a worker at whether its node is to end

QUIET = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # with it Ray listens on every interface
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # what Ray says of nodes that go; the study says it in a line
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_V2_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the driver at once; the store has what was done
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # that a worker was lost is said in a line
    "RAY_TRAIN_COUNT_PREEMPTION_AS_FAILURE": "1",  # a trial is taken up again so often and no more
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


LEAVING = threading.Event()  # in a worker: it was told to end
_SEEN: set[tuple[str, str]] = set()  # in a worker: probes of stores that it sees


def trainable(config: dict[str, Any], work: Work = run_trial) -> None:
    """What a worker runs: `work` on one trial, reported epoch by epoch. Errors of the trial are reported, not raised: a retry would not
    change them; only the end of the worker is Tune's to handle. On a cluster, a trial that another process runs is reported as busy.

    Reports are text: of numbers Tune keeps statistics, a trial's share of which the driver would never give back."""
    from ray import tune

    def end(**report: Any) -> None:
        tune.report(report | {"done": True})  # Tune need not ask once more

    store = Store(config["store"])
    try:
        if LEAVING.is_set():
            raise Left("this process was told to end")
        _look_for(config["probe"], store)
        trial = store.trial(config["trial"])
        how = How(**config["how"])
        run_patiently(
            store,
            trial,
            Path(config["data"]),
            how,
            config["splits"],
            lambda record: tune.report({"record": json.dumps(record)}),
            LEAVING.is_set,
            lambda: RayPeers(heed_sigterm if config["probe"] else None),
            work,
        )
    except (Left, PeerLost):
        raise
    except Busy as error:
        end(**{"busy": str(error)} if config["probe"] else {"error": explain(store, error), "fatal": False})
    except OSError as error:
        end(error=explain(store, error), fatal=True)
    except StoreError as error:
        end(error=explain(store, error), fatal=bool(config["probe"]))
    except Exception as error:
        end(error=explain(store, error), fatal=False)
    else:
        end(result="in the store")


def _look_for(probe: str, store: Store) -> None:
    """StoreError where the driver's store is not what this worker sees; its node may have joined after the driver asked all."""
    if probe and (store.address, probe) not in _SEEN:
        answer_probe(store.address, probe)
        _SEEN.add((store.address, probe))


def heed_sigterm() -> Callable[[], bool]:
    """Have this process, when it is told to end, know so; gives what tells."""
    signal.signal(signal.SIGTERM, lambda number, frame: LEAVING.set())
    return LEAVING.is_set


def heed_draining() -> None:
    """Have this process know when its node is being drained: nothing new starts there, and what runs has a while to end. Ray drains a node
    whose `ray start --block` is sent SIGTERM, as containers, Slurm and spot machines do."""
    import ray
    from ray._private.state import state  # as Ray Train's watcher does: there is no public way

    node = ray.get_runtime_context().get_node_id()

    def look() -> None:
        while not LEAVING.wait(LOOK):
            with contextlib.suppress(Exception):  # the head does not answer now
                if node in state.get_draining_nodes():
                    LEAVING.set()

    threading.Thread(target=look, name="draining", daemon=True).start()


def patient(work: Work = run_trial) -> Any:
    """The trainable as a class whose workers, when they or their node are told to end, save the trial after its epoch first."""
    from ray.tune.trainable import wrap_function

    class Worker(wrap_function(partial(trainable, work=work))):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            heed_sigterm()  # here: it takes the process's main thread
            heed_draining()
            super().setup(config)

    return Worker


@contextlib.contextmanager
def local_ray(cpus: int, gpus: float) -> Iterator[None]:
    """A Ray of our own on this machine: loopback only, no dashboard, started from an empty folder and ended with us."""
    os.environ.update(QUIET)
    logging.getLogger("ray").setLevel(logging.ERROR)
    make_token()
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
    machine: Machine,
    cluster: Cluster | None = None,
    work: Work = run_trial,
) -> None:
    """Do `work` on `trials` with a Ray of our own, `machine.concurrency` at a time, or on all nodes that `cluster` has by then. Trials that
    another process still runs there come last, until it has ended. StoreError as soon as the store can no longer be written."""
    for trial in trials:
        store.add(trial)
    left = list(trials)
    with contextlib.ExitStack() as held:
        if cluster is None:
            held.enter_context(local_ray(cpus=int(machine.concurrency * machine.cpus_per_trial), gpus=machine.gpus * machine.concurrency))
        else:
            cluster = held.enter_context(cluster.seeing(store, machine))
        while left:
            busy = _run(store, left, data, how, splits, listener, machine, cluster, work)
            store.refresh([t.id for t in left])
            left = [t for t in left if t.id in busy and store.lacks(t.id, splits)]


def _run(
    store: Store,
    trials: Sequence[Trial],
    data: Path,
    how: How,
    splits: Sequence[str],
    listener: Listener,
    machine: Machine,
    cluster: Cluster | None,
    work: Work,
) -> set[str]:
    """Run `trials` on the Ray that is there; gives those that another process runs."""
    from ray import tune
    from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner

    retries = RETRIES if cluster is None else cluster.demand.retries
    busy: set[str] = set()

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
                listener.epoch(key, json.loads(result["record"]))
            elif "busy" in result:
                busy.add(key)
            elif "error" in result:
                listener.failed(key, result["error"])
                self.stop = result["error"] if result["fatal"] else self.stop
            elif "result" in result:
                store.refresh([key])
                known = store.result(key)
                if known is not None:
                    listener.finished(key, known)

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            listener.lost(trial.config["trial"])

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            key = trial.config["trial"]
            listener.failed(key, f"its worker died {retries + 1} times: see trial {key} in {store.address}")

    watch = Watch()
    scratch = tempfile.mkdtemp(prefix="vitnas-tune-")
    config = {
        "store": store.address,
        "data": str(data),
        "how": asdict(how),
        "splits": list(splits),
        "probe": cluster.probe if cluster else "",
    }
    try:
        tuner = Tuner(
            tune.with_resources(patient(work) if cluster else partial(trainable, work=work), resources(machine)),
            param_space=config | {"trial": tune.grid_search([t.id for t in trials])},
            tune_config=TuneConfig(scheduler=in_order(), reuse_actors=True, max_concurrent_trials=machine.most),
            run_config=RunConfig(
                name="study",
                storage_path=scratch,
                callbacks=[watch],
                failure_config=FailureConfig(max_failures=retries),
                stop=lambda key, result: watch.stop is not None,
                verbose=0,
            ),
        )
        tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if watch.stop is not None:
        raise StoreError(watch.stop)
    return busy
