"""Derived values: what a network and a recipe amount to, number by number, so that a study can be repeated elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...roadmap.layers import Act, Conv, Layer, Norm, Residual
from ...roadmap.spec import NetSpec, from_dict
from ..plan import Arm, Plan
from ..recipe import Recipe
from ..store import Store, read_json


def networks(store: Store, plan: Plan) -> dict[str, NetSpec]:
    """The networks of the plan's arms by fingerprint, from what the store has of their trials; those that cannot be read here (a
    package is missing, or nothing has begun) are left out."""
    out = {}
    for arm in plan.arms:
        written = next((found for t in arm.trials if (found := read_json(store.trial_folder(t) / "trial.json"))), None)
        if written is None or arm.fingerprint in out:
            continue
        try:
            out[arm.fingerprint] = from_dict(written["network"])
        except (ValueError, KeyError, TypeError):
            continue
    return out


def derived(arm: Arm, spec: NetSpec | None) -> dict[str, str]:
    """An arm's values by name: of the network (channels, blocks, map and kernels of each stage, stem, norms, activations, biases) and
    of the recipe (every field, and the learning rate at its batch size)."""
    out = {}
    if spec is not None:
        out = _network(spec, arm.recipe.input_size)
    out |= {"parameters": str(arm.params), "multiply-adds": str(arm.macs), "epochs": str(arm.epochs)}
    if getattr(arm, "fraction", 1.0) < 1:
        out["data-fraction"] = f"{arm.fraction:g}"
    return out | recipe_values(arm.recipe)


def recipe_values(recipe: Recipe) -> dict[str, str]:
    """The recipe's fields as text, and the learning rate that they amount to."""
    values = {k.replace("_", "-"): field(v) for k, v in recipe.to_dict().items()}
    return values | {"peak learning rate": field(recipe.peak_lr)}


def field(value: object) -> str:
    """A recipe's value as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(field(v) for v in value)
    return "whole batch" if value is None else str(value) or "none"


def differing(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The names of the values that are not the same in all rows, in order."""
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if len({row.get(name, "") for row in rows}) > 1]


def _network(spec: NetSpec, input_size: int) -> dict[str, str]:
    shapes = spec.shapes_of_stages(input_size)
    stem = [layer for layer in spec.stem if isinstance(layer, Conv)]
    spatial = [_spatial(stage.blocks) for stage in spec.stages]
    layers = [layer for stage in spec.stages for layer in _all(stage.blocks)]
    convs = [layer for layer in layers if isinstance(layer, Conv)]
    return {
        "channels": "/".join(str(shape[0]) for name, shape in shapes if name.startswith("stages.")),
        "blocks": "/".join(str(len(stage.blocks)) for stage in spec.stages),
        "map": "/".join(str(shape[1]) for name, shape in shapes if name.startswith("stages.")),
        "kernels": "/".join(str(c.kernel) if c else "-" for c in spatial),
        "groups": "/".join(str(c.groups) if c else "-" for c in spatial),
        "stem kernel, stride": ", ".join(f"{c.kernel}, {c.stride}" for c in stem),
        "norms": _kinds(layer.norm for layer in layers if isinstance(layer, Norm)),
        "norms a block": "/".join(_count(stage.blocks, Norm) for stage in spec.stages),
        "activations": _kinds(layer.act for layer in layers if isinstance(layer, Act)),
        "activations a block": "/".join(_count(stage.blocks, Act) for stage in spec.stages),
        "biases": _kinds("yes" if c.bias else "no" for c in convs),
        "layer scale": _kinds("yes" if r.layer_scale else "no" for r in layers if isinstance(r, Residual)),
    }


def _all(layers: Sequence[Layer]) -> list[Layer]:
    return [part for layer in layers for part in (layer, *(p for group in layer.children() for p in _all(group)))]


def _spatial(blocks: Sequence[Layer]) -> Conv | None:
    """The convolution with the largest kernel of a stage's blocks; None where none looks at more than a pixel."""
    found = [layer for layer in _all(blocks) if isinstance(layer, Conv) and layer.kernel > 1]
    return max(found, key=lambda c: (c.kernel, c.groups), default=None)


def _count(blocks: Sequence[Layer], kind: type[Layer]) -> str:
    return str(sum(isinstance(layer, kind) for layer in _all(blocks[-1:])))


def _kinds(found: object) -> str:
    return ", ".join(dict.fromkeys(found)) or "-"  # type: ignore[call-overload]
