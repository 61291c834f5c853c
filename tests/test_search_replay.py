"""The benchmark of searches: its protocol on tables small enough for a pencil, its readers on the real ones, its command."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
TABLES = Path(os.environ.get("VITNAS_SHARED", BENCHMARKS.parent / "shared")) / "nas-tables"


@pytest.fixture
def replay(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The parts of the benchmark, imported as its command imports them."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from search import protocol, runs, tables

    return SimpleNamespace(protocol=protocol, runs=runs, tables=tables)


def small(replay: SimpleNamespace) -> Any:
    """Four networks, costs 1, e, e^2, e^4. The judge's front is rows 0, 1, 3; by the objective's luck row 2 is on it and row 1 is not."""
    choices = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    objective, judge = np.array([50.0, 49.0, 70.0, 91.0]), np.array([50.0, 80.0, 60.0, 90.0])
    return replay.tables.Table(
        "small", choices, (False, False), objective, judge, np.exp([0.0, 1.0, 2.0, 4.0]), np.arange(4), np.empty((4, 0))
    )


def test_the_protocol_by_hand(replay: SimpleNamespace) -> None:
    scorer = replay.protocol.Scorer(small(replay))
    # Judge: 50 to 90 is 0 to 1. Cost: 0 to 4 in logarithms is 1 to 0. Nadir (0, 0), so that the reference is (-0.1, -0.1).
    assert scorer.scaled.tolist() == [[0.0, 1.0], [0.75, 0.75], [0.25, 0.5], [1.0, 0.0]]
    assert scorer.reference == pytest.approx([-0.1, -0.1])
    assert scorer.dearest == pytest.approx(math.exp(4.4))
    # Chosen from the whole table: rows 0, 2, 3 by the objective; by the judge that is worth, in strips of accuracy:
    best = 0.1 * 1.1 + 0.25 * 0.6 + 0.75 * 0.1
    assert scorer.best == pytest.approx(best)
    assert scorer.curve([3, 3, 1, 0, 2]) == pytest.approx(
        np.array([1.1 * 0.1, 1.1 * 0.1, 0.85 * 0.85 + 0.25 * 0.1, 0.1 * 1.1 + 1.0 * 0.1, best]) / best
    )
    assert scorer.hypervolume([0, 1, 2, 3]) == pytest.approx(1.0)  # regret 0, though the judge would have chosen row 1


def test_not_reached_stays_so(replay: SimpleNamespace) -> None:
    reached, median = replay.protocol.reached, replay.protocol.median
    assert reached(np.array([0.1, 0.5, 0.9]), 0.5) == 2
    assert reached(np.array([0.1, 0.5, 0.9]), 0.91) == math.inf
    assert median([10.0, 20.0, math.inf])[0] == 20.0
    assert median([10.0, math.inf, math.inf]) == (math.inf, 10.0, math.inf)
    assert median([7.0] * 20) == (7.0, 7.0, 7.0)


@pytest.mark.parametrize("method", ["random", "local", "evolution", "nsga2", "tpe"])
def test_peers_spend_what_they_are_given(replay: SimpleNamespace, method: str) -> None:
    """Plain, a training each proposal; with free costs every network once, spelled as the cheapest, and none beyond the limit."""
    choices = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3)
    accuracy = 60 + choices @ [3.0, 2.0, 1.0] + np.random.default_rng(0).normal(0, 0.5, 27)
    accuracy[26] = 40.0  # the dearest: no front reaches there
    cost = np.exp(choices @ [0.1, 0.2, 0.9])
    kind = np.where(np.arange(27) == 5, 4, np.arange(27))  # rows 4 and 5 are one network
    table = replay.tables.Table("grid", choices, (False,) * 3, accuracy, accuracy, cost, kind, np.empty((27, 0)))
    scorer, task = replay.protocol.Scorer(table), replay.runs.Task
    plain = replay.runs.play(scorer, task("grid", method, 0, 30))
    assert len(plain.rows) == 30
    free = replay.runs.play(scorer, task("grid", method + "+free", 0, 30))
    dear = np.flatnonzero(table.cost > scorer.dearest)
    twice = 4 if table.cost[5] < table.cost[4] else 5
    assert dear.size
    assert sorted(free.rows) == sorted(set(range(27)) - set(dear.tolist()) - {twice})
    assert replay.runs.play(scorer, task("grid", method, 0, 30)).rows == plain.rows


def test_any_table_by_the_command_and_on_again(tmp_path: Path) -> None:
    arch = [f"{a}{b}{c}" for a in range(3) for b in range(3) for c in range(3)]
    value = [60.0 + 5 * int(a[0]) + 3 * int(a[1]) + int(a[2]) for a in arch]
    cost = [1.0 + int(a[0]) + 2 * int(a[1]) + 0.5 * int(a[2]) for a in arch]
    path = tmp_path / "mine.csv.gz"
    pd.DataFrame({"net": arch, "val": value, "test": value, "ms": cost}).to_csv(path, index=False)
    columns = ["--arch", "net", "--objective", "val", "--judge", "test", "--cost", "ms"]
    command = [sys.executable, str(BENCHMARKS / "search_replay.py"), "--table", str(path), *columns, "--methods", "vitnas,random"]
    command += ["--seeds", "2", "--trainings", "100", "--results", str(tmp_path / "runs"), "--workers", "1", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert (found["runs"], found["left"], found["tables"][0]["networks"]) == (4, 0, 27)
    assert found["tables"][0]["methods"]["vitnas"]["at_40"][0] == pytest.approx(1.0)  # all 27 are trained by then
    assert found["goals"]["regret"]["kept"] == 1 and found["seconds"] > 0
    lines = (tmp_path / "runs").read_text().splitlines()
    (tmp_path / "runs").write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:30])  # killed while it wrote
    again = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert again["tables"][0]["methods"]["random"]["at_40"] == found["tables"][0]["methods"]["random"]["at_40"]
    bad = subprocess.run([*command, "--cost", "seconds"], capture_output=True, text=True, check=False)
    assert bad.returncode == 2 and "no column 'seconds'" in bad.stderr


def test_the_real_tables(replay: SimpleNamespace) -> None:
    if not TABLES.is_dir():
        pytest.skip(f"needs {TABLES}")
    tables = replay.tables
    assert set(tables.SCORED + tables.DEVELOPMENT + tables.NAMED) <= set(tables.known(TABLES))
    assert not set(tables.SCORED) & set(tables.DEVELOPMENT) and set(tables.NAMED) <= set(tables.SCORED)
    cells = tables.known(TABLES)["nb201-cifar10-pixel2"]()
    assert (cells.choices.shape, cells.levels, len(set(cells.kind.tolist()))) == ((15625, 6), (5,) * 6, 5425)
    macro = tables.known(TABLES)["macro-seed0-macs"]()
    assert (macro.choices.shape, macro.levels) == ((6561, 8), (3,) * 8)
    assert macro.row(macro.choices[1234]) == 1234
    blocks = tables.known(TABLES)["accel-throughput_a100"]()
    assert blocks.choices.shape == (5138, 28) and all(blocks.ordered)
    fastest = int(np.argmin(blocks.cost))
    assert blocks.cost[fastest] == pytest.approx(1 / pd.read_csv(TABLES / tables.ACCEL)["throughput_a100__mean"].max())


def test_cells_that_compute_the_same_are_one_network(replay: SimpleNamespace) -> None:
    network = replay.tables.network_of_cell
    straight = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|skip_connect~2|"
    at_once = "|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"
    assert network(straight) == network(at_once) == ((0, 3, "nor_conv_3x3"),)
    dead = "|nor_conv_1x1~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|"  # what node 1 holds goes nowhere
    assert network(dead) == network(at_once)
    one, other = (
        "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|nor_conv_3x3~1|none~2|",
        "|none~0|+|nor_conv_1x1~0|none~1|+|none~0|none~1|nor_conv_3x3~2|",
    )
    assert network(one) == network(other) != network(at_once)
