"""Trials that several processes train: what one process gives, on real processes, here and on a Ray cluster; lost processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vitnas.studies.data.augment import Augment, Part
from vitnas.studies.data.prepare import split
from vitnas.studies.data.prepared import open_prepared
from vitnas.studies.recipe import Recipe
from vitnas.studies.running.executors import run_here
from vitnas.studies.store import Store
from vitnas.studies.training.run_trial import How, run_trial
from vitnas.studies.trial import Trial, TrialResult

from .command import SMALL, start, vitnas, vitnas_here
from .listeners import family, listeners, loopback
from .ray_cluster import report, until
from .test_cluster import cluster
from .test_execution import MEMORY
from .test_run_trial import data, make, outcome, store_at

__all__ = ["cluster", "data"]  # fixtures

PLAIN: dict[str, object] = {"randaugment": 0, "mixup": 0.0, "cutmix": 0.0, "erasing": 0.0, "crop": "none", "label_smoothing": 0.0}
TWO = How(processes=2)


def weights(store: Store, trial: Trial) -> dict[str, torch.Tensor]:
    return load_file(store.trial_folder(trial.id) / "weights.safetensors")


def alone_and_together(tmp_path: Path, trial: Trial, data: Path, processes: int = 2) -> tuple[Store, Store, TrialResult, TrialResult]:
    """`trial` by one process, and by several."""
    one, several = store_at(tmp_path / "one"), store_at(tmp_path / "several")
    return one, several, run_trial(one, trial, data, How()), run_trial(several, trial, data, How(processes=processes))


def agree(one: Store, two: Store, trial: Trial, *, within: float) -> None:
    """All weights and statistics are the same within a tolerance, and the curve is."""
    expected, found = weights(one, trial), weights(two, trial)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=within, rtol=within), (name, (found[name] - value).abs().max())
    for before, after in zip(one.curve(trial.id), two.curve(trial.id), strict=True):
        assert after["loss"] == pytest.approx(before["loss"], rel=1e-4) and after["images"] == before["images"]


def test_two_processes_train_a_layer_norm_network_as_one_does(tmp_path: Path, data: Path) -> None:
    """One epoch without augmentation, the whole batch at once in one process: the same weights within rounding, one trial all the same."""
    trial = make(data, "all", epochs=1, **PLAIN)  # type: ignore[arg-type]
    one, two, before, after = alone_and_together(tmp_path, trial, data)
    agree(one, two, trial, within=2e-4)
    assert (before.execution.processes, before.execution.micro_batch) == (1, 64)
    assert (after.execution.processes, after.execution.micro_batch) == (2, 32)
    assert "processes" not in before.to_dict()["execution"] and TrialResult.from_dict(after.to_dict()) == after
    assert any(e.startswith("attempt 1 on ") and e.endswith(", 2 processes") for e in after.events)


@pytest.mark.parametrize(
    ("processes", "batch_size", "norm_batch"),
    [(2, 64, 16), pytest.param(2, 64, 32, marks=pytest.mark.full), pytest.param(3, 96, 16, marks=pytest.mark.full)],
)
def test_several_processes_train_a_batch_norm_network_as_one_does_that_accumulates(
    tmp_path: Path, data: Path, processes: int, batch_size: int, norm_batch: int
) -> None:
    """One chunk of a batch each, or two, augmented and mixed, with stochastic depth, an average and clipping: weights, average and running
    statistics are those of one process that takes the same chunks one after another."""
    changes: dict[str, object] = {"batch_size": batch_size, "norm_batch": norm_batch, "ema": 0.5, "drop_path": 0.3, "clip_grad": 1.0}
    mixed: dict[str, object] = {"mixup": 0.4, "cutmix": 0.4, "erasing": 0.5}
    sgd: dict[str, object] = {"optimizer": "sgd", "lr": 0.1, "weight_decay": 5e-3}  # AdamW magnifies rounding
    trial = make(data, "none", epochs=1, **changes, **mixed, **sgd)  # type: ignore[arg-type]
    one, several, before, after = alone_and_together(tmp_path, trial, data, processes)
    agree(one, several, trial, within=2e-5)
    assert before.execution.micro_batch == after.execution.micro_batch == norm_batch
    statistics = [name for name in weights(several, trial) if "running_" in name]
    assert statistics and "stem" in " ".join(statistics)


@pytest.mark.parametrize(
    "changes", [{}, {"crop": "resized", "randaugment": 9.0, "flip": True}, {"mixup": 1.0, "crop": "pad"}, {"cutmix": 1.0, "erasing": 0.8}]
)
def test_a_share_is_augmented_as_within_the_whole_batch(data: Path, changes: dict[str, Any]) -> None:
    """Images and targets of each of three shares of a batch of 48, to the bit."""
    prepared = open_prepared(data)
    images, labels = prepared.arrays("train")
    chosen = split(prepared)[0][:48]
    x, y = torch.from_numpy(images[chosen]).permute(0, 3, 1, 2), torch.from_numpy(labels[chosen])
    recipe = Recipe(input_size=32, erasing=0.5, label_smoothing=0.1) if not changes else Recipe(input_size=32, **changes)
    augment = Augment(recipe, mean=prepared.mean, std=prepared.std, classes=10)
    for seed in range(3):
        whole, targets = augment(x.clone(), y, seed=seed)
        for first in (0, 16, 32):
            part = Part(first, 16, 48)
            rows = torch.from_numpy(augment.rows(part))
            own, own_targets = augment(x[rows], y[rows], seed=seed, part=part)
            assert torch.equal(own, whole[first : first + 16]) and torch.equal(own_targets, targets[first : first + 16])


def train(cwd: Path, store: str, *options: str) -> tuple[Store, Trial, set[Any]]:
    """`vitnas train --processes 2` with `options`; gives the store, the trial, and what listened meanwhile."""
    mark = "MARK_OF_THE_DDP_TEST"
    arguments = ["train", "resnet-50-micro", *SMALL, "--set", "norm-batch=16", "--processes", "2", *options, "--store", store]
    process, seen = start(*arguments, cwd=cwd, env={mark: store}), set()
    while process.poll() is None:
        seen |= listeners(family(process.pid, f"{mark}={store}"))
        time.sleep(0.5)
    output = process.stdout.read() if process.stdout else ""
    assert process.returncode == 0 and "1 trials trained" in output, output
    assert "2 processes of 1 thread each" in output and "Warning" not in output, output
    made = Store(cwd / store)
    (path,) = made.trials.glob("*/result.json")
    return made, made.trial(path.parent.name), seen


def test_on_the_command_line_it_is_the_same_trial(tmp_path: Path) -> None:
    """`vitnas train --processes 2`: what one process gives of that trial, within rounding; nothing of it listens beyond loopback."""
    two, trial, seen = train(tmp_path, "two", "--executor", "local")
    one = store_at(tmp_path / "one")
    (folder,) = (path.parent for path in two.data.glob("*/meta.json"))
    run_trial(one, trial, folder, How())
    agree(one, two, trial, within=5e-4)
    assert seen and not {found for found in seen if not loopback(found[2].partition(":")[0])}


@pytest.mark.full
def test_on_a_ray_of_its_own_it_is_the_same_to_the_bit(tmp_path: Path) -> None:
    """Two processes that Ray starts give what two give that the command starts, and listen on loopback alone."""
    here, trial, _ = train(tmp_path, "here", "--executor", "local")
    ray, same, seen = train(tmp_path, "ray", "--executor", "ray")
    assert same == trial and outcome(ray, trial) == outcome(here, trial)
    assert not {found for found in seen if not loopback(found[2].partition(":")[0])}


def peers_of(process: int) -> list[int]:
    """The further processes of a trial that `process` leads here."""
    return [p for p in family(process, "NO_SUCH_MARK") if b"training.peer" in Path(f"/proc/{p}/cmdline").read_bytes()]


@pytest.mark.parametrize(
    "changes", [{}, pytest.param({"schedule": "wsd", "cooldown": 0.25, "horizon": 4}, marks=pytest.mark.full)], ids=["own", "trunk"]
)
def test_a_lost_process_costs_its_epoch_and_nothing_else(tmp_path: Path, data: Path, changes: dict[str, object]) -> None:
    """The second process is killed with -9 after two epochs, also in a trunk: the trial goes on from there with a new one, and ends, to the
    bit, as if nothing had been."""
    trial = make(data, "none", epochs=4, norm_batch=16, ema=0.2, **changes)  # type: ignore[arg-type]
    calm, shaken = store_at(tmp_path / "calm"), store_at(tmp_path / "shaken")
    run_trial(calm, trial, data, TWO)
    lost: list[str] = []

    def kill(record: dict[str, Any]) -> None:
        if record["epoch"] == 2 and not lost:
            (peer,) = peers_of(os.getpid())
            os.kill(peer, signal.SIGKILL)

    result = run_here(shaken, trial, data, TWO, ("validation", "test"), kill, lambda: lost.append("a process"))
    assert lost == ["a process"] and result.attempts == 2 and not peers_of(os.getpid())
    assert "lost in attempt 1" in result.events and any(e.startswith("continued") for e in result.events), result.events
    assert [r["epoch"] for r in shaken.curve(trial.id)] == [1, 2, 3, 4]
    assert outcome(shaken, trial) == outcome(calm, trial)


def ended(process: int) -> bool:
    """Whether a process is gone, or only waits for its parent to ask after it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.full
