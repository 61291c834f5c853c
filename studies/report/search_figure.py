"""The front of a search as a figure: top-1 against each cost, with intervals on both, the finalists and the limit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..objectives import Objective, objective
from .canvas import ALARM, FAINT, INK, NOTE, PLAIN, footnote, footnote_inches, heading, heading_inches

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRONT, OTHER = "#1f5fbf", "#b5bac0"
HEIGHT, WIDTH = 4.4, 6.2  # inches of a panel
GAP = 3  # points between a name and the panel's edge
NARROW = 3  # times the least cost that the axis shows, below which its ticks are at equal steps
LEGEND = ("front", "others", "finalists", "limit", "accuracy asked for")


def front_figure(record: Mapping[str, Any]) -> Figure | None:
    """A panel for each cost; None where nothing is trained or there is no cost."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    costs = [objective(n) for n in record["objectives"] if n != "accuracy"]
    shown = [c for c in record["candidates"] if c["top1"] is not None]
    if not costs or not shown:
        return None
    measured = ", and the 95 % interval of what was measured" if any(o.source == "measured" for o in costs) else ""
    title = f"{record['space']['title']}: top-1 against {' and '.join(o.title for o in costs)}"
    text = (
        f"Validation top-1; bars: two standard errors of the noise of seeds{measured}. Blue: no other network is as accurate at no more "
        "cost. " + (f"{record['device']}." if record["device"] else "")
    )
    width = WIDTH * len(costs)
    top, foot = heading_inches(title, [], width), footnote_inches(text, width)
    height = HEIGHT + 0.25 + top + foot
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(1, len(costs), squeeze=False)[0]
        figure.subplots_adjust(
            left=0.75 / width, right=1 - 0.3 / width, top=1 - (top + 0.35) / height, bottom=(foot + 0.5) / height, wspace=0.22
        )
        for panel, o in zip(axes, costs, strict=True):
            _panel(panel, record, shown, o, len(costs) == 1)
        heading(figure, title, [])
        footnote(figure, text)
    return figure


def _panel(axes: Axes, record: Mapping[str, Any], shown: Sequence[Mapping[str, Any]], o: Objective, joined: bool) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

    finalists = {f["candidate"] for f in record["final"] if not f["published"]}
    entries = [c for c in shown if c["costs"].get(o.name)]
    entries.sort(key=lambda c: (c["costs"][o.name]["value"], c["top1"]))
    for on_front in (False, True):
        some = [c for c in entries if c["front"] == on_front]
        colour = FRONT if on_front else OTHER
        x, bars = _spans([c["costs"][o.name] for c in some], "value", o.scale)
        y, up = _spans(some, "top1", 1.0)
        label = "front" if on_front else "others"
        axes.errorbar(
            x,
            y,
            xerr=bars,
            yerr=up,
            fmt="o",
            markersize=5 if on_front else 3.5,
            color=colour,
            elinewidth=0.8,
            label=label,
            zorder=2 + on_front,
        )
        if on_front and joined:
            axes.step(x, y, where="post", color=FRONT, linewidth=1, zorder=2)
    chosen = [c for c in entries if c["candidate"] in finalists]
    if chosen:
        at = [c["costs"][o.name]["value"] / o.scale for c in chosen]
        axes.plot(at, [c["top1"] for c in chosen], "o", markersize=10, markerfacecolor="none", color=INK, linestyle="", label="finalists")
    if o.name in record["limits"]:
        axes.axvline(record["limits"][o.name] / o.scale, color=ALARM, linewidth=0.9, linestyle="--", label="limit")
    if record["min_accuracy"] is not None:
        axes.axhline(record["min_accuracy"], color=ALARM, linewidth=0.9, linestyle=":", label="accuracy asked for")
    axes.set_xscale("log")
    axes.margins(0.12, 0.1)
    axes.autoscale_view()
    low, high = axes.get_xlim()
    wide = high > NARROW * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)) if wide else MaxNLocator(6))
    if not wide:
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"{o.axis}, logarithmic", fontsize=9, color=INK)
    axes.set_ylabel("validation top-1 (%)", fontsize=9, color=INK)
    axes.tick_params(labelsize=8, colors=NOTE)
    axes.grid(True, color="#ececec", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    _names(axes, [(c["name"], c["costs"][o.name]["value"] / o.scale, (c["low"], c["top1"], c["high"]), c["front"]) for c in entries])
    handles, names = axes.get_legend_handles_labels()
    order = sorted(range(len(names)), key=lambda i: LEGEND.index(names[i]))
    axes.legend(
        [handles[i] for i in order],
        [names[i] for i in order],
        frameon=False,
        fontsize=8,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=5,
        columnspacing=1.2,
        handletextpad=0.4,
    )


def _names(axes: Axes, entries: Sequence[tuple[str, float, tuple[float, float, float], bool]]) -> None:
    """Names of the front's networks, each at the corner of its point where it covers least of points, bars and other names, within the
    panel."""
    figure = axes.get_figure()
    assert figure is not None
    point = 72 / figure.dpi
    at = {name: axes.transData.transform((x, y[1])) * point for name, x, y, _ in entries}
    ends = [[axes.transData.transform((x, end)) * point for end in (y[0], y[2])] for _, x, y, _ in entries]
    bars = [(low[0] - 1, low[1], low[0] + 1, high[1]) for low, high in ends]
    left, right = axes.bbox.x0 * point + GAP, axes.bbox.x1 * point - GAP

    def outside(box: tuple[float, ...]) -> int:
        return 3 if box[0] < left or box[2] > right else 0

    taken = [(x - 3, y - 3, x + 3, y + 3) for x, y in at.values()]
    for name, x, y, on_front in entries:
        if not on_front:
            continue
        width, height = 4.3 * len(name), 8.0
        px, py = at[name]
        corners = [(px + dx - width * (dx < 0), py + dy - height * (dy < 0)) for dx, dy in ((-5, 5), (5, -5), (5, 5), (-5, -5))]
        boxes = [(x0, y0, x0 + width, y0 + height) for x0, y0 in corners]
        best = min(boxes, key=lambda box: sum(_meet(box, x) for x in taken) + sum(_meet(box, x) for x in bars) / 2 + outside(box))
        taken.append(best)
        axes.annotate(name, (x, y[1]), xytext=(best[0] - px, best[1] - py), textcoords="offset points", fontsize=7, color=NOTE)


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _spans(entries: Sequence[Mapping[str, Any]], key: str, scale: float) -> tuple[list[float], list[list[float]]]:
    """Values and the lengths of their bars below and above."""
    values = [e[key] / scale for e in entries]
    low = [max(0.0, v - e["low"] / scale) for v, e in zip(values, entries, strict=True)]
    return values, [low, [max(0.0, e["high"] / scale - v) for v, e in zip(values, entries, strict=True)]]
