"""Search spaces: every point is a network, every network has one candidate, and what is wrong with a file is said with its line."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitnas.roadmap.counts import count
from vitnas.roadmap.model import Network
from vitnas.roadmap.steps import StepError
from vitnas.roadmap.tracks import track
from vitnas.studies.recipe import TECHNIQUES
from vitnas.studies.search import space_size, spaces
from vitnas.studies.search.space import Point, Space, SpaceError
from vitnas.studies.search.space_file import load_space

torch.set_num_threads(1)  # these networks are small
OF_TRACK = {"convnext": "convnext-t", "repvit": "repvit-m0.9"}
CASES = [(n, t) for n in spaces.names() for t in ("convnext-t", "repvit-m0.9") if OF_TRACK.get(n, t) == t]
CONFLICT = """
steps: all
vary:
  widths@2: [20, 21, 24]
  expansions@2: [2, 2.5, 3]
  depths@3: [1, 2]
"""
CHAIN = ("depthwise", "inverted-bottleneck", "move-up-depthwise", "fewer-norms", "gelu")


def space(text: str, name: str = "convnext-t", scale: str = "micro") -> Space:
    return load_space(text, name, scale, classes=10)


@pytest.mark.parametrize(("name", "on"), CASES)
def test_every_drawn_point_is_a_network_that_runs(name: str, on: str) -> None:
    """Of every preset on every track that it is for: built by torch it has the parameters that were counted, and gives finite logits."""
    found = load_space(name, on, "micro", classes=10)
    rng = np.random.default_rng(0)
    for point in (found.draw(rng) for _ in range(3)):
        candidate = found.candidate(point)
        network = Network(candidate.spec).eval()
        assert sum(p.numel() for p in network.parameters()) == count(candidate.spec, candidate.input_size).params
        with torch.no_grad():
            logits = network(torch.randn(2, 3, candidate.input_size, candidate.input_size))
        assert logits.shape == (2, 10) and logits.isfinite().all()


@pytest.mark.parametrize(("name", "on"), [*CASES, ("micro", "convnext-b")])
def test_presets_load_at_full_size(name: str, on: str) -> None:
    """And have more than one network there."""
    found = load_space(name, on, "paper")
    rng = np.random.default_rng(0)
    assert len({found.candidate(found.draw(rng)).id for _ in range(8)}) > 4


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_points_of_any_space(data: st.DataObject) -> None:
    """Whatever varies: points are legal and spelled in one way, as many as `spelled` says, and neighbours are all those that one change
    leads to, or one more where the track refuses the first."""
    on = track(data.draw(st.sampled_from(["convnext-t", "repvit-m0.9"])))
    steps = [s.name for s in on.steps if s.adopted and s.owner == "network"]
    toggled = data.draw(st.lists(st.sampled_from(steps), min_size=1, max_size=4, unique=True))
    numbers = {
        "widths@2": "[20, 21, 24]",
        "expansions@2": "[2, 2.5]",
        "kernels@3": "[3, 5]",
        "mixer@3": "[conv, attention]",
        "depths@1": "[1, 2]",
    }
    varied = data.draw(st.lists(st.sampled_from(sorted(numbers)), max_size=3, unique=True))
    found = space(
        f"steps: all\ntoggle: [{', '.join(toggled)}]\nvary:\n  mixup: [off, on]\n" + "".join(f"  {n}: {numbers[n]}\n" for n in varied),
        on.name,
    )
    listed = list(found.points())
    assert len(set(listed)) == len(listed) == found.spelled()
    known, rng = set(listed), np.random.default_rng(data.draw(st.integers(0, 99)))
    point = found.draw(rng)
    assert point in known and found.canonical(dict(point)) == point
    assert found.walk(lambda name, levels: levels[int(rng.integers(len(levels)))]) in known
    near = found.neighbours(point)
    assert near and len(set(near)) == len(near) and set(near) == {p for p in listed if next_to(found, point, p)}


def next_to(found: Space, point: Point, other: Point) -> bool:
    """Whether one changed dimension makes `other` of `point`, or two do of which the one alone is refused."""
    here, there = dict(point), dict(other)
    for name in here.keys() & there.keys():
        changed = found.canonical({**here, name: there[name]})
        if here[name] != there[name] and (
            changed == other
            or (found.refusal(changed) and any(found.canonical({**dict(changed), more: there[more]}) == other for more in there))
        ):
            return True
    return False


@pytest.mark.parametrize("seed", range(2))
def test_the_networks_are_those_that_the_track_allows(seed: int) -> None:
    """All subsets of some steps that the track does not refuse, no other network, each candidate once for all its spellings."""
    on = track("convnext-t")
    extra = ("layer-norm", "separate-downsampling")[seed]
    found = space(f"toggle: [{', '.join((*CHAIN, extra))}]\nvary:\n  kernel-size: [3, 7]")
    expected = set()
    for switched in itertools.product((False, True), repeat=len(CHAIN) + 2):
        choice = {n: on.step(n).value for n, is_on in zip((*CHAIN, extra, "kernel-size"), switched, strict=True) if is_on}
        try:
            expected.add(on.spec(choice, scale="micro", classes=10).fingerprint)
        except StepError:
            continue
    candidates = [found.candidate(p) for p in found.points()]
    assert {c.spec.fingerprint for c in candidates} == expected
    assert len({c.id for c in candidates}) == len(expected) == found.distinct(np.random.default_rng(0)).value


def test_what_the_track_refuses_is_no_point() -> None:
    """21 channels times 2.5 is no width: it is neither listed, counted, drawn, next to a point nor walked to."""
    found = space(CONFLICT)
    points = list(found.points())
    assert len(points) == found.spelled() == (3 * 3 - 1) * 2
    bad = {"widths@2": "21", "expansions@2": "2.5"}
    assert all(bad.items() > dict(p).items() or not bad.items() <= dict(p).items() for p in points)
    rng = np.random.default_rng(0)
    assert {found.draw(rng) for _ in range(300)} == set(points)
    assert all(set(found.neighbours(p)) <= set(points) for p in points)
    narrow = {"widths@2": "21", "expansions@2": "2", "depths@3": "1"}
    moves = [("24", "2", "1"), ("20", "2", "1"), ("21", "3", "1"), ("21", "2", "2"), ("20", "2.5", "1"), ("24", "2.5", "1")]
    assert set(found.neighbours(found.canonical(narrow))) == {found.canonical(dict(zip(narrow, move, strict=True))) for move in moves}
    walked = found.walk(lambda name, levels: bad.get(name, levels[-1]))
    assert walked in points and dict(walked)["depths@3"] == "2", "the rest stays as it was asked for"
    with pytest.raises(SpaceError, match=r"no whole number"):
        found.candidate(found.canonical(bad))


def test_points_are_drawn_evenly() -> None:
    """Also where a dimension applies in a few of them alone."""
    found = space("toggle: [depthwise, inverted-bottleneck]\nvary:\n  kernel-size: [3, 5, 7]")
    points = list(found.points())
    assert len(points) == 1 + 2 * 3
    rng = np.random.default_rng(0)
    drawn = [found.draw(rng) for _ in range(1400)]
    assert all(150 < drawn.count(p) < 250 for p in points)


def test_kernels_apply_where_a_convolution_has_them() -> None:
    """Attention has no kernel; a strided block before it keeps its convolution, separate downsampling has none."""
    text = "steps: all,{}\nvary:\n  mixer@3: [conv, attention]\n  kernels@3: [3, 7]\n"
    with_attention = [dict(p) for p in space(text.format("gelu")).points() if dict(p)["mixer@3"] == "attention"]
    assert with_attention == [{"mixer@3": "attention"}]
    assert space(text.format("gelu")).spelled() == 3
    assert space(text.format("-separate-downsampling")).spelled() == 4


def test_equal_networks_are_one_candidate_and_others_are_not() -> None:
    """The kernels' step and the kernels' numbers spell the same network; other sizes, techniques and classes are another candidate."""
    by_step, by_number = space("steps: all\nvary:\n  kernel-size: [5, 9]"), space("steps: all\nvary:\n  kernels: [5, 9]")
    ids = [{s.candidate(p).id for p in s.points()} for s in (by_step, by_number)]
    assert ids[0] == ids[1] and len(ids[0]) == 2
    sized = space("steps: all\nvary:\n  input-size: [32, 40]\n  mixup: [off, on]")
    assert sized.distinct(np.random.default_rng(0)).value == 4
    assert len({c.spec.fingerprint for c in map(sized.candidate, sized.points())}) == 1


def test_techniques() -> None:
    """Those of the recipe step but for what varies; a technique's own level goes before its group's. A track without the step has all."""
    members = track("convnext-t").step("recipe").techniques
    found = space("steps: all,-cutmix\nvary:\n  mixup: [off, on]")
    off, on = (found.candidate(p).techniques for p in found.points())
    assert set(on) == {*members} - {"cutmix"} and set(off) == set(on) - {"mixup"}
    grouped = space("vary:\n  recipe: [off, on]\n  mixup: [off, on]")
    assert [set(grouped.candidate(p).techniques) for p in grouped.points()] == [set(), {"mixup"}, {*members} - {"mixup"}, {*members}]
    plain = space("steps: all\nvary:\n  erasing: [off, on]", "repvit-m0.9")
    assert [set(plain.candidate(p).techniques) for p in plain.points()] == [{*TECHNIQUES} - {"erasing"}, {*TECHNIQUES}]


def test_encoding_tells_points_apart_and_can_be_read_back() -> None:
    """A column for what is ordered, from 0 to 1; a column a level for the rest; the middle for what does not apply."""
    found = space(
        "steps: all\nvary:\n  mixer@3: [conv, attention, circular]\n  kernels@3: [3, 5, 7]\n  depths: [1/1/3/1, 1/2/1/1, 2/1/1/1]"
    )
    points = list(found.points())
    codes = found.encode(points)
    assert codes.shape == (len(points), 3 + 1 + 3) and len(np.unique(codes, axis=0)) == len(points)
    assert codes.min() == 0 and codes.max() == 1
    for point, row in zip(points, codes, strict=True):
        read, start = {}, 0
        for d in found.dimensions:
            part = row[start : start + (1 if d.ordered else len(d.levels))]
            start += len(part)
            if d.ordered and d.name in dict(point):
                read[d.name] = d.levels[round(float(part[0]) * (len(d.levels) - 1))]
            elif d.ordered:
                assert part[0] == 0.5
            else:
                read[d.name] = d.levels[int(part.argmax())]
        assert tuple(read.items()) == point


@pytest.mark.parametrize("seed", range(3))
def test_estimates_of_distinct_networks_hold_the_truth(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where steps are spelled in several ways: 5 kernels as numbers of two stages hide part of what the step for kernels does."""
    text = "steps: all\ntoggle: [kernel-3x3]\nvary:\n  kernels@2: [own, 3, 5]\n  kernels@4: [own, 3, 5]\n  depths@3: [1, 2, 3, 4]"
    found = space(text, "repvit-m0.9")
    truth = found.distinct(np.random.default_rng(0))
    assert truth.exact and truth.value < found.spelled()
    monkeypatch.setattr(space_size, "ENUMERABLE", 10)
    estimate = found.distinct(np.random.default_rng(seed), sample=60)
    assert not estimate.exact and estimate.low <= truth.value <= estimate.high


