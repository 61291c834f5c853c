"""Fronts, ranks and hypervolumes: by hand, by brute force, and against counting random points."""

from __future__ import annotations

import numpy as np
import pytest

from vitnas.studies.search import pareto


def brute(values: np.ndarray) -> list[bool]:
    return [not any((other >= row).all() and (other > row).any() for other in values) for row in values]


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_the_front_is_what_no_row_passes_over(m: int) -> None:
    rng = np.random.default_rng(m)
    values = rng.integers(0, 6, (60, m)).astype(float)  # ties and equal rows abound
    signs = np.where(np.arange(m) % 2 == 0, 1, -1)
    assert pareto.non_dominated(values * signs, list(signs > 0)).tolist() == brute(values)


def test_ranks_peel_one_front_after_another() -> None:
    values = [[80.0, 3.0], [80.0, 3.0], [79.0, 4.0], [82.0, 5.0], [70.0, 9.0]]  # accuracy up, latency down
    assert pareto.ranks(values, [True, False]).tolist() == [0, 0, 1, 0, 2]


def test_directions_must_fit_the_columns() -> None:
    with pytest.raises(ValueError, match="a column for each of the 3 directions"):
        pareto.non_dominated([[1.0, 2.0]], [True, False, False])


def test_hypervolumes_by_hand() -> None:
    assert pareto.hypervolume([[2.0, 1.0], [1.0, 3.0], [1.0, 1.0]], [0.0, 0.0]) == 4.0
    assert pareto.hypervolume([[2.0, 1.0, 1.0], [1.0, 2.0, 2.0]], [0.0, 0.0, 0.0]) == 5.0
    assert pareto.hypervolume([[5.0, -1.0]], [0.0, 0.0]) == 0.0
    assert pareto.hypervolume(np.empty((0, 2)), [0.0, 0.0]) == 0.0


@pytest.mark.parametrize("m", [2, 3, 4, 5, 6])
def test_hypervolume_is_the_share_of_random_points_below_the_front(m: int) -> None:
    rng = np.random.default_rng(0)
    points, probes = rng.random((12, m)), rng.random((100_000, m))
    below = np.any(np.all(probes[:, None, :] <= points[None], axis=2), axis=1)
    assert pareto.hypervolume(points, np.zeros(m)) == pytest.approx(below.mean(), abs=4 * 0.5 / np.sqrt(len(probes)))


def test_both_ways_to_a_hypervolume_agree() -> None:
    """Also where rows are equal, or passed over."""
    points = np.random.default_rng(1).integers(1, 6, (40, 4)).astype(float)
    assert pareto._volume_by_points(points) == pytest.approx(pareto._volume(points))


def test_the_hypervolume_of_many_columns_is_a_matter_of_seconds() -> None:
    """Sixty networks of accuracy and five costs, half of them passed over: slices alone took hours."""
    points = np.random.default_rng(0).random((60, 6))
    assert pareto.hypervolume(np.vstack([points, 0.9 * points]), np.zeros(6)) == pytest.approx(pareto.hypervolume(points, np.zeros(6)))
