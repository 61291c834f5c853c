"""One-factor designs, crossing with factors, and what the catalogue of designs takes and refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitnas.roadmap.steps import Selection, Value, select
from vitnas.roadmap.tracks import track
from vitnas.studies.designs.catalogue import NAMES, make_design
from vitnas.studies.designs.context import cross
from vitnas.studies.designs.design import Design, DesignError, Factors
from vitnas.studies.designs.one_factor import add_one_in, cumulative, leave_one_out
from vitnas.studies.designs.orders import orders
from vitnas.studies.effect import ESTIMANDS, Effect

from .games import additive, arbitrary, estimate, estimates, factors_of, free, posets

T = track("convnext-t")
ALL = Factors.of(select(T, "all"))


def chosen(steps: str, fix: str = "") -> Factors:
    """Factors as a user names them."""
    return Factors.of(select(T, steps), select(T, fix) if fix else None)


def shown(design: Design) -> dict[str, tuple[str, str]]:
    """For each effect of two arms, their names: what is compared with what."""
    out = {}
    for e in design.effects:
        (plus,) = [i for i, w in e.weights if w == 1]
        (minus,) = [i for i, w in e.weights if w == -1]
        out[e.name] = design.rungs[plus].name, design.rungs[minus].name
    return out


@pytest.mark.parametrize("steps", ["all", "all,-mixup", "depthwise,kernel-size=5,kernel-size,kernel-size=9,gelu", "none,gelu"])
def test_cumulative_is_the_roadmap(steps: str) -> None:
    """The same rungs, parents and side rungs as `vitnas roadmap`, and an effect for each but the base."""
    selection = select(T, steps)
    design = cumulative(Factors.of(selection))
    assert list(design.rungs) == selection.cumulative()
    assert [e.weights for e in design.effects] == [((r.parent, -1.0), (i, 1.0)) for i, r in enumerate(design.rungs) if i]
    assert {e.estimand for e in design.effects} == {"in the paper's order"}
    assert [e.paper_key for e in design.effects] == [r.name for r in design.rungs[1:]]


def test_cumulative_in_another_order() -> None:
    """Any legal order may be named, and the notes say that it is not the paper's; an illegal one is refused by the step to move."""
    design = cumulative(chosen("depthwise,kernel-size,gelu"), order=("gelu", "depthwise", "kernel size"))
    assert [r.name for r in design.rungs] == ["ResNet-50", "gelu", "depthwise", "kernel-size"]
    assert design.rungs[2].choice == {"gelu": "gelu", "depthwise": "channels"}
    assert "gelu, depthwise, kernel-size" in design.notes[0]
    assert {e.estimand for e in design.effects} == {"in the order given"}
    for order, message in (
        (("kernel-size", "depthwise", "gelu"), "put depthwise before it"),
        (("depthwise", "gelu"), "kernel-size is missing"),
        (("depthwise", "gelu", "gelu", "kernel-size"), "gelu is named twice"),
        (("depthwise", "gelu", "kernel-size", "width"), "width is not among"),
        (("depthwise", "gelu", "kernel-siz"), "did you mean kernel-size"),
    ):
        with pytest.raises(DesignError, match=message):
            cumulative(chosen("depthwise,kernel-size,gelu"), order=order)


def test_leave_one_out_takes_dependants_along() -> None:
    """Everything minus everything without the step and what requires it; name, note and `along` say so."""
    design = leave_one_out(chosen("depthwise,inverted-bottleneck,kernel-size,gelu"))
    assert shown(design)["gelu"] == ("all", "all but gelu")
    first = design.effects[0]
    assert first.name == "depthwise + 2 dependants"
    assert first.along == ("inverted-bottleneck", "kernel-size")
    assert "inverted-bottleneck, kernel-size" in first.note
    assert [r.choice.keys() for r in design.rungs[1:]] == [
        {"gelu"},
        {"depthwise", "kernel-size", "gelu"},
        {"depthwise", "inverted-bottleneck", "gelu"},
        {"depthwise", "inverted-bottleneck", "kernel-size"},
    ]


def test_leave_one_out_shows_alternatives_against_the_adopted_value() -> None:
    """`all` holds the adopted kernel; 5 and 9 are compared with it, not with the base's."""
    design = leave_one_out(chosen("depthwise,kernel-size=5,kernel-size,kernel-size=9"))
    assert shown(design) == {
        "depthwise + 1 dependant": ("all", "all but depthwise and what requires it"),
        "kernel-size": ("all", "all but kernel-size"),
        "kernel-size=5": ("all with kernel-size=5", "all"),
        "kernel-size=9": ("all with kernel-size=9", "all"),
    }
    assert design.rungs[0].choice == {"depthwise": "channels", "kernel-size": 7}
    assert {e.name: e.note for e in design.effects[1:]} == {
        "kernel-size": "",
        "kernel-size=5": "against kernel-size",
        "kernel-size=9": "against kernel-size",
    }


