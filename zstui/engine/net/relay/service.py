"""Beyond the reach of a direct dial: relays, the way from a relayed link to a direct one, and whether others reach this node."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from zstui.engine.clock import US, Clock
from zstui.engine.config import Settings
from zstui.engine.errors import NetError, ProtocolError, Refused, Unreachable, ZsError
from zstui.engine.identity.keys import Identity, PeerId
from zstui.engine.net.limits import DIAL_S, MAX_ADDRESSES
from zstui.engine.net.links import Links
from zstui.engine.net.multiaddr import Multiaddr
from zstui.engine.net.presence import Presence
from zstui.engine.net.reachability import AUTONAT_PROTOCOL, Probe, Reachability
from zstui.engine.net.relay import messages as m
from zstui.engine.net.relay.choice import FAILED_US, AsGiven, RelayChoice
from zstui.engine.net.relay.client import RelayClient
from zstui.engine.net.relay.holepunch import HolePuncher, is_global
from zstui.engine.net.relay.server import MIB, RelayLimits, RelayServer
from zstui.engine.net.router import Router
from zstui.engine.net.session import Session

log = logging.getLogger(__name__)

HEAD_START_S = 0.7
"""How long a direct dial is alone before relays are tried, too."""
_DIRECT_S = 3.0
_MAX_OBSERVED = 4


class Relaying:
    """``connect`` links to an address; ``changed`` is told when my addresses, or what is known of them, have changed."""

    def __init__(
        self,
        identity: Identity,
        settings: Settings,
        clock: Clock,
        router: Router,
        links: Links,
        presence: Presence,
        *,
        sessions: Callable[[], tuple[Session, ...]],
        session_of: Callable[[PeerId], Session | None],
        known: Callable[[PeerId], tuple[Multiaddr, ...]],
        connect: Callable[[Multiaddr], Awaitable[PeerId]],
        reachable: Callable[[str], bool],
        changed: Callable[[], None],
        spawn: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
    ) -> None:
        self.choice: RelayChoice = AsGiven()
        """Which relays are tried first; set by who learns it."""
        self._clock = clock
        self._lan_only = settings.lan_only
        self._links = links
        self._presence = presence
        self._sessions = sessions
        self._session_of = session_of
        self._known = known
        self._reachable = reachable
        self._spawn = spawn
        self._improving: dict[PeerId, asyncio.Task[None]] = {}
        self._notes: dict[PeerId, str] = {}
        """Why a link goes through a relay, for peers whose link does."""
        self.client = RelayClient(
            identity,
            clock,
            links,
            sessions=sessions,
            connect=connect,
            wanted=self._wants_relay,
            changed=changed,
            spawn=spawn,
        )
        self.server: RelayServer | None = None
        if settings.relay:
            limits = RelayLimits(bytes_per_s=settings.relay_mib_per_s * MIB)
            self.server = RelayServer(
                identity, clock, limits, session_of=session_of, my_addresses=self._own_direct_addresses
            )
            router.handle(m.HOP_PROTOCOL, self.server.serve)
        self.reachability = Reachability(
            identity,
            clock,
            Probe(identity, reachable),
            sessions=sessions,
            my_addresses=presence.multiaddrs,
            is_local=presence.is_local,
            is_global=is_global,
            changed=self.client.look,
        )
        self._puncher = HolePuncher(
            my_addresses=lambda: (*self.observed(), *presence.multiaddrs()),
            dial=self._dial_direct,
            punch=links.endpoint.punch,
            is_direct=self._is_direct,
            may_dial=self._may_dial,
        )
        router.handle(m.STOP_PROTOCOL, self.client.serve_stop)
        router.handle(m.DCUTR_PROTOCOL, self._puncher.serve)
        router.handle(AUTONAT_PROTOCOL, self.reachability.serve)

    def start(self) -> None:
        self._spawn(self.client.run(), "relay places")
        self._spawn(self.reachability.run(), "reachability")

    # --- addresses ---------------------------------------------------------------------------------------------------

    def addresses(self) -> tuple[Multiaddr, ...]:
        """Where others reach me: directly, and through relays."""
        circuits = self.client.addresses()[: MAX_ADDRESSES // 2]
        return (*self._own_direct_addresses()[: MAX_ADDRESSES - len(circuits)], *circuits)

    def observed(self) -> tuple[Multiaddr, ...]:
        """Where directly linked peers see me."""
        direct = (s.observed for s in self._sessions() if s.connection.relay is None)
        seen = (a for a in direct if a is not None and a.relay is None and not a.peer)
        return tuple(dict.fromkeys(seen))[:_MAX_OBSERVED]

    def _own_direct_addresses(self) -> tuple[Multiaddr, ...]:
        mine = self._presence.multiaddrs()
        if not self.reachability.is_public or not mine:
            return mine
        outside = (a.with_peer(mine[0].peer) for a in self.observed() if is_global(a.host))
        return tuple(dict.fromkeys((*mine, *outside)))

    def describe(self, now_us: int, name_of: Callable[[PeerId], str]) -> str:
        """One line on how others reach me; "" while nothing is known."""
        seen, at = self.reachability.seen_by()
        parts = []
        if at is not None:
            parts.append(f"seen by {seen} peer{'s' if seen != 1 else ''}, {max(0, now_us // US - at)} s ago")
        elif self.reachability.asked:
            parts.append("not reached by any peer that dialed back")
        if relays := self.client.relays():
            parts.append(f"reached through {', '.join(name_of(r) for r in relays)}")
        if self.server is not None:
            places, circuits = len(self.server.reservations), self.server.circuits
            parts.append(f"relay for {places} peer{'s' if places != 1 else ''}, {circuits} in use")
        return "; ".join(parts)

    def _wants_relay(self) -> bool:
        return not self._lan_only and self.server is None and not self.reachability.is_public

    # --- links come and go -------------------------------------------------------------------------------------------

    def introduced(self, session: Session) -> None:
        """``session`` has said what it speaks."""
        self.client.look()
        if session.connection.relay is not None and not session.connection.dialed:
            self._spawn(self._improve_tolerantly(session.peer), "way to a direct link")

    def lost(self, peer: PeerId) -> None:
        self._notes.pop(peer, None)
        self.client.look()

    def moved(self) -> None:
        """The machine's addresses changed."""
        self.reachability.forget()
        for session in self._sessions():
            if session.connection.relay is not None:
                self._spawn(self._improve_tolerantly(session.peer), "way to a direct link")

    def why(self, session: Session, relay_name: str) -> str:
        """Why the link of ``session`` goes through a relay."""
        relay = session.connection.relay
        expected = "" if relay is None else self.choice.why(session.peer, relay)
        return f"through {relay_name}: {self._note(session.peer)}" + (f"; {expected}" if expected else "")

    def _note(self, peer: PeerId) -> str:
        return self._notes.get(peer, "no direct address of the peer answered")

    # --- dialing -----------------------------------------------------------------------------------------------------

    async def dial(self, addresses: Iterable[Multiaddr], direct: Callable[[], Awaitable[object]] | None) -> PeerId:
        """Link to the peer of the circuit ``addresses``: by ``direct`` if there is such a way, and through relays, one after
        another, if that fails or takes its time. Raises Unreachable and its kinds."""
        addresses = tuple(addresses)
        peer = addresses[0].peer
        assert peer is not None
        first: asyncio.Task[object] | None = None
        if direct is not None:
            first = asyncio.ensure_future(direct())
            done, _ = await asyncio.wait((first,), timeout=HEAD_START_S)
            if done and first.exception() is None:
                return peer
        try:
            return await self._through_relays(addresses, peer)
        except (NetError, ProtocolError, Refused) as error:
            if first is not None and not first.done():
                await first
                return peer
            if isinstance(error, NetError):
                raise
            raise Unreachable(str(error)) from error
        finally:
            if first is not None:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)

    async def _through_relays(self, addresses: tuple[Multiaddr, ...], peer: PeerId) -> PeerId:
        if self._lan_only:
            raise Unreachable("That peer is behind a relay, and this node stays on its local network (lan_only).")
        problem: ZsError = Unreachable("There is no relay to that peer.")
        order = self.choice.in_order(peer, dict.fromkeys(a.relay for a in addresses if a.relay is not None))
        for address in sorted((a for a in addresses if a.relay is not None), key=lambda a: order.index(a.relay or "")):
            if self._session_of(peer) is not None:
                return peer
            assert address.relay is not None
            since = self._clock.monotonic_us()
            try:
                await self.client.dial(address)
            except (NetError, ProtocolError, Refused) as error:
                problem = error
                self.choice.tried(peer, address.relay, self._clock.monotonic_us() - since + FAILED_US)
            else:
                self.choice.tried(peer, address.relay, self._clock.monotonic_us() - since)
                return peer
        if self._session_of(peer) is not None:
            return peer
        raise problem

    async def improve(self, peer: PeerId) -> None:
        """Try to put a direct link in the place of a relayed one. Raises Unreachable if there is none; the link stays."""
        session = self._session_of(peer)
        if session is None or session.connection.relay is None:
            return
        task = self._improving.get(peer)
        if task is None:
            task = self._improving[peer] = self._spawn(self._improve(session), "way to a direct link")
            task.add_done_callback(lambda _: self._improving.pop(peer, None))
        await asyncio.wait((task,))
        if not self._is_direct(peer):
            raise Unreachable(f"The link stays on the relay: {self._note(peer)}.")

    async def _improve(self, session: Session) -> None:
        peer = session.peer
        self._notes[peer] = "trying for a direct path"
        direct = tuple(a for a in self._known(peer) if a.relay is None and self._may_dial(a.host))
        why = "no direct address of the peer answered"
        try:
            await self._links.dial([a.target for a in direct], peer, _DIRECT_S)
        except NetError:
            try:
                await self._puncher.lead(session)
                why = "the NATs let no direct path through"
            except (NetError, ProtocolError, Refused) as error:
                why = f"no direct path was found ({error})"
        if self._is_direct(peer):
            self._notes.pop(peer, None)
        elif peer in self._notes:
            self._notes[peer] = why

    async def _improve_tolerantly(self, peer: PeerId) -> None:
        try:
            await self.improve(peer)
        except Unreachable as error:
            log.info("%s: %s", peer, error)

    async def _dial_direct(self, addresses: tuple[Multiaddr, ...], peer: PeerId) -> None:
        await self._links.dial([a.target for a in addresses], peer, DIAL_S / 2)

    def _is_direct(self, peer: PeerId) -> bool:
        session = self._session_of(peer)
        return session is not None and session.connection.relay is None

    def _may_dial(self, host: str) -> bool:
        """Loopback only for a node that listens nowhere else."""
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            return False
        if not self._reachable(host):
            return False
        if ip.is_loopback:
            return all(ipaddress.ip_address(a.host).is_loopback for a in self._presence.multiaddrs())
        return is_global(host) or self._presence.is_local(host)
