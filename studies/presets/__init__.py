"""Studies to run as they are: `vitnas sweep NAME`."""

from __future__ import annotations

import difflib
from pathlib import Path

from ..study import StudyError


def names() -> tuple[str, ...]:
    """The presets that exist."""
    return tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.yaml")))


def find(name: str) -> Path:
    """The study file of the preset called `name`; StudyError names the nearest."""
    if name in names():
        return Path(__file__).with_name(f"{name}.yaml")
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]}?" if near else f"presets are {', '.join(names())}"
    raise StudyError(f"there is no preset {name!r}, nor a study file of that name: {hint}")
