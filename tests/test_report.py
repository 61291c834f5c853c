"""Reports made from a store that holds a finished (or half finished) study."""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vitnas.studies.plan import Plan
from vitnas.studies.report.figures import roadmap_figure, window
from vitnas.studies.report.latex import escape, latex
from vitnas.studies.report.make import HOW_IT_RAN, load_summary, make_report, print_report
from vitnas.studies.report.summary import Row, Summary, summarise
from vitnas.studies.report.tables import results_table, to_csv
from vitnas.studies.store import Store, StoreError, read_json, write_json
from vitnas.studies.trial import TrialResult

from .synthetic import synthetic_study, write_trial

KERNELS = "all,kernel-size=5,kernel-size=7,kernel-size=9,kernel-size=11"
FILES = {"report.md", "report.csv", "report.json", "report.tex", "effects.csv"} | {
    f"{f}.{s}" for f in ("roadmap", "effects", "images", "curves") for s in ("png", "svg", "pdf")
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Plan]:
    """The whole roadmap with its alternatives, three seeds, reported."""
    store, plan = synthetic_study(tmp_path_factory.mktemp("store"), steps=KERNELS)
    make_report(store, plan.study.folder_name)
    return store, plan


def folder(study: tuple[Store, Plan]) -> Path:
    return study[0].studies / study[1].study.folder_name


def summary_of(study: tuple[Store, Plan]) -> Summary:
    return load_summary(study[0], study[1].study.folder_name)


def row(summary: Summary, name: str) -> Row:
    return next(r for r in summary.rows if r.name == name)


def results(study: tuple[Store, Plan]) -> dict[str, TrialResult]:
    return {t: r for arm in study[1].arms for t in arm.trials if (r := study[0].result(t))}


def edit_results(store: Store, change: Callable[[dict[str, Any]], None]) -> None:
    for path in store.trials.glob("*/result.json"):
        data = read_json(path)
        change(data)
        write_json(path, data)


def printed(summary: Summary, **options: Any) -> str:
    file = io.StringIO()
    print_report(summary, Console(file=file, **options))
    return file.getvalue()


def test_all_files_are_written(finished: tuple[Store, Plan]) -> None:
    """Tables and figures appear in the study's folder, figures in three formats."""
    assert {p.name for p in folder(finished).iterdir()} >= FILES
    assert (folder(finished) / "roadmap.png").read_bytes().startswith(b"\x89PNG")
    assert b"%PDF" in (folder(finished) / "curves.pdf").read_bytes()[:8]
    assert "<svg" in (folder(finished) / "roadmap.svg").read_text()


def test_json_agrees_with_the_trials(finished: tuple[Store, Plan]) -> None:
    """Means, deviations and deltas follow from the per-seed values, and those are the trials' own scores."""
    store, plan = finished
    report = json.loads((folder(finished) / "report.json").read_text())
    rows = report["rows"]
    assert [r["name"] for r in rows] == [a.name for a in plan.arms] and len(rows) == 17
    for r in rows:
        scores = [store.result(x["trial"]).scores["test"].top1 for x in r["replicates"]]  # type: ignore[union-attr]
        assert [x["top1"] for x in r["replicates"]] == scores
        assert r["mean"] == pytest.approx(statistics.mean(scores))
        assert r["sd"] == pytest.approx(statistics.stdev(scores))
        if r["parent"] is not None:
            assert r["delta"]["value"] == pytest.approx(r["mean"] - rows[r["parent"]]["mean"])
            low, high = r["delta"]["simultaneous"].values()
            assert low < r["delta"]["interval"]["low"] < r["delta"]["value"] < r["delta"]["interval"]["high"] < high
    assert report["seed_df"] == 17 * 2
    assert row(summary_of(finished), "recipe").word == "helps"


