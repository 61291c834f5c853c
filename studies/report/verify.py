"""Verify: a study's step effects beside the paper's own. Agreement is a finding, not a target: nothing passes or fails here.

Only a study at the paper's data, scale, input and recipe can say that a number matches. Elsewhere the question is smaller, whether the
sign is the paper's, and the answer is given only where both sides know their sign.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ...roadmap.tracks import track as track_named
from ..library import find_study, open_plan
from ..statistics.deltas import CONFIDENCE, Interval, t_quantile
from ..store import Store
from ..study import StudyError
from .agreement import Agreement, agreement
from .effects import EffectRow
from .first_look import FirstLook, first_look
from .paper_side import PaperEffect, departures, other_corner, paper_effect, paper_side
from .step_effects import StepEffect, StudyEffects, excludes_zero, side, study_effects, with_and_without
from .tables import Table, number, plain, span

PAPERS: Mapping[str, tuple[str, ...]] = {"convnext": ("convnext-t", "convnext-b"), "repvit": ("repvit-m0.9",)}

Verdict = Literal["matches", "differs", "needs seeds", "sign agrees", "sign disagrees", "undecided here"]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One step: our effect with its interval over all effects at once, the paper's with its own, both in points of top-1.

    `difference` is the interval of ours minus the paper's, at the paper's setting. `verdict` is None where there is nothing to compare: the
    step is dead here, has not run, or is not in the paper; `note` says which, and whatever weakens the verdict.
    """

    name: str
    title: str
    context: str
    ours: float | None
    interval: Interval | None
    n: int
    paper: float | None
    paper_interval: Interval | None
    difference: Interval | None = None
    verdict: Verdict | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A study beside its paper. `departures` say in what it is not the paper's setting; empty means that numbers can match.

    `ranks` is Kendall's tau over step effects and `ranked` the steps that it is over, whose indices its pairs are. `look` tells when the
    paper's values were first looked at, None while nothing has run.
    """

    study: str
    track: str
    paper_source: str
    departures: tuple[str, ...]
    steps: tuple[Compared, ...]
    ranks: Agreement
    ranked: tuple[str, ...]
    look: FirstLook | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return asdict(self)


def choose(store: Store, paper: str, name: str = "") -> str:
    """The study to verify: `name`, or the latest one that can be held against `paper` ("convnext" or "repvit").

    StudyError for an unknown paper and where the store has no study of its tracks, StoreError for an unknown name.
    """
    if paper not in PAPERS:
        raise StudyError(f"paper: {paper!r} is not one of {', '.join(PAPERS)}")
    if name:
        return find_study(store, name).name
    found = []
    for path in store.studies.glob("*/plan.json"):
        plan = open_plan(store, path.parent.name)
        if plan.study.track in PAPERS[paper] and any(e.estimand == "in the paper's order" for e in plan.effects):
            found.append((path.stat().st_mtime, path.parent.name))
    if not found:
        raise StudyError(f"no study in the paper's order of {' or '.join(PAPERS[paper])} yet: run vitnas roadmap --track {PAPERS[paper][0]}")
    return max(found)[1]


def verify(store: Store, name: str, *, paper: str) -> Verification:
    """Hold study `name` against `paper`. Its first call writes verify.json into the study's folder (see `first_look`).

    StudyError where the study is of another track, or estimates none of its effects in the paper's order.
    """
    if paper not in PAPERS:
        raise StudyError(f"paper: {paper!r} is not one of {', '.join(PAPERS)}")
    study = study_effects(store, name)
    of = study.plan.study.track
    if study.plan.study.kind == "train" or of not in PAPERS[paper]:
        what = "a single network" if study.plan.study.kind == "train" else f"track {of}"
        raise StudyError(f"{name} is of {what}, the paper's tracks are {' and '.join(PAPERS[paper])}: name a study of one of them")
    track = track_named(of)
    chosen = [e for e in study.effects if e.effect.estimand == "in the paper's order"]
    if not chosen:
        shown = " and ".join(study.estimands) or "no effect of a step"
        raise StudyError(f"{name} estimates {shown}; the paper's deltas are in its own order: run vitnas roadmap --track {of}")
    notes = []
    contexts = list(dict.fromkeys(e.effect.context for e in chosen))
    if len(contexts) > 1:
        notes.append(f"only the effects under {contexts[0] or 'the shared settings'} are compared.")
        chosen = [e for e in chosen if e.effect.context == contexts[0]]
    away = departures(track, study.plan)
    theirs = [paper_effect(track, e.effect.paper_key) for e in chosen]
    count = sum(p is not None for p in theirs)
    steps = tuple(_compare(study, e, p, at_paper=not away, family=count) for e, p in zip(chosen, theirs, strict=True))
    pairs = [(e, p) for e, p in zip(chosen, theirs, strict=True) if p is not None and e.row.value is not None and not e.dead]
    ranks = agreement(side(study, [e for e, _ in pairs]), paper_side(track, [p for _, p in pairs]))
    looked = any(s.ours is not None and s.paper is not None for s in steps)
    return Verification(
        study=name,
        track=of,
        paper_source=track.paper_source,
        departures=away,
        steps=steps,
        ranks=ranks,
        ranked=tuple(e.effect.name for e, _ in pairs),
        look=first_look(store, study.plan) if looked else None,
        notes=(*notes, *_notes([p for p in theirs if p])),
    )


def _compare(study: StudyEffects, ours: StepEffect, paper: PaperEffect | None, *, at_paper: bool, family: int) -> Compared:
    row, notes = ours.row, []
    both = with_and_without(study.plan, ours.effect)
    if paper and both:
        notes.append(other_corner(study.summary_track, paper.key, *both))
    verdict: Verdict | None = None
    difference = None
    if paper is None:
        notes.append("not in the paper")
    elif row.value is None:
        notes.append("not all run")
    elif ours.dead:
        notes.append(f"{row.liveness} here, no verdict")
    elif at_paper and not any(notes):
        difference = _difference(row, paper, family)
        verdict, why = match(difference, margin=study.summary.margin)
        notes.append(why if difference or not row.se else "the paper gives no noise for it")
    else:
        verdict, why = sign(row.value, row.simultaneous, paper)
        notes.append(why)
    if row.diverged:
        notes.append(f"{row.diverged}/{row.trials} diverged")
    return Compared(
        name=ours.effect.name,
        title=ours.effect.title,
        context=ours.effect.context,
        ours=row.value,
        interval=row.simultaneous,
        n=row.n,
        paper=paper.delta if paper else None,
        paper_interval=paper.interval if paper else None,
        difference=difference,
        verdict=verdict,
        note="; ".join(n for n in notes if n),
    )
