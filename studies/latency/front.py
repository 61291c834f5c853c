"""Accuracy against latency: which networks no other beats in both, the fastest above an accuracy, and the figure."""

from __future__ import annotations

import itertools
import os
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .device import LatencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Box = tuple[float, float, float, float]  # left, lower, right and upper edge in pixels


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


FORMATS = (".png", ".svg", ".pdf")
INK, FAINT, FRONT, LIMIT = "#222222", "#9aa0a6", "#1f5fbf", "#c0392b"
AROUND = ((1, -1), (1, 0), (-1, 1), (1, 1), (0, -1), (0, 1), (-1, 0), (-1, -1))  # sides of a point where its name may stand, best first
REACH = (4, 12, 22, 34)  # points of distance that are tried in turn


def check_figure(path: Path) -> None:
    """LatencyError where a figure cannot be written to `path`: said before hours of measuring, not after."""
    if path.suffix not in FORMATS:
        raise LatencyError(f"figure: {path} must end in {', '.join(FORMATS)}")
    parent = path.absolute().parent
    if not parent.is_dir():
        raise LatencyError(f"figure: there is no folder {parent}: make it first")
    if path.is_dir() or not os.access(path if path.exists() else parent, os.W_OK):
        raise LatencyError(f"figure: {path} cannot be written: name another file")


def draw(entries: Sequence[Entry], path: Path, *, label: str, min_accuracy: float | None = None) -> None:
    """Write the figure: top-1 of the papers (%) against measured latency (ms, logarithmic, with intervals), the front joined and named.

    `label` says on which device and how; networks without a published accuracy are left out, and told of.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    rated = sorted((e for e in entries if e.top1 is not None), key=lambda e: e.milliseconds)
    best = fastest(rated, min_accuracy) if min_accuracy is not None else None
    with mpl.rc_context({"font.size": 9, "axes.unicode_minus": False, "svg.hashsalt": "vitnas"}):
        figure = Figure(figsize=(9, 6), layout="constrained")
        axes = figure.add_subplot()
        for on_front, colour in ((False, FAINT), (True, FRONT)):
            some = [e for e in rated if e.front == on_front]
            spans = [[e.milliseconds - e.low for e in some], [e.high - e.milliseconds for e in some]]
            axes.errorbar([e.milliseconds for e in some], [_top1(e) for e in some], xerr=spans, fmt="o", markersize=4, color=colour)
        line = [e for e in rated if e.front]
        axes.step([e.milliseconds for e in line], [_top1(e) for e in line], where="post", color=FRONT, linewidth=1)
        if min_accuracy is not None:
            axes.axhline(min_accuracy, color=LIMIT, linewidth=0.8, linestyle="--")
        if best is not None:
            axes.plot([best.milliseconds], [_top1(best)], "o", markersize=10, markerfacecolor="none", color=LIMIT)
        axes.set_xscale("log")
        axes.margins(0.06, 0.08)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("measured latency, ms (logarithmic)")
        axes.set_ylabel("ImageNet top-1 in the papers, %")
        axes.grid(True, color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        title = "Accuracy of the papers against measured latency; blue: no other is as accurate and faster"
        axes.set_title("\n".join([title, *textwrap.wrap(label, 110)]), fontsize=9, loc="left", color=INK)
        notes = [f"{len(entries) - len(rated)} networks without a published accuracy are not shown."] if len(rated) < len(entries) else []
        if min_accuracy is not None:
            found = f"{best.name}, {best.milliseconds:.3g} ms" if best else "none"
            notes.insert(0, f"Circle: the fastest at {min_accuracy:g} % or more ({found}).")
        figure.supxlabel(" ".join(notes), fontsize=8, color=INK, x=0.01, ha="left")
        figure.draw_without_rendering()  # the layout decides where labels have room
        _name(figure, axes, rated, {best.name} if best else set())
        figure.set_layout_engine("none")
        figure.savefig(path, dpi=150)


def _top1(entry: Entry) -> float:
    assert entry.top1 is not None
    return entry.top1


def _name(figure: Figure, axes: Axes, entries: Sequence[Entry], marked: Collection[str]) -> None:
    """Names beside the points of the front, each where it covers no point, no line, no other name and no edge; joined to its point where
    it stands off."""
    at = {e.name: axes.transData.transform((e.milliseconds, _top1(e))) for e in entries}
    radius = {name: 9 if name in marked else 3 for name in at}
    dots = [(x - radius[name], y - radius[name], x + radius[name], y + radius[name]) for name, (x, y) in at.items()]
    line = [at[e.name] for e in entries if e.front]
    for (x, y), (end, top) in itertools.pairwise(line):
        dots += [(x, y - 1, end, y + 1), (end - 1, y, end + 1, top)]
    frame = axes.get_window_extent()
    taken: list[Box] = []
    for e in [e for e in entries if e.front]:
        text = axes.annotate(e.name, (e.milliseconds, _top1(e)), fontsize=7.5, color=LIMIT if e.name in marked else INK)
        extent = text.get_window_extent()
        text.remove()
        width, height = extent.width, extent.height
        x, y = at[e.name]
        per_point = figure.dpi / 72
        places = []
        for reach in REACH:
            for across, up in AROUND:
                left = x + reach * per_point * across - width * (1 - across) / 2
                low = y + reach * per_point * up - height * (1 - up) / 2
                box = (left, low, left + width, low + height)
                inside = left > frame.x0 and box[2] < frame.x1 and low > frame.y0 and box[3] < frame.y1
                places.append((10 * (not inside) + 3 * sum(_meet(box, t) for t in taken) + sum(_meet(box, d) for d in dots), reach, box))
        _, reach, box = min(places, key=lambda place: place[0])
        taken.append(box)
        offset = ((box[0] - x) / per_point, (box[1] - y) / per_point)
        leader = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2} if reach > REACH[0] else None
        axes.annotate(
            e.name,
            (e.milliseconds, _top1(e)),
            xytext=offset,
            textcoords="offset points",
            fontsize=7.5,
            color=LIMIT if e.name in marked else INK,
            arrowprops=leader,
        )


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
