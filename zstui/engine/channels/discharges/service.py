"""Discharges: propose that a debt was paid outside, confirm or decline what a peer proposes. Nothing is paid by itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable

import msgspec

from zstui.engine import events
from zstui.engine.bus import Bus
from zstui.engine.channels import settlement
from zstui.engine.channels.books import Books
from zstui.engine.channels.discharges import store
from zstui.engine.channels.discharges.messages import MAX_NOTE, Answer, Discharge, decode_answer, discharge_id
from zstui.engine.channels.discharges.store import Record
from zstui.engine.channels.messages import read, take
from zstui.engine.channels.work import Work
from zstui.engine.clock import Clock
from zstui.engine.errors import BadInput, ChannelError, ProtocolError, ZsError
from zstui.engine.identity.envelope import Signed, seal
from zstui.engine.identity.keys import Identity, PeerId, public_key_of
from zstui.engine.identity.text import clean_text
from zstui.engine.money import format_amount
from zstui.engine.net.link import DISCHARGE_PROTOCOL, Network, Stream
from zstui.engine.store.database import Database, Tx
from zstui.engine.views import DischargeView

ASK_S = 10.0


class DischargeService:
    def __init__(
        self,
        identity: Identity,
        network: Network,
        db: Database,
        bus: Bus,
        clock: Clock,
        books: Books,
        *,
        name_of: Callable[[PeerId], str],
        net: str = "zerostate/1",
    ) -> None:
        self._identity = identity
        self._network = network
        self._db = db
        self._bus = bus
        self._clock = clock
        self._books = books
        self._name_of = name_of
        self._net = net
        self._task: asyncio.Task[None] | None = None
        network.handle(DISCHARGE_PROTOCOL, self._serve)

    async def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="discharges")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # -- verbs

    async def propose(self, peer: PeerId, amount_u: int, note: str) -> DischargeView:
        """Sign that ``amount_u`` of what is owed between ``peer`` and me was paid outside. The peer has to sign, too: until
        then nothing changes. Raises BadInput where no such debt is on record, ChannelError."""
        note = clean_text(note, MAX_NOTE)

        def sign(work: Work) -> Record:
            owed = settlement.owed_by(work.tx, peer)
            _check_amount(amount_u, abs(owed), self._name_of(peer))
            me, other = self._identity.public_key, public_key_of(peer)
            debtor, creditor = (other, me) if owed > 0 else (me, other)
            body = Discharge(self._net, debtor, creditor, amount_u, note, os.urandom(32), work.now_us // 1000)
            raw = seal(self._identity, body)
            record = Record(
                id=discharge_id(take(raw)),
                peer=peer,
                state="proposed",
                owed_to_me=owed > 0,
                amount_u=amount_u,
                note=note,
                mine=raw,
                theirs=None,
                created_us=work.now_us,
            )
            store.put(work.tx, record)
            return record

        record, _ = await self._books.commit(peer, sign)
        with contextlib.suppress(ZsError):
            await self._send(record)
        return await self.view(record.id)

    async def confirm(self, id: bytes) -> DischargeView:
        """Sign what the peer proposed: the debt is less by that amount from now on. Raises ChannelError, BadInput."""
        waiting = await self._need(id)

        def sign(work: Work) -> Record:
            record = store.get(work.tx, id)
            if record is None or record.state != "waiting" or record.theirs is None:
                raise ChannelError("This discharge does not wait for you any more.")
            owed = settlement.owed_by(work.tx, record.peer)
            _check_amount(record.amount_u, owed if record.owed_to_me else -owed, self._name_of(record.peer))
            body = read(take(record.theirs), Discharge)
            return self._apply(work, msgspec.structs.replace(record, mine=seal(self._identity, body)))

        record, _ = await self._books.commit(waiting.peer, sign)
        with contextlib.suppress(ZsError):
            await self._send(record)
        return self._view(record)

    async def decline(self, id: bytes) -> DischargeView:
        """Say no; what is owed stays. Raises ChannelError."""

        def no(tx: Tx) -> Record:
            record = store.get(tx, id)
            if record is None or record.state not in ("waiting", "proposed"):
                raise ChannelError("This discharge does not wait any more.")
            if record.state == "proposed":
                raise ChannelError("You have signed this discharge; the peer may still confirm it.")
            record = msgspec.structs.replace(record, state="declined", decided_us=self._clock.now_us())
            store.put(tx, record)
            return record

        return self._view(await self._db.write(no))

    async def views(self) -> list[DischargeView]:
        return [self._view(record) for record in await self._db.read(store.load)]

    async def view(self, id: bytes) -> DischargeView:
        return self._view(await self._need(id))

    async def resolve(self, text: str) -> bytes:
        """Raises BadInput unless ``text`` begins exactly one discharge's id."""
        found = [v for v in await self.views() if text and v.discharge_id.startswith(text.lower())]
        if len(found) != 1:
            raise BadInput(f"{text[:70]!r} is {'no' if not found else 'more than one'} discharge.")
        return bytes.fromhex(found[0].discharge_id)

    # -- inside

    async def _need(self, id: bytes) -> Record:
        record = await self._db.read(lambda tx: store.get(tx, id))
        if record is None:
            raise BadInput("There is no such discharge.")
        return record

    def _apply(self, work: Work, record: Record) -> Record:
        """Both have signed: post it."""
        record = msgspec.structs.replace(record, state="signed", decided_us=work.now_us)
        store.put(work.tx, record)
        spent, earned = (record.amount_u, 0) if record.owed_to_me else (0, record.amount_u)
        settlement.post(work.tx, record.id, record.peer, spent, earned, "discharged", work.now_us)
        work.out.balances[record.peer] = settlement.owed_by(work.tx, record.peer)
        work.event(
            events.Notice(
                "info",
                "channels",
                f"{format_amount(record.amount_u)} between {self._name_of(record.peer)} and you is discharged, as both signed.",
                record.peer,
            )
        )
        return record

    async def _send(self, record: Record) -> None:
        """Give the peer my signature and take its answer. Raises NetError, ProtocolError."""
        assert record.mine is not None
        answer = decode_answer(await self._network.request(record.peer, DISCHARGE_PROTOCOL, record.mine, ASK_S))
        if record.state != "proposed":
            return
        if answer.state == "signed":
            await self._books.commit(record.peer, lambda work: self._take(work, record.peer, take(answer.raw)))
        elif answer.state in ("declined", "refused"):
            why = clean_text(answer.why, MAX_NOTE)
            text = f"{self._name_of(record.peer)} did not confirm that {format_amount(record.amount_u)} was paid"
            self._bus.publish(events.Notice("warning", "channels", f"{text}{f': {why}' if why else '.'}", record.peer))

            def close(tx: Tx) -> None:
                now = store.get(tx, record.id)
                if now is not None and now.state == "proposed":
                    done = self._clock.now_us()
                    store.put(tx, msgspec.structs.replace(now, state="declined", decided_us=done))

            await self._db.write(close)

    async def _serve(self, stream: Stream) -> None:
        signed = take(await stream.receive(ASK_S))
        answer, _ = await self._books.commit(stream.peer, lambda work: self._take(work, stream.peer, signed))
        await stream.send(msgspec.msgpack.encode(answer))

    def _take(self, work: Work, peer: PeerId, signed: Signed) -> Answer:
        """The peer's signature under a discharge: its proposal, or its consent to mine."""
        body = read(signed, Discharge)
        me, other = self._identity.public_key, public_key_of(peer)
        if signed.signer != peer or {body.debtor, body.creditor} != {me, other} or body.net != self._net:
            raise ProtocolError("A discharge that is not between the two of us.")
        record = store.get(work.tx, discharge_id(signed))
        if record is None:
            return self._take_proposal(work, peer, signed, body)
        if record.mine is not None and record.state in ("proposed", "declined"):
            record = self._apply(work, msgspec.structs.replace(record, theirs=signed.raw))
        if record.state == "signed":
            return Answer("signed", record.mine or b"")
        return Answer("declined" if record.state == "declined" else "waiting")

    def _take_proposal(self, work: Work, peer: PeerId, signed: Signed, body: Discharge) -> Answer:
        mine = body.creditor == self._identity.public_key
        owed = settlement.owed_by(work.tx, peer)
        try:
            _check_amount(body.amount_u, owed if mine else -owed, "")
            store.put(
                work.tx,
                Record(
                    id=discharge_id(signed),
                    peer=peer,
                    state="waiting",
                    owed_to_me=mine,
                    amount_u=body.amount_u,
                    note=clean_text(body.note, MAX_NOTE),
                    mine=None,
                    theirs=signed.raw,
                    created_us=work.now_us,
                ),
            )
        except (BadInput, ChannelError):
            return Answer("refused", why="that much is not owed, or too many wait")
        paid = "paid you" if mine else "was paid by you"
        text = f"{self._name_of(peer)} says it {paid} {format_amount(body.amount_u)} outside; confirm it only if that is so."
        work.event(events.Notice("warning", "channels", text, peer))
        return Answer("waiting")

    async def _follow(self) -> None:
        """Ask again about what is undecided whenever the peer comes back."""
        subscription = self._bus.subscribe(events.PeerConnected)
        try:
            for peer in self._network.connected():
                await self._ask_again(peer)
            async for event in subscription:
                await self._ask_again(event.peer_id)
        finally:
            subscription.close()

    async def _ask_again(self, peer: PeerId) -> None:
        for record in await self._db.read(lambda tx: store.proposed_to(tx, peer)):
            with contextlib.suppress(ZsError):
                await self._send(record)

    def _view(self, record: Record) -> DischargeView:
        name = self._name_of(record.peer)
        action = {
            "proposed": f"{name} must confirm it; until then everything stays owed",
            "waiting": "confirm it if it was paid, or decline it",
        }.get(record.state, "")
        return DischargeView(
            discharge_id=record.id.hex(),
            peer_id=record.peer,
            peer_name=name,
            amount_u=record.amount_u,
            owed_to_me=record.owed_to_me,
            note=record.note,
            state=record.state,
            action=action,
            created_at=record.created_us // 1_000_000,
            decided_at=None if record.decided_us is None else record.decided_us // 1_000_000,
        )


def _check_amount(amount_u: int, owed_u: int, name: str) -> None:
    """Raises BadInput unless a debt of that size is there; below 0: it is owed the other way."""
    if amount_u <= 0:
        raise BadInput("A discharge needs an amount above 0.")
    if owed_u < amount_u:
        raise BadInput(f"Only {format_amount(max(0, owed_u))} is owed between {name or 'that peer'} and you.")
