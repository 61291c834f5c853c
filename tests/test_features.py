"""Features and backbones: names, channels and reductions against timm's, and maps of what they promise."""

from __future__ import annotations

import pytest
import torch

from vitnas.roadmap.backbone import Backbone
from vitnas.roadmap.features import features
from vitnas.roadmap.model import Network, build
from vitnas.roadmap.tracks import track
from vitnas.roadmap.weights import load_weights
from vitnas.roadmap.zoo import VARIANTS, variant

from .oracles import randomise, timm

PAIRS = [
    ("convnext-t", "convnext_tiny"),
    ("resnet-50", "resnet50"),
    ("resnext-50-32x4d", "resnext50_32x4d"),
    ("swin-t", "swin_tiny_patch4_window7_224"),
    ("deit-s", "deit_small_patch16_224"),
    ("deit-s-distilled", "deit_small_distilled_patch16_224"),
    ("mixer-s-16", "mixer_s16_224"),
    ("levit-128s", "levit_128s"),
    ("mobilevit-s", "mobilevit_s"),
    ("repvit-m0.9", "repvit_m0_9"),
    ("mobilenetv2", "mobilenetv2_100"),
    ("mobilenetv3-l", "mobilenetv3_large_100"),
    ("efficientnet-b0", "efficientnet_b0"),
]
MICROS = sorted({v.micro for v in VARIANTS})


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_channels_and_reductions_are_those_of_timm(ours: str, theirs: str) -> None:
    """One map for every reduction, or for every block of a single stage, as timm's feature_info lists them."""
    with torch.device("meta"):
        reference = timm().create_model(theirs, features_only=True)
    expected = [(entry["num_chs"], entry["reduction"]) for entry in reference.feature_info.info]
    if ours == "mobilenetv3-l":
        expected[-1] = (160, 32)  # timm hands out the 960 channels of the 1x1 convolution before pooling, which is the head's here
    assert [(f.channels, f.reduction) for f in features(variant(ours).spec())] == expected


@pytest.mark.parametrize("name", MICROS)
def test_maps_are_what_the_features_say(name: str) -> None:
    """Every system gives maps of the promised channels and sizes, tokens folded, finest first, at its micro variant's input."""
    found = variant(name)
    backbone = Backbone(build(found.spec())).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, found.input_size, found.input_size))
    sizes = [found.input_size // f.reduction for f in backbone.feature_info]
    assert [tuple(m.shape) for m in maps] == [(2, f.channels, size, size) for f, size in zip(backbone.feature_info, sizes, strict=True)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == len(sizes)


@pytest.mark.parametrize(("ours", "theirs"), [("deit-s-distilled", "deit_small_distilled_patch16_224"), ("resnet-50", "resnet50")])
def test_maps_are_those_of_timm(ours: str, theirs: str) -> None:
    """With the reference's weights, the maps are the reference's: class tokens dropped, blocks picked by index, the stem before pooling."""
    whole = randomise(timm().create_model(theirs))
    reference = timm().create_model(theirs, features_only=True).eval()
    state = {(f"model.{k}" if ours.startswith("deit") else k): v for k, v in whole.state_dict().items()}
    reference.load_state_dict(state, strict=False)
    found = variant(ours)
    network = Network(found.spec()).eval()
    load_weights(network, network.spec, whole.state_dict(), found.dialects())
    size, indices = (224, (9, 10, 11)) if ours.startswith("deit") else (64, None)
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, actual = reference(x), Backbone(network, indices).eval()(x)
    assert [m.shape for m in actual] == [m.shape for m in expected]
    for theirs_map, ours_map in zip(expected, actual, strict=True):
        assert (theirs_map - ours_map).abs().max() < 1e-4 * max(1.0, float(theirs_map.abs().max()))


def test_a_backbone_holds_what_its_maps_need() -> None:
    """Indices may count from the end; later stages and the head are left out; names of parameters stay; odd input sizes work."""
    network = build(variant("convnext-micro").spec())
    backbone = Backbone(network, [0, -3])
    assert [f.name for f in backbone.feature_info] == ["stages.0", "stages.1"]
    assert set(backbone.state_dict()) == {k for k in network.state_dict() if k.startswith(("stem.", "stages.0.", "stages.1."))}
    assert [tuple(m.shape[2:]) for m in backbone(torch.randn(1, 3, 50, 46))] == [(12, 11), (6, 5)]
    with pytest.raises(ValueError, match=r"out_indices \[4\]: this network has 4 maps, 0 to 3"):
        Backbone(network, [4])


def test_sizes_that_do_not_fit_are_refused() -> None:
    """A network of a fixed grid says so, and finds its own size where none is given."""
    spec = variant("levit-128s").spec()
    with pytest.raises(ValueError, match=r"stages\.0"):
        features(spec, 256)
    assert [f.reduction for f in features(spec)] == [f.reduction for f in features(spec, 224)] == [16, 32, 64]


@pytest.mark.parametrize("mixer", ["window", "attention", "token-mlp", "aggregated"])
def test_mixed_networks_have_features_too(mixer: str) -> None:
    """Another mixer changes no map's place."""
    t = track("convnext-t")
    choice = {s.name: s.value for s in t.steps if s.adopted and s.owner == "network"} | {"mixer": (mixer,) * 4}
    spec = t.spec(choice, scale="micro", input_size=32, classes=10)
    assert [(f.name, f.reduction) for f in features(spec, 32)] == [(f"stages.{i}", 4 * 2**i) for i in range(4)]
