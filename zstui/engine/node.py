"""One node: builds every service, starts and stops them in order, and is the ``Engine`` that everything else talks to."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import platform
from collections.abc import AsyncIterator
from typing import TypeVar

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from zstui.engine import projection, verbs
from zstui.engine.bus import Bus
from zstui.engine.channels import schema as channel_schema
from zstui.engine.channels import store as channel_store
from zstui.engine.channels.approvals import schema as approval_schema
from zstui.engine.channels.approvals import store as approval_store
from zstui.engine.channels.approvals.model import PaymentRequest, PeerContext
from zstui.engine.channels.approvals.service import ApprovalService
from zstui.engine.channels.discharges.service import DischargeService
from zstui.engine.channels.disputes import store as dispute_store
from zstui.engine.channels.disputes.service import DisputeService
from zstui.engine.channels.messages import PayLine
from zstui.engine.channels.service import ChannelService
from zstui.engine.channels.vault.deposit import Extras
from zstui.engine.channels.vault.model import Deposit, PeerKept
from zstui.engine.channels.vault.service import VaultService
from zstui.engine.clock import US, Clock, SystemClock
from zstui.engine.commands import Command
from zstui.engine.config import Settings
from zstui.engine.dht import store as dht_store
from zstui.engine.dht.rendezvous import CARDS, Rendezvous
from zstui.engine.dht.service import Dht
from zstui.engine.errors import ApprovalError, StoreError, UnknownChannel, UnknownGuild, UnknownPeer, ZsError
from zstui.engine.events import GuildEnded, GuildJoined, Notice, WorkChanged
from zstui.engine.guilds import store as guild_store
from zstui.engine.guilds.service import GuildService
from zstui.engine.hardware import processor_model
from zstui.engine.home import Home
from zstui.engine.identity import envelope
from zstui.engine.identity.card import MAX_HARDWARE, MAX_REGION, Card
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs import store as job_store
from zstui.engine.jobs.cost import cost
from zstui.engine.jobs.funding import Funding
from zstui.engine.jobs.sandbox import calibration
from zstui.engine.jobs.sandbox.pool import Sandbox
from zstui.engine.jobs.service import JobService
from zstui.engine.logs import LogBook
from zstui.engine.market.service import Market
from zstui.engine.net import store as net_store
from zstui.engine.net.service import NetService
from zstui.engine.reputation import store as reputation_store
from zstui.engine.reputation.service import ReputationService
from zstui.engine.routing import store as routing_store
from zstui.engine.routing.service import Routing
from zstui.engine.search.service import PeerSearch
from zstui.engine.services import NAME_LIMIT, Profile, Services
from zstui.engine.store import meta
from zstui.engine.store.database import Database, Tx
from zstui.engine.store.upkeep import Upkeep
from zstui.engine.telemetry import Telemetry
from zstui.engine.views import ApprovalState, Feed, Snapshot

R = TypeVar("R")
MAX_PEERS_KEPT = 128
"""Peers that a deposit names."""
RESTORED_US = 400 * 86_400 * US
"""How long after a restore peers may still have channels that the copy did not: no channel lives longer."""

SCHEMA = (
    *meta.SCHEMA,
    *net_store.SCHEMA,
    *guild_store.SCHEMA,
    *channel_schema.SCHEMA,
    *dispute_store.SCHEMA,
    *approval_schema.SCHEMA,
    *reputation_store.SCHEMA,
    *job_store.SCHEMA,
    *dht_store.SCHEMA,
    *routing_store.SCHEMA,
)


class Node:
    """Create, ``await start()``, use, ``await stop()``. ``failed`` is set when the database can no longer be written."""

    def __init__(self, settings: Settings, home: Home, clock: Clock | None = None) -> None:
        self._settings = replace(settings, max_jobs=settings.max_jobs or os.cpu_count() or 1)
        self._home = home
        self._clock = clock or SystemClock()
        self._services: Services | None = None
        self._projector: projection.Projector | None = None
        self._follower: asyncio.Task[None] | None = None
        self._dials: set[asyncio.Task[None]] = set()
        self.failed = asyncio.Event()

    async def start(self) -> None:
        """Take the home, open the database, go on the network. Raises HomeError and its kinds; nothing is left behind."""
        self._home.acquire()
        try:
            had_key = self._home.key.exists()
            identity = Identity.load_or_create(self._home.key)
            db = await Database.open(self._home.database, SCHEMA)
        except ZsError:
            self._home.release()
            raise
        self.failed = db.failed
        try:
            tainted, restored = await self._count_boot(db, had_key)
            stored = await db.read(meta.name)
            given = clean_text(self._settings.name or stored, NAME_LIMIT)
            own = given or clean_text(platform.node(), NAME_LIMIT) or "zstui"
            profile = Profile(own, bool(given), await db.read(meta.backed_up_us))
            s = self._build(identity, db, profile, tainted, restored)
        except ZsError:
            await db.close()
            self._home.release()
            raise
        self._services = s
        try:
            self._projector = projection.Projector(s)
            self._projector.start()
            for service in (
                s.logs,
                s.telemetry,
                s.reputation,
                s.sandbox,
                s.guilds,
                s.channels,
                s.vault,
                s.discharges,
                s.upkeep,
                s.disputes,
                s.approvals,
                s.routing,
                s.jobs,
            ):
                await service.start()
            await s.net.start()
            for finder in (s.dht, s.rendezvous, s.search):
                await finder.start()
            self._follower = asyncio.create_task(self._follow_roles(s), name="roles")
        except ZsError:
            await self.stop()
            raise
        if s.sandbox.notice:
            s.bus.publish(Notice("warning", "jobs", s.sandbox.notice))
        if tainted:
            s.bus.publish(
                Notice(
                    "warning",
                    "channels",
                    "The database is older than this home's last start (a restored backup?): nothing is signed in a "
                    "channel until its peer has confirmed the latest state, and every grant was taken back.",
                )
            )

    async def _follow_roles(self, s: Services) -> None:
        """Becoming an executor, or ceasing to be one, changes what this node offers: tell the peers."""
        async for _ in s.bus.subscribe(GuildJoined, GuildEnded):
            s.net.card_changed()

    async def _count_boot(self, db: Database, had_key: bool) -> tuple[bool, bool]:
        """Count this start. (tainted, restored): whether the database is older than the home or came without the home's own
        count; and whether that, or an old key without its database, was the case within ``RESTORED_US``."""
        counted = self._home.boots.exists()
        outside, inside = self._home.read_boots(), await db.read(meta.boots)
        count = max(outside, inside) + 1
        await db.write(lambda tx: meta.set_boots(tx, count))
        self._home.write_boots(count)
        tainted = inside < outside or (inside > 0 and not counted)
        now = self._clock.now_us()
        if tainted or (inside == 0 and had_key):
            await db.write(lambda tx: meta.set_restored_us(tx, now))
            await db.write(approval_store.forget_grants)
        return tainted, now < await db.read(meta.restored_us) + RESTORED_US

    async def stop(self) -> None:
        """Finish or hand back what runs, say goodbye to peers, close the database, free the home. Idempotent."""
        s, self._services = self._services, None
        if s is None:
            self._home.release()
            return
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        for task in (*self._dials,):
            task.cancel()
        await asyncio.gather(*self._dials, return_exceptions=True)
        for service in (
            s.search,
            s.rendezvous,
            s.dht,
            s.jobs,
            s.routing,
            s.approvals,
            s.upkeep,
            s.discharges,
            s.vault,
            s.disputes,
            s.channels,
            s.guilds,
            s.net,
            s.sandbox,
            s.reputation,
            s.telemetry,
        ):
            with contextlib.suppress(StoreError):  # The database takes nothing more; the others must stop all the same.
                await service.stop()
        if self._projector is not None:
            await self._projector.stop()
        await s.logs.stop()
        await s.db.close()
        self._home.release()

    def _dial_again(self, deposit: Deposit, net: NetService) -> None:
        """Look for the peers that a deposit of mine names."""

        async def dial(peer: PeerKept) -> None:
            with contextlib.suppress(ZsError):
                await net.connect(peer.address)
                if peer.name:
                    await net.rename(peer.peer, peer.name)

        for peer in deposit.peers:
            if peer.peer not in net.connected():
                task = asyncio.create_task(dial(peer), name="dial")
                self._dials.add(task)
                task.add_done_callback(self._dials.discard)

    async def execute(self, command: Command[R]) -> R:
        return await verbs.execute(self._running, command)

    async def snapshot(self) -> Snapshot:
        return projection.snapshot(self._running)

    def events(self) -> AsyncIterator[Feed]:
        assert self._projector is not None, "the node is not started"
        return self._projector.subscribe()

    @property
    def _running(self) -> Services:
        if self._services is None:
            raise ZsError("The node is not running.")
        return self._services

    def _build(self, identity: Identity, db: Database, profile: Profile, tainted: bool, restored: bool) -> Services:
        settings, clock, bus = self._settings, self._clock, Bus()
        approvals: ApprovalService
        disputes: DisputeService
        jobs: JobService
        market: Market
        hardware = processor_model() if settings.hardware == "auto" else settings.hardware

        def my_card() -> bytes:
            return envelope.seal(
                identity,
                Card(
                    name=profile.name,
                    executor=settings.executor or runs_jobs(),
                    cores=os.cpu_count() or 1,
                    memory_mib=jobs.owner.memory_mib,
                    timeout_s=settings.max_timeout_s,
                    price_per_second_nano=settings.price_per_second_nano,
                    price_per_mib_nano=settings.price_per_mib_nano,
                    tags=settings.tags,
                    issued_us=clock.now_us(),
                    closed=jobs.owner.closed(),
                    speed=round(1000 * (own_speed() or 0)),
                    hardware=clean_text(hardware, MAX_HARDWARE),
                    region=clean_text(settings.region, MAX_REGION),
                    modules=jobs.standing.usual_modules(settings.card_modules),
                ),
            )

        def own_speed() -> float | None:
            measured = calibration.load(self._home.calibration)
            return None if measured is None else measured.score

        def runs_jobs() -> bool:
            me = identity.peer_id
            return any(guilds.role_of(guild_id, me) == "executor" for guild_id in guilds.shared_with(me))

        def admits(peer: PeerId) -> bool:
            return reputation.blocked_until(peer) is None

        def credit_limit(peer: PeerId) -> int:
            return 0 if disputes.at_fault(peer) else approvals.credit_limit(bool(guilds.shared_with(peer)))

        def fellow_members(peer: PeerId) -> list[PeerId]:
            """Members of all guilds that ``peer`` and I are in, but for the two."""
            shared = (guilds.members(guild_id) for guild_id in sorted(guilds.shared_with(peer)))
            found = dict.fromkeys(member for members in shared for member in members)
            return [member for member in found if member not in (peer, identity.peer_id)]

        def could_witness(peer: PeerId) -> list[PeerId]:
            """Observers only look on; all other members were told at joining that they may be asked."""
            roles = {g: guilds.members(g) for g in guilds.shared_with(peer)}
            return [
                member
                for member in fellow_members(peer)
                if admits(member) and any(members.get(member, "observer") != "observer" for members in roles.values())
            ]

        async def punish(peer: PeerId, hours: int, why: str) -> None:
            until = reputation.blocked_until(peer)
            if until is None or until < clock.now_us() // US + hours * 3600:
                await reputation.block(peer, hours, why)

        def on_acknowledged(tx: Tx, channel_id: str, peer: PeerId, line: PayLine) -> None:
            approvals.acknowledged(tx, peer, line)
            jobs.payments.acknowledged(tx, peer, line)

        def on_undone(tx: Tx, channel_id: str, peer: PeerId, line: PayLine) -> None:
            approvals.undone(tx, peer, line)

        def on_credit(tx: Tx, channel_id: str, peer: PeerId, line: PayLine) -> None:
            jobs.payments.credited(tx, peer, line)

        def context(request: PaymentRequest) -> PeerContext:
            peer = request.peer_id
            first_seen_at, guild_name = 0, ""
            with contextlib.suppress(UnknownPeer):
                first_seen_at = net.view(peer).first_seen_at
            with contextlib.suppress(UnknownGuild):
                guild_name = guilds.view(request.guild_id).name
            return PeerContext(
                peer_name=net.name_of(peer),
                peer_named=net.is_named(peer),
                first_seen_at=first_seen_at,
                guild_name=guild_name,
                my_role=guilds.role_of(request.guild_id, identity.peer_id) or "",
                peer_role=guilds.role_of(request.guild_id, peer) or "",
                score=reputation.score(peer),
                completed=reputation.completed(peer),
                blacklisted=not admits(peer),
            )

        def what_else_is_kept() -> Extras:
            known = (p for p in net.views() if p.address)
            return Extras(
                name=profile.name,
                peers=tuple(
                    PeerKept(p.peer_id, p.name if net.is_named(p.peer_id) else "", p.address)
                    for p in itertools.islice(known, MAX_PEERS_KEPT)
                ),
                guilds=tuple((g.guild_id, g.name) for g in guilds.views() if g.state == "joined"),
            )

        def due(request: PaymentRequest) -> int:
            if request.kind == "refund":
                return request.max_cost_u - request.paid_before_u
            if request.fault in ("executor", "network"):
                return 0
            return (
                cost(
                    request.price_per_second_nano,
                    request.price_per_mib_nano,
                    request.duration_us,
                    request.memory_bytes,
                    request.max_cost_u,
                ).total_u
                - request.paid_before_u
            )

        def payment_state(receipt_id: str) -> ApprovalState | None:
            try:
                return approvals.view(receipt_id).state
            except ApprovalError:
                return None

        def named(identifier: str) -> str:
            with contextlib.suppress(UnknownGuild):
                return guilds.view(identifier).name
            with contextlib.suppress(UnknownChannel):
                return channels.view(identifier).peer_name
            return net.name_of(identifier)

        net = NetService(identity, settings, db, bus, clock, admits=admits, my_card=my_card)
        dht = Dht(net, net, db, bus, clock, (CARDS,))
        net.find = dht.find_peer
        reputation = ReputationService(db, bus, clock, name_of=net.name_of)
        guilds = GuildService(
            identity,
            net,
            db,
            bus,
            clock,
            name_of=net.name_of,
            addresses=net.addresses,
            connect=net.connect,
            card_of=net.card_of,
            is_known=net.is_named,
        )
        sandbox = Sandbox(self._home.cache, settings.max_jobs)
        channels = ChannelService(
            identity,
            net,
            db,
            bus,
            clock,
            name_of=net.name_of,
            credit_limit=credit_limit,
            at_risk=lambda peer: jobs.standing.at_risk(peer),
            owed=lambda peer: jobs.standing.owed(peer),
            reserved=lambda peer: jobs.standing.reserved(peer),
            on_credit=on_credit,
            on_acknowledged=on_acknowledged,
            on_undone=on_undone,
            tainted=tainted,
            restored=lambda: vault.restored,
            nominate=lambda peer, wanted, expires_s: disputes.nomination(peer, wanted, expires_s),
            agreed_witnesses=lambda peer: disputes.nomination.agreed(peer),
            action_in_case=lambda channel_id: disputes.action(channel_id),
        )
        disputes = DisputeService(
            identity,
            net,
            db,
            bus,
            clock,
            channels=channels,
            name_of=net.name_of,
            candidates=could_witness,
            willing=lambda peer: settings.witness and admits(peer) and bool(guilds.shared_with(peer)),
            shares_guild=lambda peer: bool(guilds.shared_with(peer)),
            fellows=lambda peer: fellow_members(peer) or fellow_members(identity.peer_id),
            blacklist=punish,
        )
        vault = VaultService(
            identity,
            net,
            db,
            bus,
            clock,
            channels.books,
            member=lambda peer: bool(guilds.shared_with(peer)),
            extras=what_else_is_kept,
            found=lambda deposit: self._dial_again(deposit, net),
            restored=restored,
        )
        channels.links.prepare = vault.prepare
        discharges = DischargeService(identity, net, db, bus, clock, channels.books, name_of=net.name_of)
        approvals = ApprovalService(
            db,
            bus,
            clock,
            channel=channels.active_with,
            pay=channels.pay,
            context=context,
            due=due,
            settings=settings,
            signed=channel_store.signed_under,
        )
        jobs = JobService(
            identity,
            settings,
            net,
            db,
            bus,
            clock,
            guilds=guilds,
            channels=channels,
            sandbox=sandbox,
            output_dir=self._home.output,
            name_of=net.name_of,
            card_of=net.card_of,
            request_payment=approvals.bill,
            record_outcome=reputation.record,
            admits=admits,
            fund=Funding(channels, net.name_of, settings.credit_member_u, lambda peer: jobs.standing.reserved(peer)),
            payment_state=payment_state,
            candidates=lambda spec: market.candidates(spec),
        )

        def offer_changed() -> None:
            net.card_changed()
            bus.publish(WorkChanged())

        jobs.owner.changed = offer_changed

        def cores_of(peer: PeerId) -> int:
            card = net.card_of(peer)
            return 1 if card is None else card.cores

        routing = Routing(
            db,
            bus,
            clock,
            result_of=jobs.standing.result,
            typical_us=jobs.standing.typical_us,
            cores_of=cores_of,
            known=lambda: {p.peer_id for p in net.views()},
        )
        net.choose_relays(routing)
        market = Market(
            jobs=jobs.standing,
            guilds=guilds,
            reputation=reputation,
            net=net,
            settings=settings,
            own_speed=own_speed,
            uptime=jobs.standing.uptime,
            soon=routing.learned,
        )
        telemetry = Telemetry(
            bus,
            CollectorRegistry(),
            settings,
            guild_sizes=guilds.sizes,
            channel_balances=lambda: {
                ch.channel_id: (ch.mine_u, ch.theirs_u) for ch in channels.views() if ch.state != "closed"
            },
            scores=lambda: {r.peer_id: r.score for r in reputation.rank()},
            blacklisted=reputation.blocked,
            health=lambda: "The database cannot be written." if db.failed.is_set() else "",
        )
        return Services(
            profile=profile,
            settings=settings,
            home=self._home,
            identity=identity,
            clock=clock,
            bus=bus,
            db=db,
            upkeep=Upkeep(db, self._home.database, clock, (channel_store.prune,)),
            net=net,
            guilds=guilds,
            channels=channels,
            vault=vault,
            discharges=discharges,
            disputes=disputes,
            approvals=approvals,
            reputation=reputation,
            sandbox=sandbox,
            jobs=jobs,
            market=market,
            dht=dht,
            rendezvous=Rendezvous(
                dht,
                net,
                bus,
                my_card=my_card,
                runs_jobs=lambda: settings.executor or runs_jobs(),
                open_guilds=lambda: [g.guild_id for g in guilds.views() if g.state == "joined" and not g.private],
            ),
            routing=routing,
            search=PeerSearch(bus, known=lambda: [p.peer_id for p in net.views()], card_of=net.card_of),
            telemetry=telemetry,
            logs=LogBook(bus, self._home.logs, clock, named),
        )
