"""A Reading: what was measured of one network on one device, under which conditions, and how well.

This file needs the standard library and numpy: it travels in bundles.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .bursts import is_reference
from .device import DeviceKey, LatencyError
from .estimate import Latency
from .protocol import PROTOCOL, Session

Quantity = Literal["latency", "throughput"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One network on one device.

    `fingerprint` is that of the deployed network; recipe, seed and weights are not part of it. `quantity` is "throughput" where the batch
    was chosen to saturate the device. `memory_mb` is the growth of peak memory with the network, `joules` the energy of a pass; both None
    where the system does not tell. `narrow` says whether the interval became as narrow as asked. `reference_ms` is the time of the
    reference networks in the session, and `baseline` marks readings from which on later sessions are compared with it. `notes` tell of
    repeats.
    """

    fingerprint: str
    name: str
    key: DeviceKey
    latency: Latency
    quantity: Quantity = "latency"
    memory_mb: float | None = None
    joules: float | None = None
    narrow: bool
    reference_ms: float
    baseline: bool = False
    notes: tuple[str, ...] = ()
    host: str = ""
    taken: str = ""  # UTC, ISO 8601
    protocol: int = PROTOCOL

    @property
    def images_per_second(self) -> float:
        """Images a second at the key's batch."""
        return self.key.conditions.batch / self.latency.typical * 1e3

    @property
    def id(self) -> str:
        """12 hexadecimal digits of the hash of everything in it."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the reading's file."""
        return asdict(self) | {"key": self.key.to_dict(), "latency": self.latency.to_dict(), "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Reading:
        """The reading written by `to_dict`; LatencyError where it was taken by another version of the protocol or is damaged."""
        try:
            if data["protocol"] != PROTOCOL:
                raise LatencyError(
                    f"{data.get('name', 'a reading')} was measured by protocol {data['protocol']}, this is protocol {PROTOCOL}: "
                    "write a new bundle with `vitnas latency bundle` and measure again"
                )
            values = data | {"key": DeviceKey.from_dict(data["key"]), "latency": Latency(**data["latency"]), "notes": tuple(data["notes"])}
            reading = cls(**values)
            if not all(isinstance(v, int | float) and math.isfinite(v) for v in data["latency"].values()) or reading.latency.typical <= 0:
                raise LatencyError(f"the reading of {reading.name} has a time that is none: measure again")
            return reading
        except (KeyError, TypeError, AttributeError) as error:
            raise LatencyError(f"not a reading ({error}): measure again") from None


def readings_of(
    session: Session,
    networks: Sequence[tuple[str, str, str, DeviceKey]],
    *,
    quantity: Quantity = "latency",
    baseline: bool = False,
) -> list[Reading]:
    """A session's readings, none of networks whose intervals stayed too wide: `networks` are (name in the session, network's name,
    fingerprint, key)."""
    taken = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    notes = session.notes if session.pinned else (*session.notes, "the system did not let threads be pinned to cores")
    return [
        Reading(
            fingerprint=fingerprint,
            name=shown,
            key=key,
            latency=session.latencies[name],
            quantity="latency" if is_reference(name) else quantity,
            memory_mb=session.memory.get(name),
            joules=session.joules.get(name),
            narrow=session.latencies[name].half_width <= session.asked,
            reference_ms=session.reference_ms,
            baseline=baseline,
            notes=notes,
            host=platform.node(),
            taken=taken,
        )
        for name, shown, fingerprint, key in networks
        if name not in session.wide
    ]
