"""The tracks: a base network, the steps that modernize it, and what its paper reports."""

from __future__ import annotations

from ..steps import StepError, Track, squash
from .convnext import CONVNEXT_B, CONVNEXT_T
from .repvit import REPVIT_M09

TRACKS: tuple[Track, ...] = (CONVNEXT_T, CONVNEXT_B, REPVIT_M09)


def track(name: str) -> Track:
    """The track called `name`, regardless of case and separators; StepError lists what exists."""
    for t in TRACKS:
        if squash(t.name) == squash(name):
            return t
    raise StepError(f"unknown track {name!r}; there are {', '.join(t.name for t in TRACKS)}")
