"""The effects figure: every effect with its intervals, a panel for each estimand, the largest at the top. Beside it the change in latency
that goes with each, where latency was measured."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..statistics.means import Interval
from .canvas import FAINT, FASTER, INK, MARKS, NOTE, PLAIN, SLOWER, WORD_COLORS, footnote, footnote_inches, frame, heading, heading_inches
from .effects import EffectRow, in_order
from .summary import Summary
from .tables import headline, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INCHES, RIGHT = 10.2, 2.6  # the figure's width, and that of the words beside the panels
LATENCY, NUMBER = 2.1, 0.75  # inches more for a panel of latencies, and for its numbers
GAP, FRAME = 0.28, 0.5  # inches between panels: above each for its title, below for its axis


def effects_figure(summary: Summary) -> Figure | None:
    """The figure of a study's effects; None where it has none with a value."""
    groups = [
        (f"interactions, {estimand}" if order == 2 else estimand, _sorted(found))
        for estimand, members in in_order(summary.effects)
        for order in (1, 2)
        if (found := [e for e in members if e.value is not None and e.order == order])
    ]
    if not groups:
        return None
    import matplotlib as mpl
    from matplotlib.figure import Figure

    title, note = headline(summary), _note(summary)
    names = [[_name(e) for e in members] for _, members in groups]
    sizes = [sum(0.1 + 0.155 * (1 + n.count("\n")) for n in panel) + 0.06 for panel in names]
    changes = [e.latency for e in summary.effects if e.latency is not None]
    inches = INCHES + (LATENCY + NUMBER if changes else 0)
    top, foot = heading_inches(title, summary.alarms, inches) + 0.05, footnote_inches(note, inches)
    height = top + foot + sum(size + GAP + FRAME for size in sizes)
    left = 0.35 + 0.076 * max(len(part) for panel in names for n in panel for part in n.split("\n"))
    low, high = span_of([e for _, members in groups for e in members], summary.margin)
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(inches, height))
        here = top
        for (estimand, members), panel, size in zip(groups, names, sizes, strict=True):
            here += GAP
            bottom, tall = 1 - (here + size) / height, size / height
            axes = figure.add_axes((left / inches, bottom, (INCHES - left - RIGHT) / inches, tall))
            frame(axes, "")
            axes.set_title(f"{estimand}, points of top-1", fontsize=9, color=INK, loc="left", pad=5)
            axes.set_xlim(low, high)
            places = _panel(axes, members, panel, summary)
            if changes:
                beside = figure.add_axes((INCHES / inches, bottom, LATENCY / inches, tall), sharey=axes)
                _latency(beside, members, places, 1.15 * max(1.0, *map(abs, changes)))
            here += size + FRAME
        heading(figure, title, summary.alarms)
        footnote(figure, note)
    return figure


def span_of(effects: Sequence[EffectRow], margin: float) -> tuple[float, float]:
    """(low, high) of the axis: room for zero, the margin, and the intervals of all effects in which nothing diverged."""
    regular = [e for e in effects if not e.diverged] or list(effects)
    ends = [0.0, -1.4 * margin, 1.4 * margin]
    for e in regular:
        ends += [e.value or 0.0, *(x for i in (e.interval, e.simultaneous, e.images) if i for x in (i.low, i.high))]
    room = 0.04 * (max(ends) - min(ends))
    return min(ends) - room, max(ends) + room


def _sorted(members: Sequence[EffectRow]) -> list[EffectRow]:
    return sorted(members, key=lambda e: -(e.value or 0.0))


def _name(effect: EffectRow) -> str:
    return "\n".join(textwrap.wrap(effect.label + " *" * bool(effect.aliases), 44, break_on_hyphens=False))


