"""The training loop: one for CPU and CUDA. It is a function of the trial alone: every random stream is keyed by seed, purpose and
epoch, so a training that is stopped after any epoch and continued gives the same weights, to the bit, as one that is not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from ...roadmap.layers import Layer, Norm
from ...roadmap.model import Network, build, skip_draws, stream
from ...roadmap.spec import NetSpec
from ..data.augment import Augment, Part
from ..data.feed import Batch, Feed
from ..data.prepare import batch_order
from ..recipe import NO_DECAY, Recipe
from ..trial import Trial
from .distill import distillation_loss
from .group import EPOCH, Group, RunningStatistics


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch did: mean training loss, the learning rate at its end, images, seconds."""

    epoch: int
    loss: float
    lr: float
    images: int
    seconds: float


class MicroBatchTooSmall(ValueError):
    """The memory does not suffice for the images over which BatchNorm takes its statistics."""


class Training:
    """A trial's training between epochs. `state()` and `restore()` carry all of it. `teacher` is the trained network that the recipe names,
    in eval mode; it sees the same augmented images. In a `group` of processes each trains a share of every batch, and all do so at once:
    the first says when, and its `train_epoch` and `share` are the others' too."""

    def __init__(
        self,
        trial: Trial,
        feed: Feed,
        *,
        mean: Any,
        std: Any,
        micro_batch: int | None,
        compiled: bool = False,
        teacher: nn.Module | None = None,
        group: Group | None = None,
    ) -> None:
        recipe = trial.recipe
        assert (teacher is None) == (recipe.distill == "none")
        self.trial, self.feed, self.recipe, self.device, self.teacher, self.group = trial, feed, recipe, feed.device, teacher, group
        self.network = build(
            trial.network, seed=trial.seed, init=recipe.init, layer_scale_init=recipe.layer_scale_init, drop_path=recipe.drop_path
        ).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        module: Any = torch.compile(self.network) if compiled else self.network
        cropped = feed.prepared.form == "encoded" and recipe.crop == "resized"  # while they were decoded
        self.augment = Augment(replace(recipe, crop="none") if cropped else recipe, mean=mean, std=std, classes=trial.data.classes)
        self.batch = min(recipe.batch_size, len(feed))
        self.micro_batch = chunk(trial.network, recipe, self.batch, micro_batch, group.processes if group else 1)
        self.ddp = group.wrap(module) if group else None
        self.forward: Callable[[Tensor], Any] = module if self.ddp is None else self.ddp
        self.part: Part | None = None  # of every batch, this process's
        if group:
            share = self.batch // group.processes
            self.part = Part(group.rank * share, share, self.batch)
            self.statistics = RunningStatistics(self.network, group)
        self.steps_per_epoch = len(feed) // self.batch
        self.steps = self.steps_per_epoch * trial.epochs
        self.horizon = self.steps_per_epoch * (recipe.horizon or trial.epochs)
        self.trunk = self.steps_per_epoch * recipe.trunk_epochs(trial.epochs)
        self.optimizer = optimizer(self.network, recipe, self.device)
        self.ema: dict[str, Tensor] | None = None
        if recipe.ema:
            self.ema = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.epoch = 0

    def train_epoch(self) -> Epoch:
        """Train one more epoch. `loss` is not finite where the training diverged."""
        started = time.perf_counter()
        if self.group:
            self.group.tell(EPOCH)
        self.network.train()
        seed, recipe = self.trial.seed, self.recipe
        order = batch_order(len(self.feed), seed, self.epoch)[: self.steps_per_epoch * self.batch]
        total = torch.zeros((), device=self.device)
        lr = 0.0
        crop_seed = stream(seed, "decode", self.epoch) if recipe.crop == "resized" else None
        for i, (images, labels) in enumerate(self._batches(order, crop_seed)):
            step = self.epoch * self.steps_per_epoch + i
            lr = learning_rate(recipe, step, self.steps, horizon=self.horizon, trunk=self.trunk)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            draws = stream(seed, "augment", self.epoch, i)
            if self.part is None:
                x, target = self.augment(images, labels, seed=draws)
            else:
                x, target = self.augment(images, labels, seed=draws, part=self.part)
            with forked(stream(seed, "forward", self.epoch, i), self.device), self._in_step():
                total += self._step(x, target)
            if self.ema is not None:
                self._average(step)
        self.epoch += 1
        if self.group:
            total = self.group.sum(total) / self.group.processes
        loss = float(total) / max(1, self.steps_per_epoch)
        return Epoch(epoch=self.epoch, loss=loss, lr=lr, images=len(order), seconds=time.perf_counter() - started)

    def _batches(self, order: NDArray[np.int64], crop_seed: int | None) -> Iterator[Batch]:
        """Of every batch in `order`, what this process needs."""
        if self.part is None:
            return self.feed.batches(order, self.batch, crop_seed=crop_seed)
        rows = self.augment.rows(self.part)
        return self.feed.batches(order.reshape(-1, self.batch)[:, rows].reshape(-1), len(rows), crop_seed=crop_seed)

    @contextmanager
    def _in_step(self) -> Iterator[None]:
        """Within, the generators and the statistics of a step are what they are for one process when it comes to this one's share."""
        if self.group is None or self.part is None:
            yield
            return
        for _ in range(self.group.rank):
            for start in range(0, self.part.images, self.micro_batch):
                skip_draws(self.network, min(self.micro_batch, self.part.images - start), self.device)
        with self.statistics.over_a_step():
            yield

    def _step(self, x: Tensor, target: Tensor) -> Tensor:
        loss_sum = torch.zeros((), device=self.device)
        for start in range(0, len(x), self.micro_batch):
            part = slice(start, start + self.micro_batch)
            weight = len(x[part]) / len(x)
            images = x[part].contiguous(memory_format=torch.channels_last)
            with self._gradients(last=start + self.micro_batch >= len(x)):
                with autocast(self.recipe, self.device):
                    output = self.forward(images)
                loss = self._loss(output, target[part], images) * weight
                loss.backward()  # type: ignore[no-untyped-call]
            loss_sum += loss.detach()
        if self.recipe.clip_grad:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip_grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss_sum

    def _gradients(self, *, last: bool) -> AbstractContextManager[None]:
        """Within, a forward and a backward pass; the processes' gradients come together in the last of a step."""
        return nullcontext() if last or self.ddp is None else self.ddp.no_sync()

    def _loss(self, output: Tensor | tuple[Tensor, ...], target: Tensor, images: Tensor) -> Tensor:
        if self.teacher is None:
            return classification_loss(output, target)
        with torch.no_grad(), autocast(self.recipe, self.device):
            taught = self.teacher(images)
        return distillation_loss(output, target, taught, self.recipe)

    @torch.no_grad()
    def _average(self, step: int) -> None:
        assert self.ema is not None
        horizon = max(1.0, self.recipe.ema * self.horizon)
        weight = 1 / min(horizon, step + 1)
        for name, value in self.network.state_dict().items():
            if value.is_floating_point():
                self.ema[name].lerp_(value, weight)
            else:
                self.ema[name].copy_(value)

    def final_weights(self) -> dict[str, Tensor]:
        """The weights that are scored: the average where the recipe keeps one."""
        return self.ema if self.ema is not None else self.network.state_dict()

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, as tensors and plain values."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`, which must be of this training."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema = state["ema"]
        self.epoch = state["epoch"]

    def share(self) -> None:
        """Have the other processes, where there are some, go on from where this one is."""
        if self.group:
            self.group.give(self.state(), self.device)