def test_add_one_in_compares_on_top_of_the_requirements() -> None:
    """A step with requirements stands on exactly those; the networks are shared; what is fixed needs no network."""
    design = add_one_in(chosen("depthwise,inverted-bottleneck,move-up-depthwise,kernel-size,gelu"))
    assert shown(design) == {
        "depthwise": ("depthwise", "base"),
        "inverted-bottleneck": ("depthwise+inverted-bottleneck", "depthwise"),
        "move-up-depthwise": ("depthwise+inverted-bottleneck+move-up-depthwise", "depthwise+inverted-bottleneck"),
        "kernel-size": ("depthwise+kernel-size", "depthwise"),
        "gelu": ("gelu", "base"),
    }
    assert design.effects[2].note == "on top of depthwise, inverted-bottleneck"
    assert len(design.rungs) == 6
    held = add_one_in(chosen("kernel-size=5,kernel-size,gelu", fix="depthwise"))
    assert shown(held) == {"kernel-size=5": ("kernel-size=5", "base"), "kernel-size": ("kernel-size", "base"), "gelu": ("gelu", "base")}
    assert all(r.choice["depthwise"] == "channels" for r in held.rungs)
    assert held.notes == ("in every arm: depthwise",)


def test_requirements_outside_the_steps_are_refused() -> None:
    """A step that could never be on is refused with what to add."""
    with pytest.raises(DesignError, match="kernel-size requires depthwise: add it to the steps, or hold it with --fix depthwise"):
        chosen("kernel-size,gelu")
    with pytest.raises(DesignError, match="requires depthwise"):
        chosen("depthwise=32,kernel-size")


@pytest.mark.parametrize("fix", ["recipe", "recipe,-mixup"])
def test_a_technique_varies_within_a_fixed_recipe(fix: str) -> None:
    """The recipe holds the other techniques; the one that is varied is off where it is absent."""
    design = add_one_in(chosen("mixup,gelu", fix=fix))
    assert [r.choice for r in design.rungs] == [
        {"recipe": "modern", "mixup": "off"},
        {"recipe": "modern", "mixup": "modern"},
        {"recipe": "modern", "mixup": "off", "gelu": "gelu"},
    ]


def test_a_technique_taken_out_of_the_recipe_stays_out() -> None:
    """`all,-mixup` varies the recipe without mixup, in every design."""
    factors = chosen("recipe,gelu,-mixup")
    for name in NAMES:
        for rung in make_design(name, factors).rungs:
            assert rung.choice.get("mixup") == ("off" if "recipe" in rung.choice else None)


@settings(max_examples=25, deadline=None)
@given(posets(), st.integers(0, 99), st.sampled_from(NAMES))
def test_without_interactions_every_design_finds_the_steps_own_value(factors: Factors, seed: int, name: str) -> None:
    """Weights sum to 0; on an additive game each effect is its step's worth, or the sum with those that come along."""
    draw = np.random.default_rng(seed)
    own: dict[tuple[str, Value], float] = {(s.name, v): draw.normal() for s, values in factors.steps for v in values}
    design = make_design(name, factors)
    means = [additive(own)(r.choice) for r in design.rungs]
    once = [s.name for s, _ in factors.steps]
    assert [e.name.partition(" + ")[0] for e in design.effects] == once * (1 + (name == "orders"))  # the track's own order beside
    for e in design.effects:
        assert e.estimand in ESTIMANDS
        assert sum(w for _, w in e.weights) == pytest.approx(0)
        expected = own[(e.name.partition(" + ")[0], "on")] + sum(own[(a, "on")] for a in e.along)
        assert estimate(e, means) == pytest.approx(expected)
        assert Effect.from_dict(e.to_dict()) == e


@settings(max_examples=25, deadline=None)
@given(posets(), st.integers(0, 99), st.sampled_from([n for n in NAMES if n not in ("orders", "leave-one-out")]))
def test_so_do_designs_with_several_levels(factors: Factors, seed: int, name: str) -> None:
    """One effect for each level, against the base's value."""
    several = factors_of({s.name: s.requires for s, _ in factors.steps}, {"a": ("on", "half", "double")})
    draw = np.random.default_rng(seed)
    own: dict[tuple[str, Value], float] = {(s.name, v): draw.normal() for s, values in several.steps for v in values}
    found = estimates(make_design(name, several), additive(own))
    assert found == pytest.approx({n if v == "on" else f"{n}={v}": worth for (n, v), worth in own.items()})


@settings(max_examples=25, deadline=None)
@given(posets())
def test_networks_are_legal_distinct_and_know_their_parents(factors: Factors) -> None:
    """Every design's rungs are legal, none comes twice, the first is the reference and parents come before children."""
    for name in NAMES:
        rungs = make_design(name, factors).rungs
        assert all(factors.legal(r.choice) for r in rungs)
        assert len({frozenset(r.choice.items()) for r in rungs}) == len(rungs)
        assert rungs[0].parent is None
        assert all(r.parent is not None and r.parent < i for i, r in enumerate(rungs) if i)


