"""Audit: the probability of the same sign, what deserves the full run, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import integrate, stats

from vitnas.roadmap.liveness import Liveness
from vitnas.studies.effect import Estimand
from vitnas.studies.plan import Plan
from vitnas.studies.report.audit import Audit, Audited, audit, audit_lines, audit_tables, same_sign
from vitnas.studies.report.step_effects import study_effects
from vitnas.studies.store import Store, write_json
from vitnas.studies.study import StudyError
from vitnas.studies.trial import Score

from .synthetic import synthetic_study

STEPS = "recipe,stage-ratio,gelu,separate-downsampling"
CHEAP, FULL = 6, 50  # epochs


def two(
    root: Path, cheap: dict[str, float], full: dict[str, float], *, missing: Collection[str] = (), sd: float = 0.1
) -> tuple[Plan, Plan]:
    """Two studies in the store `root`, whose steps change top-1 by the given points; `missing` arms have not run in the full one."""
    plans = []
    for epochs, effects, gone in ((CHEAP, cheap, ()), (FULL, full, missing)):
        store, plan = synthetic_study(root, steps=STEPS, epochs=epochs, missing=[(name, s) for name in gone for s in range(3)])
        level = 50.0
        for k, arm in enumerate(plan.arms):
            level += effects.get(arm.name, 0.0)
            offsets = np.random.default_rng(k).permutation([-1.0, 0.0, 1.0])
            for offset, trial in zip(offsets, arm.trials, strict=True):
                result = store.result(trial)
                if result:
                    scores = {"test": Score(images=50_000, top1=level + sd * float(offset), loss=1.0)}
                    write_json(store.trial_folder(trial) / "result.json", replace(result, scores=scores).to_dict())
        plans.append(plan)
    return plans[0], plans[1]


def audited(root: Path, plans: tuple[Plan, Plan]) -> Audit:
    return audit(Store(root), plans[0].study.folder_name, plans[1].study.folder_name)


def by_name(found: Audit) -> dict[str, Audited]:
    return {s.name: s for s in found.steps}


def replanned(root: Path, plan: Plan, **values: object) -> None:
    """Write the plan with fields of every effect replaced."""
    effects = tuple(replace(e, **values) for e in plan.effects)  # type: ignore[arg-type]
    write_json(Store(root).studies / plan.study.folder_name / "plan.json", replace(plan, effects=effects).to_dict())


def test_same_sign_is_the_integral_over_both_posteriors(tmp_path: Path) -> None:
    """P(same sign) is the mass of the two Student posteriors in the quadrants of equal sign, by numerical integration."""
    effects = {"recipe": 2.0, "stage-ratio": 0.15, "gelu": -0.2, "separate-downsampling": 0.1}
    plans = two(tmp_path, effects, {**effects, "gelu": 0.1}, sd=0.3)
    found = by_name(audited(tmp_path, plans))
    sides = [study_effects(Store(tmp_path), p.study.folder_name) for p in plans]
    for mine, its in zip(sides[0].effects, sides[1].effects, strict=True):
        a, b = (stats.t(e.row.df, loc=e.row.value, scale=e.row.se) for e in (mine, its))
        up = integrate.quad(a.pdf, 0, np.inf)[0] * integrate.quad(b.pdf, 0, np.inf)[0]
        down = integrate.quad(a.pdf, -np.inf, 0)[0] * integrate.quad(b.pdf, -np.inf, 0)[0]
        assert found[mine.effect.name].same_sign == pytest.approx(up + down, abs=1e-6)


def test_same_sign_agrees_with_a_simulation() -> None:
    """Drawn from independent posteriors, signs agree as often as the formula says; without noise on a side there is no answer."""
    rng = np.random.default_rng(1)
    a, b = 0.4 + 0.5 * rng.standard_t(4, 400_000), -0.1 + 0.3 * rng.standard_t(6, 400_000)
    p = same_sign(float(stats.t.cdf(0.8, 4)), float(stats.t.cdf(-1 / 3, 6)))
    assert p == pytest.approx(float(np.mean((a > 0) == (b > 0))), abs=0.004)
    assert same_sign(None, 0.9) is None
    assert same_sign(0.5, 0.99) == pytest.approx(0.5)


def test_clear_signs(tmp_path: Path) -> None:
    """Clear effects of one sign on both sides have probability near 1, of opposite signs near 0; neither deserves the full run."""
    cheap = {"recipe": 2.0, "stage-ratio": 1.0, "gelu": -1.0, "separate-downsampling": 1.0}
    found = by_name(audited(tmp_path, two(tmp_path, cheap, {**cheap, "gelu": 1.0})))
    assert found["recipe"].same_sign == pytest.approx(1.0, abs=0.01)
    assert found["gelu"].same_sign == pytest.approx(0.0, abs=0.01)
    assert (found["gelu"].deserves, found["gelu"].why) == (False, "the other sign in full: the proxy misleads")
    assert not any(s.deserves for s in found.values())


def test_what_deserves_the_full_run(tmp_path: Path) -> None:
    """Unknown in full: the step that the cheap run leaves undecided deserves it, the decided one does not; the former comes first."""
    cheap = {"recipe": 2.0, "stage-ratio": 1.0, "gelu": 0.0, "separate-downsampling": 1.0}
    found = audited(tmp_path, two(tmp_path, cheap, cheap, missing=("gelu", "separate-downsampling")))
    steps = by_name(found)
    assert steps["gelu"].deserves and steps["gelu"].why == "undecided in the cheap run, unknown in full"
    assert not steps["separate-downsampling"].deserves and steps["separate-downsampling"].full is None
    assert found.steps[0].name == "gelu"
    assert found.known == 2 and found.expected == pytest.approx(2.0, abs=0.05)


def test_open_signs_are_sorted_by_doubt(tmp_path: Path) -> None:
    """Undecided on both sides: the nearer to even odds the earlier; a step decided in full needs no more of it."""
    cheap = {"recipe": 2.0, "stage-ratio": 0.0, "gelu": 0.12, "separate-downsampling": 0.0}
    full = {"recipe": 2.0, "stage-ratio": 0.03, "gelu": 0.03, "separate-downsampling": 2.0}
    found = audited(tmp_path, two(tmp_path, cheap, full, sd=0.15))
    doubt = [abs((s.same_sign or 0) - 0.5) for s in found.steps if s.deserves]
    assert [s.name for s in found.steps if s.deserves] == ["stage-ratio", "gelu"]
    assert doubt == sorted(doubt)
    assert by_name(found)["separate-downsampling"].why == "decided in full, and the proxy cannot tell"


def test_steps_dead_in_the_cheap_run(tmp_path: Path) -> None:
    """A step of which nothing acts at the cheap input has no sign there: it deserves the full run, first, where that is missing."""
    effects = {"recipe": 2.0, "stage-ratio": 1.0, "gelu": 0.02, "separate-downsampling": 1.0}
    plans = two(tmp_path, effects, effects, missing=("gelu", "separate-downsampling"))
    dead = replace(plans[0].effects[3], liveness=Liveness(state="dead", note="none of its taps touches a pixel"))
    plan = replace(plans[0], effects=(*plans[0].effects[:3], dead))
    write_json(Store(tmp_path).studies / plan.study.folder_name / "plan.json", plan.to_dict())
    found = audited(tmp_path, plans)
    assert found.steps[0].name == "separate-downsampling"
    assert found.steps[0].deserves and found.steps[0].why == "dead in the cheap run, unknown in full"
    assert found.steps[0].same_sign is None


def test_full_not_started(tmp_path: Path) -> None:
    """Before anything has run in full, no probability is given and the table still says what to run."""
    effects = {"recipe": 2.0, "stage-ratio": 1.0, "gelu": 0.0, "separate-downsampling": 1.0}
    names = ("ResNet-50", *STEPS.split(","))
    found = audited(tmp_path, two(tmp_path, effects, effects, missing=names))
    assert found.known == 0 and all(s.same_sign is None for s in found.steps)
    assert [s.name for s in found.steps if s.deserves] == ["gelu"]
    assert "These deserve the full run: gelu." in audit_lines(found)


def test_other_estimand_is_refused_with_the_design_to_run(tmp_path: Path) -> None:
    """Leave-one-out effects do not stand in for cumulative ones: refused, with the command that makes the two comparable."""
    plans = two(tmp_path, {}, {})
    for estimand, command in (
        ("in the paper's order", None),
        ("at the modern corner", "vitnas ablate --design leave-one-out --track convnext-t"),
        ("averaged over legal orders", "vitnas ablate --design orders --track convnext-t"),
    ):
        replanned(tmp_path, plans[0], estimand=estimand)
        if command is None:
            assert len(audited(tmp_path, plans).steps) == 4
        else:
            with pytest.raises(StudyError, match=f"{estimand}.* in the paper's order.*run {command} for the full study"):
                audited(tmp_path, plans)


def test_estimands_in_common_stand_apart(tmp_path: Path) -> None:
    """Two estimands that both studies have get a table each: they never share a column."""
    plans = two(tmp_path, {}, {})
    estimand: Estimand = "averaged over legal orders"
    for plan in plans:
        more = tuple(replace(e, estimand=estimand) for e in plan.effects)
        write_json(Store(tmp_path).studies / plan.study.folder_name / "plan.json", replace(plan, effects=plan.effects + more).to_dict())
    tables = audit_tables(audited(tmp_path, plans))
    assert sorted(name for name, _ in tables) == [estimand, "in the paper's order"]
    assert all(len(lines) == 5 for _, lines in tables)


def test_refusals_name_the_next_move(tmp_path: Path) -> None:
    """Other tracks, shared trials and no step in common are refused in one line."""
    store, one = synthetic_study(tmp_path, steps=STEPS)
    name = one.study.folder_name
    _, other = synthetic_study(tmp_path, track="repvit-m0.9", steps="separate-mixers")
    with pytest.raises(StudyError, match=r"of track convnext-t, .* of repvit-m0\.9: audit two studies of one track"):
        audit(store, name, other.study.folder_name)
    with pytest.raises(StudyError, match="share 15 trials, so neither can audit the other"):
        audit(store, name, name)
    _, apart = synthetic_study(tmp_path, steps="patchify-stem", epochs=FULL)
    with pytest.raises(StudyError, match="have no step in common: run the steps of one in the other with --steps"):
        audit(store, name, apart.study.folder_name)


def test_steps_on_other_ground_are_marked(tmp_path: Path) -> None:
    """GELU on top of other steps in the two studies is compared, with a note; stage-ratio, on the same ones, has none."""
    store, cheap = synthetic_study(tmp_path, steps="recipe,stage-ratio,gelu", epochs=CHEAP)
    _, full = synthetic_study(tmp_path, steps="recipe,stage-ratio,width,gelu", epochs=FULL)
    found = audit(store, cheap.study.folder_name, full.study.folder_name)
    steps = by_name(found)
    assert steps["gelu"].note == "on other steps in the two" and steps["stage-ratio"].note == ""
    assert any("has 1 more effect, which the other lacks" in n for n in found.notes)


def test_diverged_trials_are_told(tmp_path: Path) -> None:
    """A step whose arms diverged in one of the studies says so, and in which."""
    store, cheap = synthetic_study(tmp_path, steps=STEPS, epochs=CHEAP, diverged=[("gelu", 1)])
    _, full = synthetic_study(tmp_path, steps=STEPS, epochs=FULL)
    found = by_name(audit(store, cheap.study.folder_name, full.study.folder_name))
    assert found["gelu"].note == "1/6 diverged in the cheap run"


def test_studies_in_two_stores(tmp_path: Path) -> None:
    """The full run may lie in another store."""
    store, cheap = synthetic_study(tmp_path / "here", steps=STEPS, epochs=CHEAP)
    other, full = synthetic_study(tmp_path / "there", steps=STEPS, epochs=FULL)
    found = audit(store, cheap.study.folder_name, full.study.folder_name, full_store=other)
    assert found.known == 4


def test_json_and_tables_show_the_same(tmp_path: Path) -> None:
    """The audit survives JSON, in the order of its table."""
    found = audited(tmp_path, two(tmp_path, {"recipe": 2.0}, {"recipe": 1.0}, missing=("gelu",)))
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    ((_, lines),) = audit_tables(found)
    assert [s["name"] for s in data["steps"]] == [line[0] for line in lines[1:]]
    assert all(len(line) == len(lines[0]) for line in lines)
