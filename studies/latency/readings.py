"""Readings in the store: `readings/<fingerprint>/<device key hash>/<time>-<id>.json`, only ever added to.

The time is that of arrival in the store, which orders readings: the clocks of devices are not to be relied on. Two stores merge by copying.
No torch: readings can be listed anywhere.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from ..store import Store, read_json, write_json
from .bursts import is_reference
from .device import DeviceKey, LatencyError
from .protocol import PROTOCOL
from .reading import Quantity, Reading

Need = Literal["joules", "memory_mb"]  # what a reading may lack
REFERENCES = (("mobilenetv2", 96), ("deit-ti", 64), ("repvit-m0.9", 64))  # a few milliseconds each, at an input size in pixels


def folder(store: Store) -> Path:
    """Folder of the readings."""
    return store.root / "readings"


def record(store: Store, reading: Reading) -> Path:
    """Add a reading; one that is there already stays as it is."""
    place = folder(store) / reading.fingerprint / reading.key.hash
    for there in place.glob(f"*-{reading.id}.json"):
        return there
    now = datetime.datetime.now(datetime.UTC)
    path = place / f"{now:%Y-%m-%dT%H%M%S.%fZ}-{reading.id}.json"
    write_json(path, reading.to_dict())
    return path


def known(
    store: Store,
    fingerprint: str,
    key: DeviceKey,
    *,
    widest: float = math.inf,
    since: str | None = None,
    needs: Sequence[Need] = (),
) -> Reading | None:
    """The latest reading of a network under this key, or None.

    Intervals with a half width of more than `widest` (a fraction) are passed over, and readings from before the last new baseline: they
    are at another speed of the device; so are those without one of `needs`. `since` is what `last_baseline` gives, for callers that ask
    for many networks.
    """
    return _latest(store, _read(folder(store) / fingerprint / key.hash), key, widest, since, needs)


def known_throughput(
    store: Store,
    fingerprint: str,
    key: DeviceKey,
    *,
    widest: float = math.inf,
    since: str | None = None,
    needs: Sequence[Need] = (),
) -> Reading | None:
    """As `known`, at a saturating batch, whatever that was, under a key that is this one in all else."""
    data = key.to_dict()
    found = [
        (stamp, r)
        for place in (folder(store) / fingerprint).glob("*")
        for stamp, r in _read(place)
        if r.quantity == "throughput" and _without_batch(r.key.to_dict()) == _without_batch(data)
    ]
    return _latest(store, found, key, widest, since, needs)


def last_baseline(store: Store, key: DeviceKey) -> str:
    """When the last new baseline of this device arrived, empty where there is none; batch and input size of `key` are of no account."""
    own = replace(key, conditions=replace(key.conditions, batch=1, input_size=REFERENCES[0][1]))
    places = folder(store).glob(f"*/{own.hash}")
    return max((stamp for place in places for stamp, r in _read(place) if r.baseline and is_reference(r.name)), default="")


def every(store: Store) -> list[Reading]:
    """All readings of this protocol, the latest of each network and key, by network and key."""
    return [found[-1][1] for place in sorted(folder(store).glob("*/*")) if (found := list(_read(place)))]


def history(store: Store, fingerprint: str, key: DeviceKey) -> list[Reading]:
    """All readings of a network under this key, the first to arrive first."""
    return [r for _, r in _read(folder(store) / fingerprint / key.hash)]


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


def _latest(
    store: Store, found: Iterable[tuple[str, Reading]], key: DeviceKey, widest: float, since: str | None, needs: Sequence[Need]
) -> Reading | None:
    """The last to arrive of those that are narrow enough, lack nothing that is needed, and are of the present baseline."""
    able = [(stamp, r) for stamp, r in found if r.latency.half_width <= widest and all(getattr(r, n) is not None for n in needs)]
    if not able:
        return None
    stamp, reading = max(able, key=lambda pair: pair[0])
    return reading if stamp >= (last_baseline(store, key) if since is None else since) else None


def _read(place: Path) -> Iterator[tuple[str, Reading]]:
    """The readings in a folder in the order of their arrival, each with its time; damaged ones and those of another protocol are passed
    over."""
    for path in sorted(place.glob("*.json")):
        data = read_json(path)
        if isinstance(data, dict) and data.get("protocol") == PROTOCOL:
            try:
                yield path.name.rsplit("-", 1)[0], Reading.from_dict(data)
            except LatencyError:
                continue


def _without_batch(key: dict[str, object]) -> dict[str, object]:
    conditions = key["conditions"]
    assert isinstance(conditions, dict)
    return key | {"conditions": {k: v for k, v in conditions.items() if k != "batch"}}


__all__ = [
    "REFERENCES",
    "Need",
    "Quantity",
    "earlier_sessions",
    "every",
    "history",
    "import_file",
    "known",
    "known_throughput",
    "last_baseline",
    "record",
]
