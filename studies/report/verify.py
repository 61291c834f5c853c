"""Verify: a study's step effects beside the paper's own. Agreement is a finding, not a target: nothing passes or fails here.

Only a study at the paper's data, scale, input and recipe can say that a number matches. Elsewhere the question is smaller, whether the
sign is the paper's, and the answer is given only where both sides know their sign.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ...roadmap.steps import Track
from ...roadmap.tracks import track as track_named
from ..library import find_study, open_plan
from ..statistics.means import CONFIDENCE, Interval, t_quantile
from ..store import Store, StoreError
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

    `ranks` is Kendall's tau over the step effects that have noise to go by, `ranked` these steps, whose indices its pairs are. `look`
    tells when the paper's values were first looked at, None while nothing has run.
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
        try:
            plan = open_plan(store, path.parent.name)
        except StoreError:  # another study's trouble
            continue
        if plan.study.track in PAPERS[paper] and any(e.estimand == "in the paper's order" for e in plan.effects):
            found.append((path.stat().st_mtime, path.parent.name))
    if not found:
        raise StudyError(
            f"no study in the paper's order of {' or '.join(PAPERS[paper])} yet: run vitnas roadmap --track {PAPERS[paper][0]}"
        )
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
    steps = tuple(_compare(study, track, e, p, at_paper=not away, family=count) for e, p in zip(chosen, theirs, strict=True))
    pairs = [(e, p) for e, p in zip(chosen, theirs, strict=True) if p is not None and e.row.se is not None and not e.dead]
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
        notes=(*notes, *_notes([p for p in theirs if p], away)),
    )


def match(ours: EffectRow, paper: PaperEffect, *, family: int, margin: float) -> tuple[Verdict, Interval | None, str]:
    """At the paper's setting: the verdict, the interval of ours minus the paper's, and why it is no better.

    Matches where that interval lies within plus or minus `margin`, differs where it excludes zero (and does not match), else more seeds
    are needed. It holds for all `family` differences at once (Bonferroni), with Welch's degrees of freedom.
    """
    if ours.value is None or ours.se is None or ours.df is None:
        return "needs seeds", None, "one seed here"
    if paper.se is None or paper.df is None:
        return "needs seeds", None, "the paper gives no noise for it"
    variance = ours.se**2 + paper.se**2
    df = variance**2 / (ours.se**4 / ours.df + paper.se**4 / paper.df)
    half = t_quantile(1 - (1 - CONFIDENCE) / family, df) * variance**0.5
    centre = ours.value - paper.delta
    difference = Interval(low=centre - half, high=centre + half)
    if -margin <= difference.low and difference.high <= margin:
        return "matches", difference, ""
    return ("differs" if excludes_zero(difference) else "needs seeds"), difference, ""


def sign(ours: EffectRow, paper: PaperEffect) -> tuple[Verdict, str]:
    """Away from the paper's setting: whether the signs agree, and what weakens that.

    Undecided where our simultaneous interval holds zero or the paper's own does. A delta to which the paper gives no noise is taken as
    printed, and the note says so.
    """
    if ours.value is None or ours.simultaneous is None:
        return "undecided here", "one seed here"
    if not excludes_zero(ours.simultaneous):
        return "undecided here", ""
    if abs(paper.delta) < 1e-9:
        return "undecided here", "the paper reports no change"
    if paper.interval and not excludes_zero(paper.interval):
        return "undecided here", "the paper's own interval holds zero"
    word: Verdict = "sign agrees" if (ours.value > 0) == (paper.delta > 0) else "sign disagrees"
    return word, "" if paper.interval else "the paper's delta as printed, without noise"


def _compare(study: StudyEffects, track: Track, ours: StepEffect, paper: PaperEffect | None, *, at_paper: bool, family: int) -> Compared:
    row = ours.row
    verdict: Verdict | None = None
    difference: Interval | None = None
    corner = why = ""
    both = with_and_without(study.plan, ours.effect)
    if paper and both:
        corner = other_corner(track, paper.key, *both)
    if paper is None:
        why = "not in the paper"
    elif row.value is None:
        why = "not all run"
    elif ours.dead:
        why = "same network, no verdict" if row.same_network else f"{row.liveness} here, no verdict"
    elif at_paper and not corner:
        verdict, difference, why = match(row, paper, family=family, margin=study.summary.margin)
    else:
        verdict, why = sign(row, paper)
    diverged = f"{row.diverged}/{row.trials} diverged" if row.diverged else ""
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
        note="; ".join(n for n in (why, corner, diverged) if n),
    )


def _notes(paper: Sequence[PaperEffect], away: Sequence[str]) -> list[str]:
    noisy = [p for p in paper if p.se is not None]
    if not paper:
        return ["The paper reports none of these steps."]
    if not noisy:
        return ["The paper gives one value a row, without spread: no interval on its side, no ceiling, and its deltas stand as printed."]
    out = ["The paper's intervals are 95 %, one by one, from its own standard deviations over three seeds."]
    if len(noisy) < len(paper):
        names = ", ".join(p.key for p in paper if p.se is None)
        out.append(f"Without a standard deviation in the paper: {names}; its delta stands as printed and is in no pair of ranks.")
    if not away:
        out.append("Here the validation split is held out of training; the paper trained on all of train.")
    return out


def verification_table(found: Verification) -> Table:
    """A line a step; the column of differences is there at the paper's setting only."""
    differences = any(s.difference for s in found.steps)
    header = ["step", "ours", "simultaneous", "n", "paper", "its 95 %", *(["ours - paper"] if differences else []), "verdict"]
    lines = [header]
    for s in found.steps:
        verdict = ", ".join(w for w in (s.verdict or "", s.note) if w)
        name = f"{s.name} ({s.context})" if s.context else s.name
        cells = [name, number(s.ours, sign=True), span(s.interval, sign=True), str(s.n)]
        cells += [number(s.paper, sign=True), span(s.paper_interval, sign=True)]
        lines.append([*cells, *([span(s.difference, sign=True)] if differences else []), verdict])
    return lines


