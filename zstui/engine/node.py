"""One node: starts its services and stops them in order, and is the ``Engine`` that everything else talks to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
from collections.abc import AsyncIterator
from typing import TypeVar

from msgspec.structs import replace

from zstui.engine import projection, verbs
from zstui.engine.channels import schema as channel_schema
from zstui.engine.channels.approvals import schema as approval_schema
from zstui.engine.channels.approvals import store as approval_store
from zstui.engine.channels.disputes import store as dispute_store
from zstui.engine.channels.vault.model import Deposit, PeerKept
from zstui.engine.clock import US, Clock, SystemClock
from zstui.engine.commands import Command
from zstui.engine.complaints import store as complaint_store
from zstui.engine.config import Settings
from zstui.engine.dht import store as dht_store
from zstui.engine.errors import StoreError, ZsError
from zstui.engine.events import GuildEnded, GuildJoined, Notice
from zstui.engine.guilds import store as guild_store
from zstui.engine.home import Home
from zstui.engine.identity.keys import Identity
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs import store as job_store
from zstui.engine.net import store as net_store
from zstui.engine.net.service import NetService
from zstui.engine.reputation import store as reputation_store
from zstui.engine.routing import store as routing_store
from zstui.engine.services import NAME_LIMIT, Profile, Services
from zstui.engine.store import meta
from zstui.engine.store.database import Database
from zstui.engine.views import Feed, Snapshot
from zstui.engine.wiring import build

R = TypeVar("R")
RESTORED_US = 400 * 86_400 * US
"""How long after a restore peers may still have channels that the copy did not: no channel lives longer."""

SCHEMA = (
    *meta.SCHEMA,
    *net_store.SCHEMA,
    *guild_store.SCHEMA,
    *channel_schema.SCHEMA,
    *dispute_store.SCHEMA,
    *complaint_store.SCHEMA,
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
            s = build(
                self._settings,
                self._home,
                self._clock,
                identity,
                db,
                profile,
                tainted=tainted,
                restored=restored,
                dial_again=self._dial_again,
            )
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
                s.complaints,
            ):
                await service.start()
            await s.net.start()
            for finder in (s.dht, s.rendezvous, s.search, s.announcements):
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
            s.announcements,
            s.search,
            s.rendezvous,
            s.dht,
            s.complaints,
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
