"""Content identifiers: CIDv1, raw codec, SHA-256, in lower-case base32 ("bafkrei...").

Sources: https://github.com/multiformats/cid and https://github.com/multiformats/multibase.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache

from zstui.engine.errors import BadInput

_PREFIX = b"\x01\x55\x12\x20"
"""Version 1, codec raw, multihash sha2-256 of 32 bytes."""
REMEMBERED = 1024
"""Each step of a job names its contents again."""


@lru_cache(maxsize=REMEMBERED)
def cid_of_digest(digest: bytes) -> str:
    """CID of content whose SHA-256 is ``digest``."""
    if len(digest) != 32:
        raise BadInput("A SHA-256 digest has 32 bytes.")
    return "b" + base64.b32encode(_PREFIX + digest).decode().rstrip("=").lower()


def cid_of(content: bytes) -> str:
    return cid_of_digest(hashlib.sha256(content).digest())


@lru_cache(maxsize=REMEMBERED)
def digest_of_cid(cid: str) -> bytes:
    """The SHA-256 inside ``cid``. Raises BadInput for any other kind of CID or a second spelling of one."""
    try:
        raw = base64.b32decode(cid[1:].upper() + "======"[: -len(cid[1:]) % 8]) if len(cid) == 59 else b""
    except ValueError:
        raw = b""
    if not raw.startswith(_PREFIX) or cid_of_digest(raw[4:]) != cid:
        raise BadInput(f"{cid[:80]!r} is not the content id of a file (CIDv1, raw, SHA-256, base32).")
    return raw[4:]
