"""Study files: YAML in and out, refused by file, key and line."""

from __future__ import annotations

import difflib
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from .option_types import describe, fits
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
        if not fits(value, hint):
            raise StudyError(f"{where}: {key} must be {describe(hint)}, not {value!r}")
        values[key.replace("-", "_")] = value
    try:
        return Study(**values)
    except StudyError as error:
        key = str(error).partition(":")[0]
        raise StudyError(f"{path}:{lines.get(key, 1)}: {error}") from None
