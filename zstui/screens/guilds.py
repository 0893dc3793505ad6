"""Pane 2: ephemeral encrypted groups, mine and those announced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zstui.bridge import Bridge
from zstui.engine.commands import ListMessages
from zstui.engine.errors import ZsError
from zstui.engine.views import GuildMessageView, GuildView
from zstui.screens.dialogs import (
    CreateGuildScreen,
    DissolveGuildScreen,
    ExtendGuildScreen,
    InvitesScreen,
    JoinGuildScreen,
    KnocksScreen,
    LeaveGuildScreen,
    MembersScreen,
    MessagesScreen,
)
from zstui.screens.guild_details import LATEST, guild_details, note
from zstui.screens.guild_rows import columns, is_over, runs
from zstui.screens.pane import Pane
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import Line


class GuildsPane(Pane[GuildView]):
    TITLE = "Guilds"
    RECORD = "Guild"
    AREA = "guilds"
    ALSO = ("messages",)
    SORT = "State"
    HELP = (
        "A guild is a private group that ends by itself after its time to live. Members share an encryption key and "
        "trust each other with jobs: a job is always sent within a guild. The creator, and the officers it names, invite, "
        "admit and remove members; while the creator is away an officer keeps the guild. Whoever leaves or is removed reads "
        "nothing that is written later. Public guilds anywhere in the network are listed as seen. News "
        "says who asks to be let in (w answers) and what was said (m)."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", id="guilds.new", tooltip="Create a guild"),
        Binding("J", "join", "Join", id="guilds.join", tooltip="Join this guild, or one by an invite"),
        Binding("m", "message", "Chat", id="guilds.message", tooltip="Read and write this guild's messages"),
        Binding("i", "invite", "Invites", id="guilds.invite", tooltip="Make, show and revoke invites to this guild"),
        Binding("w", "knocks", "Knocks", id="guilds.knocks", tooltip="Let in or refuse who asks to join"),
        Binding("o", "members", "Members", id="guilds.members", tooltip="Who is in it; name officers, kick members"),
        Binding("E", "extend", "Extend", id="guilds.extend", tooltip="Let a guild you created live longer"),
        Binding("x", "leave", "Leave", id="guilds.leave", tooltip="Leave this guild, or stop asking to be let in"),
        Binding("X", "dissolve", "End", id="guilds.dissolve", tooltip="Dissolve a guild you created, for everybody"),
    ]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._latest: dict[str, list[GuildMessageView]] = {}
        """The last messages of each guild whose details were shown."""

    def on_mount(self) -> None:
        self._unwatch.append(self.bridge.watch("messages", self._more_was_said))

    def columns(self) -> Sequence[Column[GuildView]]:
        return columns()

    def key(self, record: GuildView) -> str:
        return record.guild_id

    def records(self) -> Iterable[GuildView]:
        return self.bridge.guilds.values()

    def find(self, key: str) -> GuildView | None:
        return self.bridge.guilds.get(key)

    def words(self, record: GuildView) -> str:
        members = " ".join(member.name for member in record.members)
        return f"{record.name} {record.guild_id} {record.state} {record.role or ''} {record.creator_name} {members}"

    def note(self, record: GuildView) -> tuple[str, str]:
        return note(record)

    def details(self, record: GuildView, width: int) -> list[Line]:
        if record.guild_id not in self._latest and record.role is not None:
            self._latest[record.guild_id] = []
            self._read(record.guild_id)
        return guild_details(record, self._latest.get(record.guild_id, ()), width)

    def _more_was_said(self) -> None:
        for guild_id in self.bridge.changed.get("messages", set()) & self._latest.keys():
            self._read(guild_id)

    def _read(self, guild_id: str) -> None:
        async def work() -> None:
            try:
                messages = await self.bridge.execute(ListMessages(guild=guild_id, peek=True))
            except (ZsError, OSError):
                self._latest.pop(guild_id, None)
            else:
                self._latest[guild_id] = messages[-LATEST:]
                self.post_message(self.Note())

        self.run_worker(work(), exclusive=True, group=f"latest {guild_id}")

    def empty(self) -> list[str]:
        return ["No guild announced.", "n  create one     J  join one by its invite code"]

    # --- actions ------------------------------------------------------------------------------------------------------

    def _mine(self, what: str, *, run: bool = False, own: bool = False) -> GuildView | None:
        """The cursor's guild if I am in it, help to run it or created it, as asked; else a word about why not."""
        guild = self.need("guild")
        if guild is None:
            return None
        if guild.state != "joined":
            self.say(f"You are not in {guild.name}, so you cannot {what}.")
        elif (own and guild.role != "creator") or (run and not runs(guild)):
            who = "the creator" if own else "the creator and its officers"
            self.say(f"Only {who} of {guild.name} can {what}.")
        else:
            return guild
        return None

    def open(self, record: GuildView) -> None:
        if record.state == "seen":
            self.ask(JoinGuildScreen(self.bridge, record.guild_id), self._joined)
        else:
            super().open(record)

    def action_new(self) -> None:
        self.ask(CreateGuildScreen(self.bridge), self._joined)

    def action_join(self) -> None:
        guild = self.table.record
        fixed = guild is not None and guild.state == "seen" and guild.admission != "invite"
        self.ask(JoinGuildScreen(self.bridge, guild.guild_id if guild and fixed else None), self._joined)

    def _joined(self, guild: GuildView) -> None:
        self.select(guild.guild_id)
        if guild.state == "knocking":
            self.say(f"You asked to be let into {guild.name}. It may take a while; you are told of the answer.")
        else:
            self.say(f"You are in {guild.name} as {guild.role}.")

    def action_invite(self) -> None:
        if guild := self._mine("invite others", run=True):
            self.ask(InvitesScreen(self.bridge, guild))

    def action_knocks(self) -> None:
        self.ask(KnocksScreen(self.bridge))

    def action_members(self) -> None:
        if guild := self._mine("see its members"):
            self.ask(MembersScreen(self.bridge, guild))

    def action_message(self) -> None:
        guild = self.need("guild")
        if guild is not None and guild.role is None:
            self.say(f"You are not in {guild.name}, so you cannot read its messages.")
        elif guild is not None:
            self.ask(MessagesScreen(self.bridge, guild.guild_id))

    def action_extend(self) -> None:
        if guild := self._mine("extend it", own=True):
            done = f"{guild.name} lives longer now."
            self.ask(ExtendGuildScreen(self.bridge, guild), lambda _: self.say(done))

    def action_leave(self) -> None:
        guild = self.need("guild")
        if guild is None:
            return
        if guild.state not in ("joined", "knocking") or is_over(guild):
            self.say(f"You are not in {guild.name}.")
        elif guild.role == "creator":
            self.say(f"You created {guild.name}: X dissolves it for everybody.")
        else:
            word = "You no longer ask to be let into" if guild.state == "knocking" else "You left"
            self.ask(LeaveGuildScreen(self.bridge, guild), lambda view: self.say(f"{word} {view.name}."))

    def action_dissolve(self) -> None:
        if guild := self._mine("dissolve it", own=True):
            self.ask(DissolveGuildScreen(self.bridge, guild), lambda view: self.say(f"{view.name} is dissolved."))
