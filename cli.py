"""The command line: parse, call, print. One error family becomes one line and exit code 1.

Exit codes: 0 done, 1 a user's error, 2 usage, 3 some trials failed, 130 interrupted. Everything heavy is imported by the command that
needs it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from .studies.running.cluster import Cluster
    from .studies.store import Store
    from .studies.study import Study

app = typer.Typer(
    name="vitnas",
    help="Which modernizations of vision networks pay on your data, at your scale, on your hardware.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
steps_app = typer.Typer(help="List and show the steps of a track.", invoke_without_command=True, rich_markup_mode=None)
models_app = typer.Typer(help="List, show and cost networks.", no_args_is_help=True, rich_markup_mode=None)
latency_app = typer.Typer(help="Measure networks on a device.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(steps_app, name="steps")
app.add_typer(models_app, name="models")
app.add_typer(latency_app, name="latency")

StoreOption = Annotated[str, typer.Option("--store", envvar="VITNAS_STORE", help="The trial store: a folder, or s3://bucket/prefix.")]
TrackOption = Annotated[str, typer.Option("--track", help="Track: convnext-t, convnext-b or repvit-m0.9.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PlanOption = Annotated[bool, typer.Option("--plan", help="Print what would run and what it costs; train nothing.")]
INTERRUPTED = 130
DEFAULT_STORE = ".vitnas"
FILE_HELP = "A study file (every command writes the one it ran), or a preset: "
FILE_HELP += "cifar10-leave-one-out, cifar10-roadmap, cifar100-roadmap, digits, imagenet-paper, repvit-roadmap, search-cpu, search-gpu, "
FILE_HELP += "spach-mixers."

DataOption = Annotated[str, typer.Option("--data", help="digits, a folder of images by class, parquet files, or a name on the hub.")]
OtherDataOption = Annotated[str, typer.Option("--data", help="Other data than the file names.")]
ScaleOption = Annotated[str, typer.Option("--scale", help="micro, small or paper.")]
SizeOption = Annotated[int | None, typer.Option("--input-size", min=1, help="Input size in pixels; default: the scale's.")]
RecipeOption = Annotated[str, typer.Option("--recipe", help="Recipe preset: short, paper or imagenet-paper.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Change a recipe field in every arm, as in --set lr=0.01.")]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Epochs of every trial; default: the recipe preset's.")]
SeedsOption = Annotated[int, typer.Option("--seeds", help="Replicates of every arm.")]
ScoreOption = Annotated[str, typer.Option("--score-on", help="The split that is reported: test or validation.")]
EvalOption = Annotated[str, typer.Option("--eval", help="corruptions: score the trained networks on corrupted test images too.")]
TeacherOption = Annotated[
    str, typer.Option("--distill-from", help="Teacher of every arm: a published network (with --teacher-weights), or trial:<id>.")
]
WeightsOption = Annotated[str, typer.Option("--teacher-weights", help="File with the teacher's weights, by official names or ours.")]
DistillOption = Annotated[str, typer.Option("--distill", help="How to learn from the teacher: hard (its decisions) or soft (its odds).")]
NameOption = Annotated[str, typer.Option("--name", help="The study's name; default: made of what it is.")]
ExecutorOption = Annotated[str, typer.Option("--executor", help="ray, or local: in this process, one trial at a time.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")]
ConcurrencyOption = Annotated[int | None, typer.Option("--concurrency", help="Trials at once; default: fitted to the machine.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", help="CPU threads of one trial; default 1.")]
ProcessesOption = Annotated[int | None, typer.Option("--processes", help="Processes that train a trial together; default 1.")]
MicroOption = Annotated[int | None, typer.Option("--micro-batch", help="Images in one forward pass; default: the batch.")]
CompileOption = Annotated[bool, typer.Option("--compile", help="Use torch.compile where a compiler exists.")]
FractionOption = Annotated[float, typer.Option("--data-fraction", help="Part of the training images to use, in (0, 1].")]
PlaceboOption = Annotated[bool, typer.Option("--placebo/--no-placebo", help="Train the reference once more, with other seeds.")]
MarginOption = Annotated[float, typer.Option("--margin", help="Change in points of top-1 that does not matter.")]
SplitOption = Annotated[int, typer.Option("--split-seed", help="Seed of the validation split.")]


def console() -> Console:
    """Where people read: rich in a terminal, plain lines elsewhere."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, soft_wrap=not sys.stdout.isatty())


