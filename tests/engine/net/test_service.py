"""Whole services on loopback: connecting, knowing, losing and finding peers again."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.net import (
    ECHO,
    NetNode,
    bare_configuration,
    bare_server,
    fails,
    make_tls_certificate,
    net_node,
    smaller_and_larger,
    until,
)
from zstui.engine.bus import Bus
from zstui.engine.clock import SystemClock
from zstui.engine.config import Settings
from zstui.engine.errors import BadInput, UnknownPeer, Unreachable, ZsError
from zstui.engine.events import (
    AddressesChanged,
    Event,
    PeerChanged,
    PeerConnected,
    PeerDisconnected,
)
from zstui.engine.identity.keys import Identity
from zstui.engine.net import interfaces as net_interfaces
from zstui.engine.net import limits, links, session, store
from zstui.engine.net.connection import Connection
from zstui.engine.net.link import CARD_PROTOCOL, MAX_FRAME, Network
from zstui.engine.net.model import Interface
from zstui.engine.net.peers import PeerRecord, short_id
from zstui.engine.net.service import NetService
from zstui.engine.store.database import Database


def drain(node: NetNode) -> list[Event]:
    """Events published so far."""
    found: list[Event] = list(node.events._queue)
    node.events._queue.clear()
    return found


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[NetNode, NetNode]]:
    async with net_node(tmp_path, "alpha") as a, net_node(tmp_path, "beta") as b:
        yield a, b


async def connected(a: NetNode, b: NetNode) -> None:
    """Linked both ways, with cards exchanged."""
    await until(lambda: a.net.connected() >= {b.id} and b.net.connected() >= {a.id})
    await until(lambda: a.net.card_of(b.id) and b.net.card_of(a.id))


async def test_it_is_a_network(two: tuple[NetNode, NetNode]) -> None:
    network: Network = two[0].net
    assert network.peer_id == two[0].id


async def test_connect_makes_both_sides_know_each_other(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    assert await a.net.connect(b.address) == b.id
    await connected(a, b)
    for me, other, name in ((a, b, "beta"), (b, a, "alpha")):
        (view,) = me.net.views()
        assert view == me.net.view(other.id)
        assert (view.peer_id, view.name, view.state, view.path) == (other.id, name, "online", "lan")
        assert view.address == other.address
        assert view.why == "on this machine"
        assert view.capabilities.executor
        assert view.capabilities.price_per_second_nano == 10
        assert view.first_seen_at > 1_600_000_000
        assert not me.net.is_named(other.id)
    await until(lambda: a.net.view(b.id).agent.startswith("zstui/"))
    await until(lambda: a.net.view(b.id).rtt_ms is not None)
    rtt = a.net.view(b.id).rtt_ms
    assert rtt is not None
    assert 0 < rtt < 1000
    published = drain(a)
    assert published.index(PeerConnected(b.id)) < published.index(PeerChanged(b.id))


@pytest.mark.parametrize("form", ["multiaddr", "without peer id", "host:port", "localhost", "spaces"])
async def test_forms_of_addresses(two: tuple[NetNode, NetNode], form: str) -> None:
    a, b = two
    text = {
        "multiaddr": b.address,
        "without peer id": b.address.partition("/p2p/")[0],
        "host:port": f"127.0.0.1:{b.port}",
        "localhost": f"localhost:{b.port}",
        "spaces": f"  127.0.0.1:{b.port} ",
    }[form]
    assert await a.net.connect(text) == b.id


async def test_known_peers_are_connected_by_name_and_prefix(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    await a.net.connect(b.address)
    await connected(a, b)
    for text in ("beta", "BETA", short_id(b.id), b.id[:20], b.id):
        assert a.net.resolve(text) == b.id
        assert await a.net.connect(text) == b.id


@pytest.mark.parametrize("text", ["nobody", "12D3KooWnobody", "", "a b"])
async def test_unknown_peers_are_said_so(two: tuple[NetNode, NetNode], text: str) -> None:
    await fails(two[0].net.connect(text), UnknownPeer)


@pytest.mark.parametrize("text", ["/ip4/1.2.3.4/tcp/1", "host:port", "127.0.0.1:0", "/nonsense"])
async def test_bad_addresses_are_said_so(two: tuple[NetNode, NetNode], text: str) -> None:
    await fails(two[0].net.connect(text), BadInput)


async def test_connecting_twice_keeps_one_link(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    await a.net.connect(b.address)
    await a.net.connect(f"127.0.0.1:{b.port}")
    await b.net.connect(f"127.0.0.1:{a.port}")
    await asyncio.sleep(0.1)
    assert len(a.net._links.endpoint.connections) == len(b.net._links.endpoint.connections) == 1
    assert [e for e in drain(a) if isinstance(e, PeerConnected | PeerDisconnected)] == [PeerConnected(b.id)]


@pytest.mark.parametrize("known", [True, False], ids=["multiaddr", "host and port"])
async def test_simultaneous_dials_leave_one_link(tmp_path: Path, known: bool) -> None:
    """Whichever way the datagrams cross, both sides agree on one connection, and no stream is lost with the other."""
    for round_ in range(12):
        small, large = smaller_and_larger()
        async with (
            net_node(tmp_path, f"s{round_}", identity=small) as a,
            net_node(tmp_path, f"l{round_}", identity=large) as b,
        ):
            first, second = (a, b) if round_ % 2 else (b, a)
            to_first = first.address if known else f"127.0.0.1:{first.port}"
            to_second = second.address if known else f"127.0.0.1:{second.port}"
            one = asyncio.create_task(first.net.connect(to_second))
            await asyncio.sleep(0.0004 * round_)
            other = asyncio.create_task(second.net.connect(to_first))
            assert list(await asyncio.gather(one, other)) == [second.id, first.id]
            answers = await asyncio.gather(a.net.request(b.id, ECHO, b"from a"), b.net.request(a.id, ECHO, b"from b"))
            assert list(answers) == [b"from a", b"from b"]
            await until(lambda a=a, b=b: len(open_links(a)) == len(open_links(b)) == 1)  # type: ignore[misc]
            assert PeerDisconnected not in {type(e) for e in drain(a) + drain(b)}


def open_links(node: NetNode) -> list[object]:
    return [c for c in node.net._links.endpoint.connections if not c.is_closed]


async def test_a_killed_and_restarted_peer_is_taken_back_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other side still believes in the old connection when the new one comes in."""
    small, large = smaller_and_larger()
    monkeypatch.setattr("zstui.engine.net.model.SIMULTANEOUS_S", 0.05)
    for dialer, survivor in ((small, large), (large, small)):
        async with net_node(tmp_path, "survivor", identity=survivor) as b:
            async with net_node(tmp_path, "victim", identity=dialer) as a:
                await b.net.connect(a.address)
                await until(lambda a=a: a.net.connected())  # type: ignore[misc]
                a.net._links.endpoint.send = lambda data, address, local=b"": None  # type: ignore[method-assign]
            assert b.net.connected() == {dialer.peer_id}
            await asyncio.sleep(0.06)
            async with net_node(tmp_path, "victim2", identity=dialer) as a:
                assert await a.net.connect(b.address) == b.id
                assert await a.net.request(b.id, ECHO, b"back") == b"back"
                assert await b.net.request(a.id, ECHO, b"again") == b"again"
                assert PeerDisconnected(a.id, "replaced by a newer connection") in drain(b)


