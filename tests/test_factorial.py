"""Factorial and regular fractional designs, against brute force and textbooks."""

from __future__ import annotations

from itertools import combinations, product
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitnas.roadmap.steps import Choice, Value, select
from vitnas.roadmap.tracks import track
from vitnas.studies.designs.design import DesignError, Factors
from vitnas.studies.designs.factorial import factorial
from vitnas.studies.designs.fractional import fractional
from vitnas.studies.designs.lattice import count, points
from vitnas.studies.designs.regular import Regular, best, letters, smallest

from .games import additive, arbitrary, estimates, factors_of, free, posets

NAMES = "ABCDEFG"


def mask(word: str) -> int:
    """A word of a textbook as bits."""
    return sum(1 << NAMES.index(c) for c in word)


def all_choices(factors: Factors) -> list[dict[str, Value]]:
    """Every legal choice, by trying every combination of levels."""
    levels = [(None, *values) for _, values in factors.steps]
    names = [s.name for s, _ in factors.steps]
    choices = [{n: v for n, v in zip(names, c, strict=True) if v is not None} for c in product(*levels)]
    return [c for c in choices if factors.legal(c)]


@settings(max_examples=30, deadline=None)
@given(posets(), st.integers(0, 999), st.booleans())
def test_factorial_equals_brute_force(factors: Factors, seed: int, several: bool) -> None:
    """Means over all legal pairs, and over all legal fours, spelled out; steps with several levels among them."""
    if several:
        requires = {s.name: s.requires for s, _ in factors.steps}
        factors = factors_of(requires, {"a": ("on", "half"), "b": ("on", "more")})
    worth, choices = arbitrary(seed), all_choices(factors)

    def differences(names: tuple[str, ...], on: Choice) -> list[float]:
        out = []
        for c in choices:
            if any(n in c for n in names):
                continue
            corners = [({**c, **{n: on[n] for n in some}}, len(names) - len(some)) for k in range(3) for some in combinations(names, k)]
            if all(factors.legal(corner) for corner, _ in corners):
                out.append(sum((-1) ** off * worth(corner) for corner, off in corners))
        return out

    expected = {}
    for s, levels in factors.steps:
        for v in levels:
            expected[s.name if v == "on" else f"{s.name}={v}"] = np.mean(differences((s.name,), {s.name: v}))
    for (s, first), (t, second) in combinations(factors.steps, 2):
        for v, w in product(first, second):
            found = differences((s.name, t.name), {s.name: v, t.name: w})
            if found:
                name = " x ".join(n.name if x == "on" else f"{n.name}={x}" for n, x in ((s, v), (t, w)))
                expected[name] = np.mean(found)
    design = factorial(factors, interactions="all")
    assert len(design.rungs) == len(choices) == count(factors)
    assert estimates(design, worth) == pytest.approx(expected)
    assert all(sum(w for _, w in e.weights) == pytest.approx(0) for e in design.effects)


def test_a_real_track_has_as_many_legal_networks_as_counted_by_hand() -> None:
    """convnext-t: 2^7 free choices times 13 of the depthwise family: none, or with kernel or not, 1 + 1 + 4 of the chain."""
    factors = Factors.of(select(track("convnext-t"), "all"))
    assert count(factors) == 2**7 * (1 + 2 * (1 + 1 + 4)) == len(points(factors))


def test_interactions_that_do_not_exist_are_refused_or_left_out() -> None:
    """Where one step requires the other there is no fourth network."""
    factors = factors_of({"a": (), "b": ("a",), "c": ("b",), "d": ()})
    for pair in (("a", "c"), ("c", "a")):
        with pytest.raises(DesignError, match="c requires a, so there is no c without a"):
            factorial(factors, interactions=(pair,))
    design = factorial(factors, interactions="all")
    assert [e.name for e in design.effects if e.order == 2] == ["a x d", "b x d", "c x d"]
    assert any("a x b, a x c, b x c" in n for n in design.notes)


