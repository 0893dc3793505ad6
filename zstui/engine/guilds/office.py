"""What a creator and its officers ask of a guild they run: members, knocks, invites, its time and its end."""

from __future__ import annotations

from collections.abc import Callable

from zstui.engine.clock import US
from zstui.engine.guilds import invites, store
from zstui.engine.guilds.admission import Admission
from zstui.engine.guilds.catalogue import Catalogue
from zstui.engine.guilds.governance import Governance
from zstui.engine.guilds.heralds import Heralds
from zstui.engine.guilds.registry import Registry
from zstui.engine.guilds.replicator import Replicator
from zstui.engine.identity.keys import PeerId
from zstui.engine.views import GuildView, InviteView, IssuedInviteView, KnockView


class Office:
    """Guilds are named as people do: by id, prefix or name."""

    def __init__(
        self,
        registry: Registry,
        admission: Admission,
        governance: Governance,
        catalogue: Catalogue,
        heralds: Heralds,
        replicator: Replicator,
        addresses: Callable[[], tuple[str, ...]],
    ) -> None:
        self._registry = registry
        self._admission = admission
        self._governance = governance
        self._catalogue = catalogue
        self._heralds = heralds
        self._replicator = replicator
        self._addresses = addresses

    async def dissolve(self, guild: str) -> GuildView:
        """End my guild for everybody. Raises NotPermitted for another's."""
        found = self._governance.guild(self._catalogue.resolve(guild), "dissolve", "dissolve it")
        await self._governance.dissolve(found)
        self._heralds.announce()
        return self._catalogue.view(found.guild_id)

    async def extend(self, guild: str, by_s: int) -> GuildView:
        """Let my guild live longer. Raises NotPermitted for another's, BadInput."""
        found = self._governance.guild(self._catalogue.resolve(guild), "extend", "extend it")
        await self._governance.extend(found, by_s)
        self._heralds.announce()
        return self._catalogue.view(found.guild_id)

    async def name_officer(self, guild: str, peer: PeerId, remove: bool = False) -> GuildView:
        """Give or take an office in my guild. Raises NotPermitted for another's, BadInput, GuildError."""
        found = self._governance.guild(self._catalogue.resolve(guild), "appoint", "name officers")
        await (self._governance.demote(found, peer) if remove else self._governance.appoint(found, peer))
        return self._catalogue.view(found.guild_id)

    async def kick(self, guild: str, peer: PeerId) -> GuildView:
        """Remove a member; it reads nothing that is written from now on. Raises NotPermitted, BadInput."""
        found = self._governance.guild(self._catalogue.resolve(guild), "kick", "remove members")
        await self._governance.kick(found, peer)
        return self._catalogue.view(found.guild_id)

    def knocks(self, guild: str = "") -> list[KnockView]:
        """Who waits for my answer, in one guild or in all. Raises UnknownGuild, NotPermitted."""
        if not guild:
            return [knock for g in self._registry.living() for knock in self._catalogue.knocks(g)]
        found = self._governance.guild(self._catalogue.resolve(guild), "admit", "let peers in")
        return list(self._catalogue.knocks(found))

    async def answer(self, guild: str, peer: PeerId, admit: bool) -> GuildView:
        """Let in or send away who knocked. Raises NotPermitted, BadInput, GuildFull."""
        found = self._governance.guild(self._catalogue.resolve(guild), "admit", "let peers in")
        await (self._admission.accept(found, peer) if admit else self._admission.refuse(found, peer))
        self._replicator.welcome(found, peer)
        return self._catalogue.view(found.guild_id)

    def knocker(self, guild: str, text: str) -> PeerId | None:
        """Who of those that wait is meant by a name or the end or beginning of a peer id."""
        found = self._registry.guilds.get(self._catalogue.resolve(guild))
        waiting = self._catalogue.knocks(found) if found is not None else ()
        means = [k.peer_id for k in waiting if text in (k.peer_id, k.name) or (len(text) >= 4 and text in k.peer_id)]
        return means[0] if len(means) == 1 else None

    async def invite(self, guild: str, uses: int = 1, ttl_s: int = 3600, qr: bool = False) -> InviteView:
        """A string that lets its holders join. Raises NotPermitted, BadInput, GuildError."""
        found = self._governance.guild(self._catalogue.resolve(guild), "invite", "invite")
        made = await self._governance.invite(found, uses, ttl_s, self._addresses())
        return InviteView(
            invite=invites.text_of(made),
            code=made.code,
            expires_at=made.expires_us // US,
            invite_id=made.token.hex(),
            uses=uses,
            qr=invites.qr_of(made) if qr else (),
        )

    async def invites(self, guild: str) -> list[IssuedInviteView]:
        """All invites of a guild I am in, the latest first. Raises UnknownGuild."""
        found = self._registry.alive(self._catalogue.resolve(guild))
        strings = await self._registry.db.read(lambda tx: store.invites(tx, found.guild_id))
        return self._catalogue.issued(found, strings)

    async def revoke(self, guild: str, invite: str) -> list[IssuedInviteView]:
        """End an invite. Raises NotPermitted, BadInput."""
        found = self._governance.guild(self._catalogue.resolve(guild), "revoke", "revoke invites")
        await self._governance.revoke(found, invite)
        return await self.invites(found.hex)
