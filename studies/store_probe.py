"""Whether other machines see the store that this one sees: a file written here, read there, and answered.

the driver                  token = write_probe(store)
every machine that works    host = answer_probe(store.address, token)
the driver                  check_answers(store, token, hosts)
"""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Iterable
from pathlib import Path

from .store import Store, StoreError, current, read_json, remove, write_json

PATIENCE = 10.0  # seconds until what one machine wrote is seen by another


def write_probe(store: Store) -> str:
    """Leave a probe in the store, and have it locked as one that machines share from now on; gives the probe's token."""
    store.declare_shared()
    token = uuid.uuid4().hex
    write_json(_folder(store) / f"{token}.json", {"host": socket.gethostname()})
    return token


def answer_probe(address: str, token: str) -> str:
    """On a machine that is to work: find the probe in the store at `address` and answer it; gives the host's name.

    StoreError where this machine sees another store there, or none, and OSError where it may not write.
    """
    host = socket.gethostname()
    store = Store(address)
    if not _seen(_folder(store) / f"{token}.json"):
        raise StoreError(
            f"{host} does not see the driver's store at {address}: mount the same folder there under the same path, or keep the store in a "
            "bucket (--store s3://bucket/prefix)"
        )
    write_json(_folder(store) / f"{token}-{host}.json", {"host": host})
    return host


def check_answers(store: Store, token: str, hosts: Iterable[str]) -> None:
    """On the driver: that the answers of all `hosts` are here; StoreError where one is not. The probe is removed."""
    names = {host: _folder(store) / f"{token}-{host}.json" for host in hosts}
    missing = [host for host, path in names.items() if not _seen(path)]
    remove_probe(store, token)
    if missing:
        raise StoreError(
            f"what {', '.join(missing)} wrote to the store does not arrive at {store.address} here: see that it is one storage"
        )


def remove_probe(store: Store, token: str) -> None:
    """Remove a probe and all answers to it."""
    for name in store.medium.names(_folder(store)):
        if name.startswith(token):
            remove(_folder(store) / name)


def _folder(store: Store) -> Path:
    return store.root / "probes"


def _seen(path: Path) -> bool:
    give_up = time.monotonic() + PATIENCE
    while read_json(current(path)) is None:
        if time.monotonic() > give_up:
            return False
        time.sleep(0.2)
    return True
