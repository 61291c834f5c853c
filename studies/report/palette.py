"""Colours of the figures: one for each group of steps, as in Figure 2 of arXiv 2201.03545, and shades within it."""

from __future__ import annotations

from collections.abc import Sequence
from colorsys import hls_to_rgb

from .summary import Row

GROUPS = {  # colours that the common kinds of colour blindness keep apart
    "base": ("#767676", ()),
    "recipe": ("#7b4fa3", ("recipe",)),
    "macro design": ("#2f7fb8", ("stage-ratio", "patchify-stem")),
    "ResNeXt": ("#2a9d8f", ("depthwise", "groups", "width")),
    "inverted bottleneck": ("#c9a227", ("inverted-bottleneck",)),
    "large kernel": ("#e07b39", ("move-up-depthwise", "kernel-size")),
    "micro design": ("#c0476b", ("gelu", "fewer-activations", "fewer-norms", "layer-norm", "separate-downsampling", "pre-norm")),
    "other steps": ("#4a5568", ()),
    "placebo": ("#9a8f80", ()),
}
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def group(row: Row) -> str:
    """The group of steps that a row belongs to, by its step's name."""
    if row.placebo:
        return "placebo"
    if row.parent is None:
        return "base"
    step = row.name.partition("=")[0]
    return next((name for name, (_, steps) in GROUPS.items() if step in steps), "other steps")


def color(name: str) -> str:
    """A group's colour."""
    return GROUPS[name][0]


def blend(tone: str, share: float) -> str:
    """`tone` mixed with white: 0 is the tone, 1 is white."""
    parts = (int(tone[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(p + (255 - p) * share):02x}" for p in parts)


def line_styles(rows: Sequence[Row]) -> list[tuple[str, object]]:
    """(colour, dashes) a row: the group's colour, with dashes that tell the rows of one group apart. Arms that stand in no order, as those
    of most ablations, run from blue to red instead."""
    if len(rows) > 1 and not any(r.parent is not None and not r.placebo for r in rows):
        return [_unordered(i, len(rows), row) for i, row in enumerate(rows)]
    seen: dict[str, int] = {}
    out: list[tuple[str, object]] = []
    for row in rows:
        name = group(row)
        place = seen[name] = seen.get(name, -1) + 1
        shade = blend(color(name), min(0.75, 0.25 * (place // len(STYLES))))
        out.append((shade, STYLES[place % len(STYLES)]))
    return out


def _unordered(place: int, count: int, row: Row) -> tuple[str, object]:
    if place == 0 or row.placebo:
        return ("#222222", "-") if place == 0 else (color("placebo"), STYLES[1])
    shade = hls_to_rgb(0.62 * (1 - (place - 1) / max(1, count - 2)), 0.45, 0.65)
    return "#" + "".join(f"{round(255 * c):02x}" for c in shade), STYLES[place % len(STYLES)]
