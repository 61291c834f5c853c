"""vitnas: neural-architecture ablations and search, from ResNet to ConvNeXt and beyond.

    create_model  a published network by name, with its official weights      variant, VARIANTS  the published networks
    build         the torch module of a NetSpec                               track, TRACKS      the roadmaps, installed ones included
    cost          parameters and multiply-adds of a NetSpec                   select             a choice of a track's steps
    fuse, deploy  the deployment form of a network, of a NetSpec              NetSpec            a network as plain data
    Backbone      a network's multi-scale maps; features lists them           Variant, Track     what variant and track give

Names are loaded when they are first used, so that `import vitnas` costs nothing; those of the right column need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .roadmap.backbone import Backbone
    from .roadmap.cost import cost
    from .roadmap.create import create_model
    from .roadmap.features import features
    from .roadmap.fuse import deploy, fuse
    from .roadmap.model import build
    from .roadmap.spec import NetSpec
    from .roadmap.steps import Track, select
    from .roadmap.tracks import TRACKS, track
    from .roadmap.zoo import VARIANTS, variant
    from .roadmap.zoo.entry import Variant

__version__ = "0.1.0"

__all__ = [
    "TRACKS",
    "VARIANTS",
    "Backbone",
    "NetSpec",
    "Track",
    "Variant",
    "build",
    "cost",
    "create_model",
    "deploy",
    "features",
    "fuse",
    "select",
    "track",
    "variant",
]

_HOMES = {
    "TRACKS": "tracks",
    "VARIANTS": "zoo",
    "Backbone": "backbone",
    "NetSpec": "spec",
    "Track": "steps",
    "Variant": "zoo.entry",
    "build": "model",
    "cost": "cost",
    "create_model": "create",
    "deploy": "fuse",
    "features": "features",
    "fuse": "fuse",
    "select": "steps",
    "track": "tracks",
    "variant": "zoo",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f".roadmap.{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
