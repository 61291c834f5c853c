"""Optimal designs over legal networks, and the lattice that they are chosen from."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitnas.roadmap.steps import Choice, Value, select
from vitnas.roadmap.tracks import track
from vitnas.studies.designs.design import DesignError, Factors
from vitnas.studies.designs.interactions import all_pairs, pair_name
from vitnas.studies.designs.lattice import count, points, sample
from vitnas.studies.designs.optimal import default_runs, exchange, model_matrix, optimal

from .games import additive, estimate, estimates, factors_of, free

ALL = Factors.of(select(track("convnext-t"), "all"))

CHAIN = {"a": (), "b": ("a",), "c": ("b",), "d": (), "e": ("d",)}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99))
def test_an_optimal_design_is_unbiased_for_its_model(seed: int) -> None:
    """Main effects and requested interactions are found exactly, whatever they are, where the model holds."""
    factors = factors_of(CHAIN, {"a": ("on", "half")})
    draw = np.random.default_rng(seed)
    asked = (("a", "d"), ("b", "e"))
    design = optimal(factors, interactions=asked)
    own: dict[tuple[str, Value], float] = {(s.name, v): draw.normal() for s, values in factors.steps for v in values}
    pay = {"on": float(draw.normal()), "half": float(draw.normal())}
    other = float(draw.normal())

    def worth(choice: Choice) -> float:
        a = {v: (choice.get("a") == v) - 1 / 3 for v in pay}
        b, d, e = ((n in choice) - 0.5 for n in "bde")
        return additive(own)(choice) + sum(a[v] * d * pay[v] for v in pay) + b * e * other

    expected = {n if v == "on" else f"{n}={v}": worth for (n, v), worth in own.items()}
    expected |= {"a x d": pay["on"], "a=half x d": pay["half"], "b x e": other}
    assert estimates(design, worth) == pytest.approx(expected)


def test_optimal_is_the_best_of_all_choices_where_they_can_be_tried() -> None:
    """Seven legal networks, six of them: no other six with everything on have a larger determinant."""
    factors = factors_of({"a": (), "b": ("a",), "c": ("b",), "d": ("a",)})
    found = sorted(points(factors), key=lambda p: -sum(v is not None for v in p))
    x = model_matrix(factors, found, [(), *(((i, "on"),) for i in range(4))])
    assert len(x) == 7
    rows = exchange(x, 6, np.random.default_rng(0))

    def size(rows: list[int]) -> float:
        return float(np.linalg.det(x[rows].T @ x[rows]))

    assert size(rows) == pytest.approx(max(size([0, *c]) for c in combinations(range(1, 7), 5)))


def test_optimal_designs_of_independent_steps_are_orthogonal() -> None:
    """Seven two-level steps in eight networks: the variance of the 2^(7-4) fraction, 4/8, which none can beat."""
    design = optimal(free("abcdefg"), runs=8)
    assert [sum(w**2 for _, w in e.weights) for e in design.effects] == pytest.approx([0.5] * 7)
    assert all(e.note == "variance 0.50 of a trial's; orthogonal 0.50" for e in design.effects)


def test_what_an_optimal_design_prints() -> None:
    """Variances are those of the weights; aliases are what a pair's own difference of differences of 1 does to each effect."""
    design = optimal(ALL)
    assert len(design.rungs) == default_runs(14) == 17
    assert design.rungs[0].choice == ALL.everything()
    pairs = {pair_name(ALL, p): p for p in all_pairs(ALL)}
    assert "depthwise x kernel-size" not in pairs
    for e in design.effects:
        assert e.note.startswith(f"variance {sum(w**2 for _, w in e.weights):.2f} of")
        assert e.note.endswith(f"orthogonal {4 / 17:.2f}")
        told = {a.partition(" ")[2]: float(a.partition(" ")[0]) for a in e.aliases}
        for name, ((i, _), (j, _)) in pairs.items():
            steps = [ALL.steps[k][0].name for k in (i, j)]
            means = [((steps[0] in r.choice) - 0.5) * ((steps[1] in r.choice) - 0.5) for r in design.rungs]
            bias = estimate(e, means)
            assert told.get(name, 0.0) == pytest.approx(bias, abs=0.006 if name in told else 0.106)
    assert design == optimal(ALL)


def test_runs_of_optimal_designs() -> None:
    """Too few for the parameters, or more than there are networks, is refused with the number to take."""
    with pytest.raises(DesignError, match="take 14 or more"):
        optimal(ALL, runs=13)
    with pytest.raises(DesignError, match="only 9 legal networks"):
        optimal(factors_of({"a": (), "b": ("a",), "c": (), "d": ("c",)}), runs=10)


def test_lattices_too_large_to_list_are_sampled() -> None:
    """Half a million choices are counted at once and drawn evenly and legally; a list of them is refused."""
    big = factors_of({**dict.fromkeys("abcdefghijklmnopqr", ()), "s": ("a",), "t": ("s",)})
    assert count(big) == 2**17 * 4
    with pytest.raises(DesignError, match="524,288 legal choices"):
        points(big)
    drawn = sample(big, 4000, np.random.default_rng(1))
    assert np.mean([p[0] is not None for p in drawn]) == pytest.approx(3 / 4, abs=0.03)
    assert np.mean([p[19] is not None for p in drawn]) == pytest.approx(1 / 4, abs=0.03)
    assert all(p[18] is None or p[0] is not None for p in drawn)
