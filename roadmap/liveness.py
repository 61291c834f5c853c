"""Liveness: what of a step acts at an input size and scale. Arithmetic on the network's table (no torch).

A 9x9 kernel on a 4x4 map reads the same pixels as a 7x7 one: most of its taps only ever see padding. Such a step is dead here,
whatever it does at 224 pixels, and gets no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from .layers import Conv
from .spec import NetSpec
from .steps import Choice, Step, StepError, Track, requirement_closure

State = Literal["live", "partly", "dead", "same"]


@dataclass(frozen=True, kw_only=True)
class Liveness:
    """What of a step acts.

    "live"; "partly": some of the kernel taps it adds never touch a pixel; "dead": none of them does; "same": the network and
    the recipe are those before it. `taps` and `touching` count the taps that the step adds over the network's spatial
    kernels (per channel) and those of them that touch a pixel. `macs` is the change in multiply-adds, filled in where a network is
    built anyway.
    """

    state: State = "live"
    taps: int = 0
    touching: int = 0
    macs: int = 0
    note: str = ""

    @property
    def verdict(self) -> bool:
        """Whether the step can be judged here at all."""
        return self.state in ("live", "partly")


def taps(spec: NetSpec, input_size: int) -> tuple[int, int]:
    """(all, touching): taps of all spatial kernels of the network, per channel, and those that touch at least one pixel."""
    total = touching = 0
    for site in spec.walk(input_size):
        kernel, dilation = site.layer.taps()
        if kernel == 1:
            continue
        total += kernel**2
        stride, padding = (
            (site.layer.stride, site.layer.padding or 0) if isinstance(site.layer, Conv) else (1, dilation * (kernel - 1) // 2)
        )
        rows, columns = (
            sum(any(0 <= o * stride - padding + tap * dilation < size for o in range(out)) for tap in range(kernel))
            for size, out in zip(site.input[1:], site.output[1:], strict=True)
        )
        touching += rows * columns
    return total, touching


def liveness(before: NetSpec, after: NetSpec, input_size: int, *, same_recipe: bool = True, spatial: bool = False) -> Liveness:
    """How `after` differs from `before` at this input; `spatial` for a step that only resizes kernels."""
    if before.fingerprint == after.fingerprint:
        return Liveness(state="same", note="changes nothing here") if same_recipe else Liveness()
    taps_before, touching_before = taps(before, input_size)
    taps_after, touching_after = taps(after, input_size)
    out = Liveness(taps=taps_after - taps_before, touching=touching_after - touching_before)
    if not spatial:
        return out
    if out.touching == 0:
        return replace(out, state="dead", note=f"none of the {abs(out.taps)} taps it adds touches a pixel at {input_size} pixels")
    if out.touching < out.taps:
        return replace(out, state="partly", note=f"{out.touching} of the {out.taps} taps it adds touch pixels")
    return out


def step_liveness(track: Track, step: Step, value: object, *, scale: str, input_size: int) -> Liveness:
    """Liveness of one step on top of what the paper's order puts before it (its requirements, where it is not adopted)."""
    if step.owner == "recipe":
        return Liveness()
    before: Choice
    if step.adopted:
        earlier = track.steps[: track.steps.index(step)]
        before = {s.name: s.value for s in earlier if s.adopted and s.owner == "network"}
    else:
        before = {s.name: s.value for s in track.steps if s.name in requirement_closure(track, step.name)}
    try:
        a = track.spec(before, scale=scale, input_size=input_size)
        b = track.spec({**before, step.name: value}, scale=scale, input_size=input_size)  # type: ignore[dict-item]
    except StepError as error:
        return Liveness(state="dead", note=str(error))
    return liveness(a, b, input_size, spatial=step.spatial)
