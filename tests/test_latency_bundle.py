"""A bundle's script on the device: what was measured is kept whatever happens then, and a later run goes on from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vitnas.studies.latency.bundle import write_bundle
from vitnas.studies.latency.deploy import deployed_spec
from vitnas.studies.latency.device import Conditions, LatencyError
from vitnas.studies.latency.measure import Subject
from vitnas.studies.latency.readings import import_file
from vitnas.studies.latency.standalone import read, write
from vitnas.studies.store import Store

from .latency_samples import a_reading, small, subject

BRIEFLY = """
import sys
from pathlib import Path
from vitnas_latency import standalone
from vitnas_latency.protocol import ANY_LOAD, Effort
brief = ANY_LOAD | {"swing": 1e9}  # whatever else runs, but at one speed
standalone.Effort = lambda seconds: Effort(seconds=0.05, processes=1, allocations=2, extend=0, repeats=0, settle=0.0, **brief)
standalone.GROUP = 1
sys.exit(standalone.main(Path(sys.argv[1]), sys.argv[2:]))
"""


def measured(bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What the bundle's script does, briefly, one network a session."""
    environment = os.environ | {"PYTHONPATH": str(bundle), "TMPDIR": tempfile.gettempdir()}
    command = [sys.executable, "-c", BRIEFLY, str(bundle), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=bundle.parent)


def test_a_network_that_fails_costs_no_other_and_is_measured_later(store: Store, tmp_path: Path) -> None:
    """The first run says which one failed and keeps the rest; the second measures that one alone, at the speed of the first."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    out, file = tmp_path / "bundle", tmp_path / "readings.json"
    subjects = [Subject(name=f"s{width}", spec=small(width), input_size=32) for width in (8, 16, 24)]
    assert write_bundle(out, subjects, Conditions(backend="onnxruntime")) == ["s8", "s16", "s24"]
    entry = next(n["entry"] for n in json.loads((out / "bundle.json").read_text())["networks"] if n["name"] == "s16")
    network = out / "networks" / entry["file"]
    whole = network.read_bytes()
    network.write_bytes(b"damaged")
    done = measured(out)
    assert done.returncode == 1, done.stderr
    assert "s16: no reading: s16 does not run on onnxruntime" in done.stderr and "s8" in done.stdout
    first = read(file)
    assert [r.name for r in first if not r.name.startswith("*")] == ["s8", "s24"]
    network.write_bytes(whole)
    done = measured(out)
    assert done.returncode == 0, done.stderr
    readings = read(file)
    assert readings[: len(first)] == first and [r.name for r in readings[len(first) :]][-1:] == ["s16"]
    assert len(readings) == len(first) + 4  # the references' too
    assert readings[-1].latency.factor == pytest.approx(first[0].reference_ms / readings[-1].reference_ms)
    assert [r.name for r in import_file(store, file)] == [r.name for r in readings]


def test_a_file_that_cannot_be_written_or_is_another_is_refused_first(tmp_path: Path) -> None:
    """Before anything is measured, with the next move; a file of readings is replaced whole."""
    for file, content in (("none/readings.json", None), ("other.json", "{}"), ("no.json", "text")):
        path = tmp_path / file
        if content is not None:
            path.write_text(content)
        with pytest.raises(LatencyError, match="name another with --out"):
            write(path, read(path))
        assert content is None or path.read_text() == content
    path = tmp_path / "readings.json"
    write(path, [a_reading()])
    assert read(path) == [a_reading()] and read(tmp_path / "nothing.json") == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["no.json", "other.json", "readings.json"]


def test_a_failed_export_leaves_no_half_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command then writes the bundle."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    bad, conditions = Subject(name="bad", spec=subject("swin-t").spec, input_size=100), Conditions(backend="onnxruntime")
    out = tmp_path / "made" / "bundle"
    with pytest.raises(LatencyError, match="does not fit 100 pixels"):
        write_bundle(out, [bad], conditions)
    assert not list(out.parent.iterdir())
    out.mkdir()  # an empty folder is as none
    left: list[str] = []
    assert write_bundle(out, [bad, subject("convnext-micro")], conditions, skip=lambda s, e: left.append(s.name)) == ["convnext-micro"]
    assert left == ["bad"] and [p.name for p in out.parent.iterdir()] == ["bundle"]
    known = {n["fingerprint"] for n in json.loads((out / "bundle.json").read_text())["networks"]}
    assert deployed_spec(subject("convnext-micro").spec).fingerprint in known
