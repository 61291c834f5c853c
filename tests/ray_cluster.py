"""A real Ray cluster of several nodes on this machine, and what is seen from outside of the trials that run on it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from vitnas.studies.running.runner import QUIET
from vitnas.studies.store import Store

from .command import environment, start

FAST = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_failure_threshold": 4,
    "health_check_timeout_ms": 2000,
    "worker_niceness": 0,  # Ray's 15 would have them wait for whatever else this machine does
}
NODE: dict[str, Any] = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20, "include_dashboard": False}


@contextmanager
def ray_cluster(*, head: int, others: int = 0, **config: Any) -> Iterator[Any]:
    """A cluster whose head has `head` CPUs, with `others` further nodes of one CPU; `config` is Ray's own. Its files are in a folder of
    its own. `add_node(**node)` adds one like the others."""
    from ray.cluster_utils import Cluster

    short = tempfile.mkdtemp(prefix="v-", dir="/tmp")  # sockets have short names
    with pytest.MonkeyPatch.context() as patch:
        for variable in set(os.environ) - set(environment()):
            patch.delenv(variable)
        for variable, value in (QUIET | {"TMPDIR": short, "OMP_NUM_THREADS": "1"}).items():
            patch.setenv(variable, value)
        made: Any = Cluster(initialize_head=True, head_node_args=NODE | {"num_cpus": head, "_system_config": FAST | config})
        made.node = NODE | {"num_cpus": 1}
        try:
            for _ in range(others):
                made.add_node(wait=False, **made.node)
            made.wait_for_nodes()
            yield made
        finally:
            made.shutdown()
            shutil.rmtree(short, ignore_errors=True)


@contextmanager
def driving(root: Path, cluster: Any, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A driver of the study in `root`, which does not outlive the block."""
    process = start("sweep", "study.yaml", "--address", cluster.address, *options, cwd=root)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def raylet(node: Any) -> int:
    """The process that starts a node's workers."""
    return int(node.all_processes["raylet"][0].process.pid)


def lose(cluster: Any, node: Any) -> None:
    """Have a node be gone from one moment to the next, with all that runs on it."""
    first = raylet(node)
    others = [int(p) for threads in Path(f"/proc/{first}/task").glob("*/children") for p in threads.read_text().split()]
    for process in (first, *others):
        os.kill(process, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def parent(process: int) -> int:
    """Of a worker, its raylet; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def holders(root: Path) -> dict[str, int]:
    """The processes that hold trials which have no result yet."""
    store = Store(root / ".vitnas")  # made anew: the driver marks it as shared
    names = {path.parent.name for path in store.trials.glob("*/trial.json")} if store.trials.is_dir() else set()
    held = {trial: store.holder(trial) for trial in names if store.result(trial) is None}
    return {trial: int(holder.split()[1]) for trial, holder in held.items() if holder}


def halfway(root: Path) -> dict[str, int]:
    """Of these, those whose trials have saved an epoch and will train more than one further."""
    store = Store(root / ".vitnas")
    return {
        trial: process
        for trial, process in holders(root).items()
        if (store.trial_folder(trial) / "checkpoint.pt").exists() and 1 <= len(store.curve(trial)) < store.trial(trial).epochs - 1
    }


def until(process: subprocess.Popen[Any], found: Callable[[], Any]) -> Any:
    """What `found` gives, as soon as it is something."""
    deadline = time.monotonic() + 200
    while not (what := found()):
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return what


def report(root: Path, name: str = "s") -> dict[str, Any]:
    """The report without what tells of times, hosts and attempts."""
    data: dict[str, Any] = json.loads((root / ".vitnas" / "studies" / name / "report.json").read_text())
    data.pop("execution")
    return data
