"""One link to one peer: a stream of envelopes, read in batches, written in order, in step with the stored log."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

import msgspec

from zstui.engine.channels.messages import (
    Abort,
    Ack,
    Close,
    LogPull,
    OpenAccept,
    OpenConfirm,
    Opened,
    OpenPropose,
    OpenPull,
    OpenReject,
    Pay,
    Reestablish,
    Settle,
    read,
    take,
)
from zstui.engine.channels.model import Channel
from zstui.engine.channels.work import Outcome
from zstui.engine.errors import DeadlineExceeded, ProtocolError
from zstui.engine.identity.envelope import Body, Signed
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.link import Stream

BATCH = 64
"""Frames handled in one transaction."""
CHUNK = 64
"""Stored Pays read at a time while catching up."""
MAX_UNSENT = 512
"""Frames that may wait to be sent before nothing more is read from the peer."""
SEND_TIMEOUT_S = 60.0
ACK_EVERY_S = 0.02
ACK_EVERY_PAYS = 32

_BODIES: dict[str, type[Body]] = {
    cls.__name__: cls
    for cls in (
        OpenPropose,
        OpenAccept,
        OpenConfirm,
        OpenReject,
        Abort,
        Pay,
        Ack,
        Close,
        Settle,
        Reestablish,
        LogPull,
        OpenPull,
        Opened,
    )
}

Message = tuple[Signed, Body]
Begun = asyncio.Future[tuple[set[bytes], Outcome]]


class ChannelLink(msgspec.Struct):
    """How far one channel is on one link."""

    greeted: bool = False
    """My Reestablish went out."""
    first: int = 1
    """Next stored Pay to send."""
    lagging: bool = False
    """Stored Pays and documents are being sent."""
    live: bool = False
    """All that is stored has been sent; new frames follow as they are committed."""
    after_pull: int = 0
    """Nothing is sent before the peer has its own Pays back up to this one."""
    recover_to: int = 0
    """My own Pays up to this one come back from the peer first."""
    pulled_to: int = 0
    """The last of my own Pays asked for."""
    close: bytes = b""
    """My own Close to adopt after them."""
    ack_seq: int = 0
    """What my last Ack acknowledged."""
    ack_timer: asyncio.TimerHandle | None = None


class Stored(msgspec.Struct, frozen=True):
    """What is on record from one Pay on."""

    pays: list[tuple[int, bytes]]
    documents: list[bytes]
    """Close, Settle, and where I am tainted a Reestablish that asks to be closed."""
    rev: int
    """Version of the channel's record at that moment."""


class Desk(Protocol):
    """What a session needs of the service."""

    async def greet(self, session: Session) -> None:
        """Say where I am on every open channel with this peer."""

    def begin(self, session: Session, batch: list[Message]) -> Begun:
        """Begin to carry out what the peer sent, in one transaction."""

    async def finish(self, session: Session, begun: Begun) -> None:
        """Wait for that, and do what follows from it. Raises ProtocolError where the link must be dropped."""

    async def stored(self, channel: bytes, first: int) -> Stored:
        """My Pays from ``first`` on, at most ``CHUNK``, and the documents."""

    def record(self, channel: bytes) -> Channel | None:
        """The latest committed record."""

    def acknowledgement(self, channel: bytes) -> bytes | None:
        """A signed Ack of all that is committed."""


