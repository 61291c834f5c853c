"""What `import vitnas` offers: light to import, networks by the names people use, weights as they are published."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vitnas
from vitnas.roadmap.steps import squash
from vitnas.roadmap.weights import WeightsError

from .oracles import fixture, randomise, timm

# One variant of each system with timm's name for it, its input size in pixels, and options of timm's.
TIMM = [
    ("convnext-t", "convnext_tiny", 64, {}),
    ("swin-t", "swin_tiny_patch4_window7_224", 224, {}),
    ("mlp-mixer-s/32", "mixer_s32_224", 224, {}),
    ("deit-ti", "deit_tiny_patch16_224", 224, {}),
    ("deit-ti-distilled", "deit_tiny_distilled_patch16_224", 224, {}),
    ("levit-128s", "levit_128s", 224, {}),
    ("mobilevit-xxs", "mobilevit_xxs", 64, {}),
    ("repvit-m0.9", "repvit_m0_9", 64, {"distillation": False}),
    ("repvit-m0.9", "repvit_m0_9", 64, {"distillation": True}),
]
FIXTURES = [
    ("van-b0", "van_b0"),
    ("spach-ms-xxs-trans", "spach_ms_xxs_patch4_224_attn"),
    ("parc-net-s", "edgeformer_s"),
    ("parc-convnext-xt", "parc_convnext_xt"),
    ("transnext-micro", "transnext_micro"),
]


def same(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return float((actual - expected).abs().max()) < 1e-4 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize(("ours", "theirs", "size", "options"), TIMM)
def test_timm_weights_by_name(ours: str, theirs: str, size: int, options: dict[str, Any]) -> None:
    """A state dict of timm's, with its constant buffers or without, gives timm's logits in eval mode."""
    reference = randomise(timm().create_model(theirs, **options))
    state = reference.state_dict()
    kept = {name for name, _ in reference.named_parameters()} | {k for k in state if k.endswith(("running_mean", "running_var"))}
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1)).double()
    model, again = (vitnas.create_model(ours, weights=s) for s in (state, {k: v for k, v in state.items() if k in kept}))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    with torch.no_grad():
        expected = reference.double()(x)  # double: random weights make logits of a thousand, where single precision shows
        assert expected.shape == (1, 1000)
        assert same(model.double()(x), expected)


@pytest.mark.parametrize(("ours", "stored"), FIXTURES)
def test_official_weights_by_name(ours: str, stored: str) -> None:
    """A state dict of the official code gives its logits in eval mode."""
    meta, state, x, logits = fixture(stored)
    model = vitnas.create_model(ours, weights=state, input_size=meta["input"][-1])
    with torch.no_grad():
        assert same(model(x[:1]), logits[:1])


def test_weights_come_in_files_and_arrays(tmp_path: Path) -> None:
    """The same values from a .pth file in a wrapper, an .npz file and a table of numpy arrays give the same network."""
    source = vitnas.create_model("van-micro", classes=7)
    state = {k: v for k, v in source.state_dict().items() if not k.endswith("num_batches_tracked")}
    arrays = {k: v.numpy() for k, v in state.items()}
    torch.save({"model": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "van.pth")
    np.savez(tmp_path / "van.npz", **arrays)
    x = torch.randn(2, 3, 32, 32)
    for weights in (tmp_path / "van.pth", str(tmp_path / "van.npz"), arrays):
        model = vitnas.create_model("van-micro", weights=weights, classes=7)
        assert not model.training
        assert torch.equal(model(x), source(x))


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A file that would run code is refused, in one line; so are other weights and what is no table of tensors."""

    class Evil:
        def __reduce__(self) -> Any:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(WeightsError, match=r"refused|not a readable checkpoint") as error:
            vitnas.create_model("van-micro", weights=tmp_path / name)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(WeightsError, match="holds no table of named tensors"):
        vitnas.create_model("van-micro", weights={"head.weight": "text"})
    with pytest.raises(WeightsError, match="do not fit VAN micro"):
        vitnas.create_model("van-micro", weights=vitnas.create_model("van-micro", classes=7).state_dict())


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("ConvNeXt-T", "convnext-t"),
        ("convnext_tiny", "convnext-t"),
        ("Swin Tiny", "swin-t"),
        ("swin_base_patch4_window12_384", "swin-b-384"),
        ("MLP-Mixer-S/16", "mixer-s-16"),
        ("mixer-s16", "mixer-s-16"),
        ("mixer_s16_224", "mixer-s-16"),
        ("DeiT-S distilled", "deit-s-distilled"),
        ("deit_small_distilled_patch16_224", "deit-s-distilled"),
        ("ViT-S/16", "vit-s-16"),
        ("vit_base_patch16_384", "vit-b-16-384"),
        ("SPACH-MS-S trans", "spach-ms-s-patch4-224-attn"),
        ("spach-ms-s-conv", "spach-ms-s-patch4-224-conv"),
        ("levit_128s", "levit-128s"),
        ("mobilevit_s", "mobilevit-s"),
        ("VAN_B0", "van-b0"),
        ("ParC-Net-S", "parc-net-s"),
        ("RepViT M0.9", "repvit-m0.9"),
        ("repvit_m0_9", "repvit-m0.9"),
        ("TransNeXt-Micro", "transnext-micro"),
        ("resnet50", "resnet-50"),
        ("resnext50_32x4d", "resnext-50-32x4d"),
        ("mobilenetv3_large_100", "mobilenetv3-l"),
        ("efficientnet_b0", "efficientnet-b0"),
    ],
)
def test_names_as_people_write_them(name: str, found: str) -> None:
    """Case and separators do not matter; papers', official and timm's names are known."""
    assert vitnas.variant(name).name == found


def test_no_two_networks_share_a_name() -> None:
    """Names and aliases are unique without case and separators."""
    names = [key for v in vitnas.VARIANTS for key in {squash(n) for n in (v.name, *v.aliases)}]
    assert len(names) == len(set(names))


def test_importing_is_light_and_everything_named_is_there() -> None:
    """`import vitnas` loads no torch, and neither do names that are data; every public name exists and is documented."""
    code = (
        "import sys, vitnas\n"
        "assert not [m for m in sys.modules if m.startswith('vitnas.')]\n"
        "vitnas.track('convnext-t'), vitnas.TRACKS, vitnas.VARIANTS, vitnas.features(vitnas.variant('swin-t').spec()), vitnas.select\n"
        "assert not {'torch', 'numpy'} & set(sys.modules)\n"
        "assert {vitnas.NetSpec, vitnas.Track, vitnas.Variant}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(vitnas, name).__doc__ for name in vitnas.__all__)
    assert set(vitnas.__all__) <= set(dir(vitnas))
    assert all(name in (vitnas.__doc__ or "") for name in vitnas.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vitnas.nothing  # noqa: B018
