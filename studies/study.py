"""A Study: what the user asked, as data. The command line is sugar over it; every command writes the one it ran.

The file is YAML; its keys are the options of the command line. A bad file is refused by file, key and line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from ..roadmap.spec import canonical_json
from .option_types import converted, describe, fits
from .recipe import Recipe, preset

Kind = Literal["roadmap", "train"]
KINDS: tuple[Kind, ...] = ("roadmap", "train")


class StudyError(ValueError):
    """A study that makes no sense; the message names the key and the next move."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything a study is. Options that only say how it runs (`EXECUTION`) do not change what it is.

    `set` overrides fields of the recipe in every arm. `network` is a published variant, for `kind: train`. `input_size` None means the
    scale's own; `epochs` None the default of data and scale. `seeds` counts replicates. `distill_from` names the teacher of every arm:
    a published variant, with its weights in the file `teacher_weights`, or `trial:<id>` of the store. `eval` scores the trained networks
    on something more.
    """

    kind: Kind = "roadmap"
    name: str = ""
    track: str = "convnext-t"
    steps: str = "all"
    network: str = ""
    scale: str = "micro"
    input_size: int | None = None
    data: str = "digits"
    data_fraction: float = 1.0
    split_seed: int = 0
    recipe: str = "short"
    set: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    seeds: int = 3
    score_on: Literal["test", "validation"] = "test"
    placebo: bool = False
    distill_from: str = ""
    teacher_weights: str = ""
    distill: Literal["soft", "hard"] = "hard"
    eval: Literal["none", "corruptions"] = "none"
    # how it runs
    executor: Literal["ray", "local"] = "ray"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    concurrency: int | None = None
    threads: int | None = None
    micro_batch: int | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise StudyError(f"kind: {self.kind!r} is not one of {', '.join(KINDS)}")
        choices = {
            "score_on": ("test", "validation"),
            "distill": ("soft", "hard"),
            "eval": ("none", "corruptions"),
            "executor": ("ray", "local"),
            "device": ("auto", "cpu", "cuda"),
        }
        for key, values in choices.items():
            if getattr(self, key) not in values:
                raise StudyError(f"{option(key)}: {getattr(self, key)!r} is not one of {', '.join(values)}")
        for key in ("epochs", "concurrency", "threads", "micro_batch", "input_size"):
            value = getattr(self, key)
            if value is not None and not 1 <= value <= LARGEST[key]:
                raise StudyError(f"{option(key)}: must be " + ("1 or more" if value < 1 else f"{LARGEST[key]} or less") + f", not {value}")
        if not 1 <= self.seeds <= LARGEST["seeds"]:
            raise StudyError("seeds: must be " + ("1 or more" if self.seeds < 1 else f"{LARGEST['seeds']} or less") + f", not {self.seeds}")
        if self.name in (".", "..") or "/" in self.name or "\\" in self.name:
            raise StudyError(f"name: {self.name!r} would be a path: use letters, digits and dashes")
        if not self.data.strip():
            raise StudyError("data: name digits, a folder of images by class, parquet files, or a data set on the hub")
        if not 0 < self.data_fraction <= 1:
            raise StudyError(f"data-fraction: must lie in (0, 1], not {self.data_fraction}")
        if self.kind == "train" and not self.network:
            raise StudyError("network: name the network to train; `vitnas models list` shows what exists")
        self._check_teacher()
        if self.eval == "corruptions" and self.score_on != "test":
            raise StudyError("eval: corruptions are scored on the test split: use --score-on test, or leave --eval out")
        try:
            chosen = preset(self.recipe)
        except ValueError as error:
            raise StudyError(f"recipe: {error}") from None
        try:
            for recipe in (chosen.base, chosen.modern):
                override(recipe, self.set)
        except ValueError as error:
            raise StudyError(f"set: {error}") from None

    def _check_teacher(self) -> None:
        if not self.distill_from and (self.teacher_weights or self.distill == "soft"):
            key = "teacher-weights" if self.teacher_weights else "distill"
            raise StudyError(f"{key}: name the teacher with --distill-from, a published network or trial:<id>")
        if self.distill_from.startswith("trial:") and self.teacher_weights:
            raise StudyError("teacher-weights: a trial has its weights in the store: leave --teacher-weights out")
        if self.distill_from and not self.distill_from.startswith("trial:") and not self.teacher_weights:
            raise StudyError(f"distill-from: name the file with the weights of {self.distill_from} with --teacher-weights")

    @property
    def folder_name(self) -> str:
        """The study's name: its own, else one made of what it is (seeds and further scores may be added to one study)."""
        if self.name:
            return self.name
        what = {k: v for k, v in self.to_dict().items() if k not in (*EXECUTION, *GROWS, "name")}
        digest = hashlib.sha256(canonical_json(what).encode()).hexdigest()[:4]
        data = Path(self.data).name.lower() or "data"
        subject = self.network if self.kind == "train" else self.track
        return f"{self.kind}-{subject}-{data}-{self.scale}-{digest}".replace("/", "-").replace(" ", "-")

    def to_dict(self) -> dict[str, Any]:
        """Options by their names on the command line; those at their default are left out, but for `kind`."""
        default = Study(kind=self.kind, network=self.network)
        out: dict[str, Any] = {"kind": self.kind}
        for key, value in asdict(self).items():
            if key != "kind" and (value != getattr(default, key) or (key == "network" and value)):
                out[option(key)] = dict(value) if isinstance(value, Mapping) else value
        return out


LARGEST = {"epochs": 100_000, "concurrency": 100_000, "threads": 10_000, "micro_batch": 10_000_000, "input_size": 4096, "seeds": 10_000}
EXECUTION = ("executor", "device", "concurrency", "threads", "micro-batch", "compile")
GROWS = ("seeds", "eval")  # what one study may be asked for later


def option(key: str) -> str:
    """A field's name as it stands on the command line and in files."""
    return key.replace("_", "-")


def override(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """`recipe` with the given fields (option or field names) changed; ValueError names an unknown one."""
    named: dict[str, Any] = {str(k).replace("-", "_"): tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    known = {f.name for f in fields(Recipe)}
    for key in named:
        if key not in known:
            raise ValueError(f"unknown recipe field {option(key)!r}; known: {', '.join(option(k) for k in sorted(known))}")
    hints = get_type_hints(Recipe)
    for key, value in named.items():
        named[key] = converted(value, hints[key])
        if not fits(named[key], hints[key]):
            raise ValueError(f"{option(key)} must be {describe(hints[key])}, not {value!r}")
    return replace(recipe, **named)
