"""Teachers: trained networks that others learn from. A study brings its teacher into the store, and every worker finds it there.

    teachers/<hash>.safetensors   weights, by our names        teachers/<hash>.json   the network they belong to

The hash is of the network and its weights, and part of the identity of every trial that learned from it: where the weights came from,
and under which names, does not matter. A teacher sees what the student sees: images augmented, and normalised by this data's channels.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save

from ...roadmap.model import Network
from ...roadmap.spec import NetSpec, from_dict, to_dict
from ...roadmap.weights import Dialect, State, WeightsError, load_weights, our_names, read_checkpoint
from ...roadmap.zoo import variant
from ..store import Store, StoreError, current, read_json, write_atomic, write_json
from ..study import Study, StudyError

if TYPE_CHECKING:
    from ..data.prepared import Prepared

TRIAL = "trial:"
CLASSIFIER = "head.classifiers.0.linear.bias"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A teacher that was named, before its weights are read. `spec` gives its network for a number of classes."""

    name: str
    spec: Callable[[int], NetSpec]
    weights: Path
    dialects: tuple[Dialect, ...]


def candidate(store: Store, study: Study, size: int) -> Candidate:
    """The teacher that `study` names, for images of `size` pixels; ValueError where there is none such or it takes other sizes."""
    if not study.distill_from.startswith(TRIAL):
        found = variant(study.distill_from)
        path = Path(study.teacher_weights).expanduser()
        if not path.is_file():
            raise StudyError(f"teacher-weights: no weights file at {path}: check the path")
        _check_size(found.name, lambda: found.spec(input_size=size, classes=2), size)
        return Candidate(name=found.name, spec=lambda n: found.spec(input_size=size, classes=n), weights=path, dialects=found.dialects())
    key = study.distill_from.removeprefix(TRIAL)
    if not re.fullmatch(r"[0-9a-f]{16}", key):
        raise StudyError(f"distill-from: {key!r} is not a trial's id (16 hexadecimal digits): `vitnas status --json` shows them")
    network, result = store.trial(key).network, store.results([key]).get(key)
    if result is None or result.status == "diverged":
        why = "has not finished: run its study to the end" if result is None else "diverged: take another teacher"
        raise StudyError(f"distill-from: trial {key} {why}")
    _check_size(study.distill_from, lambda: network, size)
    weights = current(store.trial_folder(key) / "weights.safetensors")
    return Candidate(name=study.distill_from, spec=lambda _: network, weights=weights, dialects=())


def _check_size(name: str, spec: Callable[[], NetSpec], size: int) -> None:
    try:
        spec().shapes(size)
    except ValueError as error:
        raise StudyError(f"distill-from: {name} cannot teach at {size} pixels ({error}): take another --input-size or teacher") from None


def keep_teacher(store: Store, chosen: Candidate, prepared: Prepared) -> str:
    """Load the teacher and keep it in the store, once; gives its hash. ValueError where its weights or classes do not fit."""
    state = read_checkpoint(chosen.weights)
    spec = chosen.spec(prepared.classes)
    classes = _classes(chosen, spec, state)
    if classes not in (None, prepared.classes):
        raise StudyError(
            f"distill-from: {chosen.name} tells {classes} classes apart, {prepared.name} has {prepared.classes}: "
            "take a teacher that was trained on the same classes"
        )
    network = Network(spec)
    try:
        load_weights(network, spec, state, chosen.dialects)
    except WeightsError as error:
        raise StudyError(f"teacher-weights: {error}: give the weights of {chosen.name} for {prepared.input_size} pixels") from None
    key = teacher_hash(network)
    try:
        load_teacher(store, key, torch.device("cpu"))
    except ValueError:  # there is none yet, or it is damaged
        weights, about = _files(store, key)
        tensors = {k: v.contiguous() for k, v in network.state_dict().items()}
        write_atomic(weights, lambda file: file.write(save(tensors)))
        write_json(about, {"hash": key, "name": chosen.name, "network": to_dict(spec, names=True) | {"name": spec.name}})
    return key


def load_teacher(store: Store, key: str, device: torch.device) -> Network:
    """The teacher `key` of the store, in eval mode and without gradients; StoreError where it is missing or damaged."""
    weights, about = _files(store, key)
    known = read_json(about)
    if known is None or not weights.is_file():
        raise StoreError(f"no teacher {key} in {store.teachers}: run the study again, which brings it there")
    spec = from_dict(known["network"])
    network = Network(spec)
    try:
        load_weights(network, spec, read_checkpoint(weights), ())
    except WeightsError as error:
        raise StoreError(f"the teacher {key} in {store.teachers} is damaged ({error}): run the study again, which mends it") from None
    if teacher_hash(network) != key:
        raise StoreError(f"the teacher {key} in {store.teachers} holds other weights: run the study again, which mends it")
    return network.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload, no-any-return]


def teacher_hash(network: Network) -> str:
    """16 hexadecimal digits of the SHA-256 of the network's fingerprint and its weights by our names."""
    digest = hashlib.sha256(network.spec.fingerprint.encode())
    state = network.state_dict()
    for name in sorted(our_names(network)):
        value = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.numpy().data)
    return digest.hexdigest()[:16]


def _files(store: Store, key: str) -> tuple[Path, Path]:
    weights, about = store.teachers / f"{key}.safetensors", store.teachers / f"{key}.json"
    return (weights, about) if weights.exists() and about.exists() else (current(weights), current(about))


def _classes(chosen: Candidate, spec: NetSpec, state: State) -> int | None:
    """How many classes the weights tell apart; None where they do not have the classifier under any name that is known."""
    names = [CLASSIFIER, *(dialect.rename(CLASSIFIER, spec) for dialect in chosen.dialects)]
    return next((len(state[name]) for name in names if name in state), None)
