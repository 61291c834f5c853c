"""Recipes: everything that acts only in training, as data. Techniques are toggles over groups of its fields.

Learning rates are per 256 images. Warm-up and the EMA's horizon are fractions of training, so a recipe keeps its meaning
at any number of epochs (which belong to the study). Biases, norms, layer scales, position embeddings and class tokens
(every parameter of one dimension or fewer, and those named in `NO_DECAY`) are exempt from weight decay under AdamW;
SGD decays everything, as the ResNet recipe does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

NO_DECAY = ("position", "tokens", "relative_bias", "attention_bias")
WSD = ("cooldown", "horizon")  # fields that the schedule "wsd" alone has


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training recipe. Rates and probabilities are in [0, 1]; 0 switches a technique off.

    `lr` is per 256 images and scaled to the batch by `lr_scaling` ("linear", "sqrt" or "none"). `warmup` and `ema` are
    fractions of all optimizer steps (`ema` is the averaging horizon). `mixup` and `cutmix` are the alphas of their Beta
    distributions; where both are on, each batch takes one of them at even odds. `randaugment` is the magnitude of 0 to 10
    applied to `randaugment_ops` operations an image, with normal noise of sd `randaugment_noise`. `norm_batch` is
    the number of images over which BatchNorm takes its statistics; None means the whole batch. `distill` says how to learn from
    the network `teacher` (`distill.py`).

    `schedule` "wsd" (warm-up, stable, decay: 2405.18392) keeps the peak rate until the last `cooldown` of the epochs and anneals there.
    Warm-up and EMA are then fractions of `horizon` epochs, not of the training's own: trainings of different lengths are one to the bit
    up to where they cool down (docs/rungs.md).
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    lr_scaling: Literal["linear", "sqrt", "none"] = "linear"
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 1e-4
    clip_grad: float = 0.0
    batch_size: int = 256
    norm_batch: int | None = None
    schedule: Literal["cosine", "constant", "wsd"] = "cosine"
    cooldown: float = 0.0  # fraction of the epochs, one epoch at least
    horizon: int = 0  # epochs
    warmup: float = 0.0
    final_lr: float = 0.0  # fraction of the peak at the end of the cosine or the cooldown
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    randaugment: float = 0.0
    randaugment_ops: int = 2
    randaugment_noise: float = 0.5
    erasing: float = 0.0
    crop: Literal["none", "pad", "resized"] = "none"
    flip: bool = True
    drop_path: float = 0.0
    layer_scale_init: float = 1e-6
    init: Literal["kaiming", "trunc-normal"] = "kaiming"
    ema: float = 0.0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    input_size: int = 224
    distill: Literal["none", "soft", "hard"] = "none"
    distill_weight: float = 0.5
    distill_temperature: float = 3.0
    teacher: str = ""  # hash of the teacher's network and weights

    def __post_init__(self) -> None:
        for name in ("warmup", "final_lr", "label_smoothing", "erasing", "drop_path", "ema", "distill_weight"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name.replace('_', '-')} must lie in [0, 1], not {getattr(self, name)}")
        for name in ("lr", "distill_temperature"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name.replace('_', '-')} must be above 0, not {getattr(self, name)}")
        for name in ("weight_decay", "clip_grad", "mixup", "cutmix", "randaugment_noise", "layer_scale_init"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name.replace('_', '-')} must be 0 or more, not {getattr(self, name)}")
        if not 0 <= self.randaugment <= 10:
            raise ValueError(f"randaugment must lie in [0, 10], not {self.randaugment}")
        if self.batch_size < 1 or self.input_size < 1 or (self.norm_batch is not None and self.norm_batch < 2):
            raise ValueError("batch-size and input-size must be 1 or more, norm-batch 2 or more")
        if self.norm_batch is not None and self.batch_size % self.norm_batch:
            raise ValueError(f"batch-size {self.batch_size} must be a multiple of norm-batch {self.norm_batch}")
        if self.schedule == "wsd" and not (0 < self.cooldown <= 1 and self.horizon >= 1):
            raise ValueError(
                f"schedule wsd needs a cooldown in (0, 1] and a horizon of 1 epoch or more, not {self.cooldown:g} and {self.horizon}"
            )
        if self.schedule != "wsd" and (self.cooldown or self.horizon):
            raise ValueError(f"cooldown and horizon belong to schedule wsd: leave them out, or change schedule from {self.schedule}")
        if (self.distill == "none") == bool(self.teacher):
            raise ValueError("distill and teacher go together: name a teacher with --distill-from, and soft or hard with --distill")

    @property
    def peak_lr(self) -> float:
        """The learning rate at the recipe's batch size."""
        factor = self.batch_size / 256
        scaling = {"linear": factor, "sqrt": math.sqrt(factor), "none": 1.0}
        return self.lr * scaling[self.lr_scaling]

    def trunk_epochs(self, epochs: int) -> int:
        """How many of a training's `epochs` are shared with longer and shorter ones: those of "wsd" before its cooldown."""
        if self.schedule != "wsd":
            return 0
        return epochs - max(1, math.floor(self.cooldown * epochs + 0.5))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, tuples as lists. The fields of "wsd" are absent elsewhere, so that recipes from before it are what they were."""
        absent = () if self.schedule == "wsd" else WSD
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if k not in absent}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recipe:
        """The recipe of `to_dict`; ValueError names an unknown key."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ValueError(f"unknown recipe key {unknown[0]!r}; known: {', '.join(sorted(known))}")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)


