"""A Variant: one published network by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..spec import NetSpec

if TYPE_CHECKING:
    from ..weights import Dialect


SIZES = {"Ti": "tiny", "T": "tiny", "S": "small", "B": "base", "L": "large", "XL": "xlarge"}


def spelled_out(name: str) -> str:
    """A name with the word for the letter that is its size: "Swin-T" as "swin-tiny"."""
    return "-".join(SIZES.get(part, part) for part in name.split("-")).lower()


@dataclass(frozen=True, kw_only=True)
class Variant:
    """`spec(input_size=..., classes=...)` gives the network. `sizes` says in words which input sizes work (the spec function
    raises ValueError for others); `micro` names the system's small variant for tests and small machines; `top1` (%) is the
    paper's; `aliases` are other names it is known by, in papers, official code and timm. `dialects` gives the naming schemes
    of published checkpoints; it is a function because reading weights needs torch."""

    name: str
    aliases: tuple[str, ...] = ()
    system: str
    spec: Callable[..., NetSpec]
    input_size: int = 224
    sizes: str = "any size from 32"
    micro: str = ""
    top1: float | None = None
    source: str = ""
    dialects: Callable[[], tuple[Dialect, ...]] = tuple
