"""Drafts: a study's arms as networks and recipes, and its effects, before data, costs and seeds are known."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

from ...roadmap.liveness import Liveness, liveness
from ...roadmap.spec import NetSpec, from_dict
from ...roadmap.steps import Choice, Rung, Step, StepError, Track, Value, parse_value, select, squash
from ...roadmap.tracks import installed_tracks
from ...roadmap.tracks import track as find_track
from ...roadmap.zoo import variant
from ..effect import Effect
from ..recipe import Preset, Recipe, preset, with_techniques
from ..storage.bucket import SCHEME, Bucket
from ..study import Study, StudyError, factor_levels, override
from .catalogue import make_design
from .context import cross
from .design import Design, DesignError, Factors
from .lattice import count

Context = Mapping[str, str]  # the level of every factor, by its name
OWN_FACTORS = ("data-fraction", "scale")  # the other factors are steps
ASK = 64  # trials above which a factorial design wants to be confirmed


class TooMany(DesignError):
    """A factorial of more trials than one runs without being asked."""


@dataclass(frozen=True)
class Draft:
    """An arm before its costs and trials are known."""

    rung: Rung
    title: str
    spec: NetSpec
    recipe: Recipe
    epochs: int
    fraction: float
    liveness: Liveness = field(default_factory=Liveness)
    context: str = ""
    packages: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Drawn:
    """The drafts of a study, what they tell, and what a reader must know."""

    drafts: tuple[Draft, ...]
    effects: tuple[Effect, ...] = ()
    notes: tuple[str, ...] = ()


def input_size(study: Study) -> int:
    """The study's input size in pixels: its own, the network's, or the scale's. StudyError where its scales differ in theirs."""
    if study.input_size:
        return study.input_size
    if study.kind == "train":
        if study.network.endswith(".json"):
            raise StudyError(f"input-size: name that of {study.network}, as in --input-size 32")
        return variant(study.network).input_size
    track = find_track(study.track)
    sizes = {track.scale(s).input_size for s in factor_levels(study.factor.get("scale", study.scale))}
    if len(sizes) > 1:
        raise StudyError(
            f"input-size: the scales have inputs of {' and '.join(map(str, sorted(sizes)))} pixels: choose one with --input-size"
        )
    return sizes.pop()


def network_file(path: str) -> NetSpec:
    """The network that a file, here or in a bucket, holds as `vitnas search` and `vitnas models show --json` write it; StudyError where it
    holds none."""
    try:
        data = json.loads(_read(path))
        spec = from_dict(data)
    except FileNotFoundError:
        raise StudyError(f"network: there is no file {path}: check the path") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"network: {path} holds no network ({error}): write one with `vitnas models show NAME --json`") from None
    return replace(spec, name=str(data.get("name") or Path(path).stem))


def _read(path: str) -> str:
    """The text of a file, or of an object of a bucket."""
    if not path.startswith(SCHEME):
        return Path(path).read_text()
    folder, _, name = path.rpartition("/")
    found = Bucket(folder).read(name)
    if found is None:
        raise FileNotFoundError
    return found[1].decode()


def draw(study: Study, classes: int, size: int) -> Drawn:
    """All arms of `study` at its shared settings; StudyError or StepError where it is not legal."""
    if study.kind == "train":
        return _train(study, classes, size)
    return _roadmap(study, classes, size) if study.kind == "roadmap" else _ablation(study, classes, size)


def recipe_of(choice: Choice, chosen: Preset, track: Track) -> Recipe:
    """The recipe of one arm: the preset's base with the techniques that `choice` switches on."""
    recipe = _with_group(choice, chosen, track)
    return override(recipe, {s.field: choice[s.name] for s in recipe_steps(track) if s.name in choice})


def recipe_steps(track: Track) -> list[Step]:
    """The steps that each set one field of the recipe, beside the group of techniques and its members. Installed tracks may have such."""
    techniques = {t for s in track.steps for t in s.techniques}
    return [s for s in track.steps if s.owner == "recipe" and not s.techniques and s.name not in techniques]


def _with_group(choice: Choice, chosen: Preset, track: Track) -> Recipe:
    group = next((s for s in track.steps if s.techniques), None)
    if group is None:
        return chosen.modern
    names = [t for t in group.techniques if (group.name in choice and choice.get(t) != "off") or choice.get(t) == "modern"]
    return with_techniques(chosen.base, chosen.modern, names)


def _packages(choice: Choice, track: Track) -> tuple[tuple[str, str], ...]:
    """The package that brings `track`, with its version, where the choice has a recipe step of its own."""
    if not any(s.name in choice for s in recipe_steps(track)):
        return ()
    found = installed_tracks().get(squash(track.name))
    return ((found.distribution, found.version),) if found else ()


