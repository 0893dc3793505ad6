"""Jobs of this node, submitted and run for others: the verbs and questions that the rest of the engine has for them."""

from __future__ import annotations

import asyncio
import hashlib
import os
from importlib.metadata import version
from pathlib import Path

from msgspec.structs import replace

from zstui.engine.bus import Bus, Subscription
from zstui.engine.clock import US, Clock
from zstui.engine.commands import JobSpec
from zstui.engine.config import Settings
from zstui.engine.errors import BadInput, ProtocolError, UnknownJob
from zstui.engine.events import ApprovalChanged, JobMoved, PeerChanged, PeerConnected, PeerDisconnected
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.jobs import store
from zstui.engine.jobs.artifacts import Artifacts, Cache
from zstui.engine.jobs.attempts import latest
from zstui.engine.jobs.batches import Batches
from zstui.engine.jobs.bundle import make_bundle
from zstui.engine.jobs.describe import job_view
from zstui.engine.jobs.dispatch import Candidates
from zstui.engine.jobs.execution import Ended
from zstui.engine.jobs.executor import Executor
from zstui.engine.jobs.hours import format_minute
from zstui.engine.jobs.manifest import (
    Manifest,
    open_manifest,
    validate,
)
from zstui.engine.jobs.messages import Attach, Attested, Audit, Offer
from zstui.engine.jobs.model import Job, Timing
from zstui.engine.jobs.outputs import STREAMS, Outputs
from zstui.engine.jobs.owner import Owner
from zstui.engine.jobs.payments import Payments
from zstui.engine.jobs.ports import (
    Admits,
    CardOf,
    ChannelPort,
    FundingPort,
    GuildPort,
    NameOf,
    PaymentState,
    RecordOutcome,
    RequestPayment,
    SandboxPort,
)
from zstui.engine.jobs.presence import Presence
from zstui.engine.jobs.protocol import accept_sealed
from zstui.engine.jobs.records import Records
from zstui.engine.jobs.reruns import Reruns
from zstui.engine.jobs.retention import Retention
from zstui.engine.jobs.room import Room, slots_of
from zstui.engine.jobs.sandbox.model import PROFILE
from zstui.engine.jobs.settling import Settler
from zstui.engine.jobs.slots import Slots
from zstui.engine.jobs.standing import Standing
from zstui.engine.jobs.submission import prepare
from zstui.engine.jobs.submitter import Submitter
from zstui.engine.jobs.upkeep import Upkeep
from zstui.engine.jobs.witness import Auditor, Witness
from zstui.engine.net.link import JOB_PROTOCOL, Network, Stream
from zstui.engine.store.database import Database
from zstui.engine.views import JobOutputView, JobView, WorkView

Followed = PeerConnected | PeerDisconnected | PeerChanged | JobMoved | ApprovalChanged
MAX_QUEUE_S = 30 * 86_400
MAX_ATTEMPTS = 10
NOTHING = hashlib.sha256().hexdigest()


