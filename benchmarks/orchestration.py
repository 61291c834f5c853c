"""What handing out trials costs: workers that sleep where they would train, so that all that is not sleep is orchestration.

    python benchmarks/orchestration.py [--workers 16] [--trials 480] [--seconds 10] [--noop-trials 600] [--noop-workers 2] [--rounds 3]
        [--only NAME,...] [--address ADDRESS] [--json]

Every contender runs in a process of its own, on a Ray of its own with as many CPUs as workers; the first trials wait until all workers are
there:

    vitnas            `vitnas sweep` as it is (driver, runner, store with all its records), on this machine
    vitnas + MLflow   the same with MLflow kept up to date, as `vitnas sweep` does
    vitnas, cluster   the same as `vitnas` on a Ray cluster of one node, whose store is locked by leases
    tune, reused      plain Ray Tune with `reuse_actors=True`, a function that sleeps and reports one number, no records
    tune              plain Ray Tune with its defaults

*Busy*: of the time from when all workers are there up to when the last trial is handed out, the share that they slept, over all workers.
Goal: 97 % or more. *Growth*: how the driver's resident memory grows with finished trials (least squares, after the first
quarter); goal: below 100 kB. *No-op*: seconds a trial that does nothing, from when all workers are there to the end, and what the driver
takes beforehand to write down what the trial is; the median of `--rounds` runs in turn (least to most). Goal: 1.2 times `tune, reused`, all
records included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vitnas.studies.gate import training as gate
from vitnas.studies.running.driver import Prospect, prospect, train
from vitnas.studies.store import Store, append, locked, write_json
from vitnas.studies.study import Study
from vitnas.studies.training.run_trial import How
from vitnas.studies.trial import Execution, Score, Trial, TrialResult

CONTENDERS = ("vitnas", "vitnas + MLflow", "vitnas, cluster", "tune, reused", "tune")
Sleep = tuple[int, float, float]  # of a worker's process: when it began and ended a trial


def sleep(seconds: float, meeting: Path, workers: int) -> Sleep:
    """Sleep, once so many workers have been in the folder `meeting`; says who did, and from when to when (seconds since the epoch)."""
    (meeting / str(os.getpid())).touch()
    while sum(1 for _ in os.scandir(meeting)) < workers:
        time.sleep(0.02)
    began = time.time()
    time.sleep(seconds)
    return os.getpid(), began, time.time()


def sleeping(
    store: Store,
    trial: Trial,
    data: Path,
    how: How,
    *,
    splits: Sequence[str],
    on_epoch: Any,
    leaving: Any,
    peers: Any,
    seconds: float,
    meeting: Path,
    workers: int,
) -> TrialResult:
    """Takes the place of `run_trial`: the same lock, gate and records, and no training. Its events tell when it slept."""
    folder = store.add(trial)
    with locked(folder / "lock", f"trial {trial.id}"):
        events = [f"attempt 1 on {socket.gethostname()}"]
        write_json(folder / "events.json", events)
        with gate():
            slept = sleep(seconds, meeting, workers)
            record = {"epoch": 1, "loss": 1.0, "lr": 0.0, "top1": 10.0, "images": 0, "seconds": round(seconds, 4)}
            append(folder / "curve.jsonl", json.dumps(record) + "\n")
        on_epoch(record)
        host = Execution(
            device="cpu", threads=how.threads, micro_batch=1, executor=how.executor, host=socket.gethostname(), compiled=False, versions={}
        )
        result = TrialResult(
            id=trial.id,
            status="complete",
            epochs=trial.epochs,
            scores={split: Score(images=1, top1=10.0, loss=1.0) for split in splits},
            seconds=seconds,
            images_per_second=0.0,
            attempts=1,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            execution=host,
            events=(*events, json.dumps(slept)),
        )
        write_json(folder / "result.json", result.to_dict())
        return result


class Memory:
    """The resident memory of this process (bytes), each time that a trial has ended."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def look(self, *_: Any, **__: Any) -> None:
        """Look now."""
        self.seen.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))

    def growth(self) -> float:
        """Bytes a trial, after the first quarter."""
        y = np.array(self.seen[len(self.seen) // 4 :], dtype=float)
        return float(np.polyfit(np.arange(len(y)), y, 1)[0]) if len(y) > 1 else 0.0


@contextlib.contextmanager
def one_node(workers: int, address: str) -> Iterator[str]:
    """A Ray cluster of one node with so many CPUs on loopback; or the one at `address`."""
    if address:
        yield address
        return
    from vitnas.studies.running.runner import QUIET

    os.environ.update(QUIET)  # before Ray is imported: it listens on loopback alone then
    from ray.cluster_utils import Cluster

    node = {"num_cpus": workers, "node_ip_address": "127.0.0.1", "object_store_memory": 100 * 2**20, "include_dashboard": False}
    made: Any = Cluster(initialize_head=True, head_node_args=node)  # type: ignore[no-untyped-call]
    try:
        yield made.address
    finally:
        made.shutdown()


def vitnas(name: str, workers: int, trials: int, seconds: float, address: str) -> dict[str, float]:
    """A study of one network with as many seeds as trials, run as `vitnas sweep` runs it."""
    from rich.console import Console

    from vitnas.studies.running.cluster import Demand, on_cluster
    from vitnas.studies.tracking.tracker import Tracker

    memory = Memory()
    study = Study(kind="train", name="s", network="convnext-micro", epochs=1, seeds=trials, score_on="validation")
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="vitnas-orchestration-")))
        log = held.enter_context((folder / "log").open("w"))
        store, cluster, meeting = Store(folder / "store"), None, folder / "meeting"
        meeting.mkdir()
        if name == "vitnas, cluster":
            cluster = held.enter_context(on_cluster(held.enter_context(one_node(workers, address)), Demand()))
        ready: Prospect = prospect(store, study, say=lambda line: None, cluster=cluster)
        if cluster is None:  # it would refuse as many workers as this machine has no cores for
            ready = replace(ready, machine=replace(ready.machine, concurrency=workers, most=workers))
        tracker = None
        if name == "vitnas + MLflow":
            write_json(store.studies / "s" / "plan.json", ready.plan.to_dict())
            tracker = held.enter_context(Tracker(store, "s", warn=print))

        def done(trial_id: str) -> None:
            memory.look()
            if tracker:
                tracker.trial_done(trial_id)

        began = time.monotonic()
        for trial in ready.plan.trials:
            store.add(trial)
        written = (time.monotonic() - began) / trials
        failed = train(ready, Console(file=log), done, work=partial(sleeping, seconds=seconds, meeting=meeting, workers=workers))
        assert not failed, failed
        results = store.results(t.id for t in ready.plan.trials).values()
        return figures([tuple(json.loads(r.events[-1])) for r in results], memory, workers, written)


