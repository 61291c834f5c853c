"""Parsing of --steps, rungs and their parents, liveness."""

from __future__ import annotations

import pytest

from vitnas.roadmap.liveness import step_liveness, taps
from vitnas.roadmap.steps import StepError, select
from vitnas.roadmap.tracks import track

T = track("ConvNeXt_T")


def test_all_has_fourteen_rungs_in_the_papers_order() -> None:
    """The base and thirteen steps, each compared with the one before."""
    rungs = select(T, "all").cumulative()
    assert len(rungs) == 14
    assert [r.parent for r in rungs] == [None, *range(13)]


def test_alternatives_stand_beside_the_step_and_are_not_continued() -> None:
    """Kernels 5, 9, 11 are compared with the rung before the step; the next rung builds on 7."""
    rungs = select(T, "all,kernel-size=5,kernel-size=9,kernel-size=11").cumulative()
    by_name = {r.name: r for r in rungs}
    before = rungs.index(by_name["move-up-depthwise"])
    assert [by_name[n].parent for n in ("kernel-size=5", "kernel-size", "kernel-size=9", "kernel-size=11")] == [before] * 4
    assert by_name["kernel-size=9"].side and not by_name["kernel-size"].side
    assert rungs[by_name["gelu"].parent or 0].name == "kernel-size"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("depthwise..move-up-depthwise", ["depthwise", "width", "inverted-bottleneck", "move-up-depthwise"]),
        ("Stage_Ratio, LAYER.NORM", ["stage-ratio", "layer-norm"]),
        ("gelu,stage-ratio", ["stage-ratio", "gelu"]),
        ("none", []),
    ],
)
def test_what_can_be_written(text: str, names: list[str]) -> None:
    """Ranges, any spelling and any order; the track's order decides."""
    assert [s.name for s, _ in select(T, text).chosen] == names


def test_taking_out() -> None:
    """-name takes a step out of all, or a technique out of the recipe."""
    assert "layer-norm" not in select(T, "all,-layer-norm").final()
    rungs = select(T, "all,-mixup").cumulative()
    assert rungs[1].choice["mixup"] == "off"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depthwize", "did you mean depthwise"),
        ("kernel-size=8", "it can be 3, 5, 7, 9, 11"),
        ("kernel-size=3", "what ResNet-50 has already"),
        ("gelu..depthwise", "write depthwise..gelu"),
        ("recipe,mixup", "mixup is part of recipe"),
        ("gelu,-mixup", "not chosen"),
        ("pre-norm", "needs a value"),
        ("", "no steps given"),
    ],
)
def test_what_cannot_be_written(text: str, message: str) -> None:
    """Each refusal names the next move."""
    with pytest.raises(StepError, match=message):
        select(T, text)


def test_illegal_order_is_refused_with_the_missing_step() -> None:
    """inverted-bottleneck without depthwise says which step to add."""
    with pytest.raises(StepError, match="inverted-bottleneck requires depthwise: add it"):
        select(T, "inverted-bottleneck").cumulative()


def test_kernel_taps_that_touch_pixels() -> None:
    """On maps of 8, 4, 2 and 1 pixels a 3x3 kernel reaches 9, 9, 9 and 1 offsets; the 1x1 map leaves eight taps dead."""
    spec = T.spec(
        {"stage-ratio": "swin", "patchify-stem": "patchify", "depthwise": "channels", "separate-downsampling": "separate"}, scale="micro"
    )
    total, touching = taps(spec, 32)
    assert total - touching == 8


def test_a_kernel_wider_than_every_map_is_dead_or_partly_so() -> None:
    """At 32 pixels micro, going from 3 to 7 is partly live; at paper scale and 224 pixels it is live."""
    step = T.step("kernel-size")
    assert step_liveness(T, step, 7, scale="micro", input_size=32).state == "partly"
    assert step_liveness(T, step, 7, scale="paper", input_size=224).state == "live"
    assert step_liveness(T, T.step("gelu"), "gelu", scale="micro", input_size=32).state == "live"