OPTIMIZER = ("optimizer", "lr", "lr_scaling", "momentum", "betas", "weight_decay", "clip_grad", "warmup", "batch_size", "norm_batch")
TECHNIQUES: dict[str, tuple[str, ...]] = {  # every field in which the ends of a preset differ belongs to one of them
    "optimizer": (*OPTIMIZER, "init", "layer_scale_init"),
    "randaugment": ("randaugment", "randaugment_ops", "randaugment_noise"),
    "mixup": ("mixup",),
    "cutmix": ("cutmix",),
    "erasing": ("erasing",),
    "label-smoothing": ("label_smoothing",),
    "drop-path": ("drop_path",),
    "ema": ("ema",),
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The two ends of the recipe step, and what they are for."""

    name: str
    base: Recipe
    modern: Recipe
    description: str
    epochs: int
    base_epochs: int | None = None  # epochs of the base rung where the paper gives it others


PAPER = Preset(
    name="paper",
    epochs=300,
    description="the papers' values: ResNet's SGD recipe and ConvNeXt's Table 5 (AdamW, 4e-3 at batch 4096)",
    base=Recipe(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4, batch_size=256, warmup=5 / 90, crop="resized", init="kaiming"),
    modern=Recipe(
        optimizer="adamw",
        lr=4e-3 / 16,
        weight_decay=0.05,
        batch_size=4096,
        warmup=20 / 300,
        crop="resized",
        label_smoothing=0.1,
        mixup=0.8,
        cutmix=1.0,
        randaugment=9,
        erasing=0.25,
        drop_path=0.1,
        init="trunc-normal",
    ),
)
SHORT = Preset(
    name="short",
    epochs=12,
    description="fitted to short trainings of small networks; the same validation search at both ends (docs/recipes.md)",
    base=Recipe(
        optimizer="sgd",
        lr=0.2,
        momentum=0.9,
        weight_decay=5e-3,
        batch_size=64,
        warmup=0.1,
        crop="pad",
        init="kaiming",
    ),
    modern=Recipe(
        optimizer="adamw",
        lr=2e-2,
        weight_decay=0.05,
        batch_size=64,
        warmup=0.1,
        crop="pad",
        label_smoothing=0.1,
        mixup=0.05,
        cutmix=0.05,
        randaugment=1,
        randaugment_ops=1,
        erasing=0.05,
        drop_path=0.0,
        layer_scale_init=1.0,
        init="kaiming",
    ),
)
IMAGENET_PAPER = replace(
    PAPER,
    name="imagenet-paper",
    description="the paper's roadmap itself: the recipe `paper`, 90 epochs for the first rung, BatchNorm over the images of one GPU",
    base=replace(PAPER.base, norm_batch=32),
    modern=replace(PAPER.modern, norm_batch=128),
    base_epochs=90,
)
PRESETS: tuple[Preset, ...] = (PAPER, SHORT, IMAGENET_PAPER)


def preset(name: str) -> Preset:
    """The preset called `name`; ValueError lists what exists."""
    for p in PRESETS:
        if p.name == name:
            return p
    raise ValueError(f"unknown recipe {name!r}; there are {', '.join(p.name for p in PRESETS)}")


DISTILL_WEIGHTS = {"soft": 0.1, "hard": 0.5}  # of the teacher's term: 2012.12877, Section 6 and equation 3


def with_teacher(recipe: Recipe, how: Literal["soft", "hard"], teacher: str) -> Recipe:
    """`recipe` with distillation from the teacher of that hash, at the weight that DeiT gives the teacher."""
    return replace(recipe, distill=how, distill_weight=DISTILL_WEIGHTS[how], teacher=teacher)


def with_techniques(base: Recipe, modern: Recipe, names: Iterable[str]) -> Recipe:
    """`base` with the named techniques as `modern` has them."""
    values = {f: getattr(modern, f) for name in names for f in TECHNIQUES[name]}
    return replace(base, **values)
