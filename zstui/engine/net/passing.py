"""Links made only to ask somebody something on the way to somebody else: a few stay, the rest is closed when idle.

A look-up in the hash table, and what it is for, leave links to strangers behind. They serve the next look-up and the spread of
announcements, so some are worth keeping; without a bound every peer would end up linked to every other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from zstui.engine.identity.keys import PeerId
from zstui.engine.net.connection import CLOSE_IDLE
from zstui.engine.net.limits import IDLE_SWEEP_S
from zstui.engine.net.model import superfluous
from zstui.engine.net.session import Session


class Passing:
    """``wanted`` says whether there is more between a peer and this node, such as a guild or a channel."""

    def __init__(self, sessions: Mapping[PeerId, Session], wanted: Callable[[PeerId], bool]) -> None:
        self._sessions = sessions
        self._wanted = wanted
        self.protocols: frozenset[str] = frozenset()
        """A link that was made for a stream of one of these is one in passing."""

    def made_for(self, peer: PeerId, protocol: str) -> None:
        """The link to ``peer`` was just made because a stream of ``protocol`` was asked for."""
        session = self._sessions.get(peer)
        if session is not None and session.connection.dialed and protocol in self.protocols:
            session.is_passing = True

    def keep(self, peer: PeerId) -> None:
        """A person asked for the link to ``peer``."""
        session = self._sessions.get(peer)
        if session is not None:
            session.is_passing = False

    async def run(self) -> None:
        """Close what is superfluous, for ever."""
        while True:
            await asyncio.sleep(IDLE_SWEEP_S)
            self.sweep(asyncio.get_running_loop().time())

    def sweep(self, now: float) -> None:
        passing = {p: s.used_at for p, s in self._sessions.items() if s.is_passing and not self._wanted(p)}
        for peer in superfluous(passing, now):
            self._sessions[peer].connection.close(CLOSE_IDLE, "not in use")
