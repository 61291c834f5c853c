"""Feeds: images of one part of the data, in the order asked for, as uint8 batches `(N, 3, H, W)` on the training device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .prepare import batches
from .prepared import Indices, PartName, Prepared

Batch = tuple[Tensor, Tensor]
DECODERS = 2  # processes that decode images which are kept encoded
RESIDENT_FRACTION = 0.5  # of the free memory of the device


class Feed:
    """The images `indices` of `part`. They are held in the device's memory where they fit, else read as they are needed."""

    def __init__(self, prepared: Prepared, part: PartName, indices: Indices, device: torch.device) -> None:
        self.prepared, self.part, self.indices, self.device = prepared, part, indices, device
        self.labels = torch.from_numpy(prepared.labels(part)[indices]).to(device)
        self.resident: Tensor | None = None
        if prepared.form == "arrays" and fits(len(indices) * 3 * prepared.input_size**2, device):
            images = prepared.arrays(part)[0][indices]
            self.resident = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, order: NDArray[np.int64], size: int, *, crop_seed: int | None = None) -> Iterator[Batch]:
        """Batches of `size` in `order` (positions in this feed); the last may be smaller. `crop_seed` lets encoded images be cropped
        at random while they are decoded."""
        if self.resident is not None:
            positions = torch.from_numpy(order).to(self.device)
            for start in range(0, len(order), size):
                chosen = positions[start : start + size]
                yield self.resident[chosen].contiguous(memory_format=torch.channels_last), self.labels[chosen]
            return
        workers = DECODERS if self.prepared.form == "encoded" else 0
        stream = batches(self.prepared, self.part, self.indices[order], batch_size=size, crop_seed=crop_seed, workers=workers)
        for images, labels in stream:
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


def fits(size: int, device: torch.device) -> bool:
    """Whether `size` bytes may stay on `device`. On the CPU the arrays are memory-mapped and shared by all trials of the machine,
    so what was small enough to be prepared as arrays fits."""
    return device.type == "cpu" or size < torch.cuda.mem_get_info(device)[0] * RESIDENT_FRACTION
