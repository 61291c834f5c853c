"""All designs by name, and which options each of them takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from .design import Design, DesignError, Factors
from .factorial import factorial
from .fractional import fractional, is_regular
from .interactions import Interactions
from .one_factor import add_one_in, cumulative, leave_one_out
from .optimal import optimal
from .orders import beside_own_order
from .orders import orders as shapley

__all__ = ["NAMES", "DesignName", "make_design"]

DesignName = Literal["cumulative", "leave-one-out", "add-one-in", "fractional", "factorial", "orders"]
NAMES: tuple[DesignName, ...] = get_args(DesignName)
OPTIONS = {  # the designs that an option belongs to
    "interactions": ("fractional", "factorial"),
    "resolution": ("fractional",),
    "runs": ("fractional",),
    "orders": ("orders",),
    "order": ("cumulative",),
}


def make_design(
    name: str,
    factors: Factors,
    *,
    interactions: Interactions = (),
    resolution: int | None = None,
    runs: int | None = None,
    orders: int | None = None,
    order: Sequence[str] | None = None,
) -> Design:
    """The design called `name` over `factors`; an option left empty is not given.

    `fractional` is a regular fraction where the steps are independent and have one level each, else an optimal design; its notes say
    which. DesignError for an unknown name and for an option of another design.
    """
    if name not in NAMES:
        raise DesignError(f"design: {name!r} is not one of {', '.join(NAMES)}")
    given = {"interactions": interactions, "resolution": resolution, "runs": runs, "orders": orders, "order": order}
    for option, value in given.items():
        if value and name not in OPTIONS[option]:
            raise DesignError(f"{option}: belongs to --design {' or '.join(OPTIONS[option])}: leave it out, or take that design")
    if name == "cumulative":
        return cumulative(factors, order=order or ())
    if name == "leave-one-out":
        return leave_one_out(factors)
    if name == "add-one-in":
        return add_one_in(factors)
    if name == "factorial":
        return factorial(factors, interactions=interactions)
    if name == "orders":
        return beside_own_order(factors, shapley(factors, number=orders))
    if is_regular(factors):
        return fractional(factors, interactions=interactions, resolution=resolution, runs=runs)
    if resolution:
        raise DesignError("resolution: belongs to independent steps of one level each; these take an optimal design: use --runs instead")
    return optimal(factors, interactions=interactions, runs=runs)
