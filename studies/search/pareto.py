"""Who passes over whom when several numbers count: fronts, ranks and the volume that a front covers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

SLICED = 4  # columns up to which volumes are taken slice by slice


def non_dominated(values: ArrayLike, maximise: Sequence[bool]) -> NDArray[np.bool_]:
    """Which rows of `values` (n, m) no other row passes over: as good in every column and better in one. Equal rows stand or fall together.

    `maximise` says for every column whether more is better. Raises `ValueError` where it does not fit the columns.
    """
    gains = _gains(values, maximise)
    order = np.lexsort(-gains.T[::-1])  # by the first column, then the next: a row can only be passed over by one before it
    kept = np.zeros(len(gains), dtype=bool)
    if gains.shape[1] <= 2:
        best: tuple[float, ...] = ()
        for i in order:
            row = tuple(gains[i])
            if not best or row[-1] > best[-1] or row == best:
                kept[i], best = True, row
        return kept
    front = np.empty((0, gains.shape[1]))
    for i in order:
        row = gains[i]
        above = front[(front >= row).all(axis=1)]
        if not (above > row).any():
            kept[i], front = True, np.vstack([front, row])
    return kept


def ranks(values: ArrayLike, maximise: Sequence[bool]) -> NDArray[np.int64]:
    """0 for the rows of `values` (n, m) on the front, 1 for those on the front of the rest, and so on (Deb et al. 2002)."""
    gains = _gains(values, maximise)
    out = np.full(len(gains), -1, dtype=np.int64)
    rank = 0
    while (left := np.flatnonzero(out < 0)).size:
        out[left[non_dominated(gains[left], [True] * gains.shape[1])]] = rank
        rank += 1
    return out


def hypervolume(points: ArrayLike, reference: ArrayLike) -> float:
    """The volume between `reference` (m,) and `points` (n, m), all maximised; what lies below the reference in any column counts nothing.

    Exact for every m: a sweep for two columns, slices along the last column for up to four, what each point adds to the others for more.
    """
    low = np.asarray(reference, dtype=np.float64)
    above = np.asarray(points, dtype=np.float64).reshape(-1, len(low)) - low
    above = above[(above > 0).all(axis=1)]
    return _volume(above) if len(low) <= SLICED else _volume_by_points(above)


def _volume(points: NDArray[np.float64]) -> float:
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(points.max())
    points = points[np.argsort(-points[:, -1], kind="stable")]
    if points.shape[1] == 2:
        reach = np.maximum.accumulate(points[:, 0])
        return float(np.sum(points[:, 1] * np.diff(reach, prepend=0.0)))
    total = 0.0
    heights = np.append(points[:, -1], 0.0)
    for k in np.flatnonzero(heights[:-1] > heights[1:]):  # the slice between this height and the next is what stands above it
        slab = points[: k + 1, :-1]
        total += (heights[k] - heights[k + 1]) * _volume(slab[non_dominated(slab, [True] * slab.shape[1])])
    return total


def _volume_by_points(points: NDArray[np.float64]) -> float:
    """What each point of the front covers beyond those after it, by the front of what it shares with them (WFG: While et al. 2012). Slices
    along the columns would cost as many more as there are points with every column more."""
    points = np.unique(points, axis=0)
    points = points[non_dominated(points, [True] * points.shape[1])]
    total = 0.0
    for i, point in enumerate(points):
        shared = np.minimum(points[i + 1 :], point)
        total += float(point.prod()) - (_volume_by_points(shared) if len(shared) else 0.0)
    return total


def _gains(values: ArrayLike, maximise: Sequence[bool]) -> NDArray[np.float64]:
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(maximise):
        raise ValueError(f"values must have a column for each of the {len(maximise)} directions; their shape is {table.shape}")
    return table * np.where(list(maximise), 1.0, -1.0)
