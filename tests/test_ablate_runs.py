"""Real ablations on the digits, through the command line: small trainings, the whole road from the question to the report."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from vitnas.studies.store import Store
from vitnas.studies.trial import PLACEBO_SEEDS, TUNING_SEEDS

from .command import SMALL, start, vitnas, vitnas_local

HERE = [*SMALL, "--epochs", "1", "--executor", "local"]
STEPS = ["--steps", "patchify-stem,gelu,layer-norm", "--fix", "optimizer"]


def report(root: Path, name: str) -> dict[str, Any]:
    """The study's report.json."""
    return json.loads((root / ".vitnas" / "studies" / name / "report.json").read_text())  # type: ignore[no-any-return]


def finished(root: Path) -> set[str]:
    """Trials that have a result."""
    return {p.parent.name for p in (root / ".vitnas" / "trials").glob("*/result.json")}


def test_leave_one_out_and_the_designs_that_share_its_trials(tmp_path: Path) -> None:
    """A real leave-one-out with its placebo; a fraction of the same steps then trains only what is new; all of it is reported."""
    vitnas_local("ablate", *STEPS, *HERE, "--seeds", "2", "--name", "corner", cwd=tmp_path)
    told = report(tmp_path, "corner")
    effects = {e["name"]: e for e in told["effects"]}
    assert set(effects) == {"patchify-stem", "gelu", "layer-norm", "placebo"}
    assert {e["estimand"] for e in effects.values()} == {"at the modern corner", "the reference again"}
    for e in effects.values():
        assert e["simultaneous"]["low"] <= e["interval"]["low"] <= e["value"] <= e["interval"]["high"] <= e["simultaneous"]["high"]
        assert e["word"] in ("helps", "hurts", "equivalent", "undecided")
    folder = tmp_path / ".vitnas" / "studies" / "corner"
    for file in ("effects.png", "effects.svg", "effects.pdf", "effects.csv", "report.md", "report.tex"):
        assert (folder / file).stat().st_size > 500, file
    before = finished(tmp_path)
    assert len(before) == 2 * (1 + 3 + 1)
    fraction = ["--design", "fractional", "--resolution", "3"]
    out = vitnas_local("ablate", *STEPS, *HERE, "--seeds", "2", "--name", "half", *fraction, cwd=tmp_path)
    assert "4 known" in out.stdout, "the network with everything on, and its placebo"
    half = report(tmp_path, "half")
    assert {e["estimand"] for e in half["effects"]} == {"main effect plus aliases", "the reference again"}
    assert any(e["aliases"] for e in half["effects"])
    out = vitnas_local("ablate", *STEPS, *HERE, "--seeds", "1", "--name", "shares", "--design", "orders", "--no-placebo", cwd=tmp_path)
    shares = report(tmp_path, "shares")
    tops = {r["name"]: r["mean"] for r in shares["rows"]}
    credit = sum(e["value"] for e in shares["effects"] if e["estimand"] == "averaged over legal orders")
    assert abs(credit - (tops["patchify-stem+gelu+layer-norm"] - tops["base"])) < 1e-9, "credits sum to the total gain"
    assert (tmp_path / ".vitnas" / "studies" / "shares" / "shapley.png").exists()


