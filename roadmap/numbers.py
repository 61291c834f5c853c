"""Numbers: what a network may have in place of the numbers that its track's scale and steps give (no torch)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

Whole = tuple[int | None, int | None, int | None, int | None]
Ratio = tuple[float | None, float | None, float | None, float | None]
OWN = (None, None, None, None)
PER_STAGE = ("depths", "widths", "kernels", "expansions", "depth_factors", "width_factors")


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Numbers for the four stages, and for all of them; None leaves what the track has.

    `depths` counts a stage's blocks. `widths` are a stage's channels, the narrow ones where its blocks have two widths. `kernels` are the
    sides of its depthwise convolutions in pixels, the strided one before it included; `expansions` the wide width of its blocks over the
    narrow one. `first_width` sets the first stage and keeps the other stages' ratio to it. `width_factor` and `depth_factor` multiply the
    track's widths and depths, `width_factors` and `depth_factors` those of one stage, after them. Depths are rounded to the nearest whole
    number, widths that are none to the nearest multiple of 4. A stage's own number goes before those of all stages. ValueError for what is
    no number of its kind.
    """

    depths: Whole = OWN
    widths: Whole = OWN
    kernels: Whole = OWN
    expansions: Ratio = OWN
    depth_factors: Ratio = OWN
    width_factors: Ratio = OWN
    first_width: int | None = None
    width_factor: float = 1.0
    depth_factor: float = 1.0

    def __post_init__(self) -> None:
        for name in PER_STAGE:
            values, whole = getattr(self, name), name in ("depths", "widths", "kernels")
            if len(values) != 4:
                raise ValueError(f"{name.replace('_', '-')} takes four numbers, one a stage, not {len(values)}")
            for value in values:
                if value is not None and not (isinstance(value, int) and value >= 1 if whole else value > 0):
                    raise ValueError(f"{name.replace('_', '-')} must be {'whole numbers from 1' if whole else 'above 0'}, not {value}")
                if name == "kernels" and value is not None and value % 2 == 0:
                    raise ValueError(f"kernels must be odd, to have a middle, not {value}")
        for name in ("first_width", "width_factor", "depth_factor"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name.replace('_', '-')} must be above 0, not {value}")
        if self.first_width is not None and self.width_factor != 1:
            raise ValueError("first-width and width-factor both set all widths: keep one of them")

    @property
    def named(self) -> tuple[str, ...]:
        """The fields that are not left to the track."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) != f.default)

    def stage_depths(self, own: Sequence[int]) -> tuple[int, ...]:
        """Blocks of every stage, where the track has `own`."""
        factors = (self.depth_factor * (f or 1) for f in self.depth_factors)
        return tuple(n or max(1, round(o * f)) for n, o, f in zip(self.depths, own, factors, strict=True))

    def stage_widths(self, own: Sequence[int]) -> tuple[int, ...]:
        """Channels of every stage, where the track has `own`."""
        return tuple(n or self.width(i, o, own[0]) for i, (n, o) in enumerate(zip(self.widths, own, strict=True)))

    def width(self, stage: int, own: int, first: int) -> int:
        """A width in a stage, where the track has `own` and in the first stage `first`."""
        start, factor = self.first_width or _near(first * self.width_factor), self.width_factors[stage] or 1
        return own if start == first and factor == 1 else _near(start * own / first * factor)

    def kernel(self, stage: int, own: int) -> int:
        """The kernel of a stage, where the track has `own`."""
        return self.kernels[stage] or own


PLAIN = Numbers()
NAMES = tuple(f.name for f in fields(Numbers))


def expanded(channels: int, expansion: float) -> int:
    """`channels` times `expansion`; ValueError where that is no whole number."""
    out = channels * expansion
    if out != int(out):
        raise ValueError(f"an expansion of {expansion:g} makes {out:g} of {channels} channels, no whole number: choose another")
    return int(out)


def _near(width: float) -> int:
    return int(width) if width == int(width) else max(4, round(width / 4) * 4)
