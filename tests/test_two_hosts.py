"""A sweep on two hosts with a cable between them, which is pulled and plugged in again."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from vitnas.studies.store import Store

from .hosts import Host, two_hosts, why_no_hosts
from .ray_cluster import FAST, report, until
from .witness import check_store

TRIALS = 24
STUDY = f"kind: roadmap\nname: s\nsteps: none\nepochs: 10\ndata-fraction: 0.2\nset: {{batch-size: 32}}\nseeds: {TRIALS}\n"
ENV = {"VITNAS_LEASE_SECONDS": "6", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-the-tests-of-two-hosts", "OMP_NUM_THREADS": "1"}
pytestmark = pytest.mark.skipif(bool(why := why_no_hosts()), reason=why)


def ray_start(host: Host, *options: str, log: Path) -> subprocess.Popen[bytes]:
    """A node with one CPU on the host, as docs/cluster.md starts it; gives the process once the node is there."""
    common = ["--node-ip-address", host.address, "--num-cpus", "1", "--object-store-memory", str(80 * 2**20), "--disable-usage-stats"]
    process = host.start("-m", "ray.scripts.scripts", "start", *options, *common, "--block", cwd=log.parent, log=log)
    until(process, lambda: "Ray runtime started" in log.read_text())
    return process


@pytest.mark.full
def test_a_cut_link_between_two_hosts_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Both hosts work; one is cut off in the middle of a trial and given up. The trial is its own as long as its worker lives, which ends
    when the link is back, and goes on elsewhere then; the host joins again, and works."""
    (tmp_path / "study.yaml").write_text(STUDY)
    store = Store(tmp_path / ".vitnas")
    store.prepare()
    store.declare_shared()
    said = tmp_path / "driver.txt"
    short = Path(tempfile.mkdtemp(prefix="v-", dir="/tmp"))  # sockets have short names

    def at_work(host: Host) -> list[str]:
        """The trials that are half done on the host."""
        running = [p.parent.name for p in store.trials.glob("*/checkpoint.pt") if store.result(p.parent.name) is None]
        return [t for t in running if store.holder(t).endswith(f" on {host.name}") and len(store.curve(t)) < 6]

    try:
        with two_hosts(short, ENV) as (one, other, link):
            options = ["--head", "--port", "6379", "--include-dashboard", "false", "--system-config", json.dumps(FAST)]
            ray_start(one, *options, log=tmp_path / "head.txt")
            join = ["--address", f"{one.address}:6379"]
            node = ray_start(other, *join, log=tmp_path / "node.txt")
            driver = one.start("-m", "vitnas.cli", "sweep", "study.yaml", *join, cwd=tmp_path, log=said)
            until(driver, lambda: at_work(one))
            (cut_off, *_) = until(driver, lambda: at_work(other))
            link.cut()
            until(driver, lambda: "its worker was lost" in said.read_text())
            assert store.holder(cut_off).endswith(f" on {other.name}")  # which has heard of nothing, and reaches the store
            link.restore()
            node.wait(timeout=60)  # it is told that it was given up
            ray_start(other, *join, log=tmp_path / "again.txt")
            until(driver, lambda: set(at_work(other)) - {cut_off})
            assert driver.wait(timeout=200) == 0, said.read_text()
    finally:
        shutil.rmtree(short, ignore_errors=True)
    assert f"{TRIALS} trials trained" in said.read_text()
    finished = check_store(store)
    told = report(tmp_path)
    assert len(finished) == TRIALS == told["rows"][0]["n"] == told["scorings"]
    results = store.results(finished)
    assert {r.execution.host for r in results.values()} == {one.name, other.name}
    assert results[cut_off].attempts == 2