def test_papers_deltas_are_its_own(finished: tuple[Store, Plan]) -> None:
    """The paper's step is to the row before in its own table; alternatives stand beside the same row as the adopted value."""
    summary = summary_of(finished)
    deltas = {r.name: round(r.paper.delta, 2) for r in summary.rows if r.paper and r.paper.delta is not None}
    assert deltas["recipe"] == 2.69
    assert (deltas["kernel-size=5"], deltas["kernel-size"], deltas["kernel-size=9"]) == (0.43, 0.65, 0.65)
    assert deltas["gelu"] == 0.05
    assert "ResNet-50" not in deltas
    assert any("ImageNet-1K" in f for f in summary.footers)


def test_the_report_is_reproducible(finished: tuple[Store, Plan]) -> None:
    """Made again from the same store, every file has the same bytes."""
    before = {name: (folder(finished) / name).read_bytes() for name in FILES}
    make_report(finished[0], finished[1].study.folder_name)
    assert {name: (folder(finished) / name).read_bytes() for name in FILES} == before


def test_times_hosts_and_attempts_stand_apart(tmp_path: Path) -> None:
    """A study that was killed, resumed and finished elsewhere has the report of an undisturbed one but for how it ran."""
    reports = []
    for name in ("undisturbed", "killed"):
        store, plan = synthetic_study(tmp_path / name, steps="recipe,depthwise")
        if name == "killed":

            def disturb(r: dict[str, Any]) -> None:
                r |= {"seconds": 99.0, "images_per_second": 1.0, "attempts": 3, "finished": "2031-01-01T00:00:00+00:00"}
                r |= {"events": ["resumed at epoch 4"]}
                r["execution"] |= {"host": "node-9", "threads": 2, "micro_batch": 32, "executor": "local"}

            edit_results(store, disturb)
        make_report(store, plan.study.folder_name)
        reports.append(store.studies / plan.study.folder_name)
    first, second = ({n: (r / n).read_bytes() for n in FILES} for r in reports)
    assert {n for n in FILES if first[n] != second[n]} == {"report.md", "report.json"}
    a, b = (json.loads(r["report.json"]) for r in (first, second))
    assert a.pop("execution") != b.pop("execution") and a == b
    a, b = (r["report.md"].decode().partition(HOW_IT_RAN) for r in (first, second))
    assert a[0] == b[0]
    assert "node-9" in b[2] and "resumed at epoch 4" in b[2] and "node-9" not in b[0]


def test_one_seed_has_neither_interval_nor_word(tmp_path: Path) -> None:
    """With one seed the delta stands alone, marked n=1."""
    study = synthetic_study(tmp_path, seeds=1, steps="recipe,depthwise")
    summary = summary_of(study)
    for r in summary.rows[1:]:
        assert r.delta and r.delta.interval is None and r.delta.simultaneous is None
        assert r.word is None and r.sd is None and r.interval is None and r.verdict == "n=1"
    text = printed(summary)
    assert "n=1" in text and "[" not in text and "undecided" not in text
    make_report(study[0], summary.name)


def test_a_diverged_trial_counts_at_chance(tmp_path: Path) -> None:
    """A diverged trial is averaged in at chance level and counted; the arm after it is marked, the others are judged as before."""
    study = synthetic_study(tmp_path, diverged={("depthwise", 1)}, steps="recipe,depthwise,width,inverted-bottleneck")
    summary = summary_of(study)
    r, after = row(summary, "depthwise"), row(summary, "width")
    assert sorted(r.values)[0] == 10.0 and r.mean == pytest.approx(sum(r.values) / 3)
    assert (r.n, r.diverged, r.word) == (3, 1, "undecided") and "1/3 diverged" in r.verdict
    assert "parent diverged" in after.verdict
    assert row(summary, "recipe").word == "helps"
    assert any("1 of 15 trials diverged" in f and "10 %" in f for f in summary.footers)
    make_report(study[0], summary.name)


