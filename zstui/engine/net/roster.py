"""The known peers as others are shown them: who is there, over which path, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zstui.engine.clock import US, Clock
from zstui.engine.errors import UnknownPeer
from zstui.engine.identity.card import capabilities
from zstui.engine.identity.keys import PeerId
from zstui.engine.net.multiaddr import Multiaddr
from zstui.engine.net.peers import PeerBook, PeerRecord
from zstui.engine.net.presence import Presence
from zstui.engine.net.relay.service import Relaying
from zstui.engine.net.session import Session
from zstui.engine.views import PathKind, PeerDetailView, PeerState, PeerView


class Roster:
    def __init__(
        self,
        book: PeerBook,
        sessions: Mapping[PeerId, Session],
        presence: Presence,
        relaying: Relaying,
        clock: Clock,
        *,
        known: Callable[[PeerId], tuple[Multiaddr, ...]],
        name_of: Callable[[PeerId], str],
        admits: Callable[[PeerId], bool],
        is_dialing: Callable[[PeerId], bool],
    ) -> None:
        self._book = book
        self._sessions = sessions
        self._presence = presence
        self._relaying = relaying
        self._clock = clock
        self._known = known
        self._name_of = name_of
        self._admits = admits
        self._is_dialing = is_dialing

    def views(self) -> list[PeerView]:
        """Every known peer: connected ones first, then the most recently seen, then those only heard of."""
        records = sorted(self._book, key=lambda r: (r.peer_id not in self._sessions, not r.met, -r.last_seen_us))
        return [self._view(record) for record in records]

    def view(self, peer: PeerId) -> PeerView:
        """Raises UnknownPeer."""
        record = self._book.get(peer)
        if record is None:
            raise UnknownPeer(f"No peer {peer[:60]!r} is known.")
        return self._view(record)

    def detail(self, peer: PeerId) -> PeerDetailView:
        """What the link to one peer is, and how else it might be reached. Raises UnknownPeer."""
        session, seen = self._sessions.get(peer), self._relaying.reachability.found_by(peer)
        relay = None if session is None else session.connection.relay
        return PeerDetailView(
            peer=self.view(peer),
            addresses=tuple(map(str, self._known(peer))),
            dialed=None if session is None else session.connection.dialed,
            relay=relay,
            relay_name="" if relay is None else self._name_of(relay),
            protocols=() if session is None else tuple(sorted(session.protocols)),
            reached_me=None if seen is None else seen.reached,
            reached_me_at=None if seen is None else seen.at_us // US,
        )

    def _path(self, session: Session) -> tuple[PathKind, str]:
        if session.connection.relay is not None:
            return "relay", self._relaying.why(session, self._name_of(session.connection.relay))
        return self._presence.path_to(session.address.host)

    def _view(self, record: PeerRecord) -> PeerView:
        peer = record.peer_id
        session = self._sessions.get(peer)
        path: PathKind | None = None
        state: PeerState
        if session is not None:
            state = "online"
            path, why = self._path(session)
        elif not self._admits(peer):
            state, why = "blocked", "blocked here"
        else:
            state = "connecting" if self._is_dialing(peer) else "offline"
            unmet = "heard of through other peers, never connected" if record.heard_us and not record.met else ""
            why = record.why or unmet or "not seen since the start"
        rtt = tuple(session.rtt_ms) if session is not None else ()
        return PeerView(
            peer_id=peer,
            name=self._name_of(peer),
            address=record.address,
            state=state,
            path=path,
            rtt_ms=rtt[-1] if rtt else None,
            capabilities=capabilities(self._book.card_of(peer)),
            rtt_history_ms=rtt,
            first_seen_at=record.first_met_us // US,
            last_seen_at=(self._clock.now_us() if session is not None else record.last_seen_us if record.met else 0)
            // US,
            agent=record.agent,
            why=why,
            heard_at=record.heard_us // US or None,
        )
