"""Latency beside accuracy: of a study's arms or their full-size twins, in every report; measured here or on a node of a cluster."""

from __future__ import annotations

import csv
import json
import math
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vitnas.roadmap.zoo import variant
from vitnas.studies.designs.planner import check_study, plan_study
from vitnas.studies.designs.twins import measured_as, twins
from vitnas.studies.latency import column, commands
from vitnas.studies.latency.column import Column, Place, read_column, write_column
from vitnas.studies.latency.deploy import deployed_spec
from vitnas.studies.latency.device import Conditions, LatencyError
from vitnas.studies.latency.measure import Subject, device_key
from vitnas.studies.latency.readings import every, known, record
from vitnas.studies.plan import Plan
from vitnas.studies.report.make import make_report, summary_of
from vitnas.studies.report.summary import Row
from vitnas.studies.running import elsewhere, measured
from vitnas.studies.running.runner import QUIET
from vitnas.studies.store import Store
from vitnas.studies.study import Study, StudyError
from vitnas.studies.tracking.runs import shown
from vitnas.studies.tracking.view import view_state

from .latency_samples import BRIEF, a_reading
from .synthetic import Digits, synthetic_study

ROADMAP: dict[str, Any] = {"steps": "recipe..patchify-stem", "seeds": 2, "latency": True}


@pytest.fixture(scope="module")
def brief() -> Iterator[pytest.MonkeyPatch]:
    """Studies are measured briefly and on a busy host too, under locks of our own."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as locks:
        patch.setattr(tempfile, "tempdir", locks)
        patch.setattr(measured, "effort_of", lambda study: BRIEF)
        patch.setattr(column, "WIDEST", BRIEF.widest)
        patch.setattr(commands, "Effort", lambda seconds: BRIEF)
        yield patch


@pytest.fixture(scope="module")
def timed(brief: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Plan, list[str]]:
    """A roadmap of four rungs, measured, and what was said meanwhile."""
    store, plan = synthetic_study(tmp_path_factory.mktemp("store"), **ROADMAP)
    said: list[str] = []
    measured.measure_arms(store, plan, say=said.append)
    return store, plan, said


def name_of(plan: Plan) -> str:
    return plan.study.folder_name


def by_name(store: Store, plan: Plan) -> dict[str, Row]:
    """The rows of the study's report."""
    return {r.name: r for r in summary_of(store, plan).rows}


def column_of(store: Store, plan: Plan, times: dict[str, float], width: float = 0.01) -> None:
    """Write the column of `plan` with made-up readings: ms by the arm's name, intervals of +- `width`. Arms without stay out."""
    key = replace(device_key(Conditions()), processor="some processor")
    places = {}
    for arm, (spec, size) in zip(plan.arms, twins(plan), strict=True):
        fingerprint = deployed_spec(spec).fingerprint
        places[arm.name] = Place(arm=arm.fingerprint, fingerprint=fingerprint, input_size=size)
        if arm.name in times:
            ms = times[arm.name]
            latency = replace(a_reading().latency, typical=ms, low=ms * (1 - width), high=ms * (1 + width))
            own = replace(key, conditions=replace(key.conditions, input_size=size))
            record(store, a_reading(fingerprint=fingerprint, name=arm.name, key=own, latency=latency))
    write_column(store, name_of(plan), Column(key=key, of="its network", places=places))


# --- measuring a study ---------------------------------------------------------------------------------------------


def test_every_arm_has_the_latency_of_its_network(timed: tuple[Store, Plan, list[str]]) -> None:
    """A row has the typical time, its interval and p99; the base with another recipe is the same network and has the same reading."""
    store, plan, said = timed
    assert said[0] == "measuring the latency of 4 arms" and sum(s.startswith("deploying") for s in said) == 3
    rows = by_name(store, plan)
    assert list(rows) == ["ResNet-50", "recipe", "stage-ratio", "patchify-stem"]
    for row in rows.values():
        assert row.ms and row.ms_interval and row.ms_p99
        assert row.ms_interval.low <= row.ms <= row.ms_interval.high
    assert rows["ResNet-50"].ms == rows["recipe"].ms != rows["stage-ratio"].ms
    recipe = next(e for e in summary_of(store, plan).effects if e.name == "recipe")
    assert recipe.latency == 0 and recipe.latency_interval and recipe.latency_interval.low == recipe.latency_interval.high == 0


