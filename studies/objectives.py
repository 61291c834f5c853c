"""What a search goes for and what it must keep to: objectives by name, limits and times as people write them."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Source = Literal["trained", "counted", "measured"]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """One quantity of a network. `source` says how it is known: by training, by counting (exactly, before training) or by measuring on
    the device (predicted before). All but what is trained are costs: the less the better. `scale` are base units in one `unit`."""

    name: str
    title: str
    unit: str
    source: Source
    scale: float = 1.0

    @property
    def maximise(self) -> bool:
        """Whether more of it is better."""
        return self.source == "trained"

    @property
    def axis(self) -> str:
        """Title and unit, for columns and axes."""
        return f"{self.title} ({self.unit})"

    def show(self, value: float) -> str:
        """A value in the objective's unit, with three digits that count, or all before the point (accuracy: two decimals)."""
        if self.source == "trained":
            return f"{value:.2f}"
        return f"{value / self.scale:,.0f}" if value / self.scale >= 1000 else f"{value / self.scale:.3g}"

    def words(self, value: float) -> str:
        """A value with its unit; of things that are counted, those below a hundredth of a unit by themselves."""
        if self.source == "counted" and value < self.scale / 100:
            return f"{value:,.0f}"
        return f"{self.show(value)} {self.unit}"


OBJECTIVES = (
    Objective(name="accuracy", title="top-1", unit="%", source="trained"),
    Objective(name="latency", title="latency", unit="ms", source="measured"),
    Objective(name="latency-p99", title="p99 latency", unit="ms", source="measured"),
    Objective(name="macs", title="multiply-adds", unit="MMACs", source="counted", scale=1e6),
    Objective(name="params", title="parameters", unit="M", source="counted", scale=1e6),
    Objective(name="memory", title="memory", unit="MB", source="measured"),
    Objective(name="energy", title="energy", unit="mJ", source="measured"),
)


def objective(name: str) -> Objective:
    """The objective called `name`; ValueError names the nearest."""
    for o in OBJECTIVES:
        if o.name == name.strip().lower().replace("_", "-"):
            return o
    known = [o.name for o in OBJECTIVES]
    near = difflib.get_close_matches(name.strip().lower(), known, n=1, cutoff=0.5)
    raise ValueError(f"unknown objective {name.strip()!r}; " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"))


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """The objectives of `accuracy,latency`, accuracy first; ValueError for an unknown or repeated one, and for none that is trained."""
    found = [objective(term) for term in text.split(",") if term.strip()]
    twice = next((o.name for o in found if found.count(o) > 1), None)
    if twice:
        raise ValueError(f"{twice} is named twice: once is enough")
    if not any(o.source == "trained" for o in found):
        raise ValueError("accuracy must be among them: a search without it would train nothing (as in --objectives accuracy,latency)")
    return tuple(sorted(found, key=lambda o: o.source != "trained"))


def limits_in_words(limits: Mapping[str, float], min_accuracy: float | None) -> str:
    """Limits (base units) and the least accuracy (%) that a search keeps to; empty where there are none."""
    own = [f"{objective(k).title} at most {objective(k).words(v)}" for k, v in limits.items()]
    return ", ".join(own + ([] if min_accuracy is None else [f"top-1 at least {exactly(min_accuracy)} %"]))


MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3, "": 1.0}
COUNTS = {"k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9, "": 1.0}
SECONDS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}


def milliseconds(text: object) -> float:
    """`5ms`, `800us`, `0.5s` or a number of ms; ValueError for anything else and for 0 or less."""
    return _amount(text, MILLISECONDS, "write a time such as 5ms or 800us")


def count(text: object) -> float:
    """`10M`, `1.5G`, `300k` or a number; ValueError for anything else and for 0 or less."""
    return _amount(text, COUNTS, "write a number such as 10M or 1.5G")


def seconds(text: object) -> float:
    """`2h`, `90min`, `30s` or a number of seconds; ValueError for anything else and for 0 or less."""
    return _amount(text, SECONDS, "write a time such as 2h or 90min")


def _amount(text: object, units: dict[str, float], hint: str) -> float:
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*([a-zµ]*)\s*", str(text).lower())
    if not found or found[2] not in units or not 0 < float(found[1]) < math.inf:
        raise ValueError(f"{text!r} is no amount above 0: {hint}")
    return float(found[1]) * units[found[2]]


def shown_count(number: float) -> str:
    """A number as `count` reads it, to the last digit: 10M, 1.5G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size and count(text := f"{number / size:.15g}{unit}") == number:
            return text
    return exactly(number)


def exactly(number: float) -> str:
    """A number as text with all digits that were given (up to 15)."""
    text = f"{number:g}"
    return text if math.isclose(float(text), number, rel_tol=1e-14) else f"{number:.15g}"
