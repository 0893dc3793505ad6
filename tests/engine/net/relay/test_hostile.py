"""A relay that lies, reads, changes and brings strangers; and strangers that talk nonsense to what serves them."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.net.relay.support import Triangle, triangle
from tests.support.net import ECHO, NetNode, fails, net_node, until
from zstui.engine.errors import AuthenticationFailed, NetError, ProtocolError, StreamClosed, ZsError
from zstui.engine.identity.keys import Identity
from zstui.engine.net.multiaddr import Multiaddr
from zstui.engine.net.reachability import AUTONAT_PROTOCOL, PEER_EVERY_S
from zstui.engine.net.relay import messages as m
from zstui.engine.net.relay.server import RelayServer
from zstui.engine.net.stream import WireStream

PLAIN = b"nobody else may read this"


def server_of(t: Triangle) -> RelayServer:
    server = t.relay.net._relaying.server
    assert server is not None
    return server


async def test_a_relay_reads_nothing_and_cannot_change_a_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with triangle(tmp_path) as t:
        await t.link()
        seen, spoil = bytearray(), False
        read_some = WireStream.read_some

        async def tapped(stream: WireStream) -> bytes:
            data = await read_some(stream)
            seen.extend(data)
            return data[:-1] + bytes([data[-1] ^ 1]) if spoil else data

        monkeypatch.setattr(WireStream, "read_some", tapped)
        assert await t.alpha.net.request(t.beta.id, ECHO, PLAIN) == PLAIN
        assert len(seen) > 2 * len(PLAIN)
        assert PLAIN not in seen
        spoil = True
        with contextlib.suppress(ZsError):
            answer = await t.alpha.net.request(t.beta.id, ECHO, PLAIN, 2.0)
            raise AssertionError(f"a changed message was taken: {answer!r}")


async def test_a_relay_that_brings_another_peer_than_asked_is_found_out(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t, net_node(tmp_path, "mallory", listen="127.0.0.4:0") as mallory:
        await mallory.net.connect(t.relay.address)
        await until(lambda: mallory.id in server_of(t).reservations)
        server = server_of(t)
        original = server._connect

        async def lie(stream: WireStream, target: str) -> None:
            await original(stream, mallory.id)

        server._connect = lie  # type: ignore[method-assign]
        error = await fails(t.alpha.net.connect(t.circuit), AuthenticationFailed)
        assert f"found {mallory.id}" in str(error)
        assert not {mallory.id, t.beta.id} & t.alpha.net.connected()


async def test_a_relay_that_announces_a_wrong_peer_is_found_out(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        server = server_of(t)
        ask = server._ask_target

        async def lie(session: Any, source_peer: str) -> WireStream:
            return await ask(session, Identity.generate().peer_id)

        server._ask_target = lie  # type: ignore[method-assign]
        with contextlib.suppress(NetError):
            await t.alpha.net.connect(t.circuit)
        await until(lambda: t.beta.id not in t.alpha.net.connected())
        assert t.alpha.id not in t.beta.net.connected()


async def test_a_voucher_of_another_relay_is_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forger = Identity.generate()
    monkeypatch.setattr(m, "seal_voucher", lambda relay, peer, expires: seal(forger, peer, expires))
    async with net_node(tmp_path, "relay", relay=True) as relay, net_node(tmp_path, "node") as node:
        await node.net.connect(relay.address)
        await until(lambda: node.net._relaying.client._not_before)
        assert node.net._relaying.client.relays() == ()


seal = m.seal_voucher


def test_a_voucher_holds_for_its_relay_and_peer_alone() -> None:
    relay, peer, other = (Identity.generate() for _ in range(3))
    voucher = m.seal_voucher(relay, peer.peer_id, 1_900_000_000)
    m.check_voucher(voucher, relay.peer_id, peer.peer_id)
    for wrong in ((other, peer), (relay, other)):
        with pytest.raises(ProtocolError):
            m.check_voucher(voucher, wrong[0].peer_id, wrong[1].peer_id)
    for at in range(0, len(voucher), 5):
        changed = voucher[:at] + bytes([voucher[at] ^ 1]) + voucher[at + 1 :]
        with pytest.raises(ProtocolError):
            m.check_voucher(changed, relay.peer_id, peer.peer_id)


@given(st.binary(max_size=300))
def test_garbage_for_a_voucher_is_refused(data: bytes) -> None:
    relay = Identity.generate()
    with pytest.raises(ProtocolError):
        m.check_voucher(data, relay.peer_id, relay.peer_id)


async def raw(node: NetNode, peer: str, protocol: str, data: bytes) -> bytes:
    """What ``peer`` answers to ``data`` on a stream of ``protocol``."""
    stream = await node.net.open(peer, protocol)
    try:
        await stream.send(data)
        await stream.close()
        return await stream.receive(3.0)
    finally:
        stream.reset()


@pytest.mark.parametrize("protocol", [m.HOP_PROTOCOL, m.STOP_PROTOCOL, m.DCUTR_PROTOCOL, AUTONAT_PROTOCOL])
async def test_nonsense_is_answered_by_a_refusal_or_the_end_of_the_stream(tmp_path: Path, protocol: str) -> None:
    async with triangle(tmp_path) as t:
        target, asker = (t.relay, t.alpha) if protocol != m.STOP_PROTOCOL else (t.beta, t.relay)
        for data in (b"", os.urandom(200), b"\x08\x01", b"\x08\xff\xff\xff\xff\x07", bytes(4096), bytes(60_000)):
            with contextlib.suppress(StreamClosed):
                await raw(asker, target.id, protocol, data)
        assert await asker.net.request(target.id, ECHO, b"alive") == b"alive"


async def test_garbage_where_noise_should_be_ends_the_circuit_alone(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        request = m.Hop(type=m.CONNECT)
        request.peer.id = m.peer_bytes(t.beta.id)
        stream = await t.alpha.net.open(t.relay.id, m.HOP_PROTOCOL)
        assert isinstance(stream, WireStream)
        await stream.send(request.SerializeToString())
        await stream.receive()
        await stream.write_raw(os.urandom(5000))
        await until(lambda: not server_of(t).circuits)
        await t.link()
        assert await t.alpha.net.request(t.beta.id, ECHO, b"x") == b"x"


async def test_a_flood_of_reservations_takes_one_place(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        request = m.Hop(type=m.RESERVE).SerializeToString()
        await asyncio.gather(*(raw(t.alpha, t.relay.id, m.HOP_PROTOCOL, request) for _ in range(100)))
        assert sorted(server_of(t).reservations) == sorted((t.alpha.id, t.beta.id))


async def test_dial_backs_go_only_to_where_the_asker_is_and_not_often(tmp_path: Path) -> None:
    async with net_node(tmp_path, "one") as one, net_node(tmp_path, "other") as other:
        await one.net.connect(other.address)
        mine, theirs = (n.net._relaying.reachability for n in (one, other))
        session = one.net._sessions[other.id]
        await until(lambda: session.observed)
        dialed: list[tuple[Any, ...]] = []
        reaches = theirs._probe.reaches

        async def note(addresses: tuple[Any, ...], peer: str) -> Any:
            dialed.append(addresses)
            return await reaches(addresses, peer)

        theirs._probe.reaches = note  # type: ignore[method-assign]
        elsewhere = Multiaddr("8.8.8.8", 53)
        mine._my_addresses = lambda: (elsewhere, *one.net.contacts.own_addresses())
        await mine.ask(session)
        assert one.net.status.seen_by()[0] == 1
        assert {a.host for a in dialed[0]} == {"127.0.0.1"}
        await mine.ask(session)
        assert len(dialed) == 1, f"refused for {PEER_EVERY_S} s"
        assert set(other.net.connected()) == {one.id}, "a dial-back leaves no link"
        assert "seen by 1 peer, " in one.net.status.reachability()


async def test_a_node_that_nobody_reaches_knows_it(tmp_path: Path) -> None:
    async with net_node(tmp_path, "one") as one, net_node(tmp_path, "other") as other:
        await one.net.connect(other.address)
        session = one.net._sessions[other.id]

        async def never(addresses: object, peer: object) -> None:
            return None

        other.net._relaying.reachability._probe.reaches = never  # type: ignore[method-assign]
        await one.net._relaying.reachability.ask(session)
        assert one.net.status.seen_by() == (0, None)
        assert one.net.status.reachability().startswith("not reached by any peer")
        assert not one.net._relaying.reachability.is_public
