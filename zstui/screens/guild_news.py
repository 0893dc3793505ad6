"""What happens in guilds that a person should hear of, whatever is on the screen: knocks, and answers to one's own."""

from __future__ import annotations

from zstui.bridge import Bridge
from zstui.engine.views import KnockView
from zstui.screens.widgets.text import clip, now, plain, short_peer

NAME = 24


def knocks(bridge: Bridge) -> list[KnockView]:
    """All that wait for this person's answer."""
    return [knock for guild in bridge.guilds.values() for knock in guild.knocks]


class GuildNews:
    """Tells each thing once. What was there at the start is no news."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self.waiting = 0
        self._known: set[tuple[str, str]] = set()
        self._asking: dict[str, float] = {}
        """Guilds where this node waits, and since when that is known."""
        self.fresh()

    def fresh(self) -> list[str]:
        """Sentences about what changed since the last call."""
        waiting = {(knock.guild_id, knock.peer_id): knock for knock in knocks(self._bridge)}
        told = self._knocked([knock for key, knock in waiting.items() if key not in self._known])
        self._known, self.waiting = set(waiting), len(waiting)
        asking = [guild.guild_id for guild in self._bridge.guilds.values() if guild.state == "knocking"]
        for guild_id in self._asking.keys() - asking:
            told += self._answered(guild_id, self._asking[guild_id])
        self._asking = {guild_id: self._asking.get(guild_id, now()) for guild_id in asking}
        return told

    def _knocked(self, fresh: list[KnockView]) -> list[str]:
        if len(fresh) > 1:
            return [f"{len(fresh)} peers ask to be let into guilds of yours. 2, then w answers."]
        return [
            f"{_clean(knock.name) or short_peer(knock.peer_id)} asks to be let into {_clean(knock.guild_name)} "
            f"as {knock.role}. 2, then w answers."
            for knock in fresh
        ]

    def _answered(self, guild_id: str, since: float) -> list[str]:
        """That this node was let in, or why not, as the node logged it; nothing if the person took the question back."""
        guild = self._bridge.guilds.get(guild_id)
        if guild is not None and guild.state == "joined":
            return [f"You were let into {_clean(guild.name)} as {guild.role}."]
        for line in reversed(self._bridge.log):
            if line.subject == guild_id and line.level == "warning" and line.at_us >= since * 1e6:
                return [plain(line.text)]
        return []


def _clean(name: str) -> str:
    return clip(plain(name), NAME)
