"""Frozen plans: the hash, what counts as a deviation, and what is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vitnas.studies.frozen import FrozenError, deviations, freeze, frozen, planned_line
from vitnas.studies.plan import Plan
from vitnas.studies.store import Store

from .synthetic import synthetic_study

STEPS = "stage-ratio,gelu,separate-downsampling"


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Store, Plan]:
    """A store without any finished trial, and a small plan."""
    _, plan = synthetic_study(tmp_path / "drawn-up", steps=STEPS)
    store = Store(tmp_path / "store")
    store.prepare()
    return store, plan


def changed(plan: Plan, **study: Any) -> Plan:
    return replace(plan, study=replace(plan.study, **study))


def test_hash_is_sha256_of_canonical_json(planned: tuple[Store, Plan]) -> None:
    """Anyone can compute the hash from the file: SHA-256 over its content with sorted keys and no spaces."""
    store, plan = planned
    record = freeze(store, plan, plan.study.margin)
    written = json.loads((store.studies / plan.study.folder_name / "frozen.json").read_text())
    text = json.dumps(written["content"], sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest() == written["hash"] == record.hash


def test_file_holds_what_was_planned(planned: tuple[Store, Plan]) -> None:
    """Every hypothesis without a direction, the margin, the seeds, the design and the data stand in the file."""
    store, plan = planned
    content = freeze(store, plan, 0.5).content
    assert [h["name"] for h in content["hypotheses"]] == ["stage-ratio", "gelu", "separate-downsampling"]
    assert {h["estimand"] for h in content["hypotheses"]} == {"in the paper's order"}
    assert {h["direction"] for h in content["hypotheses"]} == {"none"}
    assert content["margin"] == 0.5
    assert {arm["seeds"] for arm in content["arms"].values()} == {3}
    assert content["data"]["fingerprint"] == plan.data["fingerprint"]


def test_freezing_twice_changes_nothing(planned: tuple[Store, Plan]) -> None:
    """The second freeze of one plan gives the first one's record, and the file stays as it is."""
    store, plan = planned
    path = store.studies / plan.study.folder_name / "frozen.json"
    first = freeze(store, plan, plan.study.margin)
    before = path.read_bytes()
    assert freeze(store, plan, plan.study.margin) == first
    assert path.read_bytes() == before


def test_another_plan_never_overwrites(planned: tuple[Store, Plan]) -> None:
    """Freezing with another margin is refused, names the file, and leaves it as it is."""
    store, plan = planned
    path = store.studies / plan.study.folder_name / "frozen.json"
    freeze(store, plan, 0.3)
    before = path.read_bytes()
    with pytest.raises(FrozenError, match=r"frozen\.json holds another plan"):
        freeze(store, plan, 0.2)
    assert path.read_bytes() == before


def test_edited_file_is_refused(planned: tuple[Store, Plan]) -> None:
    """A margin changed in the file by hand does not fit the hash: reading refuses it, and the report's line says so."""
    store, plan = planned
    name = plan.study.folder_name
    freeze(store, plan, 0.3)
    path = store.studies / name / "frozen.json"
    path.write_text(path.read_text().replace('"margin": 0.3', '"margin": 0.1'))
    with pytest.raises(FrozenError, match="was edited or is damaged"):
        frozen(store, name)
    assert planned_line(store, name, plan).startswith("Not known to be as planned")
    path.write_text("{")
    with pytest.raises(FrozenError, match="was edited or is damaged"):
        frozen(store, name)


def test_as_planned(planned: tuple[Store, Plan]) -> None:
    """The plan that was frozen has no deviation, also when read back from plan.json; how it is run is no part of it."""
    store, plan = planned
    record = freeze(store, plan, plan.study.margin)
    again = Plan.from_dict(json.loads(json.dumps(plan.to_dict())))
    assert deviations(record, again) == ()
    assert deviations(record, changed(plan, executor="local", threads=2)) == ()
    assert planned_line(store, plan.study.folder_name, again).startswith(f"As planned (frozen as {record.hash[:12]} on ")


def test_nothing_frozen_says_nothing(planned: tuple[Store, Plan]) -> None:
    """A study without a frozen plan gets no line."""
    store, plan = planned
    assert planned_line(store, plan.study.folder_name, plan) == ""


