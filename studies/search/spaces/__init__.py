"""Spaces to search as they are: `vitnas search --space NAME`."""

from __future__ import annotations

from pathlib import Path


def names() -> tuple[str, ...]:
    """The presets that exist."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.yaml")))


def text(name: str) -> str:
    """The file of the preset called `name`."""
    return Path(__file__).with_name(f"{name}.yaml").read_text()
