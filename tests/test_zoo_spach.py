"""SPACH against stored outputs and counts of the official code."""

from __future__ import annotations

import pytest

from vitnas.roadmap.cost import cost
from vitnas.roadmap.model import Network
from vitnas.roadmap.spec import from_dict, to_dict
from vitnas.roadmap.zoo import variant

from .oracles import fixture
from .zoo_checks import check_reference, check_training

# Parameters and multiply-adds of the official code, counted as ours are.
OFFICIAL = [
    ("spach_xxs_patch16_224_mlp", 8307184, 1630602240),
    ("spach_xxs_patch16_224_conv", 7828840, 1453581312),
    ("spach_xxs_patch16_224_attn", 3931048, 903811584),
    ("spach_xs_patch16_224_mlp", 15932536, 3203017728),
    ("spach_xs_patch16_224_conv", 14975848, 2848975872),
    ("spach_xs_patch16_224_attn", 14938984, 3194889216),
    ("spach_s_patch16_224_mlp", 39820024, 7970066432),
    ("spach_s_patch16_224_conv", 38854120, 7498010624),
    ("spach_s_patch16_224_attn", 32507368, 6726103040),
    ("spach_ms_xxs_patch4_224_conv", 5085224, 712358912),
    ("spach_ms_xxs_patch4_224_mlp", 6562446, 931126272),
    ("spach_ms_xxs_patch4_224_attn", 2372744, 530039296),
    ("spach_ms_xs_patch4_224_conv", 17302120, 2754640128),
    ("spach_ms_xs_patch4_224_mlp", 20260283, 3409135872),
    ("spach_ms_xs_patch4_224_attn", 14479080, 3081744896),
    ("spach_ms_xs_patch4_224_hybrid", 27956584, 4444316928),
    ("spach_ms_s_patch4_224_conv", 43576168, 7141018624),
    ("spach_ms_s_patch4_224_mlp", 46542011, 8013679616),
    ("spach_ms_s_patch4_224_attn", 39537544, 7532022528),
    ("spach_ms_s_patch4_224_hybrid", 63028584, 11050933248),
]
FIXTURES = [
    "spach_ms_xxs_patch4_224_attn",
    "spach_ms_xxs_patch4_224_conv",
    "spach_ms_xxs_patch4_224_mlp",
    "spach_ms_xs_patch4_224_hybrid",
    "spach_xs_patch16_224_mlp",
]


@pytest.mark.parametrize(("name", "params", "macs"), OFFICIAL)
def test_costs_are_those_of_the_official_code(name: str, params: int, macs: int) -> None:
    """Every registered variant has the official parameters and multiply-adds to the unit."""
    c = cost(variant(name).spec(), 224)
    assert (c.params, c.macs) == (params, macs)


def test_s_plus_is_the_hybrid_with_a_stem_of_four_convolutions() -> None:
    """The published figures of S+ lie as far above those of the hybrid S (0.1 M, 1.1 G) as the deep stem costs."""
    spec = variant("spach-ms-s-plus-patch4-224-hybrid").spec()
    plain, plus = cost(variant("spach-ms-s-patch4-224-hybrid").spec(), 224), cost(spec, 224)
    assert plus.params == 63138728  # of the official class with its deep stem
    assert round((plus.macs - plain.macs) / 1e9, 1) == round(12.3 - 11.2, 1)
    official = variant(spec.name).dialects()[0]
    stem = {official.rename(n, spec) for n in Network(spec).state_dict() if n.startswith("stem.conv")}
    assert stem == {f"stem.proj.{i}.weight" for i in (0, 3, 6, 9)} | {"stem.proj.9.bias"}


@pytest.mark.parametrize("name", FIXTURES)
def test_official_weights_give_official_outputs(name: str) -> None:
    """A network loaded by name conversion computes what the official code computed, and saves back under the same names."""
    _, state, x, expected = fixture(name)
    check_reference(name, state, x, expected)


def test_sizes_that_do_not_fit_are_refused_with_those_that_do() -> None:
    """Networks of convolutions and attention work at any multiple of the stride, token MLPs at one size."""
    assert variant("spach-ms-xs-patch4-224-hybrid").spec().shapes(256)["stages.3.blocks.0"] == (768, 8, 8)
    with pytest.raises(ValueError, match="made for 784 tokens"):
        variant("spach-ms-xxs-patch4-224-mlp").spec().shapes(256)
    with pytest.raises(ValueError, match="multiple of 32"):
        variant("spach-ms-xxs-patch4-224-mlp").spec(input_size=200)


def test_convolutions_are_never_dropped() -> None:
    """Stochastic depth acts on attention, token MLPs and channel MLPs, as in the official code, not on the position encoding."""
    from vitnas.roadmap.blocks.residual import ResidualModule
    from vitnas.roadmap.model import build

    network = build(variant("spach-micro").spec(), drop_path=0.2)
    dropped = {n for n, m in network.named_modules() if isinstance(m, ResidualModule) and m.drop_path > 0}
    assert "stages.3.blocks.1.token_mixer" in dropped
    assert not any(n.endswith("position") for n in dropped)


def test_micro_trains_and_is_data() -> None:
    """The small variant backpropagates into every parameter, and its data survive writing and reading."""
    check_training("spach-micro")
    spec = variant("spach-micro").spec()
    assert from_dict(to_dict(spec)) == spec
    c = cost(spec, 32)
    assert c.params < 600_000
    assert c.macs < 15_000_000
