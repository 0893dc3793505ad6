"""The lines of multistream-select 1.0: each is a varint length, the text and a newline.

A dialer in the lazy form sends header, protocol and its first data in one flight. A responder sends its header at once and
answers a proposal with the same line, or with ``na``.
"""

from __future__ import annotations

from functools import lru_cache

from zstui.engine.errors import ProtocolError
from zstui.engine.net.varint import with_length

HEADER = "/multistream/1.0.0"
NOT_AVAILABLE = "na"
MAX_LINE = 256
"""Bytes of one line with its newline."""


def encode_line(text: str) -> bytes:
    return with_length(text.encode() + b"\n")


@lru_cache(maxsize=256)
def encode_opening(protocol: str) -> bytes:
    """Header and ``protocol``: what a lazy dialer sends, and a responder that speaks the protocol answers."""
    return encode_line(HEADER) + encode_line(protocol)


def decode_line(message: bytes) -> str:
    """The text of one line that came without its length. Raises ProtocolError."""
    if not message.endswith(b"\n") or len(message) > MAX_LINE:
        raise ProtocolError("Not a line of multistream-select.")
    try:
        return message[:-1].decode("ascii")
    except UnicodeDecodeError:
        raise ProtocolError("Not a line of multistream-select.") from None
