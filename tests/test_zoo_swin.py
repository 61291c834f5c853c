"""Swin against timm: parameters, MACs, outputs, names in both dialects."""

from __future__ import annotations

import pytest
import torch

from vitnas.roadmap.cost import cost
from vitnas.roadmap.mixers import WindowAttention
from vitnas.roadmap.model import Network, build
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.weights import load_weights, official_state
from vitnas.roadmap.zoo import variant
from vitnas.roadmap.zoo.swin import network as swin

from .oracles import randomise, timm
from .zoo_checks import check_cost, check_reference, check_training

PAIRS = [
    ("swin-t", "swin_tiny_patch4_window7_224"),
    ("swin-s", "swin_small_patch4_window7_224"),
    ("swin-b", "swin_base_patch4_window7_224"),
    ("swin-b-384", "swin_base_patch4_window12_384"),
    ("swin-l", "swin_large_patch4_window7_224"),
    ("swin-l-384", "swin_large_patch4_window12_384"),
]


def image(size: int) -> torch.Tensor:
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("ours", "theirs"), [PAIRS[0], PAIRS[-1], *(pytest.param(*pair, marks=pytest.mark.full) for pair in PAIRS[1:-1])])
def test_costs_are_those_of_timm(ours: str, theirs: str) -> None:
    """Every variant has timm's parameters and multiply-adds to the unit."""
    check_cost(ours, lambda: timm().create_model(theirs))


def test_swin_t_has_its_published_cost() -> None:
    """The figures printed with the ConvNeXt roadmap, with and without attention products."""
    c = cost(variant("swin-t").spec(), 224)
    assert (c.params, round(c.macs_conv_linear / 1e9, 4), round(c.macs / 1e9, 4)) == (28288354, 4.3504, 4.4906)


@pytest.mark.parametrize(("ours", "theirs"), [PAIRS[0], *(pytest.param(*pair, marks=pytest.mark.full) for pair in PAIRS[1:])])
def test_reference_weights_give_reference_outputs(ours: str, theirs: str) -> None:
    """A network loaded by name conversion computes what timm computes, and saves back under the same names."""
    reference = randomise(timm().create_model(theirs))
    x = image(variant(ours).input_size)
    with torch.no_grad():
        expected = reference(x)
    assert check_reference(ours, reference.state_dict(), x, expected) == "timm"


@pytest.mark.full
@pytest.mark.parametrize(("ours", "theirs"), PAIRS[:2])
def test_swin_at_384_has_windows_of_12(ours: str, theirs: str) -> None:
    """T and S at 384 pixels agree with timm's network with windows of 12."""
    reference = randomise(timm().create_model(theirs, img_size=384, window_size=12))
    x = image(384)
    with torch.no_grad():
        expected = reference(x)
    check_reference(ours, reference.state_dict(), x, expected, input_size=384)


def test_micro_agrees_with_timm_where_windows_shift_and_shrink() -> None:
    """The small network computes what timm's class computes at its numbers, at two input sizes."""
    make = timm().models.swin_transformer.SwinTransformer
    for size in (32, 64):
        reference = randomise(
            make(img_size=size, patch_size=2, window_size=4, embed_dim=24, depths=(2, 2, 2), num_heads=(2, 4, 8), num_classes=10)
        )
        x = image(size)
        with torch.no_grad():
            expected = reference(x)
        check_reference("swin-micro", reference.state_dict(), x, expected, input_size=size)


def test_official_checkpoints_load_with_and_without_their_tables() -> None:
    """The official names end a stage with its merging; stored masks and position indices are passed over."""
    v = variant("swin-micro")
    spec = v.spec()
    network = build(spec, seed=3)
    state = official_state(network, spec, v.dialects()[0])
    assert {"layers.0.downsample.reduction.weight", "layers.1.downsample.norm.bias", "head.weight"} < set(state)
    tables = {
        "layers.0.blocks.1.attn_mask": torch.zeros(16, 16, 16),
        "layers.0.blocks.0.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.long),
    }
    for stored in (state, state | tables):
        loaded = Network(spec)
        assert load_weights(loaded, spec, stored, v.dialects()) == "official"
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))


def test_stages_no_larger_than_the_window_do_not_shift() -> None:
    """At 224 pixels the last of four stages is one window: no shift; a smaller map shrinks the window."""

    def windows(size: int, window: int = 7) -> list[tuple[int, int]]:
        spec = swin("Swin", width=96, depths=(2, 2, 6, 2), heads=3, window=window, input_size=size, classes=10)
        layers = [site.layer for site in spec.walk(size) if isinstance(site.layer, WindowAttention)]
        return [(layer.window, layer.shift) for layer in layers][-3:]

    assert windows(224) == [(7, 3), (7, 0), (7, 0)]
    assert windows(448) == [(7, 3), (7, 0), (7, 3)]
    assert windows(64, window=8) == [(4, 0), (2, 0), (2, 0)]
    with pytest.raises(ValueError, match="multiple of 224"):
        windows(256)


@pytest.mark.parametrize("size", [32, 200, 225])
def test_sizes_that_do_not_fit_are_refused_with_those_that_do(size: int) -> None:
    """The message says which input sizes work, and a network refuses images of another size than its own."""
    with pytest.raises(ValueError, match="multiple of 32 from 64"):
        variant("swin-t").spec(input_size=size)
    with pytest.raises(ValueError, match="made for a map of 56x56"):
        variant("swin-t").spec().shapes(256)


def test_micro_trains_and_is_data() -> None:
    """The small variant backpropagates into every parameter, and its data survive writing and reading."""
    check_training("swin-micro")
    spec = variant("swin-micro").spec()
    assert from_dict(to_dict(spec)) == spec
    c = cost(spec, 32)
    assert c.params < 600_000
    assert c.macs < 15_000_000
