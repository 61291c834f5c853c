"""The comparators of the mobile systems, MobileNetV2, MobileNetV3-L, EfficientNet-B0 and ResNeXt-50, against timm and torchvision."""

from __future__ import annotations

import pytest
import torch

from vitnas.roadmap.cost import cost
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.zoo import variant

from .oracles import randomise, timm
from .zoo_checks import check_cost, check_reference, check_training

PAIRS = [
    ("mobilenetv2", "mobilenetv2_100"),
    ("mobilenetv3-l", "mobilenetv3_large_100"),
    ("efficientnet-b0", "efficientnet_b0"),
    ("resnext-50-32x4d", "resnext50_32x4d"),
]
MICROS = ("mobilenetv2-micro", "mobilenetv3-micro", "efficientnet-micro", "resnext-micro")


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_costs_are_those_of_timm(ours: str, theirs: str) -> None:
    """Every variant has timm's parameters and multiply-adds to the unit."""
    check_cost(ours, lambda: timm().create_model(theirs))


def test_published_cost() -> None:
    """MobileNetV3-L: parameters to the unit, MACs to four digits."""
    c = cost(variant("mobilenetv3-l").spec(), 224)
    assert (c.params, round(c.macs / 1e9, 4)) == (5483032, 0.2166)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_reference_weights_give_reference_outputs(ours: str, theirs: str) -> None:
    """A network loaded by name conversion computes what timm computes, and saves back under the same names."""
    reference = randomise(timm().create_model(theirs))
    x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(x)
    check_reference(ours, reference.state_dict(), x, expected)


@pytest.mark.parametrize(("ours", "theirs"), [("mobilenetv2", "mobilenet_v2"), ("efficientnet-b0", "efficientnet_b0")])
def test_weights_of_torchvision_give_its_outputs(ours: str, theirs: str) -> None:
    """The same under torchvision's names."""
    timm()  # declares the operators that torchvision's import needs
    models = pytest.importorskip("torchvision").models
    reference = randomise(getattr(models, theirs)())
    x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(x)
    assert check_reference(ours, reference.state_dict(), x, expected) == "torchvision"


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_sizes_that_do_not_fit_are_refused(ours: str, theirs: str) -> None:
    """Any size from the total stride on works; the message for smaller ones gives it."""
    assert cost(variant(ours).spec(input_size=33), 33).params == cost(variant(ours).spec(), 224).params
    with pytest.raises(ValueError, match="32 or more"):
        variant(ours).spec(input_size=31)


@pytest.mark.parametrize("name", MICROS)
def test_micros_train_and_are_data(name: str) -> None:
    """The micro variants take 32x32 images, every parameter gets a gradient, and they are small and plain data."""
    check_training(name)
    spec = variant(name).spec()
    assert from_dict(to_dict(spec)).fingerprint == spec.fingerprint
    c = cost(spec, 32)
    assert c.params < 600_000
    assert c.macs < 15_000_000
