"""The deployment form of a network: the same function in eval mode, with fewer layers.

A BatchNorm after a convolution goes into it, one before an unpadded convolution or a classifier into that; a re-parameterised
depthwise convolution becomes a plain one. `deploy` does it to data, `fuse` to a network with its weights.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import cast

import torch
from torch import Tensor, nn

from .blocks.rep_dw import RepDepthwiseModule
from .layers import Conv, Layer, Layers, Norm, channels_through, depthwise
from .mixers import RepDepthwise
from .model import Network
from .spec import Block, Head, NetSpec, Stage

Affine = tuple[Tensor, Tensor]  # factor and shift of every channel
Filters = tuple[Tensor, Tensor]  # weight and bias of a convolution or a linear layer


@dataclass(frozen=True)
class Fold:
    """One deployed layer; it stands for the layers `first` to `last` of the sequence, the `kept` one among them."""

    layer: Layer
    first: int
    kept: int
    last: int


def deploy(spec: NetSpec, *, one_head: bool = False) -> NetSpec:
    """The deployment form of `spec`; layers that are not known here stay as they are.

    `one_head` makes several classifiers of the same pooled vector into one, their mean, which is what eval mode gives (RepViT).
    """
    channels = channels_through(spec.stem, spec.in_channels)
    stages = []
    for stage in spec.stages:
        transition, channels = _deployed(stage.transition, channels), channels_through(stage.transition, channels)
        blocks = []
        for block in stage.blocks:
            blocks.append(cast(Block, _inside(block, channels)))
            channels = block.out_channels(channels)
        after, channels = _deployed(stage.after, channels), channels_through(stage.after, channels)
        stages.append(Stage(transition=transition, blocks=tuple(blocks), after=after))
    head = _head(spec.head, channels, one_head=one_head)
    return replace(spec, stem=_deployed(spec.stem, spec.in_channels), stages=tuple(stages), head=head)


def _head(head: Head, channels: int, *, one_head: bool) -> Head:
    before, channels = _deployed(head.before, channels), channels_through(head.before, channels)
    after = _deployed(head.after, channels)
    return replace(
        head,
        before=before,
        after=after[:-1] if _ends_in_lone_norm(head.after) else after,
        classifier_norm=False,
        classifiers=1 if one_head and head.pool != "tokens" else head.classifiers,
    )


def _is_batch_norm(layer: Layer) -> bool:
    return type(layer) is Norm and layer.norm == "batch"


def _ends_in_lone_norm(layers: Layers) -> bool:
    """Whether a BatchNorm at the end has no convolution before it to go into."""
    return bool(layers) and _is_batch_norm(layers[-1]) and not (len(layers) > 1 and type(layers[-2]) is Conv)


def _deployed(layers: Layers, channels: int) -> Layers:
    return tuple(fold.layer for fold in _folds(layers, channels))


def _folds(layers: Layers, channels: int) -> list[Fold]:
    """How a sequence is folded."""
    folds: list[Fold] = []
    i = 0
    while i < len(layers):
        first, layer = i, layers[i]
        following = layers[i + 1] if i + 1 < len(layers) else None
        if _is_batch_norm(layer) and type(following) is Conv and not following.padding:
            i, layer = i + 1, following
        kept = i
        if type(layer) is Conv:
            if i + 1 < len(layers) and _is_batch_norm(layers[i + 1]):
                i += 1
            new: Layer = replace(layer, bias=layer.bias or i > first)
        elif type(layer) is RepDepthwise:
            new = depthwise(channels, layer.kernel, bias=True, name=layer.name)
        else:
            new = _inside(layer, channels)
        folds.append(Fold(new, first, kept, i))
        channels = layer.out_channels(channels)
        i += 1
    return folds


def _inside(layer: Layer, channels: int) -> Layer:
    """`layer` with its inner sequences deployed."""
    return replace(layer, **{name: _deployed(inner, channels) for name, inner in _inner(layer)})  # type: ignore[arg-type]


def _inner(layer: Layer) -> list[tuple[str, Layers]]:
    """The inner sequences of a layer by field; its module has each as a child of that name."""
    children = [child for child in layer.children() if child]
    values = [(f.name, getattr(layer, f.name)) for f in fields(layer)]
    return [(name, value) for name, value in values if any(value is child for child in children)]


@torch.no_grad()
def fuse(network: Network, *, one_head: bool = False, check: bool = True) -> Network:
    """The network of `deploy(network.spec)` with the weights that make it compute, in eval mode, what `network` computes in eval mode.

    The weights are computed in double precision; ValueError where outputs for random images then differ by more than 1e-4 of the
    largest, or where no input size that is a multiple of 32 fits to try it at. Without `check` neither is looked at, for callers that
    compare outputs at their own size. Device and type are those of `network`, which stays as it was.
    """
    spec, parameter = network.spec, next(network.parameters())
    network = copy.deepcopy(network).cpu().double().eval()
    fused = Network(deploy(spec, one_head=one_head)).double().eval()
    channels = spec.in_channels
    for layers, old, new in _sections(network, fused):
        _fill(layers, channels, old, new)
        channels = channels_through(layers, channels)
    _fill_classifiers(network, fused)
    if check:
        _check(network, fused)
    return fused.to(parameter)


def _sections(network: Network, fused: Network) -> Iterator[tuple[Layers, nn.Module, nn.Module]]:
    """Every sequence of layers in order with its module in both networks."""
    for path, layers in (*network.spec.sections(), ("head.after", network.spec.head.after)):
        if layers:
            yield layers, network.get_submodule(path), fused.get_submodule(path)


def _fill(layers: Layers, channels: int, old: nn.Module, new: nn.Module) -> None:
    """Give `new`, the module of the deployed sequence, the weights of `old`."""
    modules, targets = list(old.children()), list(new.children())
    # At the end of the head, targets lack a norm that went into the classifiers.
    for fold, target in zip(_folds(layers, channels), targets, strict=False):
        layer, module = layers[fold.kept], modules[fold.kept]
        if isinstance(module, RepDepthwiseModule):
            _set(target, _one_depthwise(module))
        elif fold.first < fold.last:
            filters = _filters(module)
            if fold.first < fold.kept:
                filters = _norm_first(filters, _affine(modules[fold.first]), cast(Conv, layer).groups)
            if fold.kept < fold.last:
                filters = _norm_last(filters, _affine(modules[fold.last]))
            _set(target, filters)
        elif isinstance(layer, Block):
            _fill(layer.body, _channels_at(layers, fold.kept, channels), module, target)
        else:
            inner = _inner(layer)
            own = {k: v for k, v in module.state_dict().items() if k.split(".")[0] not in {name for name, _ in inner}}
            target.load_state_dict(own, strict=not inner)
            for name, sequence in inner:
                _fill(sequence, _channels_at(layers, fold.kept, channels), module.get_submodule(name), target.get_submodule(name))


def _channels_at(layers: Layers, index: int, channels: int) -> int:
    return channels_through(layers[:index], channels)


def _fill_classifiers(network: Network, fused: Network) -> None:
    head, spec = network.head, network.spec.head
    filters = []
    for classifier in head.classifiers:
        linear = _filters(classifier.get_submodule("linear"))
        if spec.classifier_norm:
            linear = _norm_first(linear, _affine(classifier.get_submodule("norm")), 1)
        if _ends_in_lone_norm(spec.after):
            linear = _norm_first(linear, _affine(list(head.after.children())[-1]), 1)
        filters.append(linear)
    if len(fused.head.classifiers) < len(filters):
        filters = [(torch.stack([w for w, _ in filters]).mean(0), torch.stack([b for _, b in filters]).mean(0))]
    for classifier, values in zip(fused.head.classifiers, filters, strict=True):
        _set(classifier.get_submodule("linear"), values)


def _filters(module: nn.Module) -> Filters:
    """Weight and bias; no bias is a bias of zero."""
    weight, bias = cast(Tensor, module.weight), cast(Tensor | None, module.bias)
    return weight.clone(), weight.new_zeros(weight.shape[0]) if bias is None else bias


def _set(module: nn.Module, filters: Filters) -> None:
    cast(Tensor, module.weight).copy_(filters[0])
    cast(Tensor, module.bias).copy_(filters[1])


def _affine(module: nn.Module) -> Affine:
    """What a BatchNorm does to each channel in eval mode."""
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    mean, var = cast(Tensor, module.running_mean), cast(Tensor, module.running_var)
    factor = module.weight / torch.sqrt(var + module.eps)
    return factor, module.bias - mean * factor


def _norm_last(filters: Filters, affine: Affine) -> Filters:
    (weight, bias), (factor, shift) = filters, affine
    return weight * factor.view(-1, *(1,) * (weight.ndim - 1)), bias * factor + shift


def _norm_first(filters: Filters, affine: Affine, groups: int) -> Filters:
    """`filters` of an unpadded convolution after `affine`."""
    (weight, bias), (factor, shift) = filters, affine
    grouped = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    bias = bias + (grouped * shift.view(groups, 1, -1, 1)).sum((2, 3)).flatten()
    return (grouped * factor.view(groups, 1, -1, 1)).reshape(weight.shape), bias


def _one_depthwise(module: RepDepthwiseModule) -> Filters:
    """Three branches and two norms as one depthwise convolution."""
    weight, bias = _norm_last(_filters(module.conv), _affine(module.norm))
    scale, scale_bias = _filters(module.scale)
    centre = weight.shape[-1] // 2
    weight[:, :, centre, centre] += scale[:, :, 0, 0] + 1
    return _norm_last((weight, bias + scale_bias), _affine(module.norm_sum))


def _check(network: Network, fused: Network) -> None:
    size = network.spec.fitting_size()
    image = torch.randn(2, network.spec.in_channels, size, size, generator=torch.Generator().manual_seed(0)).double()
    expected, actual = network(image), fused(image)
    largest = max(1.0, float(expected.abs().max()))
    difference = float((expected - actual).abs().max()) / largest
    if not difference < 1e-4:
        raise ValueError(f"the fused {network.spec.name or 'network'} differs by {difference:.1e} of the largest output, more than 1e-4")
