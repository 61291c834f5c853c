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
PATIENCE = FAST | {"gcs_rpc_server_reconnect_timeout_s": 5}  # of a host with the head that it no longer hears
ENV = {"VITNAS_LEASE_SECONDS": "6", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-the-tests-of-two-hosts", "OMP_NUM_THREADS": "1"}
pytestmark = pytest.mark.skipif(bool(why := why_no_hosts()), reason=why)


def ray_start(host: Host, *options: str, cwd: Path) -> subprocess.Popen[str]:
    """A node with one CPU on the host, as docs/cluster.md starts it; gives the process once the node is there."""
    common = ["--node-ip-address", host.address, "--num-cpus", "1", "--object-store-memory", str(80 * 2**20), "--disable-usage-stats"]
    process = host.start("-m", "ray.scripts.scripts", "start", *options, *common, "--block", cwd=cwd)
    assert process.stdout
    said: list[str] = []
    while "Ray runtime started" not in "".join(said):
        said.append(process.stdout.readline())
        assert said[-1], "".join(said)
    return process


@pytest.mark.full
def test_a_cut_link_between_two_hosts_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Both hosts work; one is cut off in the middle of a trial, which the other one takes over; it comes back and works again."""
    (tmp_path / "study.yaml").write_text(STUDY)
    store = Store(tmp_path / ".vitnas")
    store.prepare()
    store.declare_shared()
    short = Path(tempfile.mkdtemp(prefix="v-", dir="/tmp"))  # sockets have short names

    def at_work(host: Host) -> list[str]:
        """The trials that are half done on the host."""
        running = [p.parent.name for p in store.trials.glob("*/checkpoint.pt") if store.result(p.parent.name) is None]
        return [t for t in running if store.holder(t).endswith(f" on {host.name}") and len(store.curve(t)) < 6]

    try:
        with two_hosts(short, ENV) as (one, other, link):
            options = ["--head", "--port", "6379", "--include-dashboard", "false", "--system-config", json.dumps(PATIENCE)]
            ray_start(one, *options, cwd=tmp_path)
            node = ray_start(other, "--address", f"{one.address}:6379", cwd=tmp_path)
            driver = one.start("-m", "vitnas.cli", "sweep", "study.yaml", "--address", f"{one.address}:6379", cwd=tmp_path)
            until(driver, lambda: at_work(one))
            (cut_off, *_) = until(driver, lambda: at_work(other))
            link.cut()
            until(driver, lambda: store.result(cut_off) or store.holder(cut_off).endswith(f" on {one.name}"))
            link.restore()
            node.wait(timeout=60)  # it was given up, and knows
            node = ray_start(other, "--address", f"{one.address}:6379", cwd=tmp_path)
            until(driver, lambda: at_work(other))
            output, _ = driver.communicate(timeout=200)
    finally:
        shutil.rmtree(short, ignore_errors=True)
    assert driver.returncode == 0 and f"{TRIALS} trials trained" in output and "its worker was lost" in output, output
    finished = check_store(store)
    told = report(tmp_path)
    assert len(finished) == TRIALS == told["rows"][0]["n"] == told["scorings"]
    results = store.results(finished)
    assert {r.execution.host for r in results.values()} == {one.name, other.name}
    assert results[cut_off].attempts == 2
