"""The commands that make a study of their options and run it: roadmap, ablate, search, train."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .execution import named_cluster, run_or_plan
from .options import (
    ExecutorOption,
    MarginOption,
    PlaceboOption,
    ScaleOption,
    SeedsOption,
    TrackOption,
    placing,
    taking,
    timing,
    timing_options,
    training,
    training_options,
)


@timing
@training
def roadmap(
    steps: Annotated[str, typer.Option("--steps", help="all, none, names, a..b, field=value, -name; separated by commas.")] = "all",
    track: TrackOption = "convnext-t",
    scale: ScaleOption = "micro",
    placebo: PlaceboOption = False,
    margin: MarginOption = 0.3,
    **options: Any,
) -> None:
    """Train a track's steps, cumulatively, and draw its roadmap. Example: vitnas roadmap --steps all"""
    _run("roadmap", locals())


@timing
@training
def ablate(
    steps: Annotated[str, typer.Option("--steps", help="all, none, names, a..b, field=value, -name; separated by commas.")] = "all",
    design: Annotated[
        str, typer.Option("--design", help="cumulative, leave-one-out, add-one-in, fractional, factorial or orders.")
    ] = "leave-one-out",
    fix: Annotated[str, typer.Option("--fix", help="Steps that are on in every arm, named as in --steps.")] = "",
    factor: Annotated[
        list[str] | None,
        typer.Option("--factor", help="Repeat the design at each level: data-fraction=0.1,1, scale=micro,small, mixer=conv,window."),
    ] = None,
    interactions: Annotated[str, typer.Option("--interactions", help="Pairs of steps such as gelu:layer-norm, or all.")] = "",
    resolution: Annotated[int | None, typer.Option("--resolution", help="Of a fractional design: 3, 4 or 5.")] = None,
    runs: Annotated[int | None, typer.Option("--runs", help="Networks of a fractional design; default: as few as it needs.")] = None,
    orders: Annotated[
        int | None, typer.Option("--orders", help="Orders to sample for --design orders; default: all, where they are few.")
    ] = None,
    order: Annotated[
        str, typer.Option("--order", help="Another legal order for --design cumulative: all steps, separated by commas.")
    ] = "",
    tune: Annotated[str, typer.Option("--tune", help="lr or lr,wd: tune every arm on the same small grid, on validation.")] = "",
    track: TrackOption = "convnext-t",
    scale: ScaleOption = "micro",
    placebo: PlaceboOption = True,
    margin: MarginOption = 0.3,
    until_decided: Annotated[
        bool, typer.Option("--until-decided", help="Add seeds until every effect is decided or given up, or --max-seeds.")
    ] = False,
    max_seeds: Annotated[int, typer.Option("--max-seeds", help="Seeds at which --until-decided ends.")] = 12,
    stopping: Annotated[
        str, typer.Option("--stopping", help="What --until-decided goes by: alpha-spending or e-values.")
    ] = "alpha-spending",
    confirmed: Annotated[bool, typer.Option("--yes", help="Do not ask before a factorial design of more than 64 trials.")] = False,
    **options: Any,
) -> None:
    """Say what each step contributes, of which kind, and how sure that is. Example: vitnas ablate --design leave-one-out"""
    _run("ablate", locals())


