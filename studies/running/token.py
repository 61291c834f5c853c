"""Ray's token, which whoever joins a cluster of this user must show. Ray writes it for everyone on the host to read; here it is its
owner's alone."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

GIVEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")  # Ray looks there first


def token_file() -> Path:
    """Where Ray keeps a token of its own."""
    return Path.home() / ".ray" / "auth_token"


def keep_token_private() -> None:
    """Have the token's file, where there is one, be readable for its owner alone."""
    path = token_file()
    with contextlib.suppress(FileNotFoundError, PermissionError):  # another's file is not ours to mend
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def make_token() -> None:
    """Make a token for a Ray of our own, unless there is one or Ray is told to do without; Ray would write it with an open mode."""
    keep_token_private()
    path = token_file()
    if path.exists() or any(os.environ.get(name) for name in GIVEN) or os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, whole = tempfile.mkstemp(dir=path.parent)  # mode 600
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(32))
    with contextlib.suppress(FileExistsError):
        os.link(whole, path)  # never over one that others have already read
    Path(whole).unlink()
