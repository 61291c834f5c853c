"""Small games for tests of designs: made-up steps with requirements, and what networks of them are worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from hypothesis import strategies as st

from vitnas.roadmap.steps import Choice, Rung, Selection, Step, Track, Value
from vitnas.studies.designs.design import Design, Factors
from vitnas.studies.effect import Effect, Weights

Worth = Callable[[Choice], float]


def factors_of(requires: Mapping[str, Sequence[str]], levels: Mapping[str, tuple[Value, ...]] | None = None) -> Factors:
    """Steps named by the keys, each requiring the given ones; one level "on" unless `levels` says otherwise (the first is adopted)."""
    own = {name: (levels or {}).get(name, ("on",)) for name in requires}
    steps = tuple(
        Step(name=n, title=n.upper(), field=n, value=own[n][0], levels=("off", *own[n]), requires=tuple(r), definition="")
        for n, r in requires.items()
    )
    track = Track(name="toy", title="toy", base="Base", decisions=dict, network=None, steps=steps, scales=())  # type: ignore[arg-type]
    return Factors.of(Selection(track, tuple((s, own[s.name]) for s in steps)))


def free(names: str) -> Factors:
    """Independent steps, one a letter."""
    return factors_of(dict.fromkeys(names, ()))


@st.composite
def posets(draw: st.DrawFn, *, most: int = 5) -> Factors:
    """Two to `most` steps, each requiring some of those before it."""
    names = "abcdefgh"[: draw(st.integers(2, most))]
    return factors_of({n: tuple(draw(st.sets(st.sampled_from(names[:i]), max_size=2))) if i else () for i, n in enumerate(names)})


def additive(own: Mapping[tuple[str, Value], float]) -> Worth:
    """Every level is worth the same on top of anything."""
    return lambda choice: 70.0 + sum(own[(k, v)] for k, v in choice.items())


def arbitrary(seed: int) -> Worth:
    """Every network has a worth of its own: interactions of all orders."""

    def worth(choice: Choice) -> float:
        key = [seed, *sorted(sum(map(ord, f"{k}={v}")) * 7919 + ord(k[0]) for k, v in choice.items())]
        return float(np.random.default_rng(key).normal())

    return worth


def values(rungs: Sequence[Rung], worth: Worth) -> list[float]:
    """The worth of every rung."""
    return [worth(r.choice) for r in rungs]


def estimate(effect: Effect | Weights, means: Sequence[float]) -> float:
    """Weights times means."""
    return sum(w * means[i] for i, w in (effect.weights if isinstance(effect, Effect) else effect))


def estimates(design: Design, worth: Worth) -> dict[str, float]:
    """Every effect of the design, by name, where networks are worth that."""
    means = values(design.rungs, worth)
    return {e.name: estimate(e, means) for e in design.effects}