def _panel(axes: Axes, members: Sequence[EffectRow], names: Sequence[str], summary: Summary) -> list[float]:
    """Draw the effects; gives the places of their rows."""
    low, high = axes.get_xlim()
    places, y = [], 0.0
    for name in names:  # rows of several lines are taller
        tall = 1 + 0.6 * name.count("\n")
        places.append(y + tall / 2)
        y += tall
    axes.set_ylim(y, 0)
    axes.axvspan(-summary.margin, summary.margin, color="#eaf1f8", linewidth=0, zorder=0)
    axes.axvline(0, color=FAINT, linewidth=0.9, zorder=1)
    axes.grid(axis="x", color="#ececec", linewidth=0.7)
    axes.set_yticks(places, names, fontsize=8.5)
    axes.tick_params(axis="y", labelleft=True, pad=5)
    for place, effect, tick in zip(places, members, axes.get_yticklabels(), strict=True):
        tone = WORD_COLORS[effect.word] if effect.word else FAINT
        tick.set_fontstyle("italic" if effect.placebo else "normal")
        value = effect.value or 0.0
        _line(axes, place, effect.images, (low, high), color=tone, linewidth=0.9, linestyle=(0, (1, 1.6)))
        _line(axes, place, effect.simultaneous, (low, high), color=tone, linewidth=1.1)
        _line(axes, place, effect.interval, (low, high), color=tone, linewidth=3.2, solid_capstyle="butt")
        inside = low <= value <= high
        x = min(max(value, low), high)
        marker = ("D" if effect.placebo else "o") if inside else "<" if value < low else ">"
        face = "white" if effect.order == 2 else tone
        axes.scatter([x], [place], s=26, marker=marker, color=face, edgecolor=tone, linewidth=1.1, zorder=4, clip_on=False)
        word = f"{MARKS[effect.word]} {effect.word}" if effect.word else ""
        beside = effect.verdict.removeprefix(effect.word or "").removeprefix(", ")
        text = "\n".join(textwrap.wrap(f"{number(value, sign=True)}  {word}" + (f"{', ' if word else ''}{beside}" if beside else ""), 38))
        at = axes.get_yaxis_transform()
        axes.text(1.015, place, text, transform=at, va="center", fontsize=8, color=tone if effect.word else NOTE, linespacing=0.95)
    return places


def _latency(axes: Axes, members: Sequence[EffectRow], places: Sequence[float], most: float) -> None:
    """Bars of the change in latency (%), coloured where its interval leaves no doubt about the direction."""
    frame(axes, "")
    axes.set_title("latency, change in %", fontsize=9, color=INK, loc="left", pad=5)
    axes.set_xlim(-most, most)
    axes.axvline(0, color=FAINT, linewidth=0.9, zorder=1)
    axes.grid(axis="x", color="#ececec", linewidth=0.7)
    axes.tick_params(axis="y", labelleft=False)
    for place, effect in zip(places, members, strict=True):
        change, interval = effect.latency, effect.latency_interval
        tone, text = FAINT, "not measured"
        if change is not None and interval is not None:
            tone = SLOWER if interval.low > 0 else FASTER if interval.high < 0 else FAINT
            text = "same" if interval.low == interval.high == 0 else f"{round(change, 1) + 0.0:+.1f} %"
            axes.barh(place, change, height=0.5, color=tone, zorder=2)
            _line(axes, place, interval, (-most, most), color=INK, linewidth=1.1)
        axes.text(1.04, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=tone)


def _line(axes: Axes, y: float, interval: Interval | None, limits: tuple[float, float], **style: object) -> None:
    if interval and interval.high > limits[0] and interval.low < limits[1]:
        axes.plot([max(interval.low, limits[0]), min(interval.high, limits[1])], [y, y], zorder=3, **style)  # type: ignore[arg-type]


def _note(summary: Summary) -> str:
    effects, alone = summary.effects, percent(summary)
    parts = []
    if any(e.interval for e in effects):
        parts.append(f"Thick: {alone} interval of the effect alone; thin: of all effects at once (this split, new seeds)")
    if any(e.images for e in effects):
        parts.append("dotted: new images too")
    text = "; ".join(parts) + ". " if parts else "No intervals: one seed, or no scatter. "
    text += f"Shaded: ±{summary.margin:g} points, the change that does not matter."
    if any(e.word for e in effects):
        text += " Words go by the thin interval: ▲ helps, ▼ hurts, = equivalent (within the margin), ? undecided."
    if any(e.order == 2 for e in effects):
        text += " Open circles: interactions (a x b: how many points more a pays with b than without)."
    if any(e.aliases for e in summary.effects):
        text += " *: with the aliases that the table names."
    if any(e.placebo for e in effects):
        text += " Diamond: the placebo, whose true effect is 0."
    if any(e.diverged for e in effects):
        text += " Effects with diverged trials, which count at chance level, may lie beyond the axis (arrow)."
    if summary.latency_of and any(e.latency is not None for e in effects):
        text += f" Latency: of each network {summary.latency_of}; coloured where the 95 % interval (line) excludes no change."
    return text + " Panels hold effects of different kinds: do not compare across them."