def test_the_range_of_work_is_that_of_all_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at one by one or found from neighbour to neighbour."""
    found = load_space("micro", "repvit-m0.9", "micro")
    macs = sorted(count((c := found.candidate(p)).spec, c.input_size).macs for p in found.points())
    listed = space_size.extremes(found, np.random.default_rng(0))
    monkeypatch.setattr(space_size, "ENUMERABLE", 10)
    searched = space_size.extremes(load_space("micro", "repvit-m0.9", "micro"), np.random.default_rng(0), sample=3)
    assert [c.macs for c in listed] == [c.macs for c in searched] == [macs[0], macs[-1]]


def test_levels_that_change_nothing_are_passed_over_and_said() -> None:
    """Two thirds of one block is one block; a step whose kernels are numbers everywhere decides nothing."""
    found = space("steps: all\ntoggle: [gelu, kernel-size]\nvary:\n  depth-factors@1: [0.67, 1, 2]\n  kernels: [3, 7]")
    assert [d.name for d in found.dimensions] == ["gelu", "kernels", "depth-factors@1"]
    assert found.dimensions[2].levels == ("1", "2")
    assert sorted(found.notes) == [
        "depth-factors@1: of 0.67, 1, 2 only 1, 2 differ in this space",
        "kernel-size passed over: it changes no network of this space",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vary: [", r"space.yaml:1: not YAML"),
        ("- gelu\n", r"space.yaml:1: a space file is a table with the keys title, tracks, steps, toggle, vary"),
        ("steps: all\nvry:\n  kernels: [3, 5]\n", r"space.yaml:2: unknown key 'vry'; did you mean vary\?"),
        ("steps: all\nsteps: none\n", r"space.yaml:2: steps is named twice"),
        ("tracks: [repvit-m0.9]\ntoggle: all\n", r"space.yaml:1: this space is of track repvit-m0.9, not convnext-t"),
        ("steps: depthwize\ntoggle: [gelu]\n", r"space.yaml:1: steps: unknown step 'depthwize'.*did you mean depthwise"),
        ("steps: kernel-size=5,kernel-size=7,depthwise\ntoggle: [gelu]\n", r"space.yaml:1: steps: kernel-size has 2 values"),
        ("steps: all\n", r"space.yaml: nothing varies, the space is empty: give toggle or vary"),
        ("steps: all\nvary:\n  depths@5: [1, 2]\n", r"space.yaml:3: depths@5: after the @ comes a stage from 1 to 4"),
        ("steps: all\nvary:\n  depht@1: [1, 2]\n", r"space.yaml:3: unknown dimension 'depht' on track convnext-t; did you mean depth"),
        ("steps: all\nvary:\n  depths@1: [1, x]\n", r"space.yaml:3: depths@1 must be numbers \(or own\), not x"),
        ("steps: all\nvary:\n  depths@1: [0, 1]\n", r"space.yaml:3: depths@1: depths must be whole numbers from 1, not 0"),
        ("steps: all\nvary:\n  depths: [1/2/3]\n", r"space.yaml:3: depths: 1/2/3 has 3 numbers, not 1 or 4"),
        ("steps: all\nvary:\n  kernels: [3, 4]\n", r"space.yaml:3: kernels: kernels must be odd"),
        ("steps: all\nvary:\n  kernels: [3, 3]\n", r"space.yaml:3: kernels: two of its levels 3, 3 are the same"),
        ("steps: all\nvary:\n  kernels: [3, 5]\n  kernels@1: [3, 5]\n", r"space.yaml:4: kernels and kernels@1 set the same"),
        ("steps: all\nvary:\n  mixer@1: [conv, windows]\n", r"space.yaml:3: mixer@1: mixer cannot be 'windows'; it can be conv, window"),
        ("steps: all\nvary:\n  gelu@1: [off, on]\n", r"space.yaml:3: gelu@1: gelu has one value for all stages"),
        ("steps: all\nvary:\n  mixup: [0, 1]\n", r"space.yaml:3: mixup: a technique is on or off, not 0"),
        ("steps: all\nvary:\n  input-size: [big, 32]\n", r"space.yaml:3: input-size must be a whole number from 1, not big"),
        ("steps: all\nvary:\n  input-size: [16, 32]\n", r"space.yaml:3: input-size: 16 is in no legal network: .* below the total stride"),
        ("vary:\n  mixer@1: [conv, window]\n  gelu: [off, on]\n", r"space.yaml:2: mixer@1 requires move-up-depthwise: put that under"),
        ("steps: all\nvary:\n  expansions: [1.01, 1.03]\n", r"space.yaml: no point is legal: .*no whole number"),
        ("steps: all\nvary:\n  kernels: {a: 1}\n", r"space.yaml:3: kernels takes one value or a list of them"),
        ("steps: all\nvary: 3\n", r"space.yaml:2: vary is a table of dimensions"),
        ("steps: all\nvary:\n  width-factor: [1, inf]\n", r"space.yaml:3: width-factor must be numbers \(or own\), not inf"),
        ("steps: all\nvary:\n  depths@12: [1, 2]\n", r"space.yaml:3: depths@12: after the @ comes a stage from 1 to 4"),
        ("steps: all\nvary:\n  ? [depths, widths]\n  : [1, 2]\n", r"space.yaml:3: a key is one word"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """With the file, the line, the key and what exists."""
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(SpaceError, match=message) as error:
        load_space(path, "convnext-t", "micro")
    assert "\n" not in str(error.value)


def test_the_documented_example() -> None:
    """It is read as it stands, and has as many networks as the page says."""
    page = (Path(__file__).parent.parent / "docs" / "spaces.md").read_text()
    example = re.search(r"<!-- run by tests/test_search_space.py -->\n```yaml\n(.*?)^```", page, re.M | re.S)
    said = re.search(r"these are ([\d,]+) networks", page)
    assert example and said
    found = space(example[1])
    assert not found.notes and f"{found.distinct(np.random.default_rng(0)).value:,}" == said[1]


def test_spaces_by_name(tmp_path: Path) -> None:
    """A preset, a path, or text; a name that is neither says what exists."""
    with pytest.raises(SpaceError, match=r"there is no space 'micros', nor a file of that name: did you mean micro\?"):
        load_space("micros", "convnext-t", "micro")
    with pytest.raises(SpaceError, match=r"cannot be read .*check the path"):
        load_space(tmp_path / "none.yaml", "convnext-t", "micro")
    (tmp_path / "mine.yaml").write_text(spaces.text("micro"))
    mine, preset = (load_space(s, "convnext-t", "micro") for s in (tmp_path / "mine.yaml", "micro"))
    assert (mine.name, preset.name) == ("mine", "micro") and list(mine.points()) == list(preset.points())
