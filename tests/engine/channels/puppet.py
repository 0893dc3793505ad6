"""A peer whose every message the test writes by hand."""

from __future__ import annotations

import asyncio
import os
from typing import Any, TypeVar

import msgspec

from tests.engine.channels.rig import Node, identity, line
from zstui.engine.bus import Bus
from zstui.engine.channels.messages import (
    Abort,
    Ack,
    Close,
    OpenAccept,
    OpenConfirm,
    OpenPropose,
    Pay,
    Reestablish,
    Settle,
    channel_id,
    read,
    sign_opening,
    take,
)
from zstui.engine.channels.model import draft
from zstui.engine.channels.state import Half, next_pay
from zstui.engine.errors import StreamClosed
from zstui.engine.identity.envelope import Body, Signed, seal
from zstui.engine.net.link import CHANNEL_PROTOCOL, Stream
from zstui.engine.net.memory import MemoryHub, MemoryStream

B = TypeVar("B", bound=Body)


class Puppet:
    """Keeps its own two halves as an honest peer would, and signs whatever it is told to."""

    def __init__(self, hub: MemoryHub, number: int) -> None:
        self.identity = identity(number)
        self.id = self.identity.peer_id
        self.hub = hub
        self.network = hub.add(self.id, Bus())
        self.network.handle(CHANNEL_PROTOCOL, self._serve)
        self.stream: Stream | None = None
        self.epoch = 0
        self.arrived: asyncio.Queue[Stream] = asyncio.Queue()

    async def _serve(self, stream: Stream) -> None:
        await self.arrived.put(stream)
        await asyncio.Event().wait()

    async def dial(self, victim: Node) -> None:
        self.stream = await self.network.open(victim.id, CHANNEL_PROTOCOL)

    async def accept_stream(self) -> None:
        """Take the stream that the victim opens."""
        self.stream = await asyncio.wait_for(self.arrived.get(), 20)

    async def send(self, *messages: Body | bytes) -> None:
        assert self.stream is not None
        for message in messages:
            await self.stream.send(message if isinstance(message, bytes) else seal(self.identity, message))

    async def receive(self, kind: type[B]) -> tuple[Signed, B]:
        """The next message of a kind; others are skipped."""
        assert self.stream is not None
        while True:
            signed = take(await self.stream.receive(20))
            if signed.kind == kind.__name__:
                return signed, read(signed, kind)

    async def dropped(self) -> bool:
        """Whether the victim ends the stream within 2 s; what it still says is skipped."""
        assert isinstance(self.stream, MemoryStream)
        try:
            async with asyncio.timeout(2):
                while True:
                    await self.stream.receive(None)
        except StreamClosed:
            return True
        except TimeoutError:
            return False

    def proposal(self, victim: Node, mine_u: int = 10_000, theirs_u: int = 0, **changes: Any) -> OpenPropose:
        self.epoch += 1
        params = draft(
            "zerostate/1",
            self.id,
            victim.id,
            self.epoch,
            os.urandom(32),
            mine_u,
            theirs_u,
            victim.clock.now_us() // 1000,
            86_400,
        )
        return OpenPropose(msgspec.structs.replace(params, **changes))

    async def open(self, victim: Node, mine_u: int = 10_000, theirs_u: int = 0, **changes: Any) -> None:
        """Open a channel as an honest proposer."""
        if self.stream is None:
            await self.dial(victim)
        await self.send(self.proposal(victim, mine_u, theirs_u, **changes))
        _, accept = await self.receive(OpenAccept)
        self.ch = channel_id(accept.params)
        self.out = self.seen = Half.start(self.ch)
        await self.send(OpenConfirm(self.ch, sign_opening(self.identity, self.ch)))
        await self.receive(Ack)

    def pay(self, amount: int, **changes: Any) -> bytes:
        """The next link, with fields changed; counted only if nothing was."""
        body = next_pay(self.ch, self.out, self.seen, (line(amount),), 1_700_000_000_000)
        raw = seal(self.identity, msgspec.structs.replace(body, **changes))
        if not changes:
            self.out = self.out.after(body, take(raw).digest)
        return raw

    async def take_pay(self, victim: Node, amount: int) -> bytes:
        """Let the victim pay and take it."""
        task = asyncio.create_task(victim.service.pay(self.ch.hex(), line(amount)))
        signed, pay = await self.receive(Pay)
        self.seen = Half(pay.seq, pay.cum, signed.digest)
        await self.send(self.ack())
        await task
        return signed.raw

    def ack(self) -> Ack:
        return Ack(self.ch, self.seen.seq, self.seen.cum, self.seen.head)

    def close(self) -> Close:
        return Close(self.ch, self.out.seq, self.out.cum, self.out.head)

    def where(self, **changes: Any) -> Reestablish:
        here = Reestablish(
            self.ch,
            "active",
            self.out.seq,
            self.out.head,
            self.seen.seq,
            self.seen.cum,
            self.seen.head,
            b"",
            b"",
            b"",
            False,
        )
        return msgspec.structs.replace(here, **changes)

    async def again(self, victim: Node) -> None:
        """Cut the link, restore it, and take the victim's new stream."""
        self.hub.cut(self.id, victim.id)
        await asyncio.sleep(0)
        self.hub.link(self.id, victim.id)
        await self.accept_stream()


__all__ = ["Abort", "Puppet", "Settle"]
