"""MobileViT against timm and the official repository: parameters, MACs, outputs, names, resolutions."""

from __future__ import annotations

import pytest
import torch

from vitnas.roadmap.cost import cost
from vitnas.roadmap.model import Network
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.weights import load_weights, official_state
from vitnas.roadmap.zoo import variant

from .oracles import randomise, timm
from .zoo_checks import check_cost, check_names, check_reference, check_training

# Digests of the official code's (ml-cvnets) names and shapes.
OFFICIAL = [("xxs", "504f032c365e1a46"), ("xs", "cd2c3e3aace760fd"), ("s", "9a1e338a15f041fe")]


@pytest.mark.parametrize("size", ["xxs", "xs", "s"])
def test_costs_are_those_of_timm(size: str) -> None:
    """Every variant has timm's parameters and multiply-adds to the unit."""
    check_cost(f"mobilevit-{size}", lambda: timm().create_model(f"mobilevit_{size}"))


def test_published_cost() -> None:
    """MobileViT-S at 256 pixels, with and without attention products."""
    c = cost(variant("mobilevit-s").spec(), 256)
    assert (c.params, round(c.macs_conv_linear / 1e9, 4), round(c.macs / 1e9, 4)) == (5578632, 1.8232, 2.0008)


@pytest.mark.parametrize(("size", "digest"), OFFICIAL)
def test_official_names(size: str, digest: str) -> None:
    """Every variant has the official code's names and shapes, and reads them."""
    check_names(f"mobilevit-{size}", "official", digest)
    v = variant(f"mobilevit-{size}")
    source, target = Network(v.spec()), Network(v.spec())
    assert load_weights(target, v.spec(), official_state(source, v.spec(), v.dialects()[0]), v.dialects()) == "official"
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


@pytest.mark.parametrize(
    ("size", "pixels"), [("xxs", 128), ("xxs", 144), *(pytest.param(s, 256, marks=pytest.mark.full) for s in ("xxs", "xs", "s"))]
)
def test_reference_weights_give_reference_outputs(size: str, pixels: int) -> None:
    """A network loaded by name conversion computes what timm computes, also where maps do not divide into patches (144 pixels)."""
    reference = randomise(timm().create_model(f"mobilevit_{size}"))
    x = torch.randn(1, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(x)
    check_reference(f"mobilevit-{size}", reference.state_dict(), x, expected, input_size=pixels)


def test_sizes_that_do_not_fit_are_refused() -> None:
    """The message gives the smallest size."""
    with pytest.raises(ValueError, match="must be 32 or more, not 31"):
        variant("mobilevit-s").spec(input_size=31)


def test_micro_trains_and_is_data() -> None:
    """The micro variant takes 32x32 images, every parameter gets a gradient, and it is small and plain data."""
    check_training("mobilevit-micro")
    spec = variant("mobilevit-micro").spec()
    assert from_dict(to_dict(spec)).fingerprint == spec.fingerprint
    c = cost(spec, 32)
    assert c.params < 600_000
    assert c.macs < 15_000_000
