"""Scoring a trained network on corrupted test images: every corruption at every severity, and nothing of it changes the trial."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..data.augment import Augment
from ..data.corruptions import CORRUPTIONS, SEVERITIES, Corruption, corrupt
from ..data.feed import Batch
from ..gate import training
from ..recipe import Recipe
from ..robustness import Robustness
from .evaluate import Images, predict


@dataclass(frozen=True)
class Corrupted:
    """Images that are corrupted, batch by batch; each batch is keyed by its first image."""

    feed: Images
    corruption: Corruption
    severity: int

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.feed.device

    def __len__(self) -> int:
        return len(self.feed)

    def batches(self, order: NDArray[np.int64], size: int) -> Iterator[Batch]:
        """Corrupted batches of `size` in `order`."""
        for i, (images, labels) in enumerate(self.feed.batches(order, size)):
            yield corrupt(images, self.corruption, self.severity, key=int(order[i * size])), labels


def score_corrupted(network: nn.Module, feed: Images, augment: Augment, recipe: Recipe) -> Robustness:
    """Top-1 (%) of `network` on the images of `feed` under every corruption and severity."""

    def top1(corruption: Corruption, severity: int) -> float:
        with training():
            return predict(network, Corrupted(feed, corruption, severity), augment, recipe).score().top1

    return Robustness(images=len(feed), top1={c.name: tuple(top1(c, s) for s in SEVERITIES) for c in CORRUPTIONS})
