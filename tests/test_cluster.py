"""Sweeps on a real Ray cluster of several nodes on this machine: nodes join, are killed, and the study ends as if none had been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vitnas.studies.running.runner import QUIET
from vitnas.studies.store import Store

from .command import environment, start, vitnas

EPOCHS, TRIALS = 20, 4
STUDY = f"kind: roadmap\nname: s\nsteps: depthwise\nepochs: {EPOCHS}\ndata-fraction: 0.3\nset: {{batch-size: 32}}\nseeds: 2\n"
FAST = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
SEARCH = ["search", "--name", "s", "--trials", "4", "--pool", "6", "--published", "none", "--epochs", "4", "--data-fraction", "0.2"]
SEARCH += ["--set", "batch-size=32", "--seeds", "1", "--finalists", "1", "--objectives", "accuracy,latency"]
BRIEFLY = """
import math
from vitnas.cli import main
from vitnas.studies.latency.protocol import Effort
from vitnas.studies.running import search
brief = Effort(seconds=0.1, processes=1, allocations=1, extend=0, settle=0.0, foreign=math.inf, swing=math.inf, energy=False)
search.effort_of = lambda study: brief
main()
"""  # the command line, which measures briefly and on a busy host too
NODE = """
import json, sys, types
from ray.cluster_utils import Cluster
there = Cluster()
there.head_node, there.redis_address = types.SimpleNamespace(gcs_address=sys.argv[1]), sys.argv[1]
node = there.add_node(wait=False, **json.loads(sys.argv[2]))
print("joined", flush=True)
input()
node.kill_all_processes(check_alive=False)
"""  # a node of a cluster that another process made


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes with one CPU each, whose files are in a folder of its own."""
    from ray.cluster_utils import Cluster

    short = tempfile.mkdtemp(prefix="v-", dir="/tmp")  # sockets have short names
    with pytest.MonkeyPatch.context() as patch:
        for variable in set(os.environ) - set(environment()):
            patch.delenv(variable)
        for variable, value in (QUIET | {"TMPDIR": short, "OMP_NUM_THREADS": "1"}).items():
            patch.setenv(variable, value)
        node: dict[str, Any] = {
            "num_cpus": 1,
            "node_ip_address": "127.0.0.1",
            "object_store_memory": 80 * 2**20,
            "include_dashboard": False,
        }
        made: Any = Cluster(initialize_head=True, head_node_args=node | {"_system_config": FAST})
        made.node = node
        made.add_node(**node)
        try:
            yield made
        finally:
            made.shutdown()
            shutil.rmtree(short, ignore_errors=True)