def test_one_reading_whoever_asks(timed: tuple[Store, Plan, list[str]]) -> None:
    """The same command again measures nothing, nor does the lane for the study's name or a study with the same networks."""
    store, plan, _ = timed
    before, said = every(store), list[str]()
    measured.measure_arms(store, plan, say=said.append)
    found = commands.run(store, [name_of(plan)], say=said.append)
    assert [r.latency.typical for r in found.readings] == [r.ms for r in by_name(store, plan).values()]
    assert not said and every(store) == before
    other = plan_study(replace(plan.study, steps="stage-ratio", name="another"), Digits(), precision="float32")
    ahead = measured.ahead(store, other)
    assert (ahead.networks, ahead.known, ahead.seconds) == (2, 2, 0)


def test_reports_show_the_column_and_the_waterfall(timed: tuple[Store, Plan, list[str]]) -> None:
    """Table, CSV, JSON, figure and footers have the latency, and say of what and on which device."""
    store, plan, _ = timed
    make_report(store, name_of(plan))
    folder = store.studies / name_of(plan)
    text, rows = (folder / "report.md").read_text(), by_name(store, plan)
    assert "| ms |" in text and "ms: the typical time of one pass" in text and "its network at 32 pixels" in text
    with (folder / "report.csv").open() as file:
        for line in csv.DictReader(file):
            assert float(line["ms"]) == pytest.approx(rows[line["name"]].ms, rel=1e-3)
            assert float(line["ms_low"]) <= float(line["ms"]) <= float(line["ms_high"])
    assert json.loads((folder / "report.json").read_text())["latency_of"].startswith("its network at 32 pixels; ")
    with (folder / "effects.csv").open() as file:
        changes = {line["name"]: line["latency_change"] for line in csv.DictReader(file)}
    assert float(changes["recipe"]) == 0 and float(changes["stage-ratio"]) != 0
    assert "latency" in (folder / "roadmap.svg").read_text()


def test_mlflow_shows_the_latency(timed: tuple[Store, Plan, list[str]]) -> None:
    """A metric of every arm, a column of the page, and the axis of its scatter."""
    store, plan, _ = timed
    found = shown(store, name_of(plan))
    arms = [r for r in found.runs if r.kind == "arm"]
    rows = by_name(store, plan)
    assert found.latency and len(arms) == 4
    for run, row in zip(arms, rows.values(), strict=True):
        assert run.metrics["latency_ms"] == pytest.approx(row.ms, rel=1e-5)
        assert run.metrics["latency_ms_p99"] >= run.metrics["latency_ms_low"]
    view = json.loads(view_state(latency=True))
    assert "metrics.`latency_ms`" in view["selectedColumns"]
    assert any(card.get("xaxis", {}).get("key") == "latency_ms" for card in view["compareRunCharts"])
    assert "latency_ms" not in view_state() and len(view_state(latency=True)) <= 5000


def test_a_refused_measuring_loses_nothing(brief: pytest.MonkeyPatch, timed: tuple[Store, Plan, list[str]]) -> None:
    """Report and readings are there, with the reason; the same command measures what is missing."""
    store, plan = synthetic_study(timed[0].root, **ROADMAP | {"steps": "recipe..depthwise"})
    said: list[str] = []
    assert "has not been measured yet" in "".join(summary_of(store, plan).footers)
    with brief.context() as patch:
        patch.setattr(measured, "effort_of", lambda study: replace(BRIEF, swing=-0.9))  # no session is fast enough
        measured.measure_arms(store, plan, say=said.append)
    assert "latency was not measured" in said[-1] and "the same command measures again" in said[-1]
    rows, footers = by_name(store, plan), "".join(summary_of(store, plan).footers)
    assert [r.ms is None for r in rows.values()] == [False] * 4 + [True] and all(r.mean is not None for r in rows.values())
    assert "Latency is missing for 1 of 5 arms" in footers and "the same command tries again" in footers
    measured.measure_arms(store, plan, say=said.append)
    assert all(r.ms for r in by_name(store, plan).values()) and "missing" not in "".join(summary_of(store, plan).footers)


