"""One canonical JSON form and its digest, for keys, hashes and chains."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# One encoder for all: `json.dumps` makes a new one for every call that is not default.
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical_json(value: Any) -> str:
    """`value` as JSON with sorted keys and no spare blanks; equal values give equal text.

    NaN and infinities are refused with ValueError: they are not JSON (RFC 8259, section 6).
    """
    return _encode(value)


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()
