"""What a search's report, figure and MLflow tell, from plain data."""

from __future__ import annotations

from typing import Any

from vitnas.studies.report.search_figure import front_figure
from vitnas.studies.report.search_report import final_table, front_table, verdicts
from vitnas.studies.tracking.searched import networks


def test_mlflow_has_measured_costs_in_their_units() -> None:
    """With intervals where there are any; what was predicted or counted is no metric, and a published network has what it measured too."""
    costs = {
        "latency": {"value": 2.0, "low": 1.9, "high": 2.2, "how": "measured"},
        "energy": {"value": 3.0, "low": 3.0, "high": 3.0, "how": "measured"},
        "memory": {"value": 9.0, "low": 8.0, "high": 10.0, "how": "predicted"},
        "params": {"value": 1e6, "low": 1e6, "high": 1e6, "how": "counted"},
    }
    candidate = {"name": "net-000", "by": "vitnas", "front": True, "point": {"depths@3": "2"}, "costs": costs}
    final = [
        {"name": "net-000", "published": False, "winner": True, "costs": costs},
        {"name": "van-micro", "published": True, "winner": False, "costs": costs},
    ]
    found = networks({"candidates": [candidate], "final": final})
    metrics = {"latency_ms": 2.0, "latency_ms_low": 1.9, "latency_ms_high": 2.2, "energy_mj": 3.0}
    assert found["net-000"].metrics == found["van-micro"].metrics == metrics
    assert found["net-000"].params == {"space.depths.3": "2"} and found["net-000"].tags["vitnas.finalist"] == "winner"


def test_words_about_a_published_network() -> None:
    """It beats the winner beyond noise or within it, would do as well, or is behind."""
    base = {"winner": False, "published": False, "low": 89.0, "high": 91.0, "costs": {}}
    winner = {**base, "name": "net-000", "winner": True, "top1": 90.0}

    def words(top1: float) -> str:
        other = {**base, "name": "van-micro", "published": True, "top1": top1, "low": top1 - 1, "high": top1 + 1}
        record = {"final": [winner, other], "objectives": ["accuracy"], "limits": {}, "min_accuracy": None, "study": {}}
        return verdicts(record)[1]

    assert "beats the winner by 5.00 points: take it" in words(95.0)
    assert "by 1.00 points, which the noise of seeds alone could make: take it" in words(91.0)
    nobody = {"final": [winner], "objectives": ["accuracy"], "limits": {}, "min_accuracy": None, "study": {"published": "convnext-t"}}
    assert "the published convnext-t does not keep to the finalists' costs" in verdicts(nobody)[1]
    assert "it would do as well" in words(89.5) and words(80.0).endswith("10.00 points behind")


def test_a_published_network_that_the_search_found_itself() -> None:
    """Its name is said, also where it has won."""
    base = {"winner": False, "published": False, "low": 89.0, "high": 91.0, "top1": 90.0, "n": 2, "costs": {}}
    record: dict[str, Any] = {"objectives": ["accuracy"], "limits": {}, "min_accuracy": None, "study": {}}
    winner = {**base, "name": "net-000", "winner": True}
    own = {**base, "name": "net-001", "published": True, "variant": "van-micro"}
    assert verdicts({**record, "final": [winner, own]})[1].startswith("the published van-micro, trained alike")
    assert verdicts({**record, "final": [{**own, "winner": True}]})[1:] == ["it is the published van-micro"]


def test_words_about_a_published_network_under_a_least_accuracy() -> None:
    """What counts then is who reaches it, and at which cost: a network that is less accurate and faster is the better one."""

    def words(top1: float, ms: float, *, won: float = 95.0, chosen: bool = True) -> str:
        def entry(name: str, top1: float, ms: float) -> dict[str, Any]:
            cost = {"latency": {"value": ms, "low": ms - 0.1, "high": ms + 0.1, "how": "measured"}}
            return {"name": name, "top1": top1, "low": top1 - 1, "high": top1 + 1, "n": 2, "costs": cost}

        winner = {**entry("net-000", won, 2.0), "winner": chosen, "published": False}
        other = {**entry("van-micro", top1, ms), "winner": False, "published": True}
        record = {"final": [winner, other], "objectives": ["accuracy", "latency"], "limits": {}, "min_accuracy": 90.0, "study": {}}
        return verdicts(record)[1]

    assert words(91.0, 1.5).endswith("reaches 90 % on test (91.00 %) and is faster (latency 1.5 ms against 2): take it")
    assert "(latency 1.9 ms against 2, within their intervals): take it" in words(91.0, 1.9)
    assert words(99.0, 3.0).endswith("and costs no less (latency 3 ms against 2)")
    assert words(80.0, 1.0).endswith("does not reach 90 % on test (80.00 %)")
    assert words(89.5, 1.0).endswith("does not reach 90 % on test (89.50 %, within the noise of seeds)")
    assert words(91.0, 3.0, won=89.0).endswith("which the winner does not: take it")
    assert words(91.0, 3.0, chosen=False).endswith("which no network of the search does: take it")


def test_diverged_seeds_are_told() -> None:
    """Beside the mean of the others, which otherwise looks like that of all."""
    cost: dict[str, Any] = {"costs": {}, "point": {}, "front": True}
    final = {**cost, "name": "net-000", "winner": True, "published": False, "top1": 90.0, "low": 89.0, "high": 91.0, "n": 2, "diverged": 1}
    record = {
        "final": [{**final, "validation": 90.0}],
        "candidates": [final],
        "objectives": ["accuracy"],
        "limits": {},
        "min_accuracy": None,
        "study": {},
    }
    assert "net-000 diverged with 1 of 3 seeds: its top-1 is that of the others alone" in verdicts(record)
    assert final_table(record)[1][2] == front_table(record)[1][2] == "2 (1 more diverged)"


def test_the_figure_has_a_panel_a_cost_and_bars_on_both_axes() -> None:
    """Drawn from plain data; no figure where there is no cost."""
    cost = {"value": 2.0, "low": 1.9, "high": 2.2, "how": "measured"}
    entry = {"candidate": "a", "name": "net-000", "top1": 90.0, "low": 89.0, "high": 91.0, "front": True, "costs": {"latency": cost}}
    other = {**entry, "candidate": "b", "name": "net-001", "top1": 80.0, "low": 79.0, "high": 81.0, "front": False}
    record = {
        "objectives": ["accuracy", "latency"],
        "limits": {"latency": 3.0},
        "min_accuracy": None,
        "candidates": [entry, other],
        "final": [],
        "device": "a machine",
        "space": {"title": "A track"},
    }
    figure = front_figure(record)
    assert figure is not None and len(figure.axes) == 1
    assert [getattr(c, bars) for c in figure.axes[0].containers for bars in ("has_xerr", "has_yerr")] == [True] * 4
    assert front_figure({**record, "objectives": ["accuracy"]}) is None
