"""What every published network must show beside its reference: the same cost, the same outputs, the same names, gradients everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

from vitnas.roadmap.cost import cost
from vitnas.roadmap.model import Network, build
from vitnas.roadmap.weights import load_weights, official_state
from vitnas.roadmap.zoo import variant


def check_cost(name: str, reference: Callable[[], torch.nn.Module]) -> None:
    """Parameters and MACs of the variant are to the unit those of the network that `reference` makes."""
    v = variant(name)
    ours = cost(v.spec(), v.input_size)
    with torch.device("meta"):
        theirs = reference().eval()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            theirs(torch.empty(1, 3, v.input_size, v.input_size))
    assert ours.params == sum(p.numel() for p in theirs.parameters())
    assert ours.macs == counter.get_total_flops() // 2


def check_reference(
    name: str, state: Mapping[str, torch.Tensor], x: torch.Tensor, expected: torch.Tensor, *, input_size: int | None = None
) -> str:
    """The variant loads the reference's `state`, gives its outputs, and saves the same names and values; gives the dialect's name."""
    v = variant(name)
    spec = v.spec(input_size=input_size or v.input_size, classes=expected.shape[1])
    network = Network(spec).eval()
    dialect = load_weights(network, spec, state, v.dialects())
    with torch.no_grad():
        actual = network(x)
    assert (expected - actual).abs().max() < 1e-4 * max(1.0, float(expected.abs().max()))
    check_saving(network, name, dialect, state)
    return dialect


def check_saving(network: Network, name: str, dialect: str, state: Mapping[str, torch.Tensor]) -> None:
    """`network` saves under the dialect's names what `state` holds beside constant tables."""
    chosen = next(d for d in variant(name).dialects() if d.name == dialect)
    back = official_state(network, network.spec, chosen)
    wanted = {k: t for k, t in state.items() if not k.endswith(("num_batches_tracked", "attn_mask", "relative_position_index"))}
    assert {k: t.shape for k, t in back.items()} == {k: t.shape for k, t in wanted.items()}
    assert all(torch.equal(back[k], wanted[k]) for k in wanted)


def check_training(name: str) -> None:
    """The variant takes a batch of 32x32 images, and a gradient reaches every parameter."""
    network = build(variant(name).spec(), drop_path=0.1, layer_scale_init=0.1)
    out = network(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    logits = out if isinstance(out, tuple) else (out,)
    torch.stack([torch.nn.functional.cross_entropy(each, torch.arange(4)) for each in logits]).sum().backward()  # type: ignore[no-untyped-call]
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not missing


def check_names(name: str, dialect: str, digest: str) -> None:
    """The variant saves under `dialect` the names and shapes of the official code; `digest` begins the SHA-256 of them, sorted,
    a line each."""
    v = variant(name)
    with torch.device("meta"):
        network = Network(v.spec())
    # Saving copies to the CPU, which the meta device cannot.
    chosen = next(d for d in v.dialects() if d.name == dialect)
    state = official_state(network.to_empty(device="cpu"), network.spec, chosen)
    rows = sorted(f"{key} {tuple(value.shape)}" for key, value in state.items())
    assert hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16] == digest