def _shared(
    data: DataOption = "digits",
    input_size: SizeOption = None,
    recipe: RecipeOption = "short",
    set_: SetOption = None,
    epochs: EpochsOption = None,
    seeds: SeedsOption = 3,
    data_fraction: FractionOption = 1.0,
    split_seed: SplitOption = 0,
    score_on: ScoreOption = "test",
    eval_: EvalOption = "none",
    distill_from: TeacherOption = "",
    teacher_weights: WeightsOption = "",
    distill: DistillOption = "hard",
    name: NameOption = "",
    executor: ExecutorOption = "ray",
    device: DeviceOption = "auto",
    concurrency: ConcurrencyOption = None,
    threads: ThreadsOption = None,
    processes: ProcessesOption = None,
    micro_batch: MicroOption = None,
    compile_: CompileOption = False,
    store: StoreOption = DEFAULT_STORE,
    plan: PlanOption = False,
    as_json: JsonOption = False,
) -> None:
    """The options of every command that trains; a command may give one of them another default."""


def taking(shared: Callable[..., None], *, but: tuple[str, ...] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, which takes them as `**options`, the options of `shared`, after its own, `but` for some."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in signature(command, eval_str=True).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        named = {p.name for p in own} | set(but)
        others = [p for p in signature(shared, eval_str=True).parameters.values() if p.name not in named]
        parameters = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in (*own, *others)]
        command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters}
        return command

    return decorate


training = taking(_shared)

LatencyScale = Annotated[str, typer.Option("--latency-scale", help="Measure each arm's twin at this scale; default: the network trained.")]
LatencySize = Annotated[int | None, typer.Option("--latency-size", help="Input size of the measured networks; default: the scale's.")]


def _timing(
    latency: Annotated[bool, typer.Option("--latency", help="Measure every arm's latency on this machine, after the training.")] = False,
    latency_scale: LatencyScale = "",
    latency_size: LatencySize = None,
    latency_device: Annotated[str, typer.Option("--latency-device", help="cpu or cuda.")] = "cpu",
    latency_backend: Annotated[str, typer.Option("--latency-backend", help="eager, compile, onnxruntime or openvino.")] = "eager",
    latency_threads: Annotated[int, typer.Option("--latency-threads", help="CPU threads of a pass.")] = 1,
    latency_batch: Annotated[int, typer.Option("--latency-batch", help="Images at a time.")] = 1,
    latency_precision: Annotated[str, typer.Option("--latency-precision", help="fp32, bf16, fp16 or int8.")] = "fp32",
    latency_seconds: Annotated[float, typer.Option("--latency-seconds", help="Seconds of measuring a network.")] = 2.0,
) -> None:
    """The options of every study that may measure latency."""


timing = taking(_timing)


def _placing(
    address: Annotated[
        str, typer.Option("--address", envvar="RAY_ADDRESS", help="Run on the Ray cluster at this address; default: on this machine.")
    ] = "",
    cpus_per_trial: Annotated[
        float | None, typer.Option("--cpus-per-trial", min=0.01, help="CPUs that a trial takes of a node; default: its threads.")
    ] = None,
    gpus_per_trial: Annotated[
        float | None,
        typer.Option("--gpus-per-trial", min=0, help="GPUs, a process each, or part of one; default: one, where the cluster has GPUs."),
    ] = None,
    max_retries: Annotated[
        int, typer.Option("--max-retries", min=0, help="How often a trial is continued after its worker or node was lost.")
    ] = 3,
    wait_for_nodes: Annotated[
        bool, typer.Option("--wait-for-nodes", help="Wait for nodes that can take a trial, where there are none yet.")
    ] = False,
) -> None:
    """The options of commands that may run on a cluster."""


