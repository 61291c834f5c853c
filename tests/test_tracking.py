"""MLflow as a view of the store: complete, the same however often and however interrupted it was made, and never in the way."""

from __future__ import annotations

import math
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from vitnas.studies.addresses import public_uri
from vitnas.studies.plan import Plan
from vitnas.studies.report.make import load_summary
from vitnas.studies.store import Store, write_atomic
from vitnas.studies.tracking import sync as tracking
from vitnas.studies.tracking.sync import TrackingError, sync, tracking_uri
from vitnas.studies.tracking.tracker import Tracker
from vitnas.studies.tracking.view import note

from .synthetic import synthetic_study

STEPS = "recipe,stage-ratio,patchify-stem"
DIVERGED = ("stage-ratio", 1)
MISSING = ("patchify-stem", 1)


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes 1.5 s and more to make one; tests copy it. What a killed process left of one does not matter."""
    path = tmp_path_factory.mktemp("mlflow") / "empty.db"
    path.with_name(".empty.db.new").write_text("the first half")
    tracking._prepare_sqlite(path)
    assert [p.name for p in path.parent.iterdir()] == ["empty.db"]
    return path


def small_study(root: Path, database: Path, **options: Any) -> tuple[Store, Plan]:
    """Four arms of two seeds over four epochs, with a report, beside an empty MLflow database."""
    store, plan = synthetic_study(root, steps=STEPS, epochs=4, **{"seeds": 2} | options)
    if not (root / "mlflow.db").exists():
        shutil.copy(database, root / "mlflow.db")
    folder = store.studies / plan.study.folder_name
    write_atomic(folder / "report.md", lambda f: f.write(b"# Roadmap\n\n![Roadmap](roadmap.png)\n"))
    write_atomic(folder / "roadmap.png", lambda f: f.write(b"\x89PNG"))
    return store, plan


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> dict[str, Any]:
    """What MLflow has of the small study after one sync of the whole."""
    store, plan = small_study(tmp_path_factory.mktemp("undisturbed"), empty_database)
    sync(store, plan.study.folder_name)
    return dump(store, plan.study.folder_name)


def client(store: Store) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{store.root / 'mlflow.db'}")


def dump(store: Store, name: str) -> dict[str, Any]:
    """All that MLflow has of the study but its own ids and the times of logging, by key."""
    mlflow = client(store)
    experiment = mlflow.get_experiment_by_name(name)
    assert experiment
    runs = mlflow.search_runs([experiment.experiment_id], max_results=1000)
    names = {run.info.run_id: run.data.tags["vitnas.key"] for run in runs}
    out: dict[str, Any] = {"experiment": {k: names.get(v, v) if k != "mlflow.note.content" else "note" for k, v in experiment.tags.items()}}
    history: dict[str, dict[str, list[tuple[int, float]]]] = {run: {} for run in names}
    with closing(sqlite3.connect(store.root / "mlflow.db")) as database:  # MLflow's client takes a call for each metric of each run
        for run_id, key, step, value in database.execute("SELECT run_uuid, key, step, value FROM metrics ORDER BY step, timestamp"):
            history.setdefault(run_id, {}).setdefault(key, []).append((step, value))
    for run in runs:
        out.setdefault(run.data.tags["vitnas.key"], []).append(
            {
                "name": run.info.run_name,
                "status": run.info.status,
                "end": run.info.end_time,
                "params": run.data.params,
                "tags": {k: names.get(v, v) for k, v in run.data.tags.items()},
                "metrics": history[run.info.run_id],
                "data": [(d.dataset.name, d.dataset.digest) for d in (run.inputs.dataset_inputs if run.inputs else [])],
                "files": sorted(f.path for f in mlflow.list_artifacts(run.info.run_id)),
            }
        )
    return out


def points(dumped: dict[str, Any]) -> int:
    return sum(len(h) for key, runs in dumped.items() if key != "experiment" for run in runs for h in run["metrics"].values())


def test_a_study_from_nothing(tmp_path: Path, empty_database: Path) -> None:
    """One experiment: a summary run per arm at the top level in order, its seeds beneath it with their curves, one run for the study."""
    store, plan = small_study(tmp_path, empty_database, diverged=[DIVERGED])
    name = plan.study.folder_name
    (store.studies / name / "report.md").write_text("# A report\n")
    for lock in ("lock", "lease.00000007"):  # the latter is gone in a few seconds
        (store.studies / name / lock).write_text("{}")
    told: list[str] = []
    report = sync(store, name, on_progress=told.append)
    assert (report.created, report.mended, report.unchanged, report.removed) == (13, 0, 0, 0)
    assert "03 patchify-stem" in told
    dumped = dump(store, name)
    assert all(len(runs) == 1 for key, runs in dumped.items() if key != "experiment")
    arms = [dumped[f"{name}/{arm.name}"][0] for arm in plan.arms]
    assert [a["name"] for a in arms] == ["00 ResNet-50", "01 recipe", "02 stage-ratio", "03 patchify-stem"]
    assert all("mlflow.parentRunId" not in a["tags"] and a["tags"]["vitnas.kind"] == "arm" for a in arms)
    for arm, run, row in zip(plan.arms, arms, load_summary(store, name).rows, strict=True):
        value = {k: h[-1][1] for k, h in run["metrics"].items()}
        assert row.mean is not None and math.isclose(value["top1"], row.mean, rel_tol=1e-5)
        assert math.isclose(value["top1_sd"], row.sd or 0, rel_tol=1e-5, abs_tol=1e-9) and value["n"] == 2
        assert math.isclose(value["gmacs"], arm.macs / 1e9, rel_tol=1e-5)
        assert math.isclose(value["mparams"], arm.params / 1e6, rel_tol=1e-5)
        assert ("delta" in value) == (arm.parent is not None)
        if row.delta and row.delta.simultaneous:
            assert math.isclose(value["delta"], row.delta.value, rel_tol=1e-5)
            assert math.isclose(value["delta_low"], row.delta.simultaneous.low, rel_tol=1e-5)
        assert run["params"]["step.patchify-stem"] == ("on" if arm.name == "patchify-stem" else "off")
        assert run["params"]["recipe"] == "short" and run["params"]["recipe.optimizer"] == arm.recipe.optimizer
        assert run["params"]["epochs"] == "4" and run["params"]["macs"] == str(arm.macs)
        assert run["data"] == [("digits", plan.data["fingerprint"])]
        for seed, trial in zip(arm.seeds, arm.trials, strict=True):
            check_seed(store, dumped[f"{name}/{arm.name}/{trial}"][0], name, arm.name, seed, trial)
    study = dumped[name][0]
    assert study["files"] == ["plan.json", "report.md", "roadmap.png", "study.yaml"] and study["status"] == "FINISHED"
    described = client(store).get_experiment_by_name(name)
    assert described and described.tags["mlflow.note.content"] == "# A report\n"
    assert re.fullmatch(r"13 runs at sqlite:.*/mlflow.db \(13 new, 0 mended, 0 removed\) in \d+\.\d s", str(report))
    assert sorted(p.name for p in tmp_path.glob("*mlflow*")) == ["mlflow.db", "mlflow.lock"]


def check_seed(store: Store, run: dict[str, Any], study: str, arm: str, seed: int, trial: str) -> None:
    result = store.result(trial)
    assert result is not None
    diverged = (arm, seed) == DIVERGED
    assert run["tags"]["mlflow.parentRunId"] == f"{study}/{arm}" and run["tags"]["vitnas.trial"] == trial
    assert run["tags"]["vitnas.version.torch"] == result.execution.versions["torch"] and run["tags"]["vitnas.device"] == "cpu"
    assert run["status"] == ("FAILED" if diverged else "FINISHED") and run["params"]["seed"] == str(seed)
    curve = [(r["epoch"], r["top1"]) for r in store.curve(trial)]
    assert run["metrics"]["curve/validation_top1"] == curve and len(curve) == (1 if diverged else 4)
    if diverged:
        assert run["metrics"]["diverged_epoch"] == [(0, 1.0)] and "top1" not in run["metrics"]
    else:
        assert run["metrics"]["top1"] == run["metrics"]["test_top1"] == [(0, result.scores["test"].top1)]


def test_twice_is_as_once(tmp_path: Path, empty_database: Path, undisturbed: dict[str, Any]) -> None:
    """A second sync writes nothing: the same runs, params, tags and points of metrics."""
    store, plan = small_study(tmp_path, empty_database)
    name = plan.study.folder_name
    sync(store, name)
    again = sync(store, name)
    assert (again.created, again.mended, again.unchanged, again.removed) == (0, 0, 13, 0)
    after = dump(store, name)
    assert after == undisturbed and points(after) == points(undisturbed) > 8 * 4 * 3


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize(("method", "survived"), [("create_run", 0), ("set_terminated", 6), ("log_batch", 20)])
def test_a_killed_sync_is_completed(
    method: str, survived: int, tmp_path: Path, empty_database: Path, undisturbed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a run had when the process ended, the next sync makes it whole, without a second one."""
    monkeypatch.setattr(tracking, "METRICS", 4)  # so that a curve takes several batches
    store, plan = small_study(tmp_path, empty_database)
    name = plan.study.folder_name
    calls = 0
    original: Callable[..., Any] = getattr(MlflowClient, method)

    def dies(*args: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        result = original(*args, **keywords)
        if calls > survived:
            raise Killed
        return result

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, method, dies)
        with pytest.raises(Killed):
            sync(store, name)
    report = sync(store, name)
    assert report.mended == 1 and report.created + report.unchanged == 12
    assert dump(store, name) == undisturbed


