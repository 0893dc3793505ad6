"""Payments on their way to becoming Pays: while one transaction is written the next one's lines gather."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import msgspec

from zstui.engine.channels import paying
from zstui.engine.channels.books import Books
from zstui.engine.channels.messages import MAX_LINES, PayLine
from zstui.engine.channels.model import Channel
from zstui.engine.channels.paying import Intent
from zstui.engine.channels.state import WINDOW, State
from zstui.engine.errors import ChannelError
from zstui.engine.store.database import Tx


class _Waiting(msgspec.Struct, frozen=True):
    """The future gets the payment's sequence once it is durable."""

    intent: Intent
    future: asyncio.Future[int]


class _Queue:
    def __init__(self) -> None:
        self.waiting: deque[_Waiting] = deque()
        self.task: asyncio.Task[None] | None = None


class Payer:
    def __init__(self, books: Books) -> None:
        self._books = books
        self._queues: dict[bytes, _Queue] = {}

    async def pay(self, channel: Channel, line: PayLine, also: Callable[[Tx], None] | None, patience_s: float) -> int:
        """Make one payment durable and send it; returns its sequence. Where the channel only has to hear from its peer
        first, waits up to ``patience_s``. Raises ChannelError and what ``also`` raises."""
        queue = self._queues.setdefault(channel.id, _Queue())
        waiting = _Waiting(Intent(line, also), asyncio.get_running_loop().create_future())
        queue.waiting.append(waiting)
        if queue.task is None:
            queue.task = asyncio.create_task(self._drain(channel, queue, patience_s), name="payments")
        return await waiting.future

    async def stop(self) -> None:
        """Refuse what is not yet on record."""
        tasks = [queue.task for queue in self._queues.values() if queue.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self, channel: Channel, queue: _Queue, patience_s: float) -> None:
        taken: list[_Waiting] = []
        try:
            while queue.waiting:
                if not self._is_ready(channel.id):
                    await self._books.until(channel.peer, patience_s, lambda: self._is_ready(channel.id))
                taken = [queue.waiting.popleft() for _ in range(min(MAX_LINES, len(queue.waiting)))]
                await self._write(channel, [w for w in taken if not w.future.done()])
        finally:
            del self._queues[channel.id]
            for waiting in (*taken, *queue.waiting):
                if not waiting.future.done():
                    waiting.future.set_exception(
                        ChannelError("The node stops; look at the channel before you pay this again.")
                    )

    async def _write(self, channel: Channel, taken: list[_Waiting]) -> None:
        intents = [waiting.intent for waiting in taken]
        try:
            (seq, errors), _ = await self._books.commit(
                channel.peer, lambda work: paying.pay(work, channel.id, intents)
            )
        except Exception as error:  # noqa: BLE001  raised again at every caller
            errors, seq = [error] * len(taken), 0
        for waiting, failure in zip(taken, errors, strict=True):
            if waiting.future.done():
                continue
            if failure is None:
                waiting.future.set_result(seq)
            else:
                waiting.future.set_exception(failure)

    def _is_ready(self, id: bytes) -> bool:
        """False where waiting may help: the peer has not been heard since the start, or has a full window."""
        record = self._books.records.get(id)
        if record is None or record.state is not State.ACTIVE or record.tainted:
            return True
        return self._books.may_sign(record) and record.confirmed and record.out.seq - record.acked < WINDOW
