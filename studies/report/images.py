"""The images and classes that each step won and lost: a heat map of classes by steps, and a table of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .canvas import INK, PLAIN, footnote, footnote_inches, heading, heading_inches
from .changes import Changed, ChangedImage
from .summary import Summary
from .tables import Table, headline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 30  # in the figure: those that changed most
MOST_STEPS = 24
CELL, ROW = 0.5, 0.3  # inches


def images_table(summary: Summary) -> Table:
    """The images that each effect won and lost most, a line an effect; only a header where nothing is known."""
    lines = [["effect", "under", "net", "won", "lost"]]
    for c in summary.changed:
        lines.append([c.label, c.estimand, f"{c.net:+.1f}", _listed(c.won), _listed(c.lost)])
    return lines


def _listed(images: Sequence[ChangedImage]) -> str:
    return ", ".join(f"{i.index}{f' {i.label}' if i.label is not None else ''} ({i.net:+.2f})" for i in images)


def images_figure(summary: Summary) -> Figure | None:
    """Net images won by class (rows) and effect (columns); None where the classes of the images are not known."""
    known = [c for c in summary.changed if c.by_class]
    if not known:
        return None
    shown = steps_shown(known)
    import matplotlib as mpl
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    classes = classes_shown(shown)
    groups = list(dict.fromkeys(c.estimand for c in shown))
    ordered = [c for g in groups for c in shown if c.estimand == g]
    below = 0.3 + 0.053 * max(len(c.label) for c in ordered)
    left = max(0.6 + 0.078 * max(map(len, classes)), 0.3 + 0.045 * max(len(c.label) for c in ordered[:4]))
    inches = max(7.2, left + 0.9 + CELL * (len(ordered) + 0.4 * (len(groups) - 1)))
    title, note = headline(summary), _note(summary, len(classes) < len(shown[0].by_class), len(shown) < len(known))
    top, foot = heading_inches(title, summary.alarms, inches) + 0.42, footnote_inches(note, inches) + below
    height = top + foot + ROW * len(classes)
    largest = max([abs(c.by_class[k]) for c in ordered for k in classes] + [1.0])
    with mpl.rc_context(PLAIN):
        figure = Figure(figsize=(inches, height))
        here = left
        for group in groups:
            members = [c for c in ordered if c.estimand == group]
            wide = CELL * len(members)
            axes = figure.add_axes((here / inches, foot / height, wide / inches, ROW * len(classes) / height))
            values = [[c.by_class[k] for c in members] for k in classes]
            axes.imshow(values, cmap=colormaps["RdBu"], vmin=-largest, vmax=largest, aspect="auto")
            for y, line in enumerate(values):
                for x, value in enumerate(line):
                    shade = "white" if abs(value) > 0.62 * largest else INK
                    axes.text(x, y, _cell(value), ha="center", va="center", fontsize=7.5, color=shade)
            axes.set_xticks(range(len(members)), [c.label for c in members], rotation=45, ha="right", rotation_mode="anchor", fontsize=8)
            axes.set_yticks(range(len(classes)), classes, fontsize=8)
            axes.tick_params(length=0, pad=4, labelleft=here == left)
            short = group if len(members) > 3 or group == groups[0] else group.replace("the reference again", "placebo")
            axes.set_title(short, fontsize=8.5, color=INK, loc="left", pad=6)
            for spine in axes.spines.values():
                spine.set_visible(False)
            here += wide + 0.4 * CELL
        heading(figure, title, summary.alarms)
        footnote(figure, note)
    return figure


def steps_shown(known: Sequence[Changed]) -> list[Changed]:
    """All effects, or, of many, those that changed most images, in their order."""
    change = sorted((sum(abs(v) for v in c.by_class.values()) for c in known), reverse=True)
    least = change[min(MOST_STEPS, len(change)) - 1]
    return [c for c in known if sum(abs(v) for v in c.by_class.values()) >= least]


def classes_shown(shown: Sequence[Changed]) -> list[str]:
    """All classes in their order, or, of many, those that changed most in all effects together."""
    names = list(shown[0].by_class)
    if len(names) <= MOST_CLASSES:
        return names
    change = {name: sum(abs(c.by_class[name]) for c in shown) for name in names}
    most = set(sorted(names, key=lambda n: (-change[n], names.index(n)))[:MOST_CLASSES])
    return [n for n in names if n in most]


def _cell(value: float) -> str:
    return "0" if abs(value) < 0.05 else f"{value:+.1f}"


def _note(summary: Summary, fewer_classes: bool, fewer_steps: bool) -> str:
    size = f" of the {summary.images} images" if summary.images else ""
    text = f"Net images won (blue) or lost (red){size} in the {summary.split} split, by class and step: the mean over seeds. "
    text += "Effects with a diverged trial are left out."
    text += f" The {MOST_CLASSES} classes that changed most." if fewer_classes else ""
    return text + (" The effects that changed most images; the others are in report.json." if fewer_steps else "")
