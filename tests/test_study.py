"""Study files: round trip, and refusals by file, line and key."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vitnas.studies.recipe import Recipe
from vitnas.studies.study import Study, StudyError, override
from vitnas.studies.study_file import read_study, write_study


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """A study survives its file, whatever was set."""
    study = Study(steps="all,-mixup", epochs=3, seeds=2, set={"lr": 0.02, "betas": [0.9, 0.99]}, data_fraction=0.5)
    study = replace(study, distill_from="swin-t", teacher_weights="swin_t.pth", distill="soft", eval="corruptions")
    write_study(tmp_path / "s.yaml", study)
    assert read_study(tmp_path / "s.yaml") == study
    assert read_study(tmp_path / "s.yaml").folder_name == study.folder_name


def test_the_name_depends_on_what_it_is_and_not_on_how_it_runs() -> None:
    """More seeds or another machine are the same study; other epochs are not."""
    name = Study().folder_name
    assert Study(seeds=9, threads=2, executor="local").folder_name == name
    assert Study(epochs=9).folder_name != name


def test_numbers_are_read_as_people_write_them() -> None:
    """1e-3 is a number though YAML leaves it as text, and 2 and 2.0 are one recipe."""
    assert override(Recipe(), {"lr": "1e-3"}) == override(Recipe(), {"lr": 0.001})
    assert repr(override(Recipe(), {"lr": 2})) == repr(override(Recipe(), {"lr": 2.0}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: roadmap\nepoks: 3\n", r"s.yaml:2: unknown key 'epoks'; did you mean epochs or steps\?"),
        ("kind: roadmap\n\nepochs: many\n", r"s.yaml:3: epochs must be a whole number, not 'many'"),
        ("kind: roadmap\nepochs: 0\n", r"s.yaml:2: epochs: must be 1 or more, not 0"),
        ("kind: roadmap\nset:\n  lr: -1\n", r"s.yaml:2: set: lr must be above 0, not -1"),
        ("kind: roadmap\nset: {learning: 1}\n", r"s.yaml:2: set: unknown recipe field 'learning'"),
        ("kind: dance\n", r"s.yaml:1: kind must be roadmap or"),
        ("- a\n- b\n", r"s.yaml:1: a study file is a table"),
        ("kind: [roadmap\n", r"s.yaml:\d: not YAML"),
        ("kind: train\n", r"network: name the network"),
        ("kind: roadmap\ndata-fraction: 2\n", r"s.yaml:2: data-fraction: must lie in \(0, 1\]"),
        ("kind: roadmap\ndistill: loud\n", r"s.yaml:2: distill must be soft or hard, not 'loud'"),
        ("kind: roadmap\n\ndistill-from: swin-t\n", r"s.yaml:3: distill-from: name the file with the weights of swin-t"),
        ("kind: roadmap\nteacher-weights: t.pth\n", r"s.yaml:2: teacher-weights: name the teacher with --distill-from"),
        ("kind: roadmap\ndistill-from: trial:0123\nteacher-weights: t.pth\n", r"s.yaml:3: teacher-weights: a trial has its weights"),
        ("kind: roadmap\nscore-on: validation\neval: corruptions\n", r"s.yaml:3: eval: corruptions are scored on the test split"),
    ],
)
def test_bad_files_are_refused_by_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    """One line: file, line, key, what it should be."""
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=message) as error:
        read_study(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "written", "number"),
    [
        (1234567, "1.234567M", 1234567.0),
        ("1234567.5", "1.2345675M", 1234567.5),
        ("10000001", "10.000001M", 10000001.0),
        ("300k", "300k", 300000.0),
        (999, "999", 999.0),
    ],
)
def test_limits_keep_all_their_digits(given: str | int, written: str, number: float) -> None:
    """In files and in names too, where they are read again."""
    study = Study(kind="search", max_params=given, max_macs=given, max_latency="1.2345678ms", max_time="1234567s")
    assert study.max_params == study.max_macs == written
    assert study.limits["params"] == Study(kind="search", max_params=written).limits["params"] == number
    assert (study.max_latency, study.limits["latency"], study.max_seconds) == ("1.2345678ms", 1.2345678, 1234567)
    assert Study(kind="search", max_latency="700us").max_latency == "0.7ms"
