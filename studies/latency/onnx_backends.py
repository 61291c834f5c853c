"""Exported networks in ONNX Runtime and OpenVINO: a file and an example in, passes out.

This file needs numpy and the runtime that is asked for: it travels in bundles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .device import Conditions, LatencyError

Array = NDArray[Any]


class OnnxRuntime:
    """ONNX Runtime with as many threads as asked for, all graph optimisations, on the processor or a GPU."""

    def __init__(self, conditions: Conditions) -> None:
        import onnxruntime

        self.runtime = onnxruntime
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = conditions.threads
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 3
        self.provider = "CUDAExecutionProvider" if conditions.device == "cuda" else "CPUExecutionProvider"
        if self.provider not in onnxruntime.get_available_providers():
            raise LatencyError("device: this ONNX Runtime was built without CUDA: pip install onnxruntime-gpu, or use --device cpu")

    def prepare(self, network: str, example: Array) -> Callable[[], Array]:
        """The network in the file `network`, loaded anew, as a call on `example` (N, 3, H, W) that gives its output.

        On a GPU input and output stay on it, so that copies are not timed.
        """
        exact = {"use_tf32": "0"} if self.provider == "CUDAExecutionProvider" else {}
        session = self.runtime.InferenceSession(network, self.options, providers=[(self.provider, exact)])
        given, made = session.get_inputs()[0], session.get_outputs()[0].name
        example = example.astype(np.float16) if given.type == "tensor(float16)" else example
        feed = {given.name: example}
        if self.provider == "CPUExecutionProvider":
            return lambda: session.run([made], feed)[0]  # type: ignore[no-any-return]
        binding = session.io_binding()
        binding.bind_ortvalue_input(given.name, self.runtime.OrtValue.ortvalue_from_numpy(example, "cuda", 0))
        binding.bind_output(made, "cuda")

        def call() -> Array:
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return binding  # type: ignore[no-any-return]

        return _Bound(call, lambda: binding.copy_outputs_to_cpu()[0])


class _Bound:
    """A pass whose output stays on the GPU; `output` fetches it."""

    def __init__(self, call: Callable[[], Any], fetch: Callable[[], Array]) -> None:
        self.call, self.fetch = call, fetch

    def __call__(self) -> Any:
        return self.call()

    def output(self) -> Array:
        self.call()
        return self.fetch()


HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}  # an int8 file holds its own precision; the rest is in float32


class OpenVino:
    """OpenVINO on the processor, one stream, with the precision set that was asked for (left alone it takes bfloat16 where it can)."""

    def __init__(self, conditions: Conditions) -> None:
        import openvino

        self.core = openvino.Core()
        self.wanted = HINTS[conditions.precision]
        able = set(self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        name = {"bf16": "BF16", "f16": "FP16", "f32": "FP32"}[self.wanted]
        if name not in able:
            raise LatencyError(f"precision: OpenVINO does not compute in {conditions.precision} on this processor: use --precision fp32")
        self.config = {
            "INFERENCE_PRECISION_HINT": self.wanted,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": conditions.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # the process is pinned already
        }

    def prepare(self, network: str, example: Array) -> Callable[[], Array]:
        """The network in the file `network`, compiled anew, as a call on `example` (N, 3, H, W) that gives its output."""
        compiled = self.core.compile_model(network, "CPU", self.config)
        request = compiled.create_infer_request()
        request.set_input_tensor(self._tensor(example))
        out = request.get_output_tensor(0)

        def call() -> Array:
            request.infer()
            return out.data  # type: ignore[no-any-return]

        return call

    @staticmethod
    def _tensor(example: Array) -> Any:
        import openvino

        return openvino.Tensor(np.ascontiguousarray(example))


def onnx_backend(conditions: Conditions) -> OnnxRuntime | OpenVino:
    """The runtime that `conditions` name."""
    return OpenVino(conditions) if conditions.backend == "openvino" else OnnxRuntime(conditions)
