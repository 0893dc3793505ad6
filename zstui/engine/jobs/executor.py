"""The executor's side: consent, bids, agreements, and what others say of its work."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from zstui.engine.clock import US
from zstui.engine.errors import InvalidManifest, ProtocolError
from zstui.engine.identity.envelope import Signed, open_envelope, sign
from zstui.engine.identity.keys import PeerId
from zstui.engine.jobs import store
from zstui.engine.jobs.agreeing import Ask, ask_for, bid_for, is_fresh, is_on
from zstui.engine.jobs.execution import Ended
from zstui.engine.jobs.feed import Feeds
from zstui.engine.jobs.manifest import Manifest, Terms, can_execute, open_manifest, price
from zstui.engine.jobs.messages import Accept, Ack, Agreed, Attach, Attested, Bidding, Offer, Refusal, RefusalCode
from zstui.engine.jobs.model import agreed_changes, new_job
from zstui.engine.jobs.notes_refund import Refunder
from zstui.engine.jobs.papers import Paper
from zstui.engine.jobs.ports import RequestPayment
from zstui.engine.jobs.protocol import SealedStream
from zstui.engine.jobs.receipt import (
    MAX_ATTESTATIONS,
    NO_BID,
    Agreement,
    Receipt,
    agreement_id,
    attestation_check,
)
from zstui.engine.jobs.records import Signal
from zstui.engine.jobs.room import Room
from zstui.engine.jobs.runs import Runs
from zstui.engine.money import format_amount
from zstui.engine.store.database import Tx

BID_TTL_US = 60 * US
OVERDUE_US = 86_400 * US
"""A payer that leaves a receipt unpaid for longer gets no more work here until it pays."""
MAX_NEGOTIATIONS = 32
"""Offers of one peer under negotiation at the same time."""
MAX_DENIED = 4096


class Executor:
    def __init__(self, room: Room, request_payment: RequestPayment) -> None:
        """``request_payment`` asks the owner to return what was paid for work that failed here."""
        self._room = room
        self._runs = Runs(room)
        self._refunder = Refunder(room, request_payment)
        self._feeds = Feeds(room, self._runs, self._refunder.delivered)
        self._accepting: dict[str, tuple[PeerId, int]] = {}
        """Exposure of agreements that are being committed."""
        self._accepted = Signal()
        """Fired when such a commit has ended."""
        self._denied: dict[bytes, None] = {}
        """Ids of agreements that I said I do not have, the latest last."""
        self._negotiating: dict[PeerId, set[SealedStream]] = {}
        self._stopping = False

    async def start(self) -> None:
        await self._runs.start()
        self._refunder.resume()

    async def stop(self) -> None:
        """Take nothing more, finish or hand back what runs, deliver what can be delivered."""
        self._stopping = True
        await self._runs.stop()
        await self._feeds.drain()

    def cancel(self, job_id: str, how: Ended) -> None:
        """End a job if it has not ended; ``how`` says by whom."""
        self._runs.cancel(job_id, how)

    async def stop_all(self, how: Ended) -> None:
        """End everything that runs or waits here; returns once each has its receipt, or after a moment."""
        await self._runs.end_all(how)

    def submitter_left(self, peer: PeerId) -> None:
        self._runs.submitter_left(peer)

    def submitter_back(self, peer: PeerId) -> None:
        self._runs.submitter_back(peer)

    def load(self) -> tuple[int, int]:
        """How many run here for others, and how many wait."""
        waiting = sum(1 for _ in self._runs.waiting())
        return len(self._runs) - waiting, waiting

    def entitled(self, peer: PeerId, guild_id: str, job_id: str) -> frozenset[str]:
        """What a job that ran here left in /out is its submitter's."""
        job = self._room.records.get(job_id)
        if job is None or job.mine or (job.submitter, job.guild_id) != (peer, guild_id):
            return frozenset()
        return frozenset(f.cid for f in job.outputs)

    # --- what it takes -----------------------------------------------------------------------------------------------

    def committed(self, peer: PeerId) -> int:
        """Work for ``peer`` that is under way or unpaid, at its dearest, in µ."""
        return self._room.records.unsettled.promised_u(False, peer) + sum(
            u for p, u in self._accepting.values() if p == peer
        )

    def refusal(self, peer: PeerId, m: Manifest) -> tuple[RefusalCode, str] | None:
        """Why this job is not taken, None if it is."""
        room = self._room
        reason = room.refuses_peer(peer, m.guild_id)
        if not reason and self._stopping:
            reason = "the executor is stopping"
        reason = reason or can_execute(m, room.offer(m.guild_id))
        if reason:
            return "refused", reason
        reason = room.owner.closed() or self._full(peer)
        if reason:
            return "busy", reason
        reason = self._overdue(peer) or self._short(peer, m)
        return ("payment", reason) if reason else None

    def _full(self, peer: PeerId) -> str:
        limit = self._room.settings.max_queue
        share = max(1, limit // 2)
        waiting = list(self._runs.waiting())
        total = len(waiting) + len(self._accepting)
        if total >= max(1, limit):
            return f"queue full: {total} jobs wait"
        theirs = sum(self._room.records[j].submitter == peer for j in waiting)
        theirs += sum(p == peer for p, _ in self._accepting.values())
        return f"queue full: {theirs} jobs of yours wait" if theirs >= share else ""

    def _overdue(self, peer: PeerId) -> str:
        """What a peer has left unpaid for too long: it gets no more work until that is paid."""
        since_us = self._room.clock.now_us() - OVERDUE_US
        late = self._room.records.unsettled.overdue(False, peer, since_us)
        if not late:
            return ""
        total_u = sum(j.promised_u for j in late)
        return f"{format_amount(total_u)} is unpaid for over a day, first for job {late[0].job_id[:8]}: pay that before"

    def _short(self, peer: PeerId, m: Manifest) -> str:
        need = self._exposure(m)
        if not need:
            return ""
        channel = self._room.channels.funds_with(peer)
        if channel is None:
            return f"no channel with enough balance: none is open, the job may cost {format_amount(need)}"
        if channel.expires_at * US < self._room.clock.now_us() + m.resources.timeout_us:
            return "the payment channel expires before the job would end"
        at_risk = self.committed(peer)
        if channel.theirs_u - at_risk < need:
            return (
                f"no channel with enough balance: it holds {format_amount(channel.theirs_u)}, of which "
                f"{format_amount(at_risk)} for work under way or unpaid, and the job may cost {format_amount(need)}"
            )
        return ""

    def _exposure(self, m: Manifest) -> int:
        settings = self._room.settings
        return price(m, settings.price_per_second_nano, settings.price_per_mib_nano).total_u

    # --- protocol ----------------------------------------------------------------------------------------------------

    async def offer(self, s: SealedStream, offer: Offer) -> None:
        peer = s.peer
        if len(self._negotiating.get(peer, ())) >= MAX_NEGOTIATIONS:
            await s.send(Refusal("busy", "too many offers at once"))
            return
        self._negotiating.setdefault(peer, set()).add(s)
        try:
            agreed = await self._negotiate(s, offer)
        finally:
            self._negotiating[peer].discard(s)
            if not self._negotiating[peer]:
                del self._negotiating[peer]
        if agreed is not None:
            await self._feeds.serve(s, 0, 0, agreed)

    async def _negotiate(self, s: SealedStream, offer: Offer) -> Agreed | None:
        """What the submitter is told of its job, which is under way then; None if it is not taken."""
        room = self._room
        try:
            signed, m = open_manifest(offer.manifest, s.peer)
        except InvalidManifest as error:
            await s.send(Refusal("invalid", str(error)))
            return None
        if (signed.digest.hex(), m.guild_id) != (s.job_id, s.guild_id):
            raise ProtocolError("An offer whose head names another job or guild.")
        if await self._refused(s, m):
            return None
        papers = [Paper("manifest", s.peer, offer.manifest)]
        theirs = self._proposed(s, m, offer)
        if theirs is None:
            raw_bid, theirs = await self._bid(s, m)
            if await self._refused(s, m):
                return None
            papers.append(Paper("bid", room.me, raw_bid))
        a = theirs.decode(Agreement)
        mine = sign(room.identity, a)
        if mine.body != theirs.body:
            raise ProtocolError("An agreement that is not in its one canonical encoding.")
        papers += [Paper("agreement", s.peer, theirs.raw), Paper("agreement", room.me, mine.raw)]
        self._accepting[s.job_id] = (s.peer, a.exposure_u)
        try:
            await self._keep(s.job_id, m, a, agreement_id(theirs), papers)
        finally:
            del self._accepting[s.job_id]
            self._accepted.fire()
        agreed = Agreed(mine.raw, self._runs.ahead(""))
        self._runs.begin(s.job_id, m)
        return agreed

    async def _refused(self, s: SealedStream, m: Manifest) -> bool:
        """Tell the submitter why its job is not taken, if it is not."""
        refused = self.refusal(s.peer, m)
        if refused is None and (self._room.records.get(s.job_id) is not None or s.job_id in self._accepting):
            refused = "refused", "the job is already agreed"
        if refused is not None:
            await s.send(Refusal(*refused))
        return refused is not None

    def _ask(self, m: Manifest, peer: PeerId) -> Ask:
        channel = self._room.channels.funds_with(peer)
        return ask_for(m, self._room.offer(m.guild_id), "" if channel is None else channel.channel_id)

    def _proposed(self, s: SealedStream, m: Manifest, offer: Offer) -> Signed | None:
        """The agreement that came with an offer; None where it is not what I ask for now, and a bid has to say so. Raises
        ProtocolError."""
        if not offer.agreement:
            return None
        theirs = open_envelope(offer.agreement, s.peer)
        a = theirs.decode(Agreement)
        good = is_on(a, self._ask(m, s.peer), m, bytes.fromhex(s.job_id), NO_BID, self._room.me)
        if not good or not is_fresh(a, self._room.clock.now_us()) or agreement_id(theirs) in self._denied:
            return None
        return theirs

    async def _bid(self, s: SealedStream, m: Manifest) -> tuple[bytes, Signed]:
        """Bid, and have the submitter's agreement on it; returns both as signed. Raises ProtocolError, NetError."""
        room, ask, manifest = self._room, self._ask(m, s.peer), bytes.fromhex(s.job_id)
        until = room.clock.now_us() + BID_TTL_US
        bid = sign(room.identity, bid_for(ask, manifest, room.me, self._runs.ahead(""), until))
        await s.send(Bidding(bid.raw))
        theirs = open_envelope((await s.expect(Accept, room.timing.answer)).agreement, s.peer)
        if not is_on(theirs.decode(Agreement), ask, m, manifest, bid.digest, room.me):
            raise ProtocolError("An agreement on other terms than the bid's.")
        if room.clock.now_us() > until:
            raise ProtocolError("The bid has expired.")
        return bid.raw, theirs

    async def _keep(self, job_id: str, m: Manifest, a: Agreement, agreed: bytes, papers: Sequence[Paper]) -> None:
        """Commit the agreement before the executor's signature leaves."""
        room, now = self._room, self._room.clock.now_us()
        terms = Terms(a.price_per_second_nano, a.price_per_mib_nano, a.max_total_u)
        job = new_job(job_id, m, room.me, mine=False, terms=terms, now_us=now)
        await room.records.add(replace(job, **agreed_changes(agreed, a, now)), papers)

    async def attach(self, s: SealedStream, attach: Attach) -> None:
        """Take up a job again after a lost stream or a restart of either side.

        The submitter drops an agreement that is not known here, so it may not be accepted after that: an earlier stream about
        the job is over, one that is being committed is waited for, and an offer that comes late finds it denied.
        """
        room = self._room
        for earlier in self._negotiating.get(s.peer, ()):
            if earlier.job_id == s.job_id:
                earlier.reset()
        while s.job_id in self._accepting:
            await self._accepted.wait()
        job = room.records.get(s.job_id)
        if job is None or job.mine or job.submitter != s.peer or job.guild_id != s.guild_id:
            self._deny(attach.agreement)
            await s.send(Refusal("unknown", "the job is not known here"))
            return
        mine = await room.records.papers.raw(s.job_id, "agreement", room.me)
        await s.send(Agreed(mine))
        await self._feeds.serve(s, attach.stdout, attach.stderr)

    def _deny(self, agreement: bytes) -> None:
        if len(agreement) != 32:
            return
        self._denied.pop(agreement, None)
        self._denied[agreement] = None
        if len(self._denied) > MAX_DENIED:
            del self._denied[next(iter(self._denied))]

    async def attested(self, s: SealedStream, message: Attested) -> None:
        """Keep what a witness said about a job that ran here."""
        room = self._room
        job = room.records.get(s.job_id)
        if job is None or job.mine or job.submitter != s.peer or not job.receipt_id:
            await s.send(Refusal("unknown", "the job is not known here"))
            return
        raw = await room.records.papers.raw(s.job_id, "receipt")
        receipt = open_envelope(raw)
        check, witness = attestation_check(message.attestation, receipt.digest, receipt.decode(Receipt))
        if room.guilds.role_of(job.guild_id, witness) is None:
            raise ProtocolError("An attestation by a stranger.")

        def keep(tx: Tx) -> None:
            if store.attestation_count(tx, s.job_id) < MAX_ATTESTATIONS:
                store.put_evidence(tx, s.job_id, "attestation", witness, message.attestation)

        await room.records.attest(s.job_id, witness, match=check.ok, keep=keep)
        await s.send(Ack())