@pytest.fixture(scope="module")
def calm(cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the study was run on the cluster, and nothing happened."""
    root = tmp_path_factory.mktemp("calm")
    (root / "study.yaml").write_text(STUDY)
    done = vitnas("sweep", "study.yaml", "--address", cluster.address, cwd=root)
    assert f"{TRIALS} trials trained, 0 known before" in done.stdout and "2 at a time" in done.stdout, done.stdout
    return root


def report(root: Path) -> dict[str, Any]:
    """The report without what tells of times, hosts and attempts."""
    data: dict[str, Any] = json.loads((root / ".vitnas" / "studies" / "s" / "report.json").read_text())
    data.pop("execution")
    return data


def until(process: subprocess.Popen[Any], found: Callable[[], Any]) -> Any:
    """What `found` gives, as soon as it is something."""
    deadline = time.monotonic() + 120
    while not (what := found()):
        assert process.poll() is None, process.stdout.read() if process.stdout else ""
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return what


def running(root: Path) -> dict[str, int]:
    """The processes that run trials which have ended an epoch and will train more than one further."""
    store, out = Store(root / ".vitnas"), {}  # made anew: the driver marks it as shared
    for path in store.trials.glob("*/checkpoint.pt"):
        trial = path.parent.name
        holder = store.holder(trial)
        if holder and store.result(trial) is None and 1 <= len(store.curve(trial)) < EPOCHS - 1:
            out[trial] = int(holder.split()[1])
    return out


def holders(root: Path) -> set[int]:
    """The processes that run trials."""
    store = Store(root / ".vitnas")
    return {int(holder.split()[1]) for folder in store.trials.glob("*") if (holder := store.holder(folder.name))}


def parent(process: int) -> int:
    """Of a worker, its raylet; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.full
def test_a_node_that_joins_is_used_and_its_loss_changes_nothing(cluster: Any, calm: Path, tmp_path: Path) -> None:
    """A third node joins a sweep and is killed in the middle of a trial, which goes on elsewhere from its last epoch."""
    (tmp_path / "study.yaml").write_text(STUDY)
    process = start("sweep", "study.yaml", "--address", cluster.address, cwd=tmp_path)
    until(process, lambda: running(tmp_path))
    node = cluster.add_node(**cluster.node)
    try:
        raylet = node.all_processes["raylet"][0].process.pid
        lost = until(process, lambda: [t for t, p in running(tmp_path).items() if parent(p) == raylet])[0]
    finally:
        cluster.remove_node(node, allow_graceful=False)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0 and f"{TRIALS} trials trained" in output and "its worker was lost" in output, output

    store = Store(tmp_path / ".vitnas")
    results = {p.parent.name: json.loads(p.read_text()) for p in store.trials.glob("*/result.json")}
    assert len(results) == TRIALS and {t: r["attempts"] for t, r in results.items()} == {t: 1 + (t == lost) for t in results}
    events = results[lost]["events"]
    assert "lost in attempt 1" in events and any(e.startswith("continued after epoch") for e in events), events
    assert all([r["epoch"] for r in store.curve(t)] == list(range(1, EPOCHS + 1)) for t in results)
    assert report(tmp_path) == report(calm)
    for path in (calm / ".vitnas" / "trials").glob("*/weights.safetensors"):
        assert path.read_bytes() == (store.trial_folder(path.parent.name) / path.name).read_bytes()


@pytest.mark.full
def test_a_worker_saves_before_it_ends_and_is_not_replaced_for_ever(cluster: Any, tmp_path: Path) -> None:
    """SIGTERM: the epoch is saved first. With one retry, the next loss is a failure that status and logs explain; the command goes on."""
    (tmp_path / "study.yaml").write_text(STUDY.replace("steps: depthwise", "steps: none").replace("seeds: 2", "seeds: 1"))
    process = start("sweep", "study.yaml", "--address", cluster.address, "--max-retries", "1", cwd=tmp_path)
    ((trial, worker),) = until(process, lambda: running(tmp_path)).items()
    os.kill(worker, signal.SIGTERM)
    (second,) = until(process, lambda: {p for p in running(tmp_path).values() if p != worker})
    os.kill(second, signal.SIGKILL)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 3 and "its worker died 2 times" in output, output

    status = vitnas("status", cwd=tmp_path).stdout
    assert f"trial {trial} failed: its worker died 2 times" in status and "0 of 1 trials done; about " in status, status
    assert "1 trials trained" in vitnas("sweep", "study.yaml", "--address", cluster.address, cwd=tmp_path).stdout
    assert "done" in vitnas("status", cwd=tmp_path).stdout
    log = vitnas("logs", trial[:6], cwd=tmp_path).stdout.splitlines()
    told = [line for line in log if not line.startswith("epoch")]
    assert told[1].startswith("attempt 1") and told[2].startswith("left after epoch") and told[3].startswith("attempt 2"), log
    assert "lost in attempt 2" in told and log[-1].startswith("complete on") and len(log) - len(told) == EPOCHS, log


@pytest.mark.full
def test_a_search_trains_on_all_nodes_and_measures_on_the_quiet_one(cluster: Any, tmp_path: Path) -> None:
    """Networks are measured on the node with the resource `latency` alone, and trained on both of the others."""
    quiet = cluster.add_node(**cluster.node | {"num_cpus": 0, "resources": {"latency": 1}})
    away = quiet.all_processes["raylet"][0].process.pid
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", BRIEFLY, *SEARCH, "--address", cluster.address],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        raylets: set[int] = set()
        until(process, lambda: len(raylets.update(parent(p) for p in holders(tmp_path)) or raylets - {0}) >= 2)
        output, _ = process.communicate(timeout=400)
    finally:
        cluster.remove_node(quiet)
    assert process.returncode == 0, output
    assert "networks on the node with latency" in output and "on this machine" not in output, output
    assert away not in raylets
    store = Store(tmp_path / ".vitnas")
    found = json.loads((store.studies / "s" / "report.json").read_text())
    assert found["trained"] == 4 and found["winner"] and len(list(store.trials.glob("*/result.json"))) >= 5
    assert list((store.root / "readings").rglob("*.json*"))


def test_what_no_node_can_take_is_refused_at_once(cluster: Any, tmp_path: Path) -> None:
    """More CPUs than any node has, a GPU where there is none, several GPUs, a driver that is no node."""
    (tmp_path / "study.yaml").write_text(STUDY)
    for options, said in (
        (["--cpus-per-trial", "2"], "a trial takes 2 CPUs and 0 GPUs of one node, and none has them (there are nodes with 1 CPUs"),
        (["--gpus-per-trial", "0.5"], "a trial takes 1 CPUs and 0.5 GPUs of one node, and none has them"),
        (["--gpus-per-trial", "2"], "gpus-per-trial: 2: a trial trains on one GPU or on a part of one"),
    ):
        done = vitnas("sweep", "study.yaml", "--address", cluster.address, *options, cwd=tmp_path, check=1)
        assert said in done.stderr, done.stderr
    assert "run the driver on a node" in vitnas("sweep", "study.yaml", "--address", "ray://127.0.0.1:1", cwd=tmp_path, check=1).stderr


@pytest.mark.skipif(subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0, reason="mount namespaces need root")
def test_a_node_that_sees_another_store_is_refused(cluster: Any, tmp_path: Path) -> None:
    """A node on which another disk is mounted where the store is."""
    (tmp_path / "study.yaml").write_text(STUDY)
    store = tmp_path / ".vitnas"
    store.mkdir()
    program = [sys.executable, "-c", NODE, cluster.address, json.dumps(cluster.node)]
    node = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {store} && exec "$@"', "sh", *program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert node.stdout and node.stdout.readline() == "joined\n"
        done = vitnas("sweep", "study.yaml", "--address", cluster.address, cwd=tmp_path, check=1)
        assert "does not see the driver's store at" in done.stderr and not list((store / "trials").glob("*/curve.jsonl")), done.stderr
        assert not list((store / "probes").iterdir())
    finally:
        node.communicate("leave\n", timeout=60)
