"""A Trial: one training, told apart from every other by what can change its result. And what came out of it.

The identity is a hash of what decides the result: network, recipe, data and split, schedule length, replicate index and
`SEMANTICS`. How a trial ran (device, threads, micro-batch, versions) is recorded with the result and is not part of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

from ..roadmap.installed import check_versions
from ..roadmap.packages import packages
from ..roadmap.spec import NetSpec, canonical_json, from_dict, to_dict
from .recipe import Recipe

SEMANTICS = 1  # raised by any change that alters results

ERRORS = "errors.txt"  # in a trial's folder: what went wrong, with Python's traces

REPORT_SEEDS, PLACEBO_SEEDS, TUNING_SEEDS = 0, 1_000_000, 2_000_000  # where each use of replicate indices starts

Status = Literal["complete", "diverged"]


@dataclass(frozen=True, kw_only=True)
class DataRef:
    """Which images, carved how: the fingerprint of the prepared data, the split's seed, and the fraction of train that is used.
    `train_on` is "train" (validation held out) or "all" (train and validation together)."""

    name: str
    fingerprint: str
    classes: int
    split_seed: int = 0
    fraction: float = 1.0
    train_on: Literal["train", "all"] = "train"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One training: `seed` is a small replicate index, the same in every arm.

    `packages` are the installed packages that decide the result, with their versions, sorted: those whose layers are in the network are
    added by themselves. PackageError for a layer that no package brings.
    """

    network: NetSpec
    recipe: Recipe
    data: DataRef
    epochs: int
    seed: int
    packages: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "packages", tuple(sorted((dict(self.packages) | packages(self.network)).items())))

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits of the SHA-256 of the canonical JSON of everything that decides the result."""
        return hashlib.sha256(canonical_json(self.identity()).encode()).hexdigest()[:16]

    def identity(self) -> dict[str, Any]:
        """Everything that decides the result, as plain data."""
        return {
            "network": self.network.fingerprint,
            "recipe": self.recipe.to_dict(),
            "data": {k: v for k, v in asdict(self.data).items() if k != "name"},
            "epochs": self.epochs,
            "seed": self.seed,
            "semantics": SEMANTICS,
            **self._packages(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data for trial.json."""
        return {
            "id": self.id,
            "semantics": SEMANTICS,
            "network": to_dict(self.network, names=True) | {"name": self.network.name},
            "fingerprint": self.network.fingerprint,
            "recipe": self.recipe.to_dict(),
            "data": asdict(self.data),
            "epochs": self.epochs,
            "seed": self.seed,
            **self._packages(),
        }

    def _packages(self) -> dict[str, Any]:
        """Absent where there are none, so that trials of our own networks are what they were without this field."""
        return {"packages": dict(self.packages)} if self.packages else {}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trial:
        """The trial written by `to_dict`; PackageError where a package that it needs is not installed in the same version."""
        needed = data.get("packages", {})
        check_versions(needed, f"trial {data['id']}")
        return cls(
            packages=tuple(needed.items()),
            network=from_dict(data["network"]),
            recipe=Recipe.from_dict(data["recipe"]),
            data=DataRef(**data["data"]),
            epochs=data["epochs"],
            seed=data["seed"],
        )


@dataclass(frozen=True, kw_only=True)
class Score:
    """How a trained network did on one split: images, top-1 (%), mean cross-entropy (nats)."""

    images: int
    top1: float
    loss: float


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a trial ran: `threads` and `micro_batch` are those of each of `processes`. None of it is part of its identity."""

    device: str
    threads: int
    micro_batch: int
    executor: str
    host: str
    compiled: bool
    versions: dict[str, str]
    processes: int = 1


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What happened. A diverged trial has no scores and says in which epoch (from 1) its loss left the real numbers.

    `scores` is keyed by split ("validation", "test"). `seconds` is training, over all attempts and whoever trained an epoch; `epochs_taken`
    of the `epochs` were trained by other trials and taken from their common trunk (schedule "wsd"). `events` tell of resumes, lost
    machines, smaller micro-batches.
    """

    id: str
    status: Status
    epochs: int
    scores: dict[str, Score]
    diverged_epoch: int | None = None
    seconds: float
    images_per_second: float
    attempts: int
    finished: str  # UTC, ISO 8601
    execution: Execution
    events: tuple[str, ...] = field(default_factory=tuple)
    epochs_taken: int = 0

    @property
    def epochs_trained(self) -> int:
        """The epochs that this trial trained itself."""
        return self.epochs - self.epochs_taken

    def to_dict(self) -> dict[str, Any]:
        """Plain data for result.json. `epochs_taken` is absent where it is 0, `processes` where it is 1, as in results from before them."""
        out = {k: v for k, v in asdict(self).items() if k != "epochs_taken" or v}
        if self.execution.processes == 1:
            del out["execution"]["processes"]
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TrialResult:
        """The result written by `to_dict`; ValueError where it is not one."""
        known = {f.name for f in fields(cls)}
        if set(data) - known:
            raise ValueError(f"unknown keys in a result: {sorted(set(data) - known)}")
        return cls(
            **data
            | {
                "scores": {k: Score(**v) for k, v in data["scores"].items()},
                "execution": Execution(**data["execution"]),
                "events": tuple(data["events"]),
            }
        )