def plain(name: str, workers: int, trials: int, seconds: float) -> dict[str, float]:
    """The same trials by a user's own script for Ray Tune."""
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # loopback only
    import ray
    from ray import tune

    memory, slept = Memory(), []

    class Watch(tune.Callback):  # type: ignore[misc]
        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
            slept.append((result["process"], result["began"], result["ended"]))

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            memory.look()

    with tempfile.TemporaryDirectory(prefix="vitnas-orchestration-") as folder, contextlib.chdir(folder):
        meeting = Path(folder) / "meeting"
        meeting.mkdir()

        def work(config: dict[str, Any]) -> None:
            process, began, ended = sleep(seconds, meeting, workers)
            tune.report({"top1": 10.0, "process": process, "began": began, "ended": ended})

        ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
        tuner = tune.Tuner(
            tune.with_resources(work, {"cpu": 1}),
            param_space={"seed": tune.grid_search(list(range(trials)))},
            tune_config=tune.TuneConfig(reuse_actors=True) if name == "tune, reused" else tune.TuneConfig(),
            run_config=tune.RunConfig(name="s", storage_path=folder, callbacks=[Watch()], verbose=0),
        )
        tuner.fit()
        ray.shutdown()
    return figures(slept, memory, workers)


def figures(slept: list[Sleep], memory: Memory, workers: int, written: float = 0.0) -> dict[str, float]:
    """What a run comes to; `written` are seconds a trial that it took before the first began."""
    slept = sorted(slept, key=lambda s: s[1])
    up = slept[workers - 1][1]
    last, end = slept[-1][1], max(ended for _, _, ended in slept)
    after = sum(began > up for _, began, _ in slept)
    busy = sum(max(0.0, min(ended, last) - max(began, up)) for _, began, ended in slept)
    return {
        "trials": len(slept),
        "processes": len({process for process, _, _ in slept}),
        "span": last - up,
        "busy": busy / (workers * (last - up)),
        "a_trial": written + (end - up) / max(1, after),
        "growth": memory.growth(),
    }