def verification_lines(found: Verification) -> list[str]:
    """The whole verification as lines of text: what is compared, the table, the counts, the ranks, and what must be known."""
    counts = Counter(s.verdict for s in found.steps if s.verdict)
    where = "at the paper's setting" if not found.departures else "not the paper's setting, so only signs are compared"
    out = [f"{found.study} beside {found.paper_source}: {where}", "", *plain(verification_table(found)), ""]
    out.append(", ".join(f"{word} {count}" for word, count in counts.items()) + "." if counts else "Nothing can be compared yet.")
    out += [*rank_lines(found), *([f"Here: {'; '.join(found.departures)}."] if found.departures else []), *found.notes]
    look = found.look
    if look and look.changed:
        out.append(f"Changed since the first look at the paper's values ({look.time[:10]}): {'; '.join(look.changed)}.")
    elif look:
        out.append(f"The recipe is that of the first look at the paper's values ({look.time[:10]}).")
    return [*out, *(f"Earlier: {other}." for other in (look.others if look else ()))]


def rank_lines(found: Verification) -> list[str]:
    """Rank agreement in words: tau with its interval, the ceiling, and the pairs that disagree."""
    ranks = found.ranks
    both = "on both sides" if any(s.paper_interval for s in found.steps) else "here, and in order in the paper as printed"
    if not ranks.of:
        return ["Rank agreement: none to tell, fewer than two steps have noise to go by."]
    told = f"{ranks.pairs} of {ranks.of} pairs of steps are resolved {both}"
    if ranks.tau is None:
        return [f"Rank agreement: none to tell, {told}."]
    interval = f" {span(ranks.interval, sign=True)}" if ranks.interval else ""
    out = [f"Rank agreement: Kendall's tau {number(ranks.tau, sign=True)}{interval} over step effects; {told}."]
    if ranks.ceiling is not None:
        out.append(
            f"Two repetitions of the paper would reach {number(ranks.ceiling, sign=True)} {span(ranks.ceiling_interval, sign=True)} "
            "with each other over the same pairs: that is the ceiling. Tau is a finding, not a target."
        )
    if ranks.discordant:
        pairs = "; ".join(f"{found.ranked[i]} and {found.ranked[j]}" for i, j in ranks.discordant[:8])
        more = f"; {len(ranks.discordant) - 8} more" if len(ranks.discordant) > 8 else ""
        out.append(f"In the other order: {pairs}{more}.")
    return out
