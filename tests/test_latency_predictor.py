"""The predictor on devices that are made up, so that the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from vitnas.roadmap.cost import cost
from vitnas.roadmap.steps import select
from vitnas.roadmap.tracks import track
from vitnas.roadmap.zoo import variant
from vitnas.studies.latency.deploy import deployed, deployed_spec
from vitnas.studies.latency.device import LatencyError
from vitnas.studies.latency.measure import Subject
from vitnas.studies.latency.predictor import Piece, Predictor, pieces
from vitnas.studies.latency.regression import PENALTIES, diverse, fit

TRACK = track("convnext-t")


def space(count: int, seed: int) -> list[Subject]:
    """Networks of the track at scale micro: the steps in order up to a random one, with kernels and depths of their own."""
    rng = np.random.default_rng(seed)
    rungs = select(TRACK, "all").cumulative()
    network = {s.name for s in TRACK.steps if s.owner == "network"}
    out: dict[str, Subject] = {}
    while len(out) < count:
        choice = {k: v for k, v in rungs[rng.integers(len(rungs))].choice.items() if k in network}
        if "depthwise" in choice:
            choice["kernel-size"] = int(rng.choice([3, 5, 7, 9, 11]))
        for name in ("activation", "patchify", "stage-ratio", "layer-norm"):
            if name in choice and rng.random() < 0.4 and not any(name in s.requires for s in TRACK.steps if s.name in choice):
                del choice[name]
        spec = TRACK.spec(choice, scale="micro", input_size=32, classes=10)
        out.setdefault(spec.fingerprint, Subject(name=f"net{len(out)}", spec=spec, input_size=32))
    return list(out.values())


def device(piece: Piece) -> float:
    """A made-up device's milliseconds for a piece: multiply-adds, memory, and a start for every layer."""
    sites = list(piece.spec.walk(piece.size))
    moved = sum(math.prod(site.output) for site in sites)
    return cost(piece.spec, piece.size).macs / 5e6 + moved / 1e6 + 0.01 * len(sites)


def truth(subject: Subject, rng: np.random.Generator) -> float:
    """Its time for a network: less than its pieces' sum, and 1 % of noise."""
    return float(0.8 * sum(device(p) for p in pieces(subject)) ** 0.95 * math.exp(rng.normal(0, 0.01)))


def test_pieces_are_networks_that_run_alone() -> None:
    """All sections of a deployed network, each on maps of its input's shape; together they have its parameters, and a classifier each."""
    subject = Subject(name="c", spec=variant("convnext-micro").spec(), input_size=32)
    parts = pieces(subject)
    whole = deployed_spec(subject.spec)
    assert len(parts) == len(list(whole.sections())) + 1
    added = sum(8 * (part.spec.shapes(part.size)["stem"][0] + 1) for part in parts[:-1])  # each has a classifier
    assert sum(cost(p.spec, p.size).params for p in parts) == cost(whole, 32).params + added
    for part in parts[:3]:
        assert deployed(part.spec, part.size).spec.fingerprint == deployed_spec(part.spec).fingerprint


def test_networks_of_tokens_are_refused() -> None:
    """Their sections do not run alone on square maps."""
    with pytest.raises(LatencyError, match="works on sequences of tokens"):
        pieces(Subject(name="deit", spec=variant("deit-micro").spec(), input_size=variant("deit-micro").input_size))


def test_unseen_networks_are_predicted_and_bounded() -> None:
    """From 16 measured networks the others are ranked as the device ranks them, intervals hold, and few admitted ones exceed a limit."""
    rng = np.random.default_rng(0)
    subjects = space(36, seed=1)
    measured, unseen = subjects[:16], subjects[16:]
    table = {p.key: device(p) for s in measured for p in pieces(s)}
    predictor = Predictor.learn(measured, [truth(s, rng) for s in measured], table)
    assert predictor.error.readings == 16 and predictor.error.spearman > 0.9 and "16 readings" in str(predictor.error)
    times = np.array([truth(s, rng) for s in unseen])
    found = predictor.predict(unseen)
    assert spearmanr([p.milliseconds for p in found], times)[0] > 0.95
    inside = np.mean([p.low <= t <= p.high for p, t in zip(found, times, strict=True)])
    assert inside >= 0.75
    limit = float(np.median(times))
    admitted = predictor.admit(unseen, limit)
    slow = [s for s in admitted if times[[u.name for u in unseen].index(s.name)] > limit]
    assert admitted and len(slow) <= 0.1 * len(admitted) + 1


