"""The options that several commands share, and how a command takes a whole set of them."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from typing import Annotated

import typer

DEFAULT_STORE = ".vitnas"
StoreOption = Annotated[str, typer.Option("--store", envvar="VITNAS_STORE", help="The trial store: a folder, or s3://bucket/prefix.")]
TrackOption = Annotated[str, typer.Option("--track", help="Track: convnext-t, convnext-b or repvit-m0.9.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PlanOption = Annotated[bool, typer.Option("--plan", help="Print what would run and what it costs; train nothing.")]
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


def training_options(
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


training = taking(training_options)
LatencyScale = Annotated[str, typer.Option("--latency-scale", help="Measure each arm's twin at this scale; default: the network trained.")]
LatencySize = Annotated[int | None, typer.Option("--latency-size", help="Input size of the measured networks; default: the scale's.")]


def timing_options(
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


timing = taking(timing_options)


def placing_options(
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


placing = taking(placing_options)
