"""VAN against stored outputs and counts of the official code."""

from __future__ import annotations

import pytest
import torch

from vitnas.roadmap.cost import cost
from vitnas.roadmap.model import Network
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.zoo import variant

from .oracles import fixture
from .zoo_checks import check_names, check_reference, check_training

# Counted in the official code with torch's FlopCounterMode.
COSTS = [
    ("van-b0", 4105800, 864224000),
    ("van-b1", 13861800, 2495262720),
    ("van-b2", 26578472, 4992773120),
    ("van-b3", 44765608, 8925292032),
    ("van-b4", 60283176, 12143756288),
    ("van-b5", 89967688, 17129123328),
    ("van-b6", 199829416, 38710096896),
]
# Names and shapes of the official code's parameters and statistics.
NAMES = [
    ("van-b1", "e64eeb2bc44c2f2f"),
    ("van-b2", "c154eee970eed186"),
    pytest.param("van-b3", "c503cc3f52c83559", marks=pytest.mark.full),
    pytest.param("van-b4", "7c320721f4953d56", marks=pytest.mark.full),
    pytest.param("van-b5", "979105fe87f0c88f", marks=pytest.mark.full),
    pytest.param("van-b6", "65661716490a5ad7", marks=pytest.mark.full),
]


@pytest.mark.parametrize(("name", "params", "macs"), [*COSTS[:4], *(pytest.param(*row, marks=pytest.mark.full) for row in COSTS[4:])])
def test_costs_are_those_of_the_official_code(name: str, params: int, macs: int) -> None:
    """Every variant has the official parameters and multiply-adds to the unit."""
    c = cost(variant(name).spec(), 224)
    assert (c.params, c.macs, c.macs_conv_linear) == (params, macs, macs)


def test_official_weights_give_official_outputs() -> None:
    """VAN-B0 loads the official names, computes the stored outputs and saves the same names back."""
    _, state, x, logits = fixture("van_b0")
    assert check_reference("van-b0", state, x, logits) == "official"


def test_any_size_from_32_works_and_less_is_refused() -> None:
    """One network takes every input size of 32 pixels or more."""
    network = Network(variant("van-b0").spec()).eval()
    for size in (32, 50):
        assert network(torch.zeros(1, 3, size, size)).shape == (1, 1000)
    with pytest.raises(ValueError, match="32 pixels or more"):
        variant("van-b0").spec(input_size=31)


def test_micro_variant_trains_and_keeps_its_identity() -> None:
    """A gradient reaches every parameter, and the written network reads back as itself."""
    check_training("van-micro")
    spec = variant("van-micro").spec()
    assert from_dict(to_dict(spec)) == spec
    assert cost(spec, 32).params < 600_000
    assert cost(spec, 32).macs < 15_000_000


@pytest.mark.parametrize(("name", "digest"), NAMES)
def test_official_names(name: str, digest: str) -> None:
    """Every variant saves the names and shapes that the official code has."""
    check_names(name, "official", digest)
