"""Which peers are dialed, when, and how many at once. Dials here succeed or fail as told; the sockets have tests of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.net import until
from zstui.engine.errors import Unreachable
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net import dialer as dialer_module
from zstui.engine.net.dialer import Dialer, Target
from zstui.engine.net.limits import MAX_CANDIDATES, MAX_DIALS, MAX_HEARD_DIALS, MAX_RECONNECTS
from zstui.engine.net.multiaddr import Multiaddr

PEERS = [Identity(n.to_bytes(32, "big")).peer_id for n in range(1, MAX_CANDIDATES + 40)]
ADDRESS = Multiaddr("127.0.0.1", 9)


class World:
    """``reachable`` peers connect at once; others fail; with ``hang`` dials never end."""

    def __init__(self) -> None:
        self.reachable: set[PeerId] = set()
        self.connected: set[PeerId] = set()
        self.dials: list[str] = []
        self.hang = False
        self.behind = PEERS[0]
        """The peer at the address that is configured without a peer id."""
        self.dialer = Dialer(self.dial, lambda peer: peer not in self.connected, lambda target: None)

    async def dial(self, target: Target) -> PeerId:
        self.dials.append(target.key)
        if self.hang:
            await asyncio.Event().wait()
        peer = target.peer or self.behind
        if peer not in self.reachable:
            raise Unreachable("No answer.")
        self.connected.add(peer)
        self.dialer.connected(peer)
        return peer


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(dialer_module, "backoff_s", quick_backoff)
    made = World()
    task = asyncio.create_task(made.dialer.run())
    await asyncio.sleep(0)
    yield made
    await made.dialer.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def quick_backoff(attempts: int, unit: float) -> float:
    return 0.0 if attempts == 0 else 0.02 * attempts


async def test_a_static_peer_is_tried_until_it_is_there(world: World) -> None:
    world.dialer.add("static", PEERS[0], (ADDRESS,))
    await until(lambda: len(world.dials) >= 3)
    world.reachable.add(PEERS[0])
    await until(lambda: PEERS[0] in world.connected)
    count = len(world.dials)
    await asyncio.sleep(0.1)
    assert len(world.dials) == count, "no dials while connected"
    assert world.dialer.is_static(PEERS[0])


async def test_an_address_without_a_peer_id_becomes_its_peer(world: World) -> None:
    world.dialer.add("static", None, (ADDRESS,))
    await until(lambda: world.dialer.unreached())
    assert world.dialer.unreached()[0].why == "No answer."
    world.reachable.add(PEERS[0])
    await until(lambda: PEERS[0] in world.connected)
    await until(lambda: world.dialer.is_static(PEERS[0]))
    assert world.dialer.unreached() == ()
    assert world.dialer.addresses(PEERS[0]) == (ADDRESS.with_peer(PEERS[0]),)


async def test_a_lost_peer_is_dialed_again_and_a_held_one_is_not(world: World) -> None:
    world.reachable |= {PEERS[0], PEERS[1]}
    for peer in PEERS[:2]:
        world.dialer.add("heard", peer, (ADDRESS,))
    await until(lambda: len(world.connected) == 2)
    world.connected.clear()
    world.dialer.hold(PEERS[1])
    for peer in PEERS[:2]:
        world.dialer.lost(peer, refused=False)
    await until(lambda: world.connected == {PEERS[0]})
    await asyncio.sleep(0.05)
    assert world.connected == {PEERS[0]}


async def test_a_peer_that_refused_us_is_left_alone_longer(world: World) -> None:
    world.dialer.connected(PEERS[0])
    world.dialer.lost(PEERS[0], refused=True)
    await asyncio.sleep(0.08)
    assert world.dials == []
    await until(lambda: world.dials)


async def test_only_so_many_dials_at_once(world: World) -> None:
    world.hang = True
    for port, peer in enumerate(PEERS[:100], 1):
        world.dialer.add("heard", peer, (Multiaddr("127.0.0.1", port),))
    await asyncio.sleep(0.05)
    assert len(world.dials) == MAX_HEARD_DIALS
    for port, peer in enumerate(PEERS[100:200], 1):
        world.dialer.add("static", peer, (Multiaddr("127.0.0.1", port),))
    await asyncio.sleep(0.05)
    assert len(world.dials) == MAX_DIALS
    assert sum(world.dialer.is_dialing(p) for p in PEERS) == MAX_DIALS


async def test_many_claims_to_one_address_are_dialed_one_at_a_time(world: World) -> None:
    world.hang = True
    for peer in PEERS[:50]:
        world.dialer.add("heard", peer, (ADDRESS,))
    world.dialer.add("heard", PEERS[60], (Multiaddr("127.0.0.2", 9),))
    await asyncio.sleep(0.05)
    assert len(world.dials) == 2
    assert PEERS[60] in world.dials


async def test_static_peers_come_first_and_then_who_was_heard_of_last(world: World) -> None:
    for port, peer in enumerate(PEERS[:5], 1):
        world.dialer.add("heard", peer, (Multiaddr("127.0.0.1", port),))
        time.sleep(0.002)  # noqa: ASYNC251  the dialer must not run in between
    world.dialer.add("static", PEERS[90], (ADDRESS,))
    await until(lambda: len(world.dials) >= 6)
    assert world.dials[:6] == [PEERS[90], *reversed(PEERS[:5])]


async def test_targets_are_bounded_and_the_worst_leave_first(world: World) -> None:
    world.hang = True
    for peer in PEERS:
        world.dialer.add("heard", peer, (ADDRESS,))
    assert len(world.dialer._targets) == MAX_CANDIDATES
    for peer in PEERS[: MAX_RECONNECTS + 20]:
        world.dialer.connected(peer)
    assert sum(t.kind == "known" for t in world.dialer._targets.values()) == MAX_RECONNECTS


async def test_new_addresses_are_tried_at_once_and_configured_ones_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer_module, "backoff_s", lambda attempts, unit: 60.0)
    world.dialer.add("static", PEERS[0], (ADDRESS,))
    await until(lambda: len(world.dials) == 1)
    await asyncio.sleep(0.01)
    world.dialer.add("heard", PEERS[0], (ADDRESS,))
    await asyncio.sleep(0.02)
    assert len(world.dials) == 1, "nothing new was heard"
    world.dialer.add("heard", PEERS[0], (Multiaddr("127.0.0.2", 9),))
    await until(lambda: len(world.dials) == 2)
    assert [a.host for a in world.dialer.addresses(PEERS[0])] == ["127.0.0.1", "127.0.0.2"]


async def test_a_goodbye_removes_only_those_never_connected(world: World) -> None:
    world.reachable.add(PEERS[0])
    for peer in PEERS[:2]:
        world.dialer.add("heard", peer, (ADDRESS,))
    await until(lambda: PEERS[0] in world.connected and not world.dialer.is_dialing(PEERS[1]))
    for peer in PEERS[:3]:
        world.dialer.forget(peer)
    assert set(world.dialer._targets) == {PEERS[0]}


async def test_a_changed_network_hurries_everyone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.dialer.add("static", PEERS[0], (ADDRESS,))
    monkeypatch.setattr(dialer_module, "backoff_s", lambda attempts, unit: 60.0 if attempts else 0.0)
    await until(lambda: len(world.dials) == 1)
    await asyncio.sleep(0.02)
    world.dialer.hurry()
    await until(lambda: len(world.dials) == 2)


async def test_a_bug_in_a_dial_does_not_make_it_spin(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(target: Target) -> PeerId:
        world.dials.append(target.key)
        raise RuntimeError("a bug")

    world.dialer._dial = broken
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    world.dialer.add("static", PEERS[0], (ADDRESS,))
    await asyncio.sleep(0.2)
    assert 1 <= len(world.dials) < 20
