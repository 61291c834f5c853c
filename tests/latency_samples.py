"""Small networks, made-up readings and a brief effort, for the tests of the latency lane."""

from __future__ import annotations

from dataclasses import replace

from vitnas.roadmap.layers import Act, Conv, Norm
from vitnas.roadmap.spec import Head, NetSpec
from vitnas.roadmap.zoo import variant
from vitnas.studies.latency.device import Conditions, DeviceKey
from vitnas.studies.latency.estimate import Latency
from vitnas.studies.latency.measure import Subject
from vitnas.studies.latency.protocol import ANY_LOAD, Effort
from vitnas.studies.latency.reading import Reading

BRIEF = Effort(
    seconds=0.05,
    processes=1,
    allocations=2,
    extend=0,
    repeats=0,
    settle=0.0,
    patience=1.0,
    energy=False,
    **ANY_LOAD,
)


def subject(name: str, *, called: str = "") -> Subject:
    """A small published network."""
    found = variant(name)
    return Subject(name=called or name, spec=found.spec(), input_size=found.input_size)


def small(width: int = 8) -> NetSpec:
    """A convolution with its BatchNorm, an activation, and a classifier."""
    stem = (Conv(out=width, kernel=3, stride=2), Norm(norm="batch"), Act(act="relu"))
    return NetSpec(name=f"small-{width}", stem=stem, stages=(), head=Head(classes=4))


def a_reading(**changes: object) -> Reading:
    """A made-up reading."""
    latency = Latency(typical=2.0, median=2.0, low=1.9, high=2.1, p10=1.9, p90=2.2, p99=3.0, processes=3, blocks=12, bursts=90, passes=400)
    key = DeviceKey(processor="some processor", versions={"torch": "2.9"}, conditions=Conditions(input_size=32))
    made = Reading(
        fingerprint="f" * 16, name="net", key=key, latency=latency, narrow=True, reference_ms=5.0, taken="2025-05-06T07:08:09+00:00"
    )
    return replace(made, **changes)  # type: ignore[arg-type]
