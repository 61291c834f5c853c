"""MLP-Mixer against timm: parameters, MACs, outputs, names in both dialects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitnas.roadmap.cost import cost
from vitnas.roadmap.model import Network, build
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.weights import load_weights, official_state, read_checkpoint
from vitnas.roadmap.zoo import variant

from .oracles import randomise, timm
from .zoo_checks import check_cost, check_reference, check_saving, check_training

SIZES = [
    ("mixer-s-32", 32, 8, 512),
    ("mixer-s-16", 16, 8, 512),
    ("mixer-b-32", 32, 12, 768),
    ("mixer-b-16", 16, 12, 768),
    ("mixer-l-32", 32, 24, 1024),
    ("mixer-l-16", 16, 24, 1024),
    ("mixer-h-14", 14, 32, 1280),
]


def reference(patch: int, depth: int, width: int, *, size: int = 224, classes: int = 1000) -> torch.nn.Module:
    """timm's Mixer; its registry lacks H/14."""
    mixer: torch.nn.Module = timm().models.mlp_mixer.MlpMixer(
        img_size=size, patch_size=patch, num_blocks=depth, embed_dim=width, num_classes=classes
    )
    return mixer


def image(size: int) -> torch.Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "patch", "depth", "width"), SIZES)
def test_costs_are_those_of_timm(name: str, patch: int, depth: int, width: int) -> None:
    """Every variant has timm's parameters and multiply-adds to the unit."""
    check_cost(name, lambda: reference(patch, depth, width))


def test_published_cost() -> None:
    """Mixer-S/16: parameters to the unit, MACs to four digits."""
    c = cost(variant("Mixer-S/16").spec(), 224)
    assert (c.params, round(c.macs / 1e9, 4)) == (18528264, 3.7770)


@pytest.mark.parametrize(
    ("name", "patch", "depth", "width"), [s if s[0] == "mixer-s-32" else pytest.param(*s, marks=pytest.mark.full) for s in SIZES]
)
def test_reference_weights_give_reference_outputs(name: str, patch: int, depth: int, width: int) -> None:
    """A network loaded by name conversion computes what timm computes, and saves back under the same names."""
    theirs = randomise(reference(patch, depth, width))
    x = image(224)
    with torch.no_grad():
        expected = theirs(x)
    check_reference(name, theirs.state_dict(), x, expected)


def test_registered_names_of_timm_are_these_networks() -> None:
    """timm's registered Mixers have the names and shapes of the classes compared with above."""
    with torch.device("meta"):
        for name, patch, depth, width in SIZES[:-1]:
            registered = timm().create_model(name.replace("-", "_", 1).replace("-", "") + "_224")
            same = reference(patch, depth, width)
            assert {k: t.shape for k, t in registered.state_dict().items()} == {k: t.shape for k, t in same.state_dict().items()}


def test_weights_of_the_jax_code_load(tmp_path: Path) -> None:
    """Kernels of the official .npz files have their inputs before their outputs; they load, and save back the same."""
    v = variant("mixer-micro")
    spec = v.spec()
    network = build(spec, seed=3)
    google = next(d for d in v.dialects() if d.name == "google")
    state = official_state(network, spec, google)
    assert state["stem/kernel"].shape == (4, 4, 3, 64)
    assert state["MixerBlock_3/token_mixing/Dense_0/kernel"].shape == (64, 32)
    assert state["MixerBlock_0/channel_mixing/Dense_1/kernel"].shape == (256, 64)
    assert {"MixerBlock_0/LayerNorm_1/scale", "pre_head_layer_norm/bias", "head/kernel"} < set(state)
    arrays: dict[str, Any] = {k: t.numpy() for k, t in state.items()}
    np.savez(tmp_path / "mixer.npz", **arrays)
    loaded = Network(spec)
    assert load_weights(loaded, spec, read_checkpoint(tmp_path / "mixer.npz"), v.dialects()) == "google"
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))
    check_saving(loaded, "mixer-micro", "google", state)


def test_another_input_size_has_token_mlps_of_its_own() -> None:
    """The micro network at another size is timm's; a map with another number of tokens is refused."""
    theirs = randomise(reference(4, 4, 64, size=48, classes=10))
    x = image(48)
    with torch.no_grad():
        expected = theirs(x)
    check_reference("mixer-micro", theirs.state_dict(), x, expected, input_size=48)
    with pytest.raises(ValueError, match="made for 196 tokens"):
        variant("mixer-s-16").spec().shapes(256)
    with pytest.raises(ValueError, match="multiple of 14"):
        variant("mixer-h-14").spec(input_size=256)


def test_micro_trains_and_is_data() -> None:
    """The small variant backpropagates into every parameter, and its data survive writing and reading."""
    check_training("mixer-micro")
    spec = variant("mixer-micro").spec()
    assert from_dict(to_dict(spec)) == spec
    c = cost(spec, 32)
    assert c.params < 600_000
    assert c.macs < 15_000_000
