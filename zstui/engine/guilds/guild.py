"""One guild this node is or was in, as it is held in memory."""

from __future__ import annotations

import asyncio

from zstui.engine.errors import ProtocolError
from zstui.engine.guilds.entries import SignedEntry
from zstui.engine.guilds.epochs import EpochRing, grants_hash
from zstui.engine.guilds.log import MemberLog
from zstui.engine.guilds.membership import Membership
from zstui.engine.guilds.model import Charter
from zstui.engine.guilds.presence import Presence
from zstui.engine.guilds.store import Knock
from zstui.engine.guilds.window import LineWindow
from zstui.engine.identity.keys import PeerId
from zstui.engine.views import GuildStateName, Role


class Guild:
    """Whoever changes it holds ``lock``."""

    def __init__(self, charter: Charter, role: Role, entered_us: int, mono_us: int) -> None:
        self.charter = charter
        self.role: Role = role
        self.entered_us = entered_us
        self.state: GuildStateName = "joined"
        self.ended_us: int | None = None
        self.ended_why = ""
        self.box_secret = b""
        self.grants = b""
        """Sealed copies of the current key, where they have come."""
        self.log = MemberLog(charter)
        self.waiting: dict[bytes, SignedEntry] = {}
        self.ring = EpochRing(charter.guild_id)
        self.window = LineWindow()
        self.counter = 0
        self.unread = 0
        self.pending_leave: bytes | None = None
        self.knocks: dict[PeerId, Knock] = {}
        self.reached: dict[PeerId, int] = {}
        """Up to which line of mine each member is known to have all."""
        self.presence = Presence(mono_us)
        self.unsettled_since_us: int | None = None
        """Monotonic."""
        self.warnings: dict[str, None] = {}
        """Sentences told to a person, oldest first."""
        self.lock = asyncio.Lock()

    @property
    def guild_id(self) -> bytes:
        return self.charter.guild_id

    @property
    def hex(self) -> str:
        return self.charter.guild_id.hex()

    @property
    def membership(self) -> Membership:
        return self.log.membership

    def begin_again(self, fresh: Guild) -> None:
        """Take over a new membership in the same guild; what was written and read in it stays."""
        self.role, self.entered_us, self.state, self.ended_us = fresh.role, fresh.entered_us, "joined", None
        self.box_secret, self.grants, self.log = fresh.box_secret, fresh.grants, fresh.log
        self.ring, self.waiting, self.pending_leave, self.counter = fresh.ring, {}, None, 0
        self.knocks, self.reached, self.ended_why = {}, {}, ""

    def has_key(self) -> bool:
        """Whether the key that serves is held."""
        key = self.membership.key
        return key is not None and self.ring.current == key.digest

    def current_grants(self) -> bytes:
        """The sealed copies of the key that serves, empty if this node does not have them."""
        key = self.membership.key
        return self.grants if key is not None and grants_hash(self.grants) == key.entry.grants else b""

    def seal(self, sender: bytes, plaintext: bytes, context: bytes) -> bytes:
        """Seal under the current key. Raises ProtocolError while that has not come: an older one is known to who left."""
        if not self.has_key():
            raise ProtocolError(f"The key of {self.charter.name} has just changed; the new one is still on its way.")
        return self.ring.seal(sender, plaintext, context)

    def alive(self, now_us: int) -> bool:
        """I am in and it is not over."""
        return self.state == "joined" and now_us < self.membership.expires_us

    def acting(self, me: PeerId, mono_us: int) -> PeerId | None:
        """Who admits and changes keys now: the creator, else the longest appointed officer who is there."""
        for peer in self.membership.authorities:
            if peer == me or self.presence.is_here(peer, mono_us):
                return peer
        return None
