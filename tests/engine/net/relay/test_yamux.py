"""Yamux between two ends in memory, in pieces of any size, and against a peer that keeps to no rule."""

from __future__ import annotations

import asyncio
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zstui.engine.errors import ProtocolError, StreamClosed
from zstui.engine.net.limits import MAX_STREAMS, SEND_BUFFER, STREAM_WINDOW
from zstui.engine.net.relay.yamux import Yamux
from zstui.engine.net.stream import WireStream

DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


class End:
    def __init__(self, *, dialed: bool) -> None:
        self.accepted: list[WireStream] = []
        self.mux = Yamux("peer", dialed=dialed, inbound=self.accepted.append, wake=lambda: None)


def pair() -> tuple[End, End]:
    return End(dialed=True), End(dialed=False)


def carry(one: End, other: End, piece: int = 1 << 30) -> None:
    """Until neither has anything to say."""
    moved = True
    while moved:
        moved = False
        for source, sink in ((one, other), (other, one)):
            data = source.mux.output(1 << 16)
            moved = moved or bool(data)
            for at in range(0, len(data), piece):
                sink.mux.receive(data[at : at + piece])


def frame(kind: int, flags: int, stream_id: int, length: int = 0, data: bytes = b"") -> bytes:
    return struct.pack(">BBHII", 0, kind, flags, stream_id, length or len(data)) + data


@settings(deadline=None)
@given(messages=st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=6), piece=st.integers(1, 4000))
async def test_what_is_sent_arrives(messages: list[bytes], piece: int) -> None:
    one, other = pair()
    streams = [one.mux.open() for _ in messages]
    for stream, message in zip(streams, messages, strict=True):
        await stream.send(message)
        await stream.close()
    carry(one, other, piece)
    got = sorted([await stream.receive() for stream in other.accepted])
    assert got == sorted(messages)
    for stream in (*streams, *other.accepted):
        await stream.close()
        stream.reset()
    carry(one, other, piece)
    assert (one.mux.streams, other.mux.streams, other.mux.unread) == (0, 0, 0)


async def test_a_reader_that_does_not_read_holds_the_writer_back() -> None:
    one, other = pair()
    stream = one.mux.open()
    total = 0

    async def pump() -> None:
        nonlocal total
        while total < 2 * STREAM_WINDOW + 2 * SEND_BUFFER:
            await stream.write_raw(bytes(16_384))
            total += 16_384

    task = asyncio.create_task(pump())
    for _ in range(200):
        await asyncio.sleep(0)
        carry(one, other)
    assert not task.done()
    assert other.mux.unread == STREAM_WINDOW
    read = 0
    while not task.done() or read < total:
        read += len(await other.accepted[0].read_some())
        carry(one, other)
        await asyncio.sleep(0)
    assert read == total
    assert other.mux.unread == 0


async def test_a_reset_is_told_and_leaves_nothing() -> None:
    one, other = pair()
    stream = one.mux.open()
    await stream.send(b"x")
    carry(one, other)
    stream.reset()
    carry(one, other)
    assert await other.accepted[0].receive() == b"x"
    with pytest.raises(StreamClosed):
        await other.accepted[0].receive()
    assert (one.mux.streams, other.mux.streams) == (0, 0)


@pytest.mark.parametrize(
    "hostile",
    [
        frame(DATA, SYN, 2),
        frame(DATA, SYN, 0),
        frame(DATA, SYN, 1) + frame(DATA, SYN, 1),
        frame(DATA, SYN, 1, STREAM_WINDOW + 1),
        frame(WINDOW, SYN, 1) + 17 * frame(DATA, 0, 1, data=bytes(16_384)),
        frame(DATA, SYN | FIN, 1) + frame(DATA, 0, 1, data=b"more"),
        b"\x01" + bytes(11),
        frame(9, 0, 1),
        frame(PING, SYN, 0) * 10_000,
    ],
)
async def test_who_keeps_to_no_rule_is_cut_off(hostile: bytes) -> None:
    end = End(dialed=False)
    with pytest.raises(ProtocolError):
        end.mux.receive(hostile)


async def test_streams_past_the_limit_are_refused_and_the_rest_go_on() -> None:
    end = End(dialed=False)
    for number in range(MAX_STREAMS + 5):
        end.mux.receive(frame(WINDOW, SYN, 1 + 2 * number))
    assert len(end.accepted) == MAX_STREAMS
    assert end.mux.output(1 << 20).count(struct.pack(">BBH", 0, WINDOW, RST)) == 5


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds(
                lambda kind, flags, number, size: (
                    frame(kind, flags, number, data=bytes(size)) if kind == 0 else frame(kind, flags, number, size)
                ),
                st.integers(0, 4),
                st.integers(0, 15),
                st.integers(0, 9),
                st.integers(0, 5000),
            ),
            st.binary(max_size=40),
        ),
        max_size=20,
    )
)
async def test_garbage_ends_the_channel_or_does_nothing(frames: list[bytes]) -> None:
    end = End(dialed=False)
    try:
        for data in frames:
            end.mux.receive(data)
            end.mux.output(1 << 16)
    except ProtocolError:
        pass
    assert end.mux.streams <= MAX_STREAMS
    end.mux.lost("over")
    assert end.mux.streams == 0
