"""Claims of the literature about speed, held against latency measured on this device: what `vitnas verify --claims` does.

A claim is about a ratio of two networks' times and holds where the measured ratio lies within what is claimed, a tenth less included. It
was made on other devices; that it fails on this one says nothing against its authors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal

from ..store import Store
from .commands import PATIENCE, Measure, Report, anew, measured, notes_on
from .device import Conditions, LatencyError, check_installed
from .measure import Subject
from .protocol import Effort
from .reading import Reading
from .subjects import subjects_of

Verdict = Literal["holds", "fails", "not testable"]

POOR = 0.1  # of the pairs of networks: a count that orders more of them wrongly is a poor predictor of speed
SHORTFALL = 0.9  # of a claimed ratio still counts as that ratio

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """`slow` takes `least` to `most` times as long as `fast`, on the given devices."""

    text: str
    source: str
    slow: str
    fast: str
    least: float = 1.0
    most: float = math.inf
    devices: tuple[str, ...] = ("cpu", "cuda")


CLAIMS = (
    Claim(
        text="LeViT-128 is 3 times as fast as EfficientNet-B0 on a CPU",
        source="arXiv 2104.01136",
        slow="efficientnet-b0",
        fast="levit-128",
        least=3 * SHORTFALL,
        devices=("cpu",),
    ),
    Claim(
        text="ConvNeXt-T is slightly slower than Swin-T (by up to a fourth)",
        source="arXiv 2201.03545 finds it as fast or faster on GPUs",
        slow="convnext-t",
        fast="swin-t",
        most=1.25,
    ),
    Claim(
        text="MLP-Mixer is slower than Swin of the same or better accuracy (B/16, 76.4 %; Swin-T, 81.3 %)",
        source="arXiv 2105.01601, 2103.14030",
        slow="mixer-b-16",
        fast="swin-t",
    ),
    Claim(
        text="ParC-Net-S is 23 % faster than MobileViT-S",
        source="arXiv 2203.03952, on an ARM processor",
        slow="mobilevit-s",
        fast="parc-net-s",
        least=1.23 * SHORTFALL,
    ),
)
OTHERS = ("resnet-50", "deit-s", "mobilenetv2", "mobilenetv3-l", "repvit-m0.9")  # beside those of the claims, to judge predictors by


@dataclass(frozen=True, kw_only=True)
class Held:
    """A claim with what was measured (in words) and the verdict; `value` is the measured ratio, or the part of pairs ordered wrongly."""

    claim: str
    source: str
    measured: str
    verdict: Verdict
    value: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """All claims on one device, `label`, with the readings behind them and notes."""

    label: str
    held: tuple[Held, ...]
    readings: tuple[Reading, ...]
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Lines to print: a verdict, its claim, and what was measured."""
        out = [f"claims of the literature on {self.label}" if self.label else "claims of the literature: nothing could be measured", ""]
        for held in self.held:
            out += [f"{held.verdict:13} {held.claim} ({held.source})", f"{'':13} {held.measured}"]
        return [*out, "", *self.notes]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for --json."""
        return {
            "device": self.label,
            "claims": [held.to_dict() for held in self.held],
            "readings": [r.to_dict() for r in self.readings],
            "notes": list(self.notes),
        }


def claims(
    store: Store,
    *,
    device: str = "cpu",
    backend: str = "eager",
    batch: int = 1,
    precision: str = "fp32",
    threads: int = 1,
    input_size: int | None = None,
    seconds: float = 2.0,
    measuring: Measure | None = None,
    say: Say = lambda text: None,
) -> Claims:
    """Measure the networks of all claims, or take what the store knows, and judge; networks that cannot be measured are told of."""
    conditions = Conditions(device=device, backend=backend, batch=batch, precision=precision, threads=threads)
    if measuring is None:
        check_installed(backend)
    names = dict.fromkeys([n for c in CLAIMS for n in (c.slow, c.fast)] + list(OTHERS))
    subjects = subjects_of(store, list(names), input_size=input_size)
    left_out: dict[str, str] = {}

    def skip(subject: Subject, error: LatencyError) -> None:
        left_out[subject.name] = str(error)
        say(f"left out: {error}")

    effort = Effort(seconds=seconds)
    readings, refused = measured(measuring, store, subjects, conditions, effort, skip=skip, patience=PATIENCE, say=say)
    by_name = {r.name: r for r in readings}
    held = [judge(c, by_name, conditions.device, left_out) for c in CLAIMS]
    held += predictors([s for s in subjects if s.name in by_name], by_name)
    report = Report(readings=tuple(readings))
    return Claims(
        label=report.label, held=tuple(held), readings=tuple(readings), notes=(*notes_on(readings), *([refused] if refused else []))
    )


def judge(claim: Claim, readings: Mapping[str, Reading], device: str, left_out: Mapping[str, str]) -> Held:
    """The claim by the ratio of both networks' times and its 95 % interval; one that covers a bound decides nothing."""

    def held(verdict: Verdict, measured: str, value: float | None = None) -> Held:
        return Held(claim=claim.text, source=claim.source, measured=measured, verdict=verdict, value=value)

    if device not in claim.devices:
        return held("not testable", f"it is about {' or '.join(claim.devices)}, this is {device}")
    missing = [n for n in (claim.slow, claim.fast) if n not in readings]
    if missing:
        return held("not testable", left_out.get(missing[0], f"{missing[0]} was not measured"))
    slow, fast = readings[claim.slow].latency, readings[claim.fast].latency
    ratio = slow.typical / fast.typical
    spread = math.exp(math.hypot(math.log(slow.high / slow.low), math.log(fast.high / fast.low)) / 2)
    low, high = ratio / spread, ratio * spread
    told = (
        f"{claim.slow} {slow.typical:.2f} ms, {claim.fast} {fast.typical:.2f} ms: {ratio:.2f} times [{low:.2f}, {high:.2f}], "
        f"claimed {claim.least:.3g} or more" + (f", up to {claim.most:.3g}" if claim.most < math.inf else "")
    )
    if claim.least <= low and high <= claim.most:
        return held("holds", told, ratio)
    if high < claim.least or low > claim.most:
        return held("fails", told, ratio)
    return held("not testable", f"{told}: the interval covers that bound; {anew(claim.slow, claim.fast)}", ratio)


