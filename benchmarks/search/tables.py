"""Tables of real trainings, as games to search: choices, an objective, a judge and a cost for every row."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Cell = tuple[tuple[int, int, str], ...]  # edges: from, to, operation

NB201, MACRO, ACCEL = "nb201_lowfi_latency.csv.gz", "nb_macro.csv.gz", "accel_nb.csv.gz"
DEVICES = ("1080ti_1", "1080ti_32", "2080ti_1", "2080ti_32", "titanxp_1", "titanxp_32")
DEVICES += ("gold_6226", "silver_4114", "silver_4210r", "pixel2", "samsung_a50")
DATA_SETS = ("cifar10", "cifar100", "imagenet")
# Hyper-parameters were chosen on these and frozen before any of SCORED was run.
DEVELOPMENT = (
    "nb201-cifar100-1080ti_1",
    "nb201-cifar100-pixel2",
    "nb201-imagenet-silver_4210r",
    "macro-seed1-params",
    "accel-throughput_tpuv3",
    "accel-throughput_tpuv2",
)
SCORED = (
    *(f"nb201-cifar10-{device}" for device in DEVICES),
    "macro-seed0-macs",
    *(
        f"accel-{c}"
        for c in ("throughput_a100", "throughput_3090", "latency_zcu102", "throughput_zcu102", "latency_vck190", "throughput_vck190")
    ),
)
NAMED = ("nb201-cifar10-pixel2", "macro-seed0-macs", "accel-throughput_a100")  # the three for searchers that take long


@dataclass(frozen=True)
class Table:
    """Rows of a table. choices (n, e): the level of every choice, from 0; `levels` (e,): how many each has; `ordered` (e,): whether their
    order means something. objective, judge (n,): maximised. cost (n,): its logarithm counts, minimised. kind (n,): equal for spellings of
    one network. counted (n, q): what else the choices come to without training, parameters say, each in [0, 1]."""

    name: str
    choices: Ints
    ordered: tuple[bool, ...]
    objective: Floats
    judge: Floats
    cost: Floats
    kind: Ints
    counted: Floats

    @cached_property
    def levels(self) -> tuple[int, ...]:
        return tuple(int(v) + 1 for v in self.choices.max(axis=0))

    @cached_property
    def features(self) -> Floats:
        """Ordered choices in [0, 1], others one-hot: as a space of `vitnas` gives them to its searcher."""
        columns: list[Floats] = []
        for j, (levels, ordered) in enumerate(zip(self.levels, self.ordered, strict=True)):
            if ordered:
                columns.append(self.choices[:, j] / max(1, levels - 1))
            else:
                columns += [(self.choices[:, j] == level).astype(np.float64) for level in range(levels)]
        return np.column_stack(columns)

    @cached_property
    def representatives(self) -> Ints:
        """For every row, the row of the same network that costs least."""
        best: dict[int, int] = {}
        for i in np.argsort(self.cost, kind="stable"):
            best.setdefault(int(self.kind[i]), int(i))
        return np.array([best[int(k)] for k in self.kind])

    @cached_property
    def _exact(self) -> dict[tuple[int, ...], int]:
        return {tuple(row): i for i, row in reversed(list(enumerate(self.choices.tolist())))}

    def row(self, choices: Sequence[int]) -> int | None:
        """The row of these choices; None where the table does not have it."""
        return self._exact.get(tuple(int(c) for c in choices))

    def nearest(self, choices: Sequence[int], rows: Ints) -> int:
        """Of these rows the one whose choices are least apart from the given ones."""
        apart = np.abs(self.choices[rows] - np.asarray(choices)) / np.maximum(1, np.array(self.levels) - 1)
        return int(rows[np.argmin(np.where(self.ordered, apart, apart > 0).sum(axis=1))])


def digits(strings: Sequence[str]) -> list[list[str]]:
    """`"2012100"` as a choice a character; zeros that were lost in front are put back."""
    longest = max(len(s) for s in strings)
    return [list(s.zfill(longest)) for s in strings]


def tokens(strings: Sequence[str]) -> list[list[str]]:
    """`"|avg_pool~0|+|..."`, `"3-5-1"`: words between separators. Where all are one word, its characters."""
    out = [re.findall(r"[A-Za-z0-9_.]+(?:~\d+)?", s) for s in strings]
    if {len(words) for words in out} == {1}:
        return digits([words[0] for words in out])
    if len({len(words) for words in out}) > 1:
        raise ValueError("every row of the arch column must have as many choices as the first; give columns of one choice each instead")
    return out


def coded(columns: Sequence[Sequence[Any]]) -> tuple[Ints, tuple[bool, ...]]:
    """Levels of columns of values: numbers are ordered, words are not."""
    codes, ordered = [], []
    for column in columns:
        values = pd.Series(list(column))
        numeric = pd.to_numeric(values, errors="coerce")
        is_number = bool(numeric.notna().all())
        codes.append(pd.factorize(numeric if is_number else values, sort=True)[0])
        ordered.append(is_number)
    return np.column_stack(codes).astype(np.int64), tuple(ordered)


def table(
    name: str,
    choices: Ints,
    ordered: Sequence[bool],
    columns: Mapping[str, Floats],
    *,
    kind: Ints | None = None,
    counted: Sequence[Floats] = (),
) -> Table:
    """A table of the rows whose columns (objective, judge, cost) are known. Raises `ValueError` where a cost is not positive."""
    known = np.isfinite(np.column_stack([columns["objective"], columns["judge"], columns["cost"]])).all(axis=1)
    if not known.any() or not (columns["cost"][known] > 0).all():
        raise ValueError(f"{name}: costs must be known and positive; their logarithm is an axis of the front")
    if kind is None:
        kind = pd.factorize(pd.Series([tuple(r) for r in choices.tolist()]))[0].astype(np.int64)
    objective, judge, cost = (np.asarray(columns[c], dtype=np.float64)[known] for c in ("objective", "judge", "cost"))
    scaled = [(c[known] - c[known].min()) / np.ptp(c[known]) for c in counted]
    return Table(
        name=name,
        choices=choices[known],
        ordered=tuple(ordered),
        objective=objective,
        judge=judge,
        cost=cost,
        kind=kind[known],
        counted=np.array(scaled).reshape(len(scaled), len(cost)).T,
    )


def read(path: Path, arch: Sequence[str], objective: str, judge: str, cost: str) -> Table:
    """Any table. `arch`: one column of spelled networks, or a column a choice. A cost that is called throughput is more the better."""
    frame = pd.read_csv(path, dtype=dict.fromkeys(arch, str))
    missing = [c for c in (*arch, objective, judge, cost) if c not in frame]
    if missing:
        raise ValueError(f"{path.name} has no column {missing[0]!r}; it has {', '.join(frame.columns)}")
    if len(arch) == 1:
        words = tokens(frame[arch[0]].tolist())
        choices, ordered = coded([[row[j] for row in words] for j in range(len(words[0]))])
        ordered = tuple(False for _ in ordered)  # digits of a spelled network are names of blocks
    else:
        choices, ordered = coded([frame[c].tolist() for c in arch])
    values = {"objective": frame[objective], "judge": frame[judge], "cost": frame[cost]}
    if cost.startswith("throughput"):
        values["cost"] = 1 / frame[cost]
    return table(path.name, choices, ordered, {k: v.to_numpy(dtype=np.float64) for k, v in values.items()})


def known(folder: Path) -> dict[str, Callable[[], Table]]:
    """The tables of shared/nas-tables by name."""
    out: dict[str, Callable[[], Table]] = {}
    for data in DATA_SETS:
        for device in DEVICES:
            out[f"nb201-{data}-{device}"] = lambda data=data, device=device: _nb201(folder, data, device)
    for seed in range(3):
        for cost in ("macs", "params"):
            out[f"macro-seed{seed}-{cost}"] = lambda seed=seed, cost=cost: _macro(folder, seed, cost)
    with gzip.open(folder / ACCEL, "rt") as file:
        header = file.readline().strip().split(",")
    for column in header:
        if column.endswith("__mean"):
            out["accel-" + column.removesuffix("__mean")] = lambda c=column: _accel(folder, c)
    return out


@cache
def _cells(folder: Path) -> tuple[pd.DataFrame, Ints, tuple[bool, ...], Ints, list[Floats]]:
    """All of NAS-Bench-201: frame, choices, which are ordered, network of every row, what is counted."""
    frame = pd.read_csv(folder / NB201)
    words = tokens(frame["arch"].tolist())
    choices, ordered = coded([[row[j] for row in words] for j in range(len(words[0]))])
    networks = [network_of_cell(a) for a in frame["arch"]]
    kind = pd.factorize(pd.Series([repr(n) for n in networks]))[0].astype(np.int64)
    return frame, choices, ordered, kind, list(np.array([counts(n) for n in networks]).T)


def _nb201(folder: Path, data: str, device: str) -> Table:
    frame, choices, ordered, kind, counted = _cells(folder)
    names = {"objective": f"acc_lowfi_{data}_val", "judge": f"acc_lowfi_{data}_test", "cost": f"latency_ms_{device}"}
    columns = {k: frame[c].to_numpy(float) for k, c in names.items()}
    return table(f"nb201-{data}-{device}", choices, ordered, columns, kind=kind, counted=counted)


def _macro(folder: Path, seed: int, cost: str) -> Table:
    """The accuracy of one seed is the objective, the mean of three the judge."""
    frame = pd.read_csv(folder / MACRO, dtype={"arch": str})
    words = digits(frame["arch"].tolist())
    choices, ordered = coded([[row[j] for row in words] for j in range(len(words[0]))])
    seeds = frame[["acc_seed0", "acc_seed1", "acc_seed2"]].to_numpy(float)
    columns = {"objective": seeds[:, seed], "judge": seeds.mean(axis=1), "cost": frame[cost].to_numpy(float)}
    counted = [np.log(frame[c].to_numpy(float)) for c in ("params", "macs")]
    return table(f"macro-seed{seed}-{cost}", choices, [False] * len(ordered), columns, counted=counted)


def _accel(folder: Path, cost: str) -> Table:
    frame = pd.read_csv(folder / ACCEL)
    choices, ordered = coded([frame[c].tolist() for c in frame.columns if c.startswith("block")])
    value = frame[cost].to_numpy(float)
    top1 = frame["val_top1"].to_numpy(float)
    columns = {"objective": top1, "judge": top1, "cost": 1 / value if cost.startswith("throughput") else value}
    counted = [np.log(frame[c].to_numpy(float)) for c in ("params", "macs")]
    return table("accel-" + cost.removesuffix("__mean"), choices, ordered, columns, counted=counted)


def counts(network: Cell) -> list[float]:
    """What is counted of a cell: weights, in those of a 1x1 convolution; edges of every operation; ways from input to output; most and
    fewest convolutions on a way, fewest operations that are no skip, and most poolings. -1 throughout where there is no way."""
    ways = _ways(network)
    if not ways:
        return [-1.0] * 10
    ops = [op for _, _, op in network]
    convolutions = [sum(op.startswith("nor_conv") for op in way) for way in ways]
    poolings = [way.count("avg_pool_3x3") for way in ways]
    each = [ops.count(op) for op in ("nor_conv_3x3", "nor_conv_1x1", "skip_connect", "avg_pool_3x3")]
    fewest = min(c + p for c, p in zip(convolutions, poolings, strict=True))
    return [float(v) for v in (9 * each[0] + each[1], *each, len(ways), max(convolutions), min(convolutions), fewest, max(poolings))]


def _ways(network: Cell, node: int = 0) -> list[tuple[str, ...]]:
    """The operations on every way from a node to the output."""
    return [()] if node == 3 else [(op, *rest) for a, b, op in network if a == node for rest in _ways(network, b)]


def network_of_cell(arch: str) -> Cell:
    """What a NAS-Bench-201 cell computes: its edges without `none`, without what does not lie on a way from input to output, with nodes
    merged that only pass on or are only passed on, and the two inner nodes in one order. 15,625 cells are 5,425 such networks (6,466 by the
    strings of the paper, which leave dead branches in)."""
    edges = [
        (int(t.split("~")[1]), node, t.split("~")[0]) for node, part in enumerate(arch.split("+"), 1) for t in part.strip("|").split("|")
    ]
    edges = [e for e in edges if e[2] != "none"]
    while True:
        reached, leads = {0}, {3}
        for _ in range(3):
            reached |= {b for a, b, _ in edges if a in reached}
            leads |= {a for a, b, _ in edges if b in leads}
        live = reached & leads
        edges = [e for e in edges if e[0] in live and e[1] in live]
        if 3 not in reached:
            return ()
        passing = next(_passing(edges), None)
        if passing is None:
            break
        gone, node, other, incoming = passing
        edges = [e for e in edges if e is not gone]
        edges = [(other if a == node and incoming else a, other if b == node and not incoming else b, op) for a, b, op in edges]

    def named(order: dict[int, int]) -> Cell:
        return tuple(sorted((order[a], order[b], op) for a, b, op in edges))

    return min(named({0: 0, 1: 1, 2: 2, 3: 3}), named({0: 0, 1: 2, 2: 1, 3: 3}))


def _passing(edges: list[tuple[int, int, str]]) -> Iterator[tuple[tuple[int, int, str], int, int, bool]]:
    """Inner nodes whose only input, or only output, is a skip connection: that edge, the node, the other end, whether it comes in."""
    for node in (1, 2):
        into, out = [e for e in edges if e[1] == node], [e for e in edges if e[0] == node]
        if len(into) == 1 and into[0][2] == "skip_connect":
            yield into[0], node, into[0][0], True
        if len(out) == 1 and out[0][2] == "skip_connect":
            yield out[0], node, out[0][1], False
