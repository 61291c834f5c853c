"""Devices elsewhere: bundles that need numpy and onnxruntime alone, readings that are brought back, other hosts of a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from vitnas.roadmap.spec import to_dict
from vitnas.roadmap.zoo import variant
from vitnas.studies.latency import measure as measuring
from vitnas.studies.latency.bundle import FILES, write_bundle
from vitnas.studies.latency.deploy import deployed_spec
from vitnas.studies.latency.device import Conditions, LatencyError
from vitnas.studies.latency.measure import Subject, device_key
from vitnas.studies.latency.protocol import PROTOCOL
from vitnas.studies.latency.reading import Reading
from vitnas.studies.latency.readings import every, import_file, known, record
from vitnas.studies.running.elsewhere import Node, Say, _there
from vitnas.studies.store import Store

from .latency_samples import BRIEF, small, subject


def test_a_bundle_measures_with_onnxruntime_and_numpy_alone(store: Store, tmp_path: Path) -> None:
    """Where neither torch nor this package can be imported, its script measures, and its file comes back as readings."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    out, barred = tmp_path / "bundle", tmp_path / "barred"
    subjects = [subject("convnext-micro"), subject("convnext-micro", called="again"), Subject(name="s", spec=small(), input_size=32)]
    conditions = Conditions(backend="onnxruntime")
    assert write_bundle(out, subjects, conditions) == ["convnext-micro", "s"]
    with pytest.raises(LatencyError, match="not an empty folder"):
        write_bundle(out, subjects, conditions)
    barred.mkdir()
    for name in ("torch", "vitnas", "scipy", "typer"):
        (barred / f"{name}.py").write_text("raise ImportError('not on the device')")
    code = (
        "import json, sys; from pathlib import Path; from vitnas_latency.standalone import measure_bundle\n"
        "from vitnas_latency.protocol import ANY_LOAD, Effort, PROTOCOL\n"
        "brief = Effort(seconds=0.05, processes=1, allocations=2, extend=0, settle=0.0, **ANY_LOAD)\n"
        "readings = measure_bundle(Path(sys.argv[1]), 1, brief)\n"
        "Path(sys.argv[2]).write_text(json.dumps({'protocol': PROTOCOL, 'readings': [r.to_dict() for r in readings]}))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(barred), str(out)]), "TMPDIR": tempfile.gettempdir()}
    file = tmp_path / "readings.json"
    done = subprocess.run(
        [sys.executable, "-c", code, str(out), str(file)], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    readings = import_file(store, file)
    assert [r.name for r in readings] == ["*mobilenetv2*", "*deit-ti*", "*repvit-m0.9*", "convnext-micro", "s"]
    mine = device_key(replace(conditions, input_size=32))
    assert known(store, deployed_spec(subjects[0].spec).fingerprint, mine) == readings[3]
    import_file(store, file)
    assert len(list(store.root.glob("readings/*/*/*.json"))) == 5
    usage = subprocess.run(
        [sys.executable, str(out / "measure.py"), "--help"], env=environment, capture_output=True, text=True, check=False
    )
    assert usage.returncode == 0 and "--threads" in usage.stdout


def test_what_travels_imports_nothing_else() -> None:
    """The files of a bundle import only each other at the top, besides numpy and the standard library."""
    import ast

    folder = Path(measuring.__file__).parent
    for name in FILES:
        for node in ast.parse((folder / f"{name}.py").read_text()).body:
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1 and node.module in FILES, f"{name} imports {node.module}"
            elif isinstance(node, ast.Import | ast.ImportFrom):
                top = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                assert top and (top.split(".")[0] == "numpy" or top.split(".")[0] in sys.stdlib_module_names), f"{name} imports {top}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file"),
        ("no json", "is not a file of readings"),
        ("[]", "is not a file of readings"),
        (json.dumps({"protocol": PROTOCOL + 1, "readings": []}), f"protocol {PROTOCOL + 1}, this is protocol {PROTOCOL}"),
        (json.dumps({"protocol": PROTOCOL, "readings": [{"protocol": PROTOCOL}]}), "not a reading"),
    ],
)
def test_files_that_cannot_be_imported(content: str | None, message: str, store: Store, tmp_path: Path) -> None:
    """Each is refused in one line, and nothing is recorded."""
    file = tmp_path / "readings.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(LatencyError, match=message):
        import_file(store, file)
    assert not list(store.root.glob("readings/*/*/*.json"))


def test_another_host_measures_with_plain_data(store: Store) -> None:
    """What goes to a node and comes back is plain data, and becomes a reading here."""
    asked = [{"name": "small", "spec": to_dict(small(), names=True), "input_size": 32}]
    told = measuring.measure_here(asked, asdict(Conditions()), asdict(BRIEF))
    assert told["left_out"] == [""] and not told["refused"]
    for data in json.loads(json.dumps(told["readings"])):
        record(store, Reading.from_dict(data))
    reading = known(store, deployed_spec(small()).fingerprint, device_key(Conditions(input_size=32)))
    assert reading is not None and reading.name == "small" and len(told["readings"]) == 4  # the references' too
    again = measuring.measure_here(asked, asdict(Conditions()), asdict(BRIEF), earlier=told["readings"])
    assert again["readings"] == []  # what the driver sends is known there
    big = [{"name": "big", "spec": to_dict(variant("swin-t").spec(), names=True), "input_size": 100}, *asked]
    told = measuring.measure_here(big, asdict(Conditions()), asdict(BRIEF), keep_going=True)
    assert "does not fit 100 pixels" in told["left_out"][0] and not told["left_out"][1] and len(told["readings"]) == 4


class Near(Node):
    """A node's work in this process, its plain data as text between."""

    def _ask(self, conditions: Conditions, what: str, job: dict[str, Any], say: Say = lambda text: None) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(json.dumps(_there(what, json.loads(json.dumps(job)))))
        return told


class Mixed(Near):
    """Two nodes that have one resource: the question is answered by another device than the one that measures."""

    def _ask(self, conditions: Conditions, what: str, job: dict[str, Any], say: Say = lambda text: None) -> dict[str, Any]:
        told = super()._ask(conditions, what, job, say)
        if what == "key":
            told["key"]["processor"] = "another board"
        return told


def test_two_devices_with_one_resource_are_refused(store: Store) -> None:
    """Readings of one under the key of the other, at the other's speed, would be wrong: none is recorded."""
    with pytest.raises(LatencyError, match=r"are different devices.*give each its own resource"):
        Mixed("board").measure(store, [Subject(name="small", spec=small(), input_size=32)], Conditions(), BRIEF)
    assert not every(store)


def test_a_throughput_from_a_node_is_given_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reading is at the batch that saturates, whatever batch was asked for: the first call gives it, the second takes it from the
    store. A latency of the same network is another reading."""
    monkeypatch.setattr(measuring, "saturating_batch", lambda *rest, **more: 4)
    asked, said = [Subject(name="small", spec=small(), input_size=32)], list[str]()
    board = Near("board")
    first = board.measure(store, asked, Conditions(batch=2), BRIEF, saturate=True, say=said.append)
    assert [(r.name, r.quantity, r.key.conditions.batch) for r in first] == [("small", "throughput", 4)]
    assert said == ["measuring 1 network on the node with board"]
    assert board.measure(store, asked, Conditions(), BRIEF, saturate=True, say=said.append) == first and len(said) == 1
    assert board.measure(store, asked, Conditions(), BRIEF)[0].quantity == "latency"
