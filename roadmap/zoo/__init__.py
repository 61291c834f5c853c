"""The published networks of every system, by name: one file a system."""

from __future__ import annotations

import difflib

from ..steps import squash
from . import (
    convnext,
    deit,
    efficientnet,
    levit,
    mixer,
    mobilenet,
    mobilevit,
    parc_convnets,
    parcnet,
    repvit,
    resnet,
    resnext,
    spach,
    swin,
    transnext,
    van,
)
from .entry import Variant

SYSTEMS = (
    resnet,
    convnext,
    swin,
    mixer,
    deit,
    spach,
    resnext,
    mobilenet,
    efficientnet,
    levit,
    mobilevit,
    repvit,
    van,
    parcnet,
    parc_convnets,
    transnext,
)
VARIANTS: tuple[Variant, ...] = tuple(v for system in SYSTEMS for v in system.VARIANTS)


def variant(name: str) -> Variant:
    """The variant called `name`, regardless of case and separators; ValueError names the nearest."""
    for v in VARIANTS:
        if squash(name) in map(squash, (v.name, *v.aliases)):
            return v
    near = difflib.get_close_matches(name.lower(), [v.name for v in VARIANTS], n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "`vitnas models list` shows what exists"
    raise ValueError(f"unknown network {name!r}: {hint}")
