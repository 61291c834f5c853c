"""The ConvNeXt tracks: the golden table of costs, and properties of every legal subset of steps."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitnas.roadmap.cost import cost
from vitnas.roadmap.counts import count
from vitnas.roadmap.model import build
from vitnas.roadmap.spec import NetSpec, from_dict, to_dict
from vitnas.roadmap.steps import Choice, StepError, Track, check, requirement_closure, select
from vitnas.roadmap.tracks import track
from vitnas.roadmap.zoo import variant

T = track("convnext-t")
B = track("convnext-b")
NETWORK_STEPS = [s for s in T.steps if s.owner == "network" and s.adopted]
ALTERNATIVES = "all,kernel-size=5,kernel-size=9,kernel-size=11"

# (rung, parameters, GMACs) at 224 pixels and 1,000 classes; T and B in the papers' order.
GOLDEN_T = [
    ("ResNet-50", 25557032, 4.0892),
    ("recipe", 25557032, 4.0892),
    ("stage-ratio", 28628520, 4.5259),
    ("patchify-stem", 28622184, 4.4175),
    ("depthwise", 15722664, 2.3495),
    ("width", 33761032, 5.2680),
    ("inverted-bottleneck", 25851496, 4.6444),
    ("move-up-depthwise", 25625512, 4.0651),
    ("kernel-size=5", 25720744, 4.0973),
    ("kernel-size", 25863592, 4.1456),
    ("kernel-size=9", 26054056, 4.2100),
    ("kernel-size=11", 26292136, 4.2906),
    ("gelu", 25863592, 4.1456),
    ("fewer-activations", 25863592, 4.1456),
    ("fewer-norms", 25797352, 4.1456),
    ("layer-norm", 25844488, 4.1456),
    ("separate-downsampling", 28589128, 4.4555),
]
GMACS_B = [15.01, 15.01, 14.52, 14.38, 7.23, 16.76, 15.68, 14.63, 14.70, 14.81, 14.95, 15.13, 14.81, 14.81, 14.81, 14.81, 15.35]


def network_of(t: Track, choice: Choice, scale: str = "micro", **options: Any) -> NetSpec:
    """The network of a choice, its recipe steps left out."""
    network = {k: v for k, v in choice.items() if t.step(k).owner == "network"}
    return t.spec(network, scale=scale, **options)


def test_every_rung_of_convnext_t_costs_what_the_paper_says() -> None:
    """Parameters to the unit, MACs to four digits."""
    rows = []
    for rung in select(T, ALTERNATIVES).cumulative():
        c = cost(network_of(T, dict(rung.choice), "paper"), 224)
        rows.append((rung.name, c.params, round(c.macs / 1e9, 4)))
    assert rows == GOLDEN_T


def test_every_rung_of_convnext_b_costs_what_the_paper_says() -> None:
    """MACs to the paper's two decimals; both ends to the parameter."""
    specs = [network_of(B, dict(r.choice), "paper") for r in select(B, ALTERNATIVES).cumulative()]
    assert [round(count(s, 224).macs / 1e9, 2) for s in specs] == GMACS_B
    assert (cost(specs[0], 224).params, cost(specs[-1], 224).params) == (64673832, 88591464)


def test_the_ends_of_the_track_are_the_published_networks() -> None:
    """The base is ResNet-50 and the last rung ConvNeXt-T, by fingerprint."""
    rungs = select(T, "all").cumulative()
    assert network_of(T, dict(rungs[0].choice), "paper").fingerprint == variant("ResNet50").spec().fingerprint
    assert network_of(T, dict(rungs[-1].choice), "paper").fingerprint == variant("convnext_t").spec().fingerprint


def legal(names: frozenset[str]) -> bool:
    return all(set(requirement_closure(T, n)) <= names for n in names)


subsets = st.sets(st.sampled_from([s.name for s in NETWORK_STEPS])).map(frozenset)


@settings(max_examples=25, deadline=None)
@given(subsets)
def test_legal_subsets_are_networks_and_illegal_ones_name_the_missing_step(names: frozenset[str]) -> None:
    """Every legal subset builds and trains in both modes at finite cost; every illegal one is refused with the step to add."""
    choice = {s.name: s.value for s in NETWORK_STEPS if s.name in names}
    if not legal(names):
        missing = {m for n in names for m in T.step(n).requires if m not in names}
        with pytest.raises(StepError, match="requires (" + "|".join(missing) + "): add it"):
            check(T, choice)
        return
    spec = T.spec(choice, scale="micro", classes=10)
    network = build(spec)
    x = torch.randn(2, 3, 32, 32)
    out = network(x)
    assert isinstance(out, torch.Tensor)
    out.sum().backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        assert network.eval()(x).shape == (2, 10)
    assert 0 < cost(spec, 32).macs < math.inf
    assert from_dict(to_dict(spec)).fingerprint == spec.fingerprint


@settings(max_examples=20, deadline=None)
@given(st.permutations([s.name for s in NETWORK_STEPS]), subsets)
def test_steps_commute(order: list[str], names: frozenset[str]) -> None:
    """The order in which steps are named does not change the network."""
    chosen = [n for n in order if n in names]
    if not legal(names) or not chosen:
        return
    a = network_of(T, select(T, ",".join(chosen)).final())
    b = network_of(T, select(T, ",".join(sorted(chosen))).final())
    assert a.fingerprint == b.fingerprint


@pytest.mark.full
def test_all_legal_subsets_build() -> None:
    """Exhaustively: every legal subset has a network that fits its input, and distinct subsets are distinct networks."""
    fingerprints = set()
    count = 0
    for r in range(len(NETWORK_STEPS) + 1):
        for names in itertools.combinations([s.name for s in NETWORK_STEPS], r):
            if legal(frozenset(names)):
                spec = T.spec({n: T.step(n).value for n in names}, scale="micro", classes=10)
                spec.shapes(32)
                fingerprints.add(spec.fingerprint)
                count += 1
    assert len(fingerprints) == count > 500


def test_initial_values_of_untouched_layers_do_not_move() -> None:
    """Toggling one step leaves the initial values of all parameters with the same name and shape as they were."""
    a = build(T.spec({}, scale="micro", classes=10), seed=3).state_dict()
    b = build(T.spec({"depthwise": "channels"}, scale="micro", classes=10), seed=3).state_dict()
    common = [k for k in a if k in b and a[k].shape == b[k].shape]
    assert len(common) > 100
    assert all(torch.equal(a[k], b[k]) for k in common)


def test_groups_keep_their_ratio_or_are_refused() -> None:
    """groups=32 at 64 channels is the same ratio at other scales; where it does not divide, the refusal says so."""
    spec = T.spec({"depthwise": "32"}, scale="micro")
    assert '"groups":8' in str(to_dict(spec)).replace(" ", "").replace("'", '"')
    with pytest.raises(StepError, match="do not divide"):
        B.spec({"depthwise": "32", "stage-ratio": "swin"}, scale="paper")


def test_input_below_the_total_stride_is_refused() -> None:
    """The message names the smallest input that works."""
    with pytest.raises(StepError, match="--input-size 32 or more"):
        T.spec({}, scale="micro", input_size=16)


def test_pre_norm_adds_a_norm_to_every_block() -> None:
    """`pre-norm=extra` is a further level, not part of all."""
    assert "pre-norm" not in select(T, "all").final()
    with_norm = cost(network_of(T, select(T, "all,pre-norm=extra").final()), 32)
    without = cost(network_of(T, select(T, "all").final()), 32)
    assert with_norm.params > without.params and with_norm.macs == without.macs
