"""The form in which networks are deployed, and backends: what they compute is what eager torch computes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from vitnas.roadmap.fuse import deploy
from vitnas.roadmap.layers import Conv
from vitnas.roadmap.model import Network
from vitnas.roadmap.spec import Head, NetSpec
from vitnas.roadmap.zoo import variant
from vitnas.studies.latency.deploy import deployed, deployed_spec, export, noise, operator_in, write_candidate
from vitnas.studies.latency.device import Conditions, LatencyError
from vitnas.studies.latency.measure import WORKER
from vitnas.studies.latency.protocol import in_process
from vitnas.studies.latency.quiet import usable_cores
from vitnas.studies.latency.torch_backends import torch_backend
from vitnas.studies.latency.worker import Candidate, parity

from .latency_samples import small


def test_networks_are_deployed_before_they_are_measured() -> None:
    """No BatchNorm is left where it can be folded, and signals keep their size through a deep network."""
    found = variant("mobilenetv2")
    network = deployed(found.spec(input_size=64), 64)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    assert (
        network.spec.fingerprint == deployed_spec(found.spec(input_size=64)).fingerprint == deploy(found.spec(), one_head=True).fingerprint
    )
    with torch.no_grad():
        output = network(noise(network.spec, 64, 2))
    assert 1e-2 < float(output.std()) < 1e2


def test_a_size_that_does_not_fit_is_refused() -> None:
    """The message names the option."""
    with pytest.raises(LatencyError, match="--input-size"):
        deployed(variant("swin-t").spec(), 100)


def test_a_network_beyond_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is allocated, with both amounts."""
    huge = NetSpec(name="huge", stem=(Conv(out=8), *(Conv(out=1 << 20) for _ in range(3))), stages=(), head=Head(classes=4))
    with pytest.raises(LatencyError, match=r"huge does not fit in memory: folding it takes \d+"):
        deployed(huge, 32)


def test_parity_is_relative_to_the_spread_of_outputs() -> None:
    """Equal outputs differ by nothing; unrelated ones by more than any tolerance."""
    rng = np.random.default_rng(0)
    expected, other = rng.normal(size=(1, 1000)), rng.normal(size=(1, 1000))
    assert parity(expected, expected) == 0
    assert parity(expected + 0.1, expected) == pytest.approx(0.1, rel=0.1)
    assert parity(other, expected) > 1


CHECKED = [("eager", "bf16"), ("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32"), ("openvino", "int8")]


@pytest.mark.parametrize(("backend", "precision"), CHECKED)
def test_backends_compute_what_eager_computes(backend: str, precision: str, tmp_path: Path) -> None:
    """Within the precision's tolerance, also in new memory; weights of another network are caught."""
    if backend != "eager":
        pytest.importorskip(backend)
        pytest.importorskip("onnx")
    conditions = Conditions(backend=backend, precision=precision, input_size=32)
    if backend == "eager":
        made: object = torch_backend(conditions)
    else:
        from vitnas.studies.latency.onnx_backends import onnx_backend

        made = onnx_backend(conditions)
    entry = write_candidate(tmp_path, "a", small(), conditions)
    candidate = Candidate(entry, tmp_path, conditions, made)
    candidate.prepare()
    candidate.check()
    candidate.move(np.random.default_rng(0))
    candidate.check()
    assert len(candidate.burst(None)(3)) == 3
    candidate.expected = np.random.default_rng(0).normal(size=candidate.expected.shape)
    with pytest.raises(LatencyError, match=f"a: {backend} in {precision} differs from eager"):
        candidate.check()


