"""run_trial: to the bit the same alone, killed and continued, or beside others; divergence, damaged checkpoints, memory."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vitnas.roadmap.steps import select
from vitnas.roadmap.tracks import track
from vitnas.studies.data.feed import Feed
from vitnas.studies.data.prepare import batch_order, prepare, split
from vitnas.studies.recipe import SHORT, Recipe
from vitnas.studies.store import Store
from vitnas.studies.training.run_trial import How, run_part, run_trial
from vitnas.studies.training.train import MicroBatchTooSmall, Training, learning_rate
from vitnas.studies.trial import DataRef, Trial

T = track("convnext-t")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits, prepared once."""
    return prepare("digits", input_size=32, cache=tmp_path_factory.mktemp("data")).folder


def make(data: Path, steps: str = "all", *, epochs: int = 3, seed: int = 0, **changes: object) -> Trial:
    """A trial of a sixth of the digits, with the modern recipe."""
    from vitnas.studies.data.prepared import open_prepared

    choice = {k: v for k, v in select(T, steps).final().items() if T.step(k).owner == "network"}
    recipe = replace(SHORT.modern, input_size=32, flip=False, precision="float32", **changes)  # type: ignore[arg-type]
    ref = DataRef(name="digits", fingerprint=open_prepared(data).fingerprint, classes=10, fraction=0.15)
    return Trial(network=T.spec(choice, scale="micro", classes=10), recipe=recipe, data=ref, epochs=epochs, seed=seed)


def store_at(path: Path) -> Store:
    store = Store(path)
    store.prepare()
    return store


def outcome(store: Store, trial: Trial) -> dict[str, object]:
    """Everything a trial left behind but times, hosts and attempts."""
    folder = store.trial_folder(trial.id)
    weights = load_file(folder / "weights.safetensors")
    predictions = np.load(folder / "predictions.npz")
    curve = [{k: v for k, v in r.items() if k != "seconds"} for r in store.curve(trial.id)]
    result = store.result(trial.id)
    assert result is not None
    return {
        "weights": {k: v.numpy().tobytes() for k, v in weights.items()},
        "predictions": {k: predictions[k].tobytes() for k in predictions.files},
        "curve": curve,
        "scores": result.scores,
        "status": result.status,
    }


