"""Token mixers and channel mixers as data (no torch): the ideas that tell the systems apart."""

from __future__ import annotations
