"""Whether a value from a file or a command line is of an option's type, and what the option wants instead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin


def converted(value: Any, hint: Any) -> Any:
    """`value` as the type of `hint` has it: text such as "1e-3" (which YAML leaves as text) becomes a number, whole floats become integers
    where integers are asked for, integers floats where floats are."""
    wants = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    if isinstance(value, str) and {int, float} & set(wants):
        try:
            value = float(value)
        except ValueError:
            return value
    if isinstance(value, float) and value.is_integer() and int in wants:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and float in wants:
        return float(value)
    return value


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` is of the type `hint`; numbers must be finite."""
    origin = get_origin(hint)
    if origin is Literal:
        return value in get_args(hint)
    if origin is UnionType:
        return any(fits(value, h) for h in get_args(hint))
    if origin is tuple:
        return isinstance(value, tuple | list) and len(value) == len(get_args(hint)) and all(map(fits, value, get_args(hint)))
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def describe(hint: Any) -> str:
    """What an option of type `hint` wants, in words."""
    if get_origin(hint) is Literal:
        return " or ".join(str(a) for a in get_args(hint))
    if get_origin(hint) is UnionType:
        return " or ".join(describe(a) for a in get_args(hint) if a is not NoneType)
    if get_origin(hint) is tuple:
        return f"{len(get_args(hint))} numbers"
    if get_origin(hint) is not None:
        return "a table"
    return {int: "a whole number", float: "a finite number", str: "text", bool: "true or false"}.get(hint, str(hint))
