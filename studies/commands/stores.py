"""The store that a command reads, or writes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..store import Store


def known_store(path: str) -> Store:
    """The store at `path`; ValueError where there is none."""
    from ..store import Store

    store = Store(path)
    store.refresh()
    if not store.studies.is_dir():
        raise ValueError(f"no store at {store.address}: run a study first, or name the store with --store")
    return store


def prepared_store(path: str) -> Store:
    """The store at `path`, made where there is none."""
    from ..store import Store

    store = Store(path)
    store.prepare()
    return store
