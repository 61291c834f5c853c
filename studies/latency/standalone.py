"""What a bundle runs on the device: the protocol on exported networks, and a file of readings for `vitnas latency import`.

This file and those beside it in a bundle need Python 3.11 or later, numpy and onnxruntime.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .bursts import is_reference
from .device import Conditions, DeviceKey, LatencyError, library_versions, processor_model
from .protocol import ANEW, PROTOCOL, Effort, in_process, run_session
from .quiet import HostBusy, alone, usable_cores
from .reading import Reading, readings_of

GROUP = 12


def main(home: Path, arguments: Sequence[str] | None = None) -> int:
    """Measure the networks of the bundle in folder `home`; gives the exit code."""
    parser = argparse.ArgumentParser(prog="measure.py", description="Measure the exported networks on this device.")
    parser.add_argument("--threads", type=int, default=1, help="threads of the processor (default 1)")
    parser.add_argument("--seconds", type=float, default=2.0, help="measuring time a network (default 2)")
    parser.add_argument(
        "--out", type=Path, default=Path("readings.json"), help="file of readings, which is added to (default readings.json)"
    )
    parser.add_argument("--again", action="store_true", help="measure even what the file has readings of")
    options = parser.parse_args(arguments)
    failed: dict[str, str] = {}
    try:
        effort = Effort(seconds=options.seconds)
        before = read(options.out)
        write(options.out, before)  # said now, not after hours, where it cannot be written

        def keep(readings: Sequence[Reading]) -> None:
            write(options.out, [*before, *readings])

        measure_bundle(home, options.threads, effort, before=before, again=options.again, keep=keep, failed=failed)
    except (LatencyError, HostBusy) as error:
        print(error, file=sys.stderr)
        return 1
    for reading in read(options.out):
        latency = reading.latency
        print(f"{reading.name:32s} {latency.typical:9.3f} ms  ({latency.low:.3f} to {latency.high:.3f})")
    print(f"bring the readings back: vitnas latency import {options.out}")
    for name, why in failed.items():
        print(f"{name}: no reading: {why.replace(ANEW, 'another --out begins anew')}", file=sys.stderr)
    if failed:
        print("the same command measures these again and leaves the others as they are; another --out begins anew", file=sys.stderr)
    return 1 if failed else 0


def read(file: Path) -> list[Reading]:
    """The readings in a file that this script wrote, none where there is no file; LatencyError for any other file."""
    if not file.exists():
        return []
    try:
        data = json.loads(file.read_text())
        return [Reading.from_dict(entry) for entry in data["readings"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LatencyError(f"{file} is not a file of readings by this protocol ({error}): name another with --out") from None


def write(file: Path, readings: Sequence[Reading]) -> None:
    """Write the file of readings, whole or not at all; LatencyError where it cannot be written."""
    part = file.with_name(f"{file.name}.part")
    try:
        part.write_text(json.dumps({"protocol": PROTOCOL, "readings": [r.to_dict() for r in readings]}, indent=1))
        part.replace(file)
    except OSError as error:
        raise LatencyError(f"{file} cannot be written ({error.strerror}): name another with --out") from None


def measure_bundle(
    home: Path,
    threads: int,
    effort: Effort,
    *,
    before: Sequence[Reading] = (),
    again: bool = False,
    keep: Callable[[Sequence[Reading]], None] = lambda readings: None,
    failed: dict[str, str] | None = None,
) -> list[Reading]:
    """The readings of all networks of a bundle, the references' among them; LatencyError for a bundle of another protocol version.

    `before` are readings from earlier runs: what is known by them is not measured unless `again`, the rest is taken to their speed. `keep`
    is given all new readings after every session. With `failed`, the networks of sessions that failed are put there, with the reason, and
    the others are measured; without it the error is raised.
    """
    job: dict[str, Any] = json.loads((home / "bundle.json").read_text())
    if job["protocol"] != PROTOCOL:
        raise LatencyError(f"this bundle's networks are of protocol {job['protocol']}, its script of {PROTOCOL}: write the bundle anew")
    conditions = Conditions(**job["conditions"] | {"threads": threads})
    if threads > len(usable_cores()):
        raise LatencyError(f"threads: {threads} are asked for, this process may use {len(usable_cores())} cores")
    versions = library_versions(conditions) | job["versions"]
    networks = [Exported(n, conditions, versions) for n in job["networks"]]
    references = [n for n in networks if is_reference(n.name)]
    known = set() if again else {(r.fingerprint, r.key.hash) for r in before if r.latency.half_width <= effort.widest}
    others = [n for n in networks if not is_reference(n.name) and n.place not in known]
    out: list[Reading] = []
    earlier = [r.reference_ms for r in before if (r.fingerprint, r.key.hash) == references[0].place]
    with alone(), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in (home / "networks").iterdir():
            (folder / file.name).symlink_to(file.resolve())
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(home), os.environ.get("PYTHONPATH", ""))))
        start = in_process(folder, f"{__package__}.worker")
        while others:
            group, others = others[:GROUP], others[GROUP:]
            try:
                session = run_session([n.entry for n in (*references, *group)], conditions, effort, start, earlier=earlier, say=print)
            except LatencyError as error:
                if failed is None:
                    raise
                bad = [n for n in group if str(error).startswith((f"{n.label} ", f"{n.label}:"))]
                failed |= {n.name: str(error).replace(n.label, n.name) for n in bad or group}
                print(f"failed: {', '.join(n.name for n in bad or group)}")
                others = [*(n for n in group if n not in bad), *others] if bad else others
                continue
            earlier.append(session.reference_ms)
            out += readings_of(session, [(n.label, n.name, n.fingerprint, n.key) for n in (*references, *group)])
            keep(out)
            for n in group:
                if half := session.wide.get(n.label):
                    why = f"its interval stayed wider than ±{effort.widest:.0%} (±{half:.1%})"
                    print(f"{n.name}: no reading, {why}: measure again")
                    if failed is not None:
                        failed[n.name] = why
    return out


class Exported:
    """A network of the bundle: `name` for people, `label` in a session, its `entry` in a job, and the `key` of its readings here."""

    def __init__(self, network: Mapping[str, Any], conditions: Conditions, versions: Mapping[str, str]) -> None:
        self.name: str = network["name"]
        self.entry: dict[str, Any] = network["entry"]
        self.label: str = self.entry["name"]
        self.fingerprint: str = network["fingerprint"]
        own = replace(conditions, input_size=network["input_size"], batch=self.entry.get("batch", conditions.batch))
        self.key = DeviceKey(processor=processor_model(), versions=versions, conditions=own)

    @property
    def place(self) -> tuple[str, str]:
        """Readings with equal places are of one network under one key."""
        return self.fingerprint, self.key.hash
