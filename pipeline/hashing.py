"""Identities and seeds as hashes of values: pure functions."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def seed_of(*parts: object) -> int:
    """A 31-bit seed from `parts`, the same in every process and run."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big") >> 1


def digest(value: Any) -> str:
    """Identity of JSON: 64 hex digits. Whole numbers of any size are as good as others."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
