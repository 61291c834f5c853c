"""The roadmap figure, after Figure 2 of A ConvNet for the 2020s (arXiv 2201.03545): a bar a rung, from the base down to the goal.

Panels share the rungs: the study's top-1; multiply-adds; latency where it was measured, which may be of each rung's full-size twin; the
paper's own top-1, on an axis of its own since it is of another data set.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .canvas import FAINT, FASTER, INK, MARKS, PLAIN, SLOWER, WORD_COLORS, footnote, footnote_inches, frame, heading, heading_inches
from .palette import GROUPS, blend, color, group
from .summary import Row, Summary
from .tables import headline, macs_unit, milliseconds, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def has_roadmap(summary: Summary) -> bool:
    """Whether the arms are steps on a way from a base to a goal: those of a roadmap, of a cumulative design, or a single network."""
    cumulative = summary.study["kind"] == "ablate" and summary.study.get("design") == "cumulative"
    return summary.study["kind"] in ("roadmap", "train") or (cumulative and not any(r.context for r in summary.rows))


def roadmap_figure(summary: Summary) -> Figure:
    """The figure of a study's rows in order, the first at the top."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = summary.rows
    published = any(r.paper and r.paper.top1 is not None for r in rows)
    timed = any(r.ms is not None for r in rows)
    widths = [5.0, 2.55, 1.5, *([2.9] if timed else []), *([2.3] if published else [])]
    inches = 10.2 + 2.8 * timed + 2.2 * published
    names = [_name(r) for r in rows]
    lines = len(rows) * max(0.36, 0.06 + 0.155 * (1 + max(n.count("\n") for n in names)))
    title, note = headline(summary), _notes(summary)
    top, foot = 0.6 + heading_inches(title, summary.alarms, inches), 0.3 + footnote_inches(note, inches)
    height = lines + top + foot + 0.08
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(inches, height))
        left = (0.3 + 0.078 * max(len(part) for n in names for part in n.split("\n"))) / inches
        grid = figure.add_gridspec(
            1,
            len(widths),
            width_ratios=widths,
            left=left,
            right=1 - 0.2 / inches,
            top=1 - top / height,
            bottom=foot / height,
            wspace=0.06,
        )
        first = figure.add_subplot(grid[0, 0])
        axes = [first, *(figure.add_subplot(grid[0, i], sharey=first) for i in range(1, len(widths)))]
        _top1(axes[0], summary)
        _deltas(axes[1], rows)
        _cost(axes[2], summary)
        if timed:
            _latency(axes[3], summary)
        if published:
            _paper(axes[-1], summary)
        axes[0].set_yticks(range(len(rows)), names, fontsize=9)
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        for tick, row in zip(axes[0].get_yticklabels(), rows, strict=True):
            tick.set_color(FAINT if row.side else INK)
            tick.set_fontstyle("italic" if row.side else "normal")
        heading(figure, title, summary.alarms)
        _legend(figure, summary, top - 0.62)
        footnote(figure, note)
    return figure


def rung_title(row: Row) -> str:
    """A row's title, alternatives led in by "or"."""
    return f"or {row.title}" if row.side else row.title


def _name(row: Row) -> str:
    return "\n".join(textwrap.wrap(rung_title(row), 36, break_on_hyphens=False))


def _legend(figure: Figure, summary: Summary, top: float) -> None:
    from matplotlib.patches import Patch

    inches, height = figure.get_size_inches()
    used = [g for g in GROUPS if any(group(r) == g for r in summary.rows)]
    if len(used) > 1:
        patches = [Patch(color=color(g), label=g) for g in used]
        figure.legend(
            handles=patches,
            loc="upper left",
            bbox_to_anchor=(0.13 / inches, 1 - top / height),
            ncols=len(used),
            frameon=False,
            fontsize=8,
            handlelength=1,
            columnspacing=1.2,
            borderaxespad=0,
        )


def window(rows: Sequence[Row]) -> tuple[float, float]:
    """(low, high) of the top-1 axis in %: room for all means, seeds and intervals of arms that did not diverge; from 0 where they need
    it, else zoomed."""
    regular = [r for r in rows if r.n and not r.diverged] or [r for r in rows if r.n]
    if not regular:
        return 0.0, 100.0
    low = min(min(min(r.values), r.interval.low if r.interval else 100.0) for r in regular)
    high = max(max(max(r.values), r.interval.high if r.interval else 0.0) for r in regular)
    step = next(s for s in (0.5, 1, 2, 5, 10, 20) if high - low < 8 * s or s == 20)
    start = step * math.floor((low - 0.25 * max(high - low, step)) / step)
    return (max(0.0, start) if start > 10 else 0.0), min(100.0, high + 0.04 * max(high - low, step))


