"""The live links to peers: how each begins, is measured, taken over by a better one, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from zstui.engine.bus import Bus
from zstui.engine.clock import Clock
from zstui.engine.events import PeerChanged, PeerConnected, PeerDisconnected
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.cards import CardExchange
from zstui.engine.net.connection import CLOSE_IDLE, CLOSE_REFUSED
from zstui.engine.net.contract import LinkConnection
from zstui.engine.net.dialer import Dialer
from zstui.engine.net.directory import Directory
from zstui.engine.net.identify import PUSH_PROTOCOL
from zstui.engine.net.introductions import Introductions
from zstui.engine.net.link import CARD_PROTOCOL
from zstui.engine.net.relay.service import Relaying
from zstui.engine.net.router import Router
from zstui.engine.net.session import Session
from zstui.engine.net.stream import WireStream
from zstui.engine.net.tasks import Tasks, tolerate


class Sessions(dict[PeerId, Session]):
    """By peer. Implements ``links.Listener``."""

    def __init__(
        self,
        router: Router,
        directory: Directory,
        dialer: Dialer,
        relaying: Relaying,
        introductions: Introductions,
        cards: CardExchange,
        tasks: Tasks,
        bus: Bus,
        clock: Clock,
        wanted: Callable[[PeerId], bool],
    ) -> None:
        super().__init__()
        self._router = router
        self._directory = directory
        self._dialer = dialer
        self._relaying = relaying
        self._introductions = introductions
        self._cards = cards
        self._tasks = tasks
        self._bus = bus
        self._clock = clock
        self._wanted = wanted
        self._closing = False

    def begin_stop(self) -> None:
        """Serve no new streams from now on."""
        self._closing = True

    # --- links.Listener ----------------------------------------------------------------------------------------------

    def link_up(self, connection: LinkConnection) -> None:
        peer = self._begin(connection).peer
        self._dialer.connected(peer)
        self._bus.publish(PeerConnected(peer))
        self._directory.changed(peer)

    def link_replaced(self, connection: LinkConnection) -> None:
        assert connection.peer is not None
        old = self[connection.peer]
        session = self._begin(connection)
        session.protocols = old.protocols
        if old.task is not None:
            old.task.cancel()
        self._relaying.lost(session.peer)
        self._directory.changed(session.peer)

    def link_down(self, connection: LinkConnection) -> None:
        assert connection.peer is not None
        session = self.pop(connection.peer)
        peer = session.peer
        if session.task is not None and session.task is not asyncio.current_task():
            session.task.cancel()
        self._cards.forget(peer)
        self._relaying.lost(peer)
        record = self._directory.remember(peer)
        record.last_seen_us = self._clock.now_us()
        record.why = connection.reason
        if connection.close_code == CLOSE_IDLE and not self._wanted(peer):
            self._dialer.leave(peer)
        else:
            self._dialer.lost(peer, refused=connection.close_code == CLOSE_REFUSED)
        self._bus.publish(PeerDisconnected(peer, connection.reason))
        self._directory.changed(peer)

    def stream_opened(self, stream: WireStream) -> None:
        if not self._closing:
            self._router.serve(stream)

    # --- what peers are told -----------------------------------------------------------------------------------------

    def push_card(self) -> None:
        """My card is a new one."""
        for session in self.values():
            if CARD_PROTOCOL in session.protocols:
                self._tasks.spawn(tolerate(self._introductions.exchange_cards(session)), "card push")

    def push_addresses(self) -> None:
        """My addresses are others than before."""
        for session in self.values():
            if PUSH_PROTOCOL in session.protocols:
                self._tasks.spawn(tolerate(self._introductions.push_identify(session)), "identify push")

    # --- one session -------------------------------------------------------------------------------------------------

    def _begin(self, connection: LinkConnection) -> Session:
        session = Session(connection, self._measured)
        self[session.peer] = session
        record = self._directory.remember(session.peer)
        now_us = self._clock.now_us()
        if not record.met:
            record.first_seen_us = now_us
        record.address = str(session.address)
        record.last_seen_us = now_us
        record.why = ""
        session.task = self._tasks.spawn(self._run(session), "session")
        return session

    async def _run(self, session: Session) -> None:
        await asyncio.gather(self._introduce(session), session.keep_alive())

    async def _introduce(self, session: Session) -> None:
        await tolerate(self._introductions.identify(session))
        self._relaying.introduced(session)
        if session.connection.dialed:
            await tolerate(self._introductions.exchange_cards(session))

    def _measured(self, peer: PeerId) -> None:
        """A ping came back; the peer may have moved to another address meanwhile."""
        record, session = self._directory.get(peer), self.get(peer)
        if record is not None and session is not None and record.address != str(session.address):
            record.address = str(session.address)
            self._directory.changed(peer)
        else:
            self._bus.publish(PeerChanged(peer))
