"""What the levels of a space do: which are legal somewhere, and which make a difference. Found from points drawn with a fixed seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .space import Candidate, Dimension, Levels, Point, Space

LOOKED_AT = 20  # points in which a level must change something
PROBED = 100  # points that are drawn


def legal_points(space: Space) -> list[Point]:
    """Legal points among some at random."""
    rng = np.random.default_rng(0)
    return [p for p in (space.tree.draw(rng) for _ in range(PROBED)) if space.refusal(p) is None]


def levels_apart(space: Space, d: Dimension, drawn: Sequence[Point]) -> tuple[str, ...]:
    """The levels of a dimension that make different candidates at one of some points, one of those that never do: the track's own, or the
    usual one."""
    met = [dict(p) for p in drawn if d.name in dict(p)][:LOOKED_AT]
    seen: dict[str, list[Candidate | None]] = {}
    values = dict(zip(d.levels, d.values, strict=True))
    for level in sorted(d.levels, key=lambda x: (values[x] not in (None, 1), x != d.usual)):
        points = [space.canonical({**levels, d.name: level}) for levels in met]
        made = [space.candidate(p) if space.refusal(p) is None else None for p in points]
        if made not in seen.values():
            seen[level] = made
    return tuple(x for x in d.levels if x in seen)


def unreached(space: Space, drawn: Sequence[Point]) -> tuple[Dimension, str, str] | None:
    """The first level that no legal point seems to have, and why: those not among `drawn` are looked for from each of them."""
    met = {x for point in drawn for x in point}
    for d in space.dimensions:
        for level in d.levels:
            if (d.name, level) not in met and not _reached(space, d, level, drawn):
                refusal = space.refusal(space.canonical({**dict(space.start), d.name: level}))
                return d, level, refusal or "it never applies"
    return None


def _reached(space: Space, d: Dimension, level: str, drawn: Sequence[Point]) -> bool:
    wanted: Iterator[Levels] = ({**dict(point), d.name: level} for point in drawn if d.name in dict(point))
    return any(dict(space.legal(w, first=d.name)).get(d.name) == level for w in wanted)
