"""A Study: what the user asked, as data. The command line is sugar over it; every command writes the one it ran.

The file is YAML; its keys are the options of the command line. A bad file is refused by file, key and line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from ..roadmap.spec import canonical_json
from .objectives import count, exactly, milliseconds, parse_objectives, seconds, shown_count
from .option_types import converted, describe, fits
from .recipe import Recipe, preset

Kind = Literal["roadmap", "ablate", "tune", "train", "search"]
KINDS: tuple[Kind, ...] = ("roadmap", "ablate", "tune", "train", "search")
DesignName = Literal["cumulative", "leave-one-out", "add-one-in", "fractional", "factorial", "orders"]
DESIGNS: tuple[DesignName, ...] = get_args(DesignName)
Sampler = Literal["vitnas", "tpe", "nsga2", "gp", "random"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)
Scheduler = Literal["none", "asha", "halving"]
SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)


class StudyError(ValueError):
    """A study that makes no sense; the message names the key and the next move."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Everything a study is. Options that only say how it runs (`EXECUTION`) do not change what it is.

    `set` overrides fields of the recipe in every arm. `network` is a published variant, for `kind: train`. `input_size` None means the
    scale's own; `epochs` None the default of data and scale. `seeds` counts replicates. `distill_from` names the teacher of every arm:
    a published variant, with its weights in the file `teacher_weights`, or `trial:<id>` of the store. `eval` scores the trained networks
    on something more.

    `kind: ablate` runs `design` over `steps`, with those of `fix` in every arm, under every combination of the levels of `factor`
    (data-fraction, scale, or a step). `interactions` are pairs such as `gelu:layer-norm`, or `all`; `resolution` and `runs` belong to
    fractional designs, `orders` and `order` to those over orders of the steps. `tune` names recipe fields that every arm tunes on a small
    grid of its own (`kind: tune` is that grid). `until_decided` adds seeds up to `max_seeds` until every effect is decided,
    by planned looks or by e-values (`stopping`); `margin` is the change (points of top-1) that does not matter.

    `latency` has every arm's network measured after the training: as it was trained, or as its twin at another scale (`latency_scale`)
    and input size (`latency_size`, pixels). The other `latency_` options say on what and how; `latency_seconds` is the effort a network.

    `kind: search` looks in `space` (a preset, or a file) for networks that are good in all `objectives` and keep to the limits
    (`max_...`, or `min_accuracy`), proposed by `sampler`: `trials` networks at most, for `max_time` at most, while the hypervolume
    grows by `min_gain`. `scheduler` ends trainings early, after `min_epochs` or more. `finalists` networks are trained again on all but
    the test images, `final_epochs` long, with `seeds` seeds, and `published` beside them. `pool` networks of a space that is too large
    to list are looked at.
    `train_on: all` leaves no validation split (`kind: train`). `processes` train each trial together, a GPU each where it trains on GPUs.
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
    placebo: bool | None = None  # on in ablations, off elsewhere, unless said otherwise
    design: DesignName = "leave-one-out"
    fix: str = ""
    factor: Mapping[str, Any] = field(default_factory=dict)
    interactions: str = ""
    resolution: int | None = None
    runs: int | None = None
    orders: int | None = None
    order: str = ""
    tune: str = ""
    margin: float = 0.3
    until_decided: bool = False
    max_seeds: int = 12
    stopping: Literal["alpha-spending", "e-values"] = "alpha-spending"
    confirmed: bool = False
    distill_from: str = ""
    teacher_weights: str = ""
    distill: Literal["soft", "hard"] = "hard"
    eval: Literal["none", "corruptions"] = "none"
    latency: bool = False
    latency_scale: str = ""
    latency_size: int | None = None
    latency_device: Literal["cpu", "cuda"] = "cpu"
    latency_backend: Literal["eager", "compile", "onnxruntime", "openvino"] = "eager"
    latency_threads: int = 1
    latency_batch: int = 1
    latency_precision: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"
    latency_seconds: float = 2.0
    train_on: Literal["train", "all"] = "train"
    space: str = ""
    sampler: Sampler = "vitnas"
    objectives: str = "accuracy,latency"
    max_latency: str | int | float | None = None
    max_params: str | int | float | None = None
    max_macs: str | int | float | None = None
    min_accuracy: float | None = None
    trials: int = 40
    max_time: str | int | float | None = None
    min_gain: float | None = None
    scheduler: Scheduler = "none"
    min_epochs: int | None = None
    finalists: int = 3
    final_epochs: int | None = None
    published: str = "auto"
    pool: int = 2000
    # how it runs
    optuna_storage: str = ""
    executor: Literal["ray", "local"] = "ray"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    concurrency: int | None = None
    threads: int | None = None
    processes: int | None = None
    micro_batch: int | None = None
    compile: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise StudyError(f"kind: {self.kind!r} is not one of {', '.join(KINDS)}")
        if self.placebo is None:
            object.__setattr__(self, "placebo", self.kind == "ablate")
        choices = {
            "score_on": ("test", "validation"),
            "distill": ("soft", "hard"),
            "eval": ("none", "corruptions"),
            "executor": ("ray", "local"),
            "device": ("auto", "cpu", "cuda"),
            "design": DESIGNS,
            "stopping": ("alpha-spending", "e-values"),
            "latency_device": ("cpu", "cuda"),
            "latency_backend": ("eager", "compile", "onnxruntime", "openvino"),
            "latency_precision": ("fp32", "bf16", "fp16", "int8"),
            "train_on": ("train", "all"),
            "sampler": SAMPLERS,
            "scheduler": SCHEDULERS,
        }
        for key, values in choices.items():
            if getattr(self, key) not in values:
                raise StudyError(f"{option(key)}: {getattr(self, key)!r} is not one of {', '.join(values)}")
        for key in BOUNDED:
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
        self._check_ablation()
        if self.kind == "train" and not self.network:
            raise StudyError("network: name the network to train; `vitnas models list` shows what exists")
        self._check_teacher()
        self._check_latency()
        self._check_search()
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

    def _check_ablation(self) -> None:
        if self.kind != "search":
            for key in SEARCH:
                if getattr(self, key) != Study.__dataclass_fields__[key].default:
                    raise StudyError(f"{option(key)}: belongs to searches: use vitnas search, or kind: search in the file")
        if self.kind not in ("ablate", "tune"):
            for key in ABLATION:
                if getattr(self, key) != Study.__dataclass_fields__[key].default and getattr(self, key) != {}:
                    raise StudyError(f"{option(key)}: belongs to ablations: use vitnas ablate, or kind: ablate in the file")
        if self.resolution is not None and self.resolution not in (3, 4, 5):
            raise StudyError(f"resolution: must be 3, 4 or 5, not {self.resolution}")
        if not 0 < self.margin <= 100:
            raise StudyError(f"margin: must lie in (0, 100] points of top-1, not {self.margin:g}")
        if self.until_decided and not 2 <= self.seeds <= self.max_seeds:
            raise StudyError(
                f"max-seeds: --until-decided starts at --seeds 2 or more and ends at --max-seeds, not from {self.seeds} to {self.max_seeds}"
            )
        if not 1 <= self.max_seeds <= LARGEST["seeds"]:
            raise StudyError(f"max-seeds: must be 1 to {LARGEST['seeds']}, not {self.max_seeds}")
        tuned = tuned_fields(self.tune)
        for name in tuned:
            if name not in TUNABLE or tuned.count(name) > 1:
                raise StudyError(f"tune: {name!r} cannot be tuned{' twice' * (name in TUNABLE)}; {' and '.join(TUNABLE)} can, once each")
        for name, levels in self.factor.items():
            if not isinstance(name, str):
                raise StudyError(f"factor: {name!r} is no factor: name data-fraction, scale or a step")
            found = factor_levels(levels)
            if len(found) < 2 or len(set(map(_as_number, found))) < len(found):
                raise StudyError(f"factor: {name} needs two different levels or more, as in --factor {name}=a,b")
            if (
                name in ("data-fraction", "scale")
                and (own := getattr(self, name.replace("-", "_"))) != Study.__dataclass_fields__[name.replace("-", "_")].default
            ):
                raise StudyError(f"factor: {name} is a factor and is {own} too: leave --{name} out")

    def _check_teacher(self) -> None:
        if not self.distill_from and (self.teacher_weights or self.distill == "soft"):
            key = "teacher-weights" if self.teacher_weights else "distill"
            raise StudyError(f"{key}: name the teacher with --distill-from, a published network or trial:<id>")
        if self.distill_from.startswith("trial:") and self.teacher_weights:
            raise StudyError("teacher-weights: a trial has its weights in the store: leave --teacher-weights out")
        if self.distill_from and not self.distill_from.startswith("trial:") and not self.teacher_weights:
            raise StudyError(f"distill-from: name the file with the weights of {self.distill_from} with --teacher-weights")

    def _check_latency(self) -> None:
        given = [key for key in LATENCY if getattr(self, key) != Study.__dataclass_fields__[key].default]
        if given and not self.latency and self.kind in ("roadmap", "ablate", "train"):
            raise StudyError(f"{option(given[0])}: says how latency is measured: add --latency, or leave it out")
        if self.kind == "train" and self.latency_scale:
            raise StudyError("latency-scale: a published network has no twin at another scale: leave it out")
        if not 0.1 <= self.latency_seconds <= 3600:
            raise StudyError(f"latency-seconds: must lie between 0.1 and 3600, not {self.latency_seconds:g}")

    def _check_search(self) -> None:
        if self.train_on == "all" and (self.kind != "train" or self.score_on != "test"):
            raise StudyError("train-on: all leaves no validation split: it is for vitnas train, scored on the test split")
        if self.kind != "search":
            return
        for key, (_, spelled) in LIMITS.items():
            try:
                value = self._amount(key)
            except ValueError as error:
                raise StudyError(f"{option(key)}: {error}") from None
            object.__setattr__(self, key, None if value is None else spelled(value))
        for key in ("steps", "network", "score_on", "eval", "distill_from", "latency", "latency_scale", "latency_size"):
            if getattr(self, key) != Study.__dataclass_fields__[key].default:
                raise StudyError(f"{option(key)}: does not go with a search: leave it out")
        if self.placebo:
            raise StudyError("placebo: does not go with a search: leave it out")
        if self.input_size is not None:
            raise StudyError(f"input-size: is a choice of the space: write input-size: [{self.input_size}] under vary in its file")
        try:
            found = parse_objectives(self.objectives)
        except ValueError as error:
            raise StudyError(f"objectives: {error}") from None
        object.__setattr__(self, "objectives", ",".join(o.name for o in found))
        if self.min_accuracy is not None and not 0 < self.min_accuracy <= 100:
            raise StudyError(f"min-accuracy: must lie in (0, 100] %, not {self.min_accuracy:g}")
        if self.min_accuracy is not None and len(found) == 1:
            raise StudyError("min-accuracy: looks for the cheapest network that reaches it: name a cost too, as in accuracy,latency")
        if self.min_gain is not None and not 0 < self.min_gain < 1:
            raise StudyError(f"min-gain: is a share of the hypervolume and must lie in (0, 1), not {self.min_gain:g}")
        if self.min_epochs is not None and self.scheduler == "none":
            raise StudyError("min-epochs: belongs to a scheduler that ends trainings early: add --scheduler halving")

    def _amount(self, key: str) -> float | None:
        value = getattr(self, key)
        return None if value is None else LIMITS[key][0](value)

    @property
    def limits(self) -> dict[str, float]:
        """What a search must keep to, by objective: ms, parameters, multiply-adds."""
        return {key.removeprefix("max_"): v for key in ("max_latency", "max_params", "max_macs") if (v := self._amount(key)) is not None}

    @property
    def max_seconds(self) -> float | None:
        """`max_time` in seconds."""
        return self._amount("max_time")

    @property
    def folder_name(self) -> str:
        """The study's name: its own, else one made of what it is (seeds and further scores may be added to one study)."""
        if self.name:
            return self.name
        grows = SEARCH_GROWS if self.kind == "search" else GROWS
        what = {k: v for k, v in self.to_dict().items() if k not in (*EXECUTION, *grows, "name")}
        digest = hashlib.sha256(canonical_json(what).encode()).hexdigest()[:4]
        data = Path(self.data).name.lower() or "data"
        subject = self.network if self.kind == "train" else self.track
        if self.kind == "ablate":
            subject = f"{self.design}-{subject}"
        return f"{self.kind}-{subject}-{data}-{self.scale}-{digest}".replace("/", "-").replace(" ", "-")

    def to_dict(self) -> dict[str, Any]:
        """Options by their names on the command line; those at their default are left out, but for `kind`."""
        default = Study(kind=self.kind, network=self.network)
        out: dict[str, Any] = {"kind": self.kind}
        for key, value in asdict(self).items():
            if key != "kind" and (value != getattr(default, key) or (key == "network" and value)):
                out[option(key)] = dict(value) if isinstance(value, Mapping) else value
        return out