def test_a_study_that_grows(tmp_path: Path, empty_database: Path) -> None:
    """More seeds: the arms' summaries change in place, the known seeds stay as they are; waiting arms are scheduled."""
    store, plan = small_study(tmp_path, empty_database, missing=[MISSING])
    name = plan.study.folder_name
    sync(store, name)
    first = dump(store, name)
    waiting = first[f"{name}/patchify-stem"][0]
    assert waiting["status"] == "SCHEDULED" and waiting["metrics"]["n"] == [(0, 1.0)] and first[name][0]["status"] == "SCHEDULED"
    store, plan = small_study(tmp_path, empty_database, seeds=3)
    report = sync(store, name)
    assert report.created == 5 and report.mended == 5  # a third seed of four arms and the one that was missing; the arms and the study
    grown = dump(store, name)
    for key, runs in first.items():
        if key.count("/") == 2:
            assert grown[key] == runs
    for arm, row in zip(plan.arms, load_summary(store, name).rows, strict=True):
        run = grown[f"{name}/{arm.name}"][0]
        assert run["status"] == "FINISHED" and run["metrics"]["n"][-1] == (0, 3.0)
        latest = client(store).search_runs([sync(store, name).experiment], f"tags.`vitnas.key` = '{name}/{arm.name}'")[0].data.metrics
        assert row.mean is not None and math.isclose(latest["top1"], row.mean, rel_tol=1e-5)


