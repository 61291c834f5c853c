"""What a track's paper reports for a row, and for the step that led to it."""

from __future__ import annotations

from dataclasses import dataclass

from ...roadmap.steps import Paper, Track


@dataclass(frozen=True, kw_only=True)
class Published:
    """The paper's values for a row, and its own step from the row before in its own table (points)."""

    top1: float | None
    sd: float | None
    gmacs: float | None
    ms: float | None
    delta: float | None


def published(track: Track, key: str) -> Published | None:
    """The paper's values for the row `key`, or None where it has none."""
    paper = track.paper.get(key)
    if paper is None:
        return None
    before = row_before(track, key)
    delta = None if before is None or before.top1 is None or paper.top1 is None else paper.top1 - before.top1
    return Published(top1=paper.top1, sd=paper.sd, gmacs=paper.gmacs, ms=paper.ms, delta=delta)


def row_before(track: Track, key: str) -> Paper | None:
    """The row of the paper's table that `key` builds on: the last one before it of another step that is no alternative (`step=value`)."""
    keys = list(track.paper)
    before = [k for k in keys[: keys.index(key)] if "=" not in k and k != key.partition("=")[0]]
    return track.paper[before[-1]] if before else None