LARGEST = {
    "epochs": 100_000,
    "concurrency": 100_000,
    "threads": 10_000,
    "processes": 10_000,
    "micro_batch": 10_000_000,
    "input_size": 4096,
    "seeds": 10_000,
    "runs": 4096,
    "orders": 4096,
    "latency_size": 4096,
    "latency_threads": 1024,
    "latency_batch": 65536,
    "trials": 1_000_000,
    "min_epochs": 100_000,
    "finalists": 1000,
    "final_epochs": 100_000,
    "pool": 1_000_000,
}
BOUNDED = tuple(key for key in LARGEST if key != "seeds")
LATENCY = (  # what belongs to `latency`
    "latency_scale",
    "latency_size",
    "latency_device",
    "latency_backend",
    "latency_threads",
    "latency_batch",
    "latency_precision",
    "latency_seconds",
)
EXECUTION = ("executor", "device", "concurrency", "threads", "processes", "micro-batch", "compile", "optuna-storage")
GROWS = (  # what one study may be asked for later
    "seeds",
    "eval",
    "margin",
    "until-decided",
    "max-seeds",
    "stopping",
    "confirmed",
    "latency",
    *(key.replace("_", "-") for key in LATENCY),
)
SEARCH_GROWS = ("trials", "max-time", "min-gain", "finalists", "final-epochs", "published", "seeds", "confirmed")  # the same of a search
LIMITS: dict[str, tuple[Callable[[object], float], Callable[[float], str]]] = {  # how amounts are read, and written again
    "max_latency": (milliseconds, lambda ms: f"{exactly(ms)}ms"),
    "max_params": (count, shown_count),
    "max_macs": (count, shown_count),
    "max_time": (seconds, lambda s: f"{exactly(s)}s"),
}
SEARCH = (
    "space",
    "sampler",
    "objectives",
    "max_latency",
    "max_params",
    "max_macs",
    "min_accuracy",
    "trials",
    "max_time",
    "min_gain",
    "scheduler",
    "min_epochs",
    "finalists",
    "final_epochs",
    "published",
    "pool",
    "optuna_storage",
)
ABLATION = (
    "design",
    "fix",
    "factor",
    "interactions",
    "resolution",
    "runs",
    "orders",
    "order",
    "tune",
    "until_decided",
    "stopping",
    "confirmed",
)
TUNABLE = {"lr": "lr", "wd": "weight_decay"}  # what --tune takes, and the recipe's field


def tuned_fields(text: str) -> tuple[str, ...]:
    """The terms of `--tune`, such as ("lr", "wd")."""
    return tuple(t.strip() for t in text.split(",") if t.strip())


def factor_levels(levels: Any) -> tuple[str, ...]:
    """The levels of a factor as text, from a list or from `a,b,c`."""
    parts = levels if isinstance(levels, list | tuple) else str(levels).split(",")
    return tuple(f"{p:g}" if isinstance(p, float) else str(p).strip() for p in parts if str(p).strip())


def _as_number(level: str) -> object:
    """0.1, 0.10 and 1e-1 are one level."""
    try:
        return float(level)
    except ValueError:
        return level.lower()


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
