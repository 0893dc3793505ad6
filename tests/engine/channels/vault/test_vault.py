"""What peers keep for a node brings back what it lost, and catches a peer that lies about it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.engine.channels.rig import Node, identity, line, running, state, until
from tests.engine.channels.test_recovery import copy, put_back, settled
from zstui.engine.channels import links, service
from zstui.engine.channels.model import draft
from zstui.engine.channels.state import State
from zstui.engine.channels.vault import model, store
from zstui.engine.channels.vault import service as vault_service
from zstui.engine.channels.vault.deposit import Extras
from zstui.engine.channels.vault.messages import Get, Given, Put, PutAnswer, decode, encode
from zstui.engine.channels.vault.model import ChannelKept, Deposit, PeerKept
from zstui.engine.channels.vault.service import VaultService
from zstui.engine.errors import ChannelError, ProtocolError, ZsError
from zstui.engine.events import Notice
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import VAULT_PROTOCOL
from zstui.engine.net.memory import MemoryHub

DAY = 86_400


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "ACK_WAIT_S", 0.5)
    monkeypatch.setattr(links, "POLITE_S", 0.02)
    monkeypatch.setattr(links, "FIRST_BACKOFF_S", 0.02)
    monkeypatch.setattr(vault_service, "REFRESH_S", 0.02)
    monkeypatch.setattr(vault_service, "LEAST_PUT_US", 0)


class Keeper(Node):
    """A node of the rig with a vault."""

    def __init__(self, hub: MemoryHub, number: int, folder: Path, members: set[PeerId]) -> None:
        super().__init__(hub, number, folder)
        self.members = members
        self.found: list[Deposit] = []
        self.was_restored = False
        self.restored = lambda: self.vault.restored

    async def start(self) -> Keeper:
        await super().start()
        self.vault = VaultService(
            self.identity,
            self.memory,
            self.db,
            self.bus,
            self.clock,
            self.service.books,
            member=lambda peer: peer in self.members,
            extras=lambda: Extras(name=self.name, peers=(), guilds=(("abcd", "farm"),)),
            found=self.found.append,
            restored=self.was_restored,
        )
        self.service.links.prepare = self.vault.prepare
        await self.vault.start()
        return self

    async def stop(self) -> None:
        await self.vault.stop()
        await super().stop()

    async def lose(self, backup: Path | None = None) -> None:
        """Start again from an older copy, or from nothing but the key."""
        await self.stop()
        put_back(self, backup or Path(os.devnull))
        if backup is None:
            self.path.unlink()
        self.was_restored, self.tainted = True, backup is not None
        await self.start()

    async def latest(self) -> None:
        """Wait until every keeper has the latest deposit."""
        await asyncio.sleep(0.05)
        await until(lambda: all(self.vault._given.get(k) == self.vault._own for k in self.vault.keepers()))


Three = tuple[Keeper, Keeper, Keeper]


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Three]:
    """a and b trade; c is a fellow member of a's guild."""
    hub = MemoryHub()
    ids = {n: identity(n).peer_id for n in (1, 2, 3)}
    a, b, c = (
        Keeper(hub, 1, tmp_path, {ids[3]}),
        Keeper(hub, 2, tmp_path, set()),
        Keeper(hub, 3, tmp_path, {ids[1]}),
    )
    for node in (a, b, c):
        await node.start()
    yield a, b, c
    for left in tuple(running):
        await left.stop()


async def trade(a: Node, b: Node, id: str, times: int) -> None:
    for _ in range(times):
        await asyncio.gather(a.service.pay(id, line(10)), b.service.pay(id, line(1)))


async def found_again(node: Node, id: str) -> None:
    await until(lambda: id in [v.channel_id for v in node.service.views()])


async def test_a_lost_database_comes_back_from_the_peers(three: Three) -> None:
    a, b, _ = three
    first = (await a.service.open(b.id, 100_000, 100_000, DAY)).channel_id
    await trade(a, b, first, 2)
    await a.service.close(first)
    id = (await a.service.open(b.id, 100_000, 100_000, DAY)).channel_id
    await trade(a, b, id, 70)
    await a.latest()
    assert a.service.owed() == (0, 18)
    await a.lose()
    await found_again(a, id)
    await until(lambda: settled(a, b, id))
    assert (a.service.view(id).mine_u, a.service.view(id).epoch) == (100_000 - 70 * 9, 2)
    assert a.service.owed() == (0, 18)
    assert (await a.service.pay(id, line(5))).acknowledged, "another keeper vouched, so the channel goes on"
    assert await b.count("credited") == (73, 725)
    assert (await a.service.close(id)).reason == "cooperative"
    owed = 18 + 630 + 5
    await until(lambda: (a.service.owed(), b.service.owed()) == ((0, owed), (owed, 0)))
    assert a.found[-1].guilds == (("abcd", "farm"),)


