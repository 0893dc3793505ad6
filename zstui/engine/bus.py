"""Typed publish/subscribe inside one process, with bounded queues."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

E = TypeVar("E")


class Subscription(Generic[E]):
    """An async iterator over published events. A slow reader loses the oldest; ``dropped`` counts them."""

    def __init__(self, bus: Bus, types: tuple[type[E], ...], limit: int) -> None:
        self._bus = bus
        self.types = types
        self._queue: deque[E] = deque(maxlen=limit)
        self._ready = asyncio.Event()
        self.dropped = 0
        self._closed = False

    def _put(self, event: E) -> None:
        if len(self._queue) == self._queue.maxlen:
            self.dropped += 1
        self._queue.append(event)
        self._ready.set()

    def close(self) -> None:
        """Stop receiving; an iteration under way ends once the queue is empty."""
        self._closed = True
        self._bus._subscriptions.discard(self)
        self._bus._changed()
        self._ready.set()

    def __aiter__(self) -> AsyncIterator[E]:
        return self

    async def __anext__(self) -> E:
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            self._ready.clear()
            await self._ready.wait()
        return self._queue.popleft()


class Bus:
    """``publish`` is synchronous and never blocks; call it on the event loop only."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription[object]] = set()
        self._routes: dict[type[object], tuple[Subscription[object], ...]] = {}
        """Who gets events of a type."""

    def publish(self, event: object) -> None:
        """Hand ``event`` to every subscription that asked for its type."""
        for subscription in self._to(type(event)):
            subscription._put(event)

    def _to(self, kind: type[object]) -> tuple[Subscription[object], ...]:
        if kind not in self._routes:
            self._routes[kind] = tuple(s for s in self._subscriptions if issubclass(kind, s.types))
        return self._routes[kind]

    def _changed(self) -> None:
        self._routes.clear()

    @property
    def subscribed(self) -> bool:
        """Whether anybody hears what is published."""
        return bool(self._subscriptions)

    def subscribe(self, *types: type[E], limit: int = 4096) -> Subscription[E]:
        """Events of any of ``types`` (subclasses included), at most ``limit`` waiting."""
        subscription = Subscription(self, types, limit)
        self._subscriptions.add(subscription)  # type: ignore[arg-type]
        self._changed()
        return subscription
