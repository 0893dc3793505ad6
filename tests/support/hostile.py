"""What a peer that means harm could send: well-formed messages with values at the edges, and bytes that are nothing."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import msgspec
from msgspec import inspect

from zstui.engine.channels import messages as channel_messages
from zstui.engine.channels.disputes import messages as dispute_messages
from zstui.engine.guilds import messages as guild_messages
from zstui.engine.identity.card import Card
from zstui.engine.identity.envelope import Body, Envelope
from zstui.engine.identity.keys import Identity
from zstui.engine.jobs import messages as job_messages
from zstui.engine.net.link import (
    ARTIFACT_PROTOCOL,
    CARD_PROTOCOL,
    CHANNEL_PROTOCOL,
    DISPUTE_PROTOCOL,
    GUILD_PROTOCOL,
    JOB_PROTOCOL,
    MAX_FRAME,
)

NASTY = "\x1b]0;pwned\x07\x1b[2J\u202e\u0000\r\n\u200b[bold]x[/]\U000e0041"
"""Would set a terminal's title, clear it, turn text around and style it."""
INTS = (-(2**63), -1, 0, 1, 2, 64, 2**31 - 1, 2**31, 2**53 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
PROTOCOLS = (
    GUILD_PROTOCOL,
    JOB_PROTOCOL,
    CHANNEL_PROTOCOL,
    ARTIFACT_PROTOCOL,
    CARD_PROTOCOL,
    DISPUTE_PROTOCOL,
)


def edge(kind: inspect.Type, rng: random.Random, keys: tuple[bytes, ...]) -> Any:
    """A value of this type, as msgpack would carry it; within its bounds more often than not."""
    match kind:
        case inspect.BoolType():
            return rng.random() < 0.5
        case inspect.IntType(ge=low, le=high):
            least, most = -(2**63) if low is None else low, 2**64 - 1 if high is None else high
            fitting = [n for n in (*INTS, least, most) if least <= n <= most]
            return rng.choice(fitting if rng.random() < 0.99 else INTS)
        case inspect.BytesType(min_length=low, max_length=high):
            least, most = low or 0, min(high or 256, 256)
            if least <= 32 <= most and rng.random() < 0.6:
                return rng.choice(keys)
            return rng.randbytes(rng.choice((least, most)))
        case inspect.StrType(max_length=high):
            return (NASTY * rng.choice((0, 1, 8)))[:high]
        case inspect.LiteralType(values=values):
            return rng.choice(values)
        case inspect.VarTupleType(item_type=item, max_length=high):
            return [edge(item, rng, keys) for _ in range(rng.choice((0, 1, 2, min(high or 8, 64))))]
        case inspect.TupleType(item_types=items):
            return [edge(item, rng, keys) for item in items]
        case inspect.UnionType(types=types):
            return edge(rng.choice(types), rng, keys)
        case inspect.StructType(cls=cls):
            return message(cls, rng, keys)
        case _:
            return None


def message(cls: type[msgspec.Struct], rng: random.Random, keys: tuple[bytes, ...]) -> list[Any]:
    """``cls`` as the array that goes over the wire."""
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    tag = [] if info.tag is None else [info.tag]
    return [*tag, *(edge(field.type, rng, keys) for field in info.fields)]


def _structs(module: ModuleType, base: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    return [
        v
        for v in vars(module).values()
        if isinstance(v, type) and issubclass(v, base) and v is not base and v.__module__ == module.__name__
    ]


def signed(identity: Identity, kind: str, body: bytes) -> bytes:
    """An envelope whose signature is good, whatever it says."""
    signature = identity.sign(b"zs/1|" + kind.encode() + b"|" + body)
    return msgspec.msgpack.encode(Envelope(1, kind, body, identity.public_key, signature))


def shapeless(rng: random.Random) -> Iterator[bytes]:
    """Frames that no protocol knows."""
    yield from (
        b"",
        b"\x00",
        b"\xc1",
        b"\xff" * MAX_FRAME,
        b"\x91" * MAX_FRAME,
        b"\xdd\xff\xff\xff\xff",
        os.urandom(999),
    )
    yield b"\x81" * 5000 + b"\xc0"
    yield msgspec.msgpack.encode([NASTY] * 100)
    yield msgspec.msgpack.encode({NASTY: NASTY})
    for _ in range(8):
        yield rng.randbytes(rng.choice((1, 31, 400, MAX_FRAME)))


def frames(protocol: str, identity: Identity, victim: bytes, rng: random.Random, rounds: int) -> Iterator[list[bytes]]:
    """What to say on one stream after another."""
    encode = msgspec.msgpack.encode
    keys = (identity.public_key, victim, bytes(32), rng.randbytes(32))
    for frame in shapeless(rng):
        yield [frame]
    for _ in range(rounds):
        if protocol == CHANNEL_PROTOCOL:
            kinds = _structs(channel_messages, Body)
            yield [
                signed(identity, cls.__name__, encode(message(cls, rng, keys)))
                for cls in (rng.choice(kinds) for _ in range(8))
            ]
        elif protocol == DISPUTE_PROTOCOL:
            cls = rng.choice(_structs(dispute_messages, Body))
            yield [signed(identity, cls.__name__, encode(message(cls, rng, keys)))]
        elif protocol == GUILD_PROTOCOL:
            yield [encode(message(rng.choice(_structs(guild_messages, guild_messages.Frame)), rng, keys))]
        elif protocol == CARD_PROTOCOL:
            yield [signed(identity, "Card", encode(message(Card, rng, keys)))]
        else:
            kinds = _structs(job_messages, job_messages.Message)
            said = [encode([rng.random() < 0.5, encode(message(rng.choice(kinds), rng, keys))]) for _ in range(3)]
            yield [encode([rng.choice(keys), rng.choice(keys)]), *said]


def mutated(value: Any, rng: random.Random) -> Any:
    """``value`` as decoded from msgpack, with one leaf exchanged."""
    if isinstance(value, list) and value and rng.random() < 0.95:
        at = rng.randrange(len(value))
        return [*value[:at], mutated(value[at], rng), *value[at + 1 :]]
    if isinstance(value, int) and rng.random() < 0.7:
        return rng.choice(INTS)
    if isinstance(value, str) and rng.random() < 0.7:
        return rng.choice((NASTY, value * 2, "", NASTY * 5000))
    if isinstance(value, bytes) and rng.random() < 0.7:
        return rng.choice((rng.randbytes(len(value)), value[:-1], value * 2, b""))
    return rng.choice(
        (None, True, 0, 2**64 - 1, -1, float("nan"), float("inf"), "", NASTY, b"", bytes(32), [], [[]], {})
    )


def resigned(identity: Identity, raw: bytes, rng: random.Random) -> bytes:
    """A signed document with one leaf of its body exchanged, under a good signature of ``identity``."""
    document = msgspec.msgpack.decode(raw, type=Envelope)
    body = mutated(msgspec.msgpack.decode(document.body), rng)
    return signed(identity, document.type, msgspec.msgpack.encode(body))


def member_message(identity: Identity, documents: list[bytes], rng: random.Random) -> bytes:
    """One message of a job or artifact stream, before it is sealed: often with a document that was good once."""
    cls = rng.choice(_structs(job_messages, job_messages.Message))
    fields = message(cls, rng, (identity.public_key, bytes(32)))
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    for at, field in enumerate(info.fields, 1):
        if isinstance(field.type, inspect.BytesType) and rng.random() < 0.9:
            fields[at] = resigned(identity, rng.choice(documents), rng)
    return msgspec.msgpack.encode(fields)
