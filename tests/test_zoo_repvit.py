"""RepViT against timm and the official repository: parameters, MACs, outputs, names, two heads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vitnas.roadmap.cost import cost
from vitnas.roadmap.fuse import deploy
from vitnas.roadmap.model import Network
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.weights import load_weights, official_state
from vitnas.roadmap.zoo import variant

from .oracles import randomise, settle, timm
from .zoo_checks import check_cost, check_names, check_reference, check_training

SIZES = ("m0.9", "m1.0", "m1.1", "m1.5", "m2.3")
PAIRS = [(f"repvit-{size}{tail}", f"repvit_{size.replace('.', '_')}", bool(tail)) for size in SIZES for tail in ("", "-distilled")]
# Parameters of the official code and a digest of its names and shapes; timm lacks M0.6.
OFFICIAL = [
    ("repvit-m0.6", 2487292, "e9b463503fdffe18"),
    ("repvit-m0.6-distilled", 2808932, "753936921d6d3074"),
    ("repvit-m0.9", 5103560, "e819d355975a3189"),
    ("repvit-m0.9-distilled", 5489328, "c55aca6c83c152d0"),
    ("repvit-m1.0-distilled", 7302796, "e6e8acf60e19f14d"),
    ("repvit-m1.1-distilled", 8802912, "7e847cd5341211ec"),
    ("repvit-m1.5-distilled", 14644432, "3d992b1a54962dfb"),
    ("repvit-m2.3-distilled", 23688792, "efe2ac617ecb67c5"),
]


def reference(name: str, distilled: bool, **options: Any) -> torch.nn.Module:
    model: torch.nn.Module = timm().create_model(name, distillation=distilled, **options)
    return model


@pytest.mark.parametrize(
    ("ours", "theirs", "distilled"), [pair if "m0.9" in pair[0] else pytest.param(*pair, marks=pytest.mark.full) for pair in PAIRS]
)
def test_costs_are_those_of_timm(ours: str, theirs: str, distilled: bool) -> None:
    """Every variant has timm's parameters and multiply-adds to the unit, with one head and with two."""
    check_cost(ours, lambda: reference(theirs, distilled))


@pytest.mark.parametrize(("name", "params", "digest"), OFFICIAL)
def test_official_names(name: str, params: int, digest: str) -> None:
    """Every variant has the official code's parameters, names and shapes."""
    assert cost(variant(name).spec(), 224).params == params
    check_names(name, "official", digest)


def test_published_costs() -> None:
    """RepViT-M0.9: training form with one head and two, and what is left of it once deployed."""
    one, two = (variant(name).spec() for name in ("repvit-m0.9", "repvit-m0.9-distilled"))
    assert cost(one, 224).params == 5103560
    assert cost(two, 224).params == 5489328
    deployed = cost(deploy(one), 224)
    assert (deployed.params, round(deployed.macs / 1e9, 4)) == (5067056, 0.8156)
    assert deploy(two, one_head=True).fingerprint == deploy(one).fingerprint


@pytest.mark.parametrize(
    ("ours", "theirs", "distilled"),
    [pair if pair[0] == "repvit-m0.9-distilled" else pytest.param(*pair, marks=pytest.mark.full) for pair in PAIRS],
)
def test_reference_weights_give_reference_outputs(ours: str, theirs: str, distilled: bool) -> None:
    """A network loaded by name conversion computes what timm computes, and saves back under the same names."""
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    model = settle(randomise(reference(theirs, distilled)), x)
    with torch.no_grad():
        expected = model(x)
    check_reference(ours, model.state_dict(), x, expected)


def test_official_weights_are_read_like_those_of_timm() -> None:
    """The same values under the official names give the same network."""
    v = variant("repvit-m0.9-distilled")
    source, target = Network(v.spec()), Network(v.spec())
    randomise(source)
    official, by_timm = v.dialects()
    assert load_weights(target, v.spec(), official_state(source, v.spec(), official), v.dialects()) == "official"
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
    assert len(official_state(source, v.spec(), by_timm)) == len(official_state(source, v.spec(), official))


def test_training_gives_a_pair_of_logits_where_distilled() -> None:
    """Two heads give a pair in training and their mean in eval mode."""
    network = Network(variant("repvit-micro").spec())
    x = torch.randn(2, 3, 32, 32)
    assert [out.shape for out in network(x)] == [(2, 10), (2, 10)]
    assert network.eval()(x).shape == (2, 10)


def test_sizes() -> None:
    """Any size from the total stride on works; below it there is a message."""
    assert cost(variant("repvit-m0.9").spec(input_size=97), 97).params == 5103560
    with pytest.raises(ValueError, match="use --input-size 32 or more"):
        variant("repvit-m0.9").spec(input_size=31)


def test_micro_trains_and_is_data() -> None:
    """The micro variant takes 32x32 images, every parameter gets a gradient, and it is small and plain data."""
    check_training("repvit-micro")
    spec = variant("repvit-micro").spec()
    assert from_dict(to_dict(spec)).fingerprint == spec.fingerprint
    c = cost(spec, 32)
    assert c.params < 600_000
    assert c.macs < 15_000_000
