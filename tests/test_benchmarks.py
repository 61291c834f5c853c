"""The benchmarks of the statistics run, and designs fed from the real complete table recover that table's own effects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(*arguments: str) -> dict[str, Any]:
    """What `benchmarks/ablation_statistics.py ARGUMENTS --json` prints."""
    env = {k: v for k, v in os.environ.items() if k != "VITNAS_SHARED"} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCHMARKS / "ablation_statistics.py"), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_every_design_recovers_the_complete_tables_effects() -> None:
    """Forty fresh studies a design: all simultaneous intervals hold the table's effects in nine tenths of them, or more."""
    rows = run("--section", "tables", "--repetitions", "40")["designs on real tables"]
    assert {r["design"] for r in rows} == {"cumulative", "leave-one-out", "add-one-in", "factorial", "orders", "fractional"}
    for row in rows:
        assert row["joint"] >= 0.85, row  # 40 draws at 95 %: below this with probability 0.3 %
        assert row["alone"] >= 0.90, row


def test_simulated_studies_are_judged() -> None:
    """False positives, coverage and power stand in the output, for a fixed number of seeds and for looks."""
    found = run("--section", "until-decided", "--section", "adaptive", "--repetitions", "1")
    assert {"false", "upper", "joint", "power"} <= set(found["until decided"][0])
    assert found["adaptive"]["leave-one-out, five seeds"]["epochs"] == 8 * 5 * 12


@pytest.mark.full
def test_what_handing_out_trials_costs_is_measured() -> None:
    """Of vitnas's own runner and plain Ray Tune, every trial counted once; the workers are reused."""
    command = [sys.executable, str(BENCHMARKS / "orchestration.py"), "--workers", "1", "--trials", "4", "--seconds", "0.5"]
    command += ["--noop-workers", "1", "--noop-trials", "20", "--rounds", "1", "--only", "vitnas;tune, reused", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for name in ("vitnas", "tune, reused"):
        sleeping, (idle,) = found["sleeping"][name], found["no-op"][name]
        assert (sleeping["trials"], idle["trials"]) == (4, 20) and sleeping["processes"] == idle["processes"] == 1
        assert 0 < sleeping["busy"] < 1 and 0 < idle["a_trial"] < 0.5 < sleeping["a_trial"]
