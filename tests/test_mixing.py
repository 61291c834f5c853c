"""Token mixers and channel mixers in the tracks: every combination builds, spellings agree, steps that act on nothing are passed over."""

from __future__ import annotations

import math

import pytest
import torch

from vitnas.roadmap.cost import cost
from vitnas.roadmap.fuse import fuse
from vitnas.roadmap.layers import size_through
from vitnas.roadmap.mixing import CHANNEL_MIXERS, TOKEN_MIXERS, Mixing, channel_mixer, token_mixer
from vitnas.roadmap.model import build
from vitnas.roadmap.spec import NetSpec, from_dict, to_dict
from vitnas.roadmap.steps import StepError, select
from vitnas.roadmap.tracks import TRACKS, track

T = track("convnext-t")
SEPARATED = {"depthwise": "channels", "inverted-bottleneck": "inverted", "move-up-depthwise": "first"}


def network_of(text: str, *, name: str = "convnext-t", scale: str = "micro", input_size: int = 32) -> NetSpec:
    """The last network of `--steps text`."""
    t = track(name)
    choice = {k: v for k, v in select(t, text).final().items() if t.step(k).owner == "network"}
    return t.spec(choice, scale=scale, input_size=input_size, classes=10)


def combinations() -> list[tuple[str, str, str]]:
    return [
        (t.name, str(m[0]), str(c[0]))
        for t in TRACKS
        if any(s.name == "mixer" for s in t.steps)
        for m in t.step("mixer").levels
        for c in t.step("channel-mixer").levels
        if isinstance(m, tuple) and isinstance(c, tuple) and t.name != "convnext-b"
    ]


@pytest.mark.parametrize(("name", "mixer", "channels"), combinations())
def test_every_combination_is_a_network(name: str, mixer: str, channels: str) -> None:
    """It builds, takes a batch, gives finite gradients everywhere, costs something finite and reads back as itself."""
    t = track(name)
    requires = t.step("mixer").requires[0]
    choice = {s.name: s.value for s in t.steps if s.name in (*SEPARATED, requires)}
    spec = t.spec({**choice, "mixer": (mixer,) * 4, "channel-mixer": (channels,) * 4}, scale="micro", classes=10)
    network = build(spec, drop_path=0.1)
    out = network(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert isinstance(out, torch.Tensor)
    out.square().sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert 0 < cost(spec, 32).macs < math.inf
    assert from_dict(to_dict(spec)).fingerprint == spec.fingerprint


@pytest.mark.parametrize("kind", TOKEN_MIXERS[1:])
@pytest.mark.parametrize("size", [1, 2, 7, 8, 56])
def test_token_mixers_keep_the_shape(kind: str, size: int) -> None:
    """Channels in are channels out, and the map keeps its size."""
    layers = token_mixer(kind, 24, size=size, kernel=7, index=1)
    channels = 24
    for layer in layers:
        channels = layer.out_channels(channels)
    assert channels == 24
    assert size_through(layers, size, size) == (size, size)


def test_mixers_go_on_top_of_the_whole_track() -> None:
    """In every stage of ConvNeXt, or in one; the other stages stay as they were."""
    plain, third = network_of("all"), network_of("all,mixer@3=window")
    assert [a == b for a, b in zip(plain.stages, third.stages, strict=True)] == [True, True, False, True]
    assert len({network_of(f"all,mixer={kind}").fingerprint for kind in TOKEN_MIXERS[1:]} | {plain.fingerprint}) == len(TOKEN_MIXERS)
    assert len({network_of(f"all,channel-mixer={kind}").fingerprint for kind in CHANNEL_MIXERS[1:]}) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mixer=window", "mixer=window/window/window/window"),
        ("mixer@3=window", "mixer=conv/conv/window/conv"),
        ("mixer@3=window,mixer@4=token-mlp", "mixer=conv/conv/window/TOKEN_MLP"),
        ("channel-mixer@1=conv-glu", "channel_mixer=conv-glu/mlp/mlp/mlp"),
    ],
)
def test_spellings_of_one_network_have_one_fingerprint(one: str, other: str) -> None:
    """All stages at once, stage by stage or in full."""
    assert network_of(f"all,{one}").fingerprint == network_of(f"all,{other}").fingerprint