def test_missing_trials_leave_n_smaller(tmp_path: Path) -> None:
    """What has not run is said, in the row and below the table, and a row without any result has no mean."""
    missing = {("recipe", 2), *(("depthwise", s) for s in range(3))}
    study = synthetic_study(tmp_path, missing=missing, steps="recipe,depthwise,width")
    summary = summary_of(study)
    assert row(summary, "recipe").n == 2 and "1 of 3 not run" in row(summary, "recipe").verdict
    assert row(summary, "depthwise").mean is None and row(summary, "depthwise").verdict == "not run"
    assert row(summary, "width").delta is None and "parent not run" in row(summary, "width").verdict
    assert any(f.startswith("4 of 12 trials have not run") for f in summary.footers)
    make_report(study[0], summary.name)
    assert "not run" in (folder(study) / "report.md").read_text()


def test_a_study_without_results_is_reported(tmp_path: Path) -> None:
    """Before the first trial has finished a report can be made; it holds no numbers and says so."""
    study = synthetic_study(tmp_path, seeds=1, missing={("ResNet-50", 0), ("recipe", 0)}, steps="recipe")
    summary = make_report(study[0], study[1].study.folder_name)
    assert [r.verdict for r in summary.rows] == ["not run", "not run"]


def test_same_network_has_delta_zero(tmp_path: Path) -> None:
    """Arms that share their trials differ by exactly 0, get no word, and do not count twice in the pooled variance."""
    store, plan = synthetic_study(tmp_path, steps="recipe,depthwise,width")
    twin = replace(plan.arms[2], index=4, name="twin", parent=2, same_as=2)
    twin = replace(twin, liveness=replace(twin.liveness, state="same", note="changes nothing here"))
    nothing = replace(plan.effects[-1], name="twin", weights=((4, 1.0), (2, -1.0)), liveness=twin.liveness)
    doubled = replace(plan, arms=(*plan.arms, twin), effects=(*plan.effects, nothing))
    summary = summarise(doubled, results((store, plan)), scorings=0)
    r = summary.rows[4]
    assert r.delta and r.delta.value == 0 and r.delta.interval is None and r.word is None and r.verdict == "same network"
    assert summary.seed_df == 4 * 2
    assert any("twin: the same network and recipe as depthwise" in f for f in summary.footers)
    assert [x.delta for x in summary.rows[:4]] == [x.delta for x in summary_of((store, plan)).rows]


def test_a_dead_step_has_no_word(tmp_path: Path) -> None:
    """A step of which nothing acts at this input shows its delta, but is not judged, however large it is."""
    store, plan = synthetic_study(tmp_path, steps="recipe,depthwise")
    dead = replace(plan.arms[1], liveness=replace(plan.arms[1].liveness, state="dead", note="none of its taps touches a pixel"))
    effect = replace(plan.effects[0], liveness=dead.liveness)
    arms, effects = (plan.arms[0], dead, plan.arms[2]), (effect, plan.effects[1])
    summary = summarise(replace(plan, arms=arms, effects=effects), results((store, plan)), scorings=0)
    r = summary.rows[1]
    assert r.delta and r.delta.simultaneous and r.delta.simultaneous.low > 0
    assert r.word is None and r.verdict == "dead, no verdict"
    assert any("recipe (none of its taps touches a pixel)" in f for f in summary.footers)


def test_footers_say_what_weakens_the_numbers(tmp_path: Path) -> None:
    """Split and its scorings, duplicates, notes, and trials that ran on other devices or versions."""
    store, plan = synthetic_study(tmp_path, steps="recipe,depthwise")
    summary = summary_of((store, plan))
    assert "test split of digits, 360 images" in summary.footers[0] and "scored 9 times" in summary.footers[0]
    assert any("share a rung" in f for f in summary.footers)
    assert not any("did not all run alike" in f for f in summary.footers)
    other = write_trial(store, plan.trials[0], top1=94.0, device="cuda", versions={"torch": "2.12.0"})
    assert other.id == plan.trials[0].id
    noted = replace(plan, notes=("ResNet-50 trains 90 epochs",), data={**plan.data, "duplicates": 7})
    summary = summarise(noted, results((store, plan)), scorings=10)
    mixed = next(f for f in summary.footers if "did not all run alike" in f)
    assert "device cpu (8), cuda (1)" in mixed and "torch 2.12.0 (1), 2.13.0 (8)" in mixed
    assert any(f.startswith("7 test images are exact duplicates") for f in summary.footers)
    assert summary.footers[-1] == "ResNet-50 trains 90 epochs"


