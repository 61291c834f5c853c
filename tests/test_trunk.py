"""Annealed rungs: trainings of different lengths share a trunk, and are to the bit what they are without it."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vitnas.studies.recipe import SHORT, Recipe
from vitnas.studies.store import Store, locked
from vitnas.studies.training.run_trial import How, run_trial
from vitnas.studies.training.train import learning_rate
from vitnas.studies.training.trunk import prune_trunks
from vitnas.studies.trial import Trial, TrialResult

from .test_run_trial import data, make, outcome, store_at

__all__ = ["data"]  # the fixture

RUN = (
    "import sys; from pathlib import Path; from vitnas.studies.store import Store; from vitnas.studies.training.run_trial import *\n"
    "s = Store(sys.argv[1]); run_trial(s, s.trial(sys.argv[2]), Path(sys.argv[3]), How(), splits=('validation',))"
)


def rung(data: Path, epochs: int, steps: str = "none", **changes: object) -> Trial:
    """A rung of `epochs` epochs: a quarter of them cool down."""
    changes = {"schedule": "wsd", "cooldown": 0.25, "horizon": 4, "ema": 0.2, "drop_path": 0.1} | changes
    return make(data, steps, epochs=epochs, **changes)  # type: ignore[arg-type]


def run(store: Store, trial: Trial, data: Path) -> TrialResult:
    return run_trial(store, trial, data, How(), splits=("validation",))


def start(store: Store, trial: Trial, data: Path) -> subprocess.Popen[bytes]:
    store.add(trial)
    return subprocess.Popen([sys.executable, "-c", RUN, str(store.root), trial.id, str(data)])


def checkpoints(store: Store) -> list[str]:
    return sorted(path.name for path in store.trunks.glob("*/epoch-*.pt"))


@pytest.mark.parametrize("steps", ["none", "all"])
def test_a_rung_that_continues_a_trunk_is_the_one_trained_from_scratch(tmp_path: Path, data: Path, steps: str) -> None:
    """Rungs of 4 and then 8 epochs: the second takes 3 epochs from the trunk, and its weights, curve and predictions are to the bit those
    of 8 epochs from scratch; so are those of 4 epochs after 8."""
    short, long = rung(data, 4, steps), rung(data, 8, steps)
    climbing, scratch, falling = (store_at(tmp_path / name) for name in ("climbing", "scratch", "falling"))
    first, second = run(climbing, short, data), run(climbing, long, data)
    assert (first.epochs, first.epochs_trained, second.epochs, second.epochs_trained) == (4, 4, 8, 5)
    assert len(climbing.curve(long.id)) == 8 and checkpoints(climbing) == ["epoch-6.pt"]
    alone = run(scratch, long, data)
    assert alone.epochs_trained == 8 and "epochs_taken" not in alone.to_dict()
    assert outcome(climbing, long) == outcome(scratch, long)
    run(falling, long, data)
    assert run(falling, short, data).epochs_trained == 4  # the trunk keeps its newest state alone
    assert outcome(falling, short) == outcome(climbing, short)
    again = run_trial(climbing, long, data, How(), splits=("validation", "test"))
    assert again.epochs_trained == 5 and TrialResult.from_dict(again.to_dict()) == again


def test_killed_in_the_trunk_and_in_the_cooldown(tmp_path: Path, data: Path) -> None:
    """Real processes are killed with -9 in both; the epochs that they had ended are not trained again, and nothing else changes."""
    trial = rung(data, 8)
    calm, shaken = store_at(tmp_path / "calm"), store_at(tmp_path / "shaken")
    run(calm, trial, data)
    folder = shaken.add(trial)
    for reached in (lambda: checkpoints(shaken), lambda: len(shaken.curve(trial.id)) >= 7):
        process = start(shaken, trial, data)
        while not reached():
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert shaken.result(trial.id) is None
    assert (folder / "checkpoint.pt").exists()
    result = run(shaken, trial, data)
    assert result.attempts == 3 and result.epochs_trained == 8
    assert any(e.startswith("continued trunk") for e in result.events)
    assert outcome(shaken, trial) == outcome(calm, trial)


def test_two_rungs_at_once_share_their_trunk(tmp_path: Path, data: Path) -> None:
    """Two processes train rungs of one trunk at the same time: both end as if alone, and the shared epochs are trained once or, where the
    longer was ahead, twice."""
    short, long = rung(data, 4), rung(data, 8)
    calm, together = store_at(tmp_path / "calm"), store_at(tmp_path / "together")
    run(calm, short, data)
    run(calm, long, data)
    processes = [start(together, trial, data) for trial in (short, long)]
    assert [p.wait() for p in processes] == [0, 0]
    for trial in (short, long):
        assert outcome(together, trial) == outcome(calm, trial)
    results = [together.result(trial.id) for trial in (short, long)]
    assert sum(r.epochs_trained for r in results if r is not None) in (9, 12)


def test_a_damaged_trunk_is_trained_again(tmp_path: Path, data: Path) -> None:
    """A truncated state is passed over, as if it were not there."""
    trial = rung(data, 4)
    calm, hurt = store_at(tmp_path / "calm"), store_at(tmp_path / "hurt")
    run(calm, trial, data)
    run(hurt, trial, data)
    (path,) = hurt.trunks.glob("*/epoch-3.pt")
    path.write_bytes(path.read_bytes()[:1000])
    for file in hurt.trial_folder(trial.id).iterdir():
        file.unlink()
    assert run(hurt, trial, data).epochs_trained == 4
    assert outcome(hurt, trial) == outcome(calm, trial)


def test_trunks_are_of_one_network_seed_recipe_and_machine(tmp_path: Path, data: Path) -> None:
    """Another seed, another rate, another number of threads: another trunk. Another cooldown: the same one."""
    store = store_at(tmp_path)
    base = rung(data, 2)
    for trial, trunks in (
        (base, 1),
        (replace(base, recipe=replace(base.recipe, cooldown=0.5)), 1),
        (replace(base, seed=1), 2),
        (rung(data, 2, lr=1e-3), 3),
    ):
        run(store, trial, data)
        assert len(list(store.trunks.iterdir())) == trunks
    run_trial(store, replace(base, epochs=3), data, How(threads=2), splits=("validation",))
    assert len(list(store.trunks.iterdir())) == 4


def test_trunks_can_be_removed(tmp_path: Path, data: Path) -> None:
    """Pruning frees all but what is being extended; a longer rung then trains everything itself and is the same."""
    store, calm = store_at(tmp_path / "store"), store_at(tmp_path / "calm")
    short, long = rung(data, 3), rung(data, 4)
    run(store, short, data)
    (trunk,) = store.trunks.iterdir()
    with locked(trunk / "lock", "the trunk"):
        assert prune_trunks(store) == 0 and checkpoints(store) == ["epoch-2.pt"]
    assert prune_trunks(store) > 1000 and not trunk.exists()
    assert run(store, long, data).epochs_trained == 4
    run(calm, long, data)
    assert outcome(store, long) == outcome(calm, long)


def test_a_trunk_that_diverges(tmp_path: Path, data: Path) -> None:
    """Divergence before the cooldown is an outcome of the rung; its trunk ends where the loss was a number."""
    result = run(store_at(tmp_path), rung(data, 8, lr=1e6, optimizer="sgd", warmup=0.0, ema=0.0), data)
    assert result.status == "diverged" and result.diverged_epoch is not None


def test_rates_of_rungs_agree_up_to_the_cooldown() -> None:
    """One warm-up and one constant rate for all lengths; each then falls to its final rate as 1 - sqrt."""
    recipe = Recipe(lr=0.1, batch_size=256, warmup=0.1, schedule="wsd", cooldown=0.25, horizon=20, final_lr=0.01)

    def rates(epochs: int, per_epoch: int = 10) -> list[float]:
        trunk = per_epoch * recipe.trunk_epochs(epochs)
        return [learning_rate(recipe, s, epochs * per_epoch, horizon=20 * per_epoch, trunk=trunk) for s in range(epochs * per_epoch + 1)]

    short, long = rates(8), rates(40)
    assert short[:60] == long[:60] and max(short) == short[20] == short[60] == pytest.approx(0.1)
    assert short[0] == pytest.approx(0.1 / 21) and short[80] == long[400] == pytest.approx(0.001)
    assert short[65] == pytest.approx(0.1 * (0.01 + 0.99 * 0.5)) and long[325] == pytest.approx(short[65])
    assert all(a >= b for a, b in itertools.pairwise(short[60:]))
    assert [recipe.trunk_epochs(e) for e in (1, 2, 4, 10)] == [0, 1, 3, 7]


def test_identities_of_other_recipes_are_what_they_were() -> None:
    """Trials without the new schedule keep their ids; those of rungs are told apart by cooldown and horizon."""
    from vitnas.roadmap.steps import select
    from vitnas.roadmap.tracks import track
    from vitnas.studies.trial import DataRef

    convnext = track("convnext-t")

    def trial(steps: str, recipe: Recipe) -> Trial:
        choice = {k: v for k, v in select(convnext, steps).final().items() if convnext.step(k).owner == "network"}
        ref = DataRef(name="digits", fingerprint="f" * 64, classes=10)
        return Trial(network=convnext.spec(choice, scale="micro", classes=10), recipe=recipe, data=ref, epochs=12, seed=0)

    assert trial("none", SHORT.base).id == "144c7791aec43c24"
    assert trial("all", SHORT.modern).id == "5eec4e41b90efff5"
    assert trial("none", Recipe()).id == "4bfd9e59b684e363"
    wsd = Recipe(schedule="wsd", cooldown=0.2, horizon=10)
    ids = {trial("none", r).id for r in (Recipe(), wsd, replace(wsd, cooldown=0.3), replace(wsd, horizon=11))}
    assert len(ids) == 4 and Recipe.from_dict(wsd.to_dict()) == wsd
    assert Recipe.from_dict(Recipe().to_dict()) == Recipe() and "cooldown" not in Recipe().to_dict()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schedule": "wsd"}, "needs a cooldown"),
        ({"schedule": "wsd", "cooldown": 0.2}, "horizon of 1 epoch or more"),
        ({"schedule": "wsd", "cooldown": 1.2, "horizon": 3}, "cooldown in"),
        ({"cooldown": 0.2}, "belong to schedule wsd"),
    ],
)
def test_recipes_that_make_no_sense(changes: dict[str, object], words: str) -> None:
    """One line names the rule, the value and the next move."""
    with pytest.raises(ValueError, match=words):
        Recipe(**changes)  # type: ignore[arg-type]


def test_the_trunk_state_is_all_that_the_next_epoch_depends_on(tmp_path: Path, data: Path) -> None:
    """The kept state holds network, optimizer, average and curve, and names no trial but in the curve."""
    store, trial = store_at(tmp_path), rung(data, 4)
    run(store, trial, data)
    (path,) = store.trunks.glob("*/epoch-3.pt")
    state = torch.load(path, weights_only=True)
    assert set(state) == {"epoch", "network", "optimizer", "ema", "curve", "trunk"}
    assert [r["epoch"] for r in state["curve"]] == [1, 2, 3] and {r["trial"] for r in state["curve"]} == {trial.id}
