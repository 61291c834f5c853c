"""The Shapley figure: what each step pays averaged over all legal orders, beside what it pays in the paper's order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..effect import Estimand
from .canvas import FAINT, INK, PLAIN, footnote, footnote_inches, frame, heading, heading_inches
from .effects import EffectRow
from .effects_table import placebo_note
from .summary import Summary
from .tables import headline, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AVERAGED: Estimand = "averaged over legal orders"
CUMULATIVE: Estimand = "in the paper's order"
TONES = {AVERAGED: "#2f7fb8", CUMULATIVE: "#e07b39"}
INCHES, ROW = 11.4, 0.42


def both(summary: Summary) -> list[tuple[EffectRow, EffectRow]]:
    """(averaged over orders, in the paper's order) for every step that has both, in the study's order."""
    found = {(e.estimand, e.name, e.context): e for e in summary.effects if e.value is not None and e.order == 1}
    return [(e, found[CUMULATIVE, n, c]) for (s, n, c), e in found.items() if s == AVERAGED and (CUMULATIVE, n, c) in found]


def shapley_figure(summary: Summary) -> Figure | None:
    """A panel for each of the two on one scale, side by side, since they are different questions; None where the study has not both."""
    pairs = both(summary)
    if not pairs:
        return None
    import matplotlib as mpl
    from matplotlib.figure import Figure

    title, note = headline(summary), _note(summary, pairs)
    names = [a.label for a, _ in pairs]
    top, foot = heading_inches(title, summary.alarms, INCHES) + 0.35, footnote_inches(note, INCHES) + 0.3
    height = top + foot + ROW * len(pairs)
    left = 0.35 + 0.078 * max(map(len, names))
    room = (INCHES - left - 0.3) / 2
    ends = [0.0] + [x for p in pairs for e in p for x in _ends(e)]
    pad = 0.2 * (max(ends) - min(ends))
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(INCHES, height))
        for i, (estimand, members) in enumerate(((AVERAGED, [a for a, _ in pairs]), (CUMULATIVE, [b for _, b in pairs]))):
            box = ((left + i * room) / INCHES, foot / height, (room - 0.15) / INCHES, ROW * len(pairs) / height)
            axes = figure.add_axes(box)
            _panel(axes, estimand, members, [b if i == 0 else a for a, b in pairs])
            axes.set_xlim(min(ends) - 0.3 * pad, max(ends) + pad)
            axes.set_ylim(len(pairs) - 0.5, -0.5)
            axes.set_yticks(range(len(pairs)), names, fontsize=8.5)
            axes.tick_params(axis="y", labelleft=i == 0, pad=5)
        heading(figure, title, summary.alarms)
        footnote(figure, note)
    return figure


def _ends(effect: EffectRow) -> tuple[float, ...]:
    around = effect.simultaneous or effect.interval
    return (effect.value or 0.0, around.low, around.high) if around else (effect.value or 0.0,)


def _panel(axes: Axes, estimand: Estimand, members: Sequence[EffectRow], others: Sequence[EffectRow]) -> None:
    frame(axes, "")
    axes.set_title(f"{estimand}, points of top-1", fontsize=9, color=TONES[estimand], loc="left", pad=6)
    axes.grid(axis="x", color="#ececec", linewidth=0.7)
    axes.axvline(0, color=FAINT, linewidth=0.9)
    for y, (effect, other) in enumerate(zip(members, others, strict=True)):
        value = effect.value or 0.0
        axes.barh(y, value, height=0.5, color=TONES[estimand], alpha=0.32, linewidth=0)
        axes.plot([other.value or 0.0] * 2, [y - 0.33, y + 0.33], color=FAINT, linewidth=1.1, linestyle=(0, (2, 1.5)))
        ends = _ends(effect)
        if len(ends) > 1:
            axes.plot(ends[1:], [y, y], color=TONES[estimand], linewidth=1.4)
        axes.scatter([value], [y], s=18, color=TONES[estimand], zorder=4)
        axes.annotate(
            number(value, sign=True), (max(0.0, *ends), y), (5, 0), textcoords="offset points", va="center", fontsize=8, color=INK
        )


def _note(summary: Summary, pairs: Sequence[tuple[EffectRow, EffectRow]]) -> str:
    credit, order = (number(sum(p[i].value or 0.0 for p in pairs), sign=True) for i in (0, 1))
    return (
        f"Bars: effects; lines: simultaneous {percent(summary)} intervals; dashed marks: the same step in the other panel. Credits "
        f"averaged over orders (Shapley values) sum to {credit} points, those in the paper's order to {order}. A step that stands late in "
        f"the paper's order is credited there with what it pays on a strong base.{placebo_note(summary)}"
    )
