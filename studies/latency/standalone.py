"""What a bundle runs on the device: the protocol on exported networks, and a file of readings for `vitnas latency import`.

This file and those beside it in a bundle need Python 3.11 or later, numpy and onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .bursts import is_reference
from .device import Conditions, DeviceKey, LatencyError, library_versions, processor_model
from .protocol import PROTOCOL, Effort, in_process, run_session
from .quiet import HostBusy, alone, usable_cores
from .reading import Reading, readings_of

GROUP = 12


def main(home: Path, arguments: Sequence[str] | None = None) -> int:
    """Measure the networks of the bundle in folder `home`; gives the exit code."""
    parser = argparse.ArgumentParser(prog="measure.py", description="Measure the exported networks on this device.")
    parser.add_argument("--threads", type=int, default=1, help="threads of the processor (default 1)")
    parser.add_argument("--seconds", type=float, default=2.0, help="measuring time a network (default 2)")
    parser.add_argument("--out", type=Path, default=Path("readings.json"), help="file of readings (default readings.json)")
    options = parser.parse_args(arguments)
    try:
        effort = Effort(seconds=options.seconds)
        readings = measure_bundle(home, options.threads, effort)
    except (LatencyError, HostBusy) as error:
        print(error, file=sys.stderr)
        return 1
    options.out.write_text(json.dumps({"protocol": PROTOCOL, "readings": [r.to_dict() for r in readings]}, indent=1))
    for reading in readings:
        latency = reading.latency
        print(f"{reading.name:32s} {latency.typical:9.3f} ms  ({latency.low:.3f} to {latency.high:.3f})")
    print(f"bring the readings back: vitnas latency import {options.out}")
    return 0


def measure_bundle(home: Path, threads: int, effort: Effort) -> list[Reading]:
    """The readings of all networks of a bundle, the references' among them; LatencyError for a bundle of another protocol version."""
    job: dict[str, Any] = json.loads((home / "bundle.json").read_text())
    if job["protocol"] != PROTOCOL:
        raise LatencyError(f"this bundle's networks are of protocol {job['protocol']}, its script of {PROTOCOL}: write the bundle anew")
    conditions = Conditions(**job["conditions"] | {"threads": threads})
    if threads > len(usable_cores()):
        raise LatencyError(f"threads: {threads} are asked for, this process may use {len(usable_cores())} cores")
    versions = library_versions(conditions) | job["versions"]
    networks = job["networks"]
    references = [n for n in networks if is_reference(n["name"])]
    others = [n for n in networks if not is_reference(n["name"])]
    out: list[Reading] = []
    earlier: list[float] = []
    with alone(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in (home / "networks").iterdir():
            (folder / file.name).symlink_to(file.resolve())
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(home), os.environ.get("PYTHONPATH", ""))))
        start = in_process(folder, f"{__package__}.worker")
        for i in range(0, len(others), GROUP):
            group = [*references, *others[i : i + GROUP]]
            session = run_session([n["entry"] for n in group], conditions, effort, start, earlier=earlier, say=print)
            earlier.append(session.reference_ms)
            entries = [(n["entry"]["name"], n["name"], n["fingerprint"], _key(n, conditions, versions)) for n in group]
            out += readings_of(session, entries)
            for n in group:
                if half := session.wide.get(n["entry"]["name"]):
                    print(f"{n['name']}: no reading, its interval stayed wider than ±{effort.widest:.0%} (±{half:.1%}): measure again")
    return out


def _key(network: dict[str, Any], conditions: Conditions, versions: dict[str, str]) -> DeviceKey:
    own = replace(conditions, input_size=network["input_size"], batch=network["entry"].get("batch", conditions.batch))
    return DeviceKey(processor=processor_model(), versions=versions, conditions=own)
