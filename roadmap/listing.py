"""Networks and steps as text and rows: tables, and what a step changes in them (no torch)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import fields
from itertools import groupby
from typing import Any

from .layers import Layer, Layers
from .liveness import step_liveness
from .spec import NetSpec, named
from .steps import Choice, Paper, Track, adopted_value, rung_name, select


def describe(layer: Layer) -> str:
    """A layer in one line: its kind and the options that are not at their defaults."""
    shown = []
    for f in fields(layer):
        value = getattr(layer, f.name)
        if f.name == "name" or value == f.default or (isinstance(value, tuple) and value and isinstance(value[0], Layer)) or value == ():
            continue
        if f.name == "padding" and f.default is None:
            kernel, dilation = layer.taps()
            if value == dilation * (kernel - 1) // 2:
                continue
        shown.append(f.name if value is True else f"{f.name}={value}")
    return f"{layer.kind} {' '.join(shown)}".strip()


def layer_lines(layers: Layers, indent: str) -> Iterator[str]:
    """The layers, one a line, children indented."""
    for name, layer in named(layers):
        yield f"{indent}{name}: {describe(layer)}"
        for f in fields(layer):
            value = getattr(layer, f.name)
            if isinstance(value, tuple) and value and isinstance(value[0], Layer):
                if f.name != "body":
                    yield f"{indent}  {f.name}:"
                yield from layer_lines(value, indent + ("  " if f.name == "body" else "    "))


def network_lines(spec: NetSpec, input_size: int | None = None) -> Iterator[str]:
    """The network's table; equal neighbouring blocks are written once. With an input size, output shapes stand beside sections."""
    shapes = spec.shapes(input_size) if input_size else {}

    def size(path: str) -> str:
        return f"  -> {'x'.join(map(str, shapes[path]))}" if path in shapes else ""

    yield f"{spec.name or 'network'}, fingerprint {spec.fingerprint}" + (f", {input_size} pixels" if input_size else "")
    yield "stem" + size("stem")
    yield from layer_lines(spec.stem, "  ")
    for i, stage in enumerate(spec.stages):
        yield f"stage {i + 1}"
        if stage.transition:
            yield "  transition" + size(f"stages.{i}.transition")
            yield from layer_lines(stage.transition, "    ")
        j = 0
        for block, group in groupby(stage.blocks):
            count = len(list(group))
            yield f"  {count} x block{size(f'stages.{i}.blocks.{j}')}"
            yield from layer_lines(block.body, "    ")
            j += count
        if stage.after:
            yield "  after"
            yield from layer_lines(stage.after, "    ")
    yield "head"
    if spec.head.before:
        yield "  before"
        yield from layer_lines(spec.head.before, "    ")
    yield f"  pool: {spec.head.pool}"
    yield from layer_lines(spec.head.after, "  ")
    norm = " with a norm each" if spec.head.classifier_norm else ""
    yield f"  {spec.head.classifiers} x linear to {spec.head.classes} classes{norm}"


def step_diff(track: Track, name: str, *, scale: str, input_size: int | None) -> Iterator[str]:
    """What one step changes in the table, on top of the adopted steps before it (or of what it requires); per block, what goes and
    what comes."""
    step = track.step(name.partition("=")[0])
    selection = select(track, name)
    value = adopted_value(step, selection.chosen[0][1])
    size = input_size or track.scale(scale).input_size
    yield f"{rung_name(step, value)}: {step.definition}"
    if step.requires:
        yield f"requires {', '.join(step.requires)}"
    if step.owner == "recipe":
        yield "a training technique: the network stays as it is"
        return
    earlier = track.steps[: track.steps.index(step)]
    before: Choice = {s.name: s.value for s in earlier if s.adopted and s.owner == "network"}
    old = track.spec(before, scale=scale, input_size=size)
    new = track.spec({**before, step.name: value}, scale=scale, input_size=size)
    alive = step_liveness(track, step, value, scale=scale, input_size=size)
    yield f"at scale {scale}, {size} pixels, after {', '.join(before) or 'the base'}: {alive.state}" + (
        f" ({alive.note})" if alive.note else ""
    )
    for line in difflib.unified_diff(list(network_lines(old, size))[1:], list(network_lines(new, size))[1:], lineterm="", n=2):
        if not line.startswith(("---", "+++")):
            yield line


def step_rows(track: Track, *, scale: str, input_size: int | None = None) -> list[dict[str, Any]]:
    """One row a step: what it sets, requires and means, what its paper reported, and whether it acts at this scale and input."""
    size = input_size or track.scale(scale).input_size
    rows = []
    previous = track.paper.get(track.base, Paper()).top1
    for step in track.steps:
        paper = track.paper.get(step.name, Paper())
        delta = None
        if paper.top1 is not None and previous is not None and step.adopted:
            delta = round(paper.top1 - previous, 2)
        if paper.top1 is not None and step.adopted:
            previous = paper.top1
        value = step.value if step.adopted or not step.levels else step.levels[-1]
        alive = step_liveness(track, step, value, scale=scale, input_size=size)
        levels = [v if not isinstance(v, tuple) else v[0] for v in step.levels]
        rows.append(
            {
                "step": step.name,
                "title": step.title,
                "sets": f"{step.field.replace('_', '-')}="
                + ("|".join(map(str, levels)) if len(levels) > 2 or (not step.adopted and levels) else str(step.value)),
                "adopted": step.adopted,
                "requires": list(step.requires),
                "definition": step.definition,
                "paper_top1": paper.top1,
                "paper_delta": delta,
                "liveness": alive.state,
                "note": alive.note,
            }
        )
    return rows