# Montgomery, Design and Analysis of Experiments, chapter 8; Box, Hunter and Hunter, chapter 6: generators, defining relation, aliases.
TEXTBOOK = {
    (4, 8): (
        ["ABC"],
        "ABCD",
        {"A": "BCD", "B": "ACD", "C": "ABD", "D": "ABC", "AB": "CD", "AC": "BD", "AD": "BC"},
    ),
    (5, 8): (
        ["AB", "AC"],
        "ABD ACE BCDE",
        {
            "A": "BD CE ABCDE",
            "B": "AD CDE ABCE",
            "C": "AE BDE ABCD",
            "D": "AB BCE ACDE",
            "E": "AC BCD ABDE",
            "BC": "DE ABE ACD",
            "BE": "CD ABC ADE",
        },
    ),
    (7, 8): (
        ["AB", "AC", "BC", "ABC"],
        "ABD ACE AFG BCF BEG CDG DEF ABCG ABEF ACDF ADEG BCDE BDFG CEFG ABCDEFG",
        {},
    ),
}
PAIRS_OF_SEVEN = {"A": "BD CE FG", "B": "AD CF EG", "C": "AE BF DG", "D": "AB CG EF", "E": "AC BG DF", "F": "AG BC DE", "G": "AF BE CD"}


@pytest.mark.parametrize("size", TEXTBOOK, ids=str)
def test_textbook_fractions_and_their_alias_tables(size: tuple[int, int]) -> None:
    """2^(4-1), 2^(5-2) and 2^(7-4): generators, defining relation and aliases as printed."""
    generators, relation, aliases = TEXTBOOK[size]
    design = best(*size)
    assert design is not None
    assert [letters(g) for g in design.generators] == generators
    assert [letters(w) for w in design.words] == relation.split()
    for term, others in aliases.items():
        assert {letters(a) for a in design.aliases(mask(term), 7)} == set(others.split())


def test_aliases_of_the_saturated_fraction_up_to_pairs() -> None:
    """The table of 2^(7-4) that textbooks print, with interactions of three and more neglected."""
    design = best(7, 8)
    assert design is not None
    assert {t: " ".join(letters(a) for a in design.aliases(mask(t), 2)) for t in NAMES} == PAIRS_OF_SEVEN
    names = "abcdefg"
    rows = fractional(free(names), runs=8).effects
    assert [r.aliases for r in rows] == [tuple(" x ".join(w.lower()) for w in PAIRS_OF_SEVEN[n.upper()].split()) for n in names]
    assert {r.estimand for r in rows} == {"main effect plus aliases"}


def test_sign_tables_in_standard_order() -> None:
    """The runs of 2^(4-1) with D = ABC and of 2^(5-2) with D = AB, E = AC as printed."""
    for size, table in (
        ((4, 8), "---- +--+ -+-+ ++-- --++ +-+- -++- ++++"),
        ((5, 8), "---++ +---- -+--+ ++-+- --++- +-+-+ -++-- +++++"),
    ):
        design = best(*size)
        assert design is not None
        assert " ".join("".join("+" if s > 0 else "-" for s in run) for run in design.signs()) == table


def test_filtration_rates_of_the_textbook() -> None:
    """Montgomery's example 8.1, 2^(4-1): A 19, B 1.5, C 14, D 16.5; AC -18.5 and AD 19 there, twice that as differences of differences."""
    rates = {"": 45, "ad": 100, "bd": 45, "ab": 65, "cd": 75, "ac": 60, "bc": 80, "abcd": 96}
    design = fractional(free("abcd"), interactions=(("a", "c"), ("a", "d")))
    found = estimates(design, lambda choice: rates["".join(sorted(choice))])
    assert found == {"a": 19, "b": 1.5, "c": 14, "d": 16.5, "a x c": -37, "a x d": 38}
    assert {e.name: e.aliases for e in design.effects if e.order == 2} == {"a x c": ("b x d",), "a x d": ("b x c",)}
    assert design.rungs[0].choice == dict.fromkeys("abcd", "on")


# Chen, Sun and Wu (1993), tables 2 to 4: numbers of words of length 3, 4, 5, 6 of the designs of minimum aberration.
CATALOGUE = {
    (6, 8): (4, 3, 0, 0),
    (6, 16): (0, 3, 0, 0),
    (7, 16): (0, 7, 0, 0),
    (8, 16): (0, 14, 0, 0),
    (9, 16): (4, 14, 8, 0),
    (8, 32): (0, 3, 4, 0),
    (9, 32): (0, 6, 8, 0),
    (10, 32): (0, 10, 16, 0),
    (11, 32): (0, 25, 0, 27),
    (9, 64): (0, 1, 4, 2),
    (10, 64): (0, 2, 8, 4),
}


@pytest.mark.parametrize(("size", "pattern"), CATALOGUE.items(), ids=str)
def test_minimum_aberration_as_published(size: tuple[int, int], pattern: tuple[int, ...]) -> None:
    """The search finds the word-length patterns of the catalogue."""
    design = best(*size)
    assert design is not None
    assert design.pattern[:4] == pattern