def test_what_others_did_to_mlflow_is_mended(tmp_path: Path, empty_database: Path) -> None:
    """A deleted run comes back, a second run of one key and one that the study does not have go, a deleted experiment is restored."""
    store, plan = small_study(tmp_path, empty_database)
    name = plan.study.folder_name
    experiment = sync(store, name).experiment
    expected = dump(store, name)
    mlflow = client(store)
    run = mlflow.search_runs([experiment], f"tags.`vitnas.key` = '{name}/recipe'")[0]
    mlflow.delete_run(run.info.run_id)
    mlflow.create_run(experiment, tags={"vitnas.key": f"{name}/stage-ratio", "vitnas.kind": "arm"})
    mlflow.create_run(experiment, tags={"vitnas.key": f"{name}/gone", "vitnas.kind": "arm"})
    mine = mlflow.create_run(experiment, run_name="the user's own").info.run_id
    report = sync(store, name)
    assert (report.created, report.removed) == (1, 2) and report.mended == 2  # the seeds beneath the arm that came back
    assert mlflow.get_run(mine).info.lifecycle_stage == "active"
    mlflow.delete_run(mine)
    assert dump(store, name) == expected
    mlflow.delete_experiment(experiment)
    assert sync(store, name).experiment == experiment
    mlflow.delete_run(mine)  # MLflow restores an experiment with all its runs
    assert dump(store, name) == expected


def test_a_trial_that_was_run_again_replaces_its_run(tmp_path: Path, empty_database: Path) -> None:
    """MLflow keeps every point ever logged, so a seed with another curve gets a new run."""
    store, plan = small_study(tmp_path, empty_database)
    name, arm = plan.study.folder_name, plan.arms[1]
    sync(store, name)
    path = store.trial_folder(arm.trials[0]) / "curve.jsonl"
    path.write_text("".join(line.replace('"loss": ', '"loss": 1') + "\n" for line in path.read_text().splitlines()))
    report = sync(store, name)
    assert (report.created, report.mended) == (0, 1)
    (run,) = dump(store, name)[f"{name}/{arm.name}/{arm.trials[0]}"]
    assert run["metrics"]["curve/loss"] == [(r["epoch"], r["loss"]) for r in store.curve(arm.trials[0])]


