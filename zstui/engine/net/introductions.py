"""What two peers tell each other once linked: who they are (identify), and what they offer (capability cards)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from zstui import __version__
from zstui.engine.errors import DeadlineExceeded, ProtocolError
from zstui.engine.identity.keys import Identity, PeerId, public_key_protobuf
from zstui.engine.net.cards import CardExchange
from zstui.engine.net.directory import Directory
from zstui.engine.net.identify import (
    ID_PROTOCOL,
    MAX_MESSAGE,
    PUSH_PROTOCOL,
    Identify,
    decode_identify,
    encode_identify,
)
from zstui.engine.net.limits import DIAL_S, MAX_ADDRESSES
from zstui.engine.net.link import CARD_PROTOCOL, Stream
from zstui.engine.net.multiaddr import Multiaddr, decode_multiaddr
from zstui.engine.net.router import Router
from zstui.engine.net.session import Session


class Introductions:
    """Serves the three protocols on ``router``; the methods are the asking side and raise NetError and ProtocolError."""

    def __init__(
        self,
        identity: Identity,
        router: Router,
        directory: Directory,
        cards: CardExchange,
        session_of: Callable[[PeerId], Session | None],
        my_addresses: Callable[[], tuple[Multiaddr, ...]],
    ) -> None:
        self._identity = identity
        self._router = router
        self._directory = directory
        self._cards = cards
        self._session_of = session_of
        self._my_addresses = my_addresses
        router.handle(ID_PROTOCOL, self._serve_identify)
        router.handle(PUSH_PROTOCOL, self._serve_push)
        router.handle(CARD_PROTOCOL, cards.serve)

    async def identify(self, session: Session) -> None:
        """Ask who the peer is and what it speaks."""
        stream = await session.open(ID_PROTOCOL)
        try:
            async with asyncio.timeout(DIAL_S):
                message = decode_identify(await stream.read_message(MAX_MESSAGE))
        except TimeoutError:
            raise DeadlineExceeded("No answer in time.") from None
        finally:
            await stream.close()
            stream.reset()
        self._learn(session, message)

    async def exchange_cards(self, session: Session) -> None:
        """Give my card and take the peer's."""
        stream = await session.open(CARD_PROTOCOL)
        try:
            await self._cards.exchange(stream)
        finally:
            await stream.close()
            stream.reset()

    async def push_identify(self, session: Session) -> None:
        """Tell the peer my new addresses."""
        stream = await session.open(PUSH_PROTOCOL)
        await stream.send(encode_identify(self._mine(session.peer)))
        await stream.close()
        stream.reset()

    async def _serve_identify(self, stream: Stream) -> None:
        await stream.send(encode_identify(self._mine(stream.peer)))

    async def _serve_push(self, stream: Stream) -> None:
        message = decode_identify(await stream.receive(DIAL_S))
        session = self._session_of(stream.peer)
        if session is not None:
            self._learn(session, message)

    def _learn(self, session: Session, message: Identify) -> None:
        """Take over what a message says; a push may leave out what has not changed."""
        record = self._directory.remember(session.peer)
        if message.protocols:
            session.protocols = frozenset(message.protocols)
        if message.agent:
            record.agent = message.agent
        with contextlib.suppress(ProtocolError):  # an address of another transport
            session.observed = decode_multiaddr(message.observed) if message.observed else session.observed
        if message.listen:
            record.also = tuple(a.with_peer(session.peer) for a in message.listen)[:MAX_ADDRESSES]
        self._directory.changed(session.peer)

    def _mine(self, peer: PeerId) -> Identify:
        session = self._session_of(peer)
        return Identify(
            public_key_protobuf(self._identity.public_key),
            tuple(a.with_peer(None) for a in self._my_addresses()),
            self._router.protocols,
            session.address.with_peer(None).encode() if session is not None else b"",
            f"zstui/{__version__}",
        )
