"""The guilds this node knows, as others see them: looked up by what people type, and shown as views."""

from __future__ import annotations

from zstui.engine.clock import US
from zstui.engine.errors import UnknownGuild
from zstui.engine.guilds.model import Charter
from zstui.engine.guilds.registry import Guild, Registry
from zstui.engine.guilds.seen import Seen, SeenTable
from zstui.engine.guilds.store import MessageRow
from zstui.engine.identity.text import clean_text
from zstui.engine.net.link import Network
from zstui.engine.views import GuildMemberView, GuildMessageView, GuildView


class Catalogue:
    def __init__(self, registry: Registry, seen: SeenTable, network: Network) -> None:
        self._registry = registry
        self._seen = seen
        self._network = network

    def charter(self, guild_id: bytes) -> Charter:
        """Raises UnknownGuild."""
        known = self._registry.guilds.get(guild_id) or self._seen.get(guild_id)
        if known is None:
            raise UnknownGuild(f"No guild {guild_id.hex()[:12]} is known here.")
        return known.charter

    def resolve(self, text: str) -> bytes:
        """The guild meant by an id, a prefix of at least 4 digits, or a name. Raises UnknownGuild.

        Guilds I am in come before those only seen, and those before ended ones, so that a stranger's announcement cannot
        make a name of mine ambiguous.
        """
        text = text.strip()
        mine = [g.charter for g in self._registry.living()]
        seen = [s.charter for s in self._seen.all() if s.charter.guild_id not in self._registry.guilds]
        ended = [g.charter for g in self._registry.guilds.values() if g.charter not in mine]
        for charters in (mine, seen, ended):
            found = {c.guild_id for c in charters if _means(text, c)}
            if len(found) == 1:
                return found.pop()
            if found:
                raise UnknownGuild(f"Several guilds match {clean_text(text, 48)!r}; give more digits of the id.")
        raise UnknownGuild(
            f"No guild {clean_text(text, 48)!r} is known here; list the guilds, or ask its creator for an invite."
        )

    def views(self) -> list[GuildView]:
        """Guilds I am or was in, then those only seen."""
        seen = [s for s in self._seen.all() if s.charter.guild_id not in self._registry.guilds]
        return [self._view(g) for g in self._registry.guilds.values()] + [self._seen_view(s) for s in seen]

    def view(self, guild_id: bytes) -> GuildView:
        """Raises UnknownGuild."""
        guild = self._registry.guilds.get(guild_id)
        if guild is not None:
            return self._view(guild)
        seen = self._seen.get(guild_id)
        if seen is not None:
            return self._seen_view(seen)
        raise UnknownGuild(f"No guild {guild_id.hex()[:12]} is known here.")

    def _view(self, guild: Guild) -> GuildView:
        online = self._network.connected()
        membership = guild.membership
        members = tuple(
            GuildMemberView(
                peer_id=peer,
                role=member.role,
                name=self._registry.name_of(peer),
                online=peer == self._registry.me or peer in online,
            )
            for peer, member in membership.members.items()
            if guild.state != "left" or peer != self._registry.me
        )
        charter = guild.charter
        state = "expired" if guild.state == "joined" and not guild.alive(self._registry.clock.now_us()) else guild.state
        fingerprint = membership.fingerprint.hex()
        return GuildView(
            guild_id=guild.hex,
            name=charter.name,
            creator=charter.creator,
            creator_name=self._registry.name_of(charter.creator),
            role=guild.role,
            members=members,
            member_count=len(members),
            max_members=charter.max_members,
            expires_at=charter.expires_us // US,
            state=state,
            private=charter.private,
            fingerprint=f"{fingerprint[:4]}·{fingerprint[4:8]}" if state == "joined" else "",
            epoch=membership.epoch,
            unread=guild.unread,
        )

    def _seen_view(self, seen: Seen) -> GuildView:
        charter = seen.charter
        return GuildView(
            guild_id=charter.guild_id.hex(),
            name=charter.name,
            creator=charter.creator,
            creator_name=self._registry.name_of(charter.creator),
            role=None,
            members=(),
            member_count=seen.members,
            max_members=charter.max_members,
            expires_at=charter.expires_us // US,
            state="expired" if charter.expires_us <= self._registry.clock.now_us() else "seen",
            private=charter.private,
        )

    def message_view(self, guild: Guild, row: MessageRow) -> GuildMessageView:
        return GuildMessageView(
            guild_id=guild.hex,
            sender=row.sender,
            sender_name=self._registry.name_of(row.sender),
            text=row.text,
            sent_at=row.at_us // US,
            system=row.system,
        )


def _means(text: str, charter: Charter) -> bool:
    by_id = len(text) >= 4 and charter.guild_id.hex().startswith(text.lower())
    return by_id or charter.name.casefold() == text.casefold()