@dataclass(frozen=True)
class _Bench:
    """What is common to the arms of a study over a track."""

    study: Study
    track: Track
    classes: int
    size: int
    chosen: Preset

    @property
    def epochs(self) -> int:
        return self.study.epochs or self.chosen.epochs

    def spec(self, choice: Choice, scale: str) -> NetSpec:
        network = {k: v for k, v in choice.items() if self.track.step(k).owner == "network"}
        return self.track.spec(network, scale=scale, input_size=self.size, classes=self.classes)

    def draft(self, rung: Rung, title: str, context: Context) -> Draft:
        scale = context.get("scale", self.study.scale)
        return Draft(
            rung,
            title,
            self.spec(rung.choice, scale),
            recipe_of(rung.choice, self.chosen, self.track),
            self.epochs,
            _fraction(context.get("data-fraction"), self.study),
            context=spelled(context),
            packages=_packages(rung.choice, self.track),
        )


def spelled(context: Context) -> str:
    """A context in words: `scale=small, data-fraction=0.1`; nothing where a study has no factors."""
    return ", ".join(f"{k}={v}" for k, v in context.items())


def _fraction(level: str | None, study: Study) -> float:
    if level is None:
        return study.data_fraction
    try:
        value = float(level)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise StudyError(f"factor: data-fraction must lie in (0, 1], not {level}")
    return value


def _roadmap(study: Study, classes: int, size: int) -> Drawn:
    bench = _Bench(study, find_track(study.track), classes, size, preset(study.recipe))
    selection = select(bench.track, study.steps)
    rungs = selection.cumulative()
    drafts: list[Draft] = []
    effects: list[Effect] = []
    notes = list(selection.notes)
    for i, rung in enumerate(rungs):
        draft = bench.draft(rung, bench.track.base, {})
        if rung.parent is None and bench.chosen.base_epochs and not study.epochs:
            draft = replace(draft, epochs=bench.chosen.base_epochs)
            notes.append(f"{bench.track.base} trains {draft.epochs} epochs, the others {bench.epochs}, as in the paper")
        if rung.parent is not None:
            before = drafts[rung.parent]
            name = next(k for k in reversed(list(rung.choice)) if before.rung.choice.get(k) != rung.choice[k])
            step = bench.track.step(name)
            alive = liveness(before.spec, draft.spec, size, same_recipe=draft.recipe == before.recipe, spatial=step.spatial)
            title = step.title if rung.name == step.name else f"{step.title} {rung.name.partition('=')[2]}"
            draft = replace(draft, title=title, liveness=alive)
            effects.append(
                Effect(
                    name=rung.name,
                    title=title,
                    estimand="in the paper's order",
                    weights=((i, 1.0), (rung.parent, -1.0)),
                    liveness=alive,
                    paper_key=rung.name,
                )
            )
        drafts.append(draft)
    return Drawn(tuple(drafts), tuple(effects), tuple(notes))


def _ablation(study: Study, classes: int, size: int) -> Drawn:
    bench = _Bench(study, find_track(study.track), classes, size, preset(study.recipe))
    contexts = _contexts(study, bench.track)
    fixed = select(bench.track, study.fix) if study.fix else None
    if fixed is not None and not fixed.chosen:
        raise StudyError(f"fix: {study.fix} names no step: leave --fix out")
    selection = select(bench.track, study.steps)
    design = _design(study, Factors.of(selection, fixed), contexts) if selection.chosen else _bare(fixed.final() if fixed else {}, study)
    arms, effects = cross(design, contexts)
    drafts = tuple(bench.draft(_under(rung, context, bench.track), rung.name, context) for rung, context in arms)
    by_name = {spelled(c): c for c in contexts}
    told = tuple(_told(e, drafts, bench, by_name.get(e.context, contexts[0])) for e in effects)
    return Drawn(drafts, told, (*selection.notes, *design.notes))


def _design(study: Study, factors: Factors, contexts: Sequence[Context]) -> Design:
    if study.design == "factorial" and not study.confirmed:
        networks = count(factors) * len(contexts)
        trials = networks * study.seeds
        if trials > ASK:
            raise TooMany(
                f"design: factorial trains {networks:,} networks, {trials:,} trials: confirm with --yes, or use --design fractional"
            )
    return make_design(
        study.design,
        factors,
        interactions=_pairs(study.interactions),
        resolution=study.resolution,
        runs=study.runs,
        orders=study.orders,
        order=tuple(s.strip() for s in study.order.split(",") if s.strip()),
    )


