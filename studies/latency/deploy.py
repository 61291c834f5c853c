"""Networks in the form in which they are deployed, written out for the measuring processes with what they must compute.

BatchNorm statistics are taken from random images first, so that signals neither die out nor grow through the layers (a network full
of denormal numbers runs many times slower), then layers are folded. Weights are random: they do not decide the time.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import logging
import math
import os
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...roadmap import fuse as folding
from ...roadmap.model import Network, build
from ...roadmap.spec import NetSpec, to_dict
from ...roadmap.zoo import variant
from .device import Conditions, LatencyError, out_of_memory
from .readings import REFERENCES

OPSET = 17
IMAGES = 8  # that BatchNorm statistics are taken from
PARITY = 1e-3  # deployed against trained form in float32, a fraction of the largest output
ROUNDING = 4.0  # times what float32 rounds off in the form that is trained, which the deployed form may differ by


def references() -> dict[str, tuple[NetSpec, int]]:
    """The networks that run in every round of every session, with their input sizes, by their names there.

    They are of three kinds (inverted residuals, attention, re-parameterised branches): a slow machine slows each differently.
    """
    return {f"*{name}*": (replace(variant(name).spec(input_size=size), name=f"*{name}*"), size) for name, size in REFERENCES}


def write_references(folder: Path, conditions: Conditions) -> list[dict[str, Any]]:
    """`write_candidate` for the references, which take one image at a time; gives their entries in a job."""
    return [
        write_candidate(folder, name, spec, replace(conditions, batch=1, input_size=size)) | {"batch": 1}
        for name, (spec, size) in references().items()
    ]


def deployed_spec(spec: NetSpec) -> NetSpec:
    """The deployment form of `spec`; its fingerprint is what readings are kept under. Averaged classifiers are one."""
    return replace(folding.deploy(spec, one_head=True), name=spec.name)


def noise(spec: NetSpec, input_size: int, images: int, seed: int = 0) -> Tensor:
    """Random images (N, C, H, W), float32: coarse shapes and fine grain, so that pooled features differ between images."""
    draw = torch.Generator().manual_seed(seed)
    shapes = torch.randn(images, spec.in_channels, 3, 3, generator=draw)
    coarse = nn.functional.interpolate(shapes, size=(input_size, input_size), mode="bilinear")
    return coarse + 0.5 * torch.randn(images, spec.in_channels, input_size, input_size, generator=draw)


def deployed(spec: NetSpec, input_size: int) -> Network:
    """A network of `spec` with random weights in its deployment form, in eval mode.

    LatencyError where it does not fit the input or the memory, or where its outputs at this size differ from those of the form that is
    trained by more than 1e-3 of the largest, and by more than the rounding of float32 explains: in hundreds of layers it adds up.
    """
    name = spec.name or "the network"
    try:
        spec.shapes(input_size)
    except ValueError as error:
        raise LatencyError(f"{name} does not fit {input_size} pixels ({error}): give another --input-size") from None
    check_memory(spec, input_size)
    try:
        return _deployed(spec, input_size)
    except LatencyError:
        raise
    except (ValueError, RuntimeError, MemoryError) as error:  # RuntimeError is also what torch raises where memory ends
        if out_of_memory(error):
            raise LatencyError(f"{name} does not fit in the memory at {input_size} pixels: use a smaller --input-size") from None
        text = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise LatencyError(f"{name} cannot be brought into its deployment form at {input_size} pixels ({text}): leave it out") from None


@torch.no_grad()
def _deployed(spec: NetSpec, input_size: int) -> Network:
    network = build(spec, init="kaiming", layer_scale_init=0.1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = 1.0
    if _has_batch_norm(network):
        network.train()(noise(spec, input_size, IMAGES))
    network.eval()
    fused = folding.fuse(network, one_head=True, check=False)  # checked here, at the size that is timed
    image = noise(spec, input_size, 1, seed=1)
    expected, actual = network(image), fused(image)
    largest = float(expected.abs().max())
    difference = float((expected - actual).abs().max()) / max(largest, 1e-12)
    if not difference <= PARITY and not difference <= ROUNDING * _rounding(network, image, expected):
        raise LatencyError(f"the deployed {spec.name or 'network'} differs by {difference:.1e} of the largest output, more than {PARITY:g}")
    return fused


def _rounding(network: Network, image: Tensor, output: Tensor) -> float:
    """How far the network's `output` in float32 is from that in float64, as a fraction of the largest."""
    exact = copy.deepcopy(network).double()(image.double())
    return float((exact - output).abs().max()) / max(float(exact.abs().max()), 1e-12)


def _has_batch_norm(network: Network) -> bool:
    return any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in network.modules())


