"""What a router remembers of messages: those it has seen, and the latest ones whole. Pure and bounded."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque

from zstui.engine.identity.keys import PeerId
from zstui.engine.pubsub.model import Message, MessageId


class Seen:
    """Ids of messages for ``ttl_us`` since they first came; the oldest give way beyond ``limit``."""

    def __init__(self, ttl_us: int, limit: int) -> None:
        self._ttl_us = ttl_us
        self._limit = limit
        self._since: OrderedDict[MessageId, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, message_id: MessageId) -> bool:
        return message_id in self._since

    def add(self, message_id: MessageId, now_us: int) -> bool:
        """Whether it is new."""
        if message_id in self._since:
            return False
        self._since[message_id] = now_us
        if len(self._since) > self._limit:
            self._since.popitem(last=False)
        return True

    def expire(self, now_us: int) -> None:
        while self._since:
            message_id, since = next(iter(self._since.items()))
            if since + self._ttl_us > now_us:
                return
            del self._since[message_id]


class History:
    """Messages of the last ``windows`` heartbeats; those of the last ``gossiped`` are told of."""

    def __init__(self, windows: int, gossiped: int) -> None:
        self._gossiped = gossiped
        self._messages: dict[MessageId, Message] = {}
        self._sent: dict[MessageId, Counter[PeerId]] = {}
        self._windows: deque[list[MessageId]] = deque([[] for _ in range(windows)], maxlen=windows)
        """The latest first."""

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> None:
        if message.id not in self._messages:
            self._messages[message.id] = message
            self._windows[0].append(message.id)

    def give(self, message_id: MessageId, peer: PeerId) -> tuple[Message, int] | None:
        """The message, and how often this peer has now been given it."""
        message = self._messages.get(message_id)
        if message is None:
            return None
        sent = self._sent.setdefault(message_id, Counter())
        sent[peer] += 1
        return message, sent[peer]

    def recent(self, topic: str) -> list[MessageId]:
        """Ids to tell others of."""
        windows = list(self._windows)[: self._gossiped]
        return [i for window in windows for i in window if self._messages[i].topic == topic]

    def shift(self) -> None:
        """One heartbeat has passed."""
        for message_id in self._windows[-1]:
            del self._messages[message_id]
            self._sent.pop(message_id, None)
        self._windows.appendleft([])
