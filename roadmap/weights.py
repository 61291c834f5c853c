"""Official checkpoints in and out, by name conversion. Nothing is ever unpickled.

A Dialect says how one published implementation names our parameters. Names are converted from ours to theirs, so the same
table loads and saves; shapes follow (theirs may keep a 1x1 convolution as a two-dimensional linear weight).
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .spec import NetSpec

Rename = Callable[[str, NetSpec], str]
State = dict[str, Tensor]


class WeightsError(ValueError):
    """A checkpoint that cannot be read or does not fit; the message names the first thing that is wrong."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """One implementation's names. `rename` gives their name for ours; `linear` matches (re.search) those of our names whose 1x1
    convolution they keep as a two-dimensional weight; `unpack` turns their state into one with a tensor for each of our parameters
    where they pack several into one, and `pack` is its inverse. Keys that match `constant` are tables they store and we derive."""

    name: str
    rename: Rename
    linear: str = r"(?!)"
    constant: str = r"(?!)"
    unpack: Callable[[State, NetSpec], State] = lambda state, spec: state
    pack: Callable[[State, NetSpec], State] = lambda state, spec: state


def by_rules(*rules: tuple[str, str | Callable[[re.Match[str]], str]]) -> Rename:
    """A rename that applies `re.sub(pattern, replacement)` for every rule in order."""

    def rename(name: str, spec: NetSpec) -> str:
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        return name

    return rename


def read_checkpoint(path: Path | str) -> State:
    """The tensors of a .pth/.pt/.bin, .safetensors or .npz file, out of the usual wrappers ("model", "state_dict", "module.").

    WeightsError for a missing or damaged file, and for one that would need to run code to be loaded.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"no weights file at {path}: check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if path.suffix == ".npz":
            import numpy as np

            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol
            state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(f"{path} holds more than tensors and would run code when loaded: refused; export it as .safetensors") from None
    except Exception as error:
        raise WeightsError(f"{path} is not a readable checkpoint ({type(error).__name__}): fetch it again") from None
    return as_state(state, str(path))


def as_state(weights: Any, source: str = "weights") -> State:
    """The tensors of a state dict, out of the usual wrappers ("model", "state_dict", "module."); numpy arrays become tensors.

    WeightsError, which names `source`, where it is no table of named tensors.
    """
    for wrapper in ("model", "state_dict", "model_ema"):
        if isinstance(weights, Mapping) and isinstance(weights.get(wrapper), Mapping):
            weights = weights[wrapper]
            break
    if not isinstance(weights, Mapping) or not all(hasattr(v, "__array__") for v in weights.values()):
        raise WeightsError(f"{source} holds no table of named tensors: give a state dict")
    return {str(k).removeprefix("module."): v if isinstance(v, Tensor) else torch.tensor(v) for k, v in weights.items()}


def our_names(network: nn.Module) -> list[str]:
    """Names of all parameters and BatchNorm statistics, in order."""
    return [k for k in network.state_dict() if not k.endswith("num_batches_tracked")]


def load_weights(network: nn.Module, spec: NetSpec, state: Mapping[str, Tensor], dialects: tuple[Dialect, ...]) -> str:
    """Copy `state` into `network` (our names, or any of `dialects`); gives the name of the dialect that fitted.

    WeightsError where none fits: it names the first missing, surplus or misshapen entry of the nearest dialect.
    """
    ours = network.state_dict()
    wanted = our_names(network)
    own = Dialect(name="vitnas", rename=lambda name, spec: name)
    problems: list[tuple[int, str]] = []
    for dialect in (own, *dialects):
        try:
            theirs = dialect.unpack({k: v for k, v in state.items() if not re.search(dialect.constant, k)}, spec)
        except (KeyError, RuntimeError) as error:
            problems.append((len(wanted), f"{dialect.name}: {error}"))
            continue
        theirs = {k: v for k, v in theirs.items() if not k.endswith("num_batches_tracked")}
        names = {name: dialect.rename(name, spec) for name in wanted}
        missing = [n for n in names.values() if n not in theirs]
        surplus = sorted(set(theirs) - set(names.values()))
        shapes = [
            f"{t} has shape {tuple(theirs[t].shape)}, expected {tuple(ours[n].shape)}"
            for n, t in names.items()
            if t in theirs and squeezed(theirs[t]) != squeezed(ours[n])
        ]
        if not missing and not surplus and not shapes:
            with torch.no_grad():
                for name, their_name in names.items():
                    ours[name].copy_(theirs[their_name].reshape(ours[name].shape))
            return dialect.name
        first = f"{missing[0]} is missing" if missing else f"{surplus[0]} has no place" if surplus else shapes[0]
        problems.append((len(missing) + len(surplus) + len(shapes), f"by {dialect.name} names {first}"))
    count, text = min(problems)
    raise WeightsError(f"the weights do not fit {spec.name or 'this network'}: {text} ({count} such)")


def squeezed(tensor: Tensor) -> tuple[int, ...]:
    """Shape without dimensions of length 1, in which a linear weight equals that of its 1x1 convolution."""
    return tuple(n for n in tensor.shape if n != 1)


def official_state(network: nn.Module, spec: NetSpec, dialect: Dialect) -> State:
    """The network's weights under `dialect`'s names and shapes."""
    out: State = {}
    state = network.state_dict()
    for name in our_names(network):
        value = state[name].detach().cpu()
        if value.ndim == 4 and re.search(dialect.linear, name):
            value = value.flatten(1)
        out[dialect.rename(name, spec)] = value.clone()
    return dialect.pack(out, spec)