def test_validation_can_be_reported(tmp_path: Path) -> None:
    """`score_on: validation` reports that split, and says that selecting uses it."""
    study = synthetic_study(tmp_path, steps="recipe", score_on="validation")
    summary = summary_of(study)
    assert summary.split == "validation" and summary.images == 288 and summary.scorings == 0
    assert "validation split" in summary.footers[0] and all(r.n == 3 for r in summary.rows)


def test_plain_lines_without_a_terminal(finished: tuple[Store, Plan]) -> None:
    """Without a terminal, and with NO_COLOR in one, the table is plain text with every column, whatever the width."""
    summary = summary_of(finished)
    text = printed(summary, width=40)
    assert printed(summary, width=40, force_terminal=True, no_color=True) == text
    assert not re.search("[\x1b─━│]", text)
    line = next(t for t in text.splitlines() if t.startswith("separate-downsampling"))
    assert line.split()[1:4] == ["0.67", "2.25", "3"] and "+0.50" in line
    assert all(f in text for f in summary.footers)


@pytest.mark.parametrize("width", [80, 110, 160])
def test_terminal_table_fits(finished: tuple[Store, Plan], width: int) -> None:
    """In a terminal no line is wider than it, and no rung's name or interval is cut."""
    summary = summary_of(finished)
    text = printed(summary, width=width, force_terminal=True, color_system=None)
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    assert all(r.name in text for r in summary.rows)
    assert "helps" in text and re.search(r"\[[+-]\d\.\d\d, [+-]\d\.\d\d\]", text)


def test_csv_has_a_line_an_arm(finished: tuple[Store, Plan]) -> None:
    """The CSV reads back with unrounded numbers and the values of all seeds."""
    summary = summary_of(finished)
    lines = list(csv.DictReader(io.StringIO(to_csv(summary))))
    assert [x["name"] for x in lines] == [r.name for r in summary.rows]
    for line, r in zip(lines, summary.rows, strict=True):
        assert float(line["top1_mean"]) == r.mean and int(line["macs"]) == r.macs
        assert tuple(map(float, line["top1"].split())) == r.values
    assert lines[0]["delta"] == "" and lines[1]["choice"] == "recipe=modern"


def test_latex_is_well_formed(finished: tuple[Store, Plan]) -> None:
    """Braces balance, every row of the tables has the columns of its tabular, and special characters are escaped."""
    summary = replace(summary_of(finished), data={**summary_of(finished).data, "name": "50%_of&my#set"})
    text = latex(summary)
    assert r"50\%\_of\&my\#set" in text
    bare = re.sub(r"\\[\\{}%&#_$]", "", text)
    assert bare.count("{") == bare.count("}")
    tabulars = re.findall(r"begin\{tabular\}\{@\{\}([lr]+)@\{\}\}(.*?)end\{tabular\}", text, flags=re.S)
    bodies = [[line for line in rows.splitlines() if line.endswith(r"\\")] for _, rows in tabulars]
    assert [len(b) for b in bodies[:2]] == [len(summary.rows) + 1, len(summary.effects) + 1] and len(bodies) == 3
    for (columns, _), lines in zip(tabulars, bodies, strict=True):
        assert {line.replace(r"\&", "").count("&") + 1 for line in lines} == {len(columns)}
    body = [line for lines in bodies for line in lines]
    assert not re.search(r"(?<!\\)[%&#_]", "".join(t for t in text.splitlines() if not t.startswith("%") and t not in body))
    assert escape("[-0.21, +1.13]") == "$[-0.21, +1.13]$" and escape("-0.5") == "$-0.5$" and escape("a-b") == "a-b"


