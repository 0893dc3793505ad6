"""Nodes that cannot reach each other, linked through a relay."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from tests.engine.net.relay.support import confine, triangle
from tests.support.net import ECHO, fails, net_node, until
from zstui.engine.errors import StreamClosed, Unreachable
from zstui.engine.events import PeerDisconnected
from zstui.engine.identity.keys import Identity
from zstui.engine.net.link import MAX_FRAME
from zstui.engine.net.multiaddr import parse_multiaddr
from zstui.engine.net.relay.choice import FAILED_US
from zstui.engine.net.relay.server import Meter, RelayLimits


async def test_frames_flow_through_a_relay_and_the_path_says_so(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        await t.link()
        for near, far in ((t.alpha, t.beta), (t.beta, t.alpha)):
            assert await near.net.request(far.id, ECHO, b"hello") == b"hello"
            view = near.net.view(far.id)
            assert (view.state, view.path) == ("online", "relay")
            assert view.why.startswith("through relay: ")
            assert "/p2p-circuit/" in view.address
        assert t.relay.net._relaying.server is not None
        assert t.relay.net._relaying.server.circuits == 1
        assert "relay for 2 peers, 1 in use" in t.relay.net.status.reachability()
        await until(lambda: t.alpha.net.view(t.beta.id).rtt_ms)
        await until(lambda: t.alpha.net.card_of(t.beta.id))


async def test_large_answers_flow_through_a_relay(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        await t.link()
        stream = await t.alpha.net.open(t.beta.id, ECHO)
        for number in range(20):
            frame = bytes([number]) * (MAX_FRAME - number)
            await stream.send(frame)
            assert await stream.receive() == frame


async def test_a_direct_link_takes_over_and_nothing_in_progress_is_lost(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        await t.link()
        stream = await t.alpha.net.open(t.beta.id, ECHO)
        t.open_up()
        await t.alpha.net.improve(t.beta.id)
        for near, far in ((t.alpha, t.beta), (t.beta, t.alpha)):
            await until(lambda: near.net.view(far.id).path == "lan")  # noqa: B023
        await stream.send(b"still here")
        assert await stream.receive() == b"still here"
        assert await t.alpha.net.request(t.beta.id, ECHO, b"new") == b"new"
        assert not any(isinstance(event, PeerDisconnected) for event in t.alpha.events._queue)


async def test_holes_are_punched_when_the_peer_leads(tmp_path: Path) -> None:
    """Neither knows an address of the other but what they tell each other over the relayed link."""
    async with triangle(tmp_path) as t:
        await t.link()
        t.open_up()
        session = t.beta.net._sessions[t.alpha.id]
        await t.beta.net._relaying._puncher.lead(session)
        await until(lambda: t.beta.net.view(t.alpha.id).path == "lan")


async def test_a_failed_way_to_a_direct_link_is_said_and_the_link_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zstui.engine.net.relay.holepunch._PUNCH_S", 0.1)
    async with triangle(tmp_path) as t:
        await t.link()
        error = await fails(t.beta.net.improve(t.alpha.id), Unreachable)
        assert "stays on the relay" in str(error)
        assert t.beta.net.view(t.alpha.id).path == "relay"


async def test_a_relay_that_goes_takes_the_link_with_it(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        await t.link()
        await t.relay.net.stop()
        await until(lambda: t.beta.id not in t.alpha.net.connected())
        await until(lambda: not any("/p2p-circuit/" in a for a in t.beta.net.addresses()))
        await fails(t.alpha.net.request(t.beta.id, ECHO, b"x", 1.0), Unreachable)


async def test_a_blocked_peer_is_not_let_in_through_a_relay(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        t.beta.refused.add(t.alpha.id)
        with contextlib.suppress(Unreachable):
            await t.alpha.net.connect(t.circuit)
        await until(lambda: t.beta.id not in t.alpha.net.connected())
        assert t.alpha.id not in t.beta.net.connected()


async def test_a_peer_without_a_place_is_not_brought(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t, net_node(tmp_path, "gamma", listen="127.0.0.4:0") as gamma:
        circuit = parse_multiaddr(t.relay.address).through(gamma.id)
        assert "has no place" in str(await fails(t.alpha.net.connect(str(circuit)), Unreachable))
        await gamma.net.connect(t.relay.address)
        client = gamma.net._relaying.client
        await until(client.relays)
        client._wanted = lambda: False
        client.look()
        await until(lambda: not client.relays())
        assert "does not reach" in str(await fails(t.alpha.net.connect(str(circuit)), Unreachable))


async def test_a_node_that_stays_on_its_lan_uses_no_relay(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t, net_node(tmp_path, "home", lan_only=True) as home:
        await home.net.connect(t.relay.address)
        assert "lan_only" in str(await fails(home.net.connect(t.circuit), Unreachable))
        await asyncio.sleep(0.1)
        assert home.net.addresses() == tuple(a for a in home.net.addresses() if "/p2p-circuit/" not in a)


async def test_reservations_and_circuits_are_capped(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        server = t.relay.net._relaying.server
        assert server is not None
        server._limits = RelayLimits(reservations=2, circuits=1)
        async with net_node(tmp_path, "late", start=False, listen="127.0.0.4:0") as late:
            confine(late)
            await late.net.start()
            await late.net.connect(t.relay.address)
            await until(lambda: server.refused)
            assert not late.net._relaying.client.relays()
            await t.link()
            assert "no room" in str(await fails(late.net.connect(t.circuit), Unreachable))
            assert server.circuits == 1


async def test_one_address_cannot_take_all_places(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        server = t.relay.net._relaying.server
        assert server is not None
        server._limits = RelayLimits(reservations_per_address=1)
        async with net_node(tmp_path, "neighbour", listen="127.0.0.2:0") as neighbour:
            await neighbour.net.connect(t.relay.address)
            await until(lambda: server.refused)
            assert neighbour.id not in server.reservations


async def test_a_circuit_ends_when_it_has_carried_what_it_may(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        server = t.relay.net._relaying.server
        assert server is not None
        server._limits = RelayLimits(circuit_bytes=200_000)
        await t.link()
        stream = await t.alpha.net.open(t.beta.id, ECHO)

        async def flood() -> None:
            for _ in range(10):
                await stream.send(bytes(60_000))
                await stream.receive()

        assert "link went down" in str(await fails(flood(), StreamClosed))
        await until(lambda: not server.circuits)


async def test_the_meter_keeps_to_its_rate() -> None:
    meter, loop = Meter(1_000_000), asyncio.get_running_loop()
    began = loop.time()
    await asyncio.gather(*(meter.take(50_000) for _ in range(10)))
    assert 0.2 < loop.time() - began < 0.6


class Learner:
    """Prefers the relays in ``first``, and remembers what it was told."""

    def __init__(self, first: str) -> None:
        self.first = first
        self.told: list[tuple[str, str, int]] = []

    def in_order(self, destination: str, neighbours: Iterable[str]) -> list[str]:
        return sorted(neighbours, key=lambda relay: relay != self.first)

    def tried(self, destination: str, neighbour: str, took_us: int) -> None:
        self.told.append((destination, neighbour, took_us))

    def why(self, destination: str, neighbour: str) -> str:
        return f"{sum(relay == neighbour for _, relay, _ in self.told)} dials"


async def test_relays_are_tried_in_the_order_chosen_and_each_try_is_told(tmp_path: Path) -> None:
    async with triangle(tmp_path) as t:
        good = parse_multiaddr(t.circuit)
        wrong = msgspec.structs.replace(good, relay=Identity.generate().peer_id)
        assert wrong.relay is not None
        assert good.relay is not None
        learner = Learner(first=wrong.relay)
        t.alpha.net.choose_relays(learner)
        await t.alpha.net._relaying.dial([good, wrong], None)
        assert [(peer, relay) for peer, relay, _ in learner.told] == [(t.beta.id, wrong.relay), (t.beta.id, good.relay)]
        assert learner.told[0][2] >= FAILED_US > learner.told[1][2]
        assert t.alpha.net.view(t.beta.id).why.endswith("; 1 dials")
