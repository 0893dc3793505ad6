"""The guilds this node knows: looked up by what people type, and shown as views."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from zstui.engine.clock import US, Clock
from zstui.engine.errors import UnknownGuild
from zstui.engine.guilds import invites
from zstui.engine.guilds.guild import Guild
from zstui.engine.guilds.invites import Invite
from zstui.engine.guilds.joining import Target
from zstui.engine.guilds.membership import Token
from zstui.engine.guilds.messages import Needs
from zstui.engine.guilds.model import Charter
from zstui.engine.guilds.registry import Registry
from zstui.engine.guilds.seen import Seen, SeenTable
from zstui.engine.guilds.store import Knocking, MessageRow
from zstui.engine.identity.keys import PeerId
from zstui.engine.identity.text import clean_text
from zstui.engine.net.link import Network
from zstui.engine.views import (
    GuildMemberView,
    GuildMessageView,
    GuildStateName,
    GuildView,
    InviteDetailView,
    IssuedInviteView,
    KnockView,
    NeedsView,
)


class Catalogue:
    def __init__(
        self,
        registry: Registry,
        seen: SeenTable,
        knocking: Mapping[bytes, tuple[Charter, Knocking]],
        network: Network,
    ) -> None:
        self._registry = registry
        self._seen = seen
        self._knocking = knocking
        self._network = network

    @property
    def _clock(self) -> Clock:
        return self._registry.clock

    # --- looking up

    def charter(self, guild_id: bytes) -> Charter:
        """Raises UnknownGuild."""
        known = self._registry.guilds.get(guild_id) or self._seen.get(guild_id)
        if known is not None:
            return known.charter
        if guild_id in self._knocking:
            return self._knocking[guild_id][0]
        raise UnknownGuild(f"No guild {guild_id.hex()[:12]} is known here.")

    def target(self, guild_id: bytes) -> Target:
        """Whom to ask to be let into a known guild. Raises UnknownGuild."""
        charter = self.charter(guild_id)
        guild, seen = self._registry.guilds.get(guild_id), self._seen.get(guild_id)
        officers = guild.membership.officers if guild is not None else seen.via if seen is not None else ()
        until_us = guild.membership.expires_us if guild is not None else seen.expires_us if seen is not None else None
        authorities = (charter.creator, *officers)
        return Target(guild_id, charter.name, charter.creator, authorities, charter, expires_us=until_us)

    def invited(self, invite: Invite) -> Target:
        """Whom to ask with an invite."""
        seen = self._seen.get(invite.guild_id)
        others = seen.via if seen is not None else ()
        authorities = (invite.issuer, invite.creator, *others)
        return Target(invite.guild_id, invite.name, invite.creator, authorities, None, invite)

    def resolve(self, text: str) -> bytes:
        """The guild meant by an id, a prefix of at least 4 digits, or a name. Raises UnknownGuild.

        Guilds I am in come before those only seen, and those before ended ones, so that a stranger's announcement cannot
        make a name of mine ambiguous.
        """
        text = text.strip()
        mine = [g.charter for g in self._registry.living()]
        waiting = [charter for charter, _ in self._knocking.values()]
        seen = [s.charter for s in self._seen.all() if s.charter.guild_id not in self._registry.guilds]
        ended = [g.charter for g in self._registry.guilds.values() if g.charter not in mine]
        for charters in (mine, waiting, seen, ended):
            found = {c.guild_id for c in charters if _means(text, c)}
            if len(found) == 1:
                return found.pop()
            if found:
                raise UnknownGuild(f"Several guilds match {clean_text(text, 48)!r}; give more digits of the id.")
        raise UnknownGuild(
            f"No guild {clean_text(text, 48)!r} is known here; list the guilds, or ask its creator for an invite."
        )

    # --- showing

    def views(self) -> list[GuildView]:
        """Guilds I am or was in, those where I wait, then those only seen: first of peers I know."""
        known = self._registry.guilds
        waiting = [c for c, _ in self._knocking.values() if c.guild_id not in known]
        apart = known.keys() | self._knocking.keys()
        seen = [s for s in self._seen.all() if s.charter.guild_id not in apart]
        return (
            [self._view(g) for g in known.values()]
            + [self._bare(c, "knocking") for c in waiting]
            + [self._seen_view(s) for s in seen]
        )

    def view(self, guild_id: bytes) -> GuildView:
        """Raises UnknownGuild."""
        guild = self._registry.guilds.get(guild_id)
        if guild_id in self._knocking and (guild is None or guild.state != "joined"):
            return self._bare(self._knocking[guild_id][0], "knocking")
        if guild is not None:
            return self._view(guild)
        seen = self._seen.get(guild_id)
        if seen is not None:
            return self._seen_view(seen)
        raise UnknownGuild(f"No guild {guild_id.hex()[:12]} is known here.")

    def knocks(self, guild: Guild) -> tuple[KnockView, ...]:
        """Who waits for my answer, the longest first; empty where I may not give one."""
        if not guild.membership.may(self._registry.me, "admit"):
            return ()
        online = self._network.connected()
        return tuple(
            KnockView(
                guild_id=guild.hex,
                guild_name=guild.charter.name,
                peer_id=knock.peer,
                name=self._registry.name_of(knock.peer),
                role=knock.role,
                asked_at=knock.at_us // US,
                online=knock.peer in online,
            )
            for knock in sorted(guild.knocks.values(), key=lambda k: k.at_us)
        )

    def message_view(self, guild: Guild, row: MessageRow) -> GuildMessageView:
        me = self._registry.me
        others = guild.membership.members.keys() - {me}
        mine = guild.membership.members.get(me)
        own = mine is not None and row.counter is not None and row.member == mine.box_key
        return GuildMessageView(
            guild_id=guild.hex,
            sender=row.sender,
            sender_name=self._registry.name_of(row.sender),
            text=row.text,
            sent_at=row.at_us // US,
            system=row.system,
            delivered=sum(guild.reached.get(p, 0) >= (row.counter or 0) for p in others) if own else 0,
            recipients=len(others) if own else 0,
        )

    def issued(self, guild: Guild, strings: Mapping[bytes, str]) -> list[IssuedInviteView]:
        """All invites of a guild, the latest first; ``strings`` are those that I made."""
        views = [self._issued(guild, token, known, strings) for token, known in guild.membership.tokens.items()]
        return sorted(views, key=lambda v: -v.issued_at)

    def _issued(self, guild: Guild, token: bytes, known: Token, strings: Mapping[bytes, str]) -> IssuedInviteView:
        open_still = known.left > 0 and known.until_us > self._clock.now_us()
        state = "revoked" if known.revoked else "used up" if not known.left else "open" if open_still else "expired"
        text = strings.get(token, "") if open_still else ""
        return IssuedInviteView(
            guild_id=guild.hex,
            invite_id=token.hex(),
            issuer=known.issuer,
            issuer_name=self._registry.name_of(known.issuer),
            issued_at=known.issued_us // US,
            expires_at=known.until_us // US,
            uses=known.uses,
            used=known.used,
            state=state,  # type: ignore[arg-type]  # one of the four
            invite=text,
            code=invites.parse_invite(text).code if text else "",
        )

    def detail(self, invite: Invite) -> InviteDetailView:
        """What an invite says, for comparing before joining."""
        guild = self._registry.guilds.get(invite.guild_id)
        return InviteDetailView(
            guild_id=invite.guild_id.hex(),
            name=invite.name,
            creator=invite.creator,
            creator_name=self._registry.name_of(invite.creator),
            issuer=invite.issuer,
            issuer_name=self._registry.name_of(invite.issuer),
            fingerprint=invites.fingerprint_text(invite.creator),
            code=invite.code,
            expires_at=invite.expires_us // US,
            expired=invite.expires_us <= self._clock.now_us(),
            addresses=tuple(f"{address}/p2p/{invite.issuer}" for address in invite.addresses),
            joined=guild is not None and guild.alive(self._clock.now_us()),
        )

    def _view(self, guild: Guild) -> GuildView:
        membership, charter = guild.membership, guild.charter
        members = tuple(
            self._member(guild, peer)
            for peer in sorted(membership.members, key=lambda p: (p != charter.creator, p not in membership.officers))
            if guild.state != "left" or peer != self._registry.me
        )
        joined = guild.state == "joined"
        state: GuildStateName = "expired" if joined and not guild.alive(self._clock.now_us()) else guild.state
        live = state == "joined"
        key = membership.key
        fingerprint = key.entry.fingerprint.hex() if key is not None and live else ""
        acting = guild.acting(self._registry.me, self._clock.monotonic_us()) if live else None
        warning = next(reversed(guild.warnings), "")
        return GuildView(
            guild_id=guild.hex,
            name=charter.name,
            creator=charter.creator,
            creator_name=self._registry.name_of(charter.creator),
            role=guild.role,
            members=members,
            member_count=len(members),
            max_members=charter.max_members,
            expires_at=membership.expires_us // US,
            state=state,
            admission=charter.admission,
            needs=_needs(charter.needs),
            fingerprint=f"{fingerprint[:4]}·{fingerprint[4:8]}" if fingerprint else "",
            epoch=membership.epoch,
            unread=guild.unread,
            officer=self._registry.me in membership.officers,
            knocks=self.knocks(guild) if live else (),
            acting=acting or "",
            acting_name=self._registry.name_of(acting) if acting else "",
            settled=key is not None,
            warning=warning,
            why=guild.ended_why,
        )

    def _member(self, guild: Guild, peer: PeerId) -> GuildMemberView:
        seen_us = guild.presence.last_seen_us(peer)
        me = peer == self._registry.me
        return GuildMemberView(
            peer_id=peer,
            role=guild.membership.members[peer].role,
            name=self._registry.name_of(peer),
            online=me or peer in self._network.connected(),
            officer=peer in guild.membership.officers,
            last_seen_at=self._clock.now_us() // US if me else seen_us // US if seen_us is not None else None,
        )

    def _seen_view(self, seen: Seen) -> GuildView:
        over = seen.expires_us <= self._clock.now_us()
        view = self._bare(seen.charter, "expired" if over else "seen", seen.members, seen.expires_us)
        return view if seen.heard_us is None else msgspec.structs.replace(view, heard_at=seen.heard_us // US)

    def _bare(
        self, charter: Charter, state: GuildStateName, members: int = 0, expires_us: int | None = None
    ) -> GuildView:
        return GuildView(
            guild_id=charter.guild_id.hex(),
            name=charter.name,
            creator=charter.creator,
            creator_name=self._registry.name_of(charter.creator),
            role=None,
            members=(),
            member_count=members,
            max_members=charter.max_members,
            expires_at=(charter.expires_us if expires_us is None else expires_us) // US,
            state=state,
            admission=charter.admission,
            needs=_needs(charter.needs),
        )


def _needs(needs: Needs) -> NeedsView:
    return NeedsView(memory_mib=needs.memory_mib, cores=needs.cores, tags=needs.tags)


def _means(text: str, charter: Charter) -> bool:
    by_id = len(text) >= 4 and charter.guild_id.hex().startswith(text.lower())
    return by_id or charter.name.casefold() == text.casefold()
