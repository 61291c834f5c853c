"""A predictor for shortlists: measured blocks added up, and a correction learned from measured networks. What is reported is measured.

    network --deploy--> blocks --look-up--> sum of ms --correction (ridge on logarithms)--> ms with a calibrated interval

Blocks are measured alone, as networks of their own, by the protocol that measures networks, and kept in the store like these. A block
that nobody measured is estimated from those that were, as the sum of what its layers take (`fit_times`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from ...roadmap.cost import cost
from ...roadmap.counts import count_layer
from ...roadmap.layers import Conv, Layers, Shape
from ...roadmap.spec import Head, NetSpec, canonical_json, to_dict
from ..store import Store
from .deploy import deployed_spec
from .device import Conditions, LatencyError
from .measure import Subject, measure
from .protocol import Effort
from .regression import Ridge, fit

Floats = NDArray[np.float64]
BRIEF = Effort(seconds=0.4, processes=2, allocations=1, extend=0, widest=math.inf, energy=False)
CLASSES = 8  # of a piece that is no head: parity needs outputs that differ
COVERAGE = 0.9
SHRINK = 1e-3  # of the times of layers towards 0, where what was measured does not tell them apart
LIMIT_COVERAGE = 0.95  # of networks admitted under a limit, at most the rest may measure above it


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A section of a deployed network, as a network of its own on maps of its input's shape."""

    spec: NetSpec
    size: int

    @cached_property
    def key(self) -> str:
        """What tells it from other pieces: the layers and the shape of its input."""
        text = canonical_json([to_dict(self.spec), self.size])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """A predicted latency (ms) with its interval (90 %); `upper` is the bound that decides under a limit (95 %, one-sided)."""

    name: str
    milliseconds: float
    low: float
    high: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class Error:
    """How wrong the predictor is on readings it did not see: each left out in turn. `typical` and `largest` are fractions of the truth."""

    readings: int
    typical: float
    largest: float
    spearman: float

    def __str__(self) -> str:
        return (
            f"left out in turn, {self.readings} readings were predicted within {self.typical:.1%} (median), {self.largest:.1%} at worst, "
            f"rank correlation {self.spearman:.3f}"
        )


@cache
def pieces(subject: Subject) -> tuple[Piece, ...]:
    """The sections of a network's deployment form, in order; the head counts as one.

    LatencyError for a network of token sequences, whose sections cannot run alone on square maps.
    """
    spec = deployed_spec(subject.spec)
    shape: Shape = (spec.in_channels, subject.input_size, subject.input_size)
    out = []
    body = Head(classes=CLASSES)
    sections: list[tuple[Layers, Head]] = [(layers, body) for path, layers in spec.sections() if not path.startswith("head")]
    for layers, head in [*sections, ((), spec.head)]:
        if shape[1] != shape[2]:
            raise LatencyError(f"{subject.name} works on sequences of tokens, which the predictor does not know: measure it")
        out.append(Piece(spec=NetSpec(stem=layers, stages=(), head=head, in_channels=shape[0]), size=shape[1]))
        for layer in layers:
            shape = layer.output(shape)
    return tuple(out)


def look_up(
    store: Store,
    subjects: Sequence[Subject],
    conditions: Conditions,
    effort: Effort = BRIEF,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, float]:
    """Milliseconds of every distinct piece of `subjects` under `conditions`, by the piece's key; known ones come from the store."""
    distinct = {piece.key: piece for subject in subjects for piece in pieces(subject)}
    asked = [Subject(name=f"piece-{key}", spec=piece.spec, input_size=piece.size) for key, piece in distinct.items()]
    readings = measure(store, asked, conditions, effort, say=say)
    return {key: reading.latency.typical for key, reading in zip(distinct, readings, strict=True)}


class Predictor:
    """Fitted to measured networks under one device key; `error` says how well it does on readings left out."""

    def __init__(self, table: Mapping[str, float], correction: Ridge, times: PieceTimes, error: Error) -> None:
        self._table, self._correction, self._times = dict(table), correction, times
        self.error = error

    @classmethod
    def learn(cls, subjects: Sequence[Subject], milliseconds: Sequence[float], table: Mapping[str, float]) -> Predictor:
        """The predictor from measured networks and the look-up `table` of their pieces.

        ValueError for fewer than 8 networks: intervals would say nothing.
        """
        if len(subjects) < 8:
            raise LatencyError(f"a predictor needs 8 measured networks at least, not {len(subjects)}: measure more")
        known = {p.key: p for s in subjects for p in pieces(s) if p.key in table}
        times = fit_times(known, table)
        features, sums = zip(*(_network_features(s, table, times) for s in subjects), strict=True)
        measured = np.log(milliseconds)
        correction = fit(np.stack(features), measured - np.log(sums))
        # A network that was never measured has pieces that were not either: so each is predicted here without the ones it alone has.
        errors = np.zeros(len(subjects))
        for i, subject in enumerate(subjects):
            theirs = {p.key for j, s in enumerate(subjects) if j != i for p in pieces(s)}
            rest = {key: piece for key, piece in known.items() if key in theirs}
            own, total = _network_features(subject, {k: table[k] for k in rest}, fit_times(rest, table))
            errors[i] = measured[i] - math.log(total) - correction.without(i, own[None])[0]
        correction = replace(correction, errors=errors)
        predicted = np.exp(measured - errors)
        wrong = np.abs(np.exp(-errors) - 1)
        from scipy.stats import spearmanr

        error = Error(
            readings=len(subjects),
            typical=float(np.median(wrong)),
            largest=float(wrong.max()),
            spearman=float(spearmanr(predicted, milliseconds)[0]),
        )
        return cls(table, correction, times, error)

    def predict(self, subjects: Sequence[Subject]) -> list[Prediction]:
        """Latencies (ms) of `subjects` in their order, with calibrated intervals."""
        if not subjects:
            return []
        features, sums = zip(*(_network_features(s, self._table, self._times) for s in subjects), strict=True)
        x, base = np.stack(features), np.array(sums)
        middle = np.exp(self._correction.predict(x)) * base
        low, high = (np.exp(bound) * base for bound in self._correction.interval(x, COVERAGE))
        upper = np.exp(self._correction.upper(x, LIMIT_COVERAGE)) * base
        return [
            Prediction(name=s.name, milliseconds=float(m), low=float(lo), high=float(hi), upper=float(max(u, m)))
            for s, m, lo, hi, u in zip(subjects, middle, low, high, upper, strict=True)
        ]

    def admit(self, subjects: Sequence[Subject], limit_ms: float) -> list[Subject]:
        """Those whose upper bound lies within the limit."""
        return [s for s, p in zip(subjects, self.predict(subjects), strict=True) if p.upper <= limit_ms]


