"""The commands on steps and networks, which train nothing: steps, models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import JsonOption, ScaleOption, SizeOption, TrackOption
from .output import print_table, shown

steps_app = typer.Typer(help="List and show the steps of a track.", invoke_without_command=True, rich_markup_mode=None)
models_app = typer.Typer(help="List, show and cost networks.", no_args_is_help=True, rich_markup_mode=None)


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
    from ...roadmap.listing import step_rows
    from ...roadmap.tracks import track as find_track

    rows = step_rows(find_track(track), scale=scale, input_size=input_size)
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    print_table(
        ["step", "sets", "requires", "paper top-1", "paper delta", "here"],
        [
            [r["step"], r["sets"], ", ".join(r["requires"]), shown(r["paper_top1"]), shown(r["paper_delta"], "+.2f"), r["liveness"]]
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
    from ...roadmap.listing import step_diff
    from ...roadmap.tracks import track as find_track

    for line in step_diff(find_track(track), name, scale=scale, input_size=input_size):
        typer.echo(line)


@models_app.command("list")
def models_list(as_json: JsonOption = False) -> None:
    """List the published networks. Example: vitnas models list"""
    from ...roadmap.zoo import VARIANTS

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
    print_table(
        ["name", "system", "input", "works at", "paper top-1", "micro variant", "source"],
        [[v.name, v.system, str(v.input_size), v.sizes, shown(v.top1), v.micro, v.source] for v in VARIANTS],
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
    from ...roadmap.listing import network_lines
    from ...roadmap.spec import to_dict

    found, spec, size = _network(name, scale, input_size, classes)
    if weights is not None:
        from ...roadmap.create import with_weights
        from ...roadmap.weights import read_checkpoint

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
    from ...roadmap.cost import cost

    if track:
        from ...roadmap.steps import select
        from ...roadmap.tracks import track as find_track

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
        print_table(
            ["rung", "parameters", "GMACs", "GMACs conv+linear"],
            [[n, f"{c.params:,}", f"{c.macs / 1e9:.4f}", f"{c.macs_conv_linear / 1e9:.4f}"] for n, c in rows],
        )
    else:
        counted = rows[0][1]
        table = [[r.section, "x".join(map(str, r.shape)), f"{r.params:,}", f"{r.macs / 1e6:,.2f}"] for r in counted.rows]
        print_table(
            ["section", "output", "parameters", "MMACs"],
            [*table, ["all", f"{size} pixels in", f"{counted.params:,}", f"{counted.macs / 1e6:,.2f}"]],
        )


def _network(name: str, scale: str, input_size: int | None, classes: int) -> tuple[Any, Any, int]:
    from ...roadmap.zoo import variant

    found = variant(name)
    if scale != "paper":
        found = variant(found.micro) if scale == "micro" else found
        if scale != "micro":
            raise ValueError(f"published networks come at scale paper or micro, not {scale!r}")
    size = input_size or found.input_size
    return found, found.spec(input_size=size, classes=classes), size
