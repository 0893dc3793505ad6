"""A payer, an executor and four witnesses: real channels, disputes, approvals, jobs and complaints; the sandbox is a double."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from tests.engine.channels.disputes.court import CourtNode, shift
from tests.engine.channels.rig import BOOKS, running, until
from tests.engine.jobs.rig import GUILD, QUICK, Guest, Guild, SandboxDouble, wasm
from zstui.engine.bus import Bus
from zstui.engine.channels import schema as channel_schema
from zstui.engine.channels import store as channel_store
from zstui.engine.channels.approvals import schema as approval_schema
from zstui.engine.channels.approvals.model import PaymentRequest, PeerContext
from zstui.engine.channels.approvals.service import ApprovalService
from zstui.engine.channels.disputes import store as dispute_store
from zstui.engine.channels.disputes.service import DisputeService
from zstui.engine.channels.messages import PayLine
from zstui.engine.channels.service import ChannelService
from zstui.engine.commands import JobSpec
from zstui.engine.complaints import store
from zstui.engine.complaints.service import ComplaintService
from zstui.engine.config import Settings
from zstui.engine.events import Event
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs import store as job_store
from zstui.engine.jobs.cost import cost
from zstui.engine.jobs.room import Offer
from zstui.engine.jobs.service import JobService
from zstui.engine.net.memory import MemoryHub
from zstui.engine.reputation.score import Outcome
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import DisputeView, JobView

MODULE = wasm("tool")
CARD = Offer(
    executor=True,
    memory_mib=128,
    timeout_s=30,
    price_per_second_nano=10**7,
    price_per_mib_nano=10**5,
    note_ms=60_000,
    accept_ms=10_000,
    exposure_max_u=10**6,
)


class TradeNode(CourtNode):
    """Everything that a complaint touches."""

    def __init__(self, hub: MemoryHub, number: int, folder: Path, members: list[PeerId], guild: Guild) -> None:
        super().__init__(hub, number, folder, members)
        self.schema = (
            *channel_schema.SCHEMA,
            *dispute_store.SCHEMA,
            *approval_schema.SCHEMA,
            *job_store.SCHEMA,
            *store.SCHEMA,
            BOOKS,
        )
        self.home = folder / self.name
        self.home.mkdir()
        self.guild = guild
        self.sandbox = SandboxDouble()
        self.outcomes: list[Outcome] = []
        self.settings = Settings(home=self.home, audit_share=0.0, executor=True)
        guild.roles[self.id] = "member"

    async def start(self) -> TradeNode:
        self.db = await Database.open(self.path, self.schema)
        self.bus = Bus()
        self.events = self.bus.subscribe(Event, limit=100_000)
        self.memory = self.hub.add(self.id, self.bus)
        network = self.wrap(self.memory)
        disputes: DisputeService
        complaints: ComplaintService
        jobs: JobService

        def credit(tx: Tx, channel: str, peer: PeerId, line: PayLine) -> None:
            jobs.payments.credited(tx, peer, line)
            complaints.credited(tx, peer, line)

        def acknowledged(tx: Tx, channel: str, peer: PeerId, line: PayLine) -> None:
            self.approvals.acknowledged(tx, peer, line)
            jobs.payments.acknowledged(tx, peer, line)

        self.service = ChannelService(
            self.identity,
            network,
            self.db,
            self.bus,
            self.clock,
            name_of=_name,
            credit_limit=lambda peer: self.limit,
            at_risk=lambda peer: 0,
            on_credit=credit,
            on_acknowledged=acknowledged,
            on_undone=lambda tx, channel, peer, line: self.approvals.undone(tx, peer, line),
            nominate=lambda peer, wanted, expires_s: disputes.nomination(peer, wanted, expires_s),
            agreed_witnesses=lambda peer: disputes.nomination.agreed(peer),
            action_in_case=lambda channel_id: disputes.action(channel_id),
        )
        self.disputes = disputes = DisputeService(
            self.identity,
            network,
            self.db,
            self.bus,
            self.clock,
            channels=self.service,
            name_of=_name,
            candidates=lambda peer: [m for m in self.members if m not in (peer, self.id)],
            runs_jobs=lambda peer: True,
            willing=lambda peer: self.willing and peer in self.members,
            shares_guild=lambda peer: peer in self.members,
            fellows=lambda peer: [],
            guilds_of=lambda one, two: [GUILD],
            blacklist=self._blacklist,
            tainted=self.tainted,
        )
        self.approvals = ApprovalService(
            self.db,
            self.bus,
            self.clock,
            channel=self.service.active_with,
            pay=self.service.pay,
            context=_context,
            due=_due,
            settings=self.settings,
            signed=channel_store.signed_under,
        )
        self.jobs = jobs = JobService(
            self.identity,
            self.settings,
            network,
            self.db,
            self.bus,
            self.clock,
            guilds=self.guild.at(self.id),
            channels=self.service,
            sandbox=self.sandbox,
            output_dir=self.home / "output",
            name_of=_name,
            card_of=lambda peer: CARD,
            request_payment=self.approvals.bill,
            record_outcome=self._record,
            admits=lambda peer, guild_id: True,
            payment_state=lambda request_id: self.approvals.view(request_id).state,
            timing=QUICK,
        )
        self.complaints = complaints = ComplaintService(
            self.id,
            self.db,
            self.bus,
            self.clock,
            disputes=disputes,
            reruns=jobs.reruns,
            request_payment=self.approvals.bill,
            record_outcome=self._record,
            name_of=_name,
            guild_name=lambda guild_id: "lab",
            runs_jobs=lambda peer, guild_id: True,
            tainted=self.tainted,
        )
        for service in (self.service, disputes, self.approvals, jobs, complaints):
            await service.start()
        running.append(self)
        return self

    async def stop(self) -> None:
        running.remove(self)
        await self.memory.stop()
        for service in (self.complaints, self.jobs, self.approvals, self.disputes, self.service):
            await service.stop()
        await self.db.close()

    async def _record(self, outcome: Outcome) -> None:
        if outcome.receipt_id not in {known.receipt_id for known in self.outcomes}:
            self.outcomes.append(outcome)

    def complaint(self) -> DisputeView:
        """The only one."""
        (view,) = self.complaints.views()
        return view

    def knows(self, *states: str) -> bool:
        return [v.state for v in self.complaints.views()] == [*states]

    async def refund(self) -> None:
        """As its owner does: approve the refund that is asked for."""
        await until(lambda: any(v.kind == "refund" for v in self.approvals.views()))
        (request,) = (v for v in self.approvals.views() if v.kind == "refund")
        if request.state != "waiting":
            await self.approvals.reopen(request.request_id)
        await self.approvals.pay(request.request_id, None, typed=True)


class Trade:
    """A job that was run and paid; whose guest prints what is decided by its test."""

    def __init__(self, nodes: list[TradeNode]) -> None:
        self.payer, self.executor, *self.witnesses = nodes
        self.nodes = nodes

    @property
    def up(self) -> list[TradeNode]:
        return [node for node in self.nodes if node in running]

    def shift(self, seconds: float) -> None:
        shift(seconds, *self.up)

    async def run_and_pay(self, *, wrong: bool = True, pay: bool = True, **spec: object) -> JobView:
        """The executor's run prints something else if it is ``wrong``."""
        if wrong:
            self.executor.sandbox.guests[MODULE] = Guest((b"forged\n",))
        if self.payer.service.active_with(self.executor.id) is None:
            await self.payer.service.open(self.executor.id, 5_000_000, 0, 86_400)
        path = self.payer.home / "tool.wasm"
        path.write_bytes(MODULE)
        prices: dict[str, object] = {"price_per_second_nano": 10**12, "price_per_mib_nano": 10**9, "max_price_u": 10**6}
        job = await self.payer.jobs.submit(
            JobSpec(module=str(path), guild="lab", **(prices | spec)),  # type: ignore[arg-type]
            self.executor.id,
        )
        job = await asyncio.wait_for(self.payer.jobs.wait(job.job_id), 10)
        if pay and job.cost_u:
            await self.payer.approvals.pay(job.receipt_id, None, typed=True)
            await until(lambda: self.payer.jobs.view(job.job_id).paid == "paid")
        return self.payer.jobs.view(job.job_id)

    async def judged(self, *states: str, nodes: list[TradeNode] | None = None) -> None:
        await until(lambda: all(node.knows(*states) for node in nodes or self.nodes))


async def trade(folder: Path, witnesses: int = 4, prepare: Callable[[TradeNode], None] = lambda node: None) -> Trade:
    hub, members, guild = MemoryHub(), list[PeerId](), Guild()
    nodes = [TradeNode(hub, number, folder, members, guild) for number in range(1, 3 + witnesses)]
    for node in nodes:
        prepare(node)
        await node.start()
    return Trade(nodes)


def _name(peer: PeerId) -> str:
    return f"n{peer[-4:]}"


def _context(request: PaymentRequest) -> PeerContext:
    return PeerContext(
        peer_name=_name(request.peer_id),
        first_seen_at=0,
        guild_name="lab",
        my_role="member",
        peer_role="member",
        score=0.5,
        completed=0,
        blacklisted=False,
    )


def _due(r: PaymentRequest) -> int:
    if r.kind == "refund":
        return r.max_cost_u - r.paid_before_u
    rates = r.price_per_second_nano, r.price_per_mib_nano
    return cost(*rates, r.duration_us, r.memory_bytes, r.max_cost_u).total_u - r.paid_before_u