def test_a_step_that_acts_on_nothing_is_passed_over_or_refused() -> None:
    """With another mixer everywhere nothing is left of the kernel size; named it is refused, in a range or in all it is noted."""
    selection = select(T, "all,mixer=window")
    assert "kernel-size" not in selection.final()
    assert any("kernel-size passed over: mixer=window" in note for note in selection.notes)
    assert "depthwise" in selection.final()
    with pytest.raises(StepError, match="kernel-size shapes the spatial convolution, which mixer=window replaces"):
        select(T, "all,kernel-size=5,mixer=window")


@pytest.mark.parametrize("text", ["all,mixer=conv/window/window/window", "all,mixer=rep-dw", "all,-separate-downsampling,mixer=window"])
def test_a_step_that_still_acts_somewhere_stays(text: str) -> None:
    """A stage with convolutions, re-parameterised ones, or strided blocks, which keep theirs."""
    selection = select(T, text)
    assert "kernel-size" in selection.final()
    assert not selection.notes


def test_rungs_of_mixers_are_alternatives_on_top() -> None:
    """Two mixers are two arms with one parent; the rungs' names say where each mixer stands."""
    rungs = select(T, "all,mixer=window,mixer=conv/conv/window/window").cumulative()
    assert [r.name for r in rungs[-2:]] == ["mixer=window", "mixer=conv/conv/window/window"]
    assert rungs[-1].parent == rungs[-2].parent


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mixer=window", "mixer=window requires move-up-depthwise: add it"),
        ("all,mixer=conv", "mixer=conv is what ResNet-50 has already"),
        ("all,mixer=windows", "it can be conv, window"),
        ("all,mixer=conv/window", r"one, or 4 separated by /"),
        ("all,mixer", "needs a value"),
        ("all,mixer@5=window", "from 1 to 4"),
    ],
)
def test_what_cannot_be_written(text: str, message: str) -> None:
    """Each refusal names the next move."""
    with pytest.raises(StepError, match=message):
        select(T, text).cumulative()


def test_what_cannot_be_combined_is_refused_with_the_reason() -> None:
    """Odd widths have no halves, prime maps no windows, and mixers of a block that are not apart cannot be replaced."""
    with pytest.raises(StepError, match="two halves of the channels"):
        token_mixer("circular", 21, size=8, kernel=7)
    with pytest.raises(StepError, match="does not divide into windows"):
        token_mixer("window", 24, size=11, kernel=7)
    with pytest.raises(StepError, match="it can be window"):
        token_mixer("conv", 24, size=8, kernel=7)
    with pytest.raises(StepError, match="channel-mixer=kan is unknown"):
        channel_mixer("kan", 24, 96)
    with pytest.raises(StepError, match="four of conv"):
        Mixing(mixer=("conv", "window"))
    with pytest.raises(StepError, match="add move-up-depthwise"):
        T.network(T.decisions(mixer=("window",) * 4))


def test_windows_are_the_papers_at_224_pixels() -> None:
    """Windows of 7 in every stage, shifted in every second block but where one window is the map."""
    spec = network_of("all,mixer=window", scale="paper", input_size=224)
    found = [site.layer for site in spec.walk(224) if site.layer.kind == "window-attention"]
    assert {getattr(layer, "window", 0) for layer in found} == {7}
    assert [getattr(layer, "shift", 0) for layer in found] == [0, 3, 0, 0, 3, 0, *([0, 3] * 4), 0, 0, 0, 0]


def test_channel_mixers_keep_the_cost_near() -> None:
    """The gated unit's narrower hidden width makes up for its second input."""
    plain, gated = (cost(network_of(text, scale="paper", input_size=224), 224).params for text in ("all", "all,channel-mixer=conv-glu"))
    assert 0.97 < gated / plain < 1.03


@pytest.mark.parametrize("name", ["convnext-t", "repvit-m0.9"])
def test_mixed_networks_have_a_deployment_form(name: str) -> None:
    """Norms beside other mixers fold where they can; the fused network computes the same, or fusing would raise."""
    network = build(network_of("all,mixer=circular/large-kernel/window/attention,channel-mixer=se-mlp/conv-glu/se-mlp/conv-glu", name=name))
    assert sum(p.numel() for p in fuse(network).parameters()) <= sum(p.numel() for p in network.parameters())
