"""A study's column of latencies: which deployed network stands for which arm, under which device key, and what became of the measuring.

It is a file in the study's folder, so that a report finds the readings in the store without torch and on any machine. The readings
themselves are the store's: one network, one reading, whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from ..store import Store, read_json, write_json
from .device import DeviceKey
from .protocol import Effort
from .reading import Reading
from .readings import known

FILE = "latency.json"
WIDEST = Effort().widest  # a search's readings may be wider, and do for a search alone


@dataclass(frozen=True, kw_only=True)
class Place:
    """The network that is measured for an arm: the fingerprint of its deployment form and its input size in pixels. `arm` is the
    fingerprint of the network that the arm trains; `left_out` says why the one cannot be measured, where it cannot."""

    arm: str
    fingerprint: str
    input_size: int
    left_out: str = ""


@dataclass(frozen=True, kw_only=True)
class Column:
    """`places` are keyed by the arms' names; `key` is the device's, whose input size is of no
    account (None where it could not be asked); `of` says in words which network
    stands for an arm. `refused` says why the last measuring recorded nothing (more), where that is so."""

    key: DeviceKey | None
    of: str
    places: Mapping[str, Place] = field(default_factory=dict)
    refused: str = ""

    def reading(self, store: Store, name: str, arm: str) -> Reading | None:
        """The reading for the arm called `name`, which trains the network with the fingerprint `arm`; None where there is none yet
        that is narrow enough for a report."""
        place = self.places.get(name)
        if self.key is None or place is None or place.arm != arm:
            return None
        conditions = replace(self.key.conditions, input_size=place.input_size)
        return known(store, place.fingerprint, replace(self.key, conditions=conditions), widest=WIDEST)


def write_column(store: Store, study: str, column: Column) -> None:
    """Keep the column in the folder of `study`."""
    places = {name: asdict(place) for name, place in column.places.items()}
    key = column.key.to_dict() if column.key else None
    write_json(store.studies / study / FILE, {"key": key, "of": column.of, "places": places, "refused": column.refused})


def read_column(store: Store, study: str) -> Column | None:
    """The column of `study`, or None where nothing was measured for it or the file cannot be read."""
    data = read_json(store.studies / study / FILE)
    try:
        places = {name: Place(**place) for name, place in data["places"].items()}
        key = DeviceKey.from_dict(data["key"]) if data["key"] else None
        return Column(key=key, of=data["of"], places=places, refused=data["refused"])
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
