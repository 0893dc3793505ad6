"""What the links ask of the channels: say where I am, carry out what a peer sent, give what is stored."""

from __future__ import annotations

from zstui.engine.channels import recovery, store
from zstui.engine.channels.books import Books
from zstui.engine.channels.dispatch import carry_out
from zstui.engine.channels.greeting import greetings, where_i_am
from zstui.engine.channels.links import Keeper
from zstui.engine.channels.messages import Ack, Close, LogPull, Pay, Reestablish, Settle
from zstui.engine.channels.model import Channel
from zstui.engine.channels.protocol import CHUNK, Begun, ChannelLink, Message, Session, Stored
from zstui.engine.channels.state import State
from zstui.engine.channels.work import InStep, Pulled, Unknown, Work
from zstui.engine.errors import ChannelError, ProtocolError
from zstui.engine.identity.envelope import Body, Signed, seal
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.store.database import Database, Tx

MAX_UNKNOWN = 4
"""Lost channels of one peer that are asked about on one link: an honest peer has one."""


class ChannelDesk(Keeper):
    def __init__(self, identity: Identity, db: Database, books: Books) -> None:
        self._identity = identity
        self._db = db
        self._books = books

    def wants(self, peer: PeerId) -> bool:
        return self._books.open_with(peer) is not None

    async def greet(self, session: Session) -> None:
        async with self._books.peer(session.peer).turns.turn():
            said = await self._db.read(lambda tx: greetings(tx, self._identity, session.peer))
            for channel, raw in said:
                if channel is not None:
                    session.links[channel] = ChannelLink(greeted=True)
                session.push(raw)

    def begin(self, session: Session, batch: list[Message]) -> Begun:
        limit = self._books.limit(session.peer)

        def carry(work: Work, heard: set[bytes], signed: Signed, body: Body) -> None:
            if isinstance(body, Pay | Ack | Close | Settle | LogPull) and body.ch not in heard:
                raise ProtocolError(f"A {signed.kind} before the channel was re-established.")
            carry_out(work, session.peer, signed, body, limit)
            if isinstance(body, Reestablish):
                heard.add(body.ch)
            heard.update(work.out.started)

        def carry_all(work: Work) -> set[bytes]:
            """Everything up to the first frame that is refused, and nothing if that is the first of all; returns the channels
            heard of on this link."""
            heard = set(session.heard)
            work.recovering = frozenset(id for id, link in session.links.items() if link.recover_to)
            carry(work, heard, *batch[0])
            for message in batch[1:]:
                try:
                    with work.attempt():
                        carry(work, heard, *message)
                except (ProtocolError, ChannelError) as error:
                    work.out.drop = str(error)
                    break
            return heard

        told_again = all(isinstance(body, Ack) for _, body in batch)  # by the peer's first word on the next link
        return self._books.start(session.peer, carry_all, session, lazily=told_again)

    async def finish(self, session: Session, begun: Begun) -> None:
        try:
            session.heard, outcome = await begun
        except ChannelError as error:
            raise ProtocolError(str(error)) from None
        if outcome.drop:
            raise ProtocolError(outcome.drop)
        for step in outcome.steps:
            match step:
                case Pulled():
                    self._pulled(session, step)
                case Unknown() if step.channel not in session.asked and len(session.unknown) < MAX_UNKNOWN:
                    session.unknown.add(step.channel)
                case InStep():
                    await self._follow(session, step)
        if session.unknown and not self.wants(session.peer):
            session.asked.add(
                lost := session.unknown.pop()
            )  # A pair has one open channel: one that ends first, here, comes first.
            await self._books.commit(session.peer, lambda work: recovery.pull_opening(work, lost), session)
        for id, link in tuple(session.links.items()):
            if link.recover_to:
                await self._recover(session, id, link)

    async def stored(self, channel: bytes, first: int) -> Stored:
        def load(tx: Tx) -> Stored:
            record = store.load(tx, channel)
            if record is None:
                return Stored([], [], 0)
            pays = store.envelopes(tx, channel, store.OUT, first, record.out.seq, CHUNK)
            documents = [store.document(tx, channel, kind, store.OUT) for kind in ("close", "settle")]
            if record.tainted and record.state in (State.CLOSING, State.DISPUTED):
                documents.append(seal(self._identity, where_i_am(tx, record)))
            return Stored(pays, [d for d in documents if d is not None], record.rev)

        return await self._db.read(load)

    def record(self, channel: bytes) -> Channel | None:
        return self._books.records.get(channel)

    def acknowledgement(self, channel: bytes) -> bytes | None:
        record = self._books.records.get(channel)
        if record is None:
            return None
        return seal(self._identity, Ack(channel, record.inn.seq, record.inn.cum, record.inn.head))

    async def _follow(self, session: Session, step: InStep) -> None:
        """The peer told where it is: say where I am, then send what it lacks, unless something must come back first."""
        link = session.links.setdefault(step.channel, ChannelLink())
        if not link.greeted:
            link.greeted = True
            async with self._books.peer(session.peer).turns.turn():
                raw = await self._db.read(lambda tx: self._where(tx, step.channel))
                if raw is not None:
                    session.push(raw)
        link.live = link.lagging = False
        link.first, link.after_pull = step.first, step.after_pull
        link.recover_to, link.close, link.pulled_to = step.recover_to, step.close, 0
        if not link.after_pull and not link.recover_to:
            session.catch_up(step.channel, link.first)

    def _pulled(self, session: Session, step: Pulled) -> None:
        """The peer has its own Pays back up to some point."""
        link = session.links.get(step.channel)
        if link is not None and link.after_pull and step.last >= link.after_pull:
            link.after_pull = 0
            if not link.recover_to:
                session.catch_up(step.channel, link.first)

    async def _recover(self, session: Session, id: bytes, link: ChannelLink) -> None:
        """Pull my own lost Pays stretch by stretch; then adopt my lost Close and go on."""
        record = self._books.records.get(id)
        if record is None:
            return
        have = record.out.seq
        if have < link.recover_to:
            if have >= link.pulled_to:
                to = link.recover_to
                link.pulled_to = min(to, have + recovery.PULL)
                await self._books.commit(session.peer, lambda work: recovery.pull(work, id, to), session)
            return
        raw, link.recover_to, link.close = link.close, 0, b""
        await self._books.commit(session.peer, lambda work: recovery.recovered(work, id, raw), session)
        if not link.after_pull:
            session.catch_up(id, link.first)

    def _where(self, tx: Tx, channel: bytes) -> bytes | None:
        record = store.load(tx, channel)
        return None if record is None else seal(self._identity, where_i_am(tx, record))
