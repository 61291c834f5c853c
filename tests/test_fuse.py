"""Deployment forms compute what the networks compute, for every system."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vitnas.roadmap.cost import cost
from vitnas.roadmap.fuse import deploy, fuse
from vitnas.roadmap.layers import Conv, Norm
from vitnas.roadmap.mixers import RepDepthwise
from vitnas.roadmap.model import Network, build
from vitnas.roadmap.spec import Block, Head, NetSpec, Stage
from vitnas.roadmap.tracks import TRACKS
from vitnas.roadmap.zoo import VARIANTS, variant

from .oracles import randomise, settle

MICROS = sorted({v.micro for v in VARIANTS})


def check_parity(spec: NetSpec, size: int, *, one_head: bool = False, settled: bool = False) -> Network:
    """The fused network gives, within 1e-4, the outputs of `spec` with random weights and statistics, and is `deploy(spec)`.

    `settled` takes the statistics from data.
    """
    network = build(spec)
    randomise(network)
    if settled:
        settle(network, torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(2)))
    fused = fuse(network, one_head=one_head)
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, actual = network(x), fused(x)
    assert (expected - actual).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))
    assert fused.spec.fingerprint == deploy(spec, one_head=one_head).fingerprint
    assert sum(p.numel() for p in fused.parameters()) == cost(fused.spec, size).params
    return fused


@pytest.mark.parametrize("name", MICROS)
def test_every_system_fuses(name: str) -> None:
    """Outputs stay; parameters and multiply-adds do not grow; fusing twice changes nothing."""
    spec = variant(name).spec()
    fused = check_parity(spec, 32)
    before, after = cost(spec, 32), cost(fused.spec, 32)
    assert after.params <= before.params
    assert after.macs <= before.macs
    assert deploy(fused.spec).fingerprint == fused.spec.fingerprint


@pytest.mark.parametrize("track", TRACKS, ids=lambda t: t.name)
def test_every_rung_fuses(track) -> None:  # type: ignore[no-untyped-def]
    """The cumulative rungs of every track, with BatchNorm before and after convolutions and before the classifier."""
    choice = {}
    for step in track.steps:
        if step.owner == "network" and step.adopted:
            choice[step.name] = step.value
            check_parity(track.spec(choice, scale="micro", classes=10), 32, settled=True)


@pytest.mark.parametrize(
    "name", ["repvit-micro", "levit-micro", "mobilenetv3-micro", "efficientnet-micro", "resnext-micro", "resnet-50-micro"]
)
def test_no_batch_norm_is_left(name: str) -> None:
    """Networks whose norms all follow convolutions have none once deployed."""
    fused = fuse(build(variant(name).spec()))
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in fused.modules())


def test_heads_become_one_where_asked() -> None:
    """Two heads stay two, or become their mean."""
    spec = variant("repvit-micro").spec()
    assert len(check_parity(spec, 32).head.classifiers) == 2
    assert len(check_parity(spec, 32, one_head=True).head.classifiers) == 1


def test_a_norm_before_a_convolution_goes_into_it_only_without_padding() -> None:
    """With padding the border would see the shift, so the norm stays."""
    norm = Norm(norm="batch", name="norm")

    def net(*body: Norm | Conv) -> NetSpec:
        return NetSpec(stem=(Conv(out=8, name="conv"),), stages=(Stage(blocks=(Block(body=body),)),), head=Head(after=(norm,), classes=4))

    grouped = Conv(out=16, kernel=2, stride=2, padding=0, groups=4, name="conv")
    padded = Conv(out=16, kernel=3, groups=4, name="conv")
    assert check_parity(net(norm, grouped, norm), 16).spec.stages[0].blocks[0].body == (
        Conv(out=16, kernel=2, stride=2, padding=0, groups=4, bias=True),
    )
    assert len(check_parity(net(norm, padded), 16).spec.stages[0].blocks[0].body) == 2
    assert deploy(net(norm, grouped)).head.after == ()


def test_wrong_weights_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fused network that computes something else is refused."""
    monkeypatch.setattr("vitnas.roadmap.fuse._one_depthwise", lambda module: (module.conv.weight.double(), module.norm.bias.double()))
    spec = NetSpec(stem=(Conv(out=8),), stages=(Stage(blocks=(Block(body=(RepDepthwise(),)),)),), head=Head(classes=4))
    with pytest.raises(ValueError, match=r"differs by .* more than 1e-4"):
        fuse(Network(spec))


def test_fusing_leaves_the_network_as_it_was() -> None:
    """Weights, statistics, modes and types are untouched; the fused network has the type of the first parameter."""
    network = build(variant("repvit-micro").spec()).bfloat16()
    network.stem.eval()
    before = copy.deepcopy(network.state_dict())
    assert {p.dtype for p in fuse(network).parameters()} == {torch.bfloat16}
    assert network.training
    assert not network.stem.training
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


@pytest.mark.full
@pytest.mark.parametrize(
    "name", ["resnet-50", "resnext-50-32x4d", "mobilenetv2", "mobilenetv3-l", "efficientnet-b0", "repvit-m0.9", "levit-128s"]
)
def test_published_networks_fuse(name: str) -> None:
    """The same at the published size."""
    v = variant(name)
    check_parity(v.spec(), v.input_size, settled=True)