def _top1(axes: Axes, summary: Summary) -> None:
    rows = summary.rows
    low, high = window(rows)
    axes.set_xlim(low, high)
    zoomed = f" (axis from {low:g})" if low > 0 else ""
    frame(axes, f"top-1 on {summary.data['name']}, {summary.split} split, %{zoomed}")
    axes.tick_params(axis="y", labelleft=True, pad=6)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.axvline(low, color=FAINT, linewidth=0.8)
    for y, row in enumerate(rows):
        tone = color(group(row))
        if row.mean is None:
            axes.text(low + 0.01 * (high - low), y, "not run yet", va="center", fontsize=8, color=FAINT, style="italic")
            continue
        if row.mean < low:
            mark = f", {row.diverged}/{row.n} diverged" if row.diverged else ""
            axes.text(low, y, f"  ◀ {row.mean:.1f}{mark}", va="center", fontsize=8, color=tone)
        else:
            _bar(axes, y, row, low)
        _seeds(axes, y, row, low)


def _bar(axes: Axes, y: int, row: Row, low: float) -> None:
    tone = color(group(row))
    axes.barh(
        y,
        (row.mean or 0.0) - low,
        left=low,
        height=0.42 if row.side else 0.68,
        color=blend(tone, 0.66 if row.side else 0.36),
        edgecolor=blend(tone, 0.2),
        linewidth=0.6,
        hatch="////" if _hatched(row) else None,
    )
    if row.interval:
        axes.plot([max(row.interval.low, low), row.interval.high], [y, y], color=INK, linewidth=1.3, zorder=3)
        for end in (row.interval.low, row.interval.high):
            if end >= low:
                axes.plot([end, end], [y - 0.12, y + 0.12], color=INK, linewidth=1.3, zorder=3)


def _seeds(axes: Axes, y: int, row: Row, low: float) -> None:
    """The seeds' values as dots, one below the other, since small test sets give equal values."""
    spread = 0.26 if row.side else 0.44
    step = min(0.18, spread / max(1, row.n - 1))
    dots = [(v, y + step * (i - (row.n - 1) / 2)) for i, v in enumerate(row.values) if v >= low]
    if dots:
        edge = blend(color(group(row)), 0.2 if row.side else 0.0)
        axes.scatter(
            [x for x, _ in dots], [y for _, y in dots], s=13, color="white", edgecolor=edge, linewidth=1.0, zorder=4, clip_on=False
        )


def _hatched(row: Row) -> bool:
    return row.same_network or row.liveness in ("dead", "same")


