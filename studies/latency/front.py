"""Accuracy against latency: which networks no other beats in both, the fastest above an accuracy, and the figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network with its paper's top-1 (%), None where there is none, and its measured latency (ms) with its interval."""

    name: str
    top1: float | None
    milliseconds: float
    low: float
    high: float
    front: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def front(entries: Sequence[Entry]) -> list[Entry]:
    """`entries` with those marked that no other is as accurate as and faster, or more accurate than and as fast."""
    rated = [e for e in entries if e.top1 is not None]
    return [replace(e, front=e.top1 is not None and not any(_beats(o, e) for o in rated)) for e in entries]


def _beats(other: Entry, entry: Entry) -> bool:
    assert other.top1 is not None and entry.top1 is not None
    as_good = other.top1 >= entry.top1 and other.milliseconds <= entry.milliseconds
    return as_good and (other.top1 > entry.top1 or other.milliseconds < entry.milliseconds)


def fastest(entries: Sequence[Entry], min_accuracy: float) -> Entry | None:
    """The fastest of at least `min_accuracy` (%), or None."""
    able = [e for e in entries if e.top1 is not None and e.top1 >= min_accuracy]
    return min(able, key=lambda e: e.milliseconds, default=None)


def draw(entries: Sequence[Entry], path: Path, *, label: str, min_accuracy: float | None = None) -> None:
    """Write the figure: top-1 of the papers (%) against measured latency (ms, logarithmic, with intervals), the front joined and named.

    `label` says on which device and how; networks without a published accuracy are left out.
    """
    from matplotlib.figure import Figure

    rated = sorted((e for e in entries if e.top1 is not None), key=lambda e: e.milliseconds)
    heights = {e.name: float(e.top1 or 0) for e in rated}
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for on_front, colour in ((False, "#9aa0a6"), (True, "#1f5fbf")):
        some = [e for e in rated if e.front == on_front]
        spans = [[e.milliseconds - e.low for e in some], [e.high - e.milliseconds for e in some]]
        axes.errorbar(
            [e.milliseconds for e in some], [heights[e.name] for e in some], xerr=spans, fmt="o", markersize=4, color=colour, elinewidth=1
        )
    line = [e for e in rated if e.front]
    axes.step([e.milliseconds for e in line], [heights[e.name] for e in line], where="post", color="#1f5fbf", linewidth=1)
    for e in line:
        axes.annotate(e.name, (e.milliseconds, heights[e.name]), xytext=(4, -9), textcoords="offset points", fontsize=7)
    best = fastest(rated, min_accuracy) if min_accuracy is not None else None
    if min_accuracy is not None:
        axes.axhline(min_accuracy, color="#c0392b", linewidth=0.8, linestyle="--")
    if best is not None:
        axes.plot([best.milliseconds], [heights[best.name]], "o", markersize=9, markerfacecolor="none", color="#c0392b")
    axes.set_xscale("log")
    axes.set_xlabel("measured latency (ms)")
    axes.set_ylabel("ImageNet top-1 in the papers (%)")
    axes.set_title(label, fontsize=8)
    axes.grid(True, which="both", linewidth=0.3)
    figure.savefig(path, dpi=150)
