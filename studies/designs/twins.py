"""Twins: the networks that are measured for a study's arms, which need not be those that are trained.

A study that trains a small proxy may ask for the latency of each arm's full-size twin: the same choice of steps at another scale and
input size. At scale `paper` a twin has the 1000 classes of ImageNet, so that the last rung's is the published network; at any other scale
it has those of the data.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...roadmap.spec import NetSpec
from ...roadmap.steps import Choice, StepError
from ...roadmap.tracks import track as find_track
from ...roadmap.zoo import variant
from ..plan import Plan
from ..study import Study, StudyError
from .drafts import Draft

IMAGENET = 1000


def check_twins(study: Study, drafts: Sequence[Draft], classes: int, trained_at: int) -> None:
    """StudyError where a twin does not exist or does not fit its input, before anything is trained."""
    if not study.latency or not _differ(study):
        return
    try:
        size = _size(study, trained_at)
    except StepError as error:
        raise StudyError(f"latency-scale: {error}") from None
    for draft in drafts:
        try:
            _twin(study, draft.rung.choice, draft.context, classes, size).shapes(size)
        except ValueError as error:
            why = str(error).replace("--input-size", "--latency-size")
            raise StudyError(f"latency of {draft.rung.name} at {size} pixels: {why}") from None


def twins(plan: Plan) -> tuple[tuple[NetSpec, int], ...]:
    """(network, input size in pixels) for every arm of `plan`, as they are to be measured."""
    trained_at = int(plan.data["input_size"])
    if not _differ(plan.study):
        networks = {t.id: t.network for t in plan.trials}
        return tuple((networks[arm.trials[0]], trained_at) for arm in plan.arms)
    size = _size(plan.study, trained_at)
    return tuple((_twin(plan.study, arm.choice, arm.context, plan.data["classes"], size), size) for arm in plan.arms)


def measured_as(study: Study, classes: int, trained_at: int) -> str:
    """Which networks are measured for the arms, in words; `classes` are the data's, `trained_at` the training's input size (pixels)."""
    size = _size(study, trained_at)
    if study.latency_scale:
        return f"its twin at scale {study.latency_scale}, {size} pixels, {_classes(study, classes)} classes"
    return f"its network at {size} pixels" + (f" (trained at {trained_at})" if size != trained_at else "")


def _differ(study: Study) -> bool:
    return bool(study.latency_scale or study.latency_size)


def _twin(study: Study, choice: Choice, context: str, classes: int, size: int) -> NetSpec:
    if study.kind == "train":
        return variant(study.network).spec(input_size=size, classes=classes)
    track = find_track(study.track)
    network = {k: v for k, v in choice.items() if track.step(k).owner == "network"}
    scale = study.latency_scale or _scale(context) or study.scale
    return track.spec(network, scale=scale, input_size=size, classes=_classes(study, classes))


def _size(study: Study, trained_at: int) -> int:
    """A scale that is named brings its own input size; without one the training's stays."""
    if study.latency_size:
        return study.latency_size
    return find_track(study.track).scale(study.latency_scale).input_size if study.latency_scale else trained_at


def _classes(study: Study, classes: int) -> int:
    return IMAGENET if study.latency_scale == "paper" else classes


def _scale(context: str) -> str:
    """The level of the factor `scale` in a context (see `drafts.spelled`), or nothing."""
    levels = dict(part.split("=", 1) for part in context.split(", ") if "=" in part)
    return levels.get("scale", "")
