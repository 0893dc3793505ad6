"""From services to views: the snapshot, and the feed of what changed since.

Changes are coalesced: whatever happens to one record within ``PERIOD_S`` becomes one update with its latest view.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Collection

from msgspec.structs import replace

from zstui import __version__
from zstui.engine import events as e
from zstui.engine import views as v
from zstui.engine.bus import Bus, Subscription
from zstui.engine.errors import ZsError
from zstui.engine.services import Services

PERIOD_S = 0.1
TICK_S = 1.0
FEED_LIMIT = 20_000


def status(s: Services) -> v.StatusView:
    seen_by, seen_at = s.net.status.seen_by()
    owed_to_me, i_owe = s.channels.owed()
    closed = s.jobs.owner.closed()
    warnings = (s.telemetry.notice, s.sandbox.notice, s.vault.warning, s.jobs.retention.notice())
    return v.StatusView(
        peer_id=s.identity.peer_id,
        name=s.profile.name,
        addresses=s.net.addresses(),
        peers=len(s.net.connected()),
        guilds=sum(g.state == "joined" for g in s.guilds.views()),
        jobs_running=len(s.jobs.active()),
        approvals=s.approvals.waiting(),
        owed_to_me_u=owed_to_me,
        i_owe_u=i_owe,
        balance_u=sum(ch.mine_u for ch in s.channels.views() if ch.state in ("active", "closing")),
        network=s.net.status.describe(),
        seen_by=seen_by,
        seen_at=seen_at,
        reachability=s.net.status.reachability(),
        executor=s.settings.executor,
        accepting=not closed,
        draining_why=closed,
        metrics=s.telemetry.address,
        home=str(s.home.path),
        backed_up_at=s.profile.backed_up_us // 1_000_000 or None,
        database_bytes=s.upkeep.size_bytes(),
        version=__version__,
        dht_contacts=s.dht.contacts,
        dht_records=s.dht.records,
        topics=s.announcements.views(),
        demo=s.settings.demo,
        first_run=not s.profile.chosen,
        notices=(*s.net.status.notices(), *filter(None, warnings)),
    )


def peer(s: Services, peer_id: str) -> v.PeerView:
    return _standing(s, s.net.view(peer_id))


def peers(s: Services) -> list[v.PeerView]:
    return [_standing(s, view) for view in s.net.views()]


def _standing(s: Services, view: v.PeerView) -> v.PeerView:
    until = s.reputation.blocked_until(view.peer_id)
    return replace(
        view,
        score=s.reputation.score(view.peer_id),
        heard=s.testimonies.of(view.peer_id),
        blocked_until=until,
        state="blocked" if until is not None and view.state != "online" else view.state,
    )


def guild(s: Services, guild_id: str) -> v.GuildView:
    return replace(s.guilds.view(guild_id), jobs=sum(j.guild_id == guild_id for j in s.jobs.active()))


def guilds(s: Services) -> list[v.GuildView]:
    jobs = Counter(j.guild_id for j in s.jobs.active())
    return [replace(view, jobs=jobs[view.guild_id]) for view in s.guilds.views()]


def snapshot(s: Services) -> v.Snapshot:
    return v.Snapshot(
        status=status(s),
        peers=tuple(peers(s)),
        guilds=tuple(guilds(s)),
        jobs=tuple(s.jobs.views()),
        batches=tuple(s.jobs.batches.views()),
        channels=tuple(s.channels.views()),
        disputes=(*s.disputes.views(), *s.complaints.views()),
        approvals=tuple(s.approvals.views()),
        ranks=tuple(s.reputation.rank()),
        log=tuple(s.logs.lines()),
    )


class Projector:
    """Follows the engine's bus and publishes feed events on a bus of its own."""

    def __init__(self, services: Services) -> None:
        self._s = services
        self._feed = Bus()
        self._source: Subscription[e.Event] = services.bus.subscribe(e.Event, limit=100_000)
        self._dirty: dict[tuple[v.Area, str], None] = {}
        self._status = False
        self._standing_changed = False
        """What a waiting payment would do may be different: it depends on its channel and on the payee's standing."""
        self._tasks: list[asyncio.Task[None]] = []
        self._wake = asyncio.Event()
        services.logs.on_line = lambda line: self._feed.publish(v.Logged(line=line))

    def start(self) -> None:
        self._tasks = [asyncio.create_task(t, name="projector") for t in (self._follow(), self._flush(), self._tick())]

    async def stop(self) -> None:
        self._source.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def subscribe(self) -> AsyncIterator[v.Feed]:
        """Feed events from this call on. A reader that falls ``FEED_LIMIT`` behind loses the oldest."""
        subscription = self._feed.subscribe(v.FeedEvent, limit=FEED_LIMIT)

        async def iterate() -> AsyncIterator[v.Feed]:
            try:
                async for event in subscription:
                    yield event  # type: ignore[misc]
            finally:
                subscription.close()

        return iterate()

    async def _follow(self) -> None:
        async for event in self._source:
            match event:
                case e.JobOutputReceived(job_id=job_id, stream=stream, offset=offset, data=data):
                    self._feed.publish(v.JobOutput(job_id=job_id, stream=stream, offset=offset, data=data))
                case e.GuildMessageReceived(guild_id=guild_id, number=number):
                    await self._message(guild_id, number)
                case e.PeerChanged(peer_id=key) | e.PeerConnected(peer_id=key) | e.PeerDisconnected(peer_id=key):
                    self._mark("peers", key)
                case e.GuildChanged(guild_id=key) | e.GuildEnded(guild_id=key):
                    self._mark("guilds", key)
                case e.JobChanged(job_id=key):
                    self._mark("jobs", key)
                case e.BatchChanged(batch_id=key):
                    self._mark("batches", key)
                case e.ChannelChanged(channel_id=key):
                    self._mark("channels", key)
                    self._standing_changed = True
                case e.DisputeChanged(channel_id=key):
                    self._mark("disputes", key)
                    self._mark("channels", key)
                case e.ApprovalChanged(request_id=key) | e.ApprovalAsked(request_id=key):
                    self._mark("approvals", key)
                case e.ReputationChanged(peer_id=key) | e.TrustEvent(peer_id=key):
                    self._mark("ranks", "")
                    self._mark("peers", key)
                    self._standing_changed = True
                case e.AddressesChanged() | e.WorkChanged():
                    self._mark_status()
                case _:
                    pass

    async def _message(self, guild_id: str, number: int) -> None:
        with contextlib.suppress(ZsError):
            self._feed.publish(v.GuildMessage(view=await self._s.guilds.message(guild_id, number)))

    def _mark(self, area: v.Area, key: str) -> None:
        self._dirty[area, key] = None
        self._mark_status()

    def _mark_status(self) -> None:
        self._status = True
        self._wake.set()

    async def _flush(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            dirty, self._dirty = self._dirty, {}
            standing_changed, self._standing_changed = self._standing_changed, False
            status_changed, self._status = self._status, False
            if self._feed.subscribed:  # Whoever subscribes later takes a snapshot after that.
                if standing_changed:
                    waiting = (a.request_id for a in self._s.approvals.views() if a.state == "waiting")
                    dirty.update((("approvals", request_id), None) for request_id in waiting)
                self._tell(dirty)
                if status_changed:
                    self._feed.publish(v.StatusUpdated(view=status(self._s)))
            await asyncio.sleep(PERIOD_S)

    def _tell(self, dirty: Collection[tuple[v.Area, str]]) -> None:
        partners: set[str] = set()
        for area, key in dirty:
            event = self._view(area, key)
            self._feed.publish(event)
            if isinstance(event, v.JobUpdated):
                partners.add((event.view.executor or "") if event.view.mine else event.view.submitter)
        for channel in filter(None, map(self._s.channels.active_with, partners)):
            if ("channels", channel.channel_id) not in dirty:
                self._feed.publish(v.ChannelUpdated(view=channel))  # What is at risk follows the jobs.

    async def _tick(self) -> None:
        """Running jobs show their elapsed time."""
        while True:
            await asyncio.sleep(TICK_S)
            for job in self._s.jobs.active():
                if job.state == "running":
                    self._mark("jobs", job.job_id)

    def _view(self, area: v.Area, key: str) -> v.Feed:
        s = self._s
        try:
            match area:
                case "peers":
                    return v.PeerUpdated(view=peer(s, key))
                case "guilds":
                    return v.GuildUpdated(view=guild(s, key))
                case "jobs":
                    return v.JobUpdated(view=s.jobs.view(key))
                case "channels":
                    return v.ChannelUpdated(view=s.channels.view(key))
                case "disputes":
                    rooms = s.complaints if s.complaints.find(key) else s.disputes
                    return v.DisputeUpdated(view=rooms.view(key))
                case "approvals":
                    return v.ApprovalUpdated(view=s.approvals.view(key))
                case "batches":
                    return v.BatchUpdated(view=s.jobs.batches.view(key, jobs=False))
                case "ranks":
                    return v.RanksUpdated(views=tuple(s.reputation.rank()))
        except ZsError:
            return v.Removed(area=area, key=key)
