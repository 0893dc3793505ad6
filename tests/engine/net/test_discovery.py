"""Peers that find each other by multicast DNS on the loopback interface.

Other nodes may be on the same interface, so only the peers of a test are looked at.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from zeroconf import DNSOutgoing, DNSPointer, DNSText  # type: ignore[attr-defined]
from zeroconf.asyncio import AsyncZeroconf

from tests.support.net import NetNode, net_node, until
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.limits import MAX_CANDIDATES, MAX_DIALS
from zstui.engine.net.mdns import SERVICE, encode_txt
from zstui.engine.net.multiaddr import Multiaddr, parse_multiaddr

LOOPBACK = "127.0.0.1"


def linked(a: NetNode, b: NetNode) -> bool:
    return b.id in a.net.connected() and a.id in b.net.connected()


def strangers(count: int) -> list[PeerId]:
    return [Identity(n.to_bytes(32, "big")).peer_id for n in range(1, count + 1)]


async def test_two_nodes_find_each_other_within_two_seconds(tmp_path: Path) -> None:
    async with (
        net_node(tmp_path, "a", mdns_interface=LOOPBACK) as a,
        net_node(tmp_path, "b", mdns_interface=LOOPBACK, start=False) as b,
    ):
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await b.net.start()
        await until(lambda: linked(a, b))
        assert time.monotonic() - began < 5, "two seconds, and more than as much again on a busy machine"


async def test_nodes_that_start_together_find_each_other(tmp_path: Path) -> None:
    async with (
        net_node(tmp_path, "a", mdns_interface=LOOPBACK) as a,
        net_node(tmp_path, "b", mdns_interface=LOOPBACK) as b,
        net_node(tmp_path, "c", mdns_interface=LOOPBACK) as c,
    ):
        began = time.monotonic()
        await until(lambda: linked(a, b) and linked(b, c) and linked(a, c))
        assert time.monotonic() - began < 5, "two seconds, and more than as much again on a busy machine"


async def test_without_mdns_nobody_is_found(tmp_path: Path) -> None:
    async with (
        net_node(tmp_path, "a", mdns_interface=LOOPBACK) as a,
        net_node(tmp_path, "b", mdns_interface=None) as b,
    ):
        await asyncio.sleep(0.5)
        assert b.net.connected() == frozenset()
        assert b.id not in a.net.connected()


async def test_a_blocked_peer_is_not_dialed_when_heard(tmp_path: Path) -> None:
    async with (
        net_node(tmp_path, "a", mdns_interface=LOOPBACK) as a,
        net_node(tmp_path, "b", mdns_interface=LOOPBACK, start=False) as b,
    ):
        a.refused.add(b.id)
        await b.net.start()
        await asyncio.sleep(0.8)
        assert b.id not in a.net.connected()
        assert a.id not in b.net.connected()


async def test_a_peer_that_sends_no_srv_record_is_found(tmp_path: Path) -> None:
    """As js-libp2p does: only PTR and TXT."""
    async with (
        net_node(tmp_path, "a", mdns_interface=LOOPBACK) as a,
        net_node(tmp_path, "b", mdns_interface=None) as b,
    ):
        zeroconf = AsyncZeroconf(interfaces=[LOOPBACK])
        await zeroconf.zeroconf.async_wait_for_start()
        announce(zeroconf, "k2j3h4k2j3h4k2j3h4k2j3h4k2j3h4k2", (parse_multiaddr(b.address),))
        await until(lambda: linked(a, b))
        await zeroconf.async_close()


def announce(zeroconf: AsyncZeroconf, instance: str, addresses: tuple[Multiaddr, ...]) -> None:
    out = DNSOutgoing(0x8400)
    name = f"{instance}.{SERVICE}"
    out.add_answer_at_time(DNSPointer(SERVICE, 12, 1, 120, name), 0)
    out.add_answer_at_time(DNSText(name, 16, 1, 120, encode_txt(addresses)), 0)
    zeroconf.zeroconf.async_send(out)


async def test_an_address_that_is_announced_anew_is_tried_at_once(tmp_path: Path) -> None:
    me = Identity.generate()
    async with net_node(tmp_path, "a", mdns_interface=LOOPBACK) as a:
        for round_ in ("first", "moved"):
            async with net_node(tmp_path, f"b {round_}", identity=me, mdns_interface=LOOPBACK) as b:
                await until(lambda b=b: linked(a, b), 3)  # type: ignore[misc]
                assert a.net.view(b.id).address == b.address
            await until(lambda: me.peer_id not in a.net.connected())


async def test_a_restarted_announcement_is_heard(tmp_path: Path) -> None:
    async with (
        net_node(tmp_path, "a", mdns_interface=LOOPBACK) as a,
        net_node(tmp_path, "b", mdns_interface=LOOPBACK) as b,
    ):
        await until(lambda: linked(a, b))
        assert a.net._presence.discovery is not None
        assert b.net._presence.discovery is not None
        before = b.net._presence.discovery._instance
        await b.net._presence.discovery.restart()
        assert b.net._presence.discovery._instance != before
        heard = a.net._presence.discovery._peers
        await until(lambda: any(b.id in peers and not name.startswith(before) for name, peers in heard.items()))


async def test_a_flood_of_fake_peers_is_bounded_and_real_ones_get_through(tmp_path: Path) -> None:
    async with (
        net_node(tmp_path, "a", mdns_interface=LOOPBACK) as a,
        net_node(tmp_path, "b", mdns_interface=LOOPBACK, start=False) as b,
    ):
        fakes = strangers(1200)
        zeroconf = AsyncZeroconf(interfaces=[LOOPBACK])
        await zeroconf.zeroconf.async_wait_for_start()
        for n, fake in enumerate(fakes[:200]):
            announce(zeroconf, f"{n:032d}", (Multiaddr(LOOPBACK, 9, fake),))
        for port, fake in enumerate(fakes[200:], 1):
            a.net._presence._found(fake, (Multiaddr("127.0.0.77", port, fake),))
        await until(lambda: any(f in a.net._reach.dialer._targets for f in fakes))
        assert sum(t.kind == "heard" for t in a.net._reach.dialer._targets.values()) <= MAX_CANDIDATES
        assert a.net._presence.discovery is not None
        assert len(a.net._presence.discovery._peers) <= MAX_CANDIDATES
        assert len(a.net._reach.dialer._tasks) <= MAX_DIALS
        assert not any(v.peer_id in fakes for v in a.net.views()), "an announcement makes nobody known"
        await b.net.start()
        await until(lambda: linked(a, b))
        await zeroconf.async_close()


@pytest.mark.parametrize("host", ["8.8.8.8", "203.0.113.9", "2001:db8::1"])
async def test_addresses_off_the_local_network_are_ignored(tmp_path: Path, host: str) -> None:
    async with net_node(tmp_path, "a") as a:
        (stranger,) = strangers(1)
        a.net._presence._found(stranger, (Multiaddr(host, 4433, stranger),))
        assert a.net._reach.dialer._targets == {}


async def test_a_missing_interface_is_told_and_harmless(tmp_path: Path) -> None:
    async with net_node(tmp_path, "a", mdns_interface="192.0.2.77") as a, net_node(tmp_path, "b") as b:
        assert any("mDNS" in notice for notice in a.net.status.notices())
        assert await a.net.connect(b.address) == b.id
