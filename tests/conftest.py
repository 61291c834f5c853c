"""What several test files look at and takes long to make."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from vitnas.studies.store import Store

from .command import PRIORITY, SMALL, start
from .listeners import Listener, family, listeners

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if WORKER:  # a temporary folder each: tests of two files would wait for each other at the host's gate
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix=f"vt-{WORKER}-")
    at_once = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // at_once)))  # more would wait for each other's cores
os.environ.update(PRIORITY)


def pytest_unconfigure() -> None:
    """Remove the worker's temporary folder."""
    if WORKER:
        shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)


MARK = "STUDY_OF_THE_TESTS"
STUDY = ["roadmap", "--steps", "depthwise", *SMALL]


@dataclass(frozen=True)
class Roadmap:
    """The folder in which a small roadmap was run on Ray and the home folder it ran with, who listened for others while it ran, and the
    modes that the file of Ray's token had."""

    root: Path
    home: Path
    listeners: set[Listener]
    token_modes: set[str]


@pytest.fixture(scope="session")
def on_ray(tmp_path_factory: pytest.TempPathFactory) -> Roadmap:
    """A roadmap of two arms with two seeds: Ray's servers and workers, Tune, MLflow and the driver."""
    root = tmp_path_factory.mktemp("run")
    home = tmp_path_factory.mktemp("home")
    run = start(*STUDY, "--seeds", "2", cwd=root, env={MARK: str(root), "HOME": str(home)}, bare=True)
    seen: set[Listener] = set()
    modes: set[str] = set()
    while run.poll() is None:
        modes |= {oct(path.stat().st_mode & 0o777) for path in home.glob(".ray/auth_token")}
        seen |= listeners(family(run.pid, f"{MARK}={root}"))
        time.sleep(0.5)
    output = run.stdout.read() if run.stdout else ""
    assert run.returncode == 0 and "4 trials trained, 0 known before" in output, output
    return Roadmap(root, home, seen, modes)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store, and a lock of its own in place of the host's."""
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "locks"))
    made = Store(tmp_path / "store")
    made.prepare()
    return made
