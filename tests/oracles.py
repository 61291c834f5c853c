"""Reference implementations that tests compare with: timm, imported beside a CPU build of torch, and stored outputs."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray


def timm() -> ModuleType:
    """timm with countable attention; two operators of torchvision are declared where its compiled part cannot load."""
    os.environ["TIMM_FUSED_ATTN"] = "0"
    for name, signature in (
        ("nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
        ("qnms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"),
    ):
        try:
            torch.library.define(f"torchvision::{name}", signature)
        except RuntimeError:
            break
    module: ModuleType = pytest.importorskip("timm")
    return module


def fixture_file(name: str) -> Path:
    """A stored output of official code, kept beside the tests."""
    return Path(__file__).parent / "fixtures" / f"{name}.npz"


def fixture(name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """(meta, official state, input, logits) of a stored output, with the parameters drawn by the rule of tests/fixtures/README.md."""
    data = np.load(fixture_file(name))
    meta = json.loads(bytes(data["meta"]).decode())
    state = {key: torch.from_numpy(drawn(key, tuple(shape))) for key, shape in meta["parameters"]}
    state |= {key.removeprefix("buffer:"): torch.from_numpy(data[key]) for key in data.files if key.startswith("buffer:")}
    image = np.random.Generator(np.random.PCG64(0)).standard_normal(meta["input"]).astype(np.float32)
    return meta, state, torch.from_numpy(image), torch.from_numpy(data["logits"])


def drawn(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A parameter's value by the rule: keyed by its name, scaled by its fan-in."""
    g = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    noise: NDArray[np.float64] = g.standard_normal(shape)
    if len(shape) >= 2:
        value = noise / np.sqrt(np.prod(shape[1:]))
    else:
        value = (1.0 if name.endswith("weight") else 0) + 0.1 * noise
    out: NDArray[np.float32] = value.astype(np.float32)
    return out


def randomise(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every parameter and statistic of a reference model random values that keep signals alive."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=g) / parameter[0].numel() ** 0.5)
            else:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=g))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.1 * torch.randn(buffer.shape, generator=g))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=g))
    return model.eval()


def settle(model: torch.nn.Module, x: torch.Tensor) -> torch.nn.Module:
    """Take BatchNorm statistics from `x`: in a deep network with random ones values grow until single precision shows."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    return model.eval()
