"""A bundle: a folder with exported networks and a script that measures them by the same protocol where only numpy and onnxruntime are.

BUNDLE/  measure.py  bundle.json  networks/*.onnx, *.npz  vitnas_latency/  (this package's own files, as they are)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .bursts import is_reference
from .device import Conditions, LatencyError, check_installed, version_of
from .measure import Subject
from .protocol import PROTOCOL

FILES = ("bursts", "device", "estimate", "levels", "onnx_backends", "power", "protocol", "quiet", "reading", "standalone", "worker")
SCRIPT = '''"""Measure the networks of this bundle on this device: python measure.py --help (needs numpy and onnxruntime)."""

import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent
sys.path.insert(0, str(HOME))

from vitnas_latency.standalone import main

if __name__ == "__main__":
    sys.exit(main(HOME))
'''


def write_bundle(
    folder: Path,
    subjects: Sequence[Subject],
    conditions: Conditions,
    *,
    skip: Callable[[Subject, LatencyError], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[str]:
    """Write the bundle for `subjects` into `folder`, new or empty; gives the names of the networks in it. It appears whole or not at all.

    The backend is ONNX Runtime, precision and batch are those of `conditions`; threads are chosen on the device. LatencyError where a
    network cannot be exported (it names the operator); with `skip` the network is handed to it and left out.
    """
    if conditions.backend != "onnxruntime" or conditions.device != "cpu":
        raise LatencyError("backend: bundles are for onnxruntime on a processor: use --backend onnxruntime --device cpu")
    check_installed(conditions.backend)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LatencyError(f"{folder} exists and is not an empty folder: name another with --out")
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.absolute().parent) as name:
        made = Path(name) / "bundle"
        written = _write(made, subjects, conditions, skip, say)
        made.replace(folder)
    return written


def _write(
    folder: Path,
    subjects: Sequence[Subject],
    conditions: Conditions,
    skip: Callable[[Subject, LatencyError], None] | None,
    say: Callable[[str], None],
) -> list[str]:
    from .deploy import deployed_spec, references, write_candidate

    networks = folder / "networks"
    networks.mkdir(parents=True)
    entries: list[dict[str, Any]] = []

    def add(label: str, name: str, subject: Subject, batch: int) -> None:
        own = replace(conditions, input_size=subject.input_size, batch=batch)
        entry = write_candidate(networks, label, subject.spec, own) | {"batch": batch}
        fingerprint = deployed_spec(subject.spec).fingerprint
        entries.append({"entry": entry, "name": name, "fingerprint": fingerprint, "input_size": subject.input_size})

    for label, (spec, size) in references().items():
        add(label, label, Subject(name=label, spec=spec, input_size=size), 1)
    seen = set()
    for subject in subjects:
        place = (deployed_spec(subject.spec).fingerprint, subject.input_size)
        if place in seen:
            continue
        seen.add(place)
        say(f"exporting {subject.name}")
        try:
            add(f"{subject.name} {place[0]} {place[1]}", subject.name, subject, conditions.batch)
        except LatencyError as error:
            if skip is None:
                raise
            skip(subject, error)
    for leftover in networks.glob("*.pre.onnx"):
        leftover.unlink()
    job = {"protocol": PROTOCOL, "conditions": asdict(conditions), "versions": {"torch": version_of("torch") or ""}, "networks": entries}
    (folder / "bundle.json").write_text(json.dumps(job, indent=1))
    package = folder / "vitnas_latency"
    package.mkdir()
    (package / "__init__.py").write_text("")
    for name in FILES:
        (package / f"{name}.py").write_text((Path(__file__).parent / f"{name}.py").read_text())
    (folder / "measure.py").write_text(SCRIPT)
    return [e["name"] for e in entries if not is_reference(e["name"])]
