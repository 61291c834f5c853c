"""The deployment form of a network: the same function in eval mode, with fewer layers.

A BatchNorm after a convolution goes into it; one before an unpadded convolution or the classifiers goes into those; a
re-parameterised depthwise convolution becomes a plain one. `deploy` does it to data, `fuse` to a network with its weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from .layers import Conv, Layer, Layers, Norm, depthwise
from .mixers import RepDepthwise
from .model import Network
from .spec import Head, NetSpec, Stage

State = dict[str, Tensor]
Scaling = tuple[Tensor, Tensor]  # per channel: x -> factor * x + shift


@dataclass(frozen=True)
class Fold:
    """One layer of the deployed sequence and the layers it stands for: positions `first` to `last`, the convolution at `conv`."""

    layer: Layer
    first: int
    last: int
    conv: int


def deploy(spec: NetSpec, *, one_head: bool = False) -> NetSpec:
    """The deployment form of `spec`; layers that are not known here stay as they are.

    `one_head` also makes one classifier of several over the same pooled vector, whose mean is what eval mode gives (RepViT).
    """
    stages = tuple(
        Stage(
            transition=_deployed(stage.transition),
            blocks=tuple(_inside(block) for block in stage.blocks),
            after=_deployed(stage.after),
        )
        for stage in spec.stages
    )
    return replace(spec, stem=_deployed(spec.stem), stages=stages, head=_head(spec.head, one_head=one_head))


def _head(head: Head, *, one_head: bool) -> Head:
    after = _deployed(head.after)
    merge = one_head and head.pool != "tokens"
    return replace(
        head,
        before=_deployed(head.before),
        after=after[:-1] if _ends_in_norm(after) else after,
        classifier_norm=False,
        classifiers=1 if merge else head.classifiers,
    )


def _is_batch_norm(layer: Layer) -> bool:
    return type(layer) is Norm and layer.norm == "batch"


def _ends_in_norm(layers: Layers) -> bool:
    return bool(layers) and _is_batch_norm(layers[-1])


def _deployed(layers: Layers) -> Layers:
    return tuple(fold.layer for fold in _folds(layers))


def _folds(layers: Layers) -> list[Fold]:
    """How a sequence is folded."""
    folds: list[Fold] = []
    i = 0
    while i < len(layers):
        first, layer = i, layers[i]
        following = layers[i + 1] if i + 1 < len(layers) else None
        if _is_batch_norm(layer) and type(following) is Conv and not following.padding:
            i, layer = i + 1, following
        conv = i
        if type(layer) is Conv:
            bias = first < i
            if i + 1 < len(layers) and _is_batch_norm(layers[i + 1]):
                i, bias = i + 1, True
            layer = replace(layer, bias=layer.bias or bias)
        else:
            layer = _inside(layer)
        folds.append(Fold(layer, first, i, conv))
        i += 1
    return folds


def _inside[T: Layer](layer: T) -> T:
    """`layer` with its inner sequences deployed."""
    return replace(layer, **{name: _deployed(inner) for name, inner in _inner(layer)})


def _inner(layer: Layer) -> list[tuple[str, Layers]]:
    """The inner sequences of a layer by field; the layer's module has each as a child of that name."""
    children = [child for child in layer.children() if child]
    values = [(f.name, getattr(layer, f.name)) for f in fields(layer)]
    return [(name, value) for name, value in values if isinstance(value, tuple) and any(value is child for child in children)]
