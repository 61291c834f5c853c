"""TransNeXt against stored outputs and counts of the official code."""

from __future__ import annotations

import pytest
import torch

from vitnas.roadmap.blocks.aggregated import PositionBias, offsets
from vitnas.roadmap.cost import cost
from vitnas.roadmap.model import Network, build
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.weights import load_weights
from vitnas.roadmap.zoo import variant
from vitnas.roadmap.zoo.transnext import transnext

from .oracles import fixture
from .zoo_checks import check_names, check_reference, check_training

# Counted in the official code with torch's FlopCounterMode: parameters, all multiply-adds, those of attention products.
COSTS = [
    ("transnext-micro", 12809304, 2648551168, 130695936),
    ("transnext-tiny", 28258960, 5711069568, 196043904),
    ("transnext-small", 49741564, 10290562816, 380741760),
    ("transnext-base", 89721496, 18299881472, 517063680),
    ("transnext-small-384", 49741564, 32017962496, 2836684800),
    ("transnext-base-384", 89721496, 56185428992, 3851919360),
    ("transnext-micro-aaaa", 13114008, 3325754368, 81199104),
]
# Names and shapes of the official code's parameters and statistics.
NAMES = [
    ("transnext-tiny", "c4a670e77d1cca75"),
    ("transnext-micro-aaaa", "517ac2ae4d5c5a31"),
    pytest.param("transnext-small", "f02a03ac98d80760", marks=pytest.mark.full),
    pytest.param("transnext-base", "6f1aa88438109208", marks=pytest.mark.full),
    pytest.param("transnext-small-384", "f02a03ac98d80760", marks=pytest.mark.full),
    pytest.param("transnext-base-384", "6f1aa88438109208", marks=pytest.mark.full),
]


@pytest.mark.parametrize(
    ("name", "params", "macs", "attention"), [*COSTS[:2], COSTS[6], *(pytest.param(*row, marks=pytest.mark.full) for row in COSTS[2:6])]
)
def test_costs_are_those_of_the_official_code(name: str, params: int, macs: int, attention: int) -> None:
    """Every variant has the official parameters and multiply-adds to the unit."""
    v = variant(name)
    c = cost(v.spec(), v.input_size)
    assert (c.params, c.macs, c.macs - c.macs_conv_linear) == (params, macs, attention)


def test_linear_inference_costs_what_the_official_code_does() -> None:
    """A pooled map of fixed size, whatever the input."""
    c = cost(transnext("", 48, (2, 2, 15, 2), pool=7, input_size=384), 384)
    assert (c.macs, c.macs - c.macs_conv_linear) == (8405957632, 405098496)


def test_official_weights_give_official_outputs() -> None:
    """TransNeXt-Micro loads the official names, computes the stored outputs and saves the same names back."""
    _, state, x, logits = fixture("transnext_micro")
    assert check_reference("transnext-micro", state, x, logits) == "official"


def test_weights_move_to_any_input_size_and_small_ones_are_refused() -> None:
    """No parameter depends on the input size, but a network is made for one; pooling wants 32 pixels."""
    v = variant("transnext-micro")
    state = build(v.spec(), seed=3).state_dict()
    for size in (32, 90):
        spec = v.spec(input_size=size)
        network = Network(spec).eval()
        load_weights(network, spec, state, v.dialects())
        assert network(torch.zeros(1, 3, size, size)).isfinite().all()
    with pytest.raises(ValueError, match="23x23, not 8x8"):
        spec.shapes(32)
    with pytest.raises(ValueError, match="32 pixels or more"):
        v.spec(input_size=31)
    with pytest.raises(ValueError, match="take a larger input"):
        variant("transnext-micro-aaaa").spec(input_size=32)


def test_offsets_of_pooled_pixels_are_those_of_adaptive_pooling() -> None:
    """A pooled pixel lies at the mean of the pixels it covers, overlapping ones included."""
    for size, pool in ((8, 4), (7, 3), (5, 5), (9, 1)):
        places = torch.nn.functional.adaptive_avg_pool1d(torch.arange(float(size))[None], pool)[0]
        index, distinct = offsets(size, pool)
        assert torch.equal(torch.tensor(distinct)[torch.tensor(index)], torch.arange(float(size))[:, None] - places)
        assert PositionBias(2, size, pool, size)().shape == (2, size**2, pool**2)


def test_micro_variant_trains_and_keeps_its_identity() -> None:
    """A gradient reaches every parameter, and the written network reads back as itself."""
    check_training("transnext-micro-32")
    spec = variant("transnext-micro-32").spec()
    assert from_dict(to_dict(spec)) == spec
    assert cost(spec, 32).params < 600_000
    assert cost(spec, 32).macs < 15_000_000


@pytest.mark.parametrize(("name", "digest"), NAMES)
def test_official_names(name: str, digest: str) -> None:
    """Every variant saves the names and shapes that the official code has."""
    check_names(name, "official", digest)
