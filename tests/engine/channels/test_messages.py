from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.channels.rig import identity, line
from zstui.engine.channels.messages import Ack, Pay, PayLine, channel_id, check_opening, read, sign_opening, take
from zstui.engine.channels.model import draft
from zstui.engine.errors import ProtocolError
from zstui.engine.identity.envelope import Envelope, seal

ME, PEER = identity(1), identity(2)
ZERO = b"\0" * 32


def forge(kind: str, body: bytes) -> bytes:
    """A well-signed envelope over any bytes."""
    return msgspec.msgpack.encode(
        Envelope(1, kind, body, ME.public_key, ME.sign(b"zs/1|" + kind.encode() + b"|" + body))
    )


def fields(**changes: Any) -> list[Any]:
    values: dict[str, Any] = {
        "ch": ZERO,
        "seq": 1,
        "cum": 5,
        "prev": ZERO,
        "peer_seq": 0,
        "peer_cum": 0,
        "peer_head": ZERO,
        "issued_ms": 1,
        "lines": [[5, ZERO, 1, 1, ZERO]],
    }
    return list((values | changes).values())


def test_a_good_pay() -> None:
    signed = take(forge("Pay", msgspec.msgpack.encode(fields())))
    assert read(signed, Pay).lines == (PayLine(5, ZERO, 1, 1, ZERO),)


@pytest.mark.parametrize(
    "changes",
    [
        {"seq": True},
        {"seq": 1.0},
        {"seq": 0},
        {"seq": -1},
        {"seq": 2**53},
        {"seq": 2**64 - 1},
        {"cum": 5.0},
        {"cum": False},
        {"cum": "5"},
        {"cum": None},
        {"ch": ZERO[:31]},
        {"ch": ZERO + b"\0"},
        {"lines": []},
        {"lines": [[0, ZERO, 1, 1, ZERO]]},
        {"lines": [[True, ZERO, 1, 1, ZERO]]},
        {"lines": [[1.5, ZERO, 1, 1, ZERO]]},
        {"lines": [[2**64 - 1, ZERO, 1, 1, ZERO]]},
        {"lines": [[-1, ZERO, 1, 1, ZERO]]},
        {"lines": [[5, ZERO, 1, 1]]},
        {"lines": [[5, ZERO, 1, 1, ZERO, 0]]},
        {"lines": [[1, ZERO, 1, 1, ZERO]] * 65},
        {"extra": 1},
    ],
)
def test_malformed_integers_and_shapes(changes: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        read(take(forge("Pay", msgspec.msgpack.encode(fields(**changes)))), Pay)


def test_an_integer_past_64_bits_is_no_integer() -> None:
    short = msgspec.msgpack.encode(fields())
    seq = short.index(b"\xc4\x20" + ZERO) + 34
    past = short[:seq] + b"\xc7\x09\x00" + b"\x01" + b"\0" * 8 + short[seq + 1 :]
    with pytest.raises(ProtocolError):
        read(take(forge("Pay", past)), Pay)


def test_only_the_shortest_encoding() -> None:
    short = msgspec.msgpack.encode(fields())
    seq = short.index(b"\xc4\x20" + ZERO) + 34
    assert short[seq] == 1
    for longer in (b"\xcc\x01", b"\xcd\0\x01", b"\xcf" + b"\0" * 7 + b"\x01", b"\xd0\x01"):
        with pytest.raises(ProtocolError, match="shortest"):
            read(take(forge("Pay", short[:seq] + longer + short[seq + 1 :])), Pay)
    raw = forge("Pay", short)
    assert raw[0] == 0x95
    with pytest.raises(ProtocolError, match="shortest"):
        take(b"\xdc\0\x05" + raw[1:])
    with pytest.raises(ProtocolError):
        take(raw + b"\0")


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ProtocolError):
        take(noise)
    with pytest.raises(ProtocolError):
        read(take(forge("Pay", noise)), Pay)


def test_signed_by_another() -> None:
    raw = seal(ME, Ack(ZERO, 0, 0, ZERO))
    broken = bytearray(raw)
    broken[-1] ^= 1
    with pytest.raises(ProtocolError, match="signature"):
        take(bytes(broken))
    with pytest.raises(ProtocolError):
        read(take(raw), Pay)


def test_the_id_covers_every_param() -> None:
    params = draft("net", ME.peer_id, PEER.peer_id, 1, b"n" * 32, 1_000, 0, 1_700_000_000_000, 3_600)
    ids = {channel_id(params)}
    for field, value in msgspec.structs.asdict(params).items():
        other = value + 1 if isinstance(value, int) else value + "x" if isinstance(value, str) else b"x" * 32
        ids.add(channel_id(msgspec.structs.replace(params, **{field: (ZERO,) if field == "witnesses" else other})))
    assert len(ids) == 1 + len(msgspec.structs.asdict(params))
    assert channel_id(params) == channel_id(msgspec.msgpack.decode(msgspec.msgpack.encode(params), type=type(params)))


def test_consent_to_a_channel() -> None:
    sig = sign_opening(ME, ZERO)
    check_opening(ME.public_key, ZERO, sig)
    for key, channel in ((PEER.public_key, ZERO), (ME.public_key, b"o" * 32)):
        with pytest.raises(ProtocolError):
            check_opening(key, channel, sig)


def test_a_full_pay_fits_a_frame() -> None:
    lines = tuple(PayLine(2**53 - 1, ZERO, 2**31 - 1, 2**53 - 1, ZERO) for _ in range(64))
    most = 2**53 - 1
    assert len(seal(ME, Pay(ZERO, most, most, ZERO, most, most, ZERO, most, lines))) < 16 * 1024
    assert line(1).amount_u == 1
