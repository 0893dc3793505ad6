"""Witnesses: asking other guild members to run a finished job again, and doing so for others."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Iterator

import msgspec

from zstui.engine.errors import GuildError, NetError, ProtocolError, Refused, ZsError
from zstui.engine.events import ExecutionFinished, ExecutionStarted
from zstui.engine.identity.envelope import open_envelope, seal
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.jobs import store
from zstui.engine.jobs.execution import Ended, fetch, run
from zstui.engine.jobs.manifest import Manifest, can_execute, open_manifest
from zstui.engine.jobs.messages import Ack, Attested, Audit, Progress, Refusal
from zstui.engine.jobs.model import Job
from zstui.engine.jobs.outputs import StreamName
from zstui.engine.jobs.protocol import SealedStream, open_sealed
from zstui.engine.jobs.receipt import (
    MAX_REASON,
    REPEATABLE,
    Attestation,
    Evidence,
    Receipt,
    attestation_check,
    files_hash,
    incomparable,
    same_result,
)
from zstui.engine.jobs.room import Room, cancel
from zstui.engine.net.link import JOB_PROTOCOL
from zstui.engine.views import CheckView

log = logging.getLogger(__name__)

MAX_AUDITS_OF_PEER = 4
SPOT_AUDIT = 1
"""Witnesses of a job that asked for none and was picked for an audit. They are not paid: each member may be next."""
TELL_TRIES = 12
TELL_MOST_S = 1800.0


class Witness:
    """Runs others' finished jobs again, with the same consent and limits as their first run."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._audits: dict[PeerId, int] = {}

    async def audit(self, s: SealedStream, audit: Audit) -> None:
        peer = s.peer
        refused = self._room.refuses_peer(peer, s.guild_id) or self._room.owner.closed() or self._busy(peer)
        if refused:
            await s.send(Refusal("refused", refused))
            return
        self._audits[peer] = self._audits.get(peer, 0) + 1
        try:
            await self._audit(s, audit)
        finally:
            self._audits[peer] -= 1
            if not self._audits[peer]:
                del self._audits[peer]

    def _busy(self, peer: PeerId) -> str:
        full = sum(self._audits.values()) >= max(1, self._room.settings.max_queue // 4)
        return "too many audits wait" if full or self._audits.get(peer, 0) >= MAX_AUDITS_OF_PEER else ""

    async def _audit(self, s: SealedStream, audit: Audit) -> None:
        room = self._room
        signed, m = open_manifest(audit.manifest, s.peer)
        receipt = open_envelope(audit.receipt)
        r = receipt.decode(Receipt)
        if (signed.digest.hex(), m.guild_id) != (s.job_id, s.guild_id) or r.manifest != signed.digest:
            raise ProtocolError("An audit whose parts belong to different jobs.")
        if r.executor != receipt.signer or receipt.signer == room.me or r.module_cid != m.module_cid:
            raise ProtocolError("An audit of a receipt that cannot be audited here.")
        free = msgspec.structs.replace(room.offer(m.guild_id), price_per_second_nano=0, price_per_mib_nano=0)
        refused = can_execute(m, free) or ("" if r.status in REPEATABLE else "such a run cannot be repeated")
        refused = refused or incomparable(r, room.engine)
        if refused:
            await s.send(Refusal("refused", refused))
            return
        stdout, how = await self._repeat(s, m)
        outputs_hash = files_hash(how.outputs)
        if how.status not in REPEATABLE or how.fault == "executor":
            await s.send(Refusal("refused", f"it could not be repeated here: {how.reason or how.status}"[:MAX_REASON]))
            return
        output_hash = hashlib.sha256(stdout).digest()
        word = Attestation(
            receipt=receipt.digest,
            manifest=signed.digest,
            witness=room.me,
            output_hash=output_hash,
            exit_code=how.exit_code,
            gas=how.gas,
            gas_exact=how.gas_exact,
            match=same_result(r, output_hash, how.exit_code, how.gas, how.gas_exact, outputs_hash),
            at_us=room.clock.now_us(),
            outputs_hash=outputs_hash,
            engine=room.engine,
        )
        await s.send(Attested(seal(room.identity, word)))
        await s.close()

    async def _repeat(self, s: SealedStream, m: Manifest) -> tuple[bytes, Ended]:
        """Run it while telling the asker that it goes on; if the asker is gone, stop."""
        output = bytearray()
        work = asyncio.create_task(self.work(s.peer, s.job_id, m, output))
        try:
            while not (await asyncio.wait({work}, timeout=self._room.timing.heartbeat))[0]:
                await s.send(Progress(True, 0, -1))
            return bytes(output), work.result()
        finally:
            await cancel(work)

    async def work(self, peer: PeerId, job_id: str, m: Manifest, output: bytearray) -> Ended:
        """Fetch a job's files from ``peer``, who asks for it, and run it; what it prints is added to ``output``."""
        room = self._room
        missing = await fetch(room, peer, job_id, m)
        if missing is not None:
            return missing

        def on_output(name: StreamName, data: bytes) -> None:
            if name == "stdout":
                output.extend(data[: max(0, m.resources.output_bytes - len(output))])

        async with room.slots.hold(peer, 0):
            room.bus.publish(ExecutionStarted(job_id))
            how = Ended(status="cancelled", fault="network", reason="The asker is gone.")
            try:
                how = await run(room, m, on_output=on_output, on_progress=lambda _: None, owner=peer)
            finally:
                room.bus.publish(ExecutionFinished(job_id, m.module_cid, how.status, how.active_us, how.memory_bytes))
            return how


class Auditor:
    """Finds witnesses for my own finished jobs and keeps what they sign."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._asked: dict[str, set[PeerId]] = {}

    def asked(self, job_id: str) -> frozenset[PeerId]:
        """Peers that audit this job right now, and may have its artifacts."""
        return frozenset(self._asked.get(job_id, ()))

    async def audit(self, job: Job) -> None:
        """Get the attestations asked for, or find out why not. The result is in the job's row and evidence."""
        room = self._room
        evidence = await room.db.read(lambda tx: store.evidence(tx, job))
        _, m = open_manifest(evidence.manifest)
        _, checks = await self.checks(job)
        have = len(checks)
        other = incomparable(open_envelope(evidence.receipt).decode(Receipt), room.engine)
        reasons = [f"it cannot be judged here: {other}"] if other else []
        heard = frozenset(open_envelope(raw).signer for raw in evidence.attestations)
        candidates = iter(self._candidates(job, heard))
        asks = Audit(evidence.manifest, evidence.receipt)
        asked = job.witnesses or SPOT_AUDIT
        wanted = max(0, asked - have)
        got = sum(await asyncio.gather(*(self._one(job, m, asks, candidates, reasons) for _ in range(wanted))))
        self._asked.pop(job.job_id, None)
        why, checks = await self.checks(job)
        if any(not c.ok for c in checks):
            why = f"{why} {await self._judge(job, evidence)}"
        if have + got < job.witnesses or (other and not have + got):
            tail = "; ".join(reasons) or "nobody else in the guild runs jobs"
            why = f"{why} {have + got} of {asked} witnesses ran it again: {tail}.".strip()
        text = clean_text(" ".join(filter(None, (room.records[job.job_id].why, why))), 1000)
        await room.records.change(job.job_id, audit="done", why=text)
        room.spawn(self._tell_executor(job), "telling an executor what a witness said", job.job_id)

    async def checks(self, job: Job) -> tuple[str, tuple[CheckView, ...]]:
        """One check for each attestation kept, and a sentence on those that differ."""
        evidence = await self._room.db.read(lambda tx: store.evidence(tx, job))
        receipt = open_envelope(evidence.receipt)
        r = receipt.decode(Receipt)
        checks: list[CheckView] = []
        differ: list[str] = []
        for raw in evidence.attestations:
            check, witness = attestation_check(raw, receipt.digest, r)
            name = self._room.name_of(witness)
            checks.append(CheckView(name=f"witness {name}", ok=check.ok, detail=check.detail))
            if not check.ok:
                differ.append(name)
        return (f"{', '.join(differ)} ran it again and got a different result." if differ else ""), tuple(checks)

    def _candidates(self, job: Job, heard: frozenset[PeerId]) -> list[PeerId]:
        """Consenting members that have not spoken yet, in an order that nobody can foresee or choose.

        Those that are executors of the guild come last: they compete with the one whose work they would judge.
        """
        room = self._room
        found = []
        try:
            members = room.guilds.members(job.guild_id)
        except GuildError:
            return []
        for peer, role in members.items():
            card = room.card_of(peer)
            consents = role == "executor" or (role != "observer" and card is not None and card.executor)
            if (
                consents
                and peer not in (room.me, job.executor)
                and peer not in heard
                and room.admits(peer, job.guild_id)
            ):
                found.append((role == "executor", os.urandom(8), peer))
        return [peer for _, _, peer in sorted(found)]

    async def _one(self, job: Job, m: Manifest, asks: Audit, candidates: Iterator[PeerId], reasons: list[str]) -> bool:
        """Ask one after another until one has run it."""
        limit = m.resources.timeout_us / 1e6 + self._room.timing.grace
        for peer in candidates:
            self._asked.setdefault(job.job_id, set()).add(peer)
            try:
                async with asyncio.timeout(limit):
                    await self._ask(job, peer, asks)
                return True
            except TimeoutError:
                reasons.append(f"{self._room.name_of(peer)}: took too long")
            except ZsError as error:
                reasons.append(f"{self._room.name_of(peer)}: {clean_text(str(error), 200).rstrip('.')}")
            finally:
                self._asked[job.job_id].discard(peer)
        return False

    async def _ask(self, job: Job, peer: PeerId, asks: Audit) -> None:
        room = self._room
        stream = await open_sealed(room.network, room.guilds, peer, JOB_PROTOCOL, job.guild_id, job.job_id)
        try:
            await stream.send(asks)
            message = await stream.receive(room.timing.answer)
            while isinstance(message, Progress):
                message = await stream.receive(room.timing.silence)
        finally:
            stream.reset()
        if isinstance(message, Refusal):
            raise Refused(message.reason)
        if not isinstance(message, Attested):
            raise ProtocolError("An answer that is no attestation.")
        raw = message.attestation
        receipt = open_envelope(asks.receipt)
        r = receipt.decode(Receipt)
        check, witness = attestation_check(raw, receipt.digest, r)
        if witness != peer or open_envelope(raw).decode(Attestation).engine != r.engine:
            raise ProtocolError("An attestation by another peer, or of a run that cannot be compared.")
        await room.records.attest(
            job.job_id,
            peer,
            match=check.ok,
            keep=lambda tx: store.put_evidence(tx, job.job_id, "attestation", peer, raw),
        )

    async def _judge(self, job: Job, evidence: Evidence) -> str:
        """A witness and the executor differ: run the job here, and blame the executor only for what this shows as well."""
        room = self._room
        _, m = open_manifest(evidence.manifest)
        r = open_envelope(evidence.receipt).decode(Receipt)
        if other := incomparable(r, room.engine):
            return f"It could not be run here to see who is right: {other}."
        output = bytearray()

        def on_output(name: StreamName, data: bytes) -> None:
            if name == "stdout":
                output.extend(data[: max(0, m.resources.output_bytes - len(output))])

        async with room.slots.hold(room.me, 0):
            how = await run(room, m, on_output=on_output, on_progress=lambda _: None)
        if how.status not in REPEATABLE or how.fault == "executor":
            return f"It could not be run here to see who is right: {how.reason or how.status}."
        output_hash = hashlib.sha256(output).digest()
        if same_result(r, output_hash, how.exit_code, how.gas, how.gas_exact, files_hash(how.outputs)):
            return "Run once more here, the executor's result is right."
        await room.records.change(job.job_id, state="failed", fault="executor", outcome="failure")
        return "Run once more here, the executor's result is wrong; this counts against it."

    async def _tell_executor(self, job: Job) -> None:
        """The executor gets what was said about its work, as soon as it is there within the next hours."""
        pause = self._room.timing.retry
        for _ in range(TELL_TRIES):
            if await self._told(job):
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, TELL_MOST_S)

    async def _told(self, job: Job) -> bool:
        room = self._room
        evidence = await room.db.read(lambda tx: store.evidence(tx, job))
        for raw in evidence.attestations:
            try:
                stream = await open_sealed(
                    room.network, room.guilds, job.executor, JOB_PROTOCOL, job.guild_id, job.job_id
                )
                try:
                    await stream.send(Attested(raw))
                    await stream.expect(Ack, room.timing.answer)
                finally:
                    stream.reset()
            except NetError:
                return False
            except ZsError as error:
                log.info("an attestation was not taken: %s", error)
        return True
