"""Networks in torch: eager or compiled, on the processor or a GPU, with CUDA's own events and a captured graph there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .device import Conditions, LatencyError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Eager:
    """torch as it comes, in the precision asked for; memory is laid out as (N, C, H, W), torch's default."""

    def __init__(self, conditions: Conditions) -> None:
        self.device = torch.device(conditions.device)
        self.dtype = DTYPES[conditions.precision]
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise LatencyError("device: no CUDA GPU is visible here: use --device cpu")
        if self.device.type == "cuda" and conditions.precision == "bf16" and not torch.cuda.is_bf16_supported():
            raise LatencyError("precision: this GPU does not compute in bfloat16: use --precision fp16 or fp32")
        torch.set_num_threads(conditions.threads)
        # On a GPU torch lets convolutions round to TF32 unless it is told not to: fp32 is what it says here.
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False

    def prepare(self, network: nn.Module, example: NDArray[Any]) -> Pass:
        """`network` (eval mode) as a call on `example` (N, 3, H, W); it is moved and converted in place."""
        network = network.to(self.device, self.dtype)
        image = torch.from_numpy(example).to(self.device, self.dtype)
        return Pass(self.transformed(network), network, image)

    def transformed(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        """What is called in the network's place."""
        return network


class Compiled(Eager):
    """torch.compile with static shapes; the compiler is torch's own (Inductor), so a C++ compiler, or Triton on a GPU, must be there.

    torch counts compilations by code object, which all networks share (`Network.forward`), and beyond its limit of 8 runs them eagerly
    with a warning. Here a session's networks are all compiled, and one that would not be is an error.
    """

    def __init__(self, conditions: Conditions) -> None:
        super().__init__(conditions)
        wanted = os.environ.get("CXX", "g++") if conditions.device == "cpu" else os.environ.get("CC", "cc")
        if shutil.which(wanted) is None and shutil.which("clang++") is None:
            raise LatencyError(f"backend: torch.compile finds no compiler here ({wanted}): install one, or use --backend eager")
        torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit
        torch._dynamo.config.fail_on_recompile_limit_hit = True

    def transformed(self, network: nn.Module) -> Callable[[Tensor], Tensor]:
        return torch.compile(network, dynamic=False, fullgraph=False)


class Pass:
    """One forward pass on the processor or a GPU: called, it computes; `burst` times passes with the device's own clock."""

    def __init__(self, call: Callable[[Tensor], Tensor], network: nn.Module, image: Tensor) -> None:
        self.forward, self.network, self.image = call, network, image
        self.graph: Any = None
        self.result = image
        self.captured = False

    def __call__(self) -> Tensor:
        with torch.inference_mode():
            return self.forward(self.image)

    def output(self) -> NDArray[Any]:
        """The output of one pass (N, classes), float32; of the captured graph where there is one."""
        if self.graph is None:
            return self().float().cpu().numpy()
        self.graph.replay()
        return self.result.float().cpu().numpy()

    @torch.no_grad()
    def move(self) -> None:
        """Give weights, buffers and image new memory; nothing else changes. A captured graph holds addresses, so it is captured again."""
        for tensor in (*self.network.parameters(), *self.network.buffers()):
            tensor.data = tensor.data.clone()
        self.image = self.image.clone()
        if self.image.is_cuda:
            self.capture()

    def capture(self) -> None:
        """Record the pass as a CUDA graph; a network whose pass cannot be recorded keeps launching its kernels one by one."""
        self.graph, self.captured = None, False
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # type: ignore[no-untyped-call]
            for _ in range(3):
                self()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.result = self()
        except RuntimeError:
            torch.cuda.synchronize()
            return
        self.graph, self.captured = graph, True

    def cuda_burst(self, before: Callable[[], object] | None = None) -> Callable[[int], list[float]]:
        """Passes between CUDA events, synchronised at the end of the burst; seconds of each."""

        def burst(passes: int) -> list[float]:
            events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(passes)]  # type: ignore[no-untyped-call]
            for start, end in events:
                if before is not None:
                    before()
                start.record()
                if self.graph is not None:
                    self.graph.replay()
                else:
                    self()
                end.record()
            torch.cuda.synchronize()
            return [start.elapsed_time(end) / 1e3 for start, end in events]

        return burst


class Uninitialised(TorchFunctionMode):
    """Networks that are built meanwhile keep whatever their memory held: their weights are loaded next."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))


def torch_backend(conditions: Conditions) -> Eager:
    """The backend that `conditions` name."""
    return Compiled(conditions) if conditions.backend == "compile" else Eager(conditions)
