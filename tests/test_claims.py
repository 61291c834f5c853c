"""Claims of the literature about speed: ratios with intervals against what is claimed, predictors by pairs of networks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vitnas.roadmap.zoo import variant
from vitnas.studies.latency.claims import CLAIMS, OTHERS, Claim, Claims, claims, judge
from vitnas.studies.latency.deploy import deployed_spec
from vitnas.studies.latency.device import Conditions, LatencyError
from vitnas.studies.latency.measure import Subject, device_key
from vitnas.studies.latency.reading import Reading
from vitnas.studies.latency.readings import record
from vitnas.studies.store import Store

from .command import vitnas_here
from .latency_samples import a_reading

CLAIM = Claim(text="a is 3 times as fast as b", source="a paper", slow="b", fast="a", least=2.7, most=4, devices=("cpu",))
TIMES = {"efficientnet-b0": 30.0, "levit-128": 5.0, "convnext-t": 60.0, "swin-t": 70.0, "mixer-b-16": 120.0, "parc-net-s": 40.0}
TIMES |= {"mobilevit-s": 41.0, "resnet-50": 50.0, "deit-s": 45.0, "mobilenetv2": 12.0, "mobilenetv3-l": 11.0, "repvit-m0.9": 20.0}


def a_time(name: str, ms: float, width: float = 0.01) -> Reading:
    """A made-up reading of `ms`, certain to +- `width`."""
    latency = replace(a_reading().latency, typical=ms, low=ms * (1 - width), high=ms * (1 + width))
    return a_reading(name=name, latency=latency)


@pytest.mark.parametrize(
    ("ms", "width", "device", "verdict", "word"),
    [
        (30.0, 0.01, "cpu", "holds", "3.00 times [2.9"),
        (28.0, 0.01, "cpu", "holds", "claimed 2.7 or more, up to 4"),
        (20.0, 0.01, "cpu", "fails", "2.00 times"),
        (45.0, 0.01, "cpu", "fails", "4.50 times"),
        (27.0, 0.01, "cpu", "not testable", "latency run b a --again --seconds N"),
        (30.0, 0.2, "cpu", "not testable", "the interval covers that bound"),
        (30.0, 0.01, "cuda", "not testable", "it is about cpu, this is cuda"),
    ],
)
def test_a_claim_goes_by_the_whole_interval(ms: float, width: float, device: str, verdict: str, word: str) -> None:
    """Within what is claimed it holds, outside it fails, across a bound it is not decided, and on another device not tested."""
    held = judge(CLAIM, {"a": a_time("a", 10.0), "b": a_time("b", ms, width)}, device, {})
    assert held.verdict == verdict and word in held.measured


def test_a_network_that_was_not_measured_leaves_its_claim_open() -> None:
    """With the reason."""
    held = judge(CLAIM, {"a": a_time("a", 10.0)}, "cpu", {"b": "b cannot be exported to ONNX"})
    assert held.verdict == "not testable" and held.measured == "b cannot be exported to ONNX"


def test_all_claims_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """From readings of the store, by the real command line: nothing is measured, and every claim has its verdict."""
    store = Store(tmp_path / ".vitnas")
    store.prepare()
    assert set(TIMES) == {n for c in CLAIMS for n in (c.slow, c.fast)} | set(OTHERS)
    for name, ms in TIMES.items():
        found = variant(name)
        key = device_key(Conditions(input_size=found.input_size))
        record(store, replace(a_time(name, ms), fingerprint=deployed_spec(found.spec()).fingerprint, key=key))
    code, out, err = vitnas_here("verify", "--claims", "--json", cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0 and not err, err
    data = json.loads(out)
    verdicts = [c["verdict"] for c in data["claims"]]
    assert verdicts == ["holds", "fails", "holds", "fails", "holds", "holds"]
    assert data["claims"][0]["value"] == pytest.approx(6) and len(data["readings"]) == len(TIMES)
    assert all(0.1 < c["value"] < 0.5 for c in data["claims"][-2:])
    assert "input sizes differ: 224, 256 pixels" in data["notes"]


def test_what_is_printed() -> None:
    """The device, each verdict with its claim and what was measured, and the notes."""
    held = (judge(CLAIM, {"a": a_time("a", 10.0), "b": a_time("b", 30.0)}, "cpu", {}),)
    lines = Claims(label="a device", held=held, readings=(), notes=("a note",)).lines()
    assert lines[0] == "claims of the literature on a device" and lines[-1] == "a note"
    assert "holds         a is 3 times as fast as b (a paper)" in lines and any("b 30.00 ms, a 10.00 ms: 3.00 times" in x for x in lines)


def test_claims_that_cannot_be_measured(tmp_path: Path) -> None:
    """Where no network can be measured, all are open; too few pairs say nothing about predictors."""
    store = Store(tmp_path)
    store.prepare()

    def measuring(store: Store, subjects: Sequence[Subject], conditions: Conditions, effort: object, **more: object) -> list[Reading]:
        skip = more["skip"]
        for subject in subjects:
            assert callable(skip)
            skip(subject, LatencyError(f"{subject.name} does not fit in memory"))
        return []

    found = claims(store, measuring=measuring)
    assert {held.verdict for held in found.held} == {"not testable"} and "too few" in found.held[-1].measured
    assert found.lines()[0].endswith("nothing could be measured")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--claims", "--paper", "convnext"], "claims: are about published networks"),
        (["--threads", "2"], "threads: says how --claims measures: add --claims"),
        (["--claims", "--device", "tpu"], "device: 'tpu' is not one of cpu, cuda"),
        (["--claims", "--backend", "tensorrt"], "backend: 'tensorrt' is not one of eager, compile, onnxruntime, openvino"),
        (["--claims", "--address", "127.0.0.1:1"], "address: says where the cluster of --on is"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line each."""
    code, _, err = vitnas_here("verify", *arguments, cwd=tmp_path, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 1 and message in err
