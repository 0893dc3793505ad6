"""The links to all peers: one session each, dialled while there is an open channel, with one rule for who wins when both dial."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from zstui.engine.bus import Bus
from zstui.engine.channels.protocol import Desk, Session
from zstui.engine.errors import ProtocolError, StoreError, ZsError
from zstui.engine.events import Notice, PeerConnected
from zstui.engine.identity.keys import PeerId, public_key_of
from zstui.engine.net.link import CHANNEL_PROTOCOL, Network, Stream

FIRST_BACKOFF_S = 0.1
LAST_BACKOFF_S = 10.0
STEADY_S = 5.0
"""A link that lasted this long was good: the next dial is immediate again."""
AWAY_S = 30.0
"""How often an unconnected peer is dialled."""
POLITE_S = 0.3
"""How long the side with the higher key leaves the dialling to the other."""


class Keeper(Desk, Protocol):
    """A desk that also says which peers are worth a link."""

    def wants(self, peer: PeerId) -> bool:
        """A channel with this peer is not closed."""


class Links:
    def __init__(self, network: Network, bus: Bus, desk: Keeper) -> None:
        self._network = network
        self._bus = bus
        self._desk = desk
        self._me = network.peer_id
        self._sessions: dict[PeerId, Session] = {}
        self._dialling: dict[PeerId, asyncio.Lock] = {}
        self._keepers: dict[PeerId, asyncio.Task[None]] = {}
        self._nudges: dict[PeerId, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = asyncio.Event()
        self._stopped = False
        self.prepare: Callable[[PeerId], Awaitable[None]] | None = None
        """Awaited before anything is said to a peer on a new link."""
        network.handle(CHANNEL_PROTOCOL, self._serve)

    def start(self) -> None:
        """Begin to serve, and to watch for peers that come online."""
        self._started.set()
        self._spawn(self._watch())

    async def stop(self) -> None:
        """End every session."""
        self._stopped = True
        self._started.set()
        for session in tuple(self._sessions.values()):
            session.stop()
        tasks = (*self._tasks, *self._keepers.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def get(self, peer: PeerId) -> Session | None:
        """The session with ``peer``, if there is one now."""
        return self._sessions.get(peer)

    async def dial(self, peer: PeerId, timeout: float = 10.0) -> Session:
        """The session with ``peer``, made if need be. Raises NetError."""
        lock = self._dialling.setdefault(peer, asyncio.Lock())
        try:
            async with lock:
                session = self._sessions.get(peer)
                if session is None:
                    if self.prepare is not None:
                        await self.prepare(peer)
                    stream = await self._network.open(peer, CHANNEL_PROTOCOL, timeout)
                    session = self._install(stream, mine=True)
                    if session is None:
                        stream.reset()
                        return self._sessions[peer]
                    self._spawn(self._run(session))
                return session
        finally:
            if not lock.locked():
                self._dialling.pop(peer, None)

    def keep(self, peer: PeerId) -> None:
        """See to it that a link exists for as long as the desk wants one."""
        if self._stopped or not self._started.is_set():
            return
        if peer not in self._keepers:
            task = asyncio.create_task(self._keep(peer), name=f"channel link {peer[-6:]}")
            self._keepers[peer] = task
            task.add_done_callback(lambda _: self._keepers.pop(peer, None))

    async def _watch(self) -> None:
        subscription = self._bus.subscribe(PeerConnected)
        try:
            async for event in subscription:
                if self._desk.wants(event.peer_id):
                    self.keep(event.peer_id)
                    if nudge := self._nudges.get(event.peer_id):
                        nudge.set()
        finally:
            subscription.close()

    async def _keep(self, peer: PeerId) -> None:
        loop = asyncio.get_running_loop()
        nudge = self._nudges[peer] = asyncio.Event()
        polite = public_key_of(self._me) > public_key_of(peer)
        backoff = FIRST_BACKOFF_S
        try:
            while self._desk.wants(peer):
                session = self._sessions.get(peer)
                good = False
                if session is not None:
                    since = loop.time()
                    await session.ended.wait()
                    good = loop.time() - since >= STEADY_S
                elif peer not in self._network.connected():
                    if not await _pause(AWAY_S, nudge):
                        await self._try(peer)
                    backoff = FIRST_BACKOFF_S
                    continue
                elif (polite and not await _pause(POLITE_S, nudge) and peer in self._sessions) or await self._try(peer):
                    continue
                good = good or await _pause(backoff, nudge)
                backoff = FIRST_BACKOFF_S if good else min(backoff * 2, LAST_BACKOFF_S)
        finally:
            self._nudges.pop(peer, None)

    async def _try(self, peer: PeerId) -> bool:
        try:
            await self.dial(peer)
        except ZsError:
            return False
        return True

    async def _serve(self, stream: Stream) -> None:
        """An inbound stream."""
        await self._started.wait()
        if self.prepare is not None:
            await self.prepare(stream.peer)
        session = None if self._stopped else self._install(stream, mine=False)
        if session is None:
            stream.reset()
            return
        await self._run(session)

    def _install(self, stream: Stream, mine: bool) -> Session | None:
        """Make it the peer's session. None: the one that exists wins, which is the one opened by the lower key."""
        peer = stream.peer
        old = self._sessions.get(peer)
        if old is not None:
            if old.mine is not mine and (public_key_of(self._me) < public_key_of(peer)) is old.mine:
                return None
            old.stop()
        session = self._sessions[peer] = Session(self._desk, stream, self._me, mine)
        return session

    async def _run(self, session: Session) -> None:
        try:
            await session.run()
        except ProtocolError as error:
            self._report(session.peer, f"A peer broke the channel protocol: {error}")
        except StoreError as error:
            self._report(session.peer, str(error))
        except ZsError:
            pass
        except Exception as error:  # noqa: BLE001  the outermost edge of a session
            self._report(session.peer, f"A channel link failed: {type(error).__name__}: {error}.")
        finally:
            session.stop()
            if self._sessions.get(session.peer) is session:
                del self._sessions[session.peer]
            if self._desk.wants(session.peer):
                self.keep(session.peer)

    def _report(self, peer: PeerId, text: str) -> None:
        self._bus.publish(Notice("warning", "channels", text, peer))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _pause(seconds: float, nudge: asyncio.Event) -> bool:
    """Wait; True if the peer came online meanwhile."""
    nudge.clear()
    try:
        async with asyncio.timeout(seconds):
            await nudge.wait()
    except TimeoutError:
        return False
    return True
