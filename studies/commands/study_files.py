"""The commands that take a study's file: sweep, plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .execution import named_cluster, run_or_plan
from .options import DEFAULT_STORE, JsonOption, OtherDataOption, PlanOption, StoreOption, placing

if TYPE_CHECKING:
    from ..study import Study


FILE_HELP = "A study file (every command writes the one it ran), or a preset: "
FILE_HELP += "cifar10-leave-one-out, cifar10-roadmap, cifar100-roadmap, digits, imagenet-paper, repvit-roadmap, search-cpu, search-gpu, "
FILE_HELP += "spach-mixers."


@placing
def sweep(
    file: Annotated[Path, typer.Argument(help=FILE_HELP)],
    data: OtherDataOption = "",
    store: StoreOption = DEFAULT_STORE,
    plan: PlanOption = False,
    as_json: JsonOption = False,
    **options: Any,
) -> None:
    """Run a study file, here or on a cluster. Example: vitnas sweep study.yaml"""
    study = _from_file(file, data)
    with named_cluster(study, options, plan=plan) as cluster:
        run_or_plan(study, store, plan=plan, as_json=as_json, cluster=cluster)


def plan_command(
    file: Annotated[Path, typer.Argument(help=FILE_HELP)],
    data: OtherDataOption = "",
    store: StoreOption = DEFAULT_STORE,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Machines like this one; default: this one.")] = None,
    freeze: Annotated[
        bool, typer.Option("--freeze", help="Store hypotheses, margin, seeds and analysis, before the first training.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what a study file would run, what it costs and what it can detect. Example: vitnas plan study.yaml"""
    run_or_plan(_from_file(file, data), store, plan=True, as_json=as_json, workers=workers, freeze=freeze)


def _from_file(file: Path, data: str) -> Study:
    from .. import presets
    from ..study_file import read_study

    named = str(file) == file.stem and not file.is_file()
    study = read_study(presets.find(file.name) if named else file)
    return replace(study, data=data) if data else study
