"""Keeps dialing the peers that should be connected: configured ones, known ones, and those heard of on the LAN.

Those that failed least are dialed first, and of the new ones the latest, so that old fakes do not hold up who comes.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import msgspec

from zstui.engine.errors import ZsError
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.limits import MAX_ADDRESSES, MAX_CANDIDATES, MAX_DIALS, MAX_HEARD_DIALS, MAX_RECONNECTS
from zstui.engine.net.model import backoff_s
from zstui.engine.net.multiaddr import Multiaddr

log = logging.getLogger(__name__)

_MANY = 7
"""Failed attempts after which the longest wait is reached."""


class Target(msgspec.Struct):
    key: str
    """The peer id, or the configured address while its peer is not known."""
    kind: str
    """"static", "known" or "heard"."""
    peer: PeerId | None
    addresses: tuple[Multiaddr, ...] = ()
    attempts: int = 0
    next_at: float = 0.0
    held: bool = False
    """Not dialed until someone asks for it."""
    dialing: bool = False
    why: str = ""


class Dialer:
    """``dial`` connects a target and returns its peer; ``wanted`` says whether a peer still is to be dialed."""

    def __init__(
        self,
        dial: Callable[[Target], Awaitable[PeerId]],
        wanted: Callable[[PeerId], bool],
        failed: Callable[[Target], None],
    ) -> None:
        self._dial = dial
        self._wanted = wanted
        self._failed = failed
        self._targets: dict[str, Target] = {}
        self._wake = asyncio.Event()
        self._is_stopped = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def stop(self) -> None:
        """Cancel the dials under way; the task in ``run`` is the caller's to cancel."""
        self._is_stopped = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def add(self, kind: str, peer: PeerId | None, addresses: tuple[Multiaddr, ...], delay_s: float = 0.0) -> None:
        """A target, or fresh addresses for one. The number of each kind is bounded."""
        key = peer or str(addresses[0])
        target = self._targets.get(key)
        if target is None:
            self._make_room(kind)
            target = self._targets[key] = Target(key, kind, peer, addresses, next_at=self._now() + delay_s)
        else:
            if set(addresses) - set(target.addresses):
                target.attempts = 0
                target.next_at = self._now() + delay_s
                kept = target.addresses if target.kind == "static" else ()
                target.addresses = tuple(dict.fromkeys((*kept, *addresses)))[:MAX_ADDRESSES]
            if kind == "known" and target.kind == "heard":
                self._make_room(kind)
                target.kind = kind
        self._wake.set()

    def connected(self, peer: PeerId) -> None:
        """A link to ``peer`` is up: from now on it is a peer to come back to."""
        self.add("known", peer, ())
        target = self._targets[peer]
        target.attempts, target.held, target.why = 0, False, ""

    def lost(self, peer: PeerId, *, refused: bool) -> None:
        """The link to ``peer`` is gone; it is dialed again soon, or much later if it refused us."""
        target = self._targets.get(peer)
        if target is not None:
            target.attempts = _MANY if refused else 0
            target.next_at = self._now() + backoff_s(target.attempts, random.random())
            self._wake.set()

    def leave(self, peer: PeerId) -> None:
        """The link to ``peer`` is not needed any more: no peer to come back to, unless it is configured."""
        target = self._targets.get(peer)
        if target is not None and target.kind != "static":
            del self._targets[peer]

    def hold(self, peer: PeerId) -> None:
        """Do not dial ``peer`` until it is connected otherwise."""
        target = self._targets.get(peer)
        if target is not None:
            target.held = True

    def forget(self, peer: PeerId) -> None:
        """``peer`` said goodbye on the LAN and is no known peer."""
        target = self._targets.get(peer)
        if target is not None and target.kind == "heard" and not target.dialing:
            del self._targets[peer]

    def hurry(self) -> None:
        """The network changed: try everything again now."""
        for target in self._targets.values():
            target.attempts = 0
            target.next_at = self._now() + backoff_s(0, random.random())
        self._wake.set()

    def is_dialing(self, peer: PeerId) -> bool:
        target = self._targets.get(peer)
        return target is not None and target.dialing

    def is_static(self, peer: PeerId) -> bool:
        target = self._targets.get(peer)
        return target is not None and target.kind == "static"

    def addresses(self, peer: PeerId) -> tuple[Multiaddr, ...]:
        """Addresses that a target was added with."""
        target = self._targets.get(peer)
        return () if target is None else target.addresses

    def unreached(self) -> tuple[Target, ...]:
        """Configured addresses whose peer has not been met."""
        return tuple(t for t in self._targets.values() if t.peer is None and t.attempts)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _make_room(self, kind: str) -> None:
        limit = {"known": MAX_RECONNECTS, "heard": MAX_CANDIDATES}.get(kind)
        mine = [t for t in self._targets.values() if t.kind == kind]
        if limit is not None and len(mine) >= limit:
            idle = [t for t in mine if not t.dialing and (t.peer is None or self._wanted(t.peer))] or mine
            del self._targets[max(idle, key=lambda t: (t.attempts, t.next_at)).key]

    async def run(self) -> None:
        """Dial what is due, for ever."""
        while not self._is_stopped:
            self._wake.clear()
            now = self._now()
            waiting = [t for t in self._targets.values() if self._is_waiting(t)]
            waiting.sort(key=lambda t: (t.kind == "heard", t.attempts, -t.next_at))
            soonest: float | None = None
            for target in waiting:
                if target.next_at > now:
                    soonest = target.next_at if soonest is None else min(soonest, target.next_at)
                elif self._has_room_for(target):
                    self._begin(target)
            try:
                async with asyncio.timeout(None if soonest is None else soonest - now + 0.001):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _is_waiting(self, target: Target) -> bool:
        return not target.held and not target.dialing and (target.peer is None or self._wanted(target.peer))

    def _has_room_for(self, target: Target) -> bool:
        """Whoever fakes announcements can keep neither known peers nor other addresses from being dialed."""
        if target.kind != "heard":
            return len(self._tasks) < MAX_DIALS
        dialing = [t for t in self._targets.values() if t.dialing and t.kind == "heard"]
        same = any(set(_places(t)) & set(_places(target)) for t in dialing)
        return not same and len(dialing) < MAX_HEARD_DIALS and len(self._tasks) < MAX_DIALS

    def _begin(self, target: Target) -> None:
        target.dialing = True
        target.next_at = self._now() + backoff_s(target.attempts + 1, random.random())
        task = asyncio.create_task(self._attempt(target), name="dial")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._wake.set()

    async def _attempt(self, target: Target) -> None:
        try:
            peer = await self._dial(target)
        except ZsError as error:
            target.attempts += 1
            target.why = str(error)
            target.next_at = self._now() + backoff_s(target.attempts, random.random())
            log.debug("Dial of %s failed (%d): %s", target.key, target.attempts, error)
            self._failed(target)
        else:
            if target.peer is None:
                self._met(target, peer)
        finally:
            target.dialing = False

    def _met(self, target: Target, peer: PeerId) -> None:
        """The configured address turned out to be ``peer``."""
        self._targets.pop(target.key, None)
        target.key, target.peer, target.attempts, target.why = peer, peer, 0, ""
        target.addresses = tuple(a.with_peer(peer) for a in target.addresses)
        self._targets[peer] = target


def _places(target: Target) -> tuple[tuple[str, int], ...]:
    return tuple(address.target for address in target.addresses)