def _deltas(axes: Axes, rows: Sequence[Row]) -> None:
    """Mean, change and verdict in figures and words; below the word what must be known beside it."""
    axes.set_xlim(0, 1)
    axes.axis("off")
    for x, title, side in ((0.18, "mean", "right"), (0.43, "change", "right"), (0.48, "verdict", "left")):
        axes.annotate(title, (x, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", fontsize=8.5, color=INK, ha=side)
    for y, row in enumerate(rows):
        shade = FAINT if row.side else INK
        if row.mean is not None:
            axes.text(0.18, y, f"{row.mean:.2f}", va="center", ha="right", fontsize=8.5, color=shade)
        if row.delta:
            axes.text(0.43, y, number(row.delta.value, sign=True), va="center", ha="right", fontsize=8.5, color=shade)
        beside = row.verdict.removeprefix(row.word or "").removeprefix(", ")
        if row.word:
            place = "bottom" if beside else "center"
            axes.text(0.48, y, f"{MARKS[row.word]} {row.word}", va=place, fontsize=8, color=WORD_COLORS[row.word])
        below = "\n".join(textwrap.wrap(beside, 25))
        axes.text(0.48, y + (0.06 if row.word else 0.0), below, va="top" if row.word else "center", fontsize=6.5, color="#6b6b6b")


def _cost(axes: Axes, summary: Summary) -> None:
    """Multiply-adds of the networks that were trained."""
    unit, name = macs_unit(summary)
    values = [r.macs / unit for r in summary.rows]
    _plain_axis(axes, name, 1.55 * max(values))
    for y, (row, value) in enumerate(zip(summary.rows, values, strict=True)):
        axes.barh(y, value, height=_thin(row), color="#d8d8d8" if row.side else "#b5b5b5")
        axes.text(value + 0.05 * max(values), y, f"{value:.2f}", va="center", fontsize=8, color=FAINT if row.side else INK)


def _latency(axes: Axes, summary: Summary) -> None:
    """The waterfall of latencies: what a rung adds to the time of the one it is compared with is coloured, what it saves is outlined."""
    rows = summary.rows
    longest = max(r.ms for r in rows if r.ms is not None)
    end, width, column = 1.12 * longest, 2.45 * longest, 0.69  # where bars end, the panel's width, and where in it the numbers do
    _plain_axis(axes, "", width)
    at = f" at {summary.study['latency-scale']} scale" if "latency-scale" in summary.study else ""
    for x, title, side in ((0.0, f"latency{at}", "left"), (column, "ms", "right"), (1.0, "change", "right")):
        axes.annotate(title, (x, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", fontsize=8.5, color=INK, ha=side)
    for y, row in enumerate(rows):
        shade, height = FAINT if row.side else INK, _thin(row)
        if row.ms is None:
            axes.text(0, y, "not measured", va="center", fontsize=8, color=FAINT, style="italic")
            continue
        parent = rows[row.parent] if row.parent is not None and not row.placebo else None
        before = parent.ms if parent else None
        common = row.ms if before is None else min(before, row.ms)
        axes.barh(y, common, height=height, color="#d8d8d8" if row.side else "#b5b5b5")
        if before is not None and row.ms > before:
            axes.barh(y, row.ms - before, left=before, height=height, color=SLOWER)
        elif before is not None and row.ms < before:
            axes.barh(y, before - row.ms, left=row.ms, height=height, facecolor="white", edgecolor=FASTER, linewidth=0.8)
        if row.ms_interval:
            ends = [min(row.ms_interval.low, end), min(row.ms_interval.high, end)]
            axes.plot(ends, [y, y], color=INK, linewidth=1.1, zorder=3)
        axes.text(column * width, y, milliseconds(row.ms), va="center", ha="right", fontsize=8, color=shade)
        if parent is not None and before is not None:
            text = "same" if before == row.ms else f"{100 * (row.ms / before - 1):+.1f} %"
            tone = FAINT if not _apart(parent, row) else SLOWER if row.ms > before else FASTER
            axes.text(width, y, text, va="center", ha="right", fontsize=8, color=tone)


def _apart(one: Row, other: Row) -> bool:
    """Whether two latencies differ by more than measuring leaves open: by the interval of their ratio, both readings independent."""
    if not (one.ms and other.ms and one.ms_interval and other.ms_interval):
        return False
    half = math.hypot(*(math.log(r.high / r.low) / 2 for r in (one.ms_interval, other.ms_interval)))
    return abs(math.log(one.ms / other.ms)) > half


def _plain_axis(axes: Axes, title: str, end: float) -> None:
    frame(axes, title)
    axes.set_xlim(0, end)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)


def _thin(row: Row) -> float:
    return 0.14 if row.side else 0.22


def _paper(axes: Axes, summary: Summary) -> None:
    found = [(y, r, r.paper.top1, r.paper.sd) for y, r in enumerate(summary.rows) if r.paper and r.paper.top1 is not None]
    tops = [top1 for _, _, top1, _ in found]
    room = max(max(tops) - min(tops), 1.0)
    low = math.floor(min(tops) - 0.15 * room)
    frame(axes, f"the paper's own top-1:\n{_dataset(summary)}, % (axis from {low:g})")
    axes.set_xlim(low, max(tops) + 0.36 * room)
    axes.patch.set_facecolor("#f6f6f6")
    for y, row, top1, sd in found:
        tone = FAINT if row.side else INK
        axes.plot([low, top1], [y, y], color="#cccccc", linewidth=1, zorder=1)
        if sd:
            axes.plot([top1 - sd, top1 + sd], [y, y], color=tone, linewidth=1.2, zorder=2)
        axes.scatter([top1], [y], marker="D", s=16 if row.side else 26, color=tone, zorder=3)
        axes.text(top1 + 0.06 * room, y, f"{top1:.1f}", va="center", fontsize=8, color=tone)


def _dataset(summary: Summary) -> str:
    """The paper's data set, from its source line ("arXiv ..., Table ...: ImageNet-1K, ...")."""
    return summary.paper_source.partition(": ")[2].partition(",")[0] or "its own data"


def _notes(summary: Summary) -> str:
    dots = "Bars: mean over seeds; dots: the seeds"
    whiskers = f"; whiskers: {100 * summary.confidence:g} % interval of the mean" if any(r.interval for r in summary.rows) else ""
    judged = any(r.delta and r.delta.simultaneous for r in summary.rows)
    words = (
        f" Words: ▲ helps or ▼ hurts where the simultaneous {100 * summary.confidence:g} % interval of the change excludes 0, "
        f"= equivalent within ±{summary.margin:g} points, ? undecided."
        if judged
        else ""
    )
    sides = " Thin, pale rows are alternatives that nothing builds on." if any(r.side for r in summary.rows) else ""
    hatched = " Hatched: nothing of the step acts at this input." if any(_hatched(r) for r in summary.rows) else ""
    size = f" {summary.images} images in the {summary.split} split." if summary.images else ""
    source = f" Paper: {summary.paper_source}." if summary.paper_source else ""
    timed = (
        f" Latency: the typical time of a pass, of each rung {summary.latency_of}; coloured: what the rung adds, outlined: what it saves; "
        "lines: 95 % intervals; changes in grey are within them."
        if summary.latency_of
        else ""
    )
    adjacent = " Adjacent changes share a rung." if judged else ""
    return f"{dots}{whiskers}.{words}{adjacent}{sides}{hatched}{size}{timed}{source}"
