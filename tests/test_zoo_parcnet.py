"""ParC-Net and ParC in other networks, against stored outputs and counts of the official code."""

from __future__ import annotations

import pytest
import torch

from vitnas.roadmap.cost import cost
from vitnas.roadmap.model import Network, build
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.weights import load_weights, official_state
from vitnas.roadmap.zoo import variant
from vitnas.roadmap.zoo.parcnet import MICRO, XS, Hybrid, parcnet

from .oracles import fixture
from .zoo_checks import check_names, check_reference, check_training

# Counted in the official code with torch's FlopCounterMode, at each network's own input size.
COSTS = [
    ("parc-net-xs", 2185384, 944016896),
    ("parc-net-s", 5037088, 1657347584),
    ("parc-net-h", 20403940, 8544418656),
    ("parc-convnext-xt", 7412824, 1139222400),
    ("parc-convnext-t", 28538056, 4446048000),
    ("parc-resnet-50", 23737640, 3941466112),
    ("parc-mobilenetv2", 3532136, 301997312),
]
# Names and shapes of the official code's parameters and statistics.
NAMES = [
    ("parc-net-xs", "8078eec1a17cc8ed"),
    ("parc-net-s", "f0b750e0262ed76d"),
    ("parc-resnet-50", "f36e917d50453643"),
    ("parc-mobilenetv2", "8a912192ad764359"),
    pytest.param("parc-net-h", "2d3d0a449f6ee4a3", marks=pytest.mark.full),
    pytest.param("parc-convnext-t", "4b96721139c7b8a5", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("name", "params", "macs"), COSTS)
def test_costs_are_those_of_the_official_code(name: str, params: int, macs: int) -> None:
    """Every variant has the official parameters and multiply-adds to the unit."""
    v = variant(name)
    c = cost(v.spec(), v.input_size)
    assert (c.params, c.macs, c.macs_conv_linear) == (params, macs, macs)


def test_official_weights_give_official_outputs_of_parc_net() -> None:
    """ParC-Net-S computes the stored outputs. The fixture stores the block that official checkpoints hold twice once."""
    _, state, x, logits = fixture("edgeformer_s")
    v = variant("parc-net-s")
    network = Network(v.spec()).eval()
    load_weights(network, network.spec, state, v.dialects())
    with torch.no_grad():
        assert (network(x) - logits).abs().max() < 1e-4 * logits.abs().max()
    back = official_state(network, network.spec, v.dialects()[0])
    twice = {k.replace("residual.", "layer_5.0.", 1) for k in state if k.startswith("residual.")}
    assert set(back) == set(state) | twice
    assert all(torch.equal(back[k], state[k]) for k in state)
    assert load_weights(network, network.spec, back, v.dialects()) == "official"


def test_official_weights_give_official_outputs_of_parc_convnext() -> None:
    """ParC-ConvNeXt-XT computes the stored outputs and saves the same names back."""
    _, state, x, logits = fixture("parc_convnext_xt")
    assert check_reference("parc-convnext-xt", state, x, logits) == "official"


@pytest.mark.parametrize("name", ["parc-net-xs", "parc-resnet-50", "parc-mobilenetv2"])
def test_official_names_round_trip(name: str) -> None:
    """What is saved under official names loads again and is the same network."""
    v = variant(name)
    spec = v.spec(classes=10)
    one, two = build(spec, seed=1), Network(spec)
    dialect = v.dialects()[0]
    state = official_state(one, spec, dialect)
    assert load_weights(two, spec, state, v.dialects()) == "official"
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_the_parallel_structure_is_the_official_second_frame() -> None:
    """The official parallel frame, which has no channel attention, counts the same."""
    c = cost(parcnet("", XS, hybrid="parallel", channel_attention=False), 256)
    assert (c.params, c.macs) == (2566296, 949584896)


@pytest.mark.parametrize("hybrid", ["serial", "parallel", "bifurcate"])
def test_outer_structures_train(hybrid: Hybrid) -> None:
    """The three outer structures are three networks, and a gradient reaches every parameter of each."""
    spec = parcnet("", MICRO, hybrid=hybrid, input_size=32, classes=10)
    network = build(spec)
    network(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())
    assert from_dict(to_dict(spec)) == spec
    assert (spec == variant("parc-net-micro").spec()) == (hybrid == "bifurcate")


@pytest.mark.parametrize("name", ["parc-net-xs", "parc-convnext-xt", "parc-mobilenetv2"])
def test_any_size_from_32_works_and_less_is_refused(name: str) -> None:
    """Kernels and position embeddings are interpolated, so one network takes every input size of 32 pixels or more."""
    network = Network(variant(name).spec()).eval()
    for size in (32, 100):
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 1000)
    with pytest.raises(ValueError, match="32"):
        variant(name).spec(input_size=16)


@pytest.mark.parametrize("name", ["parc-net-micro", "parc-convnext-micro"])
def test_micro_variants_train(name: str) -> None:
    """A gradient reaches every parameter of the small variants."""
    check_training(name)
    spec = variant(name).spec()
    assert from_dict(to_dict(spec)) == spec
    assert cost(spec, 32).params < 600_000
    assert cost(spec, 32).macs < 15_000_000


@pytest.mark.parametrize(("name", "digest"), NAMES)
def test_official_names(name: str, digest: str) -> None:
    """Every variant saves the names and shapes that the official code has."""
    check_names(name, "official", digest)