def classification_loss(output: Tensor | tuple[Tensor, ...], target: Tensor) -> Tensor:
    """Cross-entropy (nats) with hard `(N,)` or soft `(N, classes)` targets; the mean over several classifiers."""
    if isinstance(output, tuple):
        return torch.stack([F.cross_entropy(o.float(), target) for o in output]).mean()
    return F.cross_entropy(output.float(), target)


def optimizer(network: Network, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """The recipe's optimizer. Under AdamW, parameters of one dimension and those named in NO_DECAY are not decayed."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=recipe.peak_lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, fused=True
        )
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        exempt = parameter.ndim <= 1 or any(word in name for word in NO_DECAY)
        (kept if exempt else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=recipe.peak_lr, betas=recipe.betas, fused=True)


def learning_rate(recipe: Recipe, step: int, steps: int, *, horizon: int | None = None, trunk: int = 0) -> float:
    """Linear warm-up, then a constant rate or a cosine to `final_lr` of the peak, at optimizer step `step` of `steps`.

    Under "wsd" the warm-up is a part of `horizon` steps (None: `steps`), and after `trunk` steps the rate falls as 1 - sqrt(progress)
    (2405.18392, Section 4), also where the warm-up is longer than that.
    """
    warmup = recipe.warmup * (steps if horizon is None else horizon)
    rate = recipe.peak_lr * (step + 1) / (warmup + 1) if step < warmup else recipe.peak_lr
    if recipe.schedule == "wsd":
        falls = math.sqrt(max(0, step - trunk) / max(1, steps - trunk))
        return rate * (recipe.final_lr + (1 - recipe.final_lr) * (1 - falls))
    if step < warmup or recipe.schedule == "constant":
        return rate
    progress = (step - warmup) / max(1.0, steps - warmup)
    return recipe.peak_lr * (recipe.final_lr + (1 - recipe.final_lr) * (1 + math.cos(math.pi * progress)) / 2)


def has_batch_norm(spec: NetSpec) -> bool:
    """Whether the network takes statistics over the batch."""

    def inside(layers: tuple[Layer, ...]) -> bool:
        return any(
            (isinstance(layer, Norm) and layer.norm == "batch") or layer.uses_batch_statistics or any(map(inside, layer.children()))
            for layer in layers
        )

    return spec.head.classifier_norm or inside(spec.head.after) or any(inside(layers) for _, layers in spec.sections())


def chunk(spec: NetSpec, recipe: Recipe, batch: int, micro_batch: int | None, processes: int = 1) -> int:
    """Images in one forward pass. Networks with BatchNorm see exactly `norm_batch` images at a time (None: the batch), for a smaller
    chunk would be another training; networks without may take any, and by themselves take the share of a process. MicroBatchTooSmall
    where that is refused, ValueError where a batch cannot be shared by `processes` in whole chunks."""
    share = batch // processes
    if batch % processes:
        fewer = max(p for p in range(1, processes) if batch % p == 0)
        raise ValueError(f"a batch of {batch} images cannot be shared by {processes} processes: use {fewer}, or another batch-size")
    norm_batch = min(recipe.norm_batch or batch, batch)
    if has_batch_norm(spec):
        if micro_batch is not None and micro_batch < norm_batch:
            raise MicroBatchTooSmall(
                f"{spec.name or 'the network'} takes BatchNorm statistics over {norm_batch} images, so a micro-batch of {micro_batch} "
                f"would be another training: set norm-batch to {micro_batch} (a different trial), or use a device with more memory"
            )
        if processes > 1 and share % norm_batch:
            raise ValueError(
                f"{spec.name or 'the network'} takes BatchNorm statistics over {norm_batch} images, and each of {processes} processes has "
                f"{share} of a batch: set norm-batch to {share} (a different trial), or use fewer processes"
            )
        return norm_batch
    return min(micro_batch or share, share)


@contextmanager
def forked(seed: int, device: torch.device) -> Iterator[None]:
    """Run with torch's generators seeded by `seed`, and leave them as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """bfloat16 autocast where the recipe's precision asks for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")
