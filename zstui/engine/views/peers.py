"""What is known of peers."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views.base import View
from zstui.engine.views.reputation import HeardView

PeerState = Literal["online", "connecting", "offline", "blocked"]
PathKind = Literal["lan", "direct", "relay"]


class CapabilitiesView(View, frozen=True, kw_only=True):
    """What a peer says it offers, from its signed capability card."""

    executor: bool = False
    """Whether it runs others' jobs at all."""
    cores: int = 0
    memory_mib: int = 0
    """Memory it gives one job at most."""
    timeout_s: int = 0
    price_per_second_nano: int = 0
    price_per_mib_nano: int = 0
    tags: tuple[str, ...] = ()
    speed: float | None = None
    """Of this machine over the reference machine, as the peer measured it; None if it has not."""
    closed: str = ""
    """Why it takes no new work at the moment, "" while it does."""
    hardware: str = ""
    """Model of the processor."""
    region: str = ""
    """Where the machine is, in its owner's words."""
    modules: tuple[str, ...] = ()
    """CIDs of modules that are compiled there already."""


class PeerView(View, frozen=True, kw_only=True):
    peer_id: str
    name: str
    address: str
    """Multiaddr last used, "" if none is known."""
    state: PeerState
    path: PathKind | None = None
    """None while not connected."""
    rtt_ms: float | None = None
    score: float = 0.5
    capabilities: CapabilitiesView = CapabilitiesView()
    rtt_history_ms: tuple[float, ...] = ()
    """Up to 12 latest round trips, oldest first."""
    first_seen_at: int = 0
    """This and the next are 0 for a peer that was never met, only heard of."""
    last_seen_at: int = 0
    agent: str = ""
    why: str = ""
    """Why the peer is not online, or why this path was chosen; "" if there is nothing to say."""
    blocked_until: int | None = None
    heard: HeardView | None = None
    """What others say of it, None if nothing."""
    heard_at: int | None = None
    """When its offer came through other peers, signed by it; None if it gave it here itself."""
