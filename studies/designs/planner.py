"""Designs: from a study to its arms and trials. Nothing is trained here; the same study and data give the same plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from ...roadmap.liveness import Liveness, liveness
from ...roadmap.spec import NetSpec
from ...roadmap.steps import Choice, Rung, Step, StepError, Track, select, squash
from ...roadmap.tracks import installed_tracks
from ...roadmap.tracks import track as find_track
from ...roadmap.zoo import variant
from ..plan import Arm, Plan
from ..recipe import Preset, Recipe, preset, with_teacher, with_techniques
from ..study import Study, StudyError, override
from ..trial import DataRef, Trial

if TYPE_CHECKING:
    from ...roadmap.cost import Cost


class Prepared(Protocol):
    """What a plan needs to know of prepared data."""

    @property
    def name(self) -> str: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def classes(self) -> int: ...
    @property
    def mirror(self) -> bool: ...
    @property
    def duplicates(self) -> int: ...


@dataclass(frozen=True)
class Draft:
    """An arm before its costs and trials are known."""

    rung: Rung
    title: str
    spec: NetSpec
    recipe: Recipe
    epochs: int
    liveness: Liveness
    packages: tuple[tuple[str, str], ...] = ()


def input_size(study: Study) -> int:
    """The study's input size in pixels: its own, the network's, or the scale's."""
    if study.input_size:
        return study.input_size
    if study.kind == "train":
        return variant(study.network).input_size
    return find_track(study.track).scale(study.scale).input_size


@dataclass(frozen=True)
class Unseen:
    """Stands for data before it is prepared, so that a study can be checked first."""

    name: str = ""
    fingerprint: str = ""
    classes: int = 10
    mirror: bool = False
    duplicates: int = 0


def check_study(study: Study) -> None:
    """Refuse what can be refused before data are read and torch is imported: unknown names, illegal steps, sizes that do not fit."""
    size = input_size(study)
    drafts, _ = _train(study, Unseen(), size) if study.kind == "train" else _roadmap(study, Unseen(), size)
    for draft in drafts:
        draft.spec.shapes(size)


def plan_study(study: Study, prepared: Prepared, *, precision: str, teacher: str = "") -> Plan:
    """All arms and trials of `study`; StudyError or StepError where it is not legal. `teacher` is the hash of the one it names."""
    assert bool(teacher) == bool(study.distill_from)
    size = input_size(study)
    drafts, notes = _train(study, prepared, size) if study.kind == "train" else _roadmap(study, prepared, size)
    data = DataRef(
        name=prepared.name,
        fingerprint=prepared.fingerprint,
        classes=prepared.classes,
        split_seed=study.split_seed,
        fraction=study.data_fraction,
    )
    drafts = [replace(d, recipe=_resolved(d.recipe, study, prepared, size, precision, teacher)) for d in drafts]
    if teacher:
        notes = (*notes, f"every arm learns from {study.distill_from} (weights {teacher}) too, by {study.distill} distillation")
    return _plan(study, drafts, data, prepared, size, notes)


def recipe_of(choice: Choice, chosen: Preset, track: Track) -> Recipe:
    """The recipe of one arm: the preset's base with the techniques that `choice` switches on."""
    recipe = _with_group(choice, chosen, track)
    return override(recipe, {s.field: choice[s.name] for s in recipe_steps(track) if s.name in choice})


def recipe_steps(track: Track) -> list[Step]:
    """The steps that each set one field of the recipe, beside the group of techniques and its members. Installed tracks may have such."""
    techniques = {t for s in track.steps for t in s.techniques}
    return [s for s in track.steps if s.owner == "recipe" and not s.techniques and s.name not in techniques]


def _packages(choice: Choice, track: Track) -> tuple[tuple[str, str], ...]:
    """The package that brings `track`, with its version, where the choice has a recipe step of its own."""
    if not any(s.name in choice for s in recipe_steps(track)):
        return ()
    found = installed_tracks().get(squash(track.name))
    return ((found.distribution, found.version),) if found else ()


def _with_group(choice: Choice, chosen: Preset, track: Track) -> Recipe:
    group = next((s for s in track.steps if s.techniques), None)
    if group is None:
        return chosen.modern
    names = [t for t in group.techniques if (group.name in choice and choice.get(t) != "off") or choice.get(t) == "modern"]
    if len(names) == len(group.techniques):
        return chosen.modern
    return with_techniques(chosen.base, chosen.modern, names)


