"""What is known of ways through the network: paths to peers, the hash table, relays, and what was learned of times."""

from __future__ import annotations

from typing import Literal

from zstui.engine.views.base import View
from zstui.engine.views.peers import PeerView

RouteKind = Literal["peer", "module", "any"]
TableStanding = Literal["contact", "waiting", "client", "unknown"]


class RouteView(View, frozen=True, kw_only=True):
    """One way to a goal, with the time that was learned for it (Q-routing)."""

    kind: RouteKind
    """The goal: a peer, through a relay; the result of a job with a module, through an executor; or that of any job."""
    destination: str
    """Id of the peer or CID of the module; "" for any job."""
    destination_name: str
    via: str
    """The relay or executor."""
    via_name: str
    expected_us: int
    """As last learned; 0 for a way that was never tried."""
    weighed_us: int
    """As it has faded since: ways are compared by it, so that one that was slow long ago is tried again."""
    samples: int = 0
    """Dials, or bids and results, that it was learned from."""
    learned_at: int | None = None
    chosen: bool = False
    """It comes first of the ways to this goal."""
    why: str = ""


class BucketView(View, frozen=True, kw_only=True):
    """Contacts whose keys share a prefix of one length with this node's."""

    prefix_bits: int
    contacts: int
    waiting: int
    """Peers that get a place when a contact fails."""


class DhtView(View, frozen=True, kw_only=True):
    """This node's part in the hash table. Every node serves: it answers look-ups and keeps records for others."""

    contacts: int
    waiting: int
    buckets: tuple[BucketView, ...]
    """Those that are not empty, the farthest contacts first."""
    provider_keys: int
    """Keys whose providers are kept here."""
    value_keys: int
    """Signed values that are kept here."""
    announced: int
    """What this node says of itself there: provider records and values."""
    refreshed_at: int | None = None
    """When look-ups last filled the table; None: not yet."""
    lookups: int = 0
    """Look-ups since the start."""
    lookup_us: int = 0
    """Duration of the latest."""
    lookup_asked: int = 0
    """Peers that it asked."""


class RelayView(View, frozen=True, kw_only=True):
    peer_id: str
    name: str
    place: bool
    """Others reach this node through it."""


class NetworkView(View, frozen=True, kw_only=True):
    network: str
    addresses: tuple[str, ...]
    reachability: str
    dht: DhtView
    relays: tuple[RelayView, ...] = ()
    """Connected peers that relay for others."""
    relays_for: int | None = None
    """Peers that hold a place here; None where this node is no relay."""
    circuits: int = 0
    """Links between others that go through this node now."""
    routes: tuple[RouteView, ...] = ()
    """Everything learned, by goal, the first choice first."""


class PeerDetailView(View, frozen=True, kw_only=True):
    peer: PeerView
    addresses: tuple[str, ...] = ()
    """Where it might be dialed, the likeliest first."""
    dialed: bool | None = None
    """This node made the link; None without one."""
    relay: str | None = None
    """Peer through which the link goes."""
    relay_name: str = ""
    protocols: tuple[str, ...] = ()
    """What it said it speaks."""
    reached_me: bool | None = None
    """Whether it reached this node when it last dialed back; None if it did not lately."""
    reached_me_at: int | None = None
    table: TableStanding = "unknown"
    """Its place in the hash table here: a contact, one that waits for a place, one that only asks, or not heard from."""
    prefix_bits: int = 0
    """Length of the prefix that its key shares with this node's: the larger, the nearer."""
    table_why: str = ""
    """The same in one sentence."""
    routes: tuple[RouteView, ...] = ()
    """Ways to it through relays, the first choice first."""
    results: tuple[RouteView, ...] = ()
    """What was learned of times until results of jobs that it ran, the latest first."""
