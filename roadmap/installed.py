"""What other packages add: layers (entry points `vitnas.blocks`) and tracks (entry points `vitnas.tracks`). No torch.

Names carry the package's prefix: the layer "acme.spin", the track "acme.convnext-spin". Entry points are read only when a name is met
that is none of ours, so a package that cannot be loaded is in nobody's way who does not use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

BLOCKS, TRACKS = "vitnas.blocks", "vitnas.tracks"
OURS = "vitnas"


class PackageError(ValueError):
    """An installed package breaks a rule, is missing, or is there in another version; the message names it and the next move."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an entry point stands for, and the distribution that brings it."""

    value: Any
    distribution: str
    version: str

    def refuse(self, why: str) -> PackageError:
        """The error for a rule that this package breaks."""
        return PackageError(f"the package {self.distribution} {self.version} {why}")

    def check_name(self, what: str, name: str, *, taken: bool) -> None:
        """PackageError where `name` is taken already or lacks the package's prefix; `what` says what bears it."""
        if not re.fullmatch(r"\w[\w-]*\.\w[\w.-]*", name) or name.startswith(f"{OURS}."):
            raise self.refuse(f"calls a {what} {name!r}: its name must begin with the package's prefix, as in 'acme.spin'")
        if taken:
            raise self.refuse(f"brings a {what} {name!r} that is there already: rename it, or uninstall one of the two")


def installed(group: str) -> Iterator[Found]:
    """What the entry points of `group` stand for, ordered by distribution and name; PackageError where one cannot be loaded."""
    points = [(p.dist.name, p.name, p.dist.version, p) for p in entry_points(group=group) if p.dist]
    for distribution, _, release, point in sorted(points, key=lambda p: p[:2]):
        found = Found(value=None, distribution=distribution, version=release)
        try:
            yield replace(found, value=point.load())
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise found.refuse(f"cannot be loaded ({reason}): update or uninstall it") from None


def check_versions(planned: dict[str, str], what: str) -> None:
    """PackageError where a package by which `what` was planned is not installed here in that very version."""
    for name, wanted in planned.items():
        try:
            here = version(name)
        except PackageNotFoundError:
            here = ""
        if here != wanted:
            state = f"{here} is installed here" if here else "it is not installed here"
            raise PackageError(f"{what} was planned with {name} {wanted}, but {state}: install {name}=={wanted}, or run the study again")