def _bare(fixed: Choice, study: Study) -> Design:
    """One network: for studies that only compare the levels of factors."""
    if not study.factor:
        raise StudyError("steps: nothing is left to vary: name steps, or a --factor")
    return Design(rungs=(Rung("base", fixed, None),), effects=())


def _pairs(text: str) -> tuple[tuple[str, str], ...] | str:
    """`--interactions`: all, or pairs `a:b` separated by commas."""
    if text.strip().lower() == "all":
        return "all"
    pairs = []
    for term in (t.strip() for t in text.split(",") if t.strip()):
        a, colon, b = term.partition(":")
        if not colon or not a.strip() or not b.strip():
            raise StudyError(f"interactions: write pairs such as gelu:layer-norm, or all, not {term!r}")
        pairs.append((a.strip(), b.strip()))
    return tuple(pairs)


def _contexts(study: Study, track: Track) -> tuple[Context, ...]:
    """Every combination of the factors' levels, the first levels first; one empty context where there are none."""
    levels: dict[str, tuple[str, ...]] = {}
    for name, values in study.factor.items():
        key = name if name in OWN_FACTORS else track.step(name).name
        if key in levels:
            raise StudyError(f"factor: {name} and another name are both {key}: name it once")
        if key not in OWN_FACTORS and not track.step(key).levels:
            raise StudyError(f"factor: {key} has no levels: data-fraction, scale or a step with values can be factors; use --steps")
        levels[key] = factor_levels(values)
    return tuple(dict(zip(levels, combination, strict=True)) for combination in product(*levels.values()))


def _under(rung: Rung, context: Context, track: Track) -> Rung:
    """The rung with the steps that are factors at their levels."""
    choice = dict(rung.choice)
    base = track.decisions()
    for name, level in context.items():
        if name in OWN_FACTORS:
            continue
        step = track.step(name)
        if name in choice:
            raise StudyError(f"factor: {name} is varied or fixed by the design already: leave it out of one of them")
        value = parse_value(step, level)
        if step.owner != "network" or getattr(base, step.field) != value:
            choice[name] = value
    return replace(rung, choice=_ordered(choice, track))


def _ordered(choice: Mapping[str, Value], track: Track) -> Choice:
    return {s.name: choice[s.name] for s in track.steps if s.name in choice}


LOOKED_AT = 16  # arms by which the liveness of an averaged effect is told


def _told(effect: Effect, drafts: Sequence[Draft], bench: _Bench, context: Context) -> Effect:
    """The effect with its liveness: what its step acts on in the arms that have it, each against the same arm without it."""
    step = _step_of(effect.name, bench.track) if effect.order == 1 else None
    if step is None:
        return effect
    scale = context.get("scale", bench.study.scale)
    found: list[Liveness] = []
    for arm, weight in effect.weights:
        choice = drafts[arm].rung.choice
        if weight <= 0 or step.name not in choice or len(found) == LOOKED_AT:
            continue
        without = {k: v for k, v in choice.items() if k != step.name and k not in effect.along}
        if any(step.name in s.techniques and s.name in choice for s in bench.track.steps):
            without[step.name] = "off"  # of a recipe that is on, what is not named is on too
        try:
            before = bench.spec(without, scale)
        except StepError:
            continue
        same = recipe_of(without, bench.chosen, bench.track) == drafts[arm].recipe
        found.append(liveness(before, drafts[arm].spec, bench.size, same_recipe=same, spatial=step.spatial))
    for state in ("live", "partly", "dead", "same"):
        first = next((f for f in found if f.state == state), None)
        if first:
            return replace(effect, liveness=first)
    return effect


def _step_of(name: str, track: Track) -> Step | None:
    """The step whose effect is called `name` (`step` or `field=value`, dependants after a plus); None for a factor's."""
    name = name.partition(" + ")[0]
    for step in track.steps:
        if name == step.name or (name.partition("=")[0] == step.field.replace("_", "-") and "=" in name):
            return step
    return None


def _train(study: Study, classes: int, size: int) -> Drawn:
    chosen = preset(study.recipe)
    if study.network.endswith(".json"):
        spec = network_file(study.network)
        if spec.head.classes != classes:
            raise StudyError(f"network: {study.network} tells {spec.head.classes} classes apart, the data have {classes}")
        rung = Rung(spec.name, {}, None)
        return Drawn((Draft(rung, spec.name, spec, chosen.modern, study.epochs or chosen.epochs, study.data_fraction),))
    found = variant(study.network)
    try:
        spec = found.spec(input_size=size, classes=classes)
    except StepError:
        raise
    except ValueError as error:
        raise StudyError(f"input-size: {error}") from None
    rung = Rung(found.name, {}, None)
    return Drawn((Draft(rung, found.name, spec, chosen.modern, study.epochs or chosen.epochs, study.data_fraction),))
