"""NetSpec: what a network is, as plain data (no torch). Compared, hashed, printed as a table, written as JSON.

    NetSpec = stem, stages, head;  Stage = transition, blocks, norm;  Block = a sequence of layers, its residuals in it

The canonical form has every default filled in, absent options left out and no names; its hash is the fingerprint:
two spellings of one network have one fingerprint. Equal neighbouring blocks are run-length coded when written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, fields
from functools import cache, cached_property
from itertools import groupby
from typing import Any, Literal

from . import layers as basic
from . import mixers
from .installed import BLOCKS, Found, installed
from .layers import Layer, Layers, Shape, channels_through

Pool = Literal["avg", "tokens", "max"]


@dataclass(frozen=True, kw_only=True)
class Block(Layer):
    """One block of a stage: a sequence of layers, usually one or two residuals."""

    kind = "block"
    module = "residual:Sequence"
    body: Layers

    def out_channels(self, channels: int) -> int:
        return channels_through(self.body, channels)

    def out_size(self, height: int, width: int) -> tuple[int, int]:
        return basic.size_through(self.body, height, width)

    def children(self) -> tuple[Layers, ...]:
        return (self.body,)

    @cached_property
    def canonical(self) -> dict[str, Any]:
        """Its canonical form, kept: networks of one track share blocks. Not to be written to."""
        return _record(self, False)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A transition (downsampling, widening), blocks, and layers that end the stage (a norm, say)."""

    transition: Layers = ()
    blocks: tuple[Block, ...]
    after: Layers = ()


@dataclass(frozen=True, kw_only=True)
class Head:
    """Layers on the last map, pooling, layers on the pooled vector, and one linear classifier or several.

    pool: "avg" or "max" over the map, or "tokens": the first `classifiers` tokens, each to its own classifier.
    Several classifiers are averaged in eval mode; in training the network returns a tuple (DeiT, LeViT, RepViT).
    """

    before: Layers = ()
    pool: Pool = "avg"
    after: Layers = ()
    classifiers: int = 1
    classifier_norm: bool = False  # a BatchNorm before each linear classifier
    classes: int