@pytest.mark.parametrize("steps", ["none", "all"])
def test_killed_at_any_epoch_it_ends_as_if_it_had_not_been(tmp_path: Path, data: Path, steps: str) -> None:
    """A real process is killed with -9 while it trains; the next run continues, and everything agrees to the bit."""
    trial = make(data, steps, epochs=4, ema=0.2, drop_path=0.1)
    calm = store_at(tmp_path / "calm")
    run_trial(calm, trial, data, How())
    shaken = store_at(tmp_path / "shaken")
    folder = shaken.add(trial)
    code = (
        "import sys; from pathlib import Path; from vitnas.studies.store import Store; from vitnas.studies.training.run_trial import *\n"
        "s = Store(sys.argv[1]); run_trial(s, s.trial(sys.argv[2]), Path(sys.argv[3]), How())"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(shaken.root), trial.id, str(data)])
    while not (folder / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert shaken.result(trial.id) is None
    with (folder / "curve.jsonl").open("a") as file:
        file.write('{"epoch": 9, "lo')
    (folder / ".checkpoint.pt.k1ll3d").write_bytes(b"half a checkpoint")
    result = run_trial(shaken, trial, data, How())
    assert not list(folder.glob(".checkpoint*"))
    assert result.attempts == 2 and any(e.startswith("continued after epoch") for e in result.events)
    assert outcome(shaken, trial) == outcome(calm, trial)


def test_a_damaged_checkpoint_is_said_and_trained_again(tmp_path: Path, data: Path) -> None:
    """A truncated checkpoint costs its epochs and nothing else."""
    trial = make(data, epochs=2)
    calm, hurt = store_at(tmp_path / "calm"), store_at(tmp_path / "hurt")
    run_trial(calm, trial, data, How())
    (hurt.add(trial) / "checkpoint.pt").write_bytes(b"PK\x03\x04 half a file")
    result = run_trial(hurt, trial, data, How())
    assert any("checkpoint unreadable" in e for e in result.events)
    assert outcome(hurt, trial) == outcome(calm, trial)


def test_divergence_is_an_outcome(tmp_path: Path, data: Path) -> None:
    """A learning rate that explodes gives the status diverged with its epoch, and running it again trains nothing."""
    store = store_at(tmp_path)
    trial = make(data, "none", lr=1e6, optimizer="sgd", warmup=0.0)
    result = run_trial(store, trial, data, How())
    assert result.status == "diverged" and result.diverged_epoch is not None and not result.scores
    json.dumps(result.to_dict(), allow_nan=False)
    assert run_trial(store, trial, data, How()) == result


def test_a_finished_trial_is_found(tmp_path: Path, data: Path) -> None:
    """The second run trains nothing; asking for a further split scores the kept weights."""
    store = store_at(tmp_path)
    trial = make(data, epochs=1)
    first = run_trial(store, trial, data, How(), splits=("validation",))
    assert set(first.scores) == {"validation"} and store.test_scorings(trial.data.fingerprint) == 0
    second = run_trial(store, trial, data, How(), splits=("validation", "test"))
    assert second.scores["validation"] == first.scores["validation"] and "test" in second.scores
    assert len(store.curve(trial.id)) == 1 and store.test_scorings(trial.data.fingerprint) == 1


def test_a_trial_that_is_run_in_parts_is_the_same(tmp_path: Path, data: Path) -> None:
    """Two epochs first, then a third, then the rest: the curve and everything else are those of one run; a part that is done is not
    done again, and divergence ends the trial."""
    trial = make(data, "none", epochs=4)
    whole, parts = store_at(tmp_path / "whole"), store_at(tmp_path / "parts")
    run_trial(whole, trial, data, How())
    for epochs in (2, 3, 2):
        curve = run_part(parts, trial, data, How(), epochs)
        assert len(curve) == epochs and parts.result(trial.id) is None
    assert sum(e.startswith("attempt") for e in json.loads((parts.trial_folder(trial.id) / "events.json").read_text())) == 2
    run_trial(parts, trial, data, How())
    assert outcome(parts, trial) == outcome(whole, trial)
    assert [r["top1"] for r in run_part(parts, trial, data, How(), 3)] == [r["top1"] for r in whole.curve(trial.id)[:3]]
    bad = make(data, "none", lr=1e6, optimizer="sgd", warmup=0.0)
    assert run_part(parts, bad, data, How(), 2)[-1]["loss"] is None
    known = parts.result(bad.id)
    assert known is not None and known.status == "diverged"


def training(data: Path, trial: Trial, micro_batch: int | None = None) -> Training:
    from vitnas.studies.data.prepared import open_prepared

    prepared = open_prepared(data)
    feed = Feed(prepared, "train", split(prepared)[0][:128], torch.device("cpu"))
    return Training(trial, feed, mean=prepared.mean, std=prepared.std, micro_batch=micro_batch)


def test_accumulation_is_the_same_training_where_there_are_no_batch_statistics(data: Path) -> None:
    """Half the micro-batch gives the same weights within rounding for a LayerNorm network, and is refused for a BatchNorm one."""
    trial = make(data, "all", drop_path=0.0)
    whole, halves = training(data, trial), training(data, trial, micro_batch=32)
    whole.train_epoch()
    halves.train_epoch()
    for a, b in zip(whole.network.parameters(), halves.network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-4)
    with pytest.raises(MicroBatchTooSmall, match="set norm-batch to 32"):
        training(data, make(data, "none"), micro_batch=32)


def test_norm_batch_decides_the_statistics(data: Path) -> None:
    """norm-batch=32 at batch 64 is another training than norm-batch=64, and runs in chunks of 32."""
    assert training(data, make(data, "none", norm_batch=32)).micro_batch == 32
    assert make(data, "none", norm_batch=32).id != make(data, "none").id


def test_order_and_augmentation_are_equal_across_arms(data: Path) -> None:
    """The batches that the first and the last rung see at one seed are the same to the bit; another seed's differ."""

    def seen(steps: str, seed: int) -> list[bytes]:
        run = training(data, make(data, steps, seed=seed))
        batches: list[bytes] = []
        augment = run.augment

        def spy(images: torch.Tensor, labels: torch.Tensor, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
            x, y = augment(images, labels, seed=seed)
            batches.append(x.numpy().tobytes() + y.numpy().tobytes())
            return x, y

        run.augment = spy  # type: ignore[assignment]
        run.train_epoch()
        return batches

    assert seen("none", 0) == seen("all", 0) != seen("all", 1)
    assert not np.array_equal(batch_order(50, 0, 0), batch_order(50, 0, 1))


def test_learning_rate_schedule() -> None:
    """Linear warm-up to the peak, cosine to the final fraction, scaled to the batch."""
    recipe = Recipe(lr=0.1, batch_size=512, warmup=0.1, final_lr=0.01)
    rates = [learning_rate(recipe, s, 100) for s in range(101)]
    assert max(rates) == rates[10] == pytest.approx(0.2)
    assert rates[0] == pytest.approx(0.2 / 11) and rates[-1] == pytest.approx(0.002)
    assert rates[55] == pytest.approx(0.2 * (0.01 + 0.99 / 2))
