"""Shapley values under precedence: exact values, exact sampling."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from vitnas.roadmap.steps import select
from vitnas.roadmap.tracks import track
from vitnas.studies.designs.catalogue import make_design
from vitnas.studies.designs.design import DesignError, Factors
from vitnas.studies.designs.orders import draw_order, orders

from .games import additive, arbitrary, estimate, estimates, factors_of, free, posets, values

PAIR_AND_ONE = {"a": (), "b": ("a",), "c": ()}


def legal_orders(factors: Factors) -> list[tuple[int, ...]]:
    """All orders in which every step follows what it requires, by trying every permutation."""
    names = [s.name for s, _ in factors.steps]
    below = [{names.index(r) for r in s.requires} for s, _ in factors.steps]
    return [p for p in permutations(range(len(names))) if all(below[i] <= set(p[:k]) for k, i in enumerate(p))]


def test_a_game_worked_by_hand() -> None:
    """Orders abc, acb, cab: a gets (1 + 1 + 2)/3, b (3 + 6 + 6)/3, c (6 + 3 + 2)/3."""
    worth = {"": 0.0, "a": 1.0, "c": 2.0, "ab": 4.0, "ac": 4.0, "abc": 10.0}
    design = orders(factors_of(PAIR_AND_ONE))
    assert len(design.rungs) == 6
    found = estimates(design, lambda choice: worth["".join(sorted(choice))])
    assert found == pytest.approx({"a": 4 / 3, "b": 5.0, "c": 11 / 3})


def test_without_requirements_it_is_the_shapley_value() -> None:
    """The glove game: c's right glove pairs with either left one; the values are 1/6, 1/6 and 2/3."""
    found = estimates(orders(free("abc")), lambda choice: float("c" in choice and len(choice) > 1))
    assert found == pytest.approx({"a": 1 / 6, "b": 1 / 6, "c": 2 / 3})


@settings(max_examples=30, deadline=None)
@given(posets(), st.integers(0, 999))
def test_exact_values_are_means_over_all_legal_orders(factors: Factors, seed: int) -> None:
    """Against every permutation tried; the values sum to all minus base; weights sum to 0."""
    worth = arbitrary(seed)
    names = [s.name for s, _ in factors.steps]
    all_orders = legal_orders(factors)

    def alone(i: int) -> float:
        total = 0.0
        for order in all_orders:
            before = {names[j]: "on" for j in order[: order.index(i)]}
            total += worth({**before, names[i]: "on"}) - worth(before)
        return total / len(all_orders)

    design = orders(factors)
    found = estimates(design, worth)
    assert found == pytest.approx({n: alone(i) for i, n in enumerate(names)})
    assert sum(found.values()) == pytest.approx(worth(factors.everything()) - worth({}))
    assert all(sum(w for _, w in e.weights) == pytest.approx(0) for e in design.effects)


@settings(max_examples=20, deadline=None)
@given(posets(), st.integers(1, 6), st.integers(0, 99))
def test_sampled_orders_share_the_gain_too(factors: Factors, number: int, seed: int) -> None:
    """Each order's credits and their means sum to all minus base, and the weights are the mean of the single orders'."""
    worth = arbitrary(seed)
    design = orders(factors, number=number, seed=seed)
    means = values(design.rungs, worth)
    gain = worth(factors.everything()) - worth({})
    assert sum(estimate(e, means) for e in design.effects) == pytest.approx(gain)
    for k in range(number):
        assert sum(estimate(e.sampled[k], means) for e in design.effects) == pytest.approx(gain)
    for e in design.effects:
        assert len(e.sampled) == number
        assert estimate(e, means) == pytest.approx(sum(estimate(s, means) for s in e.sampled) / number)


@pytest.mark.parametrize(
    "requires",
    [
        PAIR_AND_ONE,
        {"a": (), "b": ("a",), "c": ("a",), "d": ("b",), "e": ()},
        {"a": (), "b": (), "c": ("a", "b"), "d": ("b",), "e": ("d",)},
    ],
)
def test_orders_are_drawn_uniformly(requires: dict[str, tuple[str, ...]]) -> None:
    """Every legal order comes up as often as any other, and no other does; choosing a random next step would fail this."""
    factors = factors_of(requires)
    generator = random.Random(5)
    drawn = Counter(draw_order(factors, generator) for _ in range(6000))
    possible = legal_orders(factors)
    assert set(drawn) == set(possible)
    assert chisquare([drawn[o] for o in possible]).pvalue > 1e-3
    naive: Counter[tuple[int, ...]] = Counter()
    for _ in range(6000):
        left, order = set(range(len(factors.steps))), []
        while left:
            ready = [i for i in sorted(left) if not any(factors.steps[j][0].name in factors.steps[i][0].requires for j in left)]
            order.append(generator.choice(ready))
            left.remove(order[-1])
        naive[tuple(order)] += 1
    assert chisquare([naive[o] for o in possible]).pvalue < 1e-3


def test_a_real_track_is_sampled_within_the_cap() -> None:
    """convnext-t has 1,664 legal networks: whole legal orders in at most 64 of them, on an additive game the steps' own values."""
    factors = Factors.of(select(track("convnext-t"), "all"))
    design = orders(factors)
    assert len(design.rungs) <= 64
    assert len(design.effects[0].sampled) == 5
    own = {(s.name, v[0]): 0.1 * i - 0.5 for i, (s, v) in enumerate(factors.steps)}
    assert estimates(design, additive(own)) == pytest.approx({name: worth for (name, _), worth in own.items()})
    assert all(factors.legal(r.choice) for r in design.rungs)
    assert design == orders(factors)


def test_every_sampled_order_is_a_path_of_trained_networks() -> None:
    """Sorted by size, each order's networks grow by a step at a time from the base to all."""
    factors = factors_of({"a": (), "b": ("a",), "c": (), "d": ("c",)})
    design = orders(factors, number=2, seed=3)
    for k in range(2):
        arms = sorted({i for e in design.effects for i, _ in e.sampled[k]}, key=lambda i: len(design.rungs[i].choice))
        assert [len(design.rungs[i].choice) for i in arms] == [0, 1, 2, 3, 4]
        assert all(design.rungs[a].choice.items() <= design.rungs[b].choice.items() for a, b in pairwise(arms))


def test_several_levels_are_refused() -> None:
    """A gain is shared among steps, not among alternatives."""
    with pytest.raises(DesignError, match="k has several levels"):
        orders(factors_of({"k": (), "a": ()}, {"k": (7, 5)}))


def test_the_tracks_own_order_stands_beside_the_shares() -> None:
    """From the same networks where all are trained; where orders are drawn, the networks of the own order are added."""
    factors = factors_of({"a": (), "b": ("a",), "c": ()})
    exact = make_design("orders", factors)
    assert len(exact.rungs) == len(orders(factors).rungs)
    worth = arbitrary(3)
    means = values(exact.rungs, worth)
    own = [estimate(e, means) for e in exact.effects if e.estimand == "in the paper's order"]
    path = [{}, {"a": "on"}, {"a": "on", "b": "on"}, {"a": "on", "b": "on", "c": "on"}]
    assert own == pytest.approx([worth(b) - worth(a) for a, b in pairwise(path)])
    drawn = make_design("orders", free("abcdef"), orders=1)
    assert len({frozenset(r.choice.items()) for r in drawn.rungs}) == len(drawn.rungs)
    assert sum(e.estimand == "in the paper's order" for e in drawn.effects) == 6
