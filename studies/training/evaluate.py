"""Scoring a trained network on a split: top-1, cross-entropy, and what it said of every image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from ..data.augment import Augment
from ..data.feed import Batch
from ..recipe import Recipe
from ..trial import Score
from .train import autocast

BATCH = 256


class Images(Protocol):
    """Labelled images in batches, as a `Feed` has them."""

    @property
    def device(self) -> torch.device: ...
    def __len__(self) -> int: ...
    def batches(self, order: NDArray[np.int64], size: int) -> Iterator[Batch]: ...


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Per image, in the split's order: whether the top class was right `(N,)` bool, and the true class's probability `(N,)`."""

    correct: NDArray[np.bool_]
    probability: NDArray[np.float32]

    def score(self) -> Score:
        """The split's summary; a probability that is not a number counts as 0."""
        p = np.clip(np.nan_to_num(self.probability, nan=0.0).astype(np.float64), 1e-12, 1.0)
        return Score(images=len(p), top1=100 * float(self.correct.mean()), loss=float(-np.log(p).mean()))


@torch.no_grad()
def predict(network: nn.Module, feed: Images, augment: Augment, recipe: Recipe, *, rank: int = 0, processes: int = 1) -> Predictions:
    """Classify every image of `feed` in eval mode, or every `processes`-th batch of them, from the one of `rank` on."""
    network.eval()
    order = np.arange(len(feed))
    order = order[order // BATCH % processes == rank]
    if not len(order):
        return Predictions(correct=np.zeros(0, dtype=np.bool_), probability=np.zeros(0, dtype=np.float32))
    correct, probability = [], []
    for images, labels in feed.batches(order, BATCH):
        with autocast(recipe, feed.device):
            logits = network(augment.normalise(images).contiguous(memory_format=torch.channels_last)).float()
        correct.append((logits.argmax(1) == labels).cpu())
        probability.append(F.softmax(logits, 1).gather(1, labels[:, None])[:, 0].cpu())
    return Predictions(correct=torch.cat(correct).numpy(), probability=torch.cat(probability).numpy().astype(np.float32))
