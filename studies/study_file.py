"""Study files: YAML in and out, refused by file, key and line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from .store import write_atomic
from .study import Study, StudyError, option


def write_study(path: Path, study: Study) -> None:
    """Write `study` as YAML, its options by the names they have on the command line."""
    text = "# run it again with: vitnas sweep " + path.name + "\n" + yaml.safe_dump(study.to_dict(), sort_keys=False)
    write_atomic(path, lambda file: file.write(text.encode()))


def read_study(path: Path) -> Study:
    """The study in `path`; StudyError with file, line and key for anything that is wrong with it."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} cannot be read ({error}): check the path") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise StudyError(f"{where}: not YAML ({getattr(error, 'problem', error)})") from None
    if not isinstance(data, dict) or node is None:
        raise StudyError(f"{path}:1: a study file is a table of options, such as `kind: roadmap`")
    lines = {key.value: key.start_mark.line + 1 for key, _ in node.value}
    hints = get_type_hints(Study)
    known = [option(f.name) for f in fields(Study)]
    values: dict[str, Any] = {}
    for key, value in data.items():
        where = f"{path}:{lines.get(str(key), 1)}"
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=2, cutoff=0.5)
            raise StudyError(
                f"{where}: unknown key {key!r}; " + (f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}")
            )
        if key == "steps" and isinstance(value, list):
            value = ",".join(str(v) for v in value)
        hint = hints[key.replace("-", "_")]
        if not _fits(value, hint):
            raise StudyError(f"{where}: {key} must be {_describe(hint)}, not {value!r}")
        values[key.replace("-", "_")] = value
    try:
        return Study(**values)
    except StudyError as error:
        key = str(error).partition(":")[0]
        raise StudyError(f"{path}:{lines.get(key, 1)}: {error}") from None


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin is UnionType:
        return any(_fits(value, h) for h in get_args(hint))
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(str(a) for a in get_args(hint))
    if get_origin(hint) is UnionType:
        return " or ".join(_describe(a) for a in get_args(hint) if a is not NoneType)
    if get_origin(hint) is not None:
        return "a table"
    return {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(hint, str(hint))
