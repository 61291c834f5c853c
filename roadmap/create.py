"""create_model: a published network by name, with weights under its official names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .model import Network, build
from .spec import NetSpec
from .weights import State, WeightsError, as_state, load_weights, read_checkpoint
from .zoo import variant
from .zoo.entry import Variant


def create_model(
    name: str, weights: str | Path | Mapping[str, Any] | None = None, *, input_size: int | None = None, classes: int = 1000
) -> Network:
    """The published network `name` in eval mode: `(N, 3, H, W)` images to logits `(N, classes)`.

    `weights` is a checkpoint file (.pth, .safetensors, .npz) or a state dict of tensors or numpy arrays, under the names of the official
    code, of timm or of this package; buffers that hold constants may be missing, and none is ever unpickled. Without weights the network is
    newly initialised. Weights with two averaged classifiers give a network with two (RepViT's published ones). `input_size` is in pixels;
    default: the variant's own. In training mode networks of several classifiers give a tuple of logits.

    Raises ValueError for an unknown name, a size that does not fit, and weights that do not (`WeightsError`).
    """
    found = variant(name)
    spec = found.spec(input_size=input_size or found.input_size, classes=classes)
    if weights is None:
        return build(spec).eval()
    state = read_checkpoint(weights) if isinstance(weights, str | Path) else as_state(weights)
    return with_weights(found, spec, state)[0].eval()


def with_weights(found: Variant, spec: NetSpec, state: State) -> tuple[Network, str]:
    """The network of `spec`, a form of `found`, with `state` loaded; and whose names those were. WeightsError where they do not fit."""
    network = Network(spec)
    try:
        return network, load_weights(network, spec, state, found.dialects())
    except WeightsError as error:
        if spec.head.classifiers > 1 or spec.head.pool == "tokens":
            raise
        pair = Network(replace(spec, head=replace(spec.head, classifiers=2)))
        try:
            return pair, load_weights(pair, pair.spec, state, found.dialects())
        except WeightsError:
            raise error from None
