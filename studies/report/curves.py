"""The figure of learning curves: validation top-1 over epochs, a line a rung."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .canvas import FAINT, INK, PLAIN
from .figures import rung_title
from .palette import line_styles
from .summary import Row, Summary
from .tables import headline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = Sequence[Mapping[str, Any]]  # one record an epoch, with "epoch" (from 1) and "top1" (%, or None)


def mean_curve(row: Row, curves: Mapping[str, Curve]) -> tuple[list[int], list[float]]:
    """(epochs, top-1 in %): the mean over the row's trials that have begun, at the epochs that all of them reached."""
    begun = [found for r in row.replicates if (found := {c["epoch"]: c["top1"] for c in curves.get(r.trial, ()) if c["top1"] is not None})]
    epochs = sorted(set.intersection(*map(set, begun))) if begun else []
    return epochs, [sum(c[e] for c in begun) / len(begun) for e in epochs]


def curves_figure(summary: Summary, curves: Mapping[str, Curve]) -> Figure:
    """Mean curves of all rows; the legend stands outside. A cross ends the curve of a rung in which a trial diverged."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = summary.rows
    lines = sum(1 + len(r.title) // 38 for r in rows)
    with mpl.rc_context(PLAIN):
        height = max(4.4, 0.2 * lines + 1.3)
        figure = Figure(figsize=(10.5, height))
        axes = figure.add_axes((0.07, 0.55 / height, 0.62, 1 - 1.15 / height))
        lows: list[float] = []
        for row, (tone, dashes) in zip(rows, line_styles(rows), strict=True):
            epochs, means = mean_curve(row, curves)
            label = "\n".join(textwrap.wrap(rung_title(row), 38, break_on_hyphens=False))
            width = 1.1 if row.side else 1.8
            axes.plot(epochs, means, color=tone, linestyle=dashes, linewidth=width, label=label)
            if len(epochs) == 1:
                axes.plot(epochs, means, color=tone, marker="o", markersize=4)
            if row.diverged and epochs:
                axes.plot(epochs[-1:], means[-1:], color=tone, marker="x", markersize=8, markeredgewidth=2)
            lows += means[len(means) // 4 :]
        axes.set_title(headline(summary), fontsize=11, weight="bold", loc="left", color=INK, pad=10)
        axes.set_xlabel("epoch", fontsize=9)
        cut = 5 * math.floor(min(lows, default=0) / 5)
        bottom = cut if cut > 20 else 0
        axes.set_ylabel("validation top-1, %" + (f" (axis from {bottom})" if bottom else ""), fontsize=9)
        axes.set_ylim(bottom, 100.5)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="#e6e6e6", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8, colors="#555555")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(FAINT)
        figure.legend(
            loc="upper left", bbox_to_anchor=(0.705, 1 - 0.55 / height), frameon=False, fontsize=8, handlelength=3.2, borderaxespad=0
        )
        note = "Lines: mean over the seeds." + (" x: a seed diverged." if any(r.diverged for r in rows) else "")
        figure.text(0.705, 0.12 / height, note, fontsize=7.5, color="#555555")
    return figure
