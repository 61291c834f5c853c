"""How trials run on this machine: memory that does not suffice, compilation, what is asked for and not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vitnas.studies.running.execution import resolve, usable_cpus
from vitnas.studies.study import Study, StudyError

MEMORY = """
import gc, resource, sys
from dataclasses import replace
from pathlib import Path
import torch
from vitnas.roadmap.tracks import track
from vitnas.studies.data.prepare import prepare
from vitnas.studies.recipe import SHORT
from vitnas.studies.training.run_trial import How, run_trial
from vitnas.studies.training.train import MicroBatchTooSmall
from vitnas.studies.store import Store
from vitnas.studies.trial import DataRef, Trial

torch.backends.mkldnn.set_flags(False)  # oneDNN crashes where an allocation fails; torch's own kernels raise
root = Path(sys.argv[1])
store = Store(root)
store.prepare()
prepared = prepare("digits", input_size=64, cache=root / "data")
t = track("convnext-t")
modern = {s.name: s.value for s in t.steps if s.adopted and s.owner == "network"}
batch, layer = (t.spec(steps, scale="micro", input_size=64, classes=10) for steps in ({}, modern))
recipe = replace(SHORT.modern, input_size=64, flip=False, precision="float32", batch_size=512, randaugment=0)
data = DataRef(name="digits", fingerprint=prepared.fingerprint, classes=10, fraction=0.4)
for spec in (batch, layer):
    warm = Trial(network=spec, recipe=replace(recipe, batch_size=8), data=replace(data, fraction=0.02), epochs=1, seed=0)
    run_trial(store, warm, prepared.folder, How(), splits=())
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")) * 1024
resource.setrlimit(resource.RLIMIT_AS, (used + 150 * 2**20, resource.RLIM_INFINITY))
try:
    run_trial(store, Trial(network=batch, recipe=recipe, data=data, epochs=1, seed=0), prepared.folder, How(), splits=())
except MicroBatchTooSmall as error:
    print(error)
gc.collect()
result = run_trial(store, Trial(network=layer, recipe=recipe, data=data, epochs=1, seed=0), prepared.folder, How(), splits=("validation",))
print(result.execution.micro_batch, result.status, [e for e in result.events if "memory" in e])
"""


def test_out_of_memory_shrinks_the_micro_batch_where_that_is_the_same_training(tmp_path: Path) -> None:
    """Under a real limit on memory, a BatchNorm network is refused; a LayerNorm one goes on with smaller micro-batches and says so."""
    env = os.environ | {"MALLOC_ARENA_MAX": "1"}  # a thread's new arena must not be what meets the limit
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    refused, went_on = done.stdout.splitlines()
    assert "would be another training: set norm-batch to 256" in refused
    micro, status, events = went_on.split(maxsplit=2)
    assert int(micro) < 512 and status == "complete" and "out of memory: micro-batch reduced" in events


def test_compilation_falls_back_with_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no compiler exists, --compile is a note and not an error."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("CXX", "no-such-compiler")
    machine = resolve(Study(compile=True, device="cpu"), 4)
    assert not machine.compile and machine.notes == ("torch.compile finds no compiler here: running eagerly",)


def test_more_than_there_is_is_refused() -> None:
    """CPUs that do not exist are counted in the message."""
    cpus = usable_cpus()
    with pytest.raises(StudyError, match=f"this machine has {cpus}: use --threads {cpus}"):
        resolve(Study(threads=cpus + 1), 4)
    assert resolve(Study(), 1).concurrency == 1
    assert resolve(Study(), 100).concurrency == cpus


def test_execution_is_no_part_of_the_study_file_name() -> None:
    """The same study on another machine keeps its folder."""
    assert Study(compile=True, device="cpu").folder_name == Study().folder_name
    assert json.dumps(Study(compile=True).to_dict())
