"""Audit: how far a cheap study can stand in for a full one, step by step, and which steps deserve the full run.

A proxy is good for a step where it gives the sign that the full run gives. Neither side knows its sign for certain: with a flat prior,
the posterior of an effect is Student's t around its estimate (Gelman et al., Bayesian Data Analysis, 3rd ed., section 3.2), so a sign has
a probability on each side, and the two studies are independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..effect import Estimand
from ..statistics.means import Interval
from ..store import Store
from ..study import DesignName, StudyError
from .effects import EffectRow
from .step_effects import StepEffect, StudyEffects, stands_on, study_effects
from .tables import Table, number, plain, span

DOUBT = (0.1, 0.9)  # probabilities between which the proxy's sign is not to be relied on

DESIGN: Mapping[Estimand, DesignName] = {
    "in the paper's order": "cumulative",
    "at the base corner": "add-one-in",
    "at the modern corner": "leave-one-out",
    "averaged over legal subsets": "factorial",
    "main effect plus aliases": "fractional",
    "averaged over legal orders": "orders",
}


@dataclass(frozen=True, kw_only=True)
class Audited:
    """One step in both studies (points of top-1, intervals over all effects of a study at once).

    `cheap_positive` and `full_positive` are the probabilities that its true effect is above zero there, `same_sign` that both have one
    sign; None where a side has no noise to go by. `deserves` marks a step for the full run, or for more of it, and `why` says why or
    why not.
    """

    name: str
    title: str
    estimand: Estimand
    context: str
    cheap: float | None
    cheap_interval: Interval | None
    full: float | None
    full_interval: Interval | None
    cheap_positive: float | None
    full_positive: float | None
    same_sign: float | None
    deserves: bool
    why: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Audit:
    """A cheap study beside a full one of the same track. `steps` are sorted: those that deserve the full run first, the most doubtful
    first among them. `expected` is the expected number of the `known` steps whose sign the proxy has."""

    cheap: str
    full: str
    track: str
    steps: tuple[Audited, ...]
    known: int
    expected: float
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return asdict(self)


def audit(store: Store, cheap: str, full: str, *, full_store: Store | None = None, doubt: tuple[float, float] = DOUBT) -> Audit:
    """Hold study `cheap` against study `full`, which need not be finished; `full_store` where that lies in another store.

    StudyError where they are of different tracks, are the same study, or have no effect of one name and estimand in common, which
    names the design to run.
    """
    a, b = study_effects(store, cheap), study_effects(full_store or store, full)
    track = _common_track(a, b)
    others = {e.key: e for e in b.effects}
    both = [(e, others[e.key]) for e in a.effects if e.key in others]
    if not both:
        raise StudyError(_nothing_common(a, b))
    steps = [_audited(a, mine, b, its, doubt) for mine, its in both]
    known = [s.same_sign for s in steps if s.same_sign is not None]
    return Audit(
        cheap=cheap,
        full=full,
        track=track,
        steps=tuple(sorted(steps, key=lambda s: (not s.deserves, _certainty(s)))),
        known=len(known),
        expected=sum(known),
        notes=tuple(_notes(a, b, len(both))),
    )


def positive(row: EffectRow) -> float | None:
    """The probability that the true effect is above zero: Student's t around the estimate; None where there is no noise to go by."""
    from scipy.special import stdtr  # type: ignore[import-untyped]

    if row.value is None or not row.se or row.df is None:
        return None
    return float(stdtr(row.df, row.value / row.se))


def same_sign(a: float | None, b: float | None) -> float | None:
    """The probability that two independent effects have one sign, from their probabilities of being above zero."""
    return None if a is None or b is None else a * b + (1 - a) * (1 - b)


def _common_track(a: StudyEffects, b: StudyEffects) -> str:
    for study in (a, b):
        if study.plan.study.kind == "train":
            raise StudyError(f"{study.name} trains a single network: name a study over steps, such as vitnas ablate makes")
    one, other = a.plan.study.track, b.plan.study.track
    if one != other:
        raise StudyError(f"{a.name} is of track {one}, {b.name} of {other}: audit two studies of one track")
    shared = {t for arm in a.plan.arms for t in arm.trials} & {t for arm in b.plan.arms for t in arm.trials}
    if shared:
        raise StudyError(f"{a.name} and {b.name} share {len(shared)} trials, so neither can audit the other: name two different trainings")
    return one


def _nothing_common(a: StudyEffects, b: StudyEffects) -> str:
    mine, its = set(a.estimands), set(b.estimands)
    if mine & its or not mine or not its:
        return f"{a.name} and {b.name} have no step in common: run the steps of one in the other with --steps"
    estimand = a.estimands[0]
    track, shown = a.plan.study.track, " and ".join(b.estimands)
    design = DESIGN.get(estimand, "leave-one-out")
    command = f"vitnas roadmap --track {track}" if design == "cumulative" else f"vitnas ablate --design {design} --track {track}"
    return f"{a.name} estimates effects {estimand}, {b.name} {shown}: those are different questions; run {command} for the full study"