async def test_with_no_other_keeper_the_channel_only_closes(three: Three) -> None:
    a, b, c = three
    await c.stop()
    id = (await a.service.open(b.id, 100_000, 0, DAY)).channel_id
    await a.service.pay(id, line(10))
    await a.latest()
    await a.lose()
    await found_again(a, id)
    await until(lambda: settled(a, b, id))
    with pytest.raises(ChannelError, match="restored"):
        await a.service.pay(id, line(1))
    assert (await a.service.close(id)).reason == "cooperative"
    await until(lambda: (a.service.owed(), b.service.owed()) == ((0, 10), (10, 0)))
    assert (await a.service.open(b.id, 1_000, 0, DAY)).epoch == 2


async def test_a_channel_younger_than_the_backup(three: Three, tmp_path: Path) -> None:
    """The peer proves it with my own signature, where before it was denied and disputed."""
    a, b, c = three
    await c.stop()
    copy(a, tmp_path / "backup")
    id = (await a.service.open(b.id, 100_000, 50_000, DAY)).channel_id
    await trade(a, b, id, 3)
    await a.lose(tmp_path / "backup")
    await found_again(a, id)
    await until(lambda: settled(a, b, id))
    assert state(b, id) is State.ACTIVE
    assert (await a.service.close(id)).reason == "cooperative"
    await until(lambda: (a.service.owed(), b.service.owed()) == ((0, 27), (27, 0)))


async def test_a_backup_from_the_channel_before(three: Three, tmp_path: Path) -> None:
    """The copy has channel 1 open; it was closed since, and channel 2 is in use."""
    a, b, _ = three
    first = (await a.service.open(b.id, 100_000, 0, DAY)).channel_id
    copy(a, tmp_path / "backup")
    await a.service.pay(first, line(10))
    await a.service.close(first)
    await until(lambda: state(b, first) is State.CLOSED)
    second = (await b.service.open(a.id, 100_000, 0, DAY)).channel_id
    await b.service.pay(second, line(4))
    await a.latest()
    await a.lose(tmp_path / "backup")
    await found_again(a, second)
    await until(lambda: settled(a, b, second))
    assert (state(a, first), state(b, second)) == (State.CLOSED, State.ACTIVE)
    assert a.service.owed() == (0, 10)
    assert await a.count("credited") == (1, 4)


async def test_payments_the_peer_never_had_are_sent_again(three: Three) -> None:
    a, b, _ = three
    id = (await a.service.open(b.id, 100_000, 0, DAY)).channel_id
    await a.service.pay(id, line(10))
    a.hub.cut(a.id, b.id)
    await asyncio.gather(*(a.service.pay(id, line(7)) for _ in range(3)))
    await a.latest()
    await a.lose()
    a.hub.link(a.id, b.id)
    await found_again(a, id)
    await until(lambda: b.service.view(id).mine_u == 31)
    await until(lambda: settled(a, b, id))
    assert await b.count("credited") == (4, 31)


async def test_a_lying_peer_is_caught_by_what_another_kept(three: Three, tmp_path: Path) -> None:
    """b goes back to an older state and shows that to a, which lost everything; c has the truth."""
    a, b, _ = three
    id = (await a.service.open(b.id, 100_000, 100_000, DAY)).channel_id
    await trade(a, b, id, 1)
    copy(b, tmp_path / "b")
    await trade(a, b, id, 3)
    await a.latest()
    a.hub.cut(a.id, b.id)
    await b.stop()
    put_back(b, tmp_path / "b")
    await b.start()
    await a.lose()
    a.hub.link(a.id, b.id)
    await found_again(a, id)
    await until(lambda: state(a, id) is State.DISPUTED)
    assert a.service.view(id).reason == "stale"
    assert len(await a.evidence(id)) >= 2, "its own payment, and the state it signed after it"
    with pytest.raises(ChannelError):
        await a.service.pay(id, line(1))


