"""Which installed packages a network is made with (no torch)."""

from __future__ import annotations

from .installed import BLOCKS, PackageError
from .layers import Layers
from .spec import NetSpec, installed_layers, layer_kinds


def packages(spec: NetSpec) -> dict[str, str]:
    """{distribution: version} of the installed packages whose layers are in `spec`.

    PackageError for a layer that no entry point names: workers could not find it.
    """
    out: dict[str, str] = {}

    def visit(layers: Layers) -> None:
        for layer in layers:
            if layer_kinds().get(layer.kind) is not type(layer):
                found = installed_layers().get(layer.kind)
                if found is None or found.value is not type(layer):
                    name = f"{type(layer).__module__}.{type(layer).__qualname__}"
                    raise PackageError(f"{name} ({layer.kind!r}) is not known here: name it in its package's entry points {BLOCKS}")
                out[found.distribution] = found.version
            for inner in layer.children():
                visit(inner)

    for stage in spec.stages:
        visit(stage.blocks)
        visit((*stage.transition, *stage.after))
    visit((*spec.stem, *spec.head.before, *spec.head.after))
    return out
