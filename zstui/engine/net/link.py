"""What the rest of the engine sees of the network: streams of frames to authenticated peers.

The QUIC endpoint and the in-memory hub both satisfy ``Network``. A peer is always a proven key. A frame is one message:
unsigned-varint length prefix (libp2p), at most 64 KiB unless a protocol says otherwise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from zstui.engine.identity.keys import PeerId

MAX_FRAME = 64 * 1024
"""Largest frame in bytes."""

GUILD_PROTOCOL = "/zerostate/guild/1.0.0"
JOB_PROTOCOL = "/zerostate/job/1.0.0"
CHANNEL_PROTOCOL = "/zerostate/channel/1.0.0"
ARTIFACT_PROTOCOL = "/zerostate/artifact/1.0.0"
DISCHARGE_PROTOCOL = "/zerostate/discharge/1.0.0"
VAULT_PROTOCOL = "/zerostate/vault/1.0.0"
CARD_PROTOCOL = "/zerostate/card/1.0.0"
DISPUTE_PROTOCOL = "/zerostate/dispute/1.0.0"


class Stream(Protocol):
    """One bidirectional stream, negotiated for one protocol."""

    @property
    def peer(self) -> PeerId:
        """The authenticated other side."""

    async def send(self, frame: bytes) -> None:
        """Queue one frame; waits while too much is unsent. Raises FrameTooLarge, StreamClosed."""

    def send_now(self, frame: bytes) -> bool:
        """As ``send`` where that would not wait, and without waiting for more to send with it; False: nothing was queued, and
        ``send`` waits or tells why not."""

    def has_frame(self) -> bool:
        """Whether ``receive`` has a frame to return, or a malformed one to refuse, at once."""

    async def receive(self, timeout: float | None = 30.0) -> bytes:
        """Next frame. Raises StreamClosed at the end of the stream or link, DeadlineExceeded, FrameTooLarge."""

    async def close(self) -> None:
        """End my writing side; the other side's next receive then raises StreamClosed. Idempotent."""

    def reset(self) -> None:
        """Drop both directions at once. Idempotent."""


Handler = Callable[[Stream], Awaitable[None]]
"""Serves one inbound stream. A ZsError it raises resets the stream; returning closes it."""


class Network(Protocol):
    """Links to peers. Whoever may call ``open`` need not care whether a link exists: one is made if it can be."""

    @property
    def peer_id(self) -> PeerId:
        """My own id."""

    def handle(self, protocol: str, handler: Handler) -> None:
        """Serve inbound streams of ``protocol``. Once per protocol, before the network starts."""

    async def open(self, peer: PeerId, protocol: str, timeout: float = 10.0) -> Stream:
        """A fresh stream to ``peer``. Raises Unreachable, DeadlineExceeded, Refused (protocol not spoken)."""

    async def request(self, peer: PeerId, protocol: str, frame: bytes, timeout: float = 10.0) -> bytes:
        """One frame out, one frame back, on a stream of its own. Raises as ``open`` and ``receive`` do."""

    def connected(self) -> frozenset[PeerId]:
        """Peers with a live link right now."""
