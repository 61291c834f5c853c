"""The host's gate between trainings and measurements, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from vitnas.studies.gate import GateClosed, measuring, training
from vitnas.studies.training.run_trial import How, run_trial

from .test_run_trial import data, make, store_at

__all__ = ["data"]  # the fixture

EPOCHS = """
import sys, time
from pathlib import Path
from vitnas.studies.gate import training
log = Path(sys.argv[1]).open("w", buffering=1)
while not Path("stop").exists():
    with training():
        print(time.monotonic(), file=log)
        time.sleep(float(sys.argv[2]))
        print(time.monotonic(), file=log)
"""
HOLD = """
import sys, time
from vitnas.studies import gate
with getattr(gate, sys.argv[1])():
    print("in", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A host of our own (a temporary folder for its locks), and how to start processes on it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    processes: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", code, *arguments], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def spans(log: Path) -> list[tuple[float, float]]:
    """From when to when each epoch in a log went; one that is not at its end is left out."""
    times = [float(line) for line in log.read_text().splitlines()] if log.exists() else []
    return list(zip(times[::2], times[1::2], strict=False))


def test_trainings_share_the_gate_and_a_measuring_has_it_alone(host: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    """Three trainings whose epochs overlap without end: a measuring gets its turn again and again, no epoch runs beside it, the trainings
    go on after it and run beside each other."""
    logs = [tmp_path / f"log-{i}" for i in range(3)]
    trainings = [host(EPOCHS, str(log), str(0.05 + 0.02 * i)) for i, log in enumerate(logs)]
    measured = [(0.0, 0.0)]
    for _ in range(5):
        while not all(epochs and epochs[-1][0] > measured[-1][1] for epochs in map(spans, logs)):
            assert all(p.poll() is None for p in trainings)
            time.sleep(0.01)
        with measuring(60):
            start = time.monotonic()
            time.sleep(0.1)
            measured.append((start, time.monotonic()))
    (tmp_path / "stop").touch()
    assert [p.wait() for p in trainings] == [0, 0, 0]
    epochs = [spans(log) for log in logs]
    for low, high in measured:
        assert all(end <= low or start >= high for own in epochs for start, end in own)
    assert any(a < d and c < b for a, b in epochs[0] for c, d in epochs[1])


def test_whoever_is_killed_lets_go(host: Callable[..., subprocess.Popen[str]]) -> None:
    """kill -9 inside of an epoch or of a measuring frees the gate."""
    for how in ("training", "measuring"):
        holder = host(HOLD, how)
        assert first_line(holder) == "in\n"
        with pytest.raises(GateClosed):
            measuring(0).__enter__()
        holder.kill()
        holder.wait()
        with measuring(60):
            pass
        with training():
            pass


def test_a_process_forked_inside_an_epoch_does_not_keep_the_gate(host: Callable[..., subprocess.Popen[str]]) -> None:
    """A worker that outlives the epoch it was started in holds nothing."""
    code = (
        "import os, time; from vitnas.studies.gate import training\n"
        "with training():\n    child = os.fork()\n    if not child:\n        time.sleep(60)\n"
        "print(child, flush=True); time.sleep(60)"
    )
    child = int(first_line(host(code)))
    try:
        with measuring(0):
            pass
    finally:
        os.kill(child, 9)


def test_patience_ends_in_one_line(host: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The line tells what goes on and what to do; whoever waits is told so, now and then again."""
    for how, what, waits in (
        ("training", "a training on this host is in the middle of an epoch (waited 0 s", "the trainings on this host to end their epochs"),
        ("measuring", "another process is measuring on this host (waited 0 s", "another measuring"),
    ):
        holder = host(HOLD, how)
        first_line(holder)
        said: list[str] = []
        with pytest.raises(GateClosed) as error:
            measuring(0.3, say=said.append).__enter__()
        assert str(error.value).startswith(what) and "measure when it has ended, or on another machine" in str(error.value)
        assert said == [f"waiting for {waits}"]
        with monkeypatch.context() as often, pytest.raises(GateClosed):
            often.setattr("vitnas.studies.gate.REMIND", 0.1)
            measuring(0.5, say=said.append).__enter__()
        assert len(said) >= 3 and len(set(said)) == 1
        holder.kill()
        holder.wait()


def test_a_training_waits_while_something_is_measured(host: Callable[..., subprocess.Popen[str]], tmp_path: Path, data: Path) -> None:
    """run_trial trains and scores nothing while the gate is held, and ends as usual when it is free."""
    store, trial = store_at(tmp_path / "store"), make(data, "none", epochs=2)
    folder = store.add(trial)
    code = (
        "import sys; from pathlib import Path; from vitnas.studies.store import Store; from vitnas.studies.training.run_trial import *\n"
        "s = Store(sys.argv[1]); print('go', flush=True); run_trial(s, s.trial(sys.argv[2]), Path(sys.argv[3]), How())"
    )
    with measuring():
        process = host(code, str(store.root), trial.id, str(data))
        first_line(process)
        while not (folder / "events.json").exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(1.5)
        assert not store.curve(trial.id) and process.poll() is None
    assert process.wait() == 0 and len(store.curve(trial.id)) == 2


@pytest.mark.parametrize("rung", [{}, {"schedule": "wsd", "cooldown": 0.34, "horizon": 6}], ids=["whole", "rung"])
def test_epochs_are_told_beyond_the_gate(
    host: Callable[..., subprocess.Popen[str]], tmp_path: Path, data: Path, rung: dict[str, object]
) -> None:
    """Who listens to a training may measure meanwhile: a driver that waited for the gate inside would wait without end."""
    store, trial = store_at(tmp_path / "store"), make(data, **rung)  # type: ignore[arg-type]
    store.add(trial)
    told: list[int] = []

    def listen(record: dict[str, object]) -> None:
        with measuring(patience=0.0):
            told.append(cast("int", record["epoch"]))

    run_trial(store, trial, data, How(), on_epoch=listen)
    assert told == [1, 2, 3]


def test_latency_says_that_the_host_is_busy(host: Callable[..., subprocess.Popen[str]]) -> None:
    """The error of the latency lane, for a training as for another measuring, also one that came with a bundle."""
    from vitnas.studies.latency.measure import host_to_itself
    from vitnas.studies.latency.quiet import HostBusy

    holder = host(HOLD, "training")
    first_line(holder)
    with pytest.raises(HostBusy, match="in the middle of an epoch"):
        host_to_itself(0, print).__enter__()
    holder.kill()
    holder.wait()
    bundle = host("from vitnas.studies.latency.quiet import alone; import time\nwith alone(): print('in', flush=True); time.sleep(60)")
    first_line(bundle)
    with pytest.raises(HostBusy, match="is measuring on this host"):
        host_to_itself(0, print).__enter__()
    bundle.kill()
    bundle.wait()
    with host_to_itself(60, print):
        pass