@dataclass(frozen=True, kw_only=True)
class NetSpec:
    """A network. `name` is for people and not part of its identity."""

    name: str = field(default="", compare=False)
    stem: Layers
    stages: tuple[Stage, ...]
    head: Head
    in_channels: int = 3

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, 16 hexadecimal digits."""
        return hashlib.sha256(canonical_json(to_dict(self)).encode()).hexdigest()[:16]

    def walk(self, input_size: int) -> Iterator[Site]:
        """Every leaf layer in order with its path, input and output shape at an input of `input_size` pixels.

        Raises ValueError with the path of the first layer that does not fit.
        """
        shape: Shape = (self.in_channels, input_size, input_size)
        for path, layers in self.sections():
            shape = yield from _walk(layers, path, shape)

    def sections(self) -> Iterator[tuple[str, Layers]]:
        """(path, layers) of every sequence in order: stem, transitions, blocks, stage ends, head."""
        yield "stem", self.stem
        for i, stage in enumerate(self.stages):
            if stage.transition:
                yield f"stages.{i}.transition", stage.transition
            for j, block in enumerate(stage.blocks):
                yield f"stages.{i}.blocks.{j}", block.body
            if stage.after:
                yield f"stages.{i}.after", stage.after
        if self.head.before:
            yield "head.before", self.head.before

    def shapes(self, input_size: int) -> dict[str, Shape]:
        """Output shape (C, H, W) of every section at an input of `input_size` pixels."""
        shape: Shape = (self.in_channels, input_size, input_size)
        out = {}
        for path, layers in self.sections():
            try:
                for layer in layers:
                    shape = layer.output(shape)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            out[path] = shape
        return out

    def fitting_size(self) -> int:
        """An input size in pixels that fits, a small one where there is a choice; ValueError where none up to 1024 does."""
        sizes: tuple[int, ...] = (64, 32, *range(96, 1025, 32))
        for size in sizes:
            try:
                self.shapes(size)
            except ValueError:
                continue
            return size
        raise ValueError(f"no input size from 32 to 1024 fits {self.name or 'this network'}: give one")

    def shapes_of_stages(self, input_size: int) -> list[tuple[str, Shape]]:
        """(`stages.i`, (C, H, W)) after every stage."""
        shapes = self.shapes(input_size)
        return [(f"stages.{i}", [s for p, s in shapes.items() if p.startswith(f"stages.{i}.")][-1]) for i in range(len(self.stages))]


@dataclass(frozen=True)
class Site:
    """One leaf layer met by `NetSpec.walk`."""

    path: str
    layer: Layer
    input: Shape
    output: Shape


def _walk(layers: Layers, path: str, shape: Shape) -> Generator[Site, None, Shape]:
    for name, layer in named(layers):
        here = f"{path}.{name}"
        try:
            out = layer.output(shape)
        except ValueError as error:
            raise ValueError(f"{here}: {error}") from None
        inner = layer.children()
        if inner:
            for child in inner:
                yield from _walk(child, here, shape)
        else:
            yield Site(here, layer, shape, out)
        shape = out
    return shape


def named(layers: Layers) -> list[tuple[str, Layer]]:
    """Layers with unique names: their own, else their kind; a number is appended to repeated ones."""
    seen: dict[str, int] = {}
    out = []
    for layer in layers:
        name = layer.name or layer.kind.replace("-", "_")
        seen[name] = seen.get(name, 0) + 1
        out.append((name if seen[name] == 1 else f"{name}{seen[name]}", layer))
    return out


# --- dict and JSON -------------------------------------------------------------------------------------------------


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _value(value: Any, names: bool) -> Any:
    if isinstance(value, Block) and not names:
        return value.canonical
    if isinstance(value, Layer | Stage | Head):
        return _record(value, names)
    if isinstance(value, tuple):
        items = [_value(v, names) for v in value]
        if value and isinstance(value[0], Block):
            runs = [(len(list(group)), item) for item, group in groupby(items)]
            return [{"repeat": n, **item} for n, item in runs]
        return items
    return value


def _record(part: Any, names: bool) -> dict[str, Any]:
    out: dict[str, Any] = {"layer": part.kind} if isinstance(part, Layer) else {}
    for name in _fields(part.__class__):
        value = getattr(part, name)
        if value is None or (name == "name" and not (names and value)):
            continue
        out[name] = _value(value, names)
    return out


@cache
def _fields(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


def to_dict(spec: NetSpec, *, names: bool = False) -> dict[str, Any]:
    """The network as nested dicts and lists; canonical without `names`."""
    return _record(spec, names)


@cache
def layer_kinds() -> dict[str, type[Layer]]:
    """Our layers by their kind."""
    kinds = {c.kind: c for m in (basic, mixers) for c in vars(m).values() if isinstance(c, type) and issubclass(c, Layer) and c.kind}
    return kinds | {"block": Block}


@cache
def installed_layers() -> dict[str, Found]:
    """The layers of installed packages (entry points `vitnas.blocks`) by their kind, which carries the package's prefix ("acme.spin").

    PackageError where one does not, is no layer or clashes.
    """
    kinds: dict[str, Found] = {}
    for found in installed(BLOCKS):
        if not (isinstance(found.value, type) and issubclass(found.value, Layer)):
            raise found.refuse(f"gives {found.value!r} as a block, which is no kind of Layer: mend its entry point")
        found.check_name("layer", found.value.kind, taken=found.value.kind in kinds)
        kinds[found.value.kind] = found
    return kinds


def _kind(kind: Any) -> type[Layer]:
    """The layer of this kind, ours or an installed one."""
    if kind in layer_kinds():
        return layer_kinds()[kind]
    if kind in installed_layers():
        layer: type[Layer] = installed_layers()[kind].value
        return layer
    known = ", ".join(sorted({*layer_kinds(), *installed_layers()}))
    hint = " (one with a dot comes from a package that is not installed here)" if "." in str(kind) else ""
    raise ValueError(f"unknown layer {kind!r}{hint}; known: {known}")


def _layer(data: dict[str, Any]) -> Layer:
    data = dict(data)
    layer = _kind(data.pop("layer", None))
    values: dict[str, Any] = {k: _layers(v) if isinstance(v, list) and v and isinstance(v[0], dict) else _plain(v) for k, v in data.items()}
    return layer(**values)


def _plain(value: Any) -> Any:
    return tuple(_plain(v) for v in value) if isinstance(value, list) else value


def _layers(items: list[dict[str, Any]]) -> tuple[Any, ...]:
    out: list[Layer] = []
    for item in items:
        item = dict(item)
        repeat = item.pop("repeat", 1)
        out += [_layer(item)] * repeat
    return tuple(out)


def from_dict(data: dict[str, Any]) -> NetSpec:
    """The network written by `to_dict`; ValueError for what is not one."""
    try:
        stages = tuple(Stage(**{k: _layers(v) for k, v in stage.items()}) for stage in data["stages"])
        parts: dict[str, Any] = {k: _layers(v) if isinstance(v, list) else v for k, v in data["head"].items()}
        return NetSpec(
            name=data.get("name", ""),
            stem=_layers(data["stem"]),
            stages=stages,
            head=Head(**parts),
            in_channels=data.get("in_channels", 3),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a network: {error}") from None
