"""Sweeps on a real Ray cluster of several nodes on this machine: nodes join, are killed, and the study ends as if none had been."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vitnas.studies.store import Store, read_json

from .command import environment, start, vitnas, vitnas_local
from .ray_cluster import driving, halfway, holders, lose, parent, ray_cluster, raylet, report, until
from .witness import check_store

EPOCHS, TRIALS = 8, 4
STUDY = f"kind: roadmap\nname: s\nsteps: depthwise\nepochs: {EPOCHS}\ndata-fraction: 0.2\nset: {{batch-size: 32}}\nseeds: 2\n"
LONG = STUDY.replace(f"epochs: {EPOCHS}", "epochs: 30")
SEARCH = ["search", "--name", "s", "--trials", "4", "--pool", "6", "--published", "none", "--epochs", "4", "--data-fraction", "0.2"]
SEARCH += ["--set", "batch-size=32", "--seeds", "1", "--finalists", "1", "--objectives", "accuracy,latency"]
BRIEFLY = """
import math
from vitnas.cli import main
from vitnas.studies.latency.protocol import ANY_LOAD, Effort
from vitnas.studies.running import search
brief = Effort(seconds=0.1, processes=1, allocations=1, extend=0, settle=0.0, energy=False, **ANY_LOAD)
search.effort_of, search.WIDEST = lambda study: brief, math.inf
main()
"""  # the command line, which measures briefly and on a busy host too
JOIN = """
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
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """Gives the folder in which the study was run in one process, and nothing happened; it runs meanwhile."""
    root = tmp_path_factory.mktemp("calm")
    (root / "study.yaml").write_text(STUDY + "executor: local\n")
    process = start("sweep", "study.yaml", cwd=root)

    def done() -> Path:
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0 and f"{TRIALS} trials trained" in output, output
        return root

    yield done
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes with one CPU each."""
    with ray_cluster(head=1, others=1) as made:
        yield made


def test_a_node_is_lost_and_the_report_is_that_of_one_calm_process(calm: Callable[[], Path], cluster: Any, tmp_path: Path) -> None:
    """A third node is killed with a trial half done, which goes on elsewhere from its last epoch. All trials complete, none twice, with
    the very weights and, but for times, hosts and attempts, the very report of a single machine that nothing happened to."""
    (tmp_path / "study.yaml").write_text(STUDY)
    node = cluster.add_node(**cluster.node)
    with driving(tmp_path, cluster) as driver:
        try:
            lost = until(driver, lambda: [t for t, p in halfway(tmp_path).items() if parent(p) == raylet(node)])[0]
        finally:
            lose(cluster, node)
        output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0 and f"{TRIALS} trials trained" in output and "its worker was lost" in output, output

    store = Store(tmp_path / ".vitnas")
    finished = check_store(store)
    assert {t: r.attempts for t, r in store.results(finished).items()} == {t: 1 + (t == lost) for t in finished}
    assert len(finished) == TRIALS
    (told,) = (e for e in read_json(store.trial_folder(lost) / "events.json") if e.startswith("continued after epoch "))
    assert 1 <= int(told.split()[-1]) < EPOCHS
    undisturbed = calm()
    assert report(tmp_path) == report(undisturbed)
    for path in (undisturbed / ".vitnas" / "trials").glob("*/weights.safetensors"):
        assert path.read_bytes() == (store.trial_folder(path.parent.name) / path.name).read_bytes()


@pytest.mark.full
def test_a_node_that_joins_is_used(cluster: Any, tmp_path: Path) -> None:
    """A third node joins a sweep when that is running, and takes trials of it, though the others end some while its worker starts."""
    (tmp_path / "study.yaml").write_text(STUDY.replace("seeds: 2", "seeds: 20"))
    with driving(tmp_path, cluster) as driver:
        until(driver, lambda: halfway(tmp_path))
        node = cluster.add_node(**cluster.node)
        try:
            until(driver, lambda: [t for t, p in holders(tmp_path).items() if parent(p) == raylet(node)])
            output, _ = driver.communicate(timeout=200)
        finally:
            cluster.remove_node(node)
    assert driver.returncode == 0 and "40 trials trained" in output and "2 at a time" in output, output


@pytest.mark.full
def test_a_new_driver_leaves_a_trial_to_the_worker_that_still_runs_it(cluster: Any, tmp_path: Path) -> None:
    """A node hears nothing more of its cluster, while its worker goes on. The driver is killed and started anew at once: it runs all other
    trials, and takes that one up only when the old worker has ended."""
    (tmp_path / "study.yaml").write_text(STUDY)
    results = tmp_path / ".vitnas" / "trials"
    node = cluster.add_node(**cluster.node)
    try:
        with driving(tmp_path, cluster) as first:
            trial, worker = until(first, lambda: [(t, p) for t, p in halfway(tmp_path).items() if parent(p) == raylet(node)])[0]
            os.kill(raylet(node), signal.SIGSTOP)
        with driving(tmp_path, cluster) as second:
            until(second, lambda: len(list(results.glob("*/result.json"))) == TRIALS - 1)
            assert holders(tmp_path) == {trial: worker} and parent(worker) == raylet(node)
            assert len(check_store(Store(tmp_path / ".vitnas"))) == TRIALS - 1
            assert sum(e.startswith("attempt") for e in read_json(results / trial / "events.json")) == 1
            lose(cluster, node)
            output, _ = second.communicate(timeout=200)
    finally:
        if node in cluster.worker_nodes:
            lose(cluster, node)
    assert second.returncode == 0 and "trials trained" in output, output
    store = Store(tmp_path / ".vitnas")
    finished = check_store(store)
    assert len(finished) == TRIALS and store.results([trial])[trial].attempts == 2


@pytest.mark.full
def test_a_worker_saves_before_it_ends_and_is_not_replaced_for_ever(cluster: Any, tmp_path: Path) -> None:
    """SIGTERM: the epoch is saved first. With one retry, the next loss is a failure that status and logs explain; the command goes on."""
    (tmp_path / "study.yaml").write_text(LONG.replace("steps: depthwise", "steps: none").replace("seeds: 2", "seeds: 1"))
    with driving(tmp_path, cluster, "--max-retries", "1") as driver:
        ((trial, worker),) = until(driver, lambda: halfway(tmp_path)).items()
        os.kill(worker, signal.SIGTERM)
        (second,) = until(driver, lambda: {p for p in halfway(tmp_path).values() if p != worker})
        os.kill(second, signal.SIGKILL)
        output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 3 and "its worker died 2 times" in output, output

    status = vitnas("status", cwd=tmp_path).stdout
    assert f"trial {trial} failed: its worker died 2 times" in status and "0 of 1 trials done; about " in status, status
    assert "1 trials trained" in vitnas("sweep", "study.yaml", "--address", cluster.address, cwd=tmp_path).stdout
    assert "done" in vitnas("status", cwd=tmp_path).stdout
    log = vitnas("logs", trial[:6], cwd=tmp_path).stdout.splitlines()
    told = [line for line in log if not line.startswith("epoch")]
    assert told[1].startswith("attempt 1") and told[2].startswith("left after epoch") and told[3].startswith("attempt 2"), log
    assert "lost in attempt 2" in told and log[-1].startswith("complete on") and len(log) - len(told) == 30, log


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

        def both() -> bool:
            raylets.update(parent(p) for p in holders(tmp_path).values())
            return len(raylets - {0}) >= 2

        until(process, both)
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
    """More CPUs than any node has, GPUs where there are none, one and a half; a driver that has no token or is no node, and what is no
    cluster's address."""
    (tmp_path / "study.yaml").write_text(STUDY)
    for options, said in (
        (["--cpus-per-trial", "2"], "a trial takes 2 CPUs and 0 GPUs of one node, and none has them (there are nodes with 1 CPUs"),
        (["--gpus-per-trial", "0.5"], "a trial takes 1 CPUs and 0.5 GPUs of one node, and none has them"),
        (["--gpus-per-trial", "2"], "a trial takes 2 processes, each with 1 CPUs and 1 GPUs of one node, and there is no room for all"),
        (["--gpus-per-trial", "1.5"], "gpus-per-trial: 1.5: a trial trains on a part of one GPU, on one, or on several whole ones"),
    ):
        done = vitnas("sweep", "study.yaml", "--address", cluster.address, *options, cwd=tmp_path, check=1)
        assert said in done.stderr, done.stderr
    measuring = ["search", "--latency-threads", "1000", "--address", cluster.address]
    done = vitnas(*measuring, cwd=tmp_path, check=1)
    assert "latency-threads: 1000 are asked for" in done.stderr and "use --latency-threads" in done.stderr, done.stderr
    assert not (tmp_path / ".vitnas" / "studies").exists()  # before anything else
    stranger = {"HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}
    done = vitnas("sweep", "study.yaml", "--address", cluster.address, cwd=tmp_path, check=1, env=stranger)
    assert "see that RAY_AUTH_MODE and the token (~/.ray/auth_token) here are the cluster's" in done.stderr, done.stderr
    for address in ("local", "127.0.0.1", "http://127.0.0.1:8265"):
        done = vitnas_local("sweep", "study.yaml", "--address", address, cwd=tmp_path, check=1)
        assert f"address: '{address}' is no cluster's: write HOST:PORT" in done.stderr, done.stderr
    assert "run the driver on a node" in vitnas_local("sweep", "study.yaml", "--address", "ray://127.0.0.1:1", cwd=tmp_path, check=1).stderr


@pytest.mark.skipif(subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0, reason="mount namespaces need root")
def test_a_node_that_sees_another_store_is_refused(cluster: Any, tmp_path: Path) -> None:
    """A node on which another disk is mounted where the store is."""
    (tmp_path / "study.yaml").write_text(STUDY)
    store = tmp_path / ".vitnas"
    store.mkdir()
    program = [sys.executable, "-c", JOIN, cluster.address, json.dumps(cluster.node)]
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