# --- cards and names -------------------------------------------------------------------------------------------------


async def test_a_changed_card_is_pushed(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    await a.net.connect(b.address)
    await connected(a, b)
    await until(lambda: a.net._sessions[b.id].protocols and b.net._sessions[a.id].protocols)
    for node, other, price in ((a, b, 77), (b, a, 88)):
        drain(other)
        node.price = price
        node.net.card_changed()
        await until(lambda o=other, n=node, p=price: o.net.card_of(n.id).price_per_second_nano == p)  # type: ignore[misc]
        assert PeerChanged(node.id) in drain(other)


async def test_an_older_card_does_not_replace_a_newer_one(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    old = a.card("old name")
    await a.net.connect(b.address)
    await connected(a, b)
    await a.net.request(b.id, CARD_PROTOCOL, old)
    assert b.net.name_of(a.id) == "alpha"


async def test_a_card_of_someone_else_is_refused(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    await a.net.connect(b.address)
    await connected(a, b)
    stranger = NetNode(Identity.generate(), Settings(home=Path("/nonexistent"), name="x"), b.db)
    for forged in (stranger.card("forged"), b"garbage", bytes(MAX_FRAME)):
        stream = await a.net.open(b.id, CARD_PROTOCOL)
        await stream.send(forged)
        with pytest.raises(Exception, match="reset"):
            await stream.receive()
    assert b.net.name_of(a.id) == "alpha"
    assert {v.peer_id for v in b.net.views()} == {a.id}


async def test_a_flood_of_cards_is_cut_off(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    await a.net.connect(b.address)
    await connected(a, b)
    results = await asyncio.gather(
        *(a.net.request(b.id, CARD_PROTOCOL, a.card(f"n{i}")) for i in range(40)), return_exceptions=True
    )
    assert sum(isinstance(r, bytes) for r in results) <= 10
    assert b.net.connected() == {a.id}


async def test_names_of_mine(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    await a.net.connect(b.address)
    await connected(a, b)
    drain(a)
    await a.net.rename(b.id, "  Lab\x1b machine ")
    assert a.net.is_named(b.id)
    assert a.net.name_of(b.id) == "Lab machine"
    assert a.net.resolve("lab machine") == b.id
    assert PeerChanged(b.id) in drain(a)
    await a.net.rename(b.id, "")
    assert a.net.name_of(b.id) == "beta"
    await fails(a.net.rename(Identity.generate().peer_id, "x"), UnknownPeer)
    assert a.net.name_of(a.id) == "alpha"


# --- known peers on disk ---------------------------------------------------------------------------------------------


async def test_known_peers_survive_a_restart_and_are_dialed_again(tmp_path: Path) -> None:
    me = Identity.generate()
    async with net_node(tmp_path, "beta") as b:
        async with net_node(tmp_path, "alpha", identity=me) as a:
            await a.net.connect(b.address)
            await connected(a, b)
            await a.net.rename(b.id, "friend")
            first_seen = a.net.view(b.id).first_seen_at
        await until(lambda: not b.net.connected())
        await b.net.disconnect(me.peer_id, "b does not dial")
        async with net_node(tmp_path, "alpha", identity=me) as a:
            view = a.net.view(b.id)
            assert (view.name, view.address, view.first_seen_at) == ("friend", b.address, first_seen)
            assert view.capabilities.executor
            await until(lambda: a.net.connected())


async def test_the_store_round_trips(tmp_path: Path) -> None:
    db = await Database.open(tmp_path / "x.db", store.SCHEMA)
    named = PeerRecord("p1", "friend", "/ip4/10.0.0.1/udp/1/quic-v1", 1, 2, "agent", b"card")
    others = [PeerRecord(f"q{i}", "", "", i, i, "", None) for i in range(10)]
    await db.write(lambda tx: store.save(tx, [named, *others]))
    assert (await db.read(lambda tx: store.load(tx, 3))) == [named, others[9], others[8]]
    named.name, named.first_seen_us = "renamed", 999
    await db.write(lambda tx: store.save(tx, [named]))
    (loaded,) = await db.read(lambda tx: store.load(tx, 1))
    assert (loaded.name, loaded.first_seen_us) == ("renamed", 1), "the first sight is never changed"
    await db.write(lambda tx: store.delete(tx, ["p1"]))
    assert len(await db.read(lambda tx: store.load(tx, 100))) == 10
    await db.close()


async def test_the_table_of_peers_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zstui.engine.net.service.MAX_PEERS", 3)
    async with net_node(tmp_path, "hub") as hub:
        seen = []
        for n in range(5):
            async with net_node(tmp_path, f"n{n}") as node:
                await node.net.connect(hub.address)
                await until(lambda node=node: node.id in hub.net.connected())  # type: ignore[misc]
                seen.append(node.id)
            await until(lambda: not hub.net.connected())
        assert {v.peer_id for v in hub.net.views()} == set(seen[-3:])
        await hub.net._directory.flush()
        assert {r.peer_id for r in await hub.db.read(lambda tx: store.load(tx, 100))} == set(seen[-3:])


# --- losing and finding again ----------------------------------------------------------------------------------------


async def test_disconnect_is_polite_and_stays(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    await a.net.connect(b.address)
    await connected(a, b)
    b.refused.add(a.id)
    await b.net.disconnect(a.id, "blocked by me")
    await until(lambda: not a.net.connected())
    assert PeerDisconnected(b.id, "blocked by me") in drain(a)
    assert a.net.view(b.id).why == "blocked by me"
    assert b.net.view(a.id).state == "blocked"
    await asyncio.sleep(0.7)
    assert not a.net.connected()
    await b.net.disconnect(Identity.generate().peer_id, "nobody")


async def test_a_static_peer_is_dialed_when_it_comes(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    async with net_node(tmp_path, "a", peers=(f"127.0.0.1:{port}",)) as a:
        await asyncio.sleep(0.05)
        async with net_node(tmp_path, "b", listen=f"127.0.0.1:{port}") as b:
            await until(lambda: b.id in a.net.connected())
        await until(lambda: not a.net.connected())
        async with net_node(tmp_path, "b", listen=f"127.0.0.1:{port}", identity=b.identity) as b2:
            await until(lambda: b2.id in a.net.connected())


async def test_a_static_peer_that_cannot_be_reached_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zstui.engine.net.connection.HANDSHAKE_S", 0.1)
    unknown = Identity.generate().peer_id
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        peers = (f"127.0.0.1:{port}", f"/ip4/127.0.0.1/udp/{port}/quic-v1/p2p/{unknown}")
        async with net_node(tmp_path, "a", peers=peers) as a:
            await until(lambda: a.net.status.notices())
            assert "Not connected to /ip4/127.0.0.1" in a.net.status.notices()[0]
            await until(lambda: "No answer" in a.net.view(unknown).why)
            assert a.net.view(unknown).state in ("connecting", "offline")


async def test_a_lost_link_is_made_again_by_either_side(two: tuple[NetNode, NetNode]) -> None:
    a, b = two
    await a.net.connect(b.address)
    await connected(a, b)
    for node, other in ((a, b), (b, a)):
        connection = node.net._sessions[other.id].connection
        connection.close(reason="cable")
        await until(lambda o=other, n=node: o.id in n.net.connected() and n.id in o.net.connected())  # type: ignore[misc]
        assert await a.net.request(b.id, ECHO, b"x") == b"x"


async def test_a_dead_link_is_noticed(two: tuple[NetNode, NetNode], monkeypatch: pytest.MonkeyPatch) -> None:
    assert limits.PING_EVERY_S + limits.PING_TIMEOUT_S < 10
    monkeypatch.setattr(session, "PING_EVERY_S", 0.1)
    monkeypatch.setattr(session, "PING_TIMEOUT_S", 0.3)
    a, b = two
    await a.net.connect(b.address)
    await connected(a, b)
    b.net._links.endpoint.send = lambda data, address, local=b"": None  # type: ignore[method-assign]
    await until(lambda: not a.net.connected())
    assert PeerDisconnected(b.id, "no answer to pings") in drain(a)
    assert a.net.view(b.id).why == "no answer to pings"


async def test_round_trips_are_kept(two: tuple[NetNode, NetNode], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PING_EVERY_S", 0.01)
    a, b = two
    await a.net.connect(b.address)
    await until(lambda: a.net.connected() and len(a.net.view(b.id).rtt_history_ms) == limits.RTT_HISTORY)
    view = a.net.view(b.id)
    assert view.rtt_ms == view.rtt_history_ms[-1]
    await asyncio.sleep(0.1)
    assert len(a.net.view(b.id).rtt_history_ms) == limits.RTT_HISTORY
    assert len(b.streams) == 0


async def test_a_peer_without_our_protocols_is_kept_by_the_keep_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener that answers "na" to all is alive; one that answers nothing at all is dropped in the end."""
    monkeypatch.setattr(session, "PING_TIMEOUT_S", 0.3)
    async with net_node(tmp_path, "a") as a:
        configuration = bare_configuration(False, *make_tls_certificate(Identity.generate()))
        async with bare_server(configuration) as (port, accepted):
            peer = await a.net.connect(f"127.0.0.1:{port}")
            assert a.net.view(peer).capabilities.executor is False
            await until(lambda: not a.net.connected())
            assert accepted[0].received(0) != b""


# --- addresses -------------------------------------------------------------------------------------------------------


async def test_a_port_in_use_is_replaced_and_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with net_node(tmp_path, "a", listen=f"127.0.0.1:{port}") as a:
            assert a.port != port
            assert a.net.status.notices() == (f"UDP port {port} is in use; using {a.port}.",)
            assert a.net.status.describe().endswith(f"127.0.0.1:{a.port} ok")


async def test_a_wildcard_advertises_real_addresses(tmp_path: Path) -> None:
    async with net_node(tmp_path, "a", listen="0.0.0.0:0") as a, net_node(tmp_path, "b") as b:
        assert a.net.addresses()
        assert not any("0.0.0.0" in address for address in a.net.addresses())
        assert await b.net.connect(f"127.0.0.1:{a.port}") == a.id
        assert AddressesChanged() in drain(a)


async def test_without_a_network_it_starts_says_why_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zstui.engine.net.presence.WATCH_S", 0.05)
    no_such = "192.0.2.123"
    async with net_node(tmp_path, "a", listen=f"{no_such}:0") as a:
        assert a.net.addresses() == ()
        assert "cannot listen on 192.0.2.123" in a.net.status.describe()
        await fails(a.net.connect("127.0.0.1:9"), Unreachable)
        drain(a)
        a.net._presence._host = "127.0.0.1"  # the address appears
        await until(lambda: a.net.addresses())
        assert "127.0.0.1" in a.net.status.describe()
        assert AddressesChanged() in drain(a)
        async with net_node(tmp_path, "b") as b:
            assert await b.net.connect(a.address) == a.id


async def test_a_wildcard_serves_both_families_on_one_port(tmp_path: Path) -> None:
    async with (
        net_node(tmp_path, "a", listen="0.0.0.0:0") as a,
        net_node(tmp_path, "b") as b,
        net_node(tmp_path, "c", listen="[::1]:0") as c,
    ):
        assert await b.net.connect(f"127.0.0.1:{a.port}") == a.id
        assert await c.net.connect(f"[::1]:{a.port}") == a.id
        await until(lambda: a.net.connected() == {b.id, c.id})
        await fails(b.net.connect(f"[::1]:{c.port}"), Unreachable)


@pytest.mark.skipif(sys.platform != "linux", reason="needs the whole of 127.0.0.0/8 on loopback")
async def test_a_machine_with_several_addresses_answers_from_the_one_that_was_asked(tmp_path: Path) -> None:
    async with net_node(tmp_path, "a", listen="0.0.0.0:0") as a, net_node(tmp_path, "b") as b:
        assert await b.net.connect(f"127.0.0.2:{a.port}") == a.id
        assert b.net.view(a.id).address.startswith("/ip4/127.0.0.2/")
        assert await b.net.request(a.id, ECHO, b"x") == b"x"
        (inbound,) = a.net._links.endpoint.connections
        inbound._local = bytes((0, 0, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0))
        inbound.transmit()
        assert await b.net.request(a.id, ECHO, b"x") == b"x", "an address that is gone is not insisted on"


async def test_ipv6(tmp_path: Path) -> None:
    """A node listens on one address family; IPv6 works like IPv4."""
    if not any(i.ip == "::1" for i in net_interfaces.list_interfaces()):
        pytest.skip("this machine has no IPv6")
    async with net_node(tmp_path, "a", listen="[::1]:0") as a, net_node(tmp_path, "b", listen="[::1]:0") as b:
        assert b.address.startswith("/ip6/::1/udp/")
        assert await a.net.connect(b.address) == b.id
        assert await b.net.request(a.id, ECHO, b"six") == b"six"
        assert a.net.view(b.id).path == "lan"
        await a.net.disconnect(b.id, "again")
        assert await a.net.connect(f"[::1]:{b.port}") == b.id
        await fails(a.net.connect("127.0.0.1:4433"), Unreachable)


async def test_changed_interfaces_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zstui.engine.net.presence.WATCH_S", 0.02)
    real = net_interfaces.list_interfaces()
    shown = [real]
    monkeypatch.setattr("zstui.engine.net.presence.list_interfaces", lambda: shown[0])
    async with net_node(tmp_path, "a", listen="0.0.0.0:0") as a:
        drain(a)
        shown[0] = (Interface("wlan0", "10.7.7.7", 24), *(i for i in real if i.is_loopback))
        await until(lambda: "10.7.7.7" in "".join(a.net.addresses()))
        assert a.net.status.describe() == f"wlan0 10.7.7.7:{a.port} ok"
        assert AddressesChanged() in drain(a)
        shown[0] = tuple(i for i in real if i.is_loopback)
        await until(lambda: "only this machine" in a.net.status.describe())
        shown[0] = ()
        await until(lambda: "no IP address" in a.net.status.describe())
        assert a.net.addresses() == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [("listen", "nonsense"), ("listen", "example.org:1"), ("listen", "127.0.0.1:70000"), ("peers", ("nonsense",))],
)
async def test_bad_settings_are_said_so(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(BadInput):
        async with net_node(tmp_path, "a", start=False, **{field: value}):
            pass


async def test_unreachable_addresses_fail_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zstui.engine.net.connection.HANDSHAKE_S", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        async with net_node(tmp_path, "a") as a:
            port = deaf.getsockname()[1]
            assert "No answer" in str(await fails(a.net.connect(f"127.0.0.1:{port}"), Unreachable))
            await fails(a.net.connect("[::1]:4433"), Unreachable)
            await fails(a.net.connect("no-such-host.invalid:4433"), Unreachable)


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_inbound_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zstui.engine.net.endpoint.MAX_CONNECTIONS_PER_ADDRESS", 2)
    monkeypatch.setattr("zstui.engine.net.connection.HANDSHAKE_S", 0.4)
    async with (
        net_node(tmp_path, "hub") as hub,
        net_node(tmp_path, "a") as a,
        net_node(tmp_path, "b") as b,
        net_node(tmp_path, "c") as c,
    ):
        await a.net.connect(hub.address)
        await b.net.connect(hub.address)
        await fails(c.net.connect(hub.address), Unreachable)
        await a.net.disconnect(hub.id, "make room")
        await hub.net.disconnect(a.id, "make room")
        assert await c.net.connect(hub.address) == hub.id


async def test_under_load_addresses_are_validated_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Retry a dial takes one more round trip and succeeds all the same."""
    monkeypatch.setattr("zstui.engine.net.endpoint.RETRY_ABOVE", 0)
    async with net_node(tmp_path, "hub") as hub, net_node(tmp_path, "a") as a:
        retries = 0
        send_retry = hub.net._links.endpoint._send_retry

        def counting(*arguments: object) -> None:
            nonlocal retries
            retries += 1
            send_retry(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(hub.net._links.endpoint, "_send_retry", counting)
        assert await a.net.connect(hub.address) == hub.id
        assert retries == 1


async def test_half_open_connections_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zstui.engine.net.connection.HANDSHAKE_S", 1.5)
    monkeypatch.setattr("zstui.engine.net.endpoint.MAX_HALF_OPEN", 5)
    async with net_node(tmp_path, "hub") as hub:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as flood:
            for n in range(50):
                initial = b"\xc3\x00\x00\x00\x01\x08" + n.to_bytes(8, "big") + b"\x08" + bytes(8) + b"\x00\x44\xb0"
                flood.sendto(initial.ljust(1250, b"\x55"), ("127.0.0.1", hub.port))
            await until(lambda: len(hub.net._links.endpoint.connections) == 5)
        await until(lambda: not hub.net._links.endpoint.connections)
        assert not hub.net._links.endpoint._by_id
        assert not hub.net._links.endpoint._inbound_by_source


async def test_a_failure_inside_the_quic_library_costs_only_that_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with net_node(tmp_path, "hub") as hub, net_node(tmp_path, "a") as a, net_node(tmp_path, "b") as b:
        await a.net.connect(hub.address)
        await b.net.connect(hub.address)
        await until(lambda: len(hub.net.connected()) == 2)

        def fail(*arguments: object, **more: object) -> None:
            raise AssertionError("a hostile datagram")

        connection = hub.net._sessions[a.id].connection
        assert isinstance(connection, Connection)
        monkeypatch.setattr(connection._quic, "receive_datagram", fail)
        await fails(a.net.request(hub.id, ECHO, b"x", 1.0), ZsError)
        assert PeerDisconnected(a.id, "internal error") in drain(hub)
        assert await b.net.request(hub.id, ECHO, b"unharmed") == b"unharmed"
        assert "a hostile datagram" in caplog.text


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_stop_leaves_nothing_running(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with net_node(tmp_path, "a", peers=("127.0.0.1:9",)) as a, net_node(tmp_path, "b") as b:
            await a.net.connect(b.address)
            await b.net.request(a.id, ECHO, b"x")
            stream = await a.net.open(b.id, ECHO)
            await stream.send(b"in flight")
            await a.net.stop()
            await until(lambda: not b.net.connected())
            assert PeerDisconnected(a.id, "shutting down") in drain(b)
            await a.net.stop()
        gc.collect()
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    loop = asyncio.get_running_loop()
    timers = [h for h in loop._scheduled if not h.cancelled()]  # type: ignore[attr-defined]
    assert [t for t in timers if "zstui" in repr(t)] == []


async def test_stop_without_start(tmp_path: Path) -> None:
    async with net_node(tmp_path, "a", start=False) as a:
        assert a.net.addresses() == ()
        assert a.net.status.notices() == ()
        assert a.net.views() == []
        assert "not started" in a.net.status.describe()
        await a.net.disconnect(Identity.generate().peer_id, "nothing")


async def test_a_failing_database_is_told_and_does_not_stop_the_network(tmp_path: Path) -> None:
    async with net_node(tmp_path, "b") as b:
        db = await Database.open(tmp_path / "a.db", store.SCHEMA)
        bus = Bus()
        events = bus.subscribe(Event)
        identity = Identity.generate()
        card = NetNode(identity, Settings(home=tmp_path, name="a"), db).card("a")
        net = NetService(
            identity,
            Settings(home=tmp_path, name="a", listen="127.0.0.1:0", mdns_interface=None),
            db,
            bus,
            SystemClock(),
            admits=lambda peer: True,
            my_card=lambda: card,
        )
        await net.start()
        await db.close()
        await net.connect(b.address)
        await until(lambda: any("could not be saved" in getattr(e, "text", "") for e in events._queue))
        assert net.connected() == {b.id}
        await net.stop()


def test_the_wait_for_a_rival_is_shorter_than_a_dial() -> None:
    assert links._RIVAL_S < limits.DIAL_S