def test_tuning_first_and_killed_in_between(tmp_path: Path) -> None:
    """--tune runs its grid on validation, goes on after kill -9, here on Ray, and reports each effect at the shared setting and at each
    arm's best."""
    command = ["ablate", "--steps", "gelu", "--tune", "lr", *SMALL, "--epochs", "1", "--seeds", "2", "--name", "tuned", "--no-placebo"]
    running = start(*command, "--executor", "local", cwd=tmp_path)
    deadline = time.monotonic() + 120
    while len(finished(tmp_path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    before = {t: (tmp_path / ".vitnas" / "trials" / t / "result.json").stat().st_mtime_ns for t in finished(tmp_path)}
    assert len(before) >= 3
    vitnas(*command, cwd=tmp_path)
    after = {t: (tmp_path / ".vitnas" / "trials" / t / "result.json").stat().st_mtime_ns for t in before}
    assert after == before, "what was finished is not trained again"
    told = report(tmp_path, "tuned")
    assert sorted(e["context"] for e in told["effects"]) == ["", "each arm at its best"]
    store = Store(tmp_path / ".vitnas")
    seeds = [store.trial(t).seed for t in finished(tmp_path)]
    grid = [s for s in seeds if s >= TUNING_SEEDS]
    assert len(grid) == 2 * 3 * 2 and all(s < PLACEBO_SEEDS for s in seeds if s not in grid)
    scored = {s for t in finished(tmp_path) if store.trial(t).seed >= TUNING_SEEDS and (r := store.result(t)) for s in r.scores}
    assert scored == {"validation"}, "tuning never sees the test split"


def test_until_decided_adds_seeds_and_stops(tmp_path: Path) -> None:
    """Seeds are added look by look up to --max-seeds; running it again trains nothing; the looks stand in the plan and the report."""
    command = ["ablate", "--steps", "gelu,layer-norm", *HERE, "--seeds", "2", "--until-decided", "--max-seeds", "4", "--name", "looks"]
    vitnas_local(*command, cwd=tmp_path)
    plan = json.loads((tmp_path / ".vitnas" / "studies" / "looks" / "plan.json").read_text())
    assert plan["looks"] in ([2], [2, 3], [2, 3, 4])
    assert {len(a["trials"]) for a in plan["arms"]} <= {2, 3, 4}
    if len(plan["looks"]) > 1:
        assert f"{len(plan['looks'])} looks" in (tmp_path / ".vitnas" / "studies" / "looks" / "report.md").read_text()
    before = finished(tmp_path)
    out = vitnas_local(*command, cwd=tmp_path)
    assert "0 trials trained" in out.stdout and finished(tmp_path) == before


def test_a_plan_is_frozen_before_and_held_to(tmp_path: Path) -> None:
    """The plan says what it can detect and warns; frozen, the report says as planned, and names what was changed."""
    study = tmp_path / "study.yaml"
    how = "epochs: 2\ndata-fraction: 0.15\nset: {batch-size: 32}\nexecutor: local\n"
    study.write_text(f"kind: ablate\nname: held\nsteps: gelu\n{how}seeds: 2\nplacebo: false\n")
    out = vitnas_local("plan", str(study), "--freeze", "--workers", "4", cwd=tmp_path).stdout
    assert "smallest effect that would show at 80 % power" in out and "on 4 such machines" in out and "fewer than 300" in out
    assert not finished(tmp_path)
    vitnas_local("sweep", str(study), cwd=tmp_path)
    folder = tmp_path / ".vitnas" / "studies" / "held"
    assert "As planned" in (folder / "report.md").read_text()
    study.write_text(study.read_text().replace("seeds: 2", "seeds: 3"))
    vitnas_local("sweep", str(study), cwd=tmp_path)
    assert "Not as planned" in (folder / "report.md").read_text()
    study.write_text(study.read_text().replace("steps: gelu", "steps: layer-norm"))
    refused = vitnas_local("plan", str(study), "--freeze", cwd=tmp_path, check=1)
    assert "holds another plan" in refused.stderr and len(refused.stderr.strip().splitlines()) == 1


def test_a_study_in_which_everything_diverges_is_reported(tmp_path: Path) -> None:
    """Divergence is an outcome: with a learning rate of 1000 the report is whole, counts diverged trials and calls nothing equivalent."""
    wild = ["--epochs", "2", "--set", "lr=1000", "--name", "wild"]
    vitnas_local("ablate", "--steps", "width,gelu", *HERE, "--seeds", "2", *wild, cwd=tmp_path)
    told = report(tmp_path, "wild")
    assert sum(r["diverged"] for r in told["rows"]) > 0
    assert all(e["word"] != "equivalent" for e in told["effects"] if e["diverged"])
    text = (tmp_path / ".vitnas" / "studies" / "wild" / "report.md").read_text()
    assert "diverged" in text
    again = vitnas_local("report", "wild", cwd=tmp_path)
    assert "diverged" in again.stdout


def test_a_study_without_results_can_be_reported(tmp_path: Path) -> None:
    """Before its first trial is done, a study's report says that nothing has run."""
    command = ["ablate", "--steps", "gelu", *HERE, "--seeds", "2", "--name", "empty", "--no-placebo"]
    vitnas_local(*command, cwd=tmp_path)
    for trial in finished(tmp_path):
        (tmp_path / ".vitnas" / "trials" / trial / "result.json").write_bytes(b"\xff\xfe not json")
    out = vitnas_local("report", "empty", cwd=tmp_path)
    assert "not run" in out.stdout
    assert "4 trials trained" in vitnas_local(*command, cwd=tmp_path).stdout
