"""`vitnas search`: a real search of the digits through the command line, killed and resumed; what it refuses; its files."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import threading
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from vitnas.studies.latency.quiet import HostBusy
from vitnas.studies.library import open_plan, standing
from vitnas.studies.report.search_report import make_search_report
from vitnas.studies.running.search import check_same, engine_of, prepare_search, run_search
from vitnas.studies.running.search_record import keep
from vitnas.studies.running.search_view import SearchView
from vitnas.studies.search.engine import Engine, Train
from vitnas.studies.search.log import Log, read_log
from vitnas.studies.search.state import State
from vitnas.studies.store import Store, read_json, remove, write_json
from vitnas.studies.study import Study, StudyError
from vitnas.studies.tracking.runs import shown

from .command import start, vitnas, vitnas_here, vitnas_local

QUICK = ["--epochs", "1", "--data-fraction", "0.2", "--set", "batch-size=32", "--seeds", "1", "--finalists", "1", "--trials", "6"]
SEARCH = ["search", *QUICK, "--objectives", "accuracy,macs", "--executor", "local", "--name", "s"]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store in which a search was killed with -9 after its second training, and resumed to its end."""
    folder = tmp_path_factory.mktemp("search")
    log = folder / ".vitnas" / "studies" / "s"
    running = start(*SEARCH, cwd=folder)
    deadline = time.monotonic() + 120
    while sum(r["what"] == "tell" for r in read_log(log)) < 2 and time.monotonic() < deadline and running.poll() is None:
        time.sleep(0.05)
    assert running.poll() is None, running.stdout.read() if running.stdout else ""
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert "the search has not ended: its command goes on with it" in vitnas_local("status", "s", cwd=folder).stdout
    before = read_log(log)
    assert sum(r["what"] == "tell" for r in before) >= 2 and not any(r["what"] == "stop" for r in before)
    done = vitnas_local(*SEARCH, cwd=folder)
    (folder / "before.json").write_text(json.dumps(before))
    (folder / "out.txt").write_text(done.stdout)
    return folder


def test_a_killed_search_loses_nothing_and_trains_nothing_twice(killed: Path) -> None:
    """Its log goes on where it stopped; every trial of it has one result, and those that had ended had one attempt."""
    before = json.loads((killed / "before.json").read_text())
    records = read_log(killed / ".vitnas" / "studies" / "s")
    assert records[: len(before)] == before
    told = Counter(r["trial"] for r in records if r["what"] == "tell")
    assert set(told.values()) == {1}
    assert set(told) == {r["trial"] for r in records if r["what"] == "train"}
    store = Store(killed / ".vitnas")
    results = store.results(told)
    assert set(results) == set(told) == {p.name for p in store.trials.iterdir()}
    ended = {r["trial"] for r in before if r["what"] == "tell"}
    assert all(results[t].attempts == 1 for t in ended)
    assert len({r["candidate"] for r in records if r["what"] == "train" and r["purpose"] == "search"}) == 6
    assert store.test_scorings(store.trial(next(iter(told))).data.fingerprint) == sum(
        r["purpose"] == "final" for r in records if r["what"] == "train"
    )


