"""The tracks: a base network, the steps that modernize it, and what its paper reports. Installed packages add theirs.

`TRACKS` holds all of them; the installed ones (entry points `vitnas.tracks`, a Track or a tuple of Tracks each) are read when it is
looked at, or when a track is named that is none of ours.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from ..installed import TRACKS as GROUP
from ..installed import Found, installed
from ..steps import StepError, Track, squash
from .convnext import CONVNEXT_B, CONVNEXT_T
from .repvit import REPVIT_M09

if TYPE_CHECKING:
    TRACKS: tuple[Track, ...]

OURS: tuple[Track, ...] = (CONVNEXT_T, CONVNEXT_B, REPVIT_M09)


def __getattr__(name: str) -> Any:
    if name == "TRACKS":
        return (*OURS, *(found.value for found in installed_tracks().values()))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def track(name: str) -> Track:
    """The track called `name`, regardless of case and separators; StepError lists what exists."""
    ours = {squash(t.name): t for t in OURS}
    if squash(name) in ours:
        return ours[squash(name)]
    theirs = installed_tracks()
    if squash(name) in theirs:
        found: Track = theirs[squash(name)].value
        return found
    known = ", ".join(t.name for t in (*OURS, *(found.value for found in theirs.values())))
    hint = " (one with a dot comes from a package that is not installed here)" if "." in name else ""
    raise StepError(f"unknown track {name!r}{hint}; there are {known}")


@cache
def installed_tracks() -> dict[str, Found]:
    """The tracks of installed packages by their name without separators; PackageError for one that breaks a rule."""
    out: dict[str, Found] = {}
    for found in installed(GROUP):
        for each in found.value if isinstance(found.value, tuple) else (found.value,):
            if not isinstance(each, Track):
                raise found.refuse(f"gives a {type(each).__name__} as a track, not a vitnas.Track: mend its entry point")
            taken = {squash(t.name) for t in OURS} | out.keys()
            found.check_name("track", each.name, taken=squash(each.name) in taken)
            known = {f.name for f in fields(each.decisions())}
            for step in each.steps:
                if step.owner == "network" and step.field not in known:
                    raise found.refuse(f"has a step {step.name} on {each.name} that sets {step.field!r}, no field of its Decisions: add it")
            out[squash(each.name)] = replace(found, value=each)
    return out
