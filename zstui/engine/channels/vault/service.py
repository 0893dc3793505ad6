"""The vault: peers keep this node's sealed latest state, it keeps theirs, and after a loss it asks for its own.

A deposit goes out soon after anything changed, at most one every ``REFRESH_S``, beside the payments and never before them:
it may lag behind the last of them. Only peers with a channel or a common guild are given one, and may give one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from zstui.engine import events
from zstui.engine.bus import Bus
from zstui.engine.channels.books import Books
from zstui.engine.channels.vault import adopt, model, store
from zstui.engine.channels.vault.deposit import Extras, build
from zstui.engine.channels.vault.messages import (
    AskOpenings,
    Get,
    Given,
    Message,
    Openings,
    Put,
    PutAnswer,
    decode,
    encode,
)
from zstui.engine.channels.vault.model import Deposit
from zstui.engine.clock import US, Clock
from zstui.engine.errors import ProtocolError, StoreError, ZsError
from zstui.engine.identity.keys import Identity, PeerId, peer_id_of
from zstui.engine.net.link import VAULT_PROTOCOL, Network, Stream
from zstui.engine.store.database import Database, Tx

REFRESH_S = 2.0
"""Changes within this time make one deposit."""
MAX_KEEPERS = 8
"""Peers that one deposit is given to: those with a channel first."""
LEAST_PUT_US = US // 2
"""How soon after one another a peer may put deposits."""
ASK_S = 5.0
OTHERS_S = 2.0
"""How long a restored node waits for its other keepers before it speaks with a peer."""
MAX_TIMES = 4_096

M = TypeVar("M", bound=Message)


class VaultService:
    """``member``: shares a guild with me. ``restored``: this node may have lost channels that its peers still have."""

    def __init__(
        self,
        identity: Identity,
        network: Network,
        db: Database,
        bus: Bus,
        clock: Clock,
        books: Books,
        *,
        member: Callable[[PeerId], bool],
        extras: Callable[[], Extras],
        found: Callable[[Deposit], None],
        restored: bool,
    ) -> None:
        """``found`` is told of a deposit that was read back, for what other rooms take from it."""
        self._identity = identity
        self._secret = model.vault_key(identity.secret)
        self._network = network
        self._db = db
        self._bus = bus
        self._clock = clock
        self._books = books
        self._member = member
        self._extras = extras
        self._found = found
        self.restored = restored
        self._own = 0
        self._latest: tuple[bytes, int, bytes] = (b"", 0, b"")
        """Digest of what the latest deposit says, its version, and itself sealed."""
        self._given: dict[PeerId, int] = {}
        """Version that each connected keeper holds; a peer is in here once it was asked."""
        self._asking: dict[PeerId, asyncio.Task[None]] = {}
        self._deposits: dict[PeerId, Deposit] = {}
        """Read back since the start, by keeper."""
        self._put_at: dict[PeerId, int] = {}
        self._dirty = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.warning = ""
        """For a person: what is wrong with this node's identity."""
        network.handle(VAULT_PROTOCOL, self._serve)

    # -- life

    async def start(self) -> None:
        self._own = await self._db.read(store.own_version)
        self._spawn(self._follow())
        self._spawn(self._refresh_for_ever())

    async def stop(self) -> None:
        """Give the keepers what they lack, for a second at most."""
        if self._dirty.is_set():
            with contextlib.suppress(ZsError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.refresh()
        tasks = (*self._tasks, *self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- asking

    async def prepare(self, peer: PeerId) -> None:
        """Before anything is said on a channel with ``peer``: where this node was restored, learn what it lost with it."""
        if not self.restored:
            return
        others = [self._ask(other) for other in self._network.connected() if other not in self._given]
        if others:
            await asyncio.wait(others, timeout=OTHERS_S)
        with contextlib.suppress(ZsError):
            answer = await self._request(peer, AskOpenings(), Openings)
            for opening in answer.open:
                await self._books.commit(peer, lambda work, o=opening: adopt.adopt_opening(work, peer, o))  # type: ignore[misc]

    def keepers(self) -> list[PeerId]:
        """Peers with a link that hold the latest deposit, or will soon."""
        connected = self._network.connected()
        partners = [p for p in connected if self._books.open_with(p) is not None]
        members = [p for p in connected if p not in partners and self._member(p)]
        return (sorted(partners) + sorted(members))[:MAX_KEEPERS]

    async def refresh(self) -> None:
        """Give every keeper the latest state, unless it has it."""
        self._dirty.clear()
        keepers = self.keepers()
        unasked = [self._ask(p) for p in keepers if p not in self._given]
        lacking = [p for p in keepers if p in self._given]
        if not lacking:
            if unasked:
                await asyncio.wait(unasked, timeout=ASK_S)
            return
        extras, now = self._extras(), self._clock.now_us()
        deposit = await self._db.read(lambda tx: build(tx, 0, 0, extras))
        said = hashlib.sha256(msgspec.msgpack.encode(deposit)).digest()
        if said != self._latest[0]:
            version = self._own + 1
            sealed = model.fitted(self._secret, msgspec.structs.replace(deposit, version=version, at_us=now))
            await self._db.write(lambda tx: store.raise_own(tx, version))
            self._own, self._latest = version, (said, version, sealed)
        await asyncio.gather(*(self._put(peer) for peer in lacking if self._given.get(peer, 0) < self._latest[1]))

    async def _put(self, peer: PeerId) -> None:
        _, version, sealed = self._latest
        try:
            answer = await self._request(peer, Put(version, sealed), PutAnswer)
        except ZsError:
            return
        if answer.kept:
            self._given[peer] = answer.version
        elif answer.version > version:
            self._given.pop(peer, None)
            self._ask(peer)
        else:
            self._dirty.set()

    def _ask(self, peer: PeerId) -> asyncio.Task[None]:
        """Learn which version of mine ``peer`` keeps; read it back if it is newer than what I know of."""
        task = self._asking.get(peer)
        if task is None:
            task = self._asking[peer] = asyncio.create_task(self._ask_peer(peer), name="vault")
            task.add_done_callback(lambda _: self._asking.pop(peer, None))
        return task

    async def _ask_peer(self, peer: PeerId) -> None:
        above = 0 if self.restored else self._own
        try:
            given = await self._request(peer, Get(above), Given)
            if given.box:
                await self._read_back(peer, given)
        except ProtocolError as error:
            self._bus.publish(events.Notice("warning", "channels", str(error), peer))
        except StoreError:
            return
        except ZsError:
            return  # It does not speak this protocol, or is gone.
        self._given[peer] = given.version
        self._dirty.set()

    async def _read_back(self, keeper: PeerId, given: Given) -> None:
        deposit = model.unseal(self._secret, given.version, given.box)
        if given.version > self._own:
            if not self.restored:
                await self._alarm()
            await self._db.write(lambda tx: store.raise_own(tx, given.version))
            self._own = given.version
        self._deposits[keeper] = deposit
        await self._adopt(deposit, keeper)
        self._found(deposit)

    async def _adopt(self, deposit: Deposit, keeper: PeerId) -> None:
        me = self._identity.peer_id
        peers = {peer for c in deposit.channels for peer in map(peer_id_of, (c.params.pk_lo, c.params.pk_hi))}
        peers |= {p.peer for p in deposit.postings} | {who for who, _ in deposit.rest} | {w for w, _ in deposit.epochs}
        for peer in sorted(peers - {me}):
            await self._books.commit(peer, lambda work, p=peer: adopt.adopt_deposit(work, p, deposit, keeper))  # type: ignore[misc]

    async def _alarm(self) -> None:
        """Somebody with this key made deposits that this database knows nothing of."""
        self.warning = (
            "Another node uses this key, or this home was replaced by an older copy: nothing more is signed in the channels"
            " that are open. Stop the other node."
        )
        self._bus.publish(events.Notice("error", "channels", self.warning))
        self.restored = True
        await self._books.distrust()

    # -- keeping

    async def _serve(self, stream: Stream) -> None:
        message = decode(await stream.receive(ASK_S))
        match message:
            case Put():
                answer: Message = await self._keep(stream.peer, message)
            case Get():
                version, box = await self._db.read(lambda tx: store.kept(tx, stream.peer))
                answer = Given(version, box if version > message.above else b"")
            case AskOpenings():
                peer = stream.peer
                opening, _ = await self._books.commit(peer, lambda work: adopt.opening_of(work, peer))
                answer = Openings((opening,) if opening else ())
            case _:
                raise ProtocolError("An answer on a vault stream where a request was due.")
        await stream.send(encode(answer))

    async def _keep(self, peer: PeerId, message: Put) -> PutAnswer:
        """Raises ProtocolError for a peer that I have nothing to do with."""
        if not (self._member(peer) or any(c.peer == peer for c in self._books.records.values())):
            raise ProtocolError("A stranger asked to have something kept.")
        now = self._clock.monotonic_us()
        if now - self._put_at.get(peer, -LEAST_PUT_US) < LEAST_PUT_US:
            held = await self._db.read(lambda tx: store.kept_version(tx, peer))
            return PutAnswer(held, False)
        if len(self._put_at) >= MAX_TIMES:
            self._put_at.clear()
        self._put_at[peer] = now

        def keep(tx: Tx) -> tuple[int, bool]:
            return store.keep(tx, peer, message.version, message.box, self._clock.now_us())

        return PutAnswer(*await self._db.write(keep))

    # -- inside

    async def _follow(self) -> None:
        subscription = self._bus.subscribe(
            events.PeerConnected,
            events.PeerDisconnected,
            events.ChannelChanged,
            events.ChannelClosed,
            events.GuildJoined,
            events.GuildEnded,
            limit=100_000,
        )
        for peer in self._network.connected():
            self._ask(peer)
        try:
            async for event in subscription:
                match event:
                    case events.PeerConnected(peer_id=peer):
                        self._ask(peer)
                    case events.PeerDisconnected(peer_id=peer):
                        self._given.pop(peer, None)
                    case events.ChannelClosed(channel_id=channel) if self.restored:
                        self._again(channel)
                    case _:
                        pass
                self._dirty.set()
        finally:
            subscription.close()

    def _again(self, channel: str) -> None:
        """A channel that was open in an older copy is closed: the one that followed it can be taken up on a new link."""
        record = self._books.records.get(bytes.fromhex(channel))
        session = self._books.links.get(record.peer) if record is not None else None
        if session is not None:
            session.stop()

    async def _refresh_for_ever(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(REFRESH_S)
            try:
                await self.refresh()
            except StoreError:
                return

    async def _request(self, peer: PeerId, message: Message, answer: type[M]) -> M:
        """Raises NetError, ProtocolError."""
        reply = decode(await self._network.request(peer, VAULT_PROTOCOL, encode(message), ASK_S))
        if not isinstance(reply, answer):
            raise ProtocolError("A peer answered something else than was asked on a vault stream.")
        return reply

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="vault")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
