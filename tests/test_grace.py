"""What is told to end lets its trials end their epoch and save: a node, and a whole Slurm job, whose script runs as it is."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vitnas.studies.running.runner import QUIET
from vitnas.studies.store import Store

from .command import environment
from .test_launchers import SBATCH

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(
        shutil.which("ip") is None or subprocess.run(["unshare", "--net", "true"], check=False, capture_output=True).returncode != 0,
        reason="a network of its own needs root and iproute2",
    ),
]
EPOCHS = 150
STUDY = f"kind: roadmap\nname: s\nsteps: depthwise\nepochs: {EPOCHS}\ndata-fraction: 0.3\nset: {{batch-size: 32}}\nseeds: 1\n"
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
exec "$@"
"""  # on one machine: without its own options, the command
SCONTROL = """#!/bin/bash
case $1 in show) echo localhost ;; requeue) echo "$2" >> requeued ;; esac
"""


def start(cwd: Path, *command: str, env: dict[str, str]) -> subprocess.Popen[str]:
    """Start a command in a network of its own, which has a loopback and nothing else."""
    own = {"PATH": f"{cwd / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(cwd), "OMP_NUM_THREADS": "1"}
    own |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}  # several nodes
    return subprocess.Popen(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command],
        cwd=cwd,
        stdout=(cwd / "log").open("a"),
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(QUIET | own | env),
        start_new_session=True,
    )


def until(process: subprocess.Popen[str], log: Path, found: Callable[[], Any]) -> Any:
    """What `found` gives, as soon as it is something."""
    deadline = time.monotonic() + 300
    while not (what := found()):
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    return what


def begun(store: Path, epochs: int) -> list[str]:
    """The trials that have ended so many epochs."""
    return [p.parent.name for p in store.glob("trials/*/curve.jsonl") if len(p.read_text().splitlines()) >= epochs]


def events(store: Path) -> dict[str, list[str]]:
    """What befell the trials."""
    return {p.parent.name: json.loads(p.read_text()) for p in store.glob("trials/*/events.json")}


def node_of(job: subprocess.Popen[str]) -> int:
    """The process of the job's second node."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    (found,) = (int(c) for c in children if b"--block\0--address" in Path(f"/proc/{c}/cmdline").read_bytes())
    return found


def test_a_slurm_job_that_is_told_of_its_end_saves_and_is_queued_again(tmp_path: Path) -> None:
    """Slurm's own script on two nodes, with Slurm's commands as one machine has them: after the signal every trial leaves at the end of an
    epoch and the job is queued again; the same script then ends the study, though its second node is told to end, and loses no epoch."""
    (tmp_path / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "study.yaml").write_text(STUDY)
    store, number = tmp_path / "store", str(os.getpid())
    job = {"SLURM_JOB_ID": number, "SLURM_JOB_NODELIST": "localhost", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "1"}
    job |= {"VITNAS_STORE": str(store), "VITNAS_HEAD_IP": "127.0.0.1"}
    command = ["bash", str(SBATCH), "study.yaml"]
    jobs = [first := start(tmp_path, *command, env=job)]
    try:
        until(first, tmp_path / "log", lambda: len(begun(store, 2)) == 2)
        first.send_signal(signal.SIGUSR1)
        code = first.wait(timeout=200)
        log = (tmp_path / "log").read_text()
        assert code != 0 and (tmp_path / "requeued").read_text().split() == [number], log
        left = events(store)
        assert len(left) == 2 and all(e[-1].startswith("left after epoch") for e in left.values()), f"{left}\n{log}"
        assert oct((tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777) == "0o600"

        jobs.append(second := start(tmp_path, *command, env=job))
        before = {t: len(Store(store).curve(t)) for t in left}
        until(second, tmp_path / "log", lambda: all(len(Store(store).curve(t)) >= before[t] + 2 for t in left))
        os.kill(node_of(second), signal.SIGTERM)
        assert second.wait(timeout=300) == 0, (tmp_path / "log").read_text()
        told = events(store)
        assert all(e[: len(left[t])] == left[t] and not any(x.startswith("lost") for x in e) for t, e in told.items()), told
        assert sum(x.startswith("left after epoch") for e in told.values() for x in e) == 3, told
        assert all([r["epoch"] for r in Store(store).curve(t)] == list(range(1, EPOCHS + 1)) for t in told)
        assert (tmp_path / "requeued").read_text().split() == [number]
    finally:
        for process in jobs:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        shutil.rmtree(f"/tmp/ray-{number}", ignore_errors=True)
