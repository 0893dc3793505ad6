"""Payments on their way to becoming Pays: while one transaction is written the next one's lines gather."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from zstui.engine.channels import paying
from zstui.engine.channels.books import Books
from zstui.engine.channels.messages import MAX_LINES, PayLine
from zstui.engine.channels.model import Channel
from zstui.engine.channels.paying import Intent
from zstui.engine.channels.state import WINDOW, State
from zstui.engine.errors import ChannelError
from zstui.engine.store.database import Tx
from zstui.engine.store.thread import fail, resolve


class _Waiting(msgspec.Struct, frozen=True):
    """The future gets the payment's sequence once it is durable."""

    intent: Intent
    future: asyncio.Future[int]


class _Queue:
    """Payments on one channel. It is there while there are any."""

    def __init__(self, channel: Channel, patience_s: float) -> None:
        self.channel = channel
        self.patience_s = patience_s
        self.waiting: deque[_Waiting] = deque()
        self.taken: list[_Waiting] = []
        """Being written."""
        self.task: asyncio.Task[None] | None = None
        """Waits for the channel to be ready."""


class Payer:
    def __init__(self, books: Books) -> None:
        self._books = books
        self._queues: dict[bytes, _Queue] = {}

    async def pay(self, channel: Channel, line: PayLine, also: Callable[[Tx], None] | None, patience_s: float) -> int:
        """Make one payment durable and send it; returns its sequence. Where the channel only has to hear from its peer
        first, waits up to ``patience_s``. Raises ChannelError and what ``also`` raises."""
        waiting = _Waiting(Intent(line, also), asyncio.get_running_loop().create_future())
        queue = self._queues.get(channel.id)
        if queue is None:
            queue = self._queues[channel.id] = _Queue(channel, patience_s)
            queue.waiting.append(waiting)
            self._go_on(queue)
        else:
            queue.waiting.append(waiting)
        return await waiting.future

    async def stop(self) -> None:
        """Refuse what is not known to be on record."""
        tasks = []
        for queue in self._queues.values():
            for waiting in (*queue.taken, *queue.waiting):
                fail(
                    waiting.future,
                    ChannelError("The node stops; look at the channel before you pay this again."),
                )
            queue.waiting.clear()
            if queue.task is not None:
                queue.task.cancel()
                tasks.append(queue.task)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _go_on(self, queue: _Queue) -> None:
        """Write what waits, as soon as the channel is ready for it."""
        if not queue.waiting:
            del self._queues[queue.channel.id]
        elif self._is_ready(queue.channel.id):
            self._write(queue)
        else:
            queue.task = asyncio.create_task(self._write_when_ready(queue), name="payments")

    async def _write_when_ready(self, queue: _Queue) -> None:
        await self._books.until(queue.channel.peer, queue.patience_s, lambda: self._is_ready(queue.channel.id))
        queue.task = None
        self._write(queue)

    def _write(self, queue: _Queue) -> None:
        first = [queue.waiting.popleft() for _ in range(min(MAX_LINES, len(queue.waiting)))]
        queue.taken = [waiting for waiting in first if not waiting.future.done()]
        intents = [waiting.intent for waiting in queue.taken]
        self._books.begin(
            queue.channel.peer,
            lambda work: paying.pay(work, queue.channel.id, intents),
            lambda result: self._written(queue, *result[0]),
            lambda error: self._written(queue, 0, [error] * len(intents)),
        )

    def _written(self, queue: _Queue, seq: int, errors: Sequence[Exception | None]) -> None:
        taken, queue.taken = queue.taken, []
        for waiting, error in zip(taken, errors, strict=True):
            if error is None:
                resolve(waiting.future, seq)
            else:
                fail(waiting.future, error)
        asyncio.get_running_loop().call_soon(self._go_on, queue)

    def _is_ready(self, id: bytes) -> bool:
        """False where waiting may help: the peer has not been heard since the start, or has a full window."""
        record = self._books.records.get(id)
        if record is None or record.state is not State.ACTIVE or record.tainted:
            return True
        return self._books.may_sign(record) and record.confirmed and record.out.seq - record.acked < WINDOW
