"""From candidates to trainings: how rungs are annealed, and that techniques of a space reach the recipe."""

from __future__ import annotations

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from vitnas.studies.data.prepare import Prepared, prepare
from vitnas.studies.recipe import SHORT
from vitnas.studies.search.halving import Halving
from vitnas.studies.search.space import Space
from vitnas.studies.search.space_file import load_space
from vitnas.studies.search.trainings import Trainings, annealed, rule_of
from vitnas.studies.store import Store, read_json, write_json
from vitnas.studies.study import Study
from vitnas.studies.training.train import learning_rate

from .synthetic import write_trial

PER_EPOCH = 20  # steps
MICRO = load_space("micro", "convnext-t", "micro", classes=10)


def trainings(folder: Path, study: Study, space: Space) -> tuple[Trainings, list[str]]:
    """The maker of a search's trainings, and a candidate for each point of the space."""
    found = {c.id: c for c in map(space.candidate, space.points())}

    def data(size: int) -> Prepared:
        return prepare("digits", input_size=size, cache=folder / "data")

    return Trainings(Store(folder), study, space.track, found, data, precision="float32"), list(found)


@pytest.mark.parametrize(("epochs", "least", "expected"), [(27, 3, (3, 9, 27)), (12, None, (4, 12)), (18, None, (2, 6, 18))])
def test_every_rung_is_at_the_constant_rate_before_it_cools_down(
    tmp_path: Path, epochs: int, least: int | None, expected: tuple[int, ...]
) -> None:
    """Warm-up ends before the first rung branches off, and all rungs are one training until they do."""
    study = Study(kind="search", scheduler="halving", epochs=epochs, min_epochs=least)
    make, names = trainings(tmp_path, study, MICRO)
    assert rule_of(study).rungs == expected
    rates = []
    for rung, length in enumerate(expected):
        trial = make.trial(names[0], seed=0, rung=rung, final=False)
        recipe, steps = trial.recipe, trial.epochs * PER_EPOCH
        trunk = recipe.trunk_epochs(trial.epochs) * PER_EPOCH
        assert trial.epochs == length and recipe.horizon == expected[1]
        rates.append([learning_rate(recipe, s, steps, horizon=recipe.horizon * PER_EPOCH, trunk=trunk) for s in range(steps)])
        peak = recipe.peak_lr
        assert rates[-1][:trunk].count(peak) >= 0.3 * trunk and rates[-1][0] < peak / 2 and rates[-1][-1] < peak / 5
        shared = make.trial(names[0], seed=0, rung=0, final=False).recipe.trunk_epochs(expected[0]) * PER_EPOCH
        assert rates[-1][:shared] == rates[0][:shared]


def test_the_benchmark_anneals_as_a_search_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same schedule and the same share that moves up: what it shows is true of searches."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    early_stopping = importlib.import_module("early_stopping")

    rule = rule_of(Study(kind="search", scheduler="halving", epochs=18))
    ours = {m.name: m for m in early_stopping.methods(rule.rungs, early_stopping.parse([]).eta, False)}["annealed"]
    assert (ours.rule.rungs, ours.rule.eta, ours.rule.k) == (rule.rungs, rule.eta, rule.k) and isinstance(ours.rule, Halving)
    setting = early_stopping.Setting(root=Path(), data=Path(), ref=None, rungs=rule.rungs, deadline=0.0)
    spec = MICRO.candidate(MICRO.start).spec
    assert early_stopping.trial_of(setting, ours, spec, 0, 0).recipe == annealed(early_stopping.RECIPE, rule.rungs)
    sys.modules.pop("early_stopping")


@pytest.mark.parametrize("name", ["repvit-m0.9", "convnext-t"])
def test_a_technique_that_varies_is_in_the_recipe(tmp_path: Path, name: str) -> None:
    """Also on a track that has no step of the recipe; without such a dimension its recipe is the preset's."""
    space = load_space("steps: all\nvary:\n  mixup: [off, on]\n", name, "micro", classes=10)
    make, names = trainings(tmp_path, Study(kind="search", track=name, scale="micro"), space)
    trials = {make.trial(n, seed=0, rung=0, final=False) for n in names}
    assert len(names) == len({t.id for t in trials}) == 2
    assert {t.recipe.mixup for t in trials} == {SHORT.base.mixup, SHORT.modern.mixup}
    plain = load_space("steps: all\nvary:\n  width-factor: [0.5, 1]\n", name, "micro", classes=10)
    make, names = trainings(tmp_path, Study(kind="search", track=name, scale="micro"), plain)
    recipe = make.trial(names[0], seed=0, rung=0, final=False).recipe
    assert recipe == replace(SHORT.modern, input_size=recipe.input_size, flip=recipe.flip, precision=recipe.precision)


def test_what_cannot_be_read_is_no_training_that_is_known(tmp_path: Path) -> None:
    """Of a package that is not installed, of a layer that nobody brings, with a result of a later version: searches go on without it."""
    make, names = trainings(tmp_path, Study(kind="search", epochs=9), MICRO)
    store = make.store
    store.prepare()
    own = make.trial(names[0], seed=0, rung=0, final=False)
    write_trial(store, own, top1=90.0, score_on="validation")
    expected = [(names[0], 0, 0, own.id)]
    assert make.known() == expected
    folder = store.trial_folder(own.id)
    trial, result = read_json(folder / "trial.json"), read_json(folder / "result.json")
    layer = {"kind": "acme.spin", "channels": 4}
    for number, (its_trial, its_result) in enumerate(
        [
            (trial | {"packages": {"acme-spin": "1.0.0"}}, result),
            (trial | {"network": trial["network"] | {"stem": [layer]}}, result),
            (trial | {"data": {**trial["data"], "later": 1}}, result),
            (trial, result | {"later": 1}),
            (trial, {"status": "complete"}),
        ]
    ):
        other = store.trial_folder(f"{number:016x}")
        write_json(other / "trial.json", its_trial)
        write_json(other / "result.json", its_result)
        assert make.known() == expected, number
