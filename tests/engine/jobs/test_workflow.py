"""The whole workflow with the real rooms: guild, channel, job in the sandbox, receipt, payment, reputation, settlement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engine.jobs.rig import until
from zstui.engine.bus import Bus
from zstui.engine.channels import schema as channel_schema
from zstui.engine.channels.approvals import schema as approval_schema
from zstui.engine.channels.approvals.model import PaymentRequest, PeerContext
from zstui.engine.channels.approvals.service import ApprovalService
from zstui.engine.channels.messages import PayLine
from zstui.engine.channels.service import ChannelService
from zstui.engine.clock import SystemClock
from zstui.engine.commands import JobSpec
from zstui.engine.config import Settings
from zstui.engine.errors import NoExecutor, Unreachable
from zstui.engine.guilds import store as guild_store
from zstui.engine.guilds.service import GuildService
from zstui.engine.identity.card import Card
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.jobs import store as job_store
from zstui.engine.jobs.bundle import verify_bundle
from zstui.engine.jobs.cost import cost
from zstui.engine.jobs.sandbox.pool import Sandbox
from zstui.engine.jobs.service import JobService
from zstui.engine.market.service import Market
from zstui.engine.net.memory import MemoryHub
from zstui.engine.reputation import store as reputation_store
from zstui.engine.reputation.service import ReputationService
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import JobView

SCHEMA = (
    *guild_store.SCHEMA,
    *channel_schema.SCHEMA,
    *approval_schema.SCHEMA,
    *reputation_store.SCHEMA,
    *job_store.SCHEMA,
)


class Node:
    """The services of one node as it composes them, over the in-memory network."""

    def __init__(self, hub: MemoryHub, home: Path, names: dict[PeerId, str], **settings: object) -> None:
        self.hub = hub
        self.home = home
        self.names = names
        self.identity = Identity.generate()
        self.peer_id = self.identity.peer_id
        self.settings = Settings(home=home, max_jobs=1, **settings)  # type: ignore[arg-type]
        names[self.peer_id] = home.name

    async def start(self, nodes: list[Node]) -> None:
        self.home.mkdir()
        self.nodes = nodes
        clock, bus = SystemClock(), Bus()
        self.db = await Database.open(self.home / "db.sqlite", SCHEMA)
        self.network = self.hub.add(self.peer_id, bus)
        self.reputation = ReputationService(self.db, bus, clock, name_of=self.name_of)
        self.guilds = GuildService(
            self.identity,
            self.network,
            self.db,
            bus,
            clock,
            name_of=self.name_of,
            addresses=tuple,
            connect=self._connect,
        )
        self.sandbox = Sandbox(self.home / "cache", 1)
        self.channels = ChannelService(
            self.identity,
            self.network,
            self.db,
            bus,
            clock,
            name_of=self.name_of,
            credit_limit=lambda peer: self.approvals.credit_limit(bool(self.guilds.shared_with(peer))),
            at_risk=lambda peer: self.jobs.standing.at_risk(peer),
            on_credit=self._credited,
            on_acknowledged=self._acknowledged,
        )
        self.approvals = ApprovalService(
            self.db,
            bus,
            clock,
            channel=self.channels.active_with,
            pay=self.channels.pay,
            context=self._context,
            due=lambda r: (
                cost(r.price_per_second_nano, r.price_per_mib_nano, r.duration_us, r.memory_bytes, r.max_cost_u).total_u
            ),
            settings=self.settings,
        )
        self.jobs = JobService(
            self.identity,
            self.settings,
            self.network,
            self.db,
            bus,
            clock,
            guilds=self.guilds,
            channels=self.channels,
            sandbox=self.sandbox,
            output_dir=self.home / "output",
            name_of=self.name_of,
            card_of=self.card_of,
            request_payment=self.approvals.bill,
            record_outcome=self.reputation.record,
            admits=lambda peer, guild_id: self.reputation.blocked_until(peer, guild_id) is None,
            payment_state=lambda request_id: self.approvals.view(request_id).state,
        )
        self.market = Market(
            jobs=self.jobs.standing, guilds=self.guilds, reputation=self.reputation, net=self, settings=self.settings
        )
        for service in (self.reputation, self.sandbox, self.guilds, self.channels, self.approvals, self.jobs):
            await service.start()

    async def stop(self) -> None:
        for service in (self.jobs, self.approvals, self.channels, self.guilds):
            await service.stop()
        await self.network.stop()
        await self.sandbox.stop()
        await self.reputation.stop()
        await self.db.close()

    # what the market asks of the network

    def connected(self) -> frozenset[PeerId]:
        return self.network.connected()

    def name_of(self, peer: PeerId) -> str:
        return self.names.get(peer, peer[-6:])

    def resolve(self, text: str) -> PeerId:
        return next(p for p, name in self.names.items() if text in (p, name))

    def card_of(self, peer: PeerId) -> Card | None:
        other = next(n for n in self.nodes if n.peer_id == peer)
        s = other.settings
        executor = s.executor or any(g.role == "executor" for g in other.guilds.views())
        rates = s.price_per_second_nano, s.price_per_mib_nano
        return Card(self.name_of(peer), executor, 1, s.max_memory_mib, s.max_timeout_s, *rates, (), 1)

    async def _connect(self, address: str) -> PeerId:
        raise Unreachable("Everybody is linked already.")

    def _credited(self, tx: Tx, channel_id: str, peer: PeerId, line: PayLine) -> None:
        self.jobs.payments.credited(tx, peer, line)

    def _acknowledged(self, tx: Tx, channel_id: str, peer: PeerId, line: PayLine) -> None:
        self.approvals.acknowledged(tx, peer, line)
        self.jobs.payments.acknowledged(tx, peer, line)

    def _context(self, request: PaymentRequest) -> PeerContext:
        return PeerContext(
            peer_name=self.name_of(request.peer_id),
            first_seen_at=0,
            guild_name=self.guilds.view(request.guild_id).name,
            my_role=self.guilds.role_of(request.guild_id, self.peer_id) or "",
            peer_role=self.guilds.role_of(request.guild_id, request.peer_id) or "",
            score=self.reputation.score(request.peer_id),
            completed=self.reputation.completed(request.peer_id),
            blacklisted=False,
        )

    async def run(self, guild: str, module: str, **fields: object) -> JobView:
        spec = JobSpec(module=module, guild=guild, **fields)  # type: ignore[arg-type]
        view = await self.jobs.submit(spec, await self.market.choose(spec))
        return await asyncio.wait_for(self.jobs.wait(view.job_id), 30)


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Node]]:
    hub, names = MemoryHub(), dict[PeerId, str]()
    made = [
        Node(hub, tmp_path / "alice", names),
        Node(hub, tmp_path / "bob", names),
        Node(hub, tmp_path / "carol", names, executor=True, price_per_second_nano=20_000_000),
    ]
    for node in made:
        await node.start(made)
    yield made
    for node in made:
        await node.stop()


async def test_from_guild_to_settlement(nodes: list[Node]) -> None:
    alice, bob, carol = nodes
    guild = (await alice.guilds.create("lab", 3600, 10)).guild_id
    await until(lambda: bob.guilds.views() and carol.guilds.views())
    await bob.guilds.join(guild, "executor")
    await carol.guilds.join(guild, "member")
    await until(lambda: len(alice.guilds.members(guild)) == 3 == len(carol.guilds.members(guild)))
    channel = await alice.channels.open(bob.peer_id, 10_000_000, 0, 86_400)

    estimate = await alice.market.estimate(JobSpec(module="wordcount", guild=guild))
    assert [c.name for c in estimate.candidates] == ["bob", "carol"], "equal scores: the cheaper one first"
    assert estimate.typical_cost_u is None

    job = await alice.run(guild, "wordcount", stdin=b"one two\nthree\n", witnesses=1)
    assert (job.state, job.exit_code, job.fault, job.paid, job.why) == ("done", 0, "none", "unpaid", "")
    assert job.executor == bob.peer_id
    assert job.attestations == (carol.peer_id,), "the sandbox gave carol the same output, exit code and gas"
    assert job.gas > 0
    assert job.gas_exact
    output = await alice.jobs.output(job.job_id)
    assert b"3" in output.stdout

    (request,) = alice.approvals.views()
    assert request.verified, request.checks
    assert (request.request_id, request.amount_u) == (job.receipt_id, job.cost_u)
    await until(lambda: bob.jobs.view(job.job_id).attestations == (carol.peer_id,))
    assert bob.jobs.standing.at_risk(alice.peer_id) == job.cost_u
    await alice.approvals.pay(request.request_id, request.amount_u, False)
    await until(lambda: alice.jobs.view(job.job_id).paid == "paid" == bob.jobs.view(job.job_id).paid)
    assert bob.jobs.standing.at_risk(alice.peer_id) == 0
    assert bob.channels.view(channel.channel_id).mine_u == job.cost_u
    await until(lambda: alice.reputation.completed(bob.peer_id) == 1)

    bundle = await alice.jobs.bundle(job.receipt_id)
    checks = verify_bundle(bundle)
    assert all(c.ok for c in checks), checks
    assert any(c.name.startswith("witness") for c in checks)
    estimate = await alice.market.estimate(JobSpec(module="wordcount", guild=guild))
    assert estimate.typical_duration_us == job.duration_us

    closed = await alice.channels.close(channel.channel_id)
    assert closed.state == "closed"
    await until(lambda: bob.channels.owed() == (job.cost_u, 0))
    await alice.guilds.office.dissolve(guild)
    assert alice.jobs.view(job.job_id).state == "done"


async def test_a_trap_is_paid_and_declining_shows_on_the_job(nodes: list[Node]) -> None:
    alice, bob, _ = nodes
    guild = (await alice.guilds.create("lab", 3600, 10)).guild_id
    await until(lambda: bob.guilds.views())
    await bob.guilds.join(guild, "executor")
    await until(lambda: len(alice.guilds.members(guild)) == 2)
    await alice.channels.open(bob.peer_id, 10_000_000, 0, 86_400)
    job = await alice.run(guild, "misbehave", args=("trap",))
    assert (job.state, job.fault) == ("failed", "payer")
    assert job.why
    (request,) = alice.approvals.views()
    assert request.verified, request.checks
    await alice.approvals.reject(request.request_id)
    await until(lambda: alice.jobs.view(job.job_id).paid == "declined")
    assert bob.jobs.standing.at_risk(alice.peer_id) == job.cost_u > 0
    assert alice.reputation.completed(bob.peer_id) == 0
    with pytest.raises(NoExecutor, match="bob: too little memory: offers 128 MiB"):
        await alice.run(guild, "hello", memory_mib=512)
    big = await alice.jobs.submit(JobSpec(module="hello", guild=guild, memory_mib=512), bob.peer_id)
    refused = await asyncio.wait_for(alice.jobs.wait(big.job_id), 10)
    assert (refused.state, refused.paid) == ("failed", "")
    assert refused.why.startswith("bob: too little memory: offers 128 MiB")