def predictors(subjects: Sequence[Subject], readings: Mapping[str, Reading]) -> list[Held]:
    """Whether parameters and multiply-adds are poor predictors of speed: how many pairs of networks they put into the wrong order, among
    those whose intervals do not overlap."""
    from ...roadmap.counts import count

    counts = {s.name: count(s.spec, s.input_size) for s in subjects}
    times = {name: readings[name].latency for name in counts}
    pairs = [(a, b) for a, b in combinations(counts, 2) if times[a].high < times[b].low or times[b].high < times[a].low]
    out = []
    for what, amount in (
        ("parameters", {n: c.params for n, c in counts.items()}),
        ("multiply-adds", {n: c.macs for n, c in counts.items()}),
    ):
        claim = f"{what} predict speed poorly (they order more than {POOR:.0%} of the pairs wrongly)"
        wrong = [(a, b) for a, b in pairs if (times[a].typical < times[b].typical) != (amount[a] < amount[b])]
        verdict: Verdict = "not testable"
        measured = f"{len(counts)} networks were measured, which gives {len(pairs)} pairs: too few"
        if len(pairs) >= 10:
            verdict = "holds" if len(wrong) > POOR * len(pairs) else "fails"
            a, b = max(wrong, key=lambda pair: abs(math.log(times[pair[0]].typical / times[pair[1]].typical)), default=("", ""))
            slow, fast = (a, b) if a and times[a].typical > times[b].typical else (b, a)
            worst = (
                f"; {slow} has fewer than {fast} and takes {times[slow].typical / times[fast].typical:.2f} times as long" if wrong else ""
            )
            measured = f"{len(wrong)} of {len(pairs)} pairs of {len(counts)} networks{worst}"
        out.append(
            Held(
                claim=claim,
                source="arXiv 2307.09283 and others",
                measured=measured,
                verdict=verdict,
                value=len(wrong) / len(pairs) if pairs else None,
            )
        )
    return out
