"""`vitnas ui`: the server it starts and ends, and what its page shows in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.request import urlopen

import pytest
from mlflow.tracking import MlflowClient

from vitnas.studies.plan import Plan
from vitnas.studies.store import Store
from vitnas.studies.tracking.ui import serve_ui
from vitnas.studies.tracking.view import BARS, COLUMNS, view_link, view_state

from .command import environment, furnish
from .synthetic import synthetic_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SERVE = "import sys; from vitnas.studies.store import Store; from vitnas.studies.tracking.ui import serve_ui; serve_ui(Store(sys.argv[1]))"


@dataclass
class Served:
    """A running `serve_ui` on a finished study, and the link it printed."""

    plan: Plan
    store: Store
    process: subprocess.Popen[str]
    link: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`serve_ui` in a process of its own, with the link it printed."""
    furnish(root := tmp_path_factory.mktemp("ui"))
    store, plan = synthetic_study(root, seeds=2, epochs=3)
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", SERVE, str(store.root)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if "/#/" in line:
            break
    else:
        raise AssertionError("".join(said))
    yield Served(plan, store, process, said[-1].strip())
    if process.poll() is None:
        process.terminate()
        process.wait(15)


class Page(HTMLParser):
    """What of MLflow's page the tests look at: the names of runs in the order of the list, charts, bars, columns."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.runs: list[str] = []
        self.charts = self.bars = 0
        self._columns: dict[int, str] = {}
        self._link = False
        self.feed(text)
        self.columns = [self._columns[i] for i in sorted(self._columns)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        classes = (values.get("class") or "").split()
        self._link |= tag == "a" and bool(re.search(r"/runs/[0-9a-f]{32}$", values.get("href") or ""))
        self.charts += "js-plotly-plot" in classes
        self.bars += tag == "g" and "point" in classes
        if "ag-header-cell" in classes:
            self._columns[int(values.get("aria-colindex") or 0)] = values.get("col-id") or ""

    def handle_endtag(self, tag: str) -> None:
        self._link &= tag != "a"

    def handle_data(self, data: str) -> None:
        if self._link:
            self.runs.append(data)


def page(link: str, ready: Callable[[Page], bool]) -> Page:
    """The page as Chromium has it after its scripts ran, without any driver.

    Chromium's virtual time may run out before a busy server has answered: where the page is not `ready`, it is given more.
    """
    assert CHROMIUM
    quiet = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    root = ["--no-sandbox"] if os.geteuid() == 0 else []
    for seconds in (20, 40, 80, 160):
        flags = ["--headless=new", "--window-size=2600,1900", f"--virtual-time-budget={seconds * 1000}", "--dump-dom"]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            command = [CHROMIUM, *quiet, *root, *flags, f"--user-data-dir={profile}", link]
            done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
        shown = Page(done.stdout)
        if ready(shown):
            break
    return shown


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to look at the page with")
def test_the_page_shows_all_arms_in_order_and_draws_the_charts(served: Served) -> None:
    """The printed link opens on a row per arm, in the study's order, none hidden, with a bar for each in every chart."""
    names = [f"{arm.index:02d} {arm.name}" for arm in served.plan.arms]
    bars = len(BARS) * len(names) - 1  # the first arm has no delta
    shown = page(served.link, lambda p: len(p.runs) == 14 and p.bars == bars)
    assert len(names) == 14 and shown.runs == names
    assert shown.charts == len(BARS) + 1
    assert shown.bars == bars


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to look at the page with")
def test_the_table_has_the_columns_that_matter(served: Served) -> None:
    """As a table, the same view shows mean, deviation, n, delta with its interval, verdict and cost, in this order."""
    shown = page(served.link.replace("compareRunsMode=CHART", "compareRunsMode=TABLE"), lambda p: len(p.columns) >= len(COLUMNS))
    assert [c for c in shown.columns if c in COLUMNS] == list(COLUMNS)
    assert len(shown.runs) == 14


def test_with_a_server_of_ones_own_its_link_is_said(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """MLFLOW_TRACKING_URI names a server: the study is brought there, nothing is started, the link leads there."""
    store, plan = synthetic_study(tmp_path, steps="recipe", seeds=1, epochs=2)
    server = served.link.partition("/#")[0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/")
    said: list[str] = []
    serve_ui(store, say=said.append)
    name = plan.study.folder_name
    assert said == [f"{server}/{view_link('2')}\n{name}, on the server that MLFLOW_TRACKING_URI names"]
    assert capfd.readouterr().out == ""
    mlflow = MlflowClient(tracking_uri=server)
    runs = {run.info.run_name: run for run in mlflow.search_runs(["2"])}
    assert sorted(runs) == ["00 ResNet-50", "00 ResNet-50 seed 0", "01 recipe", "01 recipe seed 0", "study"]
    assert [f.path for f in mlflow.list_artifacts(runs["study"].info.run_id)] == ["plan.json", "study.yaml"]


def test_the_server_is_on_loopback_only_and_gone_with_its_group(served: Served) -> None:
    """It answers on 127.0.0.1; SIGTERM ends it and everything it started."""
    port = int(re.findall(r"127\.0\.0\.1:(\d+)/", served.link)[0])
    with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
        assert answer.status == 200
    assert listening(port) == {"0100007F"}
    group = server_group(port)
    assert len(group) >= 2
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(15) == 0
    assert served.process.stdout and "stopped" in served.process.stdout.read()
    time.sleep(0.2)
    assert not [p for p in group if alive(p)] and not listening(port)


def listening(port: int) -> set[str]:
    """Local addresses (hexadecimal, as the kernel writes them) on which something listens at `port`."""
    rows = [line.split() for file in ("tcp", "tcp6") for line in Path("/proc/net", file).read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


def server_group(port: int) -> list[int]:
    """Processes of MLflow's server at `port`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if str(port) in command and "--port" in command:
            found.append(int(folder.name))
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_taken_port_and_an_empty_store_are_refused_in_one_line(tmp_path: Path) -> None:
    """Each names the next move, before anything is started."""
    store, _ = synthetic_study(tmp_path / "full", steps="recipe", seeds=1, epochs=2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match=r"port \d+ on 127.0.0.1 is taken: give another --port"):
            serve_ui(store, port=taken.getsockname()[1])
    empty = Store(tmp_path / "empty")
    empty.prepare()
    with pytest.raises(ValueError, match=r"no studies in .*: run one first"):
        serve_ui(empty)


def test_the_prepared_view_is_short_enough() -> None:
    """Servers of MLflow 3 take 5,000 characters in an experiment's tag."""
    assert len(view_state()) <= 5000
