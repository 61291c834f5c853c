"""Sweeps on a real Ray cluster whose drivers, workers and nodes are killed with -9, again and again, at moments that a seed chooses."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vitnas.studies.store import Store

from .command import start
from .ray_cluster import holders, lose, ray_cluster, raylet
from .witness import Prints, check_store

STUDY = "kind: roadmap\nname: s\nsteps: none\nepochs: 4\ndata-fraction: 0.1\nset: {{batch-size: 32}}\nseeds: {seeds}\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster whose head trains nothing, with two nodes of one CPU."""
    with ray_cluster(head=0, others=2) as made:
        yield made


class Storm:
    """A sweep under kills. It grows by further seeds whenever it ends before the storm does."""

    def __init__(self, cluster: Any, root: Path, seed: int) -> None:
        self.cluster, self.root, self.random, self.seeds = cluster, root, random.Random(seed), 0
        self.finished: dict[str, Prints] = {}
        self.driver = self.drive(more=8)

    def drive(self, more: int = 0) -> subprocess.Popen[str]:
        """Start a driver, of a study with so many more seeds."""
        self.seeds += more
        (self.root / "study.yaml").write_text(STUDY.format(seeds=self.seeds))
        options = ["--address", self.cluster.address, "--wait-for-nodes", "--max-retries", "1000"]
        return start("sweep", "study.yaml", *options, cwd=self.root)

    def workers(self) -> dict[str, int]:
        """The processes that run trials, as soon as there is one."""
        while not (found := holders(self.root)):
            if self.driver.poll() is not None:
                self.end(self.driver)
                self.driver = self.drive(more=8)
            time.sleep(0.05)
        return found

    def kill(self, what: str) -> None:
        """Kill one, at a random moment while trials run (a driver also before), see to the store, and bring back what was killed."""
        if what != "driver" or self.random.random() < 0.7:
            self.workers()
        time.sleep(self.random.uniform(0.0, 1.0))
        if what == "driver":
            self.driver.kill()
            self.driver.communicate()
        elif what == "worker":
            os.kill(self.random.choice(sorted(self.workers().values())), signal.SIGKILL)
        else:
            node = self.random.choice(sorted(self.cluster.worker_nodes, key=raylet))
            if self.random.random() < 0.5:
                lose(self.cluster, node)
            else:  # its workers live on for a while
                self.cluster.remove_node(node, allow_graceful=False)
            self.cluster.add_node(wait=False, **self.cluster.node)
        self.check()
        if what == "driver":
            self.driver = self.drive()

    def check(self) -> None:
        """The store is whole, and what was finished stays as it was."""
        self.finished = check_store(Store(self.root / ".vitnas"), self.finished)

    def end(self, driver: subprocess.Popen[str]) -> None:
        """A driver that is left alone says that all is done, and so says the store."""
        output, _ = driver.communicate(timeout=200)
        assert driver.returncode == 0 and "trials trained" in output, output
        self.check()
        assert len(self.finished) == self.seeds, output
        store = Store(self.root / ".vitnas")
        assert not [trial for trial in self.finished if store.holder(trial)]


def storm(cluster: Any, root: Path, *, seed: int, kills: int) -> None:
    """So many kills, of each kind a third, in an order that `seed` chooses; then peace. Every trial is done, and none was twice."""
    found = Storm(cluster, root, seed)
    kinds = ["driver", "worker", "node"] * -(-kills // 3)
    found.random.shuffle(kinds)
    try:
        for what in kinds[:kills]:
            found.kill(what)
        found.end(found.driver)
    finally:
        found.driver.kill()
        found.driver.wait()


@pytest.mark.parametrize("kills", [3, pytest.param(6, marks=pytest.mark.full)])
def test_a_few_kills_lose_and_double_nothing(cluster: Any, tmp_path: Path, kills: int) -> None:
    """A driver, a worker and a node, once each or twice."""
    storm(cluster, tmp_path, seed=0, kills=kills)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1, 11))
def test_two_hundred_kills_lose_and_double_nothing(cluster: Any, tmp_path: Path, seed: int) -> None:
    """Twenty for each of ten seeds."""
    storm(cluster, tmp_path, seed=seed, kills=20)
