"""The commands that measure networks: latency, models latency."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import DEFAULT_STORE, JsonOption, StoreOption, taking
from .output import print_table, progress
from .stores import prepared_store

latency_app = typer.Typer(help="Measure networks on a device.", no_args_is_help=True, rich_markup_mode=None)
NamesArgument = Annotated[list[str], typer.Argument(help="Published networks, files with a network as JSON, or studies.")]
LatencyDevice = Annotated[str, typer.Option("--device", help="cpu or cuda.")]
BackendOption = Annotated[str, typer.Option("--backend", help="eager, compile, onnxruntime or openvino.")]
BatchOption = Annotated[int, typer.Option("--batch", min=1, help="Images at a time.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="fp32, bf16, fp16 or int8.")]
LatencyThreads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads, each pinned to a core where the system allows.")]
NetworkSize = Annotated[
    int | None, typer.Option("--input-size", min=1, help="Input size in pixels; default: the network's; a file's is 224.")
]
CacheOption = Annotated[str, typer.Option("--cache", help="warm, or cold: caches emptied before every pass.")]
SecondsOption = Annotated[
    float,
    typer.Option(
        "--seconds",
        min=0.1,
        max=3600,
        help="Seconds of measuring a network; up to four times as many where its interval stays wide.",
    ),
]


def measuring_options(
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


@latency_app.command("run")
@taking(measuring_options)
def latency_run(
    names: NamesArgument,
    cache: CacheOption = "warm",
    throughput: Annotated[bool, typer.Option("--throughput", help="Images a second at the batch beyond which it gains nothing.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Measure even what the store knows.")] = False,
    new_baseline: Annotated[
        bool, typer.Option("--new-baseline", help="Measure anew, and take the references' present speed for normal.")
    ] = False,
    **options: Any,
) -> None:
    """Measure networks on this device. Example: vitnas latency run convnext-t swin-t --threads 2"""
    from ..latency import commands

    store, as_json = prepared_store(options.pop("store")), options.pop("as_json")
    options |= {"cache": cache, "throughput": throughput, "again": again, "new_baseline": new_baseline}
    with measuring_at(options.pop("on"), options.pop("address")) as measuring:
        found = commands.run(store, names, **options, **measuring, say=progress)
    _latency(found, as_json=as_json)
    _refuse(found)


@latency_app.command("bundle")
def latency_bundle(
    names: NamesArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder to write, which is then copied to the device.")] = Path("latency-bundle"),
    batch: BatchOption = 1,
    precision: Annotated[str, typer.Option("--precision", help="fp32 or int8.")] = "fp32",
    input_size: NetworkSize = None,
    cache: CacheOption = "warm",
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Write networks and a script that measures them on another device. Example: vitnas latency bundle repvit-m0.9"""
    from ..latency import commands

    lines = commands.bundle(
        prepared_store(store), names, out, batch=batch, precision=precision, input_size=input_size, cache=cache, say=progress
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
    from ..latency import commands

    _latency(commands.bring_back(prepared_store(store), file), as_json=as_json)


@taking(measuring_options)
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
    from ..latency import commands
    from ..latency.front import check_figure, draw

    if figure is not None:
        check_figure(figure)
    store, as_json = prepared_store(options.pop("store")), options.pop("as_json")
    with measuring_at(options.pop("on"), options.pop("address")) as measuring:
        found = commands.models_latency(
            store, tuple(names or ()), everything=everything, min_accuracy=min_accuracy, **options, **measuring, say=progress
        )
    _latency(found, as_json=as_json)
    if figure is not None:
        draw(found.entries, figure, label=found.label, min_accuracy=min_accuracy)
    _refuse(found)


@contextmanager
def measuring_at(resource: str, address: str) -> Iterator[dict[str, Any]]:
    """What commands are to measure with: nothing of their own here, a node of a cluster where one is named."""
    if address and not resource:
        raise ValueError("address: says where the cluster of --on is: name the node's custom resource with --on")
    if not resource:
        yield {}
        return
    from ..running.elsewhere import node

    with node(resource, address) as there:
        yield {"measuring": there.measure}


def _latency(found: Any, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=1))
        return
    print_table(found.header, found.rows)
    for note in found.notes:
        typer.echo(note)


def _refuse(found: Any) -> None:
    """What is missing in what was shown, as the command's error."""
    if found.refused:
        raise ValueError(found.refused)