def check_memory(spec: NetSpec, input_size: int) -> None:
    """LatencyError where the weights (in float32, twice in float64 while they are folded) or the largest layer's input and output (of the
    images that BatchNorm statistics are taken from) exceed the memory that is free. What is between a layer's input and output, such as
    attention, is not reckoned with."""
    free, name = free_memory(), spec.name or "the network"
    needed = parameters(spec) * (4 + 8 + 8)
    if needed > free:
        raise LatencyError(f"{name} does not fit in memory: folding it takes {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")
    with torch.device("meta"):
        images = IMAGES if _has_batch_norm(Network(spec)) else 1
    largest = max((math.prod(site.input) + math.prod(site.output) for site in spec.walk(input_size)), default=0)  # a piece may have none
    needed = parameters(spec) * 4 + images * largest * 4
    if needed > free:
        raise LatencyError(
            f"{name} does not fit in the memory at {input_size} pixels: {images} images take {needed / 1e9:.1f} GB in one layer and "
            f"{free / 1e9:.1f} GB are free: use a smaller --input-size"
        )


@cache
def parameters(spec: NetSpec) -> int:
    """The number of parameters."""
    with torch.device("meta"):
        return sum(p.numel() for p in Network(spec).parameters())


def free_memory() -> float:
    """Bytes of memory that are free, also to a container with a limit of its own; without end where the system does not tell."""
    free = math.inf
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):  # without a limit it says "max"
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        cached = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free = min(free, limit - used + int(cached["inactive_file"]))
    return free


@torch.no_grad()
def write_candidate(folder: Path, name: str, spec: NetSpec, conditions: Conditions) -> dict[str, Any]:
    """Write one network for the measuring processes into `folder`; gives its entry in a job.

    Beside it lie an example (1, C, H, W) and the output (1, classes) that eager torch computes in float32. Networks for ONNX Runtime and
    OpenVINO are exported, in int8 also quantised. LatencyError where something does not work; for an export it names the operator.
    """
    size = conditions.input_size
    stem = hashlib.sha256(f"{name} {size}".encode()).hexdigest()[:12]
    network = deployed(spec, size)
    image = noise(spec, size, 1, seed=2)
    np.savez(folder / f"{stem}.npz", image=image.numpy(), expected=network(image).numpy())
    entry: dict[str, Any] = {"name": name, "example": f"{stem}.npz"}
    if conditions.backend in ("eager", "compile"):
        torch.save(network.state_dict(), folder / f"{stem}.pt")
        return entry | {"file": f"{stem}.pt", "spec": to_dict(network.spec, names=True)}
    file = folder / f"{stem}.onnx"
    export(
        network, image.repeat(conditions.batch, 1, 1, 1), file, half=conditions.precision == "fp16" and conditions.backend == "onnxruntime"
    )
    if conditions.precision == "int8":
        file = quantise(file, [noise(spec, size, conditions.batch, seed=s).numpy() for s in range(2, 6)], spec.name or name)
    return entry | {"file": file.name}


def export(network: Network, images: Tensor, file: Path, *, half: bool = False) -> None:
    """Write `network` to the ONNX `file` for inputs of the shape of `images`.

    torch has two exporters and each lacks operators that the other has: the second is tried where the first fails. LatencyError names
    the operator where both do.
    """
    name = network.spec.name or "the network"
    if half:
        network, images = network.half(), images.half()
    failures = []
    for dynamo in (False, True):
        options: dict[str, Any] = {"dynamo": dynamo} | ({"verbose": False} if dynamo else {"opset_version": OPSET})
        try:
            with _silence():
                torch.onnx.export(
                    network, (images,), str(file), input_names=["images"], output_names=["logits"], external_data=False, **options
                )
            return
        except ModuleNotFoundError:  # the second exporter needs onnxscript
            continue
        except Exception as error:  # both exporters raise errors of many kinds, third parties' among them
            failures.append(error)
    operators = [operator_in(error) for error in failures]
    which = next((o for o in operators if o), "")
    what = f"the operator {which}" if which else str(failures[0]).splitlines()[0][:200]
    raise LatencyError(f"{name} cannot be exported to ONNX: {what} is not supported; use --backend eager or compile")


def operator_in(error: BaseException) -> str:
    """The operator that an exporter's error tells of, or nothing."""
    seen: list[str] = []
    while error is not None and len(seen) < 5:
        seen.append(str(error))
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    text = "\n".join(seen)
    for pattern in (r"operator '?((?:aten::)?[a-z_]\w+)'?", r"torch\.ops\.(\w+\.\w+)", r"op='(\w+\.\w+)", r"(aten::\w+)"):
        found = re.search(pattern, text)
        if found:
            return found[1]
    return ""


def quantise(file: Path, images: list[Any], name: str) -> Path:
    """The network in `file` in int8 (weights per channel, activations per tensor, ranges from `images`), in a file beside it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {"images": image}

    prepared, out = file.with_suffix(".pre.onnx"), file.with_suffix(".int8.onnx")
    try:
        with _silence():
            quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(out),
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    except Exception as error:  # of many kinds
        raise LatencyError(f"{name} cannot be quantised to int8 ({str(error).splitlines()[0][:200]}): use --precision fp32") from None
    return out


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Exporters print graphs and progress, torch's own past Python; none of it is for users."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for number, handle in enumerate(kept, start=1):
            os.dup2(handle, number)
            os.close(handle)
        os.close(nowhere)
        logging.disable(before)
