"""build(spec): the only road from data to torch, and the initialisation of its parameters."""

from __future__ import annotations

import hashlib
import math
from typing import Literal

import torch
from torch import Tensor, nn

from .blocks.conv import ConvModule
from .blocks.residual import ResidualModule, Sequence
from .layers import channels_through
from .spec import Head, NetSpec, Stage

InitScheme = Literal["kaiming", "trunc-normal"]


class StageModule(nn.Module):
    """Transition, blocks, and what ends the stage."""

    def __init__(self, stage: Stage, channels: int) -> None:
        super().__init__()
        self.transition = Sequence(stage.transition, channels) if stage.transition else nn.Identity()
        channels = channels_through(stage.transition, channels)
        blocks = []
        for block in stage.blocks:
            blocks.append(Sequence(block, channels))
            channels = block.out_channels(channels)
        self.blocks = nn.Sequential(*blocks)
        self.after = Sequence(stage.after, channels) if stage.after else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(self.blocks(self.transition(x)))
        return out


class Classifier(nn.Sequential):
    """A linear classifier, with a BatchNorm before it where asked."""

    def __init__(self, channels: int, classes: int, *, norm: bool) -> None:
        super().__init__()
        if norm:
            self.norm = nn.BatchNorm1d(channels)
        self.linear = nn.Linear(channels, classes)


class HeadModule(nn.Module):
    """Pooling and classifiers: `(N, C, H, W)` to `(N, classes)`; several classifiers give a tuple in training."""

    def __init__(self, head: Head, channels: int) -> None:
        super().__init__()
        self.pool = head.pool
        self.before = Sequence(head.before, channels) if head.before else nn.Identity()
        channels = channels_through(head.before, channels)
        self.after = Sequence(head.after, channels) if head.after else nn.Identity()
        channels = channels_through(head.after, channels)
        self.classifiers = nn.ModuleList(Classifier(channels, head.classes, norm=head.classifier_norm) for _ in range(head.classifiers))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        x = self.before(x)
        n = len(self.classifiers)
        if self.pool == "tokens":
            vectors = [self.after(x[:, :, i : i + 1]).flatten(1) for i in range(n)]
        else:
            pooled = x.mean((2, 3), keepdim=True) if self.pool == "avg" else x.amax((2, 3), keepdim=True)
            vectors = [self.after(pooled).flatten(1)] * n
        logits = tuple(classify(v) for classify, v in zip(self.classifiers, vectors, strict=True))
        if n == 1:
            single: Tensor = logits[0]
            return single
        return logits if self.training else torch.stack(logits).mean(0)


class Network(nn.Module):
    """A built network: `(N, 3, H, W)` float images to `(N, classes)` logits. `spec` is what it was built from."""

    def __init__(self, spec: NetSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stem = Sequence(spec.stem, spec.in_channels)
        channels = channels_through(spec.stem, spec.in_channels)
        stages = []
        for stage in spec.stages:
            stages.append(StageModule(stage, channels))
            channels = channels_through((*stage.transition, *stage.blocks, *stage.after), channels)
        self.stages = nn.Sequential(*stages)
        self.head = HeadModule(spec.head, channels)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        out: Tensor | tuple[Tensor, ...] = self.head(self.stages(self.stem(x)))
        return out


def build(
    spec: NetSpec,
    *,
    seed: int = 0,
    init: InitScheme = "trunc-normal",
    layer_scale_init: float = 1e-6,
    drop_path: float = 0.0,
) -> Network:
    """The network of `spec`, initialised and in training mode.

    Every parameter is drawn from a stream of its own, keyed by seed, name and shape, so a step that changes one layer
    leaves the others' initial values as they were. `drop_path` is the rate of the last block; it grows linearly from 0
    with the block's index (stochastic depth, 1603.09382).
    """
    network = Network(spec)
    blocks = [block for stage in network.stages for block in stage.blocks]  # type: ignore[union-attr]
    for i, block in enumerate(blocks):
        for child in block.children():
            if isinstance(child, ResidualModule):
                child.drop_path = drop_path * i / max(1, len(blocks) - 1)
    initialise(network, seed=seed, init=init, layer_scale_init=layer_scale_init)
    return network


def stream(*key: object) -> int:
    """A seed for torch.Generator from any key: the same on every machine."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "big") >> 1


@torch.no_grad()
def initialise(network: nn.Module, *, seed: int, init: InitScheme, layer_scale_init: float) -> None:
    """Draw every parameter anew. Modules may name a rule of their own for their direct parameters:
    `init_rules = {"table": "normal"}` with "normal" (sd 0.02, truncated), "zeros", "ones" or a number.

    "kaiming": convolutions fan-out normal, linear layers uniform with bound 1/sqrt(fan-in) (torchvision's ResNet).
    "trunc-normal": weights normal with sd 0.02 truncated at two sd, biases zero (ConvNeXt, Swin, DeiT).
    """
    for path, module in network.named_modules():
        rules: dict[str, str | float] = getattr(module, "init_rules", {})
        for name, parameter in module.named_parameters(path, recurse=False):
            short = name.rpartition(".")[2]
            generator = torch.Generator().manual_seed(stream(seed, "init", name, tuple(parameter.shape)))
            if isinstance(module, ResidualModule) and short == "scale":
                value = torch.full(parameter.shape, layer_scale_init)
            elif short in rules:
                value = _by_rule(rules[short], parameter.shape, generator)
            elif parameter.ndim == 1:
                is_norm = isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm)
                value = torch.ones(parameter.shape) if is_norm and short == "weight" else torch.zeros(parameter.shape)
            elif init == "trunc-normal" or not isinstance(module, nn.Conv2d | nn.Linear):
                value = _by_rule("normal", parameter.shape, generator)
            elif isinstance(module, nn.Linear):
                value = (torch.rand(parameter.shape, generator=generator) * 2 - 1) / math.sqrt(parameter.shape[1])
            else:
                fan_out = parameter.shape[0] * parameter.shape[2] * parameter.shape[3] / module.groups
                value = torch.randn(parameter.shape, generator=generator) * math.sqrt(2 / fan_out)
            parameter.copy_(value)


def skip_draws(network: nn.Module, images: int, device: torch.device) -> None:
    """Have torch's generator where a forward pass of `network` in training, over `images` images on `device`, leaves it."""
    for module in network.modules():
        if isinstance(module, ResidualModule) and module.drop_path > 0:
            torch.rand(images, 1, 1, 1, device=device)


def _by_rule(rule: str | float, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if isinstance(rule, float):
        return torch.full(shape, rule)
    if rule in ("zeros", "ones"):
        return torch.full(shape, float(rule == "ones"))
    # Values beyond two standard deviations are drawn again through the inverse of the normal's distribution function.
    low, high = (1 + math.erf(-2 / math.sqrt(2))) / 2, (1 + math.erf(2 / math.sqrt(2))) / 2
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low
    return (torch.erfinv(2 * uniform - 1) * math.sqrt(2) * 0.02).float()


__all__ = ["ConvModule", "Network", "build", "initialise", "skip_draws", "stream"]