@pytest.mark.parametrize("size", [(5, 8), (6, 8), (6, 16), (7, 16), (7, 32)])
def test_minimum_aberration_by_trying_everything(size: tuple[int, int]) -> None:
    """No choice of generators has fewer short words."""
    factors, runs = size
    basic = runs.bit_length() - 1
    columns = [m for m in range(runs) if m.bit_count() > 1]
    everything = (Regular(factors, basic, g).pattern for g in combinations(columns, factors - basic))
    design = best(factors, runs)
    assert design is not None
    assert design.pattern == min(everything)


@pytest.mark.parametrize(
    ("steps", "resolution", "runs"),
    [(7, 3, 8), (7, 4, 16), (5, 5, 16), (6, 5, 32), (8, 5, 64), (9, 4, 32), (11, 5, 128), (3, 4, 8), (2, 3, 4)],
)
def test_fewest_runs_of_a_resolution(steps: int, resolution: int, runs: int) -> None:
    """As in the tables of Box, Hunter and Hunter (appendix 6); all networks where no fraction is that good."""
    assert smallest(steps, resolution).runs == runs


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 7), st.sampled_from([3, 4, 5]), st.integers(0, 99))
def test_a_fraction_tells_its_effect_plus_aliases(steps: int, resolution: int, seed: int) -> None:
    """On a game with main effects and interactions of pairs, an estimate is the effect, plus half of every aliased pair; pairs full."""
    names = "abcdefg"[:steps]
    draw = np.random.default_rng(seed)
    main = {n: float(draw.normal()) for n in names}
    pair = {(a, b): float(draw.normal()) for a, b in combinations(names, 2)}

    def worth(choice: Choice) -> float:
        centred = {n: (n in choice) - 0.5 for n in names}
        return sum(main[n] * centred[n] for n in names) + sum(v * prod(centred[n] for n in p) for p, v in pair.items())

    asked = (("a", "b"),) if resolution == 5 else ()
    design = fractional(free(names), resolution=resolution, interactions=asked)
    means = [worth(r.choice) for r in design.rungs]
    for effect in design.effects:
        named = [tuple(a.split(" x ")) for a in effect.aliases]
        own = main[effect.name] if effect.order == 1 else pair[("a", "b")]
        half = sum(pair[(p[0], p[1])] for p in named if len(p) == 2) / (2 if effect.order == 1 else 1)
        assert sum(w * means[i] for i, w in effect.weights) == pytest.approx(own + half)
        assert sum(w for _, w in effect.weights) == pytest.approx(0)
        variance = sum(w**2 for _, w in effect.weights)
        assert variance == pytest.approx((4 if effect.order == 1 else 16) / len(design.rungs))


def test_requested_interactions_must_be_clear() -> None:
    """At III a pair is aliased with a step, at IV perhaps with another requested pair: the refusal names the resolution to take."""
    seven = free("abcdefg")
    with pytest.raises(DesignError, match=r"a x b cannot be told from d at resolution III: take --resolution 4 \(16 networks\)"):
        fractional(seven, resolution=3, interactions=(("a", "b"),))
    with pytest.raises(DesignError, match=r"a x b cannot be told from .* at resolution IV: take --resolution 5 \(64 networks\)"):
        fractional(seven, interactions="all")
    clear = fractional(free("abcde"), resolution=5, interactions="all")
    assert {e.estimand for e in clear.effects} == {"averaged over legal subsets"}
    assert {e.name: e.aliases for e in clear.effects}["a x b"] == ("c x d x e",)
    own: dict[tuple[str, Value], float] = {(n, "on"): float(i) for i, n in enumerate("abcde")}
    assert all(v == pytest.approx(0) for n, v in estimates(clear, additive(own)).items() if " x " in n)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"runs": 12}, "a power of two, not 12: take 8 or 16"),
        ({"runs": 4}, "4 networks cannot tell 7 steps apart: take 8"),
        ({"runs": 256}, "7 steps have only 128 networks"),
        ({"runs": 8, "resolution": 4}, "reach resolution III, not IV: take 16"),
        ({"resolution": 6}, "it can be 3, 4 or 5, not 6"),
    ],
)
def test_sizes_that_cannot_be(options: dict[str, int], message: str) -> None:
    """Each refusal names the next move."""
    with pytest.raises(DesignError, match=message):
        fractional(free("abcdefg"), **options)  # type: ignore[arg-type]
