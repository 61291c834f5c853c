"""Why MLflow cannot be used, in a few words. Its own messages run over many lines and name no remedy."""

from __future__ import annotations

import re

REASONS = (
    (r"Connection refused", "connection refused"),
    (r"timed out|Timeout", "no answer"),
    (r"NameResolution|Name or service not known|getaddrinfo", "unknown host"),
    (r"error code (\d+) != 200", r"it answers with error \1, so it may not be an MLflow server"),
    (r"filesystem tracking backend", "MLflow no longer takes plain folders: use sqlite:///FILE or a server"),
    (r"unsupported URI", "not an address that MLflow knows: use sqlite:///FILE or http://HOST:PORT"),
    (r"out-of-date database schema", "another version of MLflow made it: run `mlflow db upgrade`, or take another database"),
)


def why(error: Exception) -> str:
    """The cause of what MLflow, its server or its database raised."""
    text = str(error)
    found = next((m.expand(reason) for pattern, reason in REASONS if (m := re.search(pattern, text))), "")
    return found or " ".join(text.split("\n")[0].split())[:200] or type(error).__name__
