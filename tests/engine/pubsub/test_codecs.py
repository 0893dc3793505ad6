"""The RPC on the wire: what is written is read again, known bytes, and every byte from a peer taken as hostile."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zstui.engine.errors import ProtocolError
from zstui.engine.identity.keys import Identity, public_key_protobuf
from zstui.engine.pubsub.messages import MAX_RPC, IHave, Prune, Rpc, check, encode, read, sign
from zstui.engine.pubsub.model import MAX_DATA, Message, author_bytes, author_of

ME = Identity(bytes(32))
topics = st.text(max_size=30)
ids = st.lists(st.binary(max_size=60), max_size=5).map(tuple)
rpcs = st.builds(
    Rpc,
    subscriptions=st.lists(st.tuples(st.booleans(), topics), max_size=4).map(tuple),
    messages=st.lists(
        st.builds(Message, *[st.binary(max_size=50)] * 2, topics, *[st.binary(max_size=90)] * 3), max_size=4
    ).map(tuple),
    ihave=st.lists(st.builds(IHave, topics, ids), max_size=3).map(tuple),
    iwant=ids,
    graft=st.lists(topics, max_size=3).map(tuple),
    prune=st.lists(st.builds(Prune, topics, st.none() | st.integers(0, 2**64 - 1)), max_size=3).map(tuple),
)


def joined(frames: list[bytes]) -> Rpc:
    parts = [read(frame) for frame in frames]
    return Rpc(**{name: tuple(x for part in parts for x in getattr(part, name)) for name in Rpc.__struct_fields__})


@given(rpcs)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(rpc: Rpc) -> None:
    expected = msgspec.structs.replace(rpc, ihave=tuple(have for have in rpc.ihave if have.ids))
    assert joined(encode(rpc)) == expected


@given(st.integers(0, 3000), st.integers(0, 12))
@settings(max_examples=15, deadline=None)
def test_what_is_too_large_goes_in_several_frames(ids: int, messages: int) -> None:
    many = tuple(b"%046d" % n for n in range(ids))
    big = tuple(Message(b"a", b"%d" % n, "t", bytes(MAX_DATA)) for n in range(messages))
    rpc = Rpc(messages=big, ihave=(IHave("t", many),), iwant=many)
    frames = encode(rpc)
    assert all(len(frame) <= MAX_RPC for frame in frames)
    back = joined(frames)
    assert (back.messages, back.iwant) == (rpc.messages, rpc.iwant)
    assert tuple(i for have in back.ihave for i in have.ids) == many


@given(st.binary(max_size=400))
@example(b"\x12\x82\x01")
@example(b"\x0a\x00" * 200)
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_an_rpc_or_refused(data: bytes) -> None:
    try:
        rpc = read(data)
    except ProtocolError:
        return
    assert joined(encode(rpc)).messages == rpc.messages


def test_bounds() -> None:
    with pytest.raises(ProtocolError, match="over the limit"):
        read(bytes(MAX_RPC + 1))
    with pytest.raises(ProtocolError, match="too many entries"):
        read(b"\x12\x00" * 1025)
    with pytest.raises(ProtocolError, match="too long a name"):
        read(encode(Rpc(graft=("x" * 129,)))[0])
    with pytest.raises(ProtocolError, match="message ids"):
        read(encode(Rpc(iwant=(bytes(129),)))[0])


def test_the_bytes_are_those_of_the_specification() -> None:
    """Field numbers as in the protobuf of libp2p/specs, written out."""
    message = Message(b"\x01", b"\x03" * 8, "t", b"\x02", b"\x05", b"\x06")
    assert encode(Rpc(messages=(message,))) == [bytes.fromhex("12190a01011201021a0803030303030303032201742a0105320106")]
    assert encode(Rpc(subscriptions=((True, "t"), (False, "u")))) == [bytes.fromhex("0a0508011201740a050800120175")]
    assert encode(Rpc(ihave=(IHave("t", (b"\x09",)),))) == [bytes.fromhex("1a080a060a0174120109")]
    assert encode(Rpc(iwant=(b"\x09",))) == [bytes.fromhex("1a0512030a0109")]
    assert encode(Rpc(graft=("t",))) == [bytes.fromhex("1a051a030a0174")]
    assert encode(Rpc(prune=(Prune("t", 60),))) == [bytes.fromhex("1a0722050a0174183c")]


def test_signatures() -> None:
    message = sign(ME, 7, "t", b"data")
    assert check(message) == ME.peer_id == author_of(message.author)
    assert message.id == author_bytes(ME.peer_id) + bytes(7) + b"\x07"
    assert check(msgspec.structs.replace(message, key=public_key_protobuf(ME.public_key))) == ME.peer_id
    other = Identity(b"\x01" * 32)
    for wrong in (
        {"data": b"Data"},
        {"topic": "u"},
        {"seqno": bytes(8)},
        {"seqno": b"\x07"},
        {"author": author_bytes(other.peer_id)},
        {"author": b"\x00\x24\x08\x02"},
        {"author": b"\x12\x20" + bytes(32)},
        {"key": public_key_protobuf(other.public_key)},
        {"signature": b""},
        {"data": b""},
        {"data": bytes(MAX_DATA + 1)},
    ):
        with pytest.raises(ProtocolError):
            check(msgspec.structs.replace(message, **wrong))
