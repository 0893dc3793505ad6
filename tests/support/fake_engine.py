"""An in-memory ``Engine`` for screen tests: it records commands, answers them plausibly, and streams what a test pushes."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any, TypeVar, cast

import msgspec

from tests.support import fake_money, money_samples, samples
from tests.support.fake_money import find
from zstui.engine import commands as c
from zstui.engine import views as v
from zstui.engine.bus import Bus, Subscription
from zstui.engine.errors import BadInput, UnknownGuild, UnknownJob, UnknownPeer, ZsError

R = TypeVar("R")
V = TypeVar("V", bound=v.View)
EVENTS: dict[str, str] = {
    "peers": "peer_id",
    "guilds": "guild_id",
    "jobs": "job_id",
    "batches": "batch_id",
    "channels": "channel_id",
    "disputes": "key",
    "approvals": "request_id",
}


class FakeEngine:
    """``executed`` lists every command in order; ``failures`` maps a command class to the error it shall raise.

    ``push`` feeds events as a node would and updates what ``snapshot`` returns; ``lose`` ends the feed.
    """

    def __init__(self, snapshot: v.Snapshot | None = None) -> None:
        start = snapshot if snapshot is not None else samples.snapshot()
        self.executed: list[c.Command[Any]] = []
        self.failures: dict[type[c.Command[Any]], ZsError] = {}
        self.outputs: dict[str, bytes] = {}
        """What jobs printed, where a test says it."""
        self.status = start.status
        self.peers = {view.peer_id: view for view in start.peers}
        self.guilds = {view.guild_id: view for view in start.guilds}
        self.jobs = {view.job_id: view for view in start.jobs}
        self.batches = {view.batch_id: view for view in start.batches}
        self.work = v.WorkView(accepting=True, max_jobs=2, memory_mib=128)
        self.channels = {view.channel_id: view for view in start.channels}
        self.disputes = {view.key: view for view in start.disputes}
        self.approvals = {view.request_id: view for view in start.approvals}
        self.discharges = {view.discharge_id: view for view in (money_samples.discharge("1"),)}
        self.ranks = start.ranks
        self.log = list(start.log)
        self.messages: dict[str, list[v.GuildMessageView]] = defaultdict(list)
        self.policy = v.PolicyView(
            grants=(), typed_above_u=50_000_000, credit_member_u=100_000_000, credit_stranger_u=1_000_000
        )
        self._bus = Bus()
        self._feeds: list[Subscription[v.FeedEvent]] = []

    # --- what a test drives -------------------------------------------------------------------------------------------

    def push(self, *events: v.Feed) -> None:
        """Apply the events to the snapshot and stream them."""
        for event in events:
            self._apply(event)
            self._bus.publish(event)

    def lose(self) -> None:
        """End every feed, as a node that stops does."""
        for feed in self._feeds:
            feed.close()

    def commands(self, kind: type[c.Command[Any]]) -> list[c.Command[Any]]:
        """The executed commands of one class."""
        return [command for command in self.executed if isinstance(command, kind)]

    def _apply(self, event: v.Feed) -> None:
        match event:
            case v.StatusUpdated(view=status):
                self.status = status
            case v.BatchUpdated(view=batch):
                self.batches[batch.batch_id] = batch
            case (
                v.PeerUpdated()
                | v.GuildUpdated()
                | v.JobUpdated()
                | v.ChannelUpdated()
                | v.ApprovalUpdated()
                | v.DisputeUpdated()
            ):
                area = type(event).__name__.removesuffix("Updated").lower() + "s"
                getattr(self, area)[getattr(event.view, EVENTS[area])] = event.view
            case v.RanksUpdated(views=ranks):
                self.ranks = ranks
            case v.Removed(area=area, key=key) if area in EVENTS:
                getattr(self, area).pop(key, None)
            case v.Logged(line=line):
                self.log.append(line)
            case v.GuildMessage(view=message):
                self.messages[message.guild_id].append(message)
            case _:
                pass

    # --- commands.Engine ----------------------------------------------------------------------------------------------

    async def snapshot(self) -> v.Snapshot:
        return v.Snapshot(
            status=self.status,
            peers=tuple(self.peers.values()),
            guilds=tuple(self.guilds.values()),
            jobs=tuple(self.jobs.values()),
            batches=tuple(self.batches.values()),
            channels=tuple(self.channels.values()),
            disputes=tuple(self.disputes.values()),
            approvals=tuple(self.approvals.values()),
            ranks=self.ranks,
            log=tuple(self.log),
        )

    def events(self) -> AsyncIterator[v.Feed]:
        feed = self._bus.subscribe(v.FeedEvent, limit=65536)
        self._feeds.append(feed)

        async def stream() -> AsyncIterator[v.Feed]:
            try:
                async for event in feed:
                    yield cast("v.Feed", event)
            finally:
                feed.close()

        return stream()

    async def taken(self) -> None:
        """Wait until every event was taken from its feed. Raises TimeoutError."""
        async with asyncio.timeout(20):
            while any(feed._queue for feed in self._feeds):  # noqa: ASYNC110  a deque has no event to wait for
                await asyncio.sleep(0.005)

    async def execute(self, command: c.Command[R]) -> R:
        self.executed.append(command)
        if error := self.failures.get(type(command)):
            raise error
        return cast("R", self._answer(command))

    def _answer(self, command: c.Command[Any]) -> object:
        now = int(time.time())
        match command:
            case c.Status():
                return self.status
            case c.ListPeers() | c.Discover():
                return list(self.peers.values())
            case c.ShowPeer(peer=text):
                return samples.peer_detail(find(self.peers, text, UnknownPeer))
            case c.ShowNetwork():
                return samples.network(self.status)
            case c.ListRoutes():
                return list(samples.network(self.status).routes)
            case c.Connect(address=address):
                peer = next((p for p in self.peers.values() if address in (p.peer_id, p.name, p.address)), None)
                if peer is None:
                    raise UnknownPeer(f"Nobody answers at {address[:60]}.")
                return self.put(msgspec.structs.replace(peer, state="online", path=peer.path or "lan", why=""))
            case c.NamePeer(peer=text, name=name):
                return self.put(msgspec.structs.replace(find(self.peers, text, UnknownPeer), name=name))
            case c.BlockPeer(peer=text, hours=hours):
                return self._block(find(self.peers, text, UnknownPeer), now + hours * 3600)
            case c.UnblockPeer(peer=text):
                return self._block(find(self.peers, text, UnknownPeer), None)
            case c.CreateGuild():
                return self.put(samples.created_guild(self.status, command, len(self.guilds)))
            case c.ListGuilds():
                return list(self.guilds.values())
            case c.JoinGuild(guild=text, role=role):
                guild = find(self.guilds, text, UnknownGuild)
                me = v.GuildMemberView(peer_id=self.status.peer_id, role=role, name=self.status.name, online=True)
                changed = msgspec.structs.replace(
                    guild,
                    state="joined",
                    role=role,
                    members=(*guild.members, me),
                    member_count=guild.member_count + 1,
                    fingerprint="77ab·90c1",
                )
                if guild.admission == "knock":
                    changed = msgspec.structs.replace(guild, state="knocking")
                return self.put(changed)
            case c.LeaveGuild(guild=text):
                return self.put(msgspec.structs.replace(find(self.guilds, text, UnknownGuild), state="left"))
            case c.DissolveGuild(guild=text):
                return self.put(msgspec.structs.replace(find(self.guilds, text, UnknownGuild), state="dissolved"))
            case c.KickMember(guild=text, peer=peer_id):
                guild = find(self.guilds, text, UnknownGuild)
                left = tuple(m for m in guild.members if m.peer_id != peer_id)
                return self.put(msgspec.structs.replace(guild, members=left, member_count=len(left)))
            case c.ExtendGuild(guild=text, by_s=by_s):
                guild = find(self.guilds, text, UnknownGuild)
                return self.put(msgspec.structs.replace(guild, expires_at=guild.expires_at + by_s))
            case c.NameOfficer(guild=text, peer=peer_id, remove=remove):
                guild = find(self.guilds, text, UnknownGuild)
                members = tuple(
                    msgspec.structs.replace(m, officer=not remove) if m.peer_id == peer_id else m for m in guild.members
                )
                return self.put(msgspec.structs.replace(guild, members=members))
            case c.ListKnocks(guild=text):
                guilds = [find(self.guilds, text, UnknownGuild)] if text else list(self.guilds.values())
                return [knock for guild in guilds for knock in guild.knocks]
            case c.AdmitPeer(guild=text, peer=peer_id) | c.RefusePeer(guild=text, peer=peer_id):
                guild = find(self.guilds, text, UnknownGuild)
                return self.put(samples.answered(guild, peer_id, isinstance(command, c.AdmitPeer)))
            case c.InviteToGuild(guild=text):
                return samples.invite(find(self.guilds, text, UnknownGuild), command)
            case c.ListInvites(guild=text) | c.RevokeInvite(guild=text):
                guild = find(self.guilds, text, UnknownGuild)
                return [samples.issued_invite(guild, revoked=isinstance(command, c.RevokeInvite))]
            case c.ShowInvite(invite=text, qr=qr, ask=ask):
                if not text.startswith("zsg2"):
                    raise BadInput("This invite is damaged or incomplete; copy the whole string again.")
                detail = samples.invite_detail(text, qr)
                standing = "2 of 5 uses left; 7 of 10 members"
                return msgspec.structs.replace(detail, usable=True, standing=standing) if ask else detail
            case c.SendMessage(guild=text, text=body):
                guild = find(self.guilds, text, UnknownGuild)
                message = v.GuildMessageView(
                    guild_id=guild.guild_id,
                    sender=self.status.peer_id,
                    sender_name=self.status.name,
                    text=body,
                    sent_at=now,
                    recipients=max(0, guild.member_count - 1),
                )
                self.push(v.GuildMessage(view=message))
                return message
            case c.ListMessages(guild=text, peek=peek):
                guild = find(self.guilds, text, UnknownGuild)
                if guild.unread and not peek:
                    self.put(msgspec.structs.replace(guild, unread=0))
                return list(self.messages[guild.guild_id])
            case c.EstimateJob(spec=spec):
                return samples.estimate(spec, list(self.peers.values()))
            case c.SubmitJob(spec=spec):
                return self.put(samples.submitted_job(self.status, spec, self.guilds, len(self.jobs)))
            case c.WaitJob(job=text) | c.ShowJob(job=text):
                return find(self.jobs, text, UnknownJob)
            case c.ListJobs():
                return list(self.jobs.values())
            case c.GetOutput(job=text):
                job = find(self.jobs, text, UnknownJob)
                return v.JobOutputView(
                    job_id=job.job_id,
                    stdout=self.outputs.get(job.job_id, samples.OUTPUT),
                    stderr=b"",
                    complete=job.state != "running",
                    path=f"/tmp/zs/{job.job_id[:8]}.out",
                )
            case c.CancelJob(job=text):
                job = find(self.jobs, text, UnknownJob)
                return self.put(msgspec.structs.replace(job, state="cancelled", why="Cancelled by you."))
            case c.RerunJob(job=text):
                job = find(self.jobs, text, UnknownJob)
                fresh = f"{len(self.jobs):02x}" + job.job_id[2:]
                return self.put(msgspec.structs.replace(job, job_id=fresh, state="queued", why=""))
            case c.SubmitBatch():
                return self.put(samples.submitted_batch(command, self.guilds, len(self.batches)))
            case c.ListBatches():
                return list(self.batches.values())
            case c.ShowBatch(batch=text) | c.WaitBatch(batch=text):
                return find(self.batches, text, UnknownJob)
            case c.CollectBatch(batch=text, directory=directory):
                return v.CollectedView(batch_id=text, directory=directory, jobs=0, files=0, size=0)
            case c.CancelBatch(batch=text):
                batch = find(self.batches, text, UnknownJob)
                ended = batch.queued + batch.running
                return self.put(msgspec.structs.replace(batch, state="cancelled", queued=0, running=0, cancelled=ended))
            case c.ShowWork():
                return self.work
            case c.SetWorking(accept=accept):
                return self._work(accepting=accept, why="" if accept else "its owner takes no new work")
            case c.Calibrate():
                return v.CalibrationView(
                    score=1.25, kernels={"sha256": 812}, reference="a laptop of 2021", at=now * 10**6
                )
            case c.StopAllJobs():
                return self._work(accepting=False, why="its owner takes no new work", running=0, waiting=0)
            case c.SetHours(start=start, end=end):
                return self._work(hours_start=start, hours_end=end)
            case c.SetJobLimits():
                given = {f: x for f in command.__struct_fields__ if (x := getattr(command, f)) is not None}
                return self._work(**given)
            case c.ShowReceipt(receipt=text):
                return {"receipt_id": text, "status": "success", "cost_u": 3369, "exit_code": 0, "attestations": []}
            case c.Rank():
                return list(self.ranks)
            case _:
                return fake_money.answer(self, command)

    def _work(self, **changes: Any) -> v.WorkView:
        self.work = msgspec.structs.replace(self.work, **changes)
        status = msgspec.structs.replace(self.status, accepting=self.work.accepting, draining_why=self.work.why)
        self.push(v.StatusUpdated(view=status))
        return self.work

    def put(self, view: V) -> V:
        event: v.Feed
        match view:
            case v.PeerView():
                event = v.PeerUpdated(view=view)
            case v.GuildView():
                event = v.GuildUpdated(view=view)
            case v.JobView():
                event = v.JobUpdated(view=view)
            case v.BatchView():
                event = v.BatchUpdated(view=view)
            case v.ChannelView():
                event = v.ChannelUpdated(view=view)
            case v.ApprovalView():
                event = v.ApprovalUpdated(view=view)
            case _:
                raise NotImplementedError(type(view).__name__)
        self.push(event)
        return view

    def _block(self, peer: v.PeerView, until: int | None) -> v.RankView:
        self.put(
            msgspec.structs.replace(peer, state="blocked" if until else "offline", blocked_until=until, why="by you")
        )
        entry = next((r for r in self.ranks if r.peer_id == peer.peer_id), None) or samples.rank(peer, None)
        entry = msgspec.structs.replace(entry, blacklisted_until=until, blacklist_reason="by you" if until else "")
        rest = tuple(r for r in self.ranks if r.peer_id != peer.peer_id)
        self.push(v.RanksUpdated(views=(*rest, entry)))
        return entry
