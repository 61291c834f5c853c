"""Robustness: what trained networks score on corrupted test images, as plain data (no torch).

It is kept in a trial's folder as `corruptions.json`, written once, and is no part of the trial's identity or result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

CORRUPTIONS = "corruptions"  # among the names of what a trial is scored on, beside its splits
VERSION = 1  # raised by any change that alters corrupted images: older scores are made again


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Top-1 (%) on the `images` test images under each corruption, at severities 1 to 5."""

    images: int
    top1: Mapping[str, tuple[float, ...]]

    @property
    def mean(self) -> float:
        """The mean over corruptions and severities."""
        return fmean(self.by_corruption.values())

    @property
    def by_corruption(self) -> dict[str, float]:
        """The mean over severities, by corruption."""
        return {name: fmean(values) for name, values in self.top1.items()}

    @property
    def by_severity(self) -> tuple[float, ...]:
        """The mean over corruptions, by severity."""
        return tuple(fmean(values) for values in zip(*self.top1.values(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain data for corruptions.json."""
        top1 = {name: list(values) for name, values in self.top1.items()}
        return {"version": VERSION, "images": self.images, "mean": self.mean, "top1": top1}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> Robustness | None:
        """The scores written by `to_dict`; None where there are none, or of other images than this version makes."""
        if data is None or data["version"] != VERSION:
            return None
        return cls(images=data["images"], top1={name: tuple(values) for name, values in data["top1"].items()})
