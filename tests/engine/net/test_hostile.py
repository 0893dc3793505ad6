"""Strangers with a good key who do their worst to a real node on loopback, while another peer goes on being served."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aioquic.quic import events

from tests.support.net import ECHO, BarePeer, NetNode, bare_client, bare_configuration, fails, net_node, until
from tests.support.net import make_tls_certificate as good_certificate
from zstui.engine.dht import messages as kad
from zstui.engine.dht.service import Dht
from zstui.engine.errors import Unreachable
from zstui.engine.identity.keys import Identity
from zstui.engine.net.connection import Connection
from zstui.engine.net.hints import MAX_HINTS
from zstui.engine.net.identify import PUSH_PROTOCOL, Identify, encode_identify
from zstui.engine.net.limits import MAX_STREAMS
from zstui.engine.net.link import MAX_FRAME, Stream
from zstui.engine.net.multiaddr import Multiaddr
from zstui.engine.net.multistream import HEADER, encode_line, encode_opening
from zstui.engine.net.varint import encode_varint, with_length

STREAMS = 10_000
GROWTH = 48 << 20


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[NetNode]:
    async with net_node(tmp_path) as started:
        yield started


@pytest.fixture
async def friend(node: NetNode, tmp_path: Path) -> AsyncIterator[NetNode]:
    async with net_node(tmp_path, "friend") as friend:
        await friend.net.connect(node.address)
        yield friend


@pytest.fixture
async def stranger(node: NetNode, friend: NetNode) -> AsyncIterator[BarePeer]:
    async with bare_client(node.port, bare_configuration(True, *good_certificate(Identity.generate()))) as peer:
        await until(lambda: len(node.net.connected()) == 2)
        yield peer


async def served(friend: NetNode, node: NetNode) -> bool:
    return await friend.net.request(node.id, ECHO, b"still there?", 2.0) == b"still there?"


def streams_of(node: NetNode, friend: NetNode) -> int:
    """Inbound streams that the stranger holds open."""
    (session,) = (s for peer, s in node.net._sessions.items() if peer != friend.id)
    assert isinstance(session.connection, Connection)
    return sum(session.connection._quic.is_inbound(i) for i in session.connection._streams)


async def test_slow_loris_streams_end_and_hold_up_nobody(
    node: NetNode, friend: NetNode, stranger: BarePeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many streams as are allowed, each of which says its next byte just before it would be too late."""
    monkeypatch.setattr("zstui.engine.net.router.NEGOTIATION_S", 0.4)
    opening = encode_line(HEADER)
    for at in range(10):
        for number in range(MAX_STREAMS - 2):
            stranger.quic.send_stream_data(4 * number, opening[at : at + 1])
        stranger.transmit()
        await asyncio.sleep(0.02)
        assert await served(friend, node)
    assert streams_of(node, friend) > MAX_STREAMS // 2
    await until(lambda: streams_of(node, friend) == 0)
    assert await served(friend, node)


async def test_ten_thousand_streams_leave_nothing_behind(node: NetNode, friend: NetNode, tmp_path: Path) -> None:
    """As fast as the node allows them, each with a part of a request and then dropped."""
    async with net_node(tmp_path, "stranger") as stranger:
        await stranger.net.connect(node.address)
        session = stranger.net._sessions[node.id]
        await until(lambda: session.protocols)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(STREAMS):
            stream = await stranger.net.open(node.id, ECHO)
            await stream.write_raw(b"\x20only a part")  # type: ignore[attr-defined]
            stream.reset()
            if number % 100 == 0:
                await asyncio.sleep(0)
        assert await served(friend, node)
        assert await stranger.net.request(node.id, ECHO, b"it has its places back", 60) == b"it has its places back"
        await until(lambda: streams_of(node, friend) <= 2)
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < GROWTH


async def test_more_streams_than_allowed_end_the_link(node: NetNode, friend: NetNode, stranger: BarePeer) -> None:
    stranger.quic._remote_max_streams_bidi = 2 * MAX_STREAMS
    for number in range(2 * MAX_STREAMS):
        stranger.quic.send_stream_data(4 * number, b"x")
    stranger.transmit()
    await until(stranger.ended.is_set)
    assert stranger.termination is not None
    assert stranger.termination.error_code == 4, "STREAM_LIMIT_ERROR"
    assert await served(friend, node)


async def test_oversized_frames_reset_their_stream_before_they_are_read(
    node: NetNode, friend: NetNode, stranger: BarePeer
) -> None:
    stranger.send(0, encode_opening(ECHO) + encode_varint(MAX_FRAME + 1) + bytes(1000))
    await until(lambda: any(isinstance(e, events.StreamReset) and e.stream_id == 0 for e in stranger.seen))
    stranger.send(4, encode_opening("/x" * 200))
    await until(lambda: stranger.has_ended(4))
    assert await served(friend, node)


async def test_control_characters_in_what_a_peer_says_of_itself_are_taken_out(
    node: NetNode, friend: NetNode, stranger: BarePeer
) -> None:
    said = Identify(agent="evil\x1b[2J\r\n\u202e/1.0\0" + "x" * 10_000, protocols=("/a\x1b\n", ECHO))
    stranger.send(0, encode_opening(PUSH_PROTOCOL) + with_length(encode_identify(said)), True)
    (shown,) = [view for view in node.net.views() if view.peer_id != friend.id]
    await until(lambda: node.net.view(shown.peer_id).agent)
    agent = node.net.view(shown.peer_id).agent
    assert agent.startswith("evil")
    assert agent.isprintable()
    assert len(agent) < 200


async def test_connections_are_bounded_in_total(
    node: NetNode, friend: NetNode, stranger: BarePeer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zstui.engine.net.endpoint.MAX_CONNECTIONS", 2)
    monkeypatch.setattr("zstui.engine.net.connection.HANDSHAKE_S", 0.4)
    async with net_node(tmp_path, "third") as third:
        await fails(third.net.connect(node.address), Unreachable)
    assert await served(friend, node)


async def test_a_hash_table_full_of_fake_peers_is_bounded_and_the_look_up_ends(tmp_path: Path) -> None:
    """The only contact answers each question with others that nobody is."""
    told = 0

    async def lie(stream: Stream) -> None:
        nonlocal told
        while True:
            asked = kad.read(await stream.receive())
            fakes = [Identity.generate().peer_id for _ in range(20)]
            told += len(fakes)
            nodes = tuple(kad.Node(fake, (Multiaddr("127.0.0.1", 9, fake),)) for fake in fakes)
            await stream.send(kad.encode(kad.Message(type=asked.type, key=asked.key, closer=nodes, providers=nodes)))

    async with net_node(tmp_path, "honest", start=False) as honest, net_node(tmp_path, "liar", start=False) as liar:
        dht = Dht(honest.net, honest.net.contacts, honest.db, honest.bus, honest.clock)
        liar.net.handle(kad.PROTOCOL, lie)
        await honest.net.start()
        await liar.net.start()
        await dht.start()
        await honest.net.connect(liar.address)
        await until(lambda: dht.contacts)
        for number in range(20):
            dht._addresses.learn(Identity.generate().peer_id, (Multiaddr("127.0.0.1", 9),))
            found = await dht.find_providers(bytes(31) + bytes((number,)))
            assert len(found) <= 20
        assert told >= 20 * 20
        assert dht.contacts == 1, "who has not answered is no contact"
        assert len(honest.net._reach._hints._known) <= MAX_HINTS
        assert not any(view.peer_id not in (liar.id,) for view in honest.net.views()), "and known to nobody"
        await dht.stop()
