"""ResNet and ConvNeXt against timm: parameters, MACs and outputs under the reference's own weights."""

from __future__ import annotations

import pytest
import torch

from vitnas.roadmap.cost import cost
from vitnas.roadmap.model import Network
from vitnas.roadmap.weights import load_weights, official_state
from vitnas.roadmap.zoo import variant

from .oracles import randomise, timm

PAIRS = [
    ("resnet-50", "resnet50"),
    ("convnext-t", "convnext_tiny"),
    pytest.param("resnet-200", "resnet200", marks=pytest.mark.full),
    pytest.param("convnext-s", "convnext_small", marks=pytest.mark.full),
    pytest.param("convnext-b", "convnext_base", marks=pytest.mark.full),
    pytest.param("convnext-l", "convnext_large", marks=pytest.mark.full),
    pytest.param("convnext-xl", "convnext_xlarge", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_reference_weights_give_reference_outputs(ours: str, theirs: str) -> None:
    """A network loaded by name conversion computes what timm computes, and saves back under the same names."""
    reference = randomise(timm().create_model(theirs))
    state = {k: v for k, v in reference.state_dict().items() if not k.endswith("num_batches_tracked")}
    v = variant(ours)
    spec = v.spec(input_size=v.input_size, classes=1000)
    network = Network(spec).eval()
    dialect = load_weights(network, spec, state, v.dialects())
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, actual = reference(x), network(x)
    assert (expected - actual).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))
    back = official_state(network, spec, next(d for d in v.dialects() if d.name == dialect))
    assert {k: t.shape for k, t in back.items()} == {k: t.shape for k, t in state.items()}
    assert all(torch.equal(back[k], state[k]) for k in state)


@pytest.mark.parametrize(
    ("name", "params", "gmacs"),
    [
        ("convnext-t", 28589128, 4.4555),
        ("resnet-50", 25557032, 4.0892),
        ("resnet-200", 64673832, 15.0075),
        ("convnext-b", 88591464, 15.3547),
    ],
)
def test_published_costs(name: str, params: int, gmacs: float) -> None:
    """Parameters agree to the unit, MACs to four digits."""
    c = cost(variant(name).spec(input_size=224, classes=1000), 224)
    assert c.params == params
    assert round(c.macs / 1e9, 4) == gmacs
