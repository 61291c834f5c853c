"""What users do, with the real command line, real Ray, real MLflow and the digits."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from .command import SMALL, start, vitnas, vitnas_local
from .conftest import STUDY, Roadmap


def folder(root: Path) -> Path:
    """The one study in the store below `root`."""
    (found,) = (root / ".vitnas" / "studies").iterdir()
    return found


def report(root: Path) -> dict[str, Any]:
    """The study's report without what tells of times, hosts and attempts."""
    data: dict[str, Any] = json.loads((folder(root) / "report.json").read_text())
    data.pop("execution")
    return data


def results(root: Path) -> dict[str, dict[str, Any]]:
    """Every result in the store, without what tells of how it ran."""
    out = {}
    for path in (root / ".vitnas" / "trials").glob("*/result.json"):
        data = json.loads(path.read_text())
        out[path.parent.name] = {k: data[k] for k in ("status", "epochs", "scores")}
    return out


def stamps(root: Path) -> dict[str, int]:
    """When each result was written."""
    return {p.parent.name: p.stat().st_mtime_ns for p in (root / ".vitnas" / "trials").glob("*/result.json")}


@pytest.fixture(scope="module")
def finished(on_ray: Roadmap) -> Path:
    """The folder of the roadmap on Ray; what its report says is kept."""
    (on_ray.root / "calm.json").write_text(json.dumps(report(on_ray.root)))
    return on_ray.root


def test_a_roadmap_leaves_everything(finished: Path) -> None:
    """Table, figures, files, study file and MLflow are there, and agree."""
    names = {p.name for p in folder(finished).iterdir()}
    wanted = {
        "study.yaml",
        "plan.json",
        "report.md",
        "report.csv",
        "report.json",
        "report.tex",
        "roadmap.png",
        "roadmap.svg",
        "roadmap.pdf",
    }
    assert wanted <= names
    assert len(results(finished)) == 4
    rows = report(finished)["rows"]
    assert [r["name"] for r in rows] == ["ResNet-50", "depthwise"] and all(r["n"] == 2 for r in rows)
    database = sqlite3.connect(finished / ".vitnas" / "mlflow.db")
    runs = database.execute("select name, status from runs where lifecycle_stage = 'active'").fetchall()
    assert len(runs) == 2 + 4 + 1 and {s for _, s in runs} == {"FINISHED"}
    (mean,) = database.execute(
        "select value from latest_metrics join runs using (run_uuid) where runs.name = '01 depthwise' and key = 'top1'"
    ).fetchall()[0]
    assert mean == pytest.approx(rows[1]["mean"], rel=1e-5)  # six digits are shown


def test_more_seeds_train_only_the_new_ones_and_another_study_reuses_trials(finished: Path) -> None:
    """Nothing is trained twice, by whatever study it is asked for."""
    before = stamps(finished)
    again = vitnas_local(*STUDY, "--seeds", "2", cwd=finished)
    assert "0 trials trained, 4 known before" in again.stdout
    sweep = vitnas_local("sweep", str(folder(finished) / "study.yaml"), cwd=finished)
    assert "0 trials trained, 4 known before" in sweep.stdout
    more = vitnas_local(*STUDY, "--seeds", "3", "--executor", "local", cwd=finished)
    assert "2 trials trained, 4 known before" in more.stdout
    other = vitnas_local("roadmap", "--steps", "depthwise,width", *SMALL, "--seeds", "3", "--plan", "--json", cwd=finished)
    assert json.loads(other.stdout)["known"] == 6
    assert {k: stamps(finished)[k] for k in before} == before


def test_ray_and_local_give_the_same_to_the_bit(finished: Path, tmp_path: Path) -> None:
    """The same trials in one process, one after another, give the same scores and weights."""
    vitnas_local(*STUDY, "--seeds", "2", "--executor", "local", cwd=tmp_path)
    ray, local = finished / ".vitnas" / "trials", tmp_path / ".vitnas" / "trials"
    for path in local.glob("*/weights.safetensors"):
        assert path.read_bytes() == (ray / path.parent.name / path.name).read_bytes()
        assert results(tmp_path)[path.parent.name] == results(finished)[path.parent.name]


def test_killed_with_9_it_goes_on_and_ends_the_same(finished: Path, tmp_path: Path) -> None:
    """kill -9 of the driver once a trial has finished; the same command runs no finished trial again and the report is the same."""
    process = start(*STUDY, "--seeds", "2", cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not stamps(tmp_path):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = stamps(tmp_path)
    again = vitnas(*STUDY, "--seeds", "2", cwd=tmp_path)
    known = int(again.stdout.split(" known, ")[0].rpartition(" ")[2])
    assert known >= len(before)  # a worker that outlived the driver may have finished one more
    assert {k: stamps(tmp_path)[k] for k in before} == before
    assert report(tmp_path) == json.loads((finished / "calm.json").read_text())


def test_one_driver_at_a_time(tmp_path: Path) -> None:
    """A second driver on the same study is told who has it and loses nothing; Ctrl-C exits with 130 and the way on."""
    process = start(*STUDY, "--seeds", "30", "--executor", "local", cwd=tmp_path)  # long enough to outlast the second one's start
    deadline = time.monotonic() + 60
    while not list((tmp_path / ".vitnas").glob("trials/*/curve.jsonl")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    second = vitnas_local(*STUDY, "--seeds", "30", "--executor", "local", cwd=tmp_path, check=1)
    assert "is being run by process" in second.stderr and second.stderr.count("\n") == 1
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "run the same command again" in out


def test_mlflow_out_of_reach_does_not_stop_a_study(tmp_path: Path) -> None:
    """A dead server costs one line; the study ends with its report, and sync catches up."""
    env = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    done = vitnas_local("train", "convnext-micro", *SMALL, cwd=tmp_path, env=env)
    warnings = [line for line in (done.stdout + done.stderr).splitlines() if "vitnas sync" in line]
    assert len(warnings) == 1 and (folder(tmp_path) / "report.json").exists()
    assert "runs made" in vitnas_local("sync", cwd=tmp_path).stdout
    assert "0 runs made, 0 mended" in vitnas_local("sync", cwd=tmp_path).stdout


def test_study_files_are_what_was_typed(finished: Path) -> None:
    """The study file holds the options by their names."""
    study = yaml.safe_load((folder(finished) / "study.yaml").read_text())
    assert study["kind"] == "roadmap" and study["steps"] == "depthwise" and study["epochs"] == 2


def test_status_and_report_read_the_store_alone(finished: Path) -> None:
    """They show what was run."""
    rows = json.loads(vitnas_local("status", "--json", cwd=finished).stdout)
    assert {r["state"] for r in rows} == {"done"}
    before = (folder(finished) / "report.json").read_text()
    (folder(finished) / "report.json").unlink()
    vitnas_local("report", cwd=finished)
    assert (folder(finished) / "report.json").read_text() == before
