"""Unsigned varints as libp2p writes them: seven bits a byte, least significant first, at most nine bytes, shortest form."""

from __future__ import annotations

from zstui.engine.errors import ProtocolError

MAX_BYTES = 9


def encode_varint(value: int) -> bytes:
    """``value`` must be in [0, 2**63)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes | bytearray, offset: int = 0) -> tuple[int, int] | None:
    """The value at ``offset`` and the offset after it; None if ``data`` ends too early. Raises ProtocolError."""
    value = 0
    for position in range(MAX_BYTES):
        if offset + position >= len(data):
            return None
        byte = data[offset + position]
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            if byte == 0 and position > 0:
                raise ProtocolError("A length that is not in its shortest form.")
            return value, offset + position + 1
    raise ProtocolError("A length over nine bytes.")


def with_length(data: bytes) -> bytes:
    """``data`` after its own length."""
    return encode_varint(len(data)) + data
