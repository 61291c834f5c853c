"""DeiT and ViT against timm: parameters, MACs, outputs, names."""

from __future__ import annotations

import pytest
import torch

from vitnas.roadmap.cost import cost
from vitnas.roadmap.model import build
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.zoo import variant

from .oracles import randomise, timm
from .zoo_checks import check_cost, check_reference, check_training

PAIRS = [
    ("deit-ti", "deit_tiny_patch16_224"),
    ("deit-s", "deit_small_patch16_224"),
    ("deit-b", "deit_base_patch16_224"),
    ("deit-b-384", "deit_base_patch16_384"),
    ("deit-ti-distilled", "deit_tiny_distilled_patch16_224"),
    ("deit-s-distilled", "deit_small_distilled_patch16_224"),
    ("deit-b-distilled", "deit_base_distilled_patch16_224"),
    ("deit-b-distilled-384", "deit_base_distilled_patch16_384"),
    ("vit-s-16", "vit_small_patch16_224"),
    ("vit-s-16-384", "vit_small_patch16_384"),
    ("vit-b-16", "vit_base_patch16_224"),
    ("vit-b-16-384", "vit_base_patch16_384"),
]
SMALL = ("deit-ti", "deit-ti-distilled")


def image(size: int) -> torch.Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_costs_are_those_of_timm(ours: str, theirs: str) -> None:
    """Every variant has timm's parameters and multiply-adds to the unit."""
    check_cost(ours, lambda: timm().create_model(theirs))


@pytest.mark.parametrize(
    ("name", "params", "conv_linear", "gmacs"),
    [("deit-s", 22050664, 4.2412, 4.5989), ("deit-s-distilled", 22436432, 4.2628, 4.6241)],
)
def test_published_costs(name: str, params: int, conv_linear: float, gmacs: float) -> None:
    """Parameters agree to the unit, MACs to four digits, with and without attention products."""
    c = cost(variant(name).spec(), 224)
    assert (c.params, round(c.macs_conv_linear / 1e9, 4), round(c.macs / 1e9, 4)) == (params, conv_linear, gmacs)


@pytest.mark.parametrize(("ours", "theirs"), [pair if pair[0] in SMALL else pytest.param(*pair, marks=pytest.mark.full) for pair in PAIRS])
def test_reference_weights_give_reference_outputs(ours: str, theirs: str) -> None:
    """A network loaded by name conversion computes what timm computes, and saves back under the same names."""
    reference = randomise(timm().create_model(theirs))
    x = image(variant(ours).input_size)
    with torch.no_grad():
        expected = reference(x)
    check_reference(ours, reference.state_dict(), x, expected)


def test_another_input_size_has_a_position_embedding_of_its_own() -> None:
    """DeiT-Ti for 64 pixels is timm's network for 64 pixels."""
    reference = randomise(timm().create_model("deit_tiny_distilled_patch16_224", img_size=64))
    x = image(64)
    with torch.no_grad():
        expected = reference(x)
    check_reference("deit-ti-distilled", reference.state_dict(), x, expected, input_size=64)


def test_training_gives_a_pair_of_logits_where_distilled() -> None:
    """The distilled network returns the logits of both tokens in training and their mean in eval mode."""
    network = build(variant("deit-micro").spec())
    x = image(32)
    pair = network(x)
    assert isinstance(pair, tuple)
    assert torch.allclose(network.eval()(x), (pair[0] + pair[1]) / 2, atol=1e-6)
    assert build(variant("vit-micro").spec())(x).shape == (1, 10)


def test_sizes_that_do_not_fit_are_refused_with_those_that_do() -> None:
    """The input must be a multiple of the patch; a network refuses images of another size than its own."""
    with pytest.raises(ValueError, match="multiple of 16"):
        variant("deit-s").spec(input_size=200)
    with pytest.raises(ValueError, match="made for a map of 14x14"):
        variant("deit-s").spec().shapes(384)
    assert variant("deit-s").spec(input_size=384).shapes(384)["stem"] == (384, 24 * 24 + 1, 1)


@pytest.mark.parametrize("name", ["deit-micro", "vit-micro"])
def test_micros_train_and_are_data(name: str) -> None:
    """The small variants backpropagate into every parameter, and their data survive writing and reading."""
    check_training(name)
    spec = variant(name).spec()
    assert from_dict(to_dict(spec)) == spec
    c = cost(spec, 32)
    assert c.params < 600_000
    assert c.macs < 15_000_000
