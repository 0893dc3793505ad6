"""Streams between two real nodes: frames, negotiation, back-pressure, and peers that misbehave."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.net import ECHO, BarePeer, NetNode, bare_client, bare_configuration, fails, net_node, until
from tests.support.net import make_tls_certificate as good_certificate
from zstui.engine.errors import (
    DeadlineExceeded,
    FrameTooLarge,
    ProtocolError,
    Refused,
    StreamClosed,
    Unreachable,
)
from zstui.engine.events import Notice
from zstui.engine.identity.keys import Identity
from zstui.engine.net.connection import Address, Connection
from zstui.engine.net.identify import ID_PROTOCOL, decode_identify
from zstui.engine.net.limits import MAX_STREAMS, SEND_BUFFER, STREAM_WINDOW
from zstui.engine.net.link import MAX_FRAME, Stream
from zstui.engine.net.multistream import HEADER, encode_line
from zstui.engine.net.session import PING_PROTOCOL
from zstui.engine.net.stream import WireStream
from zstui.engine.net.varint import encode_varint, with_length

SINK = "/test/sink/1.0.0"
ONCE = "/test/once/1.0.0"
BROKEN = "/test/broken/1.0.0"
SLOW = "/test/slow/1.0.0"


class Sink:
    """A handler that reads only when told to."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.go_on = asyncio.Event()
        self.frames = 0

    async def __call__(self, stream: Stream) -> None:
        self.stream = stream
        await self.go_on.wait()
        while True:
            await stream.receive()
            self.frames += 1


async def once(stream: Stream) -> None:
    await stream.send(await stream.receive())


async def broken(stream: Stream) -> None:
    frame = await stream.receive()
    if frame == b"bug":
        raise RuntimeError("a bug in the handler")
    raise ProtocolError("not like that")


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[NetNode, NetNode]]:
    async with net_node(tmp_path, "a", start=False) as a, net_node(tmp_path, "b", start=False) as b:
        b.net.handle(ONCE, once)
        b.net.handle(BROKEN, broken)
        await a.net.start()
        await b.net.start()
        await a.net.connect(b.address)
        await until(lambda: b.net.connected())
        yield a, b


