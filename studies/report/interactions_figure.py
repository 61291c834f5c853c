"""The interactions figure: a heat map of how many points more a step pays with another than without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..effect import Estimand
from .canvas import INK, PLAIN, footnote, footnote_inches, heading, heading_inches
from .effects import EffectRow, in_order
from .effects_table import placebo_note
from .summary import Summary
from .tables import headline, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BETWEEN = " x "  # in the name of an interaction
CELL, WIDTH = 0.62, 0.42  # inches: a cell's width and height


def interactions_figure(summary: Summary) -> Figure | None:
    """A panel for each estimand and context; None where the study has no interactions with a value."""
    groups: dict[tuple[Estimand, str], list[EffectRow]] = {}
    for estimand, members in in_order(summary.effects):
        for e in members:
            if e.order == 2 and BETWEEN in e.name and e.value is not None:
                groups.setdefault((estimand, e.context), []).append(e)
    if not groups:
        return None
    import matplotlib as mpl
    from matplotlib.colors import TwoSlopeNorm
    from matplotlib.figure import Figure

    panels = [(key, *axes_of(members), members) for key, members in groups.items()]
    below = 0.3 + 0.078 * max(len(c) for _, _, columns, _ in panels for c in columns) * 0.72
    left = 0.35 + 0.078 * max(len(r) for _, rows, _, _ in panels for r in rows)
    inches = max(7.2, left + 1.4 + CELL * max(len(columns) for _, _, columns, _ in panels))
    title, note = headline(summary), _note(summary)
    top, foot = heading_inches(title, summary.alarms, inches), footnote_inches(note, inches)
    height = top + foot + sum(0.4 + WIDTH * len(rows) + below for _, rows, _, _ in panels)
    largest = max([abs(e.value or 0.0) for members in groups.values() for e in members] + [summary.margin])
    norm = TwoSlopeNorm(vcenter=0, vmin=-largest, vmax=largest)
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(inches, height))
        here = top
        for (estimand, context), rows, columns, members in panels:
            here += 0.4
            tall = WIDTH * len(rows)
            axes = figure.add_axes((left / inches, 1 - (here + tall) / height, CELL * len(columns) / inches, tall / height))
            _map(axes, rows, columns, members, norm)
            axes.set_title(f"{estimand}{f', {context}' if context else ''}, points", fontsize=9, color=INK, loc="left", pad=6)
            here += tall + below
        heading(figure, title, summary.alarms)
        footnote(figure, note)
    return figure


def axes_of(members: Sequence[EffectRow]) -> tuple[list[str], list[str]]:
    """(rows, columns) of the map. Where the same names stand on both sides, all pairs fill the triangle below the diagonal."""
    firsts = list(dict.fromkeys(e.name.partition(BETWEEN)[0] for e in members))
    seconds = list(dict.fromkeys(e.name.partition(BETWEEN)[2] for e in members))
    if not set(firsts) & set(seconds):
        return firsts, seconds
    order = list(dict.fromkeys([*firsts, *seconds]))
    return order[1:], order[:-1]


def _map(axes: Axes, rows: Sequence[str], columns: Sequence[str], members: Sequence[EffectRow], norm: object) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    shades = colormaps["RdBu"]
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(rows), 0)
    for e in members:
        first, _, second = e.name.partition(BETWEEN)
        both = [n for n in (*columns, *rows) if n in (first, second)]  # in the map's order
        x, y, value = columns.index(both[0]), rows.index(both[-1]), e.value or 0.0
        decided = e.word in ("helps", "hurts")
        open_ = e.word in (None, "undecided")
        pale = 0.45 if open_ else 1.0
        tone = tuple(1 - pale * (1 - c) for c in shades(norm(value))[:3])  # type: ignore[operator]
        axes.add_patch(Rectangle((x, y), 1, 1, facecolor=tone, edgecolor="white", linewidth=1.5))
        if open_:
            axes.add_patch(Rectangle((x, y), 1, 1, fill=False, hatch="////", edgecolor="#ffffff", linewidth=0, alpha=0.75))
        dark = sum(tone) < 1.45
        weight = "bold" if decided else "normal"
        shade = "white" if dark else "#666666" if open_ else INK
        box = {"facecolor": tone, "edgecolor": "none", "pad": 1.0} if open_ else None
        text = number(value, sign=True) + (" =" if e.word == "equivalent" else "")
        axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=7.5, color=shade, weight=weight, bbox=box)
    axes.set_xticks([i + 0.5 for i in range(len(columns))], columns, rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks([i + 0.5 for i in range(len(rows))], rows, fontsize=8)
    axes.tick_params(length=0, pad=4)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _note(summary: Summary) -> str:
    text = "A cell: how many points of top-1 more the step of the row pays with that of the column than without (and the other way round). "
    text += "Blue: they help each other; red: they get in each other's way. Bold: the simultaneous interval excludes 0"
    return text + f"; =: within ±{summary.margin:g} points; pale and hatched: undecided, or not judged.{placebo_note(summary)}"
