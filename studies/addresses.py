"""Addresses of servers and databases, as people may see them."""

from __future__ import annotations

import re


def public_uri(uri: str) -> str:
    """`uri` without user name and password."""
    return re.sub(r"://[^/@]*@", "://", uri)