def test_crossing_with_a_factor() -> None:
    """The design at each level, what a step pays more at the second, and the level's own effect."""
    design = add_one_in(free("ab"))
    contexts = ({"scale": "micro"}, {"scale": "small"})
    arms, effects = cross(design, contexts)
    assert [(r.name, c["scale"], r.parent) for r, c in arms] == [
        ("base", "micro", None),
        ("a", "micro", 0),
        ("b", "micro", 0),
        ("base", "small", None),
        ("a", "small", 3),
        ("b", "small", 3),
    ]
    means = [70.0, 71.0, 73.0, 80.0, 82.5, 83.0]
    assert {(e.name, e.context, e.order): pytest.approx(estimate(e, means)) for e in effects} == {
        ("a", "scale=micro", 1): 1.0,
        ("b", "scale=micro", 1): 3.0,
        ("a", "scale=small", 1): 2.5,
        ("b", "scale=small", 1): 3.0,
        ("a x scale=small", "", 2): 1.5,
        ("b x scale=small", "", 2): 0.0,
        ("scale=small", "", 1): (10 + 11.5 + 10) / 3,
    }
    assert effects[-1].estimand == "against the first level"


def test_crossing_with_two_factors() -> None:
    """Interactions change one factor and hold the other at its first level; sampled orders are carried along."""
    design = orders(free("ab"), number=3)
    contexts = tuple({"data-fraction": f, "scale": s} for f in ("0.1", "1") for s in ("micro", "small", "paper"))
    arms, effects = cross(design, contexts)
    assert len(arms) == 6 * len(design.rungs)
    worth = [arbitrary(k)(r.choice) for k in range(6) for r in design.rungs]

    def alone(k: int, i: int) -> float:
        return estimate(design.effects[i], worth[k * len(design.rungs) :])

    named = {(e.name, e.context): e for e in effects}
    assert estimate(named["a", "data-fraction=1, scale=small"], worth) == pytest.approx(alone(4, 0))
    for key, k in ((("b x data-fraction=1", "scale=micro"), 3), (("b x scale=paper", "data-fraction=0.1"), 2)):
        assert estimate(named[key], worth) == pytest.approx(alone(k, 1) - alone(0, 1))
        assert np.mean([estimate(w, worth) for w in named[key].sampled]) == pytest.approx(estimate(named[key], worth))
    assert sum(e.order == 2 for e in effects) == 2 * (1 + 2)
    with pytest.raises(DesignError, match="every combination of levels is needed"):
        cross(design, ({"f": "1", "g": "1"}, {"f": "2", "g": "2"}))
    assert cross(design, ({},)) == (tuple((r, {}) for r in design.rungs), design.effects)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("grid", {}, "'grid' is not one of cumulative, leave-one-out"),
        ("leave-one-out", {"resolution": 3}, "resolution: belongs to --design fractional"),
        ("orders", {"interactions": "all"}, "interactions: belongs to --design fractional or factorial"),
        ("factorial", {"runs": 8}, "runs: belongs to --design fractional"),
        ("fractional", {"orders": 5}, "orders: belongs to --design orders"),
        ("add-one-in", {"order": ("a",)}, "order: belongs to --design cumulative"),
        ("fractional", {"interactions": "some"}, "name pairs of steps, or all, not 'some'"),
        ("fractional", {"interactions": (("a", "a"),)}, "a with itself"),
        ("fractional", {"interactions": (("a", "b"), ("b", "a"))}, "a and b are named twice"),
        ("fractional", {"interactions": (("a", "z"),)}, "unknown step 'z'"),
    ],
)
def test_options_belong_to_designs(name: str, options: dict[str, object], message: str) -> None:
    """An option of another design is refused with the design it belongs to."""
    with pytest.raises(ValueError, match=message):
        make_design(name, free("abcde"), **options)  # type: ignore[arg-type]


def test_fractional_is_regular_or_optimal() -> None:
    """By independence; the notes say which, and a resolution is refused where there is none."""
    assert make_design("fractional", free("abcde")).notes[0].startswith("regular: a 2^(5-1) fraction of resolution V")
    assert make_design("fractional", ALL).notes[0].startswith("optimal: 17 of 1,664 legal networks")
    assert "optimal" in make_design("fractional", factors_of({"a": (), "b": ()}, {"a": ("on", "half")})).notes[0]
    with pytest.raises(DesignError, match="use --runs instead"):
        make_design("fractional", ALL, resolution=4)


def test_options_that_are_left_empty_are_not_given() -> None:
    """An empty order or list of interactions belongs to every design."""
    assert len(make_design("factorial", free("abcdef"), order=(), interactions=()).rungs) == 64


def test_nothing_left_to_vary_is_refused() -> None:
    """Steps that are all fixed leave no design."""
    with pytest.raises(DesignError, match="nothing is left to vary"):
        Factors.of(Selection(T, select(T, "gelu").chosen), select(T, "gelu"))
