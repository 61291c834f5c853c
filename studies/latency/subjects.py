"""Which networks to measure, from what people write: a published name, a file with a network, or a study's arms."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ...roadmap.spec import from_dict
from ...roadmap.zoo import VARIANTS, variant
from ..library import NoStudy, find_study, open_plan
from ..store import Store, StoreError
from .device import LatencyError
from .measure import Subject

FILE_SIZE = 224  # pixels, for a network from a file where no size is given


def subjects_of(store: Store, names: Sequence[str], *, input_size: int | None = None) -> list[Subject]:
    """The networks that `names` name, in order, each once.

    A name is a published variant (at its own input size), a JSON file with a network as `to_dict` writes it (at 224 pixels), or a study
    of the store (all its arms, at the size they were trained at); `input_size` in pixels overrides these. LatencyError tells what a name
    that is none of them could have been.
    """
    out: dict[tuple[str, int, str], Subject] = {}
    for name in names:
        for subject in _named(store, name, input_size):
            out.setdefault((subject.name, subject.input_size, subject.spec.fingerprint), subject)
    if not out:
        raise LatencyError("name at least one network, such as `vitnas latency run convnext-t`")
    return list(out.values())


def published(*, input_size: int | None = None) -> list[tuple[Subject, float | None]]:
    """Every published network that this package builds, with the top-1 (%) of its paper; small variants for tests are left out."""
    return [
        (Subject(name=v.name, spec=v.spec(input_size=input_size or v.input_size), input_size=input_size or v.input_size), v.top1)
        for v in VARIANTS
        if v.name not in {w.micro for w in VARIANTS} and not _misfit(v.name, input_size)
    ]


def unfit(input_size: int) -> list[str]:
    """Which published networks there are not at `input_size` pixels, each with the reason."""
    reasons = ((v.name, _misfit(v.name, input_size)) for v in VARIANTS if v.name not in {w.micro for w in VARIANTS})
    return [f"{name}: {reason}" for name, reason in reasons if reason]


def is_file(name: str) -> bool:
    """Whether a name stands for a file with a network."""
    return name.endswith(".json") or Path(name).is_file()


def _misfit(name: str, input_size: int | None) -> str:
    try:
        found = variant(name)
        found.spec(input_size=input_size or found.input_size)
    except ValueError as error:
        return str(error)
    return ""


def _named(store: Store, name: str, input_size: int | None) -> list[Subject]:
    if is_file(name):
        return [_from_file(Path(name), input_size)]
    try:
        found = variant(name)
    except ValueError as error:
        unknown = str(error)
    else:
        size = input_size or found.input_size
        try:
            return [Subject(name=found.name, spec=found.spec(input_size=size), input_size=size)]
        except ValueError as error:
            raise LatencyError(f"input-size: {error}") from None
    try:
        study = find_study(store, name).name if store.studies.exists() else ""
    except NoStudy:
        study = ""
    except StoreError as error:
        raise LatencyError(str(error)) from None
    if not study:
        raise LatencyError(f"{unknown}; it is no file and no study in {store.root} either")
    return _from_study(store, study, input_size)


def _from_file(path: Path, input_size: int | None) -> Subject:
    try:
        spec = from_dict(json.loads(path.read_text()))
    except FileNotFoundError:
        raise LatencyError(f"no file {path}: write one with `vitnas models show NAME --json`") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise LatencyError(f"{path} holds no network ({error}): write one with `vitnas models show NAME --json`") from None
    return Subject(name=spec.name or path.stem, spec=spec, input_size=input_size or FILE_SIZE)


def _from_study(store: Store, study: str, input_size: int | None) -> list[Subject]:
    out = []
    for arm in open_plan(store, study).arms:
        if not arm.trials or arm.same_as is not None:
            continue
        trial = store.trial(arm.trials[0])
        out.append(Subject(name=arm.name, spec=trial.network, input_size=input_size or trial.recipe.input_size))
    if not out:
        raise LatencyError(f"the study {study} has no trained networks yet: run its command first")
    return out