def test_an_arm_that_cannot_be_measured_is_named(brief: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The others are measured, and the report says why this one is not."""
    from vitnas.studies.latency import deploy

    store, plan = synthetic_study(tmp_path, steps="stage-ratio", seeds=2, latency=True)
    whole = deploy.check_memory

    def check_memory(spec: Any, input_size: int) -> None:
        if spec.name == "stage-ratio":
            with brief.context() as patch:
                patch.setattr(deploy, "free_memory", lambda: 1e3)
                whole(spec, input_size)

    with brief.context() as patch:
        patch.setattr(deploy, "check_memory", check_memory)
        measured.measure_arms(store, plan, say=lambda text: None)
    rows = by_name(store, plan)
    assert rows["ResNet-50"].ms and rows["stage-ratio"].ms is None
    assert "Latency of stage-ratio: not measured, stage-ratio does not fit in memory" in "".join(summary_of(store, plan).footers)


def test_a_column_of_other_networks_is_not_shown(timed: tuple[Store, Plan, list[str]], tmp_path: Path) -> None:
    """A name that stands for another network now has no reading; a damaged file is as none."""
    store, plan, _ = timed
    found = read_column(store, name_of(plan))
    assert found is not None
    assert found.reading(store, "stage-ratio", plan.arms[2].fingerprint) is not None
    assert found.reading(store, "stage-ratio", plan.arms[3].fingerprint) is None
    assert found.reading(store, "width", plan.arms[2].fingerprint) is None
    other = Store(tmp_path)
    (other.studies / "s").mkdir(parents=True)
    (other.studies / "s" / "latency.json").write_text('{"key": null, "of": "x", "places": {"a": {"b": 1}}, "refused": ""}')
    assert read_column(other, "s") is None


# --- twins ---------------------------------------------------------------------------------------------------------


def test_twins_are_the_published_networks() -> None:
    """At scale paper the first and last rungs are ResNet-50 and ConvNeXt-T with 1000 classes, at the size that is asked for."""
    study = Study(latency=True, latency_scale="paper", latency_size=192)
    plan = plan_study(study, Digits(), precision="float32")
    found = twins(plan)
    assert len(found) == len(plan.arms) and {s for _, s in found} == {192}
    assert found[0][0].fingerprint == variant("resnet-50").spec().fingerprint
    assert found[-1][0].fingerprint == variant("convnext-t").spec().fingerprint
    assert measured_as(study, 10, 32) == "its twin at scale paper, 192 pixels, 1000 classes"
    assert measured_as(replace(study, latency_size=None), 10, 32) == "its twin at scale paper, 224 pixels, 1000 classes"
    plan = plan_study(Study(steps="stage-ratio", latency=True), Digits(), precision="float32")
    assert twins(plan)[-1] == (plan.trials[-1].network, 32)
    larger, size = twins(replace(plan, study=replace(plan.study, latency_size=64)))[-1]
    assert size == 64 and larger.head.classes == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency_scale": "paper"}, "latency-scale: says how latency is measured: add --latency"),
        ({"latency": True, "latency_seconds": 0.0}, "latency-seconds: must lie between 0.1 and 3600"),
        ({"latency": True, "latency_device": "tpu"}, "latency-device: 'tpu' is not one of cpu, cuda"),
        ({"latency": True, "latency_backend": "tensorrt"}, "latency-backend: 'tensorrt' is not one of eager, compile"),
        ({"latency": True, "latency_scale": "huge"}, "latency-scale: track convnext-t has no scale 'huge'"),
        ({"latency": True, "latency_size": 16}, "latency of ResNet-50 at 16 pixels: .*: use --latency-size 32 or more"),
        ({"latency": True, "latency_scale": "huge", "latency_size": 64}, "has no scale 'huge'"),
        ({"kind": "train", "network": "swin-t", "latency": True, "latency_scale": "paper"}, "has no twin at another scale"),
    ],
)
def test_twins_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    """Refused before anything is trained, by the option's name."""
    with pytest.raises(StudyError, match=message):
        check_study(Study(**options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latency_threads": 1000}, "latency-threads: 1000 are asked for"),
        ({"latency_precision": "int8"}, "use --latency-backend onnxruntime or openvino"),
        ({"latency_backend": "openvino"}, r"pip install 'vitnas\[openvino\]'"),
        ({"latency_device": "cuda"}, "latency-device: no CUDA GPU is visible here .*: use --latency-device cpu"),
    ],
)
def test_what_this_machine_cannot_measure(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before anything is trained, with the options' names in studies."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")  # no nvidia-smi either
    with pytest.raises(StudyError, match=message):
        measured.check_latency(Study(latency=True, **options))


# --- effects -------------------------------------------------------------------------------------------------------


def test_effects_come_with_their_change_in_latency(tmp_path: Path) -> None:
    """In % of time, by the effect's weights; the placebo's is nothing; an effect with an arm that was not measured has none."""
    store, plan = synthetic_study(tmp_path, kind="ablate", steps="depthwise,gelu,layer-norm", latency=True)
    names = [arm.name for arm in plan.arms]
    times = dict.fromkeys(names, 3.0) | {"all but depthwise": 2.0}
    times.pop("all but gelu")
    column_of(store, plan, times)
    effects = {e.name: e for e in summary_of(store, plan).effects}
    assert effects["depthwise"].latency == pytest.approx(50)
    interval = effects["depthwise"].latency_interval
    half = math.hypot(math.log(1.01 / 0.99), math.log(1.01 / 0.99)) / 2
    assert interval and interval.low == pytest.approx(100 * math.expm1(math.log(1.5) - half))
    assert interval.high == pytest.approx(100 * math.expm1(math.log(1.5) + half))
    assert effects["gelu"].latency is None
    (placebo,) = [e for e in effects.values() if e.placebo]
    assert placebo.latency == 0 and placebo.latency_interval and placebo.latency_interval.high == 0
    make_report(store, name_of(plan))
    text = (store.studies / name_of(plan) / "report.md").read_text()
    assert "latency, change in %" in (store.studies / name_of(plan) / "effects.svg").read_text()
    assert "| latency, % |" in text and "| +50.0 |" in text and "slower (+) or faster (-)" in text
    assert "Latency is missing for 1 of" in text


# --- a node of a cluster -------------------------------------------------------------------------------------------


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, with the next move."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with (
        pytest.raises(LatencyError, match=r"address: no Ray cluster answers at 127\.0\.0\.1:1 .*ray start --head"),
        elsewhere.node("board", "127.0.0.1:1"),
    ):
        pass


def test_a_node_with_the_resource_measures(brief: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a real Ray: readings come back from the node that has the resource and are the store's; the slot `latency` measures studies."""
    import ray

    store = Store(tmp_path / "store")
    store.prepare()
    subjects = [Subject(name=n, spec=variant("convnext-micro").spec(), input_size=32) for n in ("convnext-micro", "again")]
    short = tempfile.mkdtemp(prefix="v-", dir="/tmp")  # sockets have short names
    with brief.context() as patch:
        for variable, value in (QUIET | {"TMPDIR": short}).items():
            patch.setenv(variable, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        try:
            ray.init(
                address="local",
                num_cpus=1,
                resources={"board": 1, elsewhere.SLOT: 1},
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=80 * 2**20,
                _temp_dir=short,
            )
            assert elsewhere.custom_resources() == ["board", elsewhere.SLOT]
            with (
                pytest.raises(LatencyError, match="no node of the cluster has the resource 'phone', there are: board, latency"),
                elsewhere.node("phone"),
            ):
                pass
            with elsewhere.node("board") as board:
                said: list[str] = []
                readings = board.measure(store, subjects, Conditions(), BRIEF, say=said.append)
                assert said == ["measuring 1 network on the node with board"]
                key = board.key(Conditions(input_size=32))
                assert [r.name for r in readings] == ["convnext-micro", "again"] and readings[0].key == key
                assert known(store, readings[0].fingerprint, key) == readings[0]
                assert [r.latency for r in board.measure(store, subjects, Conditions(), BRIEF)] == [r.latency for r in readings]
                with pytest.raises(LatencyError, match=r"on the node with board: .*does not fit 100 pixels"):
                    board.measure(store, [Subject(name="bad", spec=variant("swin-t").spec(), input_size=100)], Conditions(), BRIEF)
                skipped: list[str] = []
                bad = Subject(name="bad", spec=variant("swin-t").spec(), input_size=100)
                board.measure(store, [bad], Conditions(), BRIEF, skip=lambda s, error: skipped.append(f"{s.name}: {error}"))
                assert skipped[0].startswith("bad: ") and "100 pixels" in skipped[0]
                with pytest.raises(LatencyError, match="threads: 1000 are asked for"):
                    board.measure(store, subjects, Conditions(threads=1000), BRIEF)
            patch.setenv("RAY_ADDRESS", "auto")
            with elsewhere.quiet_place() as place:
                assert isinstance(place, elsewhere.Node) and place.resource == elsewhere.SLOT
            _, plan = synthetic_study(store.root, **ROADMAP)
            measured.measure_arms(store, plan, say=said.append)
            assert "measuring 3 networks on the node with latency" in said
            assert all(r.ms for r in by_name(store, plan).values())
        finally:
            ray.shutdown()
            shutil.rmtree(short, ignore_errors=True)