def test_the_tracker_logs_seeds_as_they_finish(tmp_path: Path, empty_database: Path, undisturbed: dict[str, Any]) -> None:
    """During the run seeds appear beneath their arms; in the end MLflow is as after one sync of the whole."""
    store, plan = small_study(tmp_path, empty_database)
    name = plan.study.folder_name
    warnings: list[str] = []
    with Tracker(store, name, warn=warnings.append) as tracker:
        tracker.trial_done(plan.arms[2].trials[0])
        key = f"{name}/stage-ratio/{plan.arms[2].trials[0]}"
        deadline = time.monotonic() + 10
        while not (finished := status_of(store, name, key)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert finished == "FINISHED"
        assert status_of(store, name, f"{name}/stage-ratio") == "RUNNING"
        assert status_of(store, name, f"{name}/stage-ratio/{plan.arms[2].trials[1]}") is None
    assert tracker.report is not None and warnings == []
    assert dump(store, name) == undisturbed


def status_of(store: Store, name: str, key: str) -> str | None:
    experiment = client(store).get_experiment_by_name(name)
    found = client(store).search_runs([experiment.experiment_id], f"tags.`vitnas.key` = '{key}'") if experiment else []
    done = [run.info.status for run in found if run.data.tags.get("vitnas.digest") or run.data.tags["vitnas.kind"] == "arm"]
    return str(done[0]) if done else None


def test_a_study_that_has_no_plan_yet_is_not_missed(tmp_path: Path) -> None:
    """A search that ends before its first training has nothing to show, and nothing is said."""
    store, warnings = Store(tmp_path), list[str]()
    store.prepare()
    with Tracker(store, "nothing", warn=warnings.append) as tracker:
        pass
    assert not warnings and tracker.report is None


def test_an_outage_never_stops_training(
    tmp_path: Path, empty_database: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With MLflow down a run ends within seconds, with one line that names the next move; `sync` then catches up."""
    store, plan = small_study(tmp_path, empty_database)
    name = plan.study.folder_name
    warnings: list[str] = []
    began = time.monotonic()
    with Tracker(store, name, warn=warnings.append, uri=f"http://127.0.0.1:{closed_port()}") as tracker:
        for trial in plan.trials:
            tracker.trial_done(trial.id)
        time.sleep(0.5)
    assert time.monotonic() - began < 4 and tracker.report is None
    assert len(warnings) == 1 and "\n" not in warnings[0]
    assert "connection refused" in warnings[0] and f"`vitnas sync {name}`" in warnings[0]
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port()}")
    with pytest.raises(TrackingError, match="connection refused"):
        sync(store, name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert sync(store, name).created == 13


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_server_that_never_answers_is_left_behind(tmp_path: Path, empty_database: Path) -> None:
    """The end of a run waits `patience` seconds for progress and no longer."""
    store, plan = small_study(tmp_path, empty_database)
    warnings: list[str] = []
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with Tracker(store, plan.study.folder_name, warn=warnings.append, uri=f"http://127.0.0.1:{silent.getsockname()[1]}", patience=1):
            pass
        assert time.monotonic() - began < 3
    assert len(warnings) == 1 and "no answer" in warnings[0] and f"`vitnas sync {plan.study.folder_name}`" in warnings[0]


def test_a_locked_database_is_an_outage_too(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program in the middle of a write: one line, and nothing lost."""
    monkeypatch.setattr(tracking, "LOCKED", 0.3)
    store, plan = small_study(tmp_path, empty_database)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackingError, match=r"database is locked.*vitnas sync"):
            sync(store, plan.study.folder_name)
    assert sync(store, plan.study.folder_name).created == 13


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("htp://x", "use sqlite:///FILE or http://HOST:PORT"),
        ("{}/folder", "no longer takes plain folders"),
        ("sqlite:///{}/bad.db", "not a database"),
    ],
)
def test_an_unusable_address_gets_one_line(
    uri: str, reason: str, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line says what is wrong with MLFLOW_TRACKING_URI and what to do."""
    store, plan = small_study(tmp_path, empty_database)
    (tmp_path / "bad.db").write_text("no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(tmp_path))
    with pytest.raises(TrackingError) as caught:
        sync(store, plan.study.folder_name)
    assert reason in str(caught.value) and "\n" not in str(caught.value) and "vitnas sync" in str(caught.value)


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default a file in the store; a relative file is one in the current folder, whichever is current later; passwords are not shown."""
    store = Store(tmp_path / "store")
    assert tracking_uri(store) == f"sqlite:///{tmp_path}/store/mlflow.db"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///runs.db")
    assert tracking_uri(store) == f"sqlite:///{tmp_path}/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example/x")
    assert tracking_uri(store) == "https://me:secret@mlflow.example/x"
    assert public_uri(tracking_uri(store)) == "https://mlflow.example/x"


def test_the_description() -> None:
    """Pictures come from MLflow's server; a report that is too long for MLflow is cut at a line, and says where the whole is."""
    assert note("![Roadmap](roadmap.png)\n", "r1") == "![Roadmap](get-artifact?path=roadmap.png&run_uuid=r1)\n"
    assert "path=roadmap.svg&" in note("![Roadmap](roadmap.png)\n", "r1", ["roadmap.png", "roadmap.svg"])
    long = "".join(f"| row {i} | 97.{i} |\n" for i in range(1000))
    cut = note(long, "r1")
    assert len(cut) <= 5000 and cut.endswith("artifacts of the run *study*.\n")
    kept = cut.split("\n\nThe whole")[0]
    assert long.startswith(kept) and kept.endswith("|")


def test_only_what_is_needed_is_imported() -> None:
    """Importing the modules does not import mlflow: that takes seconds."""
    code = "import sys, vitnas.studies.tracking.tracker, vitnas.studies.tracking.ui; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