class Session:
    """Runs until either side ends the stream; then whoever needs the peer dials again."""

    def __init__(self, desk: Desk, stream: Stream, me: PeerId, mine: bool) -> None:
        self.peer = stream.peer
        self.mine = mine
        """I opened the stream."""
        self.links: dict[bytes, ChannelLink] = {}
        self.heard: set[bytes] = set()
        """Channels that the peer has re-established, or that became active, on this link."""
        self.unknown: set[bytes] = set()
        """Channels that the peer re-established and I have no record of."""
        self.asked: set[bytes] = set()
        """Those of them that the peer was asked to prove, which it is once."""
        self.ended = asyncio.Event()
        self._desk = desk
        self._stream = stream
        self._me = me
        self._unsent: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._idle = False
        """The writer waits to be woken: all that was queued has been sent."""
        self._room = asyncio.Event()
        self._inbox: deque[Message] = deque()
        self._inbox_room = asyncio.Event()
        self._begun: Begun | None = None
        """What is being carried out."""
        self._work = asyncio.Event()
        """Set when something was begun."""
        self._task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve the stream to its end. Raises what ended it."""
        try:
            await self._desk.greet(self)
            tasks = [asyncio.create_task(part()) for part in (self._read, self._process, self._write)]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()
        finally:
            self.stop()
            if self._begun is not None:
                self._begun.add_done_callback(_heed)

    def stop(self) -> None:
        """End the stream; ``run`` returns soon after. Idempotent."""
        self.ended.set()
        for link in self.links.values():
            if link.ack_timer is not None:
                link.ack_timer.cancel()
        self._stream.reset()

    # -- out

    def push(self, raw: bytes) -> None:
        """Send a frame, or queue it where others wait; frames leave in this order."""
        if self._idle and not self._wake.is_set() and self._stream.send_now(raw):
            return
        self._unsent.append(raw)
        self._wake.set()

    def offer(self, raw: bytes, channel: bytes, seq: int) -> None:
        """Queue a committed frame of a channel that is in step; otherwise the stored copy is sent in its turn."""
        link = self.links.get(channel)
        if link is None or not link.live:
            return
        if seq:
            if seq != link.first:
                return
            link.first += 1
        self.push(raw)

    def start(self, channel: bytes) -> None:
        """The channel became active over this link: nothing to catch up with."""
        self.links[channel] = ChannelLink(greeted=True, live=True)

    def catch_up(self, channel: bytes, first: int) -> None:
        """Send all stored Pays from ``first`` on, then the documents, then what is new."""
        link = self.links[channel]
        link.first, link.lagging, link.live = first, True, False
        self._wake.set()

    def acknowledge(self, channel: bytes, received: int) -> None:
        """Ack everything up to ``received``: at once if nothing more waits to be read, else within 20 ms or 32 Pays."""
        link = self.links.setdefault(channel, ChannelLink())
        if not self._inbox or received - link.ack_seq >= ACK_EVERY_PAYS:
            self._ack(channel, link)
        elif link.ack_timer is None:
            link.ack_timer = asyncio.get_running_loop().call_later(ACK_EVERY_S, self._ack, channel, link)

    def _ack(self, channel: bytes, link: ChannelLink) -> None:
        if link.ack_timer is not None:
            link.ack_timer.cancel()
            link.ack_timer = None
        raw = self._desk.acknowledgement(channel)
        record = self._desk.record(channel)
        if raw is None or record is None or self.ended.is_set():
            return
        link.ack_seq = record.inn.seq
        self.push(raw)

    async def _write(self) -> None:
        while True:
            while self._unsent:
                await self._send(self._unsent.popleft())
                if len(self._unsent) < MAX_UNSENT:
                    self._room.set()
            behind = next((c for c, link in self.links.items() if link.lagging), None)
            if behind is not None:
                await self._catch_up(behind, self.links[behind])
                continue
            self._wake.clear()
            self._idle = True
            await self._wake.wait()
            self._idle = False

    async def _catch_up(self, channel: bytes, link: ChannelLink) -> None:
        stored = await self._desk.stored(channel, link.first)
        for seq, raw in stored.pays:
            await self._send(raw)
            link.first = seq + 1
        record = self._desk.record(channel)
        if len(stored.pays) < CHUNK and (record is None or record.rev <= stored.rev):
            link.lagging, link.live = False, True
            for raw in stored.documents:
                self.push(raw)

    async def _send(self, raw: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._stream.send(raw)
        except TimeoutError:
            raise DeadlineExceeded("The peer takes nothing off its channel stream.") from None

    # -- in

    async def _read(self) -> None:
        while True:
            raw = await self._stream.receive(None)
            while len(self._unsent) >= MAX_UNSENT:
                self._room.clear()
                await self._room.wait()
            message = self._parse(raw)
            if message is not None:
                self._inbox.append(message)
            if self._begun is None and self._inbox and (len(self._inbox) >= BATCH or not self._stream.has_frame()):
                self._begin()
            while len(self._inbox) >= 2 * BATCH:
                self._inbox_room.clear()
                await self._inbox_room.wait()

    def _begin(self) -> None:
        """Carry out what has come."""
        batch = [self._inbox.popleft() for _ in range(min(BATCH, len(self._inbox)))]
        self._begun = self._desk.begin(self, batch)
        self._work.set()
        self._inbox_room.set()

    def _parse(self, raw: bytes) -> Message | None:
        """Verify and decode. None: a kind that this version does not know. Raises ProtocolError."""
        signed = take(raw)
        if signed.signer != self.peer and not (signed.signer == self._me and signed.kind == "Pay"):
            raise ProtocolError(f"A {signed.kind!r} that is not signed by the peer that sent it.")
        body_type = _BODIES.get(signed.kind)
        return None if body_type is None else (signed, read(signed, body_type))

    async def _process(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._begun is not None:
                await self._desk.finish(self, self._begun)
                self._begun = None
                if self._inbox:
                    self._begin()
                    continue
                for channel, link in self.links.items():
                    if link.ack_timer is not None:
                        self._ack(channel, link)


def _heed(begun: Begun) -> None:
    """Nobody waits any more for what this raises."""
    if not begun.cancelled():
        begun.exception()
