"""The node, its peers and their standing."""

from __future__ import annotations

from zstui.engine.commands.base import Command
from zstui.engine.views import BackupView, NetworkView, PeerDetailView, PeerView, RankView, RouteView, StatusView


class Status(Command[StatusView], frozen=True, kw_only=True):
    pass


class ListPeers(Command[list[PeerView]], frozen=True, kw_only=True):
    like: str = ""
    """What a peer should offer, in words: only such peers, the most similar first. "" for all."""


class Discover(Command[list[PeerView]], frozen=True, kw_only=True):
    """Executors that the hash table knows of, beyond those met: known from then on, and dialed when needed."""


class ShowPeer(Command[PeerDetailView], frozen=True, kw_only=True):
    """One peer with its path, its place in the hash table, and what was learned of ways to it and of jobs there."""

    peer: str


class ShowNetwork(Command[NetworkView], frozen=True, kw_only=True):
    """How this node is reached, its part in the hash table, relays, and routes."""


class ListRoutes(Command[list[RouteView]], frozen=True, kw_only=True):
    """Ways to peers and to results of jobs, with the time learned for each."""

    peer: str = ""
    """Only those to or through it; "" for all."""


class Connect(Command[PeerView], frozen=True, kw_only=True):
    address: str
    """Multiaddr, "host:port" (the peer proves its key, which is then shown), or a known peer's id or name."""


class NamePeer(Command[PeerView], frozen=True, kw_only=True):
    """Give a peer a name of my own; "" takes it back."""

    peer: str
    name: str


class SetName(Command[StatusView], frozen=True, kw_only=True):
    """The name that other peers see for this node. Kept in the home; a ``name`` in the settings wins at the next start."""

    name: str


class BlockPeer(Command[RankView], frozen=True, kw_only=True):
    peer: str
    hours: int = 24


class UnblockPeer(Command[RankView], frozen=True, kw_only=True):
    peer: str


class Backup(Command[BackupView], frozen=True, kw_only=True):
    """Write an encrypted copy of the key, the database and the settings to a new file on the node's machine."""

    path: str
    """Absolute."""
    passphrase: str


class Rank(Command[list[RankView]], frozen=True, kw_only=True):
    category: str | None = None


NodeCommand = (
    Status
    | ListPeers
    | Discover
    | ShowPeer
    | ShowNetwork
    | ListRoutes
    | Connect
    | NamePeer
    | SetName
    | BlockPeer
    | UnblockPeer
    | Rank
    | Backup
)
