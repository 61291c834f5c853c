"""Which images a trial trains on and is validated on."""

from __future__ import annotations

import numpy as np

from ..data.prepare import Prepared, split, subset
from ..data.prepared import Indices
from ..trial import DataRef


def training_images(prepared: Prepared, data: DataRef) -> tuple[Indices, Indices]:
    """Sorted indices into the train part, for training and for validation."""
    train, validation = split(prepared, data.split_seed)
    if data.train_on == "all":
        train = np.sort(np.concatenate([train, validation]))
    return subset(train, prepared.labels("train")[train], data.fraction, data.split_seed), validation
