"""Real nodes on loopback: finding peers that were never met, providers, signed values, and what strangers must not do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support.net import NetNode, net_node, until
from zstui.engine.dht import messages
from zstui.engine.dht.messages import Message, Node, encode, read
from zstui.engine.dht.rendezvous import CARDS, Rendezvous, card_key, guild_key
from zstui.engine.dht.service import BURST, PER_SECOND, Dht
from zstui.engine.errors import NetError, Unreachable
from zstui.engine.identity.keys import Identity, base58_decode
from zstui.engine.net.limits import IDLE_LINK_S
from zstui.engine.net.multiaddr import parse_multiaddr

KEY = guild_key("ab" * 32)


@asynccontextmanager
async def ring(home: Path, count: int) -> AsyncIterator[list[tuple[NetNode, Dht]]]:
    """Nodes of which each has met only the one before."""
    async with AsyncExitStack() as stack:
        nodes: list[tuple[NetNode, Dht]] = []
        for number in range(count):
            node = await stack.enter_async_context(net_node(home, f"n{number}", start=False))
            dht = Dht(node.net, node.net.contacts, node.db, node.bus, node.clock, (CARDS,))
            node.net.contacts.find_with(dht.find_peer)
            await node.net.start()
            await dht.start()
            stack.push_async_callback(dht.stop)
            if nodes:
                await node.net.connect(nodes[-1][0].address)
            nodes.append((node, dht))
        await until(lambda: all(dht.contacts for _, dht in nodes))
        yield nodes


async def test_a_peer_that_was_never_met_is_found_and_dialed_by_its_id(tmp_path: Path) -> None:
    async with ring(tmp_path, 6) as nodes:
        (first, _), (last, _) = nodes[0], nodes[-1]
        assert await first.net.connect(last.id) == last.id
        assert last.id in first.net.connected()
        nobody = Identity.generate().peer_id
        with pytest.raises(Unreachable):
            await first.net.connect(nobody)


async def test_links_of_look_ups_are_closed_when_idle_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zstui.engine.net.model.MAX_IDLE_LINKS", 1)
    async with ring(tmp_path, 6) as nodes:
        (first, finder), (second, _), (last, provider) = nodes[0], nodes[1], nodes[-1]
        first.net.contacts.link_in_passing(messages.PROTOCOL)
        await provider.provide(KEY)
        assert await finder.find_providers(KEY) == [last.id]
        await finder._refresh()
        strangers = {p for p, s in first.net._sessions.items() if s.is_passing}
        assert len(strangers) > 2
        assert second.id not in strangers, "it dialed"
        sweep = first.net._passing.sweep
        sweep(asyncio.get_running_loop().time())
        assert strangers <= first.net.connected(), "they were used just now"
        kept = sorted(strangers)[0]
        await first.net.connect(kept)
        sweep(asyncio.get_running_loop().time() + IDLE_LINK_S)
        await until(lambda: len(strangers & first.net.connected()) == 2)
        assert kept in first.net.connected(), "a person asked for it"
        gone = strangers - first.net.connected()
        assert not gone & set(first.net._reach.dialer._targets), "nobody comes back to them"
        others = [node for node, _ in nodes if node.id in gone]
        await until(lambda: not any(first.id in node.net._reach.dialer._targets for node in others))
        assert await finder.find_providers(KEY) == [last.id]


async def test_providers_and_signed_values_are_found_from_anywhere(tmp_path: Path) -> None:
    async with ring(tmp_path, 5) as nodes:
        (first, finder), (last, provider) = nodes[0], nodes[-1]
        await provider.provide(KEY)
        await provider.put(card_key(last.id), lambda: last.card("last"))
        assert await finder.find_providers(KEY) == [last.id]
        assert (await finder.get(card_key(last.id))) is not None
        assert await finder.get(card_key(first.id)) is None
        rendezvous = Rendezvous(
            finder, first.net, first.bus, my_card=lambda: b"", runs_jobs=lambda: False, open_guilds=lambda: ()
        )
        assert await rendezvous.reach_guild("ab" * 32)
        assert last.id in first.net.connected()


async def test_strangers_store_only_what_is_theirs(tmp_path: Path) -> None:
    async with ring(tmp_path, 2) as ((a, _), (b, keeper)):
        other = Identity.generate()
        there = (parse_multiaddr(a.address),)

        async def say(message: Message) -> Message:
            return read(await a.net.request(b.id, messages.PROTOCOL, encode(message)))

        forged = Message(type=messages.PUT_VALUE, key=card_key(other.peer_id), value=a.card("forged"))
        with pytest.raises(NetError):
            await say(forged)
        lie = Message(type=messages.ADD_PROVIDER, key=KEY, providers=(Node(other.peer_id, there),))
        with pytest.raises(NetError):
            await say(lie)
        assert keeper.records == 0
        found = await say(Message(type=messages.GET_PROVIDERS, key=KEY))
        assert not found.providers
        await say(Message(type=messages.PUT_VALUE, key=card_key(a.id), value=a.card("mine")))
        assert keeper.records == 1


async def test_a_flood_of_questions_is_cut_off_and_others_are_served(tmp_path: Path) -> None:
    async with ring(tmp_path, 3) as ((a, _), (b, _), (c, _)):
        question = encode(Message(type=messages.FIND_NODE, key=base58_decode(b.id)))
        answered, began = 0, time.monotonic()
        with contextlib.suppress(NetError):
            while answered < BURST * 20:
                await a.net.request(b.id, messages.PROTOCOL, question)
                answered += 1
        assert 10 < answered <= BURST + PER_SECOND * (time.monotonic() - began) + 1
        assert read(await c.net.request(b.id, messages.PROTOCOL, question)).type == messages.FIND_NODE


async def test_contacts_outlive_a_restart(tmp_path: Path) -> None:
    async with ring(tmp_path, 3) as nodes:
        node, dht = nodes[1]
        before = dht.contacts
        await dht.stop()
        again = Dht(OtherName(node), node.net.contacts, node.db, node.bus, node.clock)
        await again.start()
        assert again.contacts == before >= 1
        await again.stop()


class OtherName:
    """The same network, for a second table on it: its handler is not registered twice."""

    def __init__(self, node: NetNode) -> None:
        self.peer_id = node.net.peer_id
        self.open, self.request, self.connected = node.net.open, node.net.request, node.net.connected

    def handle(self, protocol: str, handler: object) -> None:
        pass
