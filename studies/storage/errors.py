"""What can go wrong with a storage, in the words that a user sees."""

from __future__ import annotations


class StoreError(ValueError):
    """The store cannot be used; the message names the next move."""


class Busy(StoreError):
    """Somebody else holds the lock."""


class LeaseLost(Busy):
    """Another process took the lock over, because this one showed no life for too long. What was to be written is not written."""


class StorageTrouble(OSError):
    """An object storage does not answer, or refuses; the message is one line with the next move."""
