"""Counting from layers that are known gives what counting the built network gives."""

from __future__ import annotations

import pytest

from vitnas.roadmap.cost import cost
from vitnas.roadmap.counts import count
from vitnas.roadmap.steps import select
from vitnas.roadmap.tracks import OURS
from vitnas.roadmap.zoo import VARIANTS, variant

MICRO = sorted({v.micro for v in VARIANTS if v.micro})


@pytest.mark.parametrize("name", MICRO)
def test_every_systems_micro_network(name: str) -> None:
    """Parameters and MACs to the unit, for every layer that the zoo knows."""
    found = variant(name)
    spec = found.spec()
    counted = cost(spec, found.input_size)
    assert count(spec, found.input_size) == (counted.params, counted.macs)


@pytest.mark.parametrize("name", ["convnext-t", "repvit-m0.9"])
@pytest.mark.parametrize("text", ["none", "all", "all,mixer=circular/rep-dw/token-mlp/aggregated,channel-mixer=se-mlp/conv-glu/mlp/mlp"])
def test_tracks(name: str, text: str) -> None:
    """Both ends of a track, and other mixers: also where a layer is met for the second time."""
    track = next(t for t in OURS if t.name == name)
    text = text.replace("rep-dw", "window") if name.startswith("rep") else text
    choice = {k: v for k, v in select(track, text).final().items() if track.step(k).owner == "network"}
    spec = track.spec(choice, scale="micro", classes=7)
    counted = cost(spec, 32)
    assert count(spec, 32) == count(spec, 32) == (counted.params, counted.macs)


def test_a_size_that_does_not_fit_is_refused_with_the_section() -> None:
    """As the built network refuses it."""
    spec = variant("swin-micro").spec()
    with pytest.raises(ValueError, match=r"stages\.0"):
        count(spec, 37)