async def test_a_forged_deposit_and_an_older_one(three: Three) -> None:
    a, b, _ = three
    id = (await a.service.open(b.id, 100_000, 0, DAY)).channel_id
    await a.latest()
    old = await b.db.read(lambda tx: store.kept(tx, a.id))
    await a.service.pay(id, line(10))
    await a.latest()
    version, box = await b.db.read(lambda tx: store.kept(tx, a.id))
    assert version > old[0]
    secret = model.vault_key(a.identity.secret)
    assert model.unseal(secret, version, box).channels[0].out[0] == 1
    for given in (old[1], box[:-1] + bytes([box[-1] ^ 1]), b"x" * 99):
        with pytest.raises(ProtocolError):
            model.unseal(secret, version, given)
    with pytest.raises(ProtocolError):
        model.unseal(model.vault_key(b.identity.secret), version, box)
    assert bytes.fromhex(id) not in box


async def test_only_partners_are_served_and_only_with_newer_versions(three: Three) -> None:
    a, b, c = three

    async def put(by: Keeper, to: Keeper, version: int) -> PutAnswer:
        answer = decode(await by.memory.request(to.id, VAULT_PROTOCOL, encode(Put(version, b"box"))))
        assert isinstance(answer, PutAnswer)
        return answer

    with pytest.raises(ZsError):
        await put(b, c, 5)
    assert await put(c, a, 10**6) == PutAnswer(10**6, True)
    assert await put(c, a, 7) == PutAnswer(10**6, False)
    assert decode(await c.memory.request(a.id, VAULT_PROTOCOL, encode(Get(0)))) == Given(10**6, b"box")
    assert decode(await b.memory.request(a.id, VAULT_PROTOCOL, encode(Get(0)))) == Given(0, b"")


async def test_what_is_kept_for_others_is_bounded(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    a, _, _ = three
    monkeypatch.setattr(store, "MAX_KEPT", 3)
    for n in range(5):
        at = 10**18 + n  # later than what the other two deposit meanwhile
        await a.db.write(lambda tx, n=n, at=at: store.keep(tx, f"peer{n}", 1, b"box", at))  # type: ignore[misc]
    owners = await a.db.read(lambda tx: [r[0] for r in tx.execute("SELECT owner FROM vault_kept ORDER BY at_us")])
    assert owners == ["peer2", "peer3", "peer4"]


async def test_two_processes_with_one_key_are_noticed(three: Three) -> None:
    """The other one made deposits that this one knows nothing of: it signs nothing more."""
    a, b, c = three
    id = (await a.service.open(b.id, 100_000, 0, DAY)).channel_id
    await a.latest()
    secret = model.vault_key(a.identity.secret)
    ahead = Deposit(version=a.vault._own + 5, at_us=1, name="twin")
    await c.db.write(lambda tx: store.keep(tx, a.id, ahead.version, model.seal(secret, ahead), 1))
    await a.service.pay(id, line(1))
    await until(lambda: a.vault.warning != "")
    await until(lambda: a.service.books.records[bytes.fromhex(id)].tainted)
    with pytest.raises(ChannelError, match="restored"):
        await a.service.pay(id, line(1))
    assert any("Another node uses this key" in e.text for e in a.seen(Notice) if isinstance(e, Notice))


def test_a_deposit_fits_a_frame_whatever_it_holds() -> None:
    me, secret = identity(1), model.vault_key(identity(1).secret)
    channels = tuple(
        ChannelKept(
            draft("zerostate/1", me.peer_id, identity(n).peer_id, 1, os.urandom(32), 1_000, 0, 0, 1_000),
            True,
            (5, 5, os.urandom(32)),
            (5, 5, os.urandom(32)),
            0,
            os.urandom(400),
            tuple(os.urandom(500) for _ in range(8)),
        )
        for n in range(2, 302)
    )
    peers = tuple(PeerKept(identity(n).peer_id, "x", os.urandom(20).hex()) for n in range(300))
    deposit = Deposit(version=9, at_us=1, name="me", channels=channels, peers=peers)
    sealed = model.fitted(secret, deposit)
    assert len(sealed) <= model.MAX_SEALED
    back = model.unseal(secret, 9, sealed)
    assert 0 < back.left_out == len(channels) - len(back.channels) < 300
    assert back.channels[0].out == channels[0].out
    small = model.fitted(secret, msgspec.structs.replace(deposit, channels=channels[:2], peers=()))
    assert model.unseal(secret, 9, small).channels == channels[:2]
