"""RepViT's track: its ends are the published networks, and any of its steps can be left out."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitnas.roadmap.cost import cost
from vitnas.roadmap.features import features
from vitnas.roadmap.model import build
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.steps import StepError, check, select
from vitnas.roadmap.tracks import track
from vitnas.roadmap.zoo import variant
from vitnas.roadmap.zoo.mobilenet import mobilenet_v3

T = track("repvit-m0.9")
NAMES = [s.name for s in T.steps if s.adopted]
ALL = {s.name: s.value for s in T.steps if s.adopted}
subsets = st.sets(st.sampled_from(NAMES)).map(frozenset)


def test_the_ends_are_the_published_networks() -> None:
    """From MobileNetV3-L with GELU to RepViT-M0.9 in training form with one head."""
    base, goal = T.spec({}), T.spec(ALL)
    assert base.fingerprint == mobilenet_v3(hard_swish=False, input_size=224, classes=1000).fingerprint
    assert base.fingerprint != variant("mobilenetv3-l").spec().fingerprint
    assert goal.fingerprint == variant("repvit-m0.9").spec().fingerprint
    assert (base.name, goal.name) == ("MobileNetV3-L", "RepViT-M0.9")
    c = cost(base, 224)
    assert (c.params, round(c.macs / 1e9, 4)) == (5483032, 0.2166)
    assert cost(goal, 224).params == 5103560


def test_rungs_follow_the_paper() -> None:
    """A base and nine steps in the paper's order, each with its latency; no step of training."""
    rungs = select(T, "all").cumulative()
    assert [r.name for r in rungs] == list(T.paper) == ["MobileNetV3-L", *NAMES]
    assert all(p.ms for p in T.paper.values())
    assert all(s.owner == "network" for s in T.steps)


def test_cost_moves_as_the_latency_does() -> None:
    """Separating, a smaller expansion and the simple classifier save; width, deeper downsampling and blocks cost."""
    signs = {"separate-mixers": -1, "expansion-ratio": -1, "width": 1, "deeper-downsampling": 1, "simple-classifier": -1, "stage-ratio": 1}
    macs = [cost(T.spec(r.choice), 224).macs for r in select(T, "all").cumulative()]
    for name, before, after in zip(NAMES, macs, macs[1:], strict=False):
        if name in signs:
            assert math.copysign(1, after - before) == signs[name], name


@pytest.mark.parametrize("scale", ["micro", "small"])
def test_scales_take_small_images(scale: str) -> None:
    """Both ends work at 32 pixels with a total stride of 16."""
    for choice in ({}, ALL):
        spec = T.spec(choice, scale=scale, classes=10)
        assert [f.reduction for f in features(spec, 32)][-4:] == [2, 4, 8, 16]
        assert cost(spec, 32).macs < 20_000_000


@settings(max_examples=15, deadline=None)
@given(subsets)
def test_every_subset_is_a_network(names: frozenset[str]) -> None:
    """Every subset builds and trains in both modes at finite cost."""
    spec = T.spec({n: ALL[n] for n in names}, scale="micro", classes=10)
    network = build(spec)
    x = torch.randn(2, 3, 32, 32)
    network(x).sum().backward()
    with torch.no_grad():
        assert network.eval()(x).shape == (2, 10)
    assert 0 < cost(spec, 32).macs < math.inf
    assert from_dict(to_dict(spec)).fingerprint == spec.fingerprint


@settings(max_examples=20, deadline=None)
@given(st.permutations(NAMES), subsets)
def test_steps_commute(order: list[str], names: frozenset[str]) -> None:
    """The order in which steps are named does not change the network."""
    chosen = [n for n in order if n in names]
    if chosen:
        a, b = (T.spec(select(T, ",".join(steps)).final(), scale="micro") for steps in (chosen, sorted(chosen)))
        assert a.fingerprint == b.fingerprint


@pytest.mark.parametrize("scale", ["micro", "small", "paper"])
def test_all_subsets_are_distinct_networks(scale: str) -> None:
    """Exhaustively: no step needs another, every subset fits its input, and no two are the same network."""
    fingerprints = set()
    for r in range(len(NAMES) + 1):
        for names in itertools.combinations(NAMES, r):
            choice = {n: ALL[n] for n in names}
            check(T, choice)
            spec = T.spec(choice, scale=scale)
            spec.shapes(T.scale(scale).input_size)
            fingerprints.add(spec.fingerprint)
    assert len(fingerprints) == 2 ** len(NAMES)


def test_requirements_name_the_missing_step() -> None:
    """Where a step requires others, leaving one out is refused with its name; unknown ones are refused with the nearest."""
    for step in T.steps:
        for needed in step.requires:
            with pytest.raises(StepError, match=f"requires {needed}: add it"):
                check(T, {step.name: step.value})
    with pytest.raises(StepError, match="did you mean kernel-3x3"):
        T.spec({T.step("kernel-5x5").name: "3"})
    with pytest.raises(StepError, match="--input-size 16 or more"):
        T.spec({}, scale="micro", input_size=15)


def test_initial_values_of_untouched_layers_do_not_move() -> None:
    """The squeeze-and-excitation step leaves the initial values of all parameters that both networks have."""
    a, b = (
        dict(build(T.spec(c, scale="micro", classes=10)).named_parameters())
        for c in ({"kernel-3x3": "3"}, {"kernel-3x3": "3", "cross-block-se": "cross-block"})
    )
    shared = [k for k in a if k in b and a[k].shape == b[k].shape]
    assert len(shared) > 50
    assert all(torch.equal(a[k], b[k]) for k in shared)
