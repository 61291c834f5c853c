"""What all figures have in common: ink, words and their marks, and saving to the same bytes every time."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..store import remove as remove_file
from ..store import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, NOTE, ALARM = "#222222", "#8a8a8a", "#555555", "#b2182b"
WORD_COLORS = {"helps": "#1b7837", "hurts": "#b2182b", "equivalent": "#2166ac", "undecided": "#6b6b6b"}
SLOWER, FASTER = "#a6611a", "#018571"  # apart from the colours of verdicts: latency has no verdict
MARKS = {"helps": "▲", "hurts": "▼", "equivalent": "=", "undecided": "?"}
PLAIN: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "svg.hashsalt": "vitnas",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "axes.unicode_minus": False,
    "hatch.linewidth": 0.6,
}
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
}


def save(figure: Figure, path: Path) -> None:
    """Write `figure` as path.png (160 dpi), .svg and .pdf: the same bytes whenever the same figure is saved."""
    for suffix in METADATA:
        _write(path.with_suffix(f".{suffix}"), _encoded(figure, suffix))


def remove(path: Path) -> None:
    """Remove the three files of a figure that a study no longer has."""
    for suffix in METADATA:
        remove_file(path.with_suffix(f".{suffix}"))


def _encoded(figure: Figure, suffix: str) -> bytes:
    import matplotlib as mpl

    out = io.BytesIO()
    with mpl.rc_context(PLAIN):
        figure.savefig(out, format=suffix, dpi=160, metadata=METADATA[suffix])
    return out.getvalue()


def _write(path: Path, data: bytes) -> None:
    write_atomic(path, lambda file: file.write(data))


def frame(axes: Axes, title: str) -> None:
    """A panel with a small title, an axis below and no other lines; its rows have no labels."""
    axes.set_title(title, fontsize=8.5, color=INK, pad=7)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.tick_params(axis="x", labelsize=8, colors=NOTE)
    axes.set_axisbelow(True)


def heading(figure: Figure, title: str, warnings: Sequence[str]) -> None:
    """The figure's bold first line, and in red below it what makes the study not to be trusted (see `heading_inches`)."""
    inches, height = figure.get_size_inches()
    lines = _wrapped(title, inches, 10.5)
    figure.text(0.2 / inches, 1 - 0.16 / height, "\n".join(lines), fontsize=11.5, weight="bold", color=INK, va="top", linespacing=1.3)
    alarms = [line for w in warnings for line in _wrapped(w, inches, 14)]
    top = 0.16 + 0.22 * len(lines) + 0.04
    figure.text(0.2 / inches, 1 - top / height, "\n".join(alarms), fontsize=8.5, color=ALARM, va="top", linespacing=1.3)


def heading_inches(title: str, warnings: Sequence[str], inches: float) -> float:
    """The height that `heading` takes in a figure of that width."""
    alarms = sum(len(_wrapped(w, inches, 14)) for w in warnings)
    return 0.2 + 0.22 * len(_wrapped(title, inches, 10.5)) + 0.17 * alarms


def _wrapped(text: str, inches: float, per_inch: float) -> list[str]:
    return textwrap.wrap(text, max(20, round((inches - 0.4) * per_inch)), break_on_hyphens=False)


def footnote(figure: Figure, text: str) -> None:
    """Small lines at the figure's foot (see `footnote_inches`)."""
    inches, height = figure.get_size_inches()
    lines = "\n".join(_wrapped(text, inches, 17))
    figure.text(0.2 / inches, 0.12 / height, lines, fontsize=7.5, color=NOTE, va="bottom", linespacing=1.35)


def footnote_inches(text: str, inches: float) -> float:
    """The height that `footnote` takes in a figure of that width."""
    return 0.16 + 0.16 * len(_wrapped(text, inches, 17))