async def test_frames_come_back_whole_and_in_order(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    stream = await a.net.open(b.id, ECHO)
    assert stream.peer == b.id
    frames = [os.urandom(n) for n in (0, 1, 127, 128, 1200, 16_383, MAX_FRAME)]
    for frame in frames:
        await stream.send(frame)
    assert [await stream.receive() for _ in frames] == frames
    await stream.close()
    await fails(stream.receive(), StreamClosed)
    assert b.streams[0].peer == a.id


async def test_a_request_is_one_frame_each_way(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    assert await a.net.request(b.id, ONCE, b"question") == b"question"
    assert await b.net.request(a.id, ECHO, b"other way") == b"other way"


async def test_many_requests_at_once(two: tuple[NetNode, NetNode]) -> None:
    """More than the streams allowed at once: the rest wait their turn."""
    a, b = two
    count = 2 * MAX_STREAMS
    answers = await asyncio.gather(*(a.net.request(b.id, ONCE, str(n).encode()) for n in range(count)))
    assert answers == [str(n).encode() for n in range(count)]


async def test_streams_leave_nothing_behind(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    for _ in range(300):
        await a.net.request(b.id, ONCE, b"x")
    await asyncio.sleep(0.1)
    for node, peer in ((a, b.id), (b, a.id)):
        connection = node.net._sessions[peer].connection
        assert isinstance(connection, Connection)
        assert len(connection._streams) <= 3, "two ping streams and at most one being closed"
        assert len(connection._quic._streams) <= 6
        assert not connection._skipped_inbound


async def test_streams_given_up_before_anything_was_sent_give_their_places_back(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    for _ in range(3):
        for _ in range(MAX_STREAMS):
            (await a.net.open(b.id, ONCE)).reset()
        assert await a.net.request(b.id, ONCE, b"there is room") == b"there is room"


async def test_what_is_written_together_travels_together(
    two: tuple[NetNode, NetNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = two
    session = a.net._sessions[b.id]
    await until(lambda: session.rtt_ms and session.protocols)
    endpoint, sent = a.net._links.endpoint, []
    send = endpoint.send

    def counted(data: bytes, to: Address, local: bytes = b"") -> OSError | None:
        sent.append(data)
        return send(data, to, local)

    monkeypatch.setattr(endpoint, "send", counted)
    answers = await asyncio.gather(*(a.net.request(b.id, ONCE, str(n).encode()) for n in range(10)))
    assert answers == [str(n).encode() for n in range(10)]
    assert len(sent) <= 4, "ten requests and the acknowledgement of their answers"


async def test_a_protocol_that_is_not_spoken_is_refused(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    assert "/test/unknown" in str(await fails(a.net.open(b.id, "/test/unknown"), Refused))
    assert await a.net.request(b.id, ONCE, b"the link still works") == b"the link still works"


async def test_a_protocol_is_refused_also_after_a_lazy_proposal(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    session = a.net._sessions[b.id]
    await until(lambda: session.protocols)
    session.protocols |= {"/test/gone"}
    stream = await a.net.open(b.id, "/test/gone")
    await stream.send(b"too early")
    await fails(stream.receive(), Refused)


async def test_open_without_any_address_is_unreachable(two: tuple[NetNode, NetNode]) -> None:
    a, _ = two
    assert "No address" in str(await fails(a.net.open(Identity.generate().peer_id, ECHO), Unreachable))


async def test_open_makes_the_link_if_there_is_none(tmp_path: Path) -> None:
    async with net_node(tmp_path, "a") as a, net_node(tmp_path, "b") as b:
        await a.net.connect(b.address)
        await a.net.disconnect(b.id, "test")
        await until(lambda: not b.net.connected())
        await b.net.disconnect(a.id, "do not dial back")
        assert a.net.connected() == frozenset()
        assert await a.net.request(b.id, ECHO, b"again") == b"again"


async def test_receive_has_a_deadline_and_loses_nothing(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    stream = await a.net.open(b.id, ECHO)
    await fails(stream.receive(0.02), DeadlineExceeded)
    await stream.send(b"late")
    assert await stream.receive() == b"late"


async def test_large_frames_are_refused_before_they_are_sent(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    stream = await a.net.open(b.id, ECHO)
    await fails(stream.send(bytes(MAX_FRAME + 1)), FrameTooLarge)
    await stream.send(b"ok")
    assert await stream.receive() == b"ok"


async def test_an_announced_large_frame_resets_the_stream(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    stream = await a.net.open(b.id, ECHO)
    assert isinstance(stream, WireStream)
    await stream.write_raw(encode_varint(MAX_FRAME + 1))
    await fails(stream.receive(), StreamClosed)
    assert await a.net.request(b.id, ONCE, b"the link still works") == b"the link still works"


async def test_after_close_nothing_can_be_sent_but_received(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    stream = await a.net.open(b.id, ONCE)
    await stream.send(b"x")
    await stream.close()
    await stream.close()
    await fails(stream.send(b"y"), StreamClosed)
    assert await stream.receive() == b"x"


async def test_reset_ends_both_sides(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    stream = await a.net.open(b.id, ECHO)
    await stream.send(b"x")
    await stream.receive()
    stream.reset()
    stream.reset()
    await fails(stream.receive(), StreamClosed)
    await fails(stream.send(b"y"), StreamClosed)
    await until(lambda: not any(isinstance(s, WireStream) and not s._read_end for s in b.streams))


async def test_a_handlers_error_resets_only_its_stream(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    stream = await a.net.open(b.id, BROKEN)
    await stream.send(b"wrong")
    await fails(stream.receive(), StreamClosed)
    assert await a.net.request(b.id, ONCE, b"fine") == b"fine"
    assert b.net.connected() == {a.id}


async def test_a_handlers_bug_is_reported_and_contained(
    two: tuple[NetNode, NetNode], caplog: pytest.LogCaptureFixture
) -> None:
    a, b = two
    notices = b.bus.subscribe(Notice)
    stream = await a.net.open(b.id, BROKEN)
    await stream.send(b"bug")
    await fails(stream.receive(), StreamClosed)
    notice = await anext(aiter(notices))
    assert "a bug in the handler" in notice.text
    assert notice.subject == a.id
    assert await a.net.request(b.id, ONCE, b"fine") == b"fine"


async def test_sending_waits_for_a_peer_that_does_not_read(tmp_path: Path) -> None:
    sink = Sink()
    async with net_node(tmp_path, "a") as a, net_node(tmp_path, "b", start=False) as b:
        b.net.handle(SINK, sink)
        await b.net.start()
        await a.net.connect(b.address)
        stream = await a.net.open(b.id, SINK)
        sent = 0

        async def pump() -> None:
            nonlocal sent
            for _ in range(100):
                await stream.send(bytes(MAX_FRAME))
                sent += 1

        task = asyncio.create_task(pump())
        await asyncio.sleep(0.4)
        assert isinstance(stream, WireStream)
        assert isinstance(sink.stream, WireStream)
        connection = a.net._sessions[b.id].connection
        assert isinstance(connection, Connection)
        held = connection._quic.unsent(stream.stream_id)
        assert held <= SEND_BUFFER + MAX_FRAME + 8
        assert len(sink.stream._inbox) <= STREAM_WINDOW
        assert sent * MAX_FRAME <= SEND_BUFFER + STREAM_WINDOW + 2 * MAX_FRAME
        assert not task.done()
        sink.go_on.set()
        await asyncio.wait_for(task, 10)
        await until(lambda: sink.frames == 100)


async def test_a_stalled_stream_does_not_hold_up_others(tmp_path: Path) -> None:
    sink = Sink()
    async with net_node(tmp_path, "a") as a, net_node(tmp_path, "b", start=False) as b:
        b.net.handle(SINK, sink)
        await b.net.start()
        await a.net.connect(b.address)
        stream = await a.net.open(b.id, SINK)
        stalled = asyncio.gather(*(stream.send(bytes(MAX_FRAME)) for _ in range(30)))
        await asyncio.sleep(0.2)
        assert await a.net.request(b.id, ECHO, b"x" * 1000) == b"x" * 1000
        stream.reset()
        await fails(stalled, StreamClosed)


async def test_a_lost_link_ends_streams_on_both_sides(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    stream = await a.net.open(b.id, ECHO)
    await stream.send(b"x")
    await stream.receive()
    waiting = asyncio.create_task(stream.receive(None))
    await asyncio.sleep(0)
    await b.net.disconnect(a.id, "enough")
    error = await fails(waiting, StreamClosed)
    assert "enough" in str(error)
    await fails(stream.send(b"y"), StreamClosed)
    await fails(b.streams[0].receive(), StreamClosed)


# --- bare peers ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[NetNode]:
    async with net_node(tmp_path) as started:
        yield started


@pytest.fixture
async def bare(node: NetNode) -> AsyncIterator[BarePeer]:
    configuration = bare_configuration(True, *good_certificate(Identity.generate()))
    async with bare_client(node.port, configuration) as peer:
        await until(lambda: node.net.connected())
        yield peer


def propose(protocol: str) -> bytes:
    return encode_line(HEADER) + encode_line(protocol)


async def test_the_responder_sends_its_header_at_once(bare: BarePeer) -> None:
    bare.send(0, encode_line(HEADER))
    await until(lambda: bare.received(0) == encode_line(HEADER))


async def test_a_dialer_may_propose_again_after_na(bare: BarePeer) -> None:
    bare.send(0, encode_line(HEADER) + encode_line("/nothing/1"))
    await until(lambda: bare.received(0) == encode_line(HEADER) + encode_line("na"))
    bare.send(0, encode_line(ECHO) + with_length(b"second try"))
    await until(lambda: bare.received(0).endswith(encode_line(ECHO) + with_length(b"second try")))


async def test_endless_proposals_end_the_stream(node: NetNode, bare: BarePeer) -> None:
    bare.send(0, encode_line(HEADER) + encode_line("/nothing/1") * 50)
    await until(lambda: bare.has_ended(0))
    assert 0 < bare.received(0).count(b"na\n") < 50
    assert node.streams == []


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100, b"\0" * 100, bytes(range(256)) * 2, b"\x7f"]
)
async def test_garbage_ends_only_its_stream(node: NetNode, bare: BarePeer, garbage: bytes) -> None:
    bare.send(0, garbage, end=True)
    bare.send(4, propose(ECHO) + with_length(b"fine"))
    await until(lambda: bare.received(4).endswith(with_length(b"fine")))
    await until(lambda: bare.has_ended(0))
    assert len(node.streams) == 1


def has_received(bare: BarePeer, stream_id: int, wanted: bytes) -> bool:
    return bare.received(stream_id) == wanted


async def test_streams_opened_out_of_order_are_each_served_once(node: NetNode, bare: BarePeer) -> None:
    for stream_id in (0, 4, 8, 12):
        bare.quic.send_stream_data(stream_id, b"")
    for stream_id in (8, 0, 12, 4):
        bare.send(stream_id, propose(ECHO) + with_length(str(stream_id).encode()))
    for stream_id in (0, 4, 8, 12):
        wanted = propose(ECHO) + with_length(str(stream_id).encode())
        await until(partial(has_received, bare, stream_id, wanted))
    assert len(node.streams) == 4


async def test_ping_is_answered_until_the_dialer_closes(bare: BarePeer) -> None:
    bare.send(0, propose(PING_PROTOCOL) + b"a" * 32)
    await until(lambda: bare.received(0).endswith(b"a" * 32))
    bare.send(0, b"b" * 16)
    bare.send(0, b"b" * 16, end=True)
    await until(lambda: bare.received(0).endswith(b"a" * 32 + b"b" * 32))
    await until(lambda: bare.has_ended(0))


async def test_identify_tells_who_we_are(node: NetNode, bare: BarePeer) -> None:
    bare.send(0, propose(ID_PROTOCOL))
    await until(lambda: bare.has_ended(0))
    data = bare.received(0).removeprefix(propose(ID_PROTOCOL))
    message = decode_identify(data[2:])
    assert message.public_key == b"\x08\x01\x12\x20" + node.identity.public_key
    assert [str(a) for a in message.listen] == [node.address.partition("/p2p/")[0]]
    assert {ECHO, ID_PROTOCOL, PING_PROTOCOL} <= set(message.protocols)
    assert message.agent.startswith("zstui/")


async def test_a_peer_that_speaks_nothing_stays_connected(node: NetNode, bare: BarePeer) -> None:
    """It never answers our streams; only the transport does. The keep-alive then gives up on it, not before."""
    await asyncio.sleep(0.2)
    assert len(node.net.connected()) == 1
    assert node.net.views()[0].rtt_ms is None
