"""Disputes: this node as a party and as a witness. A party files, shows what it holds and carries out verdicts by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from zstui.engine import events
from zstui.engine.bus import Bus, Subscription
from zstui.engine.channels import store as channel_store
from zstui.engine.channels.disputes import docket, fault_store, hearing, party, present, store
from zstui.engine.channels.disputes.faults import Proof
from zstui.engine.channels.disputes.messages import Nominate, WitnessAsk
from zstui.engine.channels.disputes.nomination import Candidates, Nomination
from zstui.engine.channels.disputes.penalties import Blacklist, Penalties
from zstui.engine.channels.disputes.post import Post
from zstui.engine.channels.disputes.present import File
from zstui.engine.channels.disputes.protocol import Desk, DisputeProtocol
from zstui.engine.channels.disputes.store import Letter
from zstui.engine.channels.disputes.unit import Decision, Outcome, Unit, proof_message
from zstui.engine.channels.model import Channel
from zstui.engine.channels.service import ChannelService
from zstui.engine.channels.state import Move, State
from zstui.engine.clock import US, Clock
from zstui.engine.errors import BadInput, ProtocolError, Refused, StoreError, UnknownChannel, ZsError
from zstui.engine.identity.envelope import Body, Signed, seal
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.link import DISPUTE_PROTOCOL, Network
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import DisputeView, FraudView, VerdictView

T = TypeVar("T")

SHOWN_ENDED = 200
"""Ended cases kept in memory."""
TICK_S = 15.0
SWEEP_US = 3600 * US
MAIL_KEPT_US = 60 * 86_400 * US
CASES_KEPT_US = 400 * 86_400 * US
"""Longer than a channel may last: a witness must know what it has signed."""
MAX_SPREAD = 64
"""Guild members told of one proof."""


class DisputeService:
    """Registers its protocol at construction; ``start`` after the channels."""

    def __init__(
        self,
        identity: Identity,
        network: Network,
        db: Database,
        bus: Bus,
        clock: Clock,
        *,
        channels: ChannelService,
        name_of: Callable[[PeerId], str],
        candidates: Candidates,
        willing: Callable[[PeerId], bool],
        runs_jobs: Callable[[PeerId], bool],
        shares_guild: Callable[[PeerId], bool],
        fellows: Callable[[PeerId], Iterable[PeerId]],
        guilds_of: Callable[[PeerId, PeerId], Iterable[str]],
        blacklist: Blacklist,
        tainted: bool = False,
    ) -> None:
        """``candidates``: who could witness between a peer and me; those that ``runs_jobs`` are asked first. ``willing``: I would
        witness where it asks.
        ``shares_guild``: its word is worth checking. ``fellows``: who should hear of its fraud. ``guilds_of``: guilds of
        mine that both are in. ``blacklist`` never shortens what stands. ``tainted``: the database is an
        older copy; this node then abstains as a witness."""
        self._identity = identity
        self._network = network
        self._db = db
        self._bus = bus
        self._clock = clock
        self._channels = channels
        self._name_of = name_of
        self._shares_guild = shares_guild
        self._fellows = fellows
        self._penalties = Penalties(db, clock, guilds_of, blacklist)
        self._tainted = tainted
        self._files: dict[bytes, File] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loops: list[asyncio.Task[None]] = []
        self._swept_us = 0
        self.nomination = Nomination(
            identity,
            network,
            db,
            clock,
            candidates=candidates,
            runs_jobs=runs_jobs,
            willing=willing,
            name_of=name_of,
        )
        self._post = Post(network, db, self._declined)
        self._ready = asyncio.Event()
        self._protocol = DisputeProtocol(identity, clock, self)
        self._desks: dict[str, Desk] = {}
        """Who else carries out messages, by their kinds."""
        network.handle(DISPUTE_PROTOCOL, self._protocol.serve)

    # -- life

    async def start(self) -> None:
        """Load everything, go on where the last run stopped, and begin to deliver."""
        changes: Subscription[events.ChannelChanged | events.PeerConnected] = self._bus.subscribe(
            events.ChannelChanged, events.PeerConnected
        )

        def read(tx: Tx) -> dict[bytes, File]:
            unit = Unit(tx, self._identity, self._clock.now_us())
            files = {case.id: present.load(unit, case.id) for case in store.cases(tx, SHOWN_ENDED)}
            return {id: file for id, file in files.items() if file is not None}

        if self._tainted:
            await self._db.write(lambda tx: store.abstain(tx, self._clock.now_us()))
        self._files = await self._db.read(read)
        await self._penalties.start()
        self._ready.set()
        for channel in self._channels.disputed():
            await self._refresh(channel.id)
        await self._carry_out_decided()
        await self._post.wake_all()
        self._loops = [
            asyncio.create_task(self._follow(changes), name="disputes"),
            asyncio.create_task(self._tick(), name="dispute clock"),
        ]

    async def stop(self) -> None:
        """What was promised is on record and goes on at the next start. Idempotent."""
        for task in self._loops:
            task.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        await self._post.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # -- verbs

    async def dispute(self, channel_id: str) -> DisputeView:
        """Stop using a channel and bring it before its witnesses; without witnesses the challenge time begins, after which
        each side books its own record. Raises UnknownChannel, IllegalTransition."""
        record = self._channels.record(channel_id)
        if record.state is not State.DISPUTED:
            record.move(Move.DISPUTE, 0)
        await self._channels.contest(channel_id, "unilateral")
        await self._refresh(record.id)
        return self.view(channel_id)

    async def evidence(self, channel_id: str, docs: tuple[bytes, ...] = ()) -> DisputeView:
        """Show documents to the witnesses; without any, what this node holds. Raises UnknownChannel, BadInput, Refused."""
        id = _key(channel_id)
        file = self._files.get(id)
        if file is None:
            raise BadInput("This channel is before no witnesses; dispute it first.")
        if file.case.seat != "party":
            raise Refused("This node is a witness of that channel; only its two sides show evidence.")
        if file.deadline_us is not None and self._clock.now_us() >= file.deadline_us:
            raise Refused("The time for evidence in this dispute is over.")
        if not docs:
            await self._refresh(id)
            return self.view(channel_id)
        try:
            await self.commit(lambda unit: party.submit(unit, file.case, docs))
        except ProtocolError as error:
            raise BadInput(f"This is no evidence in this dispute: {error}") from error
        return self.view(channel_id)

    # -- views

    def views(self) -> list[DisputeView]:
        """Disputed channels of mine and cases I witness, those still open first."""
        ids = dict.fromkeys((*(c.id for c in self._channels.disputed()), *self._files))
        ended = ("decided", "settled", "unresolved")
        return sorted((self.view(id.hex()) for id in ids), key=lambda v: (v.state in ended, -v.filed_at))

    def view(self, channel_id: str) -> DisputeView:
        """One dispute; for a channel in use, what a dispute would mean. Raises UnknownChannel."""
        file = self._files.get(_key(channel_id))
        now = self._clock.now_us()
        if file is None:
            return present.channel_view(self._channels.record(channel_id), self._identity.peer_id, self._name_of, now)
        return present.case_view(file, self._channel(file), self._identity.peer_id, self._name_of, now)

    def verdict(self, channel_id: str) -> VerdictView:
        """What was decided, or would be on the evidence on record. Raises UnknownChannel, BadInput where there is no case."""
        file = self._files.get(_key(channel_id))
        if file is None:
            raise BadInput("This channel is before no witnesses, so there is no verdict.")
        found = present.verdict_view(file, self._identity.peer_id, self._name_of)
        if found is None:
            raise BadInput("Both sides signed the closing balances, so there is no verdict.")
        return found

    async def frauds(self, channel_id: str) -> list[FraudView]:
        """Faults on record on one channel, or all for "", with their portable proofs."""
        id = _key(channel_id) if channel_id else None
        rows = await self._db.read(lambda tx: fault_store.load(tx, id))
        return [present.fraud_view(row, self._name_of, with_file=True) for row in rows]

    def resolve(self, text: str) -> str:
        """A full id or an unambiguous prefix of at least 4 digits, of a channel of mine or a case. Raises UnknownChannel."""
        wanted = text.strip().lower()
        found = {id.hex() for id in self._files if id.hex().startswith(wanted)}
        try:
            found.add(self._channels.resolve(text))
        except UnknownChannel:
            if len(wanted) < 4 or not found:
                raise
        if len(found) > 1:
            raise UnknownChannel(f"{text[:70]!r} fits {len(found)} channels; give more digits.")
        return found.pop()

    def action(self, channel_id: str) -> str:
        """Who must act in a case, by when; "" if it is before no witnesses."""
        file = self._files.get(_key(channel_id))
        if file is None:
            return ""
        return present.action(file, self._identity.peer_id, self._name_of, self._clock.now_us())

    def at_fault(self, peer: PeerId) -> bool:
        """Whether a proven fault on record keeps credit from this peer."""
        return self._penalties.at_fault(peer)

    # -- protocol.Desk

    async def handle(self, sender: PeerId, signed: Signed, body: Body) -> Body:
        await self._ready.wait()
        if signed.kind in self._desks:
            return await self._desks[signed.kind].handle(sender, signed, body)
        if isinstance(body, WitnessAsk | Nominate):
            if signed.signer != sender:
                raise ProtocolError("A request that is not signed by the peer that sent it.")
            if isinstance(body, WitnessAsk):
                return await self.nomination.on_ask(sender, body)
            return await self.nomination.on_nominate(sender, body)
        trusted = self._shares_guild(sender)
        return await self.commit(lambda unit: docket.carry_out(unit, sender, signed, body, trusted))

    # -- for what else is brought before witnesses

    def also(self, kinds: Mapping[str, type[Body]], desk: Desk) -> None:
        """Take further kinds of messages, which ``desk`` carries out. Before the start."""
        self._protocol.kinds.update(kinds)
        self._desks.update(dict.fromkeys(kinds, desk))

    async def commit(self, work: Callable[[Unit], T]) -> T:
        """Run ``work`` in one transaction, then show, send and carry out what follows, even if the caller goes away."""

        async def run() -> T:
            def operation(tx: Tx) -> tuple[T, Outcome, dict[bytes, File | None]]:
                unit = Unit(tx, self._identity, self._clock.now_us())
                result = work(unit)
                return result, unit.out, {id: present.load(unit, id) for id in unit.out.changed}

            result, out, files = await self._db.write(operation)
            self._apply(out, files)
            return result

        return await asyncio.shield(self._spawn(run()))

    # -- inside

    def _apply(self, out: Outcome, files: dict[bytes, File | None]) -> None:
        self._files.update({id: file for id, file in files.items() if file is not None})
        if len(self._files) > 2 * SHOWN_ENDED:
            ended = sorted((f for f in self._files.values() if f.case.state != "open"), key=lambda f: f.case.ended_us)
            for file in ended[:-SHOWN_ENDED]:
                del self._files[file.case.id]
        for id in out.changed:
            self._bus.publish(events.DisputeChanged(id.hex()))
        for notice in out.notices:
            self._bus.publish(notice)
        self._post.wake(out.mailed)
        for id in out.contest:
            self._spawn(self._channels.contest(id.hex(), "case"))
        for decision in out.decisions:
            self._spawn(self._decide(decision))
        for penalty in out.penalties:
            self._spawn(self._penalties.carry_out(penalty))
        for proof in out.proofs:
            self._bus.publish(events.FraudProven(proof.culprit, proof.kind, proof.channel.hex()))
            self._spawn(self._spread(proof))

    async def _decide(self, decision: Decision) -> None:
        await self._channels.decide(decision.channel.hex(), decision.paid_u, decision.received_u)

    async def _spread(self, proof: Proof) -> None:
        """Tell fellow members, who check it themselves."""
        to = [p for p in self._fellows(proof.culprit) if p not in (proof.culprit, self._identity.peer_id)][:MAX_SPREAD]
        raw = seal(self._identity, proof_message(proof))
        await self.commit(lambda unit: unit.mail(to, proof.channel, raw))

    async def _declined(self, letter: Letter, why: str) -> None:
        self._bus.publish(
            events.Notice("info", "channels", f"{self._name_of(letter.peer)} refused: {why}", letter.case_id.hex())
        )

    async def _refresh(self, id: bytes) -> None:
        """File a channel that became disputed; show what is new in one that is before witnesses."""

        def work(unit: Unit) -> None:
            channel = channel_store.load(unit.tx, id)
            if channel is None or not channel.agreed:
                return
            case = store.load(unit.tx, id)
            if case is not None:
                party.refresh(unit, case, channel)
            elif channel.state is State.DISPUTED:
                docs = tuple(raw for _, raw in channel_store.evidence(unit.tx, id))
                unit.look_for_fraud_in(docs, (channel.peer,))
                if channel.params.witnesses:
                    party.file(unit, channel)

        await self.commit(work)

    async def _carry_out_decided(self) -> None:
        """A verdict on record whose channel the last run did not get to close."""
        for file in tuple(self._files.values()):
            channel = self._channel(file)
            if file.case.state == "decided" and file.case.seat == "party" and channel is not None and channel.open:
                case = file.case
                decision = await self._db.read(
                    lambda tx, case=case: party.decision_of(Unit(tx, self._identity, 0), case)  # type: ignore[misc]
                )
                if decision is not None:
                    await self._decide(decision)

    async def _follow(self, changes: Subscription[events.ChannelChanged | events.PeerConnected]) -> None:
        try:
            async for event in changes:
                try:
                    if isinstance(event, events.PeerConnected):
                        self._post.wake((event.peer_id,))
                    elif self._concerns(id := bytes.fromhex(event.channel_id)):
                        await self._refresh(id)
                except StoreError:
                    return
                except ZsError as error:
                    self._bus.publish(events.Notice("warning", "channels", str(error)))
        finally:
            changes.close()

    def _concerns(self, id: bytes) -> bool:
        """Whether a changed channel is, or should be, before witnesses or searched for fraud."""
        file = self._files.get(id)
        if file is not None:
            return file.case.state == "open" and file.case.seat == "party"
        try:
            return self._channels.record(id.hex()).state is State.DISPUTED
        except UnknownChannel:
            return False

    async def _tick(self) -> None:
        seen = 0
        while True:
            due = [f.deadline_us for f in self._hearing() if f.deadline_us is not None and f.deadline_us > seen]
            now = self._clock.now_us()
            await self._clock.sleep(max(0.05, min([TICK_S, *((d - now) / US for d in due)])))
            seen = self._clock.now_us()
            try:
                await self._turn()
            except StoreError:
                return
            except ZsError as error:
                self._bus.publish(events.Notice("warning", "channels", str(error)))

    async def _turn(self) -> None:
        now = self._clock.now_us()
        for file in self._hearing():
            if file.deadline_us is not None and now >= file.deadline_us:
                case = file.case
                await self.commit(lambda unit, case=case: hearing.evaluate(unit, case))  # type: ignore[misc]
        await self._post.wake_all()
        if now - self._swept_us >= SWEEP_US:
            self._swept_us = now
            await self._db.write(lambda tx: store.drop_old(tx, now - MAIL_KEPT_US, now - CASES_KEPT_US, now // 1000))

    def _hearing(self) -> list[File]:
        return [f for f in self._files.values() if f.case.seat == "witness" and f.case.state == "open"]

    def _channel(self, file: File) -> Channel | None:
        try:
            return self._channels.record(file.case.id.hex())
        except UnknownChannel:
            return None

    def _spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), ZsError):
            self._bus.publish(events.Notice("debug", "channels", str(error)))


def _key(channel_id: str) -> bytes:
    try:
        return bytes.fromhex(channel_id)
    except ValueError:
        raise UnknownChannel(f"There is no channel {channel_id[:70]!r}.") from None