def run(name: str, workers: int, trials: int, seconds: float, address: str) -> dict[str, Any]:
    """One run of a contender, in a process of its own."""
    words = [sys.executable, __file__, "--contender", name, "--address", address]
    words += ["--workers", str(workers), "--trials", str(trials), "--seconds", str(seconds)]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "TUNE_", "MLFLOW_", "VITNAS_"))}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} ended with exit code {done.returncode}\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run the contenders and print what they came to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--trials", type=int, default=480, help="of --seconds; 0: none")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--noop-trials", type=int, default=600, help="0: none")
    parser.add_argument("--noop-workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of no-op trials")
    parser.add_argument("--only", default=";".join(CONTENDERS), help="contenders, separated by semicolons")
    parser.add_argument("--address", default="", help="a running cluster for `vitnas, cluster`; default: one of its own")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.contender:
        name, sizes = options.contender, (options.workers, options.trials, options.seconds)
        print(json.dumps(plain(name, *sizes) if name.startswith("tune") else vitnas(name, *sizes, options.address)))
        return
    names = [n.strip() for n in options.only.split(";")]
    if unknown := [n for n in names if n not in CONTENDERS]:
        parser.error(f"unknown contender {unknown[0]!r}; there are {'; '.join(CONTENDERS)}")
    say = partial(print, flush=True, file=sys.stderr if options.json else sys.stdout)
    found: dict[str, Any] = {"options": vars(options), "cores": len(os.sched_getaffinity(0)), "sleeping": {}, "no-op": {}}
    if options.trials:
        say(f"{options.trials} trials of {options.seconds:g} s, {options.workers} workers, {found['cores']} cores")
        for name in names:
            f = found["sleeping"][name] = run(name, options.workers, options.trials, options.seconds, options.address)
            say(f"{name:16s} busy {100 * f['busy']:5.1f} % of {f['span']:.0f} s   growth {f['growth'] / 1e3:6.1f} kB a trial")
    if options.noop_trials:
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        say(f"{options.noop_trials} no-op trials, {options.noop_workers} workers, {options.rounds} rounds")
        for i in range(options.rounds):
            for name in names if i % 2 == 0 else names[::-1]:
                rounds[name].append(r := run(name, options.noop_workers, options.noop_trials, 0.0, options.address))
                say(f"    {name:16s} {1e3 * r['a_trial']:7.1f} ms")
        found["no-op"] = rounds
        for name, runs in rounds.items():
            ms, growth = [1e3 * r["a_trial"] for r in runs], [r["growth"] / 1e3 for r in runs]
            line = f"{name:16s} {statistics.median(ms):7.1f} ms a trial ({min(ms):.1f} to {max(ms):.1f})"
            if "tune, reused" in rounds:
                ratio = [r["a_trial"] / p["a_trial"] for r, p in zip(runs, rounds["tune, reused"], strict=True)]
                line += f"   {statistics.median(ratio):5.2f} times `tune, reused` ({min(ratio):.2f} to {max(ratio):.2f})"
            say(f"{line}   growth {statistics.median(growth):6.1f} kB a trial")
    if options.json:
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