@placing
@taking(timing_options, but=("latency", "latency_scale", "latency_size"))
@taking(training_options, but=("input_size", "score_on", "eval_", "distill_from", "teacher_weights", "distill"))
def search(
    space: Annotated[str, typer.Option("--space", help="A preset (micro, convnext, repvit, mixers) or a YAML file.")] = "",
    sampler: Annotated[str, typer.Option("--sampler", help="Who proposes: vitnas, tpe, nsga2, gp or random.")] = "vitnas",
    objectives: Annotated[
        str, typer.Option("--objectives", help="accuracy and any of latency, latency-p99, macs, params, memory, energy.")
    ] = "accuracy,latency",
    max_latency: Annotated[str | None, typer.Option("--max-latency", help="Limit, such as 5ms or 800us; a bare number is in ms.")] = None,
    max_params: Annotated[str | None, typer.Option("--max-params", help="Limit, such as 5M.")] = None,
    max_macs: Annotated[str | None, typer.Option("--max-macs", help="Limit, such as 300M.")] = None,
    min_accuracy: Annotated[float | None, typer.Option("--min-accuracy", help="Look for the cheapest network of this top-1 (%).")] = None,
    trials: Annotated[int, typer.Option("--trials", help="Networks to train.")] = 40,
    max_time: Annotated[str | None, typer.Option("--max-time", help="End the search for networks after this time, such as 2h.")] = None,
    min_gain: Annotated[
        float | None, typer.Option("--min-gain", help="End it when ten trainings add less than this share of the hypervolume.")
    ] = None,
    scheduler: Annotated[str, typer.Option("--scheduler", help="End trainings early: none, halving or asha.")] = "none",
    min_epochs: Annotated[int | None, typer.Option("--min-epochs", help="Epochs before a training may end early.")] = None,
    finalists: Annotated[int, typer.Option("--finalists", help="Networks that are trained again on all but the test images.")] = 3,
    final_epochs: Annotated[int | None, typer.Option("--final-epochs", help="Their epochs; default: --epochs.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="Seeds of each of them.")] = 3,
    published: Annotated[
        str, typer.Option("--published", help="A published network to train alike: auto (the best within the limits), none or a name.")
    ] = "auto",
    pool: Annotated[int, typer.Option("--pool", help="Distinct networks to choose from, where the space is too large to list.")] = 2000,
    optuna_storage: Annotated[
        str, typer.Option("--optuna-storage", help="Show the search in an Optuna storage too, such as sqlite:///optuna.db.")
    ] = "",
    track: TrackOption = "convnext-t",
    scale: ScaleOption = "micro",
    **options: Any,
) -> None:
    """Look for networks that are accurate and fast. Example: vitnas search --max-latency 5ms --trials 100"""
    _run("search", locals())


@training
def train(
    network: Annotated[str, typer.Argument(help="A published network or micro variant (`vitnas models list`), or a JSON file with one.")],
    train_on: Annotated[str, typer.Option("--train-on", help="train, or all: the validation images too.")] = "train",
    seeds: SeedsOption = 1,
    executor: ExecutorOption = "local",
    **options: Any,
) -> None:
    """Train one network. Example: vitnas train convnext-micro --epochs 5"""
    from ...roadmap.zoo import variant

    if not network.endswith(".json"):
        network = variant(network).name
    _run("train", locals())


def _run(kind: str, options: dict[str, Any]) -> None:
    """Run the study that the options of a command make."""
    given = options | options["options"]
    known = set(_study_fields())
    values = {k.removesuffix("_"): v for k, v in given.items() if k.removesuffix("_") in known}
    values["set"] = dict(_setting(s) for s in given["set_"] or [])
    if "factor" in values:
        values["factor"] = _factors(values["factor"] or [])
    from ..study import Study

    study = Study(kind=kind, **values)  # type: ignore[arg-type]
    with named_cluster(study, given, plan=given["plan"]) as cluster:
        run_or_plan(study, given["store"], plan=given["plan"], as_json=given["as_json"], cluster=cluster)


def _study_fields() -> tuple[str, ...]:
    from ..study import Study

    return tuple(Study.__dataclass_fields__)


def _factors(given: list[str]) -> dict[str, list[str]]:
    pairs = [_factor(text) for text in given]
    names = [name.lower() for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"--factor {twice}: named twice; give all its levels at once, as in --factor {twice}=a,b,c")
    return dict(pairs)


def _factor(text: str) -> tuple[str, list[str]]:
    name, equals, levels = text.partition("=")
    if not equals or not levels.strip():
        raise ValueError(f"--factor {text}: write name=level,level, as in --factor data-fraction=0.1,1")
    return name.strip(), [level.strip() for level in levels.split(",")]


def _setting(text: str) -> tuple[str, Any]:
    import yaml

    key, equals, value = text.partition("=")
    if not equals or not value.strip():
        raise ValueError(f"--set {text}: write field=value, as in --set lr=0.01")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError(f"--set {text}: {value!r} is not a value; write field=value, as in --set lr=0.01") from None
