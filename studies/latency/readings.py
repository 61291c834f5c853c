"""Readings in the store: `readings/<fingerprint>/<device key hash>/<time>-<id>.json`, only ever added to.

Two stores merge by copying. No torch: readings can be listed anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ..store import Store, read_json, write_json
from .device import DeviceKey, LatencyError
from .protocol import PROTOCOL
from .reading import Quantity, Reading


def folder(store: Store) -> Path:
    """Folder of the readings."""
    return store.root / "readings"


def record(store: Store, reading: Reading) -> Path:
    """Add a reading; one that is there already stays as it is."""
    name = f"{reading.taken.replace(':', '').replace('+0000', 'Z')}-{reading.id}.json"
    path = folder(store) / reading.fingerprint / reading.key.hash / name
    if not path.exists():
        write_json(path, reading.to_dict())
    return path


def known(store: Store, fingerprint: str, key: DeviceKey) -> Reading | None:
    """The latest reading of a network under this key, or None."""
    return max(_read(folder(store) / fingerprint / key.hash), key=lambda r: r.taken, default=None)


def known_throughput(store: Store, fingerprint: str, key: DeviceKey) -> Reading | None:
    """The latest reading at a saturating batch, whatever that was, under a key that is this one in all else."""
    data = key.to_dict()
    found = [
        r
        for place in (folder(store) / fingerprint).glob("*")
        for r in _read(place)
        if r.quantity == "throughput" and _without_batch(r.key.to_dict()) == _without_batch(data)
    ]
    return max(found, key=lambda r: r.taken, default=None)


def every(store: Store) -> list[Reading]:
    """All readings of this protocol, the latest of each network and key, by network and key."""
    out = []
    for place in sorted(folder(store).glob("*/*")):
        latest = max(_read(place), key=lambda r: r.taken, default=None)
        out += [latest] if latest else []
    return out


def history(store: Store, fingerprint: str, key: DeviceKey) -> list[Reading]:
    """All readings of a network under this key, the earliest first."""
    return sorted(_read(folder(store) / fingerprint / key.hash), key=lambda r: r.taken)


def earlier_sessions(store: Store, fingerprint: str, key: DeviceKey) -> list[float]:
    """The references' times (ms) in earlier sessions, since the last one that began a new baseline, in order; fingerprint and key are
    those of the first reference."""
    readings = history(store, fingerprint, key)
    start = max((i for i, r in enumerate(readings) if r.baseline), default=0)
    return [r.reference_ms for r in readings[start:]]


def import_file(store: Store, path: Path) -> list[Reading]:
    """Add the readings that a bundle wrote; gives them. LatencyError for a file that is none, or of another protocol version."""
    try:
        data = json.loads(path.read_text())
        protocol, entries = data["protocol"], list(data["readings"])
    except FileNotFoundError:
        raise LatencyError(f"no file {path}: name the one that the bundle's measure.py wrote") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise LatencyError(f"{path} is not a file of readings: name the one that the bundle's measure.py wrote") from None
    if protocol != PROTOCOL:
        raise LatencyError(
            f"{path} was measured by protocol {protocol}, this is protocol {PROTOCOL}: "
            "write a new bundle with `vitnas latency bundle` and measure again"
        )
    readings = [Reading.from_dict(entry) for entry in entries]
    for reading in readings:
        record(store, reading)
    return readings


def _read(place: Path) -> Iterator[Reading]:
    """The readings in a folder; damaged ones and those of another protocol are passed over."""
    for path in sorted(place.glob("*.json")):
        data = read_json(path)
        if isinstance(data, dict) and data.get("protocol") == PROTOCOL:
            try:
                yield Reading.from_dict(data)
            except LatencyError:
                continue


def _without_batch(key: dict[str, object]) -> dict[str, object]:
    conditions = key["conditions"]
    assert isinstance(conditions, dict)
    return key | {"conditions": {k: v for k, v in conditions.items() if k != "batch"}}


__all__ = [
    "Quantity",
    "earlier_sessions",
    "every",
    "history",
    "import_file",
    "known",
    "known_throughput",
    "record",
]