class JobService:
    """Registers its protocols at construction; ``start`` after that. Job ids are lower-case hex text of the manifest's hash."""

    def __init__(
        self,
        identity: Identity,
        settings: Settings,
        network: Network,
        db: Database,
        bus: Bus,
        clock: Clock,
        *,
        guilds: GuildPort,
        channels: ChannelPort,
        sandbox: SandboxPort,
        output_dir: Path,
        name_of: NameOf,
        card_of: CardOf,
        request_payment: RequestPayment,
        record_outcome: RecordOutcome,
        admits: Admits,
        fund: FundingPort | None = None,
        candidates: Candidates = lambda spec: (),
        payment_state: PaymentState | None = None,
        artifact_dir: Path | None = None,
        timing: Timing | None = None,
    ) -> None:
        """``fund`` sees to it that a channel covers a job before it is offered; ``candidates`` says who could run one.

        ``payment_state`` tells how the payment for a receipt stands, so that "declined" shows on the job, too.
        """
        timing = timing or Timing()
        records = Records(db, bus)
        artifacts = Artifacts(
            network,
            guilds,
            Cache(artifact_dir or output_dir / ".artifacts"),
            entitled=lambda *asked: (
                self._submitter.entitled(*asked) | self._executor.entitled(*asked) | self.reruns.entitled(*asked)
            ),
            pinned=lambda: records.artifacts() | self.reruns.pinned(),
            timeout=timing.fetch,
        )
        slots = Slots(slots_of(settings), clock.monotonic_us)
        self.owner = Owner(db, clock, slots, settings.max_memory_mib)
        self._room = Room(
            identity=identity,
            settings=settings,
            network=network,
            db=db,
            bus=bus,
            clock=clock,
            guilds=guilds,
            channels=channels,
            sandbox=sandbox,
            records=records,
            outputs=Outputs(output_dir),
            artifacts=artifacts,
            name_of=name_of,
            card_of=card_of,
            admits=admits,
            timing=timing,
            engine=f"wasmtime {version('wasmtime')} profile {PROFILE}",
            slots=slots,
            owner=self.owner,
        )
        self.retention = Retention(records, self._room.outputs, settings.outputs_mib)
        auditor = Auditor(self._room)
        self._settler = Settler(
            self._room,
            auditor,
            request_payment=request_payment,
            record_outcome=record_outcome,
            again=lambda job_id: self._submitter.again(job_id),
        )
        self._submitter = Submitter(
            self._room,
            auditor,
            self._settler,
            candidates=candidates,
            fund=fund,
            request_payment=request_payment,
            payment_state=payment_state,
        )
        self.batches = Batches(self._room, self._submitter, candidates)
        self._executor = Executor(self._room, request_payment)
        self._witness = Witness(self._room)
        self.reruns = Reruns(self._room, self._witness)
        self.payments = Payments(self._room, payment_state, self._submitter.payment_decided, self._settler.book)
        self._presence = Presence(clock.monotonic_us())
        self._upkeep = Upkeep(self._room, self.retention, self._presence)
        self.standing = Standing(self._room, self._submitter.promises, self._executor.committed, self._presence)
        self._events: Subscription[Followed] | None = None
        self._ready = False
        network.handle(JOB_PROTOCOL, self._serve)

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Load all jobs, own up to interrupted runs, go on with what was under way."""
        self.payments.start()
        self._events = self._room.bus.subscribe(PeerConnected, PeerDisconnected, PeerChanged, JobMoved, ApprovalChanged)
        await self._room.records.load()
        await self._upkeep.start()
        await self.owner.load()
        await self._executor.start()
        self._ready = True
        self._submitter.resume()
        await self.batches.start()
        self._room.spawn(self._follow(self._events), "following payments")
        self._room.spawn(self._upkeep.run(), "forgetting old jobs")
        self._room.spawn(self.owner.follow_hours(), "following the owner's hours")

    async def stop(self) -> None:
        """Finish or hand back what runs. Idempotent."""
        if self._events is not None:
            self._events.close()
            self._events = None
            await self._executor.stop()
            await self._upkeep.stop()
        await self._room.stop_tasks()

    async def _follow(self, events: Subscription[Followed]) -> None:
        async for event in events:
            match event:
                case ApprovalChanged():
                    await self.payments.changed(event.request_id)
                case PeerDisconnected():
                    self._presence.disconnected(event.peer_id, self._room.clock.monotonic_us())
                    self._executor.submitter_left(event.peer_id)
                case PeerConnected():
                    self._presence.connected(event.peer_id, self._room.clock.monotonic_us())
                    self._executor.submitter_back(event.peer_id)
                    self._submitter.linked.fire()
                    self._submitter.take_late(event.peer_id)
            self._submitter.news()
            self.batches.news()

    async def _serve(self, stream: Stream) -> None:
        if not self._ready:
            raise ProtocolError("Jobs are not served yet.")
        s = await accept_sealed(stream, self._room.guilds, JOB_PROTOCOL)
        match await s.receive(20.0):
            case Offer() as offer:
                await self._executor.offer(s, offer)
            case Attach() as attach:
                await self._executor.attach(s, attach)
            case Audit() as audit:
                await self._witness.audit(s, audit)
            case Attested() as attested:
                await self._executor.attested(s, attested)
            case other:
                raise ProtocolError(f"A job stream that begins with {type(other).__name__}.")

    # --- verbs -------------------------------------------------------------------------------------------------------

    async def submit(self, spec: JobSpec, executor: PeerId, *, only: bool = True) -> JobView:
        """Check the module here, sign the manifest, keep it, and begin to offer it; returns with the job queued.

        ``executor`` is asked first and, with ``only``, is the only one; "" is whoever is free. Raises BadInput,
        InvalidModule, InvalidManifest, NoExecutor, GuildError, ChannelError.
        """
        await self._room.shapes.check(spec, (spec.stdin,))
        manifest = await prepare(self._room, spec, executor if only else "")
        return await self._begin(manifest, executor, spec.queue_s, spec.attempts, only=only)

    async def _begin(self, manifest: Manifest, executor: PeerId, queue_s: int, attempts: int, *, only: bool) -> JobView:
        validate(manifest)
        if not 0 <= queue_s <= MAX_QUEUE_S:
            raise BadInput(f"A job waits for an executor for at most {MAX_QUEUE_S // 86_400} days.")
        if not 1 <= attempts <= MAX_ATTEMPTS:
            raise BadInput(f"A job is tried 1 to {MAX_ATTEMPTS} times.")
        if only:
            await self._submitter.promises.cover_named(executor, manifest)
        job = await self._submitter.begin(
            manifest,
            executor,
            wanted=executor if only else "",
            queued_until_us=manifest.created_us + queue_s * US,
            attempts=attempts,
        )
        return self.view(job.job_id)

    async def rerun(self, job_id: str) -> JobView:
        """Submit the same work again, to the same executor, as a new job with a new seed. Raises JobError, GuildError."""
        room = self._room
        job = self._mine(job_id, "run it again")
        raw = await room.records.papers.raw(job_id, "manifest")
        _, old = open_manifest(raw)
        room.guilds.require(old.guild_id, room.me, "creator", "executor", "member")
        for cid in job.artifacts - {f.cid for f in job.outputs}:
            if await room.artifacts.cache.get(cid) is None:
                raise UnknownJob(f"The files of {job.module} are no longer stored here; submit it again.")
        fresh = replace(old, created_us=room.clock.now_us(), nonce=os.urandom(16), seed=os.urandom(32))
        wait_s = (job.queued_until_us - job.created_us) // US
        return await self._begin(fresh, job.executor, max(0, wait_s), job.attempts, only=bool(job.wanted))

    async def wait(self, job_id: str) -> JobView:
        """Return the last attempt when it has ended, its attestations are in or given up, and its payment has been asked for."""
        records = self._room.records
        job_id = latest(self._room, records[job_id]).job_id
        while not records[job_id].final or records[job_id].audit == "pending" or self._settler.settling(job_id):
            await records.changed(job_id)
            job_id = latest(self._room, records[job_id]).job_id
        return self.view(job_id)

    async def cancel(self, job_id: str) -> JobView:
        """Stop a job of mine, or one that I run for another: that one then costs nothing and counts against me.

        Raises BadInput if it has ended.
        """
        job = latest(self._room, self._room.records[job_id])
        job_id = job.job_id
        if job.final:
            raise BadInput(f"The job has ended already: it is {job.state}.")
        if job.mine:
            await self._submitter.cancel(job_id)
        else:
            self._executor.cancel(
                job_id, Ended(status="cancelled", fault="executor", reason="Stopped by the owner of the executor.")
            )
        deadline = asyncio.get_running_loop().time() + 2.0
        while not self._room.records[job_id].final and asyncio.get_running_loop().time() < deadline:
            await self._room.records.changed(job_id, 0.5)
        return self.view(job_id)

    async def stop_all(self) -> None:
        """The owner's panic key: take no new work, and end what runs or waits here; its submitters are told."""
        await self.owner.set_accepting(False)
        how = Ended(status="cancelled", fault="executor", reason="Stopped by the owner of the executor.")
        await self._executor.stop_all(how)

    def _mine(self, job_id: str, what: str) -> Job:
        job = self._room.records[job_id]
        if not job.mine:
            raise BadInput(f"Only its submitter can {what}.")
        return job

    # --- questions ---------------------------------------------------------------------------------------------------

    def resolve(self, text: str) -> str:
        """Job id for a job or receipt id or an unambiguous prefix. Raises UnknownJob, BadInput."""
        return self._room.records.resolve(text)

    def views(self) -> list[JobView]:
        """Newest first."""
        names: dict[str, str] = {}
        return [job_view(self._room, job, names) for job in self._room.records]

    def active(self) -> list[Job]:
        """Those that are queued or running, oldest first."""
        return [job for job in self._room.records.open() if not job.final]

    def view(self, job_id: str) -> JobView:
        """Raises UnknownJob."""
        return job_view(self._room, self._room.records[job_id], {})

    async def output(self, job_id: str) -> JobOutputView:
        """What the job printed so far. An executor sees its own copy once the job has ended."""
        job = self._room.records[job_id]
        stdout, stderr = [await self._room.outputs.read(job_id, name) for name in STREAMS]
        path = self._room.outputs.path(job_id, "stdout") if stdout else ""
        lost = bool(job.receipt_id) and not stdout and job.output_hash != NOTHING
        return JobOutputView(
            job_id=job_id,
            stdout=stdout,
            stderr=stderr,
            complete=job.final,
            path=str(path),
            files=self.view(job_id).outputs,
            why="Its output is no longer stored here." if lost else "",
        )

    async def bundle(self, text: str) -> dict[str, object]:
        """Everything that verifies the job's receipt offline, as JSON-able values. Raises UnknownJob, BadInput."""
        job = self._room.records[self.resolve(text)]
        if not job.receipt_id:
            raise UnknownJob("The job has no receipt yet.")
        return make_bundle(await self._room.db.read(lambda tx: store.evidence(tx, job)))

    def work(self) -> WorkView:
        """What this node does for others, and its owner's limits."""
        running, waiting = self._executor.load()
        closed, hours = self.owner.closed(), self.owner.hours
        return WorkView(
            accepting=not closed,
            why=closed,
            running=running,
            waiting=waiting,
            max_jobs=self._room.slots.limit,
            memory_mib=self.owner.memory_mib,
            hours_start="" if hours.always else format_minute(hours.start),
            hours_end="" if hours.always else format_minute(hours.end),
        )
