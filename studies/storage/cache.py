"""Where this machine keeps what it can bring again: working copies of object storages, and data from shared folders."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """VITNAS_CACHE, else the user's cache folder."""
    own = os.environ.get("VITNAS_CACHE")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "vitnas"
    return base.expanduser().resolve()
