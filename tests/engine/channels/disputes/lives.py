"""Random lives of a channel with four witnesses: the product's own channels and disputes in virtual time.

Payments both ways, cuts, crashes around any commit of parties and witnesses, parties and witnesses that stay away for hours,
disputes from either side, and a witness with its own key and no honesty.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.engine.channels.lives import LIVES
from tests.engine.channels.rig import identity
from tests.engine.channels.world import DEPOSITS, SimNode, World, _note
from tests.support.virtual import Disk, VirtualLoop, Wire, WireNetwork, Wires
from zstui.engine.bus import Bus
from zstui.engine.channels import links, service
from zstui.engine.channels.disputes import service as disputes_service
from zstui.engine.channels.disputes import store
from zstui.engine.channels.disputes.messages import CaseReceipt, Consent, Ready, Taken, Verdict, WitnessAsk
from zstui.engine.channels.disputes.service import DisputeService
from zstui.engine.channels.messages import read, take
from zstui.engine.channels.protocol import _BODIES
from zstui.engine.channels.service import ChannelService
from zstui.engine.errors import ZsError
from zstui.engine.events import PeerConnected, PeerDisconnected
from zstui.engine.identity.envelope import Body, Envelope, seal
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import DISPUTE_PROTOCOL, Stream
from zstui.engine.views import ChannelView

What = Literal["pay", "cut", "link", "crash", "strike", "leave", "dispute", "close", "lie", "rest"]
Step = tuple[What, int, int]
"""(what, which node, how much)"""
STEPS: tuple[What, ...] = (
    *("pay",) * 4,
    "cut",
    *("link",) * 2,
    "crash",
    *("strike",) * 3,
    *("leave",) * 2,
    *("dispute",) * 2,
    "close",
    *("lie",) * 3,
    *("rest",) * 3,
)
RESTS_S = (0.01, 0.5, 60.0, 3_600.0, 40_000.0)
DAY = 86_400.0
WITNESSES = (3, 4, 5, 6)
MAIL_KINDS = ("DisputeOpen", "Evidence", "CaseReceipt", "Ready", "Verdict")

plans: st.SearchStrategy[list[Step]] = st.lists(
    st.tuples(st.sampled_from(STEPS), st.integers(0, 5), st.integers(1, 2_500)), max_size=14
)
lives = settings(
    max_examples=max(10, LIVES // 40),
    deadline=None,
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)


class Mesh(Wires):
    """As ``Wires``, for more than two: who goes or comes concerns its own links."""

    def add(self, peer_id: PeerId, bus: Bus) -> WireNetwork:
        network = self.nodes[peer_id] = WireNetwork(self, peer_id, bus)
        if self.linked:
            self._between(peer_id, PeerConnected)
        return network

    def remove(self, network: WireNetwork) -> None:
        me = network.peer_id
        if self.nodes.get(me) is not network:
            return
        gone = [wire for wire in self.wires if me in (wire.me, wire.peer)]
        for wire in gone:
            wire.cut()
        self.wires = [wire for wire in self.wires if wire not in gone]
        self._between(me, functools.partial(PeerDisconnected, reason="gone"))
        del self.nodes[me]

    def _between(self, one: PeerId, event: type[PeerConnected] | functools.partial[PeerDisconnected]) -> None:
        for peer, network in self.nodes.items():
            if peer != one:
                network.bus.publish(event(one))
                self.nodes[one].bus.publish(event(peer))


class CourtNode(SimNode):
    """A party or an honest witness."""

    world: CourtWorld

    async def start(self, tainted: bool = False) -> None:
        world = self.world
        self.disk = Disk(self.path, world.chance, lambda: world.hub.remove(self.network))
        self.audit = self.disk.connect()
        self.db = self.disk.open()
        self.bus = Bus()
        self.network = world.hub.add(self.id, self.bus)
        members = world.members()
        others = [peer for peer in members if peer != self.id]
        disputes: DisputeService
        self.service = ChannelService(
            self.identity,
            self.network,
            self.db,
            self.bus,
            world.clock,
            name_of=lambda peer: peer[-6:],
            credit_limit=lambda peer: 1_000_000_000,
            at_risk=lambda peer: 0,
            on_credit=functools.partial(_note, "credited"),
            on_acknowledged=functools.partial(_note, "acknowledged"),
            nominate=lambda peer, wanted, expires_s: disputes.nomination(peer, wanted, expires_s),
            agreed_witnesses=lambda peer: disputes.nomination.agreed(peer),
        )
        self.disputes = disputes = DisputeService(
            self.identity,
            self.network,
            self.db,
            self.bus,
            world.clock,
            channels=self.service,
            name_of=lambda peer: peer[-6:],
            candidates=lambda peer: [other for other in others if other != peer],
            runs_jobs=lambda peer: False,
            willing=lambda peer: True,
            shares_guild=lambda peer: peer in members,
            fellows=lambda peer: [other for other in others if other != peer],
            guilds_of=lambda one, two: [],
            blacklist=_nothing,
        )
        await self.service.start()
        await self.disputes.start()
        self.up = True

    async def stop(self) -> None:
        self.up = False
        self.disk.die()
        await self.network.stop()
        await self.disputes.stop()
        await self.service.stop()
        await self.db.close()
        self.audit.close()
        self.disk.settle()


async def _nothing(peer: PeerId, hours: int, why: str, guild_id: str) -> None:
    pass


class Traitor:
    """A witness that agrees to all, takes all, and says what it likes."""

    def __init__(self, world: CourtWorld, number: int) -> None:
        self.world = world
        self.identity = identity(number)
        self.id = self.identity.peer_id
        self.network = world.hub.add(self.id, Bus())
        self.network.handle(DISPUTE_PROTOCOL, self._serve)

    async def _serve(self, stream: Stream) -> None:
        raw = await stream.receive()
        signed = take(raw)
        answer: Body = Taken(hashlib.sha256(raw).digest())
        if signed.kind == "WitnessAsk":
            ask = read(signed, WitnessAsk)
            answer = Consent(ask.pk_lo, ask.pk_hi, ask.until_ms)
        await stream.send(seal(self.identity, answer))

    async def lie(self, channel: bytes, to: PeerId, amount: int) -> None:
        params = self.world.nodes[0].service.record(channel.hex()).params
        total = params.dep_lo + params.dep_hi
        theft = Verdict(channel, 0, 0, *((total, 0) if amount % 2 else (0, total)), ())
        digest = hashlib.sha256(msgspec.msgpack.encode(theft)).digest()
        now_ms = self.world.clock.now_us() // 1000
        lies: tuple[Body, ...] = (
            theft,
            Ready(channel, digest),
            CaseReceipt(channel, max(0, now_ms + (amount - 1250) * 86_400)),
        )
        with contextlib.suppress(ZsError):
            await self.network.request(to, DISPUTE_PROTOCOL, seal(self.identity, lies[amount % 3]), 5)


class CourtWorld(World):
    HUB = Mesh
    NODE = CourtNode

    def __init__(self, loop: VirtualLoop, folder: Path, seed: int) -> None:
        super().__init__(loop, folder, seed)
        honest = WITNESSES[:3] if seed % 3 else WITNESSES
        self.witnesses = [CourtNode(self, number) for number in honest]
        self.traitor = Traitor(self, WITNESSES[3]) if seed % 3 else None
        self.all: list[CourtNode] = [*self.parties, *self.witnesses]
        self.away: set[PeerId] = set()
        """Who left and comes back when all is mended."""

    @property
    def parties(self) -> list[CourtNode]:
        return [node for node in self.nodes if isinstance(node, CourtNode)]

    def members(self) -> list[PeerId]:
        return [identity(number).peer_id for number in (1, 2, *WITNESSES)]

    async def begin(self) -> None:
        for node in (*self.witnesses, *self.parties):
            await node.start()
        await self.parties[0].service.open(self.parties[1].id, *DEPOSITS, 20 * 86_400)
        (view,) = self.parties[0].service.views()
        assert view.witnesses == len(WITNESSES)
        self.channel = bytes.fromhex(view.channel_id)

    async def live(self, step: Step) -> None:
        what, number, amount = step
        await self._raise_the_dead()
        node, side = self.all[number % len(self.all)], number % 2
        party = self.parties[side]
        match what:
            case "pay" if party.up:
                self._spawn(self._pay(side, amount))
                await asyncio.sleep(0.05 * (amount % 2))
            case "cut":
                self.hub.cut()
            case "link":
                self.hub.link()
            case "crash" if node.up:
                await node.stop()
                await node.start()
            case "strike" if node.up:
                self._strike(node, amount)
            case "leave" if node.up and len(self.away) < 3:
                self.away.add(node.id)
                await node.stop()
            case "dispute" if party.up:
                self._spawn(self._dispute(party))
            case "close" if party.up:
                self._spawn(self._close(side, False))
            case "lie" if self.traitor is not None:
                await self.traitor.lie(self.channel, node.id, amount)
            case "rest":
                await asyncio.sleep(RESTS_S[amount % len(RESTS_S)])
            case _:
                pass
        await asyncio.sleep(0)
        self.check()

    async def _dispute(self, party: CourtNode) -> None:
        with contextlib.suppress(ZsError):
            await party.disputes.dispute(self.channel.hex())

    async def _raise_the_dead(self) -> None:
        for node in self.all:
            if node.up and node.disk.dead:
                await node.stop()
                await node.start()

    def _leaves(self, wire: Wire, frame: bytes) -> None:
        kind = msgspec.msgpack.decode(frame, type=Envelope).type
        node = next((node for node in self.all if node.id == wire.me), None)
        if kind in _BODIES and node in self.nodes:
            super()._leaves(wire, frame)
        elif (
            node is not None and kind in MAIL_KINDS and not node.rows("SELECT 1 FROM dispute_mail WHERE raw = ?", frame)
        ):
            self.faults.append(f"a {kind} left before it was durable")

    async def heal(self) -> None:
        """Everything works again. One side may be away for a day more, and a witness of four, too: the others then decide."""
        for node in self.all:
            if node.up:
                node.disk.crash_at = None
        await self._raise_the_dead()
        absent = [self.parties[self.chance.randrange(2)]] if self.chance.random() < 0.6 else []
        if self.traitor is None or self.chance.random() < 0.3:
            absent.append(self.chance.choice(self.witnesses))
        for node in self.all:
            if node.up and node in absent:
                await node.stop()
            elif not node.up and node not in absent:
                await node.start()
        self.hub.link()
        await asyncio.sleep(60)
        await self._dispute(next(node for node in self.parties if node.up))
        await asyncio.sleep(DAY)
        await self._lies()
        await asyncio.sleep(3_600)
        for node in absent:
            await node.start()
        await self._lies()
        await asyncio.sleep(8_000)
        await asyncio.gather(*self.tasks)

    async def _lies(self) -> None:
        for node in self.all:
            if self.traitor is not None and node.up:
                await self.traitor.lie(self.channel, node.id, self.chance.randrange(6))

    def check_healed(self) -> None:
        self.check()
        views = [node.views()[self.channel.hex()] for node in self.parties]
        one, two = views
        assert one.state == two.state == "closed", f"{one.state} {one.reason} and {two.state} {two.reason}"
        assert {one.reason, two.reason} <= {"cooperative", "verdict"}
        assert (one.mine_u, one.theirs_u) == (two.theirs_u, two.mine_u), f"{one.reason} and {two.reason}"
        owed = [node.service.owed() for node in self.parties]
        assert owed[0] == owed[1][::-1]
        self._check_paid(views)
        self._check_verdicts()

    def _check_paid(self, views: list[ChannelView]) -> None:
        """What was acknowledged counts, whoever was away when it was decided."""
        moved = [node.service.record(self.channel.hex()).moved for node in self.parties]
        assert moved[0] == moved[1][::-1]
        for node, (paid, _) in zip(self.parties, moved, strict=True):
            record = node.service.record(self.channel.hex())
            assert record.acked_cum <= paid <= record.out.cum

    def _check_verdicts(self) -> None:
        """An honest witness signs once, all the same, and nobody honest is ever found at fault."""
        honest = {node.id for node in self.all}
        signed: dict[PeerId, set[bytes]] = {}
        said: set[bytes] = set()
        for node in self.all:
            for witness, digest, raw in node.rows("SELECT witness, digest, raw FROM dispute_verdicts"):
                if witness in honest:
                    signed.setdefault(witness, set()).add(raw)
                    said.add(digest)
            assert not {culprit for (culprit,) in node.rows("SELECT culprit FROM dispute_faults")} & honest
        assert all(len(raws) == 1 for raws in signed.values())
        assert len(said) <= 1

    async def end(self) -> None:
        for node in self.all:
            if node.up:
                await node.stop()
        if self.traitor is not None:
            await self.traitor.network.stop()
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def live(folder: Path, plan: list[Step], seed: int) -> None:
    loop = VirtualLoop()

    async def run() -> None:
        world = CourtWorld(loop, folder, seed)
        try:
            await world.begin()
            for step in plan:
                await world.live(step)
            await world.heal()
            world.check_healed()
        finally:
            await world.end()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "TICK_S", 7_000.0)
        patch.setattr(disputes_service, "TICK_S", 7_000.0)
        patch.setattr(links, "AWAY_S", 3_600.0)
        try:
            loop.run_until_complete(run())
        finally:
            loop.close()


SCHEMA = store.SCHEMA