def test_too_few_networks_are_refused() -> None:
    """Intervals from a handful would say nothing."""
    with pytest.raises(LatencyError, match="8 measured networks"):
        Predictor.learn(space(3, seed=0), [1.0, 2.0, 3.0], {})


def test_ridge_finds_a_linear_law() -> None:
    """Close to the truth on new points from twenty noisy readings, and its left-out predictions are those of fits without them."""
    rng = np.random.default_rng(0)
    points, law = rng.normal(size=(120, 5)), np.array([3.0, -2.0, 1.0, 0.5, 0.0])
    values = points @ law + 7 + rng.normal(0, 0.1, 120)
    ridge = fit(points[:20], values[:20])
    assert np.corrcoef(ridge.predict(points[20:]), values[20:])[0, 1] > 0.98
    without = fit(points[1:20], values[1:20], population=points[:20])
    if without.penalty == ridge.penalty:
        assert ridge.values[0] - ridge.errors[0] == pytest.approx(without.predict(points[:1])[0])
    assert ridge.values[0] - ridge.errors[0] == pytest.approx(ridge.without(0, points[:1])[0])
    with pytest.raises(ValueError, match="4 readings"):
        fit(points[:3], values[:3])


@pytest.mark.parametrize(("n", "d", "level"), [(4, 2, 0.0), (9, 30, -7.0), (40, 6, 1e3)])
def test_fits_without_a_reading_are_those_fitted_without_it(n: int, d: int, level: float) -> None:
    """From one inverse, to 1e-9: their predictions, errors, bounds and the penalty that is chosen by them. Equal rows and a column that
    never differs are no trouble."""
    rng = np.random.default_rng(n)
    features, new = rng.normal(size=(n, d)), rng.normal(size=(5, d))
    features[1], features[:, 0] = features[0], 3.0
    values = level + features @ rng.normal(size=d) + rng.normal(size=n)
    tried = {}
    for penalty in PENALTIES:
        ridge = fit(features, values, penalty=penalty)
        naive = np.array([values[i] - ridge.without(i, features[i : i + 1])[0] for i in range(n)])
        assert ridge.errors == pytest.approx(naive, abs=1e-9)
        tried[penalty] = float(np.mean(naive**2))
        fits = np.stack([ridge.without(i, new) for i in range(n)])
        rank = min(n, math.ceil(0.8 * (n + 1))) - 1
        bounds = [np.sort(fits + sign * np.abs(naive)[:, None], axis=0) for sign in (-1, 1)]
        low, high = ridge.interval(new, 0.8)
        assert low == pytest.approx(bounds[0][n - 1 - rank], abs=1e-9) and high == pytest.approx(bounds[1][rank], abs=1e-9)
        assert ridge.upper(new, 0.8) == pytest.approx(np.sort(fits + naive[:, None], axis=0)[rank], abs=1e-9)
    assert fit(features, values).penalty == min(tried, key=lambda p: tried[p])


def test_a_fit_to_many_readings_takes_one_solution_for_each_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one for each reading: with hundreds of them a search would stand still after every measuring."""
    sizes: list[int] = []

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(matrix: Any, *rest: Any) -> Any:
            sizes.append(len(matrix))
            return real(matrix, *rest)

        return call

    for name in ("inv", "solve"):
        monkeypatch.setattr(np.linalg, name, counted(getattr(np.linalg, name)))
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 8))
    fit(features, features.sum(axis=1)).interval(features, 0.9)
    assert len(sizes) == len(PENALTIES) + 1


def test_intervals_are_calibrated() -> None:
    """Over many small data sets, nine in ten hold the new value, and the upper bound is seldom exceeded."""
    held, exceeded, count = 0, 0, 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        points = rng.normal(size=(40, 4))
        values = points @ np.array([1.0, 2.0, 0.0, -1.0]) + rng.standard_t(4, 40) * 0.3
        ridge = fit(points[:20], values[:20])
        low, high = ridge.interval(points[20:], 0.9)
        held += int(np.sum((low <= values[20:]) & (values[20:] <= high)))
        exceeded += int(np.sum(values[20:] > ridge.upper(points[20:], 0.95)))
        count += 20
    assert held / count >= 0.87
    assert exceeded / count <= 0.08


def test_diverse_readings_tell_more_than_random_ones() -> None:
    """Readings that are chosen cover directions that random ones miss; none is chosen twice."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 0.05, (195, 5)), np.eye(5) * 3])
    chosen = diverse(points, 5)
    assert sorted(chosen) == [195, 196, 197, 198, 199]
    assert len(set(diverse(points, 50))) == 50