class _Unknown(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.special.bessel_j0(x)
        return out


def test_an_export_that_fails_names_the_operator(tmp_path: Path) -> None:
    """A network with an operator that ONNX lacks is refused by that operator's name, and nothing is printed."""
    network = Network(small()).eval()
    network.stem.append(_Unknown())
    with pytest.raises(LatencyError, match=r"small-8 cannot be exported to ONNX: the operator \S*bessel_j0\S* is not supported"):
        export(network, torch.zeros(1, 3, 32, 32), tmp_path / "x.onnx")


@pytest.mark.parametrize(
    ("text", "operator"),
    [
        ("Exporting the operator 'aten::special_bessel_j0' to ONNX opset version 17 is not supported.", "aten::special_bessel_j0"),
        ("Unsupported: ONNX export of operator adaptive_avg_pool2d, input size not accessible.", "adaptive_avg_pool2d"),
        ("While executing %v : call_function[target=torch.ops.aten.view.default](args", "aten.view"),
        ("something else", ""),
    ],
)
def test_operators_in_errors(text: str, operator: str) -> None:
    """Each exporter's wording gives the operator."""
    assert operator_in(RuntimeError(text)) == operator


@pytest.mark.full
def test_compiled_networks_compute_what_eager_ones_do(tmp_path: Path) -> None:
    """torch.compile passes parity, also in new memory."""
    conditions = Conditions(backend="compile", input_size=32)
    candidate = Candidate(write_candidate(tmp_path, "a", small(), conditions), tmp_path, conditions, torch_backend(conditions))
    candidate.prepare()
    candidate.check()
    candidate.move(np.random.default_rng(0))
    candidate.check()


def job(conditions: Conditions, *entries: dict[str, Any]) -> dict[str, Any]:
    """A process's job; none of its networks is to come as far as being timed."""
    pace = {"seconds": 0.05, "pinned": usable_cores()}
    return {"conditions": asdict(conditions), "candidates": list(entries), "pace": pace, "settle": 0.0, "seed": 0}


def test_a_batch_beyond_memory_is_told_of_its_network(tmp_path: Path) -> None:
    """Already the batch of images does not fit: the line names the network and the option, the others are tried all the same."""
    conditions = Conditions(batch=65536, input_size=1024)
    entry = write_candidate(tmp_path, "a", small(), Conditions(input_size=1024))
    result = in_process(tmp_path, WORKER)(
        job(conditions, entry, entry | {"name": "b"}, entry | {"name": "c", "file": "none.pt", "batch": 1})
    )
    line = " does not fit in the memory of the cpu: use a smaller --batch or --input-size"
    assert result["errors"]["a"] == f"a{line}" and result["errors"]["b"] == f"b{line}"
    assert result["errors"]["c"].startswith("c does not run on eager in fp32 (")


def test_a_network_that_onnxruntime_does_not_load_is_named(tmp_path: Path) -> None:
    """Its errors are of classes of its own: each is its network's, and no more."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    conditions = Conditions(backend="onnxruntime", input_size=32)
    entry = write_candidate(tmp_path, "good", small(), conditions)
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    result = in_process(tmp_path, WORKER)(job(conditions, entry | {"name": "bad", "file": "broken.onnx"}, entry))
    assert list(result["errors"]) == ["bad"]
    assert (
        result["errors"]["bad"].startswith("bad does not run on onnxruntime in fp32 (") and "use another backend" in result["errors"]["bad"]
    )


@pytest.mark.full
def test_all_networks_of_a_session_are_compiled(tmp_path: Path) -> None:
    """More than torch's limit of 8 for one code object, which all share; one that would run eagerly instead is an error."""
    from torch._dynamo import config
    from torch._dynamo.utils import counters

    conditions = Conditions(backend="compile", input_size=16)

    def compiled(width: int) -> None:
        candidate = Candidate(write_candidate(tmp_path, str(width), small(width), conditions), tmp_path, conditions, backend)
        candidate.prepare()
        candidate.check()

    torch._dynamo.reset()
    counters.clear()
    with config.patch(recompile_limit=8, fail_on_recompile_limit_hit=False):
        backend = torch_backend(conditions)
        for width in range(4, 14):
            compiled(width)
        assert counters["stats"]["unique_graphs"] == 10
        with config.patch(recompile_limit=10), pytest.raises(Exception, match="recompile_limit"):
            compiled(14)
