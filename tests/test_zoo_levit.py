"""LeViT against timm and the official repository: parameters, MACs, outputs, names, resolutions."""

from __future__ import annotations

import pytest
import torch

from vitnas.roadmap.cost import cost
from vitnas.roadmap.fuse import deploy
from vitnas.roadmap.model import Network
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.weights import load_weights, official_state
from vitnas.roadmap.zoo import variant

from .oracles import randomise, timm
from .zoo_checks import check_cost, check_names, check_reference, check_training

SIZES = ("128s", "128", "192", "256", "384")
# Digests of the official code's names and shapes, without its tables of indices.
OFFICIAL = ("fcedceec9577d140", "9ac8d910b9e4f221", "f72e45121b5f65fb", "af98136e73a9c8b7", "fc22514153b3f028")


@pytest.mark.parametrize("size", SIZES)
def test_costs_are_those_of_timm(size: str) -> None:
    """Every variant has timm's parameters and multiply-adds to the unit."""
    check_cost(f"levit-{size}", lambda: timm().create_model(f"levit_{size}"))


def test_published_costs() -> None:
    """LeViT-128S with two heads, with and without attention products, and with its norms folded."""
    spec = variant("levit-128s").spec()
    c = cost(spec, 224)
    assert (c.params, round(c.macs_conv_linear / 1e9, 4), round(c.macs / 1e9, 4)) == (7777058, 0.2803, 0.3047)
    assert cost(deploy(spec), 224).params == 7756466


@pytest.mark.parametrize(("size", "digest"), zip(SIZES, OFFICIAL, strict=True))
def test_official_names(size: str, digest: str) -> None:
    """Every variant has the official code's names and shapes."""
    check_names(f"levit-{size}", "official", digest)


@pytest.mark.parametrize("size", [s if s == "128s" else pytest.param(s, marks=pytest.mark.full) for s in SIZES])
def test_reference_weights_give_reference_outputs(size: str) -> None:
    """A network loaded by name conversion computes what timm computes, and saves back under the same names."""
    reference = randomise(timm().create_model(f"levit_{size}"))
    for name, parameter in reference.named_parameters():
        if name.endswith("attention_biases"):
            parameter.data.normal_(generator=torch.Generator().manual_seed(2))
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(x)
    check_reference(f"levit-{size}", reference.state_dict(), x, expected)


def test_official_checkpoints_carry_tables_of_indices() -> None:
    """Weights under official names load with the index tables that the official code stores, and without."""
    v = variant("levit-128s")
    source, target = Network(v.spec()), Network(v.spec())
    randomise(source)
    state = official_state(source, v.spec(), v.dialects()[0])
    assert load_weights(target, v.spec(), state, v.dialects()) == "official"
    tables = {k.replace("biases", "bias_idxs"): torch.zeros(196, 196) for k in state if k.endswith("attention_biases")}
    assert load_weights(target, v.spec(), state | tables, v.dialects()) == "official"
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_another_input_size_has_biases_of_its_own() -> None:
    """Multiples of 16 pixels work, at that size only; others are refused with the sizes that do."""
    spec = variant("levit-128s").spec(input_size=160)
    reference = randomise(timm().create_model("levit_128s", img_size=160))
    x = torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        check_reference("levit-128s", reference.state_dict(), x, reference(x), input_size=160)
    with pytest.raises(ValueError, match="10x10 positions does not fit a map of 14x14"):
        spec.shapes(224)
    with pytest.raises(ValueError, match="must be a multiple of 16, not 225"):
        variant("levit-128s").spec(input_size=225)


def test_training_gives_a_pair_of_logits() -> None:
    """Two heads give a pair in training and their mean in eval mode."""
    network = Network(variant("levit-micro").spec())
    x = torch.randn(2, 3, 32, 32)
    assert [out.shape for out in network(x)] == [(2, 10), (2, 10)]
    assert network.eval()(x).shape == (2, 10)


def test_micro_trains_and_is_data() -> None:
    """The micro variant takes 32x32 images, every parameter gets a gradient, and it is small and plain data."""
    check_training("levit-micro")
    spec = variant("levit-micro").spec()
    assert from_dict(to_dict(spec)).fingerprint == spec.fingerprint
    c = cost(spec, 32)
    assert c.params < 600_000
    assert c.macs < 15_000_000
