"""The presets: studies that run as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitnas.studies import presets
from vitnas.studies.commands.study_files import FILE_HELP
from vitnas.studies.data.prepare import prepare
from vitnas.studies.designs.planner import check_study, plan_study
from vitnas.studies.recipe import preset
from vitnas.studies.search.space_file import load_space
from vitnas.studies.study import Study, StudyError
from vitnas.studies.study_file import read_study


@pytest.mark.parametrize("name", presets.names())
def test_presets_are_legal_studies(name: str) -> None:
    """Every preset is read without complaint and passes the study's check."""
    study = read_study(presets.find(name))
    if study.kind == "search":
        assert load_space(study.space, study.track, study.scale).spelled() > study.trials
    else:
        check_study(study)


def test_the_command_line_names_all_presets() -> None:
    """The help of `vitnas sweep` lists what exists."""
    assert FILE_HELP.endswith(f"a preset: {', '.join(presets.names())}.")


def test_digits_is_the_default_roadmap() -> None:
    """The quick start is the same study, and so the same folder, as the command without options."""
    assert read_study(presets.find("digits")) == Study()


def test_an_unknown_preset_names_the_nearest() -> None:
    """The error names a preset that is near, or all of them."""
    with pytest.raises(StudyError, match="did you mean digits"):
        presets.find("digit")
    with pytest.raises(StudyError, match="cifar10-leave-one-out, cifar10-roadmap, cifar100-roadmap, digits, imagenet-paper"):
        presets.find("xyz")


def test_imagenet_paper_trains_its_first_rung_90_epochs(tmp_path: Path) -> None:
    """It says so, BatchNorm sees the images of one GPU, and --epochs makes all arms equal again."""
    study = read_study(presets.find("imagenet-paper"))
    assert preset(study.recipe).modern.batch_size == 4096
    small = Study(recipe="imagenet-paper", steps="recipe,stage-ratio", seeds=1)
    data = prepare("digits", input_size=32, cache=tmp_path)
    plan = plan_study(small, data, precision="float32")
    assert [a.epochs for a in plan.arms] == [90, 300, 300]
    assert [a.recipe.norm_batch for a in plan.arms] == [32, 128, 128]
    assert any("ResNet-50 trains 90 epochs" in note for note in plan.notes)
    equal = plan_study(Study(recipe="imagenet-paper", steps="recipe", seeds=1, epochs=300), data, precision="float32")
    assert [a.epochs for a in equal.arms] == [300, 300]