def _resolved(recipe: Recipe, study: Study, prepared: Prepared, size: int, precision: str, teacher: str) -> Recipe:
    values: dict[str, Any] = {"input_size": size, "flip": recipe.flip and prepared.mirror}
    recipe = replace(recipe, **values)
    recipe = override(with_teacher(recipe, study.distill, teacher) if teacher else recipe, study.set)
    return override(recipe, {"precision": precision}) if recipe.precision == "auto" else recipe


def _roadmap(study: Study, prepared: Prepared, size: int) -> tuple[list[Draft], tuple[str, ...]]:
    track = find_track(study.track)
    selection = select(track, study.steps)
    chosen = preset(study.recipe)
    epochs = study.epochs or chosen.epochs
    drafts: list[Draft] = []
    notes = list(selection.notes)
    for rung in selection.cumulative():
        network = {k: v for k, v in rung.choice.items() if track.step(k).owner == "network"}
        spec = track.spec(network, scale=study.scale, input_size=size, classes=prepared.classes)
        recipe = recipe_of(rung.choice, chosen, track)
        alive = Liveness()
        title = track.base
        own = epochs
        if rung.parent is None and chosen.base_epochs and not study.epochs:
            own = chosen.base_epochs
            notes.append(f"{track.base} trains {own} epochs, the others {epochs}, as in the paper")
        if rung.parent is not None:
            before = drafts[rung.parent]
            name = next(k for k in reversed(list(rung.choice)) if before.rung.choice.get(k) != rung.choice[k])
            step = track.step(name)
            alive = liveness(before.spec, spec, size, same_recipe=recipe == before.recipe, spatial=step.spatial)
            title = step.title if rung.name == step.name else f"{step.title} {rung.name.partition('=')[2]}"
        drafts.append(Draft(rung, title, spec, recipe, own, alive, _packages(rung.choice, track)))
    return drafts, tuple(notes)


def _train(study: Study, prepared: Prepared, size: int) -> tuple[list[Draft], tuple[str, ...]]:
    chosen = preset(study.recipe)
    found = variant(study.network)
    try:
        spec = found.spec(input_size=size, classes=prepared.classes)
    except StepError:
        raise
    except ValueError as error:
        raise StudyError(f"input-size: {error}") from None
    rung = Rung(found.name, {}, None)
    return [Draft(rung, found.name, spec, chosen.modern, study.epochs or chosen.epochs, Liveness())], ()


def _plan(study: Study, drafts: Sequence[Draft], data: DataRef, prepared: Prepared, size: int, notes: Sequence[str]) -> Plan:
    from ...roadmap.cost import cost  # imports torch, which a study that is refused should not wait for

    costs: dict[str, Cost] = {}
    arms: list[Arm] = []
    trials: dict[str, Trial] = {}
    first: dict[tuple[str, Recipe, int], int] = {}
    seeds = tuple(range(study.seeds))
    for i, d in enumerate(drafts):
        fingerprint = d.spec.fingerprint
        if fingerprint not in costs:
            costs[fingerprint] = cost(d.spec, size)
        counted = costs[fingerprint]
        own = [Trial(network=d.spec, recipe=d.recipe, data=data, epochs=d.epochs, seed=seed, packages=d.packages) for seed in seeds]
        trials |= {t.id: t for t in own}
        alive = d.liveness
        if d.rung.parent is not None:
            alive = replace(alive, macs=counted.macs - arms[d.rung.parent].macs)
        key = (fingerprint, d.recipe, d.epochs)
        arms.append(
            Arm(
                index=i,
                name=d.rung.name,
                title=d.title,
                parent=d.rung.parent,
                side=d.rung.side,
                choice=d.rung.choice,
                network=d.spec.name,
                fingerprint=fingerprint,
                params=counted.params,
                macs=counted.macs,
                macs_conv_linear=counted.macs_conv_linear,
                recipe=d.recipe,
                epochs=d.epochs,
                trials=tuple(t.id for t in own),
                seeds=seeds,
                liveness=alive,
                same_as=first.get(key),
                paper_key=d.rung.name,
            )
        )
        first.setdefault(key, i)
    return Plan(study=study, arms=tuple(arms), data=describe(prepared, size, study), notes=tuple(notes), trials=tuple(trials.values()))


def describe(prepared: Prepared, size: int, study: Study) -> Mapping[str, Any]:
    """What a report says of the data."""
    return {
        "name": prepared.name,
        "fingerprint": prepared.fingerprint,
        "classes": prepared.classes,
        "duplicates": prepared.duplicates,
        "input_size": size,
        "split_seed": study.split_seed,
        "fraction": study.data_fraction,
    }