def _audited(a: StudyEffects, mine: StepEffect, b: StudyEffects, its: StepEffect, doubt: tuple[float, float]) -> Audited:
    cheap = None if mine.dead else positive(mine.row)
    full = None if its.dead else positive(its.row)
    same = same_sign(cheap, full)
    deserves, why = _deserves(mine, its, same, doubt)
    notes = [n for n in (_diverged("cheap", mine.row), _diverged("full", its.row)) if n]
    if stands_on(a.plan, mine.effect) != stands_on(b.plan, its.effect):
        notes.append("on other steps in the two")
    return Audited(
        name=mine.effect.name,
        title=mine.effect.title,
        estimand=mine.effect.estimand,
        context=mine.effect.context,
        cheap=mine.row.value,
        cheap_interval=mine.row.simultaneous,
        full=its.row.value,
        full_interval=its.row.simultaneous,
        cheap_positive=cheap,
        full_positive=full,
        same_sign=same,
        deserves=deserves,
        why=why,
        note=", ".join(notes),
    )


def _deserves(mine: StepEffect, its: StepEffect, same: float | None, doubt: tuple[float, float]) -> tuple[bool, str]:
    """Whether the step deserves the full run, or more seeds in it, and why."""
    if its.dead:
        return False, "nothing of it acts in the full run"
    if its.row.value is None:
        if mine.dead:
            return True, "dead in the cheap run, unknown in full"
        if mine.row.value is None:
            return True, "unknown in both"
        if not mine.decided:
            return True, "undecided in the cheap run, unknown in full"
        return False, "decided in the cheap run, unknown in full"
    if same is None:
        if mine.dead:
            return not its.decided, "dead in the cheap run, " + ("decided in full" if its.decided else "undecided in full")
        return True, "one seed: no noise to go by"
    low, high = doubt
    if same < low:
        return False, "the other sign in full: the proxy misleads"
    if same > high:
        return False, "the same sign in both"
    if its.decided:
        return False, "decided in full, and the proxy cannot tell"
    return True, "whether the signs agree is open"


def _certainty(step: Audited) -> float:
    """How far from even odds: of the same sign where that is known, else of the cheap run's sign."""
    chance = step.same_sign if step.same_sign is not None else step.cheap_positive
    return 0.0 if chance is None else abs(chance - 0.5)


def _diverged(side: str, row: EffectRow) -> str:
    return f"{row.diverged}/{row.trials} diverged in the {side} run" if row.diverged else ""


def _notes(a: StudyEffects, b: StudyEffects, common: int) -> list[str]:
    out = [
        "P(same sign) holds the noise of seeds on both sides, by Student's t with a flat prior.",
        "Intervals hold for all effects of a study at once.",
    ]
    left = [(s.name, len(s.effects) - common) for s in (a, b) if len(s.effects) > common]
    return out + [f"{name} has {count} more effect{'' if count == 1 else 's'}, which the other lacks." for name, count in left]


def audit_tables(found: Audit) -> list[tuple[Estimand, Table]]:
    """A table an estimand, a line a step in the order of the audit."""
    out = []
    for estimand in dict.fromkeys(s.estimand for s in found.steps):
        lines = [["step", "cheap", "its interval", "full", "its own", "P(same sign)", "full run", "note"]]
        for s in (s for s in found.steps if s.estimand == estimand):
            name = f"{s.name} ({s.context})" if s.context else s.name
            cells = [name, number(s.cheap, sign=True), span(s.cheap_interval, sign=True)]
            cells += [number(s.full, sign=True), span(s.full_interval, sign=True), number(s.same_sign)]
            lines.append([*cells, "yes" if s.deserves else "no", "; ".join(w for w in (s.why, s.note) if w)])
        out.append((estimand, lines))
    return out


def audit_lines(found: Audit) -> list[str]:
    """The whole audit as lines of text."""
    out = [f"{found.cheap} as a proxy for {found.full}, track {found.track}", ""]
    for estimand, lines in audit_tables(found):
        out += [f"Effects {estimand}:", *plain(lines), ""]
    if found.known:
        out.append(f"Of {found.known} steps known in both, the proxy has the sign of {found.expected:.1f} (expected number).")
    names = [s.name for s in found.steps if s.deserves]
    out.append(f"These deserve the full run: {', '.join(names)}." if names else "No step deserves the full run for its sign alone.")
    return [*out, *found.notes]
