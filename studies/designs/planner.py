"""The planner: from a study to its arms and trials. Nothing is trained here; the same study and data give the same plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from ..effect import AT_BEST, Effect
from ..plan import Arm, Plan
from ..recipe import Recipe, with_teacher
from ..study import Study, override
from ..trial import PLACEBO_SEEDS, REPORT_SEEDS, TUNING_SEEDS, DataRef, Trial
from .drafts import Draft, Drawn, draw, input_size
from .tuning import Best, Setting, at, grid, spelled
from .twins import check_twins

if TYPE_CHECKING:
    from ...roadmap.cost import Cost

__all__ = ["Prepared", "Unseen", "check_study", "input_size", "plan_study"]

PLACEBO = "placebo"


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
class Unseen:
    """Stands for data before it is prepared, so that a study can be checked first."""

    name: str = ""
    fingerprint: str = ""
    classes: int = 10
    mirror: bool = False
    duplicates: int = 0


@dataclass(frozen=True, kw_only=True)
class _Row:
    """What is to become an arm: a draft at a setting, or the placebo of one."""

    draft: Draft
    name: str
    seeds: tuple[int, ...]
    setting: Setting = field(default_factory=dict)
    context: str = ""
    parent: int | None = None
    placebo: bool = False
    tunes: int | None = None


def check_study(study: Study) -> None:
    """Refuse what can be refused before data are read and torch is imported: unknown names, illegal steps, sizes that do not fit."""
    size = input_size(study)
    drafts = draw(study, Unseen().classes, size).drafts
    for draft in drafts:
        draft.spec.shapes(size)
    check_twins(study, drafts, Unseen().classes, size)


def plan_study(
    study: Study,
    prepared: Prepared,
    *,
    precision: str,
    teacher: str = "",
    best: Mapping[int, Best] | None = None,
    seeds_of: Mapping[int, int] | None = None,
) -> Plan:
    """All arms, effects and trials of `study`; StudyError or StepError where it is not legal.

    `teacher` is the hash of the one that the study names. `best` holds the tuned setting of every arm by its index, once it is known:
    the arms then stand a second time, each at its best. `seeds_of` gives the seeds of arms that have another number than the study.
    """
    assert bool(teacher) == bool(study.distill_from)
    size = input_size(study)
    drawn = draw(study, prepared.classes, size)
    notes = drawn.notes
    drafts = tuple(replace(d, recipe=_resolved(d.recipe, study, prepared, size, precision, teacher)) for d in drawn.drafts)
    if teacher:
        notes = (*notes, f"every arm learns from {study.distill_from} (weights {teacher}) too, by {study.distill} distillation")
    drawn = Drawn(drafts, drawn.effects, notes)
    rows, effects = _rows(study, drawn, best, seeds_of or {})
    return _plan(study, rows, effects, prepared, size, notes)


def _resolved(recipe: Recipe, study: Study, prepared: Prepared, size: int, precision: str, teacher: str) -> Recipe:
    values: dict[str, Any] = {"input_size": size, "flip": recipe.flip and prepared.mirror}
    recipe = replace(recipe, **values)
    recipe = override(with_teacher(recipe, study.distill, teacher) if teacher else recipe, study.set)
    return override(recipe, {"precision": precision}) if recipe.precision == "auto" else recipe


def _rows(
    study: Study, drawn: Drawn, best: Mapping[int, Best] | None, seeds_of: Mapping[int, int]
) -> tuple[list[_Row], tuple[Effect, ...]]:
    if study.kind == "tune":
        return list(_grid_rows(study, drawn.drafts)), ()
    rows = [
        _Row(
            draft=d,
            name=_named(d.rung.name, d.context),
            seeds=_replicates(REPORT_SEEDS, seeds_of.get(i, study.seeds)),
            context=d.context,
            parent=d.rung.parent if study.kind == "roadmap" else None,
        )
        for i, d in enumerate(drawn.drafts)
    ]
    effects = drawn.effects
    if best:
        names = [r.name for r in rows]
        place: dict[int, int] = {}
        for i, row in enumerate(list(rows)):
            place[i] = i
            if any(factor != 1 for factor in best[i].setting.values()):
                place[i] = len(rows)
                context = f"{row.context}, {AT_BEST}".removeprefix(", ")
                name = f"{row.name} ({spelled(best[i].setting)})"
                seeds = _replicates(REPORT_SEEDS, seeds_of.get(place[i], study.seeds))
                rows.append(replace(row, name=name, setting=best[i].setting, context=context, seeds=seeds))
        effects = (*effects, *(_moved(e, place, best, names) for e in drawn.effects))
    if study.placebo:
        shown = "the reference again, with other seeds"
        seeds = _replicates(PLACEBO_SEEDS, seeds_of.get(0, study.seeds))
        rows.append(replace(rows[0], name=PLACEBO, seeds=seeds, parent=0, placebo=True, draft=replace(rows[0].draft, title=shown)))
        weights = ((len(rows) - 1, 1.0), (0, -1.0))
        effects = (*effects, Effect(name=PLACEBO, title=shown, estimand="the reference again", weights=weights))
    return rows, effects


def _named(name: str, context: str) -> str:
    return f"{name} [{context}]" if context else name


def _replicates(start: int, count: int) -> tuple[int, ...]:
    return tuple(range(start, start + count))


def _moved(effect: Effect, place: Mapping[int, int], best: Mapping[int, Best], names: Sequence[str]) -> Effect:
    """The effect over the arms at their best, at their `place`."""
    edges = [f"{names[arm]} ({spelled(best[arm].setting)})" for arm, _ in effect.weights if best[arm].edge]
    note = f"best at the edge of the grid: {', '.join(edges)}" if edges else ""
    return replace(
        effect,
        weights=tuple((place[arm], weight) for arm, weight in effect.weights),
        sampled=tuple(tuple((place[arm], weight) for arm, weight in rows) for rows in effect.sampled),
        context=f"{effect.context}, {AT_BEST}".removeprefix(", "),
        note="; ".join(n for n in (effect.note, note) if n),
    )


def _grid_rows(study: Study, drafts: Sequence[Draft]) -> Iterator[_Row]:
    for i, draft in enumerate(drafts):
        for setting in grid(study):
            yield _Row(
                draft=draft,
                name=f"{_named(draft.rung.name, draft.context)} ({spelled(setting)})",
                seeds=_replicates(TUNING_SEEDS, study.seeds),
                setting=setting,
                context=draft.context,
                tunes=i,
            )


def _plan(study: Study, rows: Sequence[_Row], effects: tuple[Effect, ...], prepared: Prepared, size: int, notes: Sequence[str]) -> Plan:
    from ...roadmap.cost import cost  # imports torch, which a study that is refused should not wait for

    costs: dict[str, Cost] = {}
    arms: list[Arm] = []
    trials: dict[str, Trial] = {}
    first: dict[object, int] = {}
    for i, row in enumerate(rows):
        d, recipe = row.draft, at(row.draft.recipe, row.setting)
        fingerprint = d.spec.fingerprint
        if fingerprint not in costs:
            costs[fingerprint] = cost(d.spec, size)
        counted = costs[fingerprint]
        data = DataRef(
            name=prepared.name,
            fingerprint=prepared.fingerprint,
            classes=prepared.classes,
            split_seed=study.split_seed,
            fraction=d.fraction,
            train_on=study.train_on,
        )
        own = [Trial(network=d.spec, recipe=recipe, data=data, epochs=d.epochs, seed=seed, packages=d.packages) for seed in row.seeds]
        trials |= {t.id: t for t in own}
        alive = d.liveness
        if row.parent is not None and not row.placebo:
            alive = replace(alive, macs=counted.macs - arms[row.parent].macs)
        key = (fingerprint, recipe, d.epochs, d.fraction)
        same_as = None if row.placebo else first.get(key)
        arms.append(
            Arm(
                index=i,
                name=row.name,
                title=d.title,
                parent=row.parent,
                side=d.rung.side and study.kind == "roadmap",
                choice=d.rung.choice,
                network=d.spec.name,
                fingerprint=fingerprint,
                params=counted.params,
                macs=counted.macs,
                macs_conv_linear=counted.macs_conv_linear,
                recipe=recipe,
                epochs=d.epochs,
                trials=tuple(t.id for t in own),
                seeds=row.seeds,
                liveness=alive,
                same_as=same_as,
                paper_key="" if row.placebo else d.rung.name,
                placebo=row.placebo,
                context=row.context,
                fraction=d.fraction,
                setting=row.setting,
                tunes=row.tunes,
            )
        )
        if not row.placebo:
            first.setdefault(key, i)
    return Plan(
        study=study,
        arms=tuple(arms),
        effects=effects,
        data=describe(prepared, size, study),
        notes=tuple(notes),
        trials=tuple(trials.values()),
    )


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