placing = taking(_placing)


@app.command()
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


@app.command()
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


@app.command()
@placing
@taking(_timing, but=("latency", "latency_scale", "latency_size"))
@taking(_shared, but=("input_size", "score_on", "eval_", "distill_from", "teacher_weights", "distill"))
def search(
    space: Annotated[str, typer.Option("--space", help="A preset (micro, convnext, repvit, mixers) or a YAML file.")] = "",
    sampler: Annotated[str, typer.Option("--sampler", help="Who proposes: vitnas, tpe, nsga2, gp or random.")] = "vitnas",
    objectives: Annotated[
        str, typer.Option("--objectives", help="accuracy and any of latency, latency-p99, macs, params, memory, energy.")
    ] = "accuracy,latency",
    max_latency: Annotated[str | None, typer.Option("--max-latency", help="Limit, such as 5ms.")] = None,
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


@app.command()
@training
def train(
    network: Annotated[str, typer.Argument(help="A published network or micro variant (`vitnas models list`), or a JSON file with one.")],
    train_on: Annotated[str, typer.Option("--train-on", help="train, or all: the validation images too.")] = "train",
    seeds: SeedsOption = 1,
    executor: ExecutorOption = "local",
    **options: Any,
) -> None:
    """Train one network. Example: vitnas train convnext-micro --epochs 5"""
    from .roadmap.zoo import variant

    if not network.endswith(".json"):
        network = variant(network).name
    _run("train", locals())


@app.command()
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
    with _cluster(study, options, plan=plan) as cluster:
        _run_study(study, store, plan=plan, as_json=as_json, cluster=cluster)


@app.command("plan")
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
    _run_study(_from_file(file, data), store, plan=True, as_json=as_json, workers=workers, freeze=freeze)


@contextmanager
def _cluster(study: Study, options: dict[str, Any], *, plan: bool) -> Iterator[Cluster | None]:
    """The cluster that the options of a command name, if it takes them; None for this machine, also for a study that runs in the driver's
    process, and for a plan."""
    address, cpus, gpus = options.get("address", ""), options.get("cpus_per_trial"), options.get("gpus_per_trial")
    wait = options.get("wait_for_nodes", False)
    if not address and (cpus is not None or gpus is not None or wait):
        raise ValueError("cpus-per-trial, gpus-per-trial, wait-for-nodes: are for clusters: name one with --address")
    if not address or plan or study.executor == "local":
        yield None
        return
    from .studies.running.cluster import Demand, on_cluster

    with on_cluster(address, Demand(cpus=cpus, gpus=gpus, retries=options["max_retries"], wait=wait)) as cluster:
        yield cluster


@app.command()
def report(
    study: Annotated[str, typer.Argument(help="A study's name, or the beginning of it; default: the latest.")] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Make a study's tables and figures again, from the store alone. Example: vitnas report"""
    from rich.console import Console

    from .studies.library import find_study
    from .studies.report.make import make_report, print_report
    from .studies.report.search_report import make_search_report, print_search_report

    opened = _store(store)
    folder = find_study(opened, study)
    out = Console(quiet=True) if as_json else console()
    if (folder / "search.json").exists():
        print_search_report(make_search_report(opened, folder.name), out)
    else:
        print_report(make_report(opened, folder.name), out)
    if as_json:
        typer.echo((folder / "report.json").read_text())
        return
    console().print(f"files in {opened.shown(folder)}", highlight=False)


@app.command()
def status(
    study: Annotated[str, typer.Argument(help="A study's name, or the beginning of it; default: the latest.")] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Where a study stands. Example: vitnas status"""
    from .studies.library import find_study, standing, time_left

    opened = _store(store)
    name = find_study(opened, study).name
    rows = standing(opened, name)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    _table(
        ["arm", "seed", "trial", "state", "epoch", "top-1", "where"],
        [[str(r[k]) for k in ("arm", "seed", "trial", "state", "epoch", "top1", "where")] for r in rows],
    )
    for row in rows:
        if row["why"]:
            typer.echo(f"trial {row['trial']} failed: {row['why']}")
    from .studies.running.live import duration

    left = time_left(opened, name)
    done = sum(r["state"] in ("done", "diverged") for r in rows)
    ahead = (
        "" if done == len(rows) else "; time left unknown yet" if left is None else f"; about {duration(left[0])} left, {left[1]} at a time"
    )
    typer.echo(f"{name}: {done} of {len(rows)} trials done{ahead}")


@app.command()
def logs(
    trial: Annotated[str, typer.Argument(help="A trial's id, or the beginning of it.")],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """What befell a trial: attempts, epochs, errors. Example: vitnas logs 3f2a"""
    from .studies.trial_log import find_trial, trial_log

    opened = _store(store)
    for line in trial_log(opened, find_trial(opened, trial)):
        typer.echo(line)


NamesArgument = Annotated[list[str], typer.Argument(help="Published networks, files with a network as JSON, or studies.")]
LatencyDevice = Annotated[str, typer.Option("--device", help="cpu or cuda.")]
BackendOption = Annotated[str, typer.Option("--backend", help="eager, compile, onnxruntime or openvino.")]
BatchOption = Annotated[int, typer.Option("--batch", min=1, help="Images at a time.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="fp32, bf16, fp16 or int8.")]
LatencyThreads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads, each pinned to a core where the system allows.")]
NetworkSize = Annotated[int | None, typer.Option("--input-size", min=1, help="Input size in pixels; default: the network's.")]
CacheOption = Annotated[str, typer.Option("--cache", help="warm, or cold: caches emptied before every pass.")]
SecondsOption = Annotated[float, typer.Option("--seconds", min=0.1, max=3600, help="Seconds of measuring a network, over all processes.")]


def _measuring(
    device: LatencyDevice = "cpu",
    backend: BackendOption = "eager",
    batch: BatchOption = 1,
    precision: PrecisionOption = "fp32",
    threads: LatencyThreads = 1,
    input_size: NetworkSize = None,
    seconds: SecondsOption = 2.0,
    on: Annotated[str, typer.Option("--on", help="Measure on the node of a Ray cluster that has this custom resource.")] = "",
    address: Annotated[str, typer.Option("--address", help="The cluster's address for --on; default: RAY_ADDRESS, or this machine.")] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """The options of every command that measures networks."""


@app.command()
@taking(_measuring)
def verify(
    study: Annotated[str, typer.Argument(help="A study in the paper's order; default: the latest.")] = "",
    paper: Annotated[str, typer.Option("--paper", help="convnext or repvit; default: convnext.")] = "",
    claims: Annotated[
        bool, typer.Option("--claims", help="Instead, hold what papers claim about speed against latency measured here.")
    ] = False,
    **options: Any,
) -> None:
    """Hold a study's effects against the paper's own. Example: vitnas verify --paper convnext"""
    store, as_json = options.pop("store"), options.pop("as_json")
    if claims:
        if study or paper:
            raise ValueError("claims: are about published networks: leave the study and --paper out")
        from .studies.latency import claims as literature

        opened = _prepared(store)
        with _measuring_at(options.pop("on"), options.pop("address")) as measuring:
            held = literature.claims(opened, **options, **measuring, say=_progress)
        _lines(held.lines(), held.to_dict(), as_json=as_json)
        return
    given = [name for name, value in options.items() if value != signature(_measuring).parameters[name].default]
    if given:
        raise ValueError(f"{given[0].replace('_', '-')}: says how --claims measures: add --claims, or leave it out")
    from .studies.report.verify import choose, verification_lines
    from .studies.report.verify import verify as hold_against

    opened, paper = _store(store), paper or "convnext"
    found = hold_against(opened, choose(opened, paper, study), paper=paper)
    _lines(verification_lines(found), found.to_dict(), as_json=as_json)


@app.command()
def audit(
    cheap: Annotated[str, typer.Argument(help="The study that is to stand for the other.")],
    full: Annotated[str, typer.Argument(help="The full run of the same track; it need not be finished.")],
    full_store: Annotated[str, typer.Option("--full-store", help="The store of the full run; default: the same.")] = "",
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Say whether a cheap study has the signs of a full run. Example: vitnas audit quick thorough"""
    from .studies.library import find_study
    from .studies.report.audit import audit as hold_against
    from .studies.report.audit import audit_lines

    opened, other = _store(store), _store(full_store or store)
    found = hold_against(opened, find_study(opened, cheap).name, find_study(other, full).name, full_store=other)
    _lines(audit_lines(found), found.to_dict(), as_json=as_json)


@app.command()
def sync(
    study: Annotated[str, typer.Argument(help="A study's name; default: the latest.")] = "", store: StoreOption = DEFAULT_STORE
) -> None:
    """Bring MLflow up to date with the store. Example: vitnas sync"""
    from .studies.library import find_study
    from .studies.tracking.sync import sync as bring_up_to_date

    opened = _store(store)
    say = console()
    done = bring_up_to_date(opened, find_study(opened, study).name)
    say.print(
        f"{done.uri}: {done.created} runs made, {done.mended} mended, {done.unchanged} unchanged, {done.removed} removed", highlight=False
    )


@app.command()
def ui(
    study: Annotated[str, typer.Argument(help="A study's name; default: the latest.")] = "",
    port: Annotated[int | None, typer.Option("--port", help="Port on 127.0.0.1; default: a free one.")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")] = True,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Start MLflow's UI on the store, opened on the comparison of the arms. Example: vitnas ui"""
    from .studies.library import find_study
    from .studies.tracking.ui import serve_ui

    opened = _store(store)
    serve_ui(opened, find_study(opened, study).name, port=port, open_browser=browser)


@steps_app.callback()
def steps(
    context: typer.Context,
    track: TrackOption = "convnext-t",
    scale: ScaleOption = "micro",
    input_size: SizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List a track's steps. Example: vitnas steps --track convnext-b"""
    if context.invoked_subcommand:
        return
    from .roadmap.listing import step_rows
    from .roadmap.tracks import track as find_track

    rows = step_rows(find_track(track), scale=scale, input_size=input_size)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    _table(
        ["step", "sets", "requires", "paper top-1", "paper delta", "here"],
        [
            [r["step"], r["sets"], ", ".join(r["requires"]), _shown(r["paper_top1"]), _shown(r["paper_delta"], "+.2f"), r["liveness"]]
            for r in rows
        ],
    )


@steps_app.command("show")
def steps_show(
    name: Annotated[str, typer.Argument(help="A step, or field=value.")],
    track: TrackOption = "convnext-t",
    scale: ScaleOption = "paper",
    input_size: SizeOption = None,
) -> None:
    """What a step does to the network's table, on top of the steps before it. Example: vitnas steps show depthwise"""
    from .roadmap.listing import step_diff
    from .roadmap.tracks import track as find_track

    for line in step_diff(find_track(track), name, scale=scale, input_size=input_size):
        typer.echo(line)


@models_app.command("list")
def models_list(as_json: JsonOption = False) -> None:
    """List the published networks. Example: vitnas models list"""
    from .roadmap.zoo import VARIANTS

    rows = [
        {
            "name": v.name,
            "system": v.system,
            "input_size": v.input_size,
            "sizes": v.sizes,
            "micro": v.micro,
            "top1": v.top1,
            "source": v.source,
        }
        for v in VARIANTS
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    _table(
        ["name", "system", "input", "works at", "paper top-1", "micro variant", "source"],
        [[v.name, v.system, str(v.input_size), v.sizes, _shown(v.top1), v.micro, v.source] for v in VARIANTS],
    )


@models_app.command("show")
def models_show(
    name: Annotated[str, typer.Argument(help="A published network.")],
    weights: Annotated[Path | None, typer.Option("--weights", help="A checkpoint to load, by its official names.")] = None,
    scale: ScaleOption = "paper",
    input_size: SizeOption = None,
    classes: Annotated[int, typer.Option("--classes", min=1, help="Number of classes.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """A network's table. Example: vitnas models show convnext-t"""
    from .roadmap.listing import network_lines
    from .roadmap.spec import to_dict

    found, spec, size = _network(name, scale, input_size, classes)
    if weights is not None:
        from .roadmap.create import with_weights
        from .roadmap.weights import read_checkpoint

        network, dialect = with_weights(found, spec, read_checkpoint(weights))
        pair = " with two classifiers" if network.spec.head.classifiers > spec.head.classifiers else ""
        typer.echo(f"{weights} fits {found.name}{pair} ({dialect} names)")
        return
    if as_json:
        typer.echo(json.dumps(to_dict(spec, names=True), indent=1))
        return
    for line in network_lines(spec, size):
        typer.echo(line)


@models_app.command("cost")
def models_cost(
    name: Annotated[str, typer.Argument(help="A published network.")] = "",
    track: Annotated[str, typer.Option("--track", help="All rungs of a track instead.")] = "",
    scale: ScaleOption = "paper",
    input_size: SizeOption = None,
    classes: Annotated[int, typer.Option("--classes", min=1, help="Number of classes.")] = 1000,
    as_json: JsonOption = False,
) -> None:
    """Parameters and multiply-adds, per stage or per rung. Example: vitnas models cost --track convnext-t"""
    if bool(name) == bool(track):
        raise ValueError("name one network, or a track with --track")
    from .roadmap.cost import cost

    if track:
        from .roadmap.steps import select
        from .roadmap.tracks import track as find_track

        found = find_track(track)
        size = input_size or found.scale(scale).input_size
        network = {s.name for s in found.steps if s.owner == "network"}
        rows = []
        for rung in select(found, "all").cumulative():
            spec = found.spec({k: v for k, v in rung.choice.items() if k in network}, scale=scale, input_size=size, classes=classes)
            rows.append((rung.name, cost(spec, size)))
    else:
        variant, spec, size = _network(name, scale, input_size, classes)
        rows = [(variant.name, cost(spec, size))]
    if as_json:
        typer.echo(
            json.dumps([{"name": n, "params": c.params, "macs": c.macs, "macs_conv_linear": c.macs_conv_linear} for n, c in rows], indent=1)
        )
    elif track:
        _table(
            ["rung", "parameters", "GMACs", "GMACs conv+linear"],
            [[n, f"{c.params:,}", f"{c.macs / 1e9:.4f}", f"{c.macs_conv_linear / 1e9:.4f}"] for n, c in rows],
        )
    else:
        counted = rows[0][1]
        table = [[r.section, "x".join(map(str, r.shape)), f"{r.params:,}", f"{r.macs / 1e6:,.2f}"] for r in counted.rows]
        _table(
            ["section", "output", "parameters", "MMACs"],
            [*table, ["all", f"{size} pixels in", f"{counted.params:,}", f"{counted.macs / 1e6:,.2f}"]],
        )


@models_app.command("latency")
@taking(_measuring)
def models_latency(
    names: Annotated[list[str] | None, typer.Argument(help="Published networks.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All published networks.")] = False,
    min_accuracy: Annotated[float | None, typer.Option("--min-accuracy", help="Name the fastest with this top-1 (%) or more.")] = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Draw the paper's accuracy against latency: a .png, .svg or .pdf.")
    ] = None,
    **options: Any,
) -> None:
    """Set published accuracies against latency measured here. Example: vitnas models latency --all --min-accuracy 80"""
    from .studies.latency import commands
    from .studies.latency.front import check_figure, draw

    if figure is not None:
        check_figure(figure)
    store, as_json = _prepared(options.pop("store")), options.pop("as_json")
    with _measuring_at(options.pop("on"), options.pop("address")) as measuring:
        found = commands.models_latency(
            store, tuple(names or ()), everything=everything, min_accuracy=min_accuracy, **options, **measuring, say=_progress
        )
    _latency(found, as_json=as_json)
    if figure is not None:
        draw(found.entries, figure, label=found.label, min_accuracy=min_accuracy)


@latency_app.command("run")
@taking(_measuring)
def latency_run(
    names: NamesArgument,
    cache: CacheOption = "warm",
    throughput: Annotated[bool, typer.Option("--throughput", help="Images a second at the batch beyond which it gains nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure even what the store knows.")] = False,
    new_baseline: Annotated[bool, typer.Option("--new-baseline", help="Take the reference's present speed for normal.")] = False,
    **options: Any,
) -> None:
    """Measure networks on this device. Example: vitnas latency run convnext-t swin-t --threads 2"""
    from .studies.latency import commands

    store, as_json = _prepared(options.pop("store")), options.pop("as_json")
    options |= {"cache": cache, "throughput": throughput, "again": again, "new_baseline": new_baseline}
    with _measuring_at(options.pop("on"), options.pop("address")) as measuring:
        found = commands.run(store, names, **options, **measuring, say=_progress)
    _latency(found, as_json=as_json)


@latency_app.command("bundle")
def latency_bundle(
    names: NamesArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder to write, which is then copied to the device.")] = Path("latency-bundle"),
    batch: BatchOption = 1,
    precision: PrecisionOption = "fp32",
    input_size: NetworkSize = None,
    cache: CacheOption = "warm",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write networks and a script that measures them on another device. Example: vitnas latency bundle repvit-m0.9"""
    from .studies.latency import commands

    lines = commands.bundle(
        _prepared(store), names, out, batch=batch, precision=precision, input_size=input_size, cache=cache, say=_progress
    )
    for line in lines:
        typer.echo(line)


@latency_app.command("import")
def latency_import(
    file: Annotated[Path, typer.Argument(help="What the bundle's script wrote.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Bring the readings of a bundle into the store. Example: vitnas latency import readings.json"""
    from .studies.latency import commands

    _latency(commands.bring_back(_prepared(store), file), as_json=as_json)


@contextmanager
def _measuring_at(resource: str, address: str) -> Iterator[dict[str, Any]]:
    """What commands are to measure with: nothing of their own here, a node of a cluster where one is named."""
    if address and not resource:
        raise ValueError("address: says where the cluster of --on is: name the node's custom resource with --on")
    if not resource:
        yield {}
        return
    from .studies.running.elsewhere import node

    with node(resource, address) as there:
        yield {"measuring": there.measure}


def _prepared(path: str) -> Store:
    from .studies.store import Store

    store = Store(path)
    store.prepare()
    return store


def _progress(line: str) -> None:
    typer.echo(line, err=True)


def _latency(found: Any, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
        return
    _table(found.header, found.rows)
    for note in found.notes:
        typer.echo(note)


def _network(name: str, scale: str, input_size: int | None, classes: int) -> tuple[Any, Any, int]:
    from .roadmap.zoo import variant

    found = variant(name)
    if scale != "paper":
        found = variant(found.micro) if scale == "micro" else found
        if scale != "micro":
            raise ValueError(f"published networks come at scale paper or micro, not {scale!r}")
    size = input_size or found.input_size
    return found, found.spec(input_size=size, classes=classes), size


def _run(kind: str, options: dict[str, Any]) -> None:
    """Run the study that the options of a command make."""
    given = options | options["options"]
    known = set(_study_fields())
    values = {k.removesuffix("_"): v for k, v in given.items() if k.removesuffix("_") in known}
    values["set"] = dict(_setting(s) for s in given["set_"] or [])
    if "factor" in values:
        values["factor"] = _factors(values["factor"] or [])
    from .studies.study import Study

    study = Study(kind=kind, **values)  # type: ignore[arg-type]
    with _cluster(study, given, plan=given["plan"]) as cluster:
        _run_study(study, given["store"], plan=given["plan"], as_json=given["as_json"], cluster=cluster)


def _study_fields() -> tuple[str, ...]:
    from .studies.study import Study

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


def _from_file(file: Path, data: str) -> Study:
    from .studies import presets
    from .studies.study_file import read_study

    named = str(file) == file.stem and not file.is_file()
    study = read_study(presets.find(file.name) if named else file)
    return replace(study, data=data) if data else study


def _store(path: str) -> Any:
    from .studies.store import Store

    store = Store(path)
    store.refresh()
    if not store.studies.is_dir():
        raise ValueError(f"no store at {store.address}: run a study first, or name the store with --store")
    return store


def _run_study(
    study: Study, path: str, *, plan: bool, as_json: bool, workers: int | None = None, freeze: bool = False, cluster: Cluster | None = None
) -> None:
    from .studies.running.driver import prospect, run_study
    from .studies.store import Store

    store = Store(path)
    out = console()
    study = replace(study, confirmed=True) if plan and study.kind == "ablate" else _confirmed(study)
    if study.kind == "search":
        _run_search(store, study, plan=plan, as_json=as_json, freeze=freeze, cluster=cluster)
        return
    if plan:
        from .studies.running.outlook import freeze_plan, print_outlook

        ready = prospect(store, study, say=lambda line: None)
        if freeze:
            freeze_plan(ready, out if not as_json else None)
        print_outlook(ready, out, as_json=as_json, workers=workers)
        return
    if as_json:
        from rich.console import Console

        out = Console(stderr=True)
    outcome = run_study(store, study, out, cluster)
    if as_json:
        typer.echo((store.studies / study.folder_name / "report.json").read_text())
    if outcome.failed:
        raise typer.Exit(3)


def _run_search(store: Store, study: Study, *, plan: bool, as_json: bool, freeze: bool, cluster: Cluster | None) -> None:
    from rich.console import Console

    from .studies.running.search import prepare_search, run_search
    from .studies.running.search_outlook import print_search_outlook

    if freeze:
        raise ValueError("freeze: a search has no hypotheses to freeze: leave --freeze out")
    if plan:
        print_search_outlook(prepare_search(store, study, say=lambda line: None), console(), as_json=as_json)
        return
    outcome = run_search(store, study, Console(stderr=True) if as_json else console(), cluster)
    if as_json:
        typer.echo((store.studies / study.folder_name / "report.json").read_text())
    if outcome.failed:
        raise typer.Exit(3)


def _confirmed(study: Study) -> Study:
    """The study, confirmed where it is large and the user at the terminal says so; the design refuses it otherwise."""
    if study.kind != "ablate" or study.design != "factorial" or study.confirmed:
        return study
    from .studies.designs.drafts import TooMany, draw, input_size

    try:
        draw(study, 10, input_size(study))
    except TooMany as error:
        if not sys.stdin.isatty():
            raise
        typer.confirm(f"{error}. Run it all the same?", abort=True)
        return replace(study, confirmed=True)
    return study


def _lines(lines: list[str], data: dict[str, Any], *, as_json: bool) -> None:
    for line in [json.dumps(data, indent=1)] if as_json else lines:
        typer.echo(line)


def _shown(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else format(value, form)


def _table(header: list[str], rows: list[list[str]]) -> None:
    """Columns in plain text: the same in a terminal and in a pipe."""
    widths = [max(len(header[i]), *(len(r[i]) for r in rows)) if rows else len(header[i]) for i in range(len(header))]
    for row in [header, *rows]:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _stop(number: int, frame: object) -> None:
    """SIGTERM ends a command as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> None:
    """The entry point: errors a user can mend become one line."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        code = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:  # whoever read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except Exception as error:
        if hasattr(error, "show"):  # click's own usage errors
            error.show()
            raise SystemExit(getattr(error, "exit_code", 2)) from None
        if isinstance(error, ValueError | OSError) and not os.environ.get("VITNAS_TRACEBACK"):
            typer.echo(f"vitnas: {error}", err=True)
            raise SystemExit(1) from None
        raise
    if code == INTERRUPTED:
        typer.echo("interrupted: run the same command again to continue", err=True)
    raise SystemExit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
