"""What training a network is expected to add to the hypervolume, where its costs are known and its accuracy is a normal distribution.

Over the space of costs, the front is a staircase: above every point stands the best accuracy that is to be had for these costs or less.
A network of costs c and accuracy y raises the stairs over all that costs more than c and stands lower than y. So with y ~ N(mean, sd^2)

    EHVI(c, mean, sd) = sum over levels f of the stairs: volume(costs beyond c where the stairs are at f) * E[max(0, y - f)]

and E[max(0, y - f)] = (mean - f) Phi(u) + sd phi(u), u = (mean - f) / sd: closed form, and the same few matrix products for the whole
pool. (With all objectives uncertain it needs integrals over boxes, Yang et al. 2019; known costs make it a sum.) The stairs over k costs
have (points + 1)^k cells: past three costs, or where they do not fit the memory, the volumes are counted over fixed points instead.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]
CHUNK = 4_000_000  # numbers held at a time
EXACT = 3  # costs up to which the volumes are exact
DENSE = 200_000_000  # cells times levels of the stairs up to which they are: 1.6 GB
POINTS = 256  # fixed points (a power of two) beyond the costs of every network that volumes are counted over otherwise


def expected_gain(mean: Array, sd: Array, level: Array) -> Array:
    """E[max(0, y - level)] of y ~ N(mean, sd^2) for every pair: mean and sd (n,), level (m,) -> (n, m)."""
    spread = np.maximum(sd, 1e-12)[:, None]
    u = (mean[:, None] - level[None]) / spread
    out: Array = spread * (u * ndtr(u) + np.exp(-0.5 * u**2) / np.sqrt(2 * np.pi))
    return out


def ehvi(mean: Array, sd: Array, costs: Array, front_values: Array, front_costs: Array, floor: float, ceiling: Array) -> Array:
    """Expected gain in hypervolume of every network of a pool: (n,).

    mean, sd (n,): its accuracy, maximised; costs (n, k), minimised. front_values (f,), front_costs (f, k): what is known already, passed
    over or not. floor and ceiling (k,): the reference point.
    """
    inside = (front_values > floor) & (front_costs < ceiling).all(axis=1)
    values, at = front_values[inside], front_costs[inside]
    k = costs.shape[1]
    exact = k <= EXACT and math.prod(len(np.unique(at[:, j])) + 1 for j in range(k)) * (len(np.unique(values)) + 1) <= DENSE
    levels, sizes = (staircase if exact else sampled_staircase)(values, at, costs, floor, ceiling)
    return np.asarray((sizes * expected_gain(mean, sd, levels)).sum(axis=1))


def staircase(values: Array, at: Array, costs: Array, floor: float, ceiling: Array) -> tuple[Array, Array]:
    """The levels of the stairs (m,), and how much of each lies beyond every row of costs: (n, m). The lowest level is the floor."""
    k = costs.shape[1]
    cuts = [np.unique(at[:, j]) for j in range(k)]
    lows = [np.concatenate([[-np.inf], c]) for c in cuts]
    highs = [np.concatenate([c, [ceiling[j]]]) for j, c in enumerate(cuts)]
    levels, index = np.unique(np.append(values, floor), return_inverse=True)
    cells = np.full([len(low) for low in lows], index[-1])
    for place, level in zip(at, index[:-1], strict=True):  # everything that costs as much or more is at least at this level
        beyond = tuple(slice(int(np.searchsorted(cuts[j], place[j])) + 1, None) for j in range(k))
        cells[beyond] = np.maximum(cells[beyond], level)
    which = np.zeros((cells.size, len(levels)))
    which[np.arange(cells.size), cells.ravel()] = 1.0
    sizes = np.empty((len(costs), len(levels)))
    step = max(1, CHUNK // cells.size)
    for start in range(0, len(costs), step):
        part = costs[start : start + step]
        covered = np.ones((len(part), 1))
        for j in range(k):
            along = np.maximum(0.0, highs[j] - np.maximum(lows[j], part[:, j : j + 1]))
            covered = (covered[:, :, None] * along[:, None]).reshape(len(part), -1)
        sizes[start : start + step] = covered @ which
    return levels, sizes


def sampled_staircase(values: Array, at: Array, costs: Array, floor: float, ceiling: Array) -> tuple[Array, Array]:
    """What `staircase` gives, by the shares of Sobol points between every row of costs and the ceiling that lie at each level: the same
    points at every call, of the same relative places for every row."""
    from scipy.stats import qmc

    n, k = costs.shape
    unit = qmc.Sobol(k, scramble=False).random(POINTS) + 0.5 / POINTS
    levels, index = np.unique(np.append(values, floor), return_inverse=True)
    order = np.argsort(-values, kind="stable")
    at, steps = at[order], np.append(index[:-1][order], index[-1])  # from the highest step down to the floor
    spans = np.maximum(0.0, ceiling - costs)
    sizes = np.empty((n, len(levels)))
    step = max(1, CHUNK // (POINTS * len(steps)))
    for start in range(0, n, step):
        part = costs[start : start + step]
        below = np.ones((len(part), POINTS, len(steps)), dtype=bool)
        for j in range(k):
            places = part[:, j : j + 1] + spans[start : start + step, j : j + 1] * unit[:, j]
            below[:, :, :-1] &= places[:, :, None] >= at[:, j]
        highest = steps[below.argmax(axis=2)] + len(levels) * np.arange(len(part))[:, None]
        sizes[start : start + step] = np.bincount(highest.ravel(), minlength=len(part) * len(levels)).reshape(len(part), -1)
    return levels, sizes * spans.prod(axis=1, keepdims=True) / POINTS