def learn(
    store: Store,
    subjects: Sequence[Subject],
    conditions: Conditions,
    effort: Effort | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
) -> Predictor:
    """Measure `subjects` and their pieces (or take what the store knows) and fit the predictor."""
    readings = measure(store, subjects, conditions, effort, say=say)
    return Predictor.learn(subjects, [r.latency.typical for r in readings], look_up(store, subjects, conditions, say=say))


def fit_times(known: Mapping[str, Piece], table: Mapping[str, float]) -> PieceTimes:
    """What estimates the pieces that are not in the table, fitted to those that are: non-negative least squares of relative errors."""
    from scipy.optimize import nnls

    counted = [_counted(piece) for piece in known.values()]
    columns = tuple(sorted({column for c in counted for column in c}))
    amounts = np.array([[c.get(column, 0.0) for column in columns] for c in counted])
    scale = amounts.max(axis=0)
    points = amounts / scale / np.array([[table[key]] for key in known])
    held = math.sqrt(SHRINK) * np.eye(len(columns))  # columns that tell the same share what they tell
    found, _ = nnls(np.vstack([points, held]), np.concatenate([np.ones(len(points)), np.zeros(len(columns))]))
    return PieceTimes(columns=columns, each=found / scale)


@dataclass(frozen=True, kw_only=True)
class PieceTimes:
    """Times (ms) of a piece's layers, added up: `each` (n,) is what one of a column's things takes."""

    columns: tuple[str, ...]
    each: Floats

    def of(self, piece: Piece) -> float:
        """Milliseconds of a piece that was not measured; not 0, whatever its layers."""
        counted = _counted(piece)
        amounts = np.array([counted.get(column, 0.0) for column in self.columns])
        return max(float(amounts @ self.each), 1e-6)


def _network_features(subject: Subject, table: Mapping[str, float], times: PieceTimes) -> tuple[Floats, float]:
    """What the correction goes by, and the sum of the pieces (ms)."""
    parts = pieces(subject)
    total = sum(table[p.key] if p.key in table else times.of(p) for p in parts)
    calls = sum(_counted(p)["calls"] for p in parts)
    macs, params = _work(subject)
    return np.array([math.log(total), len(parts) / total, calls / total, macs / total, params / total]), total


@cache
def _counted(piece: Piece) -> Mapping[str, float]:
    """A piece's layers, the numbers in the maps that they give, their multiply-adds and parameters: by kind of layer, and in all."""
    shape: Shape = (piece.spec.in_channels, piece.size, piece.size)
    out: dict[str, float] = {}
    for _, layers in piece.spec.sections():
        shape = _count(layers, shape, out)
    _add(out, "head", calls=1, maps=math.prod(shape), macs=shape[0] * piece.spec.head.classes, params=0)
    return out


def _count(layers: Layers, shape: Shape, out: dict[str, float]) -> Shape:
    """Add what `layers` come to on maps of `shape` to `out`; gives the shape after them."""
    for layer in layers:
        given, inner = layer.output(shape), layer.children()
        for child in inner:
            _count(child, shape, out)
        kind = layer.kind
        if isinstance(layer, Conv):
            kind = "grouped conv" if layer.groups > 1 else "pointwise conv" if layer.kernel == 1 else "conv"
        params, macs = (0, 0) if inner else count_layer(layer, shape)
        _add(out, kind, calls=1, maps=math.prod(given), macs=macs, params=params)
        shape = given
    return shape


def _add(out: dict[str, float], kind: str, **amounts: float) -> None:
    for what, amount in amounts.items():
        if amount:
            out[what] = out.get(what, 0.0) + amount
            out[f"{kind} {what}"] = out.get(f"{kind} {what}", 0.0) + amount


@cache
def _work(subject: Subject) -> tuple[int, int]:
    """Multiply-adds and parameters of a network's deployment form."""
    counted = cost(deployed_spec(subject.spec), subject.input_size)
    return counted.macs, counted.params