def test_its_report_has_front_finalists_and_winner(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In files, on the terminal and again from the store alone; the standing and MLflow know its trainings."""
    folder = killed / ".vitnas" / "studies" / "s"
    report = json.loads((folder / "report.json").read_text())
    assert report["trained"] == 6 and any(c["front"] for c in report["candidates"])
    final = {f["name"]: f for f in report["final"]}
    assert report["winner"] in final and final[report["winner"]]["top1"] is not None
    text = (folder / "report.md").read_text()
    assert "## Front" in text and "(winner)" in text and report["rebuild"] in text
    assert (folder / "front.png").stat().st_size > 10_000 and (folder / "winner.safetensors").exists()
    _, again, _ = vitnas_here("report", "s", "--json", cwd=killed, monkeypatch=monkeypatch, capsys=capsys)
    assert json.loads(again) == report
    status = json.loads(vitnas_here("status", "s", "--json", cwd=killed, monkeypatch=monkeypatch, capsys=capsys)[1])
    assert len(status) == len([r for r in read_log(folder) if r["what"] == "train"]) and {r["state"] for r in status} == {"done"}
    assert "MLflow at" in (killed / "out.txt").read_text()
    assert vitnas_local("status", "s", cwd=killed).stdout.endswith(f"s: {len(status)} of {len(status)} trials done\n")
    columns = (folder / "report.csv").read_text().splitlines()[0].split(",")
    assert {"macs", "macs low"} <= set(columns)


def test_the_command_it_gives_makes_the_winner_again(killed: Path) -> None:
    """It is the same training to the last field: the store knows it."""
    words = shlex.split((killed / ".vitnas" / "studies" / "s" / "rebuild.txt").read_text())
    assert words[:2] == ["vitnas", "train"]
    out = vitnas_local(*words[1:], cwd=killed).stdout
    assert "0 trials trained, 1 known before" in out


def test_another_search_takes_its_trainings_from_the_store(killed: Path) -> None:
    """For other objectives it begins with what is known, and trains one network more."""
    options = ["--name", "other", "--objectives", "accuracy,params", "--trials", "1", "--published", "none"]
    out = vitnas_local(*SEARCH, *options, cwd=killed).stdout
    assert "6 trained before" in out
    report = json.loads((killed / ".vitnas" / "studies" / "other" / "report.json").read_text())
    assert report["known"] == 6 and report["trained"] == 1


def test_a_search_that_changed_is_refused_with_the_difference(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Objectives and space may not change under a search."""
    code, _, err = vitnas_here(*SEARCH, "--objectives", "accuracy,params", cwd=killed, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and "objectives: the search s was begun with accuracy,macs, and would go on with accuracy,params" in err
    (killed / "space.yaml").write_text("steps: all\nvary:\n  width-factor: [0.5, 1]\n  depth-factor: [1, 2]\n")
    code, _, err = vitnas_here(*SEARCH, "--space", "space.yaml", cwd=killed, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and "space: the search s was begun with kernels: 3, 5, 7, and would go on with kernels: nothing" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--sampler", "cma"], "sampler: 'cma' is not one of vitnas, tpe, nsga2, gp, random"),
        (["--objectives", "accuracy,latencies"], "unknown objective 'latencies'; did you mean latency?"),
        (["--objectives", "macs"], "accuracy must be among them"),
        (["--max-latency", "fast"], "max-latency: 'fast' is no amount above 0"),
        (["--min-accuracy", "0.92"], "min-accuracy: 0.92 % is no more than guessing reaches with 10 classes (10 %); it is in percent"),
        (["--optuna-storage", "nonsense", "--objectives", "accuracy,macs", "--pool", "20"], "optuna-storage: nonsense cannot be opened"),
        (["--space", "nowhere"], "there is no space 'nowhere'"),
        (["--sampler", "nsga2", "--scheduler", "halving", "--objectives", "accuracy,macs"], "NSGA-II learns from complete trials alone"),
        (
            ["--scheduler", "asha", "--epochs", "4"],
            "scheduler: asha has nowhere to stop between 2 and 4 epochs: raise --epochs to 6, lower",
        ),
        (["--plan", "--sampler", "gp", "--scheduler", "asha", "--objectives", "accuracy,macs"], "GP learns from complete trials alone"),
    ],
)
def test_bad_input_is_one_line(
    options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each names the rule, the value and the next move, before anything is trained."""
    code, _, err = vitnas_here("search", *options, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and says in err and err.count("\n") == 1


def test_an_empty_space_and_an_unreachable_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A space without choices is none; a limit below all networks says how small the smallest is."""
    (tmp_path / "empty.yaml").write_text("steps: all\nvary: {}\n")
    code, _, err = vitnas_here("search", "--space", "empty.yaml", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and "vary" in err and err.count("\n") == 1
    code, _, err = vitnas_here(*SEARCH, "--max-params", "1k", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and "max-params: no network was found in this space that keeps to 1,000: the smallest of" in err


def test_a_search_goes_on_where_its_optuna_storage_is_down(
    killed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once it has trained anything, and says so; a storage whose study is of another search is refused still."""

    def again(url: str) -> tuple[int, str, str]:
        return vitnas_here(*SEARCH, "--optuna-storage", url, cwd=killed, monkeypatch=monkeypatch, capsys=capsys)

    code, out, err = again("sqlite:////nowhere/at/all/x.db")
    assert code == 0, err
    assert "sqlite:////nowhere/at/all/x.db is not up to date (" in out and "the search goes on" in out and "0 trainings" in out
    url = f"sqlite:///{tmp_path / 'search.db'}"
    optuna.create_study(storage=url, study_name="s", directions=["minimize"])
    code, _, err = again(url)
    assert code == 1 and "give the search another --name, or another storage" in err


def test_the_table_is_made_by_the_thread_that_drives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich's own draws it every second, and must not read what the engine writes meanwhile."""
    search = prepare_search(Store(tmp_path), Study(kind="search", name="s", objectives="accuracy,macs"), say=lambda line: None)
    search.pool.fill(10, 0)
    (tmp_path / "log").mkdir()
    engine = engine_of(search, log := Log(tmp_path / "log"), State(log.records))
    makers: list[threading.Thread] = []
    make = SearchView._table

    def made(view: SearchView) -> Any:
        makers.append(threading.current_thread())
        return make(view)

    monkeypatch.setattr(SearchView, "_table", made)
    console = Console(force_terminal=True, color_system="standard", file=(drawn := io.StringIO()), width=200)
    with SearchView(search, engine, console, also=lambda trial: None, still=nullcontext()) as view:
        assert view.live is not None
        step = engine.next()
        assert isinstance(step, Train)
        view.started(step.run)
        view.epoch(step.run, {"epoch": 1})
        with view.measuring(3, "on this machine"):
            time.sleep(2.5)
    assert set(makers) == {threading.current_thread()} and len(makers) >= 3
    assert "in training: net-000 " in drawn.getvalue() and "measuring 3 networks on this machine" in drawn.getvalue()


def test_a_search_that_trained_nothing_may_begin_anew(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who follows the advice to raise a limit may keep the name, also where the store knows trainings."""
    for limit, says in (("1k", "keeps to 1,000"), ("2k", "keeps to 2,000")):
        options = ["--name", "tight", "--max-params", limit]
        code, _, err = vitnas_here(*SEARCH, *options, cwd=killed, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 1 and says in err, err
    assert [r["what"] for r in read_log(killed / ".vitnas" / "studies" / "tight")].count("begin") == 1


def test_a_search_that_trained_nothing_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its name and as the latest study; there is nothing to show yet."""
    vitnas_here(*SEARCH, "--max-params", "1k", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    for command in (["status"], ["report"], ["status", "s"], ["report", "s"]):
        code, _, err = vitnas_here(*command, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 1 and "the search s has trained nothing yet: run its command again" in err and err.count("\n") == 1, command


def test_what_is_taken_away_is_one_networks(killed: Path, tmp_path: Path) -> None:
    """Of the winner's first training that did not diverge; without weights there, or without such a training, none are left behind."""
    folder = Path(shutil.copytree(killed / ".vitnas", tmp_path / "store"))
    store, own = Store(folder), folder / "studies" / "s"
    taken = [own / name for name in ("winner.json", "winner.safetensors", "rebuild.txt")]
    record = read_json(own / "search.json")
    final = next(f for f in record["final"] if f["winner"])
    (trial,) = final["trials"]
    weights, result = store.trial_folder(trial) / "weights.safetensors", read_json(store.trial_folder(trial) / "result.json")
    other = store.trial_folder("0123456789abcdef")
    shutil.copytree(store.trial_folder(trial), other)
    (other / "weights.safetensors").write_bytes(b"another's")
    write_json(other / "result.json", result | {"status": "diverged", "scores": {}, "diverged_epoch": 1})

    final["trials"] = ["fedcba9876543210", other.name, trial]  # the first of which failed, the second of which diverged
    write_json(own / "search.json", record)
    remove(taken[0])
    assert make_search_report(store, "s")["rebuild"] and taken[0].exists()
    assert taken[1].read_bytes() == weights.read_bytes()
    weights.unlink()
    assert make_search_report(store, "s")["rebuild"] and [p.exists() for p in taken] == [True, False, True]
    final["trials"] = [other.name]
    write_json(own / "search.json", record)
    assert make_search_report(store, "s")["rebuild"] == "" and not any(p.exists() for p in taken)
    assert "## The winner" not in (own / "report.md").read_text()


def test_finalists_of_other_epochs_are_no_seeds_of_these(tmp_path: Path) -> None:
    """A search that goes on with another --final-epochs has trained its finalists anew."""
    search = [*SEARCH, "--trials", "2", "--published", "none"]
    vitnas_local(*search, cwd=tmp_path)
    assert "1 trainings" in vitnas_local(*search, "--final-epochs", "2", cwd=tmp_path).stdout
    store = Store(tmp_path / ".vitnas")
    finals = [arm for arm in open_plan(store, "s").arms if arm.name.endswith(", final")]
    assert [(arm.epochs, arm.seeds) for arm in finals] == [(2, (0,))]
    assert [store.trial(t).epochs for arm in finals for t in arm.trials] == [2]


def test_a_log_that_does_not_fit_together_is_refused(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, with what to do about it."""
    folder = killed / ".vitnas" / "studies" / "broken"
    folder.mkdir()
    (folder / "search.jsonl").write_text('{"what": "tell", "trial": "none", "accuracy": 1, "status": "complete"}\n')
    code, _, err = vitnas_here(*SEARCH, "--name", "broken", cwd=killed, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and "search.jsonl is damaged: move it away" in err and err.count("\n") == 1


def test_lost_and_damaged_files_of_trials_are_no_dead_end(tmp_path: Path) -> None:
    """What a trial is can be made again from the log; a damaged trial of somebody else is passed over."""
    search = [*SEARCH, "--trials", "2", "--published", "none"]
    vitnas_local(*search, cwd=tmp_path)
    trials = sorted((tmp_path / ".vitnas" / "trials").iterdir())
    kept = (trials[0] / "trial.json").read_text()
    (trials[0] / "trial.json").write_text("{")
    other = tmp_path / ".vitnas" / "trials" / "0123456789abcdef"
    shutil.copytree(trials[1], other)
    (other / "trial.json").write_text("{")
    assert "0 trainings" in vitnas_local(*search, cwd=tmp_path).stdout
    assert (trials[0] / "trial.json").read_text() == kept


def test_mlflow_shows_what_is_searched(killed: Path) -> None:
    """Levels of the space as params, who is on the front, the search's own numbers; no options of other studies, nor any that may grow."""
    store = Store(killed / ".vitnas")
    report = json.loads((store.studies / "s" / "report.json").read_text())
    runs = shown(store, "s").runs
    arms = {r.name.partition(" ")[2]: r for r in runs if r.kind == "arm"}
    for c in report["candidates"]:
        run = arms[c["name"]]
        assert {k: v for k, v in run.params.items() if k.startswith("space.")} == {f"space.{k}": v for k, v in c["point"].items()}
        assert run.tags["vitnas.front"] == ("yes" if c["front"] else "no")
    study = next(r for r in runs if r.kind == "study")
    assert study.metrics["hypervolume"] == report["hypervolume_now"] > 0 and study.metrics["trained"] == 6
    assert "design" not in study.params and "trials" not in study.params and study.params["sampler"] == "vitnas"


def test_a_published_network_has_the_winners_input_size(tmp_path: Path) -> None:
    """Where the space fixes another than the track's usual one; its scorings are those of that size's data. Running it again changes
    nothing."""
    (tmp_path / "space.yaml").write_text("steps: all\nvary:\n  width-factor: [0.5, 1]\n  input-size: [40]\n")
    search = [*SEARCH, "--space", "space.yaml", "--trials", "2", "--objectives", "accuracy", "--published", "van-micro"]
    vitnas_local(*search, cwd=tmp_path)
    store = Store(tmp_path / ".vitnas")
    report = json.loads((store.studies / "s" / "report.json").read_text())
    trials = {f["published"]: [store.trial(t) for t in f["trials"]] for f in report["final"]}
    assert {t.recipe.input_size for t in trials[True] + trials[False]} == {40} == {report["data"]["input_size"]}
    assert len({t.data.fingerprint for t in trials[True] + trials[False]}) == 1
    assert report["scorings"] == len(trials[True] + trials[False]) == 2
    assert "the test split was scored 2 times in this store" in (store.studies / "s" / "report.md").read_text()
    assert "0 trainings" in vitnas_local(*search, cwd=tmp_path).stdout
    assert json.loads((store.studies / "s" / "report.json").read_text())["final"] == report["final"]
    assert "0 trainings" in vitnas_local(*search, "--published", "none", cwd=tmp_path).stdout
    shutil.rmtree(store.trial_folder(trials[True][0].id))  # what is offered no more is known all the same
    assert "0 trainings" in vitnas_local(*search, "--published", "none", cwd=tmp_path).stdout


def test_another_precision_is_another_search() -> None:
    """Said as a difference, as is another baseline of the device; a log from before these were kept goes on."""
    before = {"what": "begin", "precision": "bf16", "latency-baseline": "the first baseline"}
    check_same(before, before, "s")
    check_same({"what": "begin"}, before, "s")
    with pytest.raises(StudyError, match="precision: the search s was begun with bf16, and would go on with fp32: give"):
        check_same(before, before | {"precision": "fp32"}, "s")
    with pytest.raises(StudyError, match="latency-baseline: the search s was begun with the first baseline, and would go on with 2026"):
        check_same(before, before | {"latency-baseline": "20261127T000000"}, "s")


def test_batches_that_cannot_be_shared_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is trained, as every training of the search would fail."""
    (tmp_path / "space.yaml").write_text("steps: recipe..depthwise\nvary:\n  width-factor: [0.5, 1]\n")
    options = ["--space", "space.yaml", "--micro-batch", "8"]
    code, _, err = vitnas_here(*SEARCH, *options, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and "a micro-batch of 8 would be another training" in err and err.count("\n") == 1
    assert not any((tmp_path / ".vitnas" / "trials").iterdir())


def test_a_failed_training_is_told_in_the_standing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its reason, which here is memory; the report says so, and the same command tries again. Exit code 3."""
    (tmp_path / "space.yaml").write_text("steps: all\nvary:\n  width-factor: [0.5, 3000]\n")
    search = [*SEARCH, "--space", "space.yaml", "--trials", "2", "--published", "none"]
    for _ in range(2):
        out = vitnas_local(*search, cwd=tmp_path, check=3).stdout
        assert "net-001, 1 epoch, seed 0: failed: " in out and "1 training failed: `vitnas status` says why" in out
    _, out, _ = vitnas_here("status", "s", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert "allocate memory" in next(line for line in out.splitlines() if " failed: " in line)


def test_the_plan_tells_size_and_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Points, distinct networks, multiply-adds; latency is not predicted before any reading."""
    _, out, _ = vitnas_here("search", "--plan", "--json", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    found = json.loads(out)
    assert found["points"] == 72 and found["distinct"]["low"] == found["distinct"]["high"] == found["pool"]
    assert found["macs"][0] < found["macs"][1] and found["latency"] is None
    _, text, _ = vitnas_here("search", "--plan", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert "72 points in 4 dimensions" in text and "multiply-adds:" in text


def test_a_plan_needs_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The search does, and says so before it trains; the plan says that its latency is not predicted here."""
    monkeypatch.setenv("PATH", str(tmp_path))  # without nvidia-smi
    options = ["--latency-device", "cuda"]
    code, out, _ = vitnas_here("search", "--plan", *options, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert (
        code == 0
        and "72 points" in out
        and "latency: not predicted, for this machine cannot measure it: latency-device: no CUDA GPU" in out
    )
    code, _, err = vitnas_here("search", *options, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and "latency-device: no CUDA GPU" in err


def test_a_plan_needs_no_cluster(tmp_path: Path) -> None:
    """Nor that it answers; options have their names in searches."""
    out = vitnas_local("search", "--plan", "--pool", "6", cwd=tmp_path, env={"RAY_ADDRESS": "127.0.0.1:1"}).stdout
    assert "latency: not predicted, for this machine cannot measure it: address: no Ray cluster answers at 127.0.0.1:1" in out


def test_time_that_is_over_before_any_training_is_told(tmp_path: Path) -> None:
    """In a line that names what to raise, each time; with more of it the search goes on."""
    for _ in range(2):
        err = vitnas_local(*SEARCH, "--max-time", "0.001s", cwd=tmp_path, check=1).stderr
        assert "max-time: 0.001s were over before anything was trained: raise --max-time" in err and err.count("\n") == 1
    options = ["--max-time", "10min", "--trials", "1", "--published", "none"]
    assert "3 trainings" in vitnas_local(*SEARCH, *options, cwd=tmp_path).stdout  # with a replica and the finalist's


def test_a_published_network_of_the_space_can_be_offered_again_and_again(tmp_path: Path) -> None:
    """Where it is one of the candidates, it has its name from neither the first run nor a later one."""
    (tmp_path / "space.yaml").write_text("steps: all\nvary:\n  width-factor: [0.5, 1]\n")
    search = [*SEARCH, "--space", "space.yaml", "--trials", "2", "--objectives", "accuracy", "--published", "convnext-micro"]
    assert "convnext-micro" in vitnas_local(*search, cwd=tmp_path).stdout
    chosen = [r for r in read_log(tmp_path / ".vitnas" / "studies" / "s") if r["what"] == "choose"][-1]
    assert chosen["variant"] == "convnext-micro"
    assert "0 trainings" in vitnas_local(*search, cwd=tmp_path).stdout


def test_trainings_that_are_cut_off_have_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the search ends because of trouble, the log leaves open what was in training; the same command goes on with it."""
    asked: list[int] = []

    def trouble(engine: Engine) -> Any:
        asked.append(1)
        if len(asked) > 1:
            raise HostBusy("a training on this host is in the middle of an epoch")
        return following(engine)

    following = Engine.next
    monkeypatch.setattr(Engine, "next", trouble)
    study = Study(
        kind="search", name="s", objectives="accuracy,macs", epochs=60, data_fraction=0.2, set={"batch-size": 32}, concurrency=2, trials=3
    )
    with pytest.raises(HostBusy):
        run_search(Store(tmp_path), study, Console(quiet=True))
    assert [r["what"] for r in read_log(tmp_path / "studies" / "s") if r["what"] in ("train", "tell")] == ["train"]


def test_the_record_of_a_search_is_written_no_more_often_than_it_may_take(tmp_path: Path) -> None:
    """What failed is told at once, the rest when it is due again, and all of it at the end and when the search is begun again."""
    study = Study(kind="search", name="s", objectives="accuracy,macs", track="convnext-t", scale="micro")
    search = prepare_search(Store(tmp_path), study, say=lambda line: None)
    search.pool.fill(10, 0)
    search.folder.mkdir(parents=True)
    engine = engine_of(search, log := Log(search.folder), State(log.records))

    def train() -> str:
        step = engine.next()
        assert isinstance(step, Train)
        return step.run.trial

    def told() -> tuple[int, set[str], set[str]]:
        """What failed by search.json, the trainings by plan.json, and what failed by errors.json."""
        rows = standing(search.store, "s")
        failed = read_json(search.folder / "search.json")["failed"]
        return failed, {r["trial"] for r in rows}, {r["trial"] for r in rows if r["why"] == "no memory"}

    first, second = train(), train()
    keep(search, engine)
    engine.told(first, None, "failed", "no memory")
    keep(search, engine)
    assert told() == (0, {first, second}, {first})
    deadline = time.monotonic() + 60
    while told()[0] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        keep(search, engine)
    third = train()
    keep(search, engine_of(search, log, State(log.records)))  # as after kill -9
    assert told() == (1, {first, second, third}, {first})
    engine.told(second, None, "failed", "no memory")
    keep(search, engine, ended=True)
    assert told() == (2, {first, second, third}, {first, second})


def test_ray_runs_a_search_with_early_stopping(tmp_path: Path) -> None:
    """Through Tune, two trainings at once, by rungs; the log has every training once."""
    options = ["--scheduler", "halving", "--epochs", "3", "--min-epochs", "1", "--executor", "ray", "--published", "none", "--trials", "4"]
    vitnas(*[*SEARCH, *options], cwd=tmp_path)
    records = read_log(tmp_path / ".vitnas" / "studies" / "s")
    told = Counter(r["trial"] for r in records if r["what"] == "tell")
    assert set(told.values()) == {1} and set(told) == {r["trial"] for r in records if r["what"] == "train"}
    assert {r["epochs"] for r in records if r["what"] == "train" and r["purpose"] == "search"} == {1, 3}
