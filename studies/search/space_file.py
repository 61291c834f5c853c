"""Space files: which dimensions a space has, as YAML; refused by file, line and key.

steps: all                      # what every network has, as in --steps
toggle: [gelu, fewer-norms]     # steps that each network has or has not: names, or all
vary:                           # dimensions and their levels
  mixer@each: [conv, window]    # a step's values, of one stage (@3), of some (@3,4), of each one by itself, or without @ of all at once
  depths@3: [3, 5, 7]           # numbers: depths, widths, kernels, expansions, depth-factors, width-factors; own leaves the track's
  width-factor: [0.5, 0.75, 1]  # and first-width, width-factor, depth-factor of all stages
  input-size: [24, 32]
  mixup: [off, on]              # techniques of the recipe, or the recipe itself
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ...roadmap.numbers import PER_STAGE, Numbers
from ...roadmap.steps import Step, Track, Value, parse_value, select, squash
from ...roadmap.tracks import track as find_track
from ..recipe import TECHNIQUES
from . import spaces
from .space import Dimension, Kind, Point, Space, SpaceError
from .space_probe import legal_points, levels_apart, unreached

KEYS = ("title", "tracks", "steps", "toggle", "vary")
STAGES = 4


def load_space(source: str | Path, track: Track | str, scale: str, *, classes: int = 1000) -> Space:
    """The space of a preset, of a YAML file or of YAML text (text has a line break), for a track at a scale.

    SpaceError names file, line and key for what is wrong, with what exists; also where a level is in no legal point.
    """
    track = find_track(track) if isinstance(track, str) else track
    name, where, text = _found(source)
    file = _File(where, text, track, scale)
    return file.space(name, classes)


def _found(source: str | Path) -> tuple[str, str, str]:
    """Name, place and text of a space."""
    if isinstance(source, str) and "\n" in source:
        return "space", "space", source
    if str(source) in spaces.names():
        return str(source), f"space {source}", spaces.text(str(source))
    path = Path(source)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        near = difflib.get_close_matches(str(source), spaces.names(), n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"spaces are {', '.join(spaces.names())}"
        raise SpaceError(f"there is no space {str(source)!r}, nor a file of that name: {hint}")
    try:
        return path.stem, str(path), path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path} cannot be read ({error}): check the path") from None


@dataclass(frozen=True)
class _Entry:
    """A key with the scalars beneath it, as they are written."""

    key: str
    line: int
    values: tuple[str, ...]


class _File:
    """A space file as it is being read."""

    def __init__(self, where: str, text: str, track: Track, scale: str) -> None:
        self.where, self.track, self.scale = where, track, track.scale(scale).name
        self.lines: dict[str, int] = {}  # of dimensions, by name
        self.entries: dict[str, _Entry] = {}
        self.vary: list[_Entry] = []
        for key, node in self._pairs(self._root(text)):
            if key.value not in KEYS:
                self._refuse(key, f"unknown key {key.value!r}", key.value, KEYS)
            if key.value == "vary":
                self.vary = [self._entry(k, v) for k, v in self._pairs(node)]
            else:
                self.entries[key.value] = self._entry(key, node)

    def space(self, name: str, classes: int) -> Space:
        self._check_track()
        steps, techniques = self._steps()
        dimensions, notes = self._dimensions(), []
        space = self._space(name, dimensions, steps, techniques, classes)
        drawn = self._drawn(space)
        for d in space.dimensions:
            kept = levels_apart(space, d, drawn)
            if len(kept) == len(d.levels):
                continue
            i = next(i for i, x in enumerate(dimensions) if x.name == d.name)
            if len(kept) > 1:
                values = tuple(v for x, v in zip(d.levels, d.values, strict=True) if x in kept)
                dimensions[i] = replace(d, levels=kept, values=values, ordered=_ordered(values), reads=())
                notes.append(f"{d.name}: of {', '.join(d.levels)} only {', '.join(kept)} differ in this space")
            else:
                self._check_requirements(space, d)
                del dimensions[i]
                notes.append(f"{d.name} passed over: it changes no network of this space")
        if notes:
            space = self._space(name, dimensions, steps, techniques, classes, notes)
            drawn = self._drawn(space)
        self._check_levels(space, drawn)
        return space

    def _space(
        self,
        name: str,
        dimensions: Sequence[Dimension],
        steps: dict[str, Value],
        techniques: Sequence[str],
        classes: int,
        notes: Sequence[str] = (),
    ) -> Space:
        own = [d for d in dimensions if len(d.levels) > 1]
        if not own:
            raise SpaceError(f"{self.where}: nothing varies, the space is empty: give toggle or vary something of more than one level")
        return Space(
            name,
            self.track,
            self.scale,
            own,
            fixed=[d for d in dimensions if len(d.levels) == 1],
            steps={k: v for k, v in steps.items() if self.track.step(k).owner == "network"},
            techniques=techniques,
            classes=classes,
            notes=notes,
        )

    # --- YAML -----------------------------------------------------------------------------------------------------

    def _root(self, text: str) -> yaml.Node:
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            raise SpaceError(f"{self.where}{f':{mark.line + 1}' if mark else ''}: not YAML ({getattr(error, 'problem', error)})") from None
        if not isinstance(node, yaml.MappingNode):
            empty = "it is empty: " if node is None else ""
            raise SpaceError(f"{self.where}:1: {empty}a space file is a table with the keys {', '.join(KEYS)}")
        return node

    def _pairs(self, node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            raise SpaceError(f"{self._at(node)}: vary is a table of dimensions and their levels, such as `depths@3: [3, 5, 7]`")
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise SpaceError(f"{self._at(key)}: a key is one word, such as `depths@3`: not a list or a table")
            if key.value in seen:
                raise SpaceError(f"{self._at(key)}: {key.value} is named twice: once is enough")
            seen.add(key.value)
            yield key, value

    def _entry(self, key: yaml.ScalarNode, node: yaml.Node) -> _Entry:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        if not items or not all(isinstance(i, yaml.ScalarNode) and i.value.strip() for i in items):
            raise SpaceError(f"{self._at(key)}: {key.value} takes one value or a list of them, such as [3, 5, 7]")
        return _Entry(key.value, key.start_mark.line + 1, tuple(i.value.strip() for i in items))

    def _at(self, node: yaml.Node | _Entry) -> str:
        return f"{self.where}:{node.line if isinstance(node, _Entry) else node.start_mark.line + 1}"

    def _refuse(self, node: yaml.Node | _Entry, what: str, name: str, known: Sequence[str]) -> None:
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
        raise SpaceError(f"{self._at(node)}: {what}; {hint}")

    # --- keys -----------------------------------------------------------------------------------------------------

    def _check_track(self) -> None:
        entry = self.entries.get("tracks")
        if entry and squash(self.track.name) not in map(squash, entry.values):
            raise SpaceError(f"{self._at(entry)}: this space is of track {' or '.join(entry.values)}, not {self.track.name}")

    def _steps(self) -> tuple[dict[str, Value], list[str]]:
        """The fixed steps and the techniques that are on."""
        entry = self.entries.get("steps") or _Entry("steps", 1, ("none",))
        try:
            selection = select(self.track, ",".join(entry.values))
        except ValueError as error:
            raise SpaceError(f"{self._at(entry)}: steps: {error}") from None
        for step, values in selection.chosen:
            if len(values) > 1:
                raise SpaceError(f"{self._at(entry)}: steps: {step.name} has {len(values)} values: put them under vary, or leave one")
        final = selection.final()
        if self._group is None:
            return final, list(TECHNIQUES)
        return final, [t for t in self._group.techniques if t in final or (self._group.name in final and t not in selection.dropped)]

    @property
    def _group(self) -> Step | None:
        return next((s for s in self.track.steps if s.techniques), None)

    def _dimensions(self) -> list[Dimension]:
        """All dimensions in the order of the track, numbers after steps."""
        out = [self._dimension(e, e.key, None) for e in self._toggled()]
        for entry in self.vary:
            name, at, stages = entry.key.partition("@")
            for stage in self._stages(entry, stages) if at else (None,):
                out.append(self._dimension(entry, name.strip(), stage))
        order = [*(s.name for s in self.track.steps), *(f.replace("_", "-") for f in self.track.numbers), "input-size", *TECHNIQUES]
        out.sort(key=lambda d: (d.kind == "technique", order.index(d.key.replace("_", "-")), d.stage or 0))
        for a, b in itertools.pairwise(out):
            if (a.kind, a.key) == (b.kind, b.key) and (a.stage == b.stage or None in (a.stage, b.stage)):
                line = max(self.lines[a.name], self.lines[b.name])
                raise SpaceError(f"{self.where}:{line}: {a.name} and {b.name} set the same: leave one of them out")
        return out

    def _toggled(self) -> list[_Entry]:
        entry = self.entries.get("toggle")
        if entry is None:
            return []
        named = [squash(e.key.partition("@")[0]) for e in self.vary]
        out = []
        for name in entry.values:
            if name == "all":
                steps = [
                    s for s in self.track.steps if s.adopted and s.owner == "network" and not {squash(s.name), squash(s.field)} & {*named}
                ]
            else:
                steps = [self._step(entry, name)]
            out += [_Entry(s.name, entry.line, ("off", "on")) for s in steps]
        return out

    def _step(self, entry: _Entry, name: str) -> Step:
        try:
            return self.track.step(name)
        except ValueError as error:
            raise SpaceError(f"{self._at(entry)}: {error}") from None

    def _stages(self, entry: _Entry, text: str) -> list[int]:
        if text.strip() == "each":
            return list(range(STAGES))
        terms = [t.strip() for t in text.split(",")]
        if not all(t in ("1", "2", "3", "4") for t in terms):
            raise SpaceError(f"{self._at(entry)}: {entry.key}: after the @ comes a stage from 1 to {STAGES}, several (@3,4), or each")
        return [int(t) - 1 for t in terms]

    def _dimension(self, entry: _Entry, name: str, stage: int | None) -> Dimension:
        field = squash(name)
        numbers = {squash(f): f for f in self.track.numbers}
        if field in numbers:
            return self._number_dimension(entry, numbers[field], stage)
        if field == "inputsize" and stage is None:
            sizes = [self._whole(entry, v) for v in entry.values]
            return self._made(entry, "size", "input-size", None, entry.values, sizes)
        technique = next((t for t in (*TECHNIQUES, *([self._group.name] if self._group else [])) if squash(t) == field), None)
        if technique and stage is None:
            return self._made(entry, "technique", technique, None, entry.values, [self._switch(entry, v) for v in entry.values])
        steps = {squash(k): s for s in self.track.steps for k in (s.name, s.field)}
        if field not in steps:
            known = [*(s.name for s in self.track.steps if s.owner == "network"), *(f.replace("_", "-") for f in self.track.numbers)]
            self._refuse(entry, f"unknown dimension {name!r} on track {self.track.name}", name, [*known, "input-size", *TECHNIQUES])
        return self._step_dimension(entry, steps[field], stage)

    # --- dimensions -----------------------------------------------------------------------------------------------

    def _step_dimension(self, entry: _Entry, step: Step, stage: int | None) -> Dimension:
        if step.owner != "network":
            raise SpaceError(f"{self._at(entry)}: {entry.key}: {step.name} sets a field of the recipe, which no space varies: leave it out")
        if stage is not None and not isinstance(step.value, tuple):
            raise SpaceError(f"{self._at(entry)}: {entry.key}: {step.name} has one value for all stages: leave the @ out")
        own = getattr(self.track.decisions(), step.field)
        values: list[Any] = []
        for text in entry.values:
            if text.lower() == "on":
                value = step.value
            elif text.lower() == "off":
                value = own
            else:
                try:
                    value = parse_value(step, text)
                except ValueError as error:
                    raise SpaceError(f"{self._at(entry)}: {entry.key}: {error}") from None
            if stage is not None and isinstance(value, tuple):
                if len(set(value)) > 1:
                    raise SpaceError(f"{self._at(entry)}: {entry.key}: a stage takes one value, not {text}")
                value = value[0]
            values.append(value)
        return self._made(entry, "step", step.name, stage, entry.values, values)

    def _number_dimension(self, entry: _Entry, field: str, stage: int | None) -> Dimension:
        values: list[Any] = []
        for text in entry.values:
            parts = [self._number(entry, p) for p in text.split("/")]
            per_stage = field in PER_STAGE
            if len(parts) not in ((1, STAGES) if per_stage and stage is None else (1,)):
                raise SpaceError(
                    f"{self._at(entry)}: {entry.key}: {text} has {len(parts)} numbers"
                    + (f", not 1 or {STAGES}" if per_stage else ", not 1")
                )
            value: Any = parts[0] if len(parts) == 1 else tuple(parts)
            whole = (value if isinstance(value, tuple) else (value,) * STAGES) if per_stage else value
            given: dict[str, Any] = {field: whole}
            if whole is not None:
                try:
                    Numbers(**given)
                except ValueError as error:
                    raise SpaceError(f"{self._at(entry)}: {entry.key}: {error}") from None
            values.append(value)
        return self._made(entry, "number", field, stage, entry.values, values)

    def _made(self, entry: _Entry, kind: Kind, key: str, stage: int | None, levels: Sequence[str], values: Sequence[Any]) -> Dimension:
        name = key.replace("_", "-") + (f"@{stage + 1}" if stage is not None else "")
        twice = next((v for i, v in enumerate(values) if v in values[:i]), None)
        if twice is not None or len(set(map(str, values))) < len(values):
            raise SpaceError(f"{self._at(entry)}: {entry.key}: two of its levels {', '.join(levels)} are the same: once is enough")
        self.lines[name] = entry.line
        return Dimension(name=name, levels=tuple(levels), ordered=_ordered(values), kind=kind, key=key, stage=stage, values=tuple(values))

    def _switch(self, entry: _Entry, text: str) -> bool:
        if text.lower() not in ("on", "off"):
            raise SpaceError(f"{self._at(entry)}: {entry.key}: a technique is on or off, not {text}")
        return text.lower() == "on"

    def _whole(self, entry: _Entry, text: str) -> int:
        if not text.isdigit() or int(text) < 1:
            raise SpaceError(f"{self._at(entry)}: {entry.key} must be a whole number from 1, not {text}")
        return int(text)

    def _number(self, entry: _Entry, text: str) -> int | float | None:
        if text == "own":
            return None
        try:
            value = int(text) if text.isdigit() else float(text)
            if math.isfinite(value):
                return value
            raise ValueError
        except ValueError:
            raise SpaceError(f"{self._at(entry)}: {entry.key} must be numbers (or own), not {text}") from None

    # --- legality -------------------------------------------------------------------------------------------------

    def _drawn(self, space: Space) -> list[Point]:
        found = legal_points(space)
        if not found:
            raise SpaceError(f"{self.where}: no point is legal: {space.refusal(space.canonical({}))}")
        return found

    def _check_requirements(self, space: Space, d: Dimension) -> None:
        requires = self.track.step(d.key).requires if d.kind == "step" else self.track.numbers[d.key] if d.kind == "number" else ()
        missing = next((n for n in requires if not space.can_have(n)), None)
        if missing:
            raise SpaceError(f"{self.where}:{self.lines[d.name]}: {d.name} requires {missing}: put that under steps or toggle")

    def _check_levels(self, space: Space, drawn: Sequence[Point]) -> None:
        """Refuse levels that no legal point has."""
        found = unreached(space, drawn)
        if found:
            d, level, reason = found
            raise SpaceError(f"{self.where}:{self.lines[d.name]}: {d.name}: {level} is in no legal network: {reason}")


def _ordered(values: Sequence[Any]) -> bool:
    """Two levels, or numbers that rise in every place."""
    if len(values) == 2:
        return True
    rows = [v if isinstance(v, tuple) else (v,) for v in values]
    if not all(isinstance(x, int | float) for row in rows for x in row) or len({len(r) for r in rows}) > 1:
        return False
    return all(x <= y for a, b in itertools.pairwise(rows) for x, y in zip(a, b, strict=True))