def test_markdown_tables_are_rectangular(finished: tuple[Store, Plan]) -> None:
    """Every block of table lines has one number of cells; the recipe appears at both ends with the fields that differ."""
    text = (folder(finished) / "report.md").read_text()
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        assert len({line.count("|") for line in block.splitlines()}) == 1
    assert "| optimizer | sgd | adamw |" in text and "| batch-size | 64 | same |" in text
    assert "| randaugment-ops | 2 | 1 |" in text
    assert len(results_table(summary_of(finished))) == 18


def test_report_needs_the_store_alone(finished: tuple[Store, Plan]) -> None:
    """Making a report imports neither torch nor Ray, MLflow or Optuna."""
    code = (
        "import sys; from vitnas.studies.report.make import make_report; from vitnas.studies.store import Store;"
        "make_report(Store(sys.argv[1]), sys.argv[2]);"
        "print([m for m in ('torch', 'ray', 'mlflow', 'optuna', 'datasets', 'sklearn') if m in sys.modules], 'matplotlib' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, str(finished[0].root), finished[1].study.folder_name]
    out = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[] True"


def test_unknown_study_is_refused(finished: tuple[Store, Plan]) -> None:
    """A study without a plan gets one line."""
    with pytest.raises(StoreError, match="run its command again"):
        make_report(finished[0], "nothing")


def test_top1_axis_is_zoomed(finished: tuple[Store, Plan], tmp_path: Path) -> None:
    """The axis starts where the values do, keeps all of them inside, and does not stretch for a diverged arm."""
    rows = summary_of(finished).rows
    low, high = window(rows)
    assert 90 < low < min(min(r.values) for r in rows) and max(max(r.values) for r in rows) <= high <= 100
    broken = summary_of(synthetic_study(tmp_path, diverged={("gelu", 0), ("gelu", 1), ("gelu", 2)})).rows
    assert window(broken)[0] > 90


@pytest.mark.parametrize("steps", [KERNELS, "recipe,depthwise"])
def test_nothing_in_the_figure_overlaps(tmp_path: Path, steps: str) -> None:
    """With many and with few rungs, long titles too, all text lies inside the figure, rungs' titles and columns clear of each other;
    the paper's values have an axis of their own."""
    store, plan = synthetic_study(tmp_path, steps=steps, diverged={("depthwise", 0)})
    arms = list(plan.arms)
    long = "separate the token mixer from the channel mixer and train three times as long as before"
    arms[1], arms[2] = replace(arms[1], title=long), replace(arms[2], title=long)
    arms[-1] = replace(arms[-1], title="a title of middling length for a step")
    figure = roadmap_figure(summarise(replace(plan, arms=tuple(arms)), results((store, plan)), scorings=0))
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    drawn, (width, height) = figure.get_tightbbox(renderer), figure.get_size_inches()
    assert drawn.x0 >= 0 and drawn.y0 >= 0 and drawn.x1 <= width and drawn.y1 <= height
    top1, words, macs, paper = figure.axes
    labels = sorted((t.get_window_extent(renderer) for t in top1.get_yticklabels()), key=lambda b: b.y0)
    assert all(a.y1 <= b.y0 + 1 for a, b in pairwise(labels))
    assert all(t.get_window_extent(renderer).x1 <= macs.bbox.x0 for t in words.texts)
    assert not top1.get_shared_x_axes().joined(top1, paper)
    assert paper.get_xlim()[1] < top1.get_xlim()[0]
    assert "ImageNet-1K" in paper.get_title() and "axis from" in top1.get_title()