@pytest.mark.parametrize(("margin", "words"), [(0.5, "margin 0.5, planned 0.3"), (0.3, "")])
def test_margin(planned: tuple[Store, Plan], margin: float, words: str) -> None:
    """Another margin is a deviation with both values."""
    store, plan = planned
    record = freeze(store, plan, 0.3)
    assert deviations(record, changed(plan, margin=margin)) == ((words,) if words else ())


def test_seeds_added_or_dropped(tmp_path: Path, planned: tuple[Store, Plan]) -> None:
    """Seeds beyond the planned ones are a deviation, and so are fewer."""
    store, plan = planned
    record = freeze(store, plan, plan.study.margin)
    for seeds, words in ((5, "2 seeds added (5, planned 3)"), (2, "1 seed dropped (2, planned 3)")):
        _, other = synthetic_study(tmp_path / str(seeds), steps=STEPS, seeds=seeds)
        assert deviations(record, other) == (words,)


def test_seeds_until_decided_are_planned(tmp_path: Path, planned: tuple[Store, Plan]) -> None:
    """Under --until-decided seeds may grow to the frozen most, and no further; to give it up is a deviation."""
    store, plan = planned
    options = {"kind": "ablate", "design": "cumulative", "seeds": 2, "max_seeds": 5}
    sequential = changed(plan, **options, until_decided=True)
    record = freeze(store, sequential, sequential.study.margin)
    for seeds, words in ((5, ()), (6, ("3 seeds added (6, planned 3)",))):
        _, more = synthetic_study(tmp_path / str(seeds), steps=STEPS, seeds=seeds)
        assert deviations(record, changed(more, **options, until_decided=True)) == words
    assert deviations(record, changed(plan, **options)) == ("a fixed number of seeds, planned until decided, to 5 seeds at most",)


def test_dropped_and_added_arms(tmp_path: Path, planned: tuple[Store, Plan]) -> None:
    """An arm that is left out, or one more, is named, and so are its hypothesis and the option behind it."""
    store, plan = planned
    record = freeze(store, plan, plan.study.margin)
    _, fewer = synthetic_study(tmp_path / "fewer", steps="stage-ratio,gelu")
    _, more = synthetic_study(tmp_path / "more", steps=f"{STEPS},pre-norm=extra")
    found = deviations(record, fewer)
    assert "dropped arm separate-downsampling" in found
    assert "dropped hypothesis separate-downsampling in the paper's order" in found
    assert f"steps stage-ratio,gelu, planned {STEPS}" in found
    assert {"added arm pre-norm=extra", "added hypothesis pre-norm=extra in the paper's order"} <= set(deviations(record, more))


def test_other_recipe_epochs_and_data(planned: tuple[Store, Plan]) -> None:
    """Another recipe, another length and other data are deviations, in all arms or by name."""
    store, plan = planned
    record = freeze(store, plan, plan.study.margin)
    slower = tuple(replace(a, recipe=replace(a.recipe, lr=a.recipe.lr / 2)) for a in plan.arms)
    assert deviations(record, replace(plan, arms=slower)) == ("another recipe in all 4 arms",)
    longer = (*plan.arms[:-1], replace(plan.arms[-1], epochs=99))
    assert deviations(record, replace(plan, arms=longer)) == ("other epochs in arm separate-downsampling",)
    other = replace(plan, data={**plan.data, "fingerprint": "0" * 16})
    assert deviations(record, other) == (f"data fingerprint {'0' * 16}, planned {plan.data['fingerprint']}",)


def test_line_tells_what_was_known_already(tmp_path: Path) -> None:
    """Freezing after some trials have run is no plan before the start: the line counts them."""
    store, plan = synthetic_study(tmp_path, steps=STEPS, missing=[("gelu", s) for s in range(3)])
    record = freeze(store, plan, plan.study.margin)
    assert (record.known, record.trials) == (9, 12)
    assert "when 9 of 12 trials had run already" in planned_line(store, plan.study.folder_name, plan)


def test_line_lists_deviations(tmp_path: Path, planned: tuple[Store, Plan]) -> None:
    """The line of a study that departs from its plan says in what, with the hash."""
    store, plan = planned
    record = freeze(store, plan, plan.study.margin)
    _, more = synthetic_study(tmp_path / "more", steps=STEPS, seeds=4)
    line = planned_line(store, plan.study.folder_name, more)
    assert line.startswith(f"Not as planned (frozen as {record.hash[:12]}")
    assert line.endswith("before any of 12 trials ran): 1 seed added (4, planned 3).")