def test_the_others_end_with_the_first(tmp_path: Path) -> None:
    """The driver is killed with -9: no process of the trial is left, and the same command goes on."""
    options = ["train", "resnet-50-micro", "--epochs", "40", "--data-fraction", "0.3", "--executor", "local", "--processes", "2"]
    options += ["--set", "batch-size=32", "--set", "norm-batch=16"]
    process = start(*options, cwd=tmp_path)
    store = Store(tmp_path / ".vitnas")
    until(process, lambda: list(store.trials.glob("*/checkpoint.pt")))
    (peer,) = peers_of(process.pid)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while not ended(peer):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (trial,) = (p.parent.name for p in store.trials.glob("*/checkpoint.pt"))
    assert 1 <= len(store.curve(trial)) < 40


def test_what_cannot_be_shared_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """BatchNorm over more than a process has, a batch that is no multiple, more processes than CPUs: one line, with what to do."""
    small = ["train", "resnet-50-micro", "--epochs", "1", "--data-fraction", "0.15", "--executor", "local"]
    for options, said in (
        (
            ["--processes", "2"],
            "takes BatchNorm statistics over 64 images, and each of 2 processes has 32 of a batch: set norm-batch to 32",
        ),
        (
            ["--processes", "2", "--set", "batch-size=33"],
            "a batch of 33 images cannot be shared by 2 processes: use 1, or another batch-size",
        ),
        (["--processes", "9999"], "CPUs are wanted (concurrency x threads x processes), this machine has"),
    ):
        code, _, error = vitnas_here(*small, *options, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 1 and said in error and len(error.strip().splitlines()) == 1, error
    assert not list((tmp_path / ".vitnas" / "trials").glob("*"))


MEMORY_TOGETHER = """
from vitnas.studies.training.team import LocalPeers

class Free(LocalPeers):  # of the limit, which is to be met by the first process
    def start(self, job, seats):
        limit = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, limit[1]))
        super().start(job, seats)
        resource.setrlimit(resource.RLIMIT_AS, limit)

trial = Trial(network=spec, recipe=recipe, data=data, epochs=1, seed=0)
result = run_trial(store, trial, prepared.folder, How(processes=2), splits=("validation",), peers=Free)
print(result.execution.micro_batch, result.status, result.attempts, [e for e in result.events if "memory" in e])
"""


@pytest.mark.full
def test_out_of_memory_shrinks_the_micro_batch_of_all(tmp_path: Path) -> None:
    """Under a real limit on the memory of the first process, both go on with smaller micro-batches, in the same attempt."""
    alone, _, _ = MEMORY.replace("150 * 2**20", "90 * 2**20").partition("try:")
    env = os.environ | {"MALLOC_ARENA_MAX": "1"}
    code = alone + MEMORY_TOGETHER
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    micro, status, attempts, events = done.stdout.split(maxsplit=3)
    assert int(micro) < 256 and (status, attempts) == ("complete", "1") and "out of memory: micro-batch reduced" in events


STUDY = """
kind: train
name: s
network: resnet-50-micro
epochs: 20
data-fraction: 0.3
set: {batch-size: 32, norm-batch: 16}
seeds: 1
processes: 2
"""


@pytest.mark.full
def test_a_trial_spans_two_nodes_and_outlives_one(cluster: Any, tmp_path: Path) -> None:
    """On two nodes of one CPU each a trial of two processes takes both. A third node joins and the one that holds the second process is
    killed: the trial goes on, on the other two, and ends to the bit as an undisturbed one."""
    for name in ("calm", "shaken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.yaml").write_text(STUDY)
    done = vitnas("sweep", "study.yaml", "--address", cluster.address, cwd=tmp_path / "calm")
    assert "1 trials trained" in done.stdout and "1 at a time, 2 processes of 1 thread each" in done.stdout, done.stdout
    node = cluster.add_node(**cluster.node)
    raylets = {n: n.all_processes["raylet"][0].process.pid for n in cluster.worker_nodes}
    process = start("sweep", "study.yaml", "--address", cluster.address, cwd=tmp_path / "shaken")
    store = Store(tmp_path / "shaken" / ".vitnas")
    lost = None
    try:
        until(process, lambda: list(store.trials.glob("*/checkpoint.pt")))
        lost = until(process, lambda: [n for n, raylet in raylets.items() if tasks_of(raylet)])[0]
        cluster.remove_node(lost, allow_graceful=False)
        output, _ = process.communicate(timeout=200)
    finally:
        if lost is not node:
            cluster.remove_node(node, allow_graceful=False)
            cluster.add_node(**cluster.node)
    assert process.returncode == 0 and "its worker was lost" in output, output
    ((trial, result),) = ((p.parent.name, json.loads(p.read_text())) for p in store.trials.glob("*/result.json"))
    assert result["attempts"] == 2 and result["execution"]["processes"] == 2 and "lost in attempt 1" in result["events"], result
    assert report(tmp_path / "shaken") == report(tmp_path / "calm")
    calm = Store(tmp_path / "calm" / ".vitnas")
    assert outcome(store, store.trial(trial)) == outcome(calm, calm.trial(trial))


def tasks_of(raylet: int) -> list[int]:
    """The workers of a node that run a further process of a trial."""
    return [p for p in family(raylet, "NO_SUCH_MARK") if b"_there" in Path(f"/proc/{p}/cmdline").read_bytes()]


@pytest.mark.full
def test_a_further_process_that_is_told_to_end_has_the_trial_saved(cluster: Any, tmp_path: Path) -> None:
    """SIGTERM to the second process, as a node gives it that is to be taken away: the epoch is ended and saved, and the trial goes on."""
    (tmp_path / "study.yaml").write_text(STUDY)
    process = start("sweep", "study.yaml", "--address", cluster.address, cwd=tmp_path)
    store = Store(tmp_path / ".vitnas")
    until(process, lambda: list(store.trials.glob("*/checkpoint.pt")))
    raylets = [n.all_processes["raylet"][0].process.pid for n in cluster.list_all_nodes()]
    (second,) = until(process, lambda: [p for raylet in raylets for p in tasks_of(raylet)])
    os.kill(second, signal.SIGTERM)
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0 and "1 trials trained" in output, output
    (result,) = (json.loads(p.read_text()) for p in store.trials.glob("*/result.json"))
    assert result["attempts"] == 2 and any(e.startswith("left after epoch") for e in result["events"]), result["events"]
