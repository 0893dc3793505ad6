"""Pane 2: ephemeral encrypted groups, mine and those announced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from zstui.engine.commands import DissolveGuild, KickMember, LeaveGuild
from zstui.engine.views import GuildView
from zstui.screens.dialogs import (
    ConfirmScreen,
    CreateGuildScreen,
    InviteScreen,
    JoinGuildScreen,
    MessagesScreen,
    TextInputScreen,
)
from zstui.screens.pane import Pane
from zstui.screens.widgets.lines import field, heading
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import (
    Cell,
    Line,
    Span,
    clip,
    clock_time,
    countdown,
    duration,
    fit,
    now,
    plain,
    short_peer,
    until,
)

STATES = {"joined": "ok", "seen": "info", "knocking": "warn", "left": "muted", "expired": "muted", "dissolved": "muted"}
ORDER = {"joined": 0, "knocking": 1, "seen": 2, "left": 3, "expired": 4, "dissolved": 5}


def _ttl(guild: GuildView) -> Cell:
    left = guild.expires_at - now()
    if left <= 0 or guild.state in ("expired", "dissolved"):
        return Span("over", "muted")
    return Span(countdown(left) if left < 300 else duration(left), "warn" if left < 300 else "")


def _members(guild: GuildView) -> Cell:
    full = guild.member_count >= guild.max_members
    return Span(f"{guild.member_count}/{guild.max_members}" + (" full" if full else ""), "warn" if full else "")


class GuildsPane(Pane[GuildView]):
    TITLE = "Guilds"
    RECORD = "Guild"
    AREA = "guilds"
    ALSO = ("messages",)
    SORT = "State"
    HELP = (
        "A guild is a private group that ends by itself after its time to live. Members share an encryption key and "
        "trust each other with jobs: a job is always sent within a guild. The creator invites and removes members."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", id="guilds.new", tooltip="Create a guild"),
        Binding("J", "join", "Join", id="guilds.join", tooltip="Join this guild, or one by invite code"),
        Binding("i", "invite", "Invite", id="guilds.invite", tooltip="Make an invite code for this guild"),
        Binding("m", "message", "Message", id="guilds.message", tooltip="Read and write this guild's messages"),
        Binding("x", "leave", "Leave", id="guilds.leave", tooltip="Leave this guild"),
        Binding("X", "dissolve", "Dissolve", id="guilds.dissolve", tooltip="End a guild you created, for everybody"),
        Binding("K", "kick", "Kick", id="guilds.kick", tooltip="Remove a member from a guild you created"),
    ]

    def columns(self) -> Sequence[Column[GuildView]]:
        return (
            Column("Guild", 14, lambda g: Span(plain(g.name), "strong"), lambda g: g.name.casefold(), flex=3, limit=32),
            Column("Role", 8, lambda g: g.role or Span("-", "faint"), lambda g: g.role or "~"),
            Column("Members", 10, _members, lambda g: -g.member_count),
            Column("Jobs", 4, lambda g: str(g.jobs), lambda g: -g.jobs, align="right"),
            Column("TTL", 5, _ttl, lambda g: g.expires_at, align="right"),
            Column(
                "Key", 9, lambda g: Span(plain(g.fingerprint) or "-", "muted" if g.fingerprint else "faint"), above=70
            ),
            Column(
                "News",
                6,
                lambda g: Span(f"{g.unread} new", "accent") if g.unread else Span("-", "faint"),
                lambda g: -g.unread,
                above=70,
            ),
            Column("State", 9, lambda g: Span(g.state, STATES[g.state]), lambda g: (ORDER[g.state], g.name.casefold())),
            Column(
                "Creator",
                10,
                lambda g: plain(g.creator_name) or short_peer(g.creator),
                lambda g: g.creator_name.casefold(),
                flex=1,
                above=90,
                limit=24,
            ),
        )

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
        if record.state == "seen":
            if record.member_count >= record.max_members:
                return (f"{record.name} is full ({record.member_count}/{record.max_members}).", "warn")
            return (f"You are not in {record.name}. J joins it.", "info")
        if record.state == "expired":
            return (f"{record.name} ended at {until(record.expires_at)}; its keys are gone.", "muted")
        if record.state == "joined" and record.unread:
            return (f"{record.unread} new messages in {record.name}. m reads them.", "accent")
        return ("", "")

    def details(self, record: GuildView, width: int) -> list[Line]:
        left = record.expires_at - now()
        lines: list[Line] = [
            *field("Guild", record.name, "strong", width),
            *field("State", record.state + (", private" if record.private else ""), STATES[record.state], width),
            *field("Creator", f"{record.creator_name or '-'}  {short_peer(record.creator)}", "", width),
            *field("My role", record.role or "none: J joins", "" if record.role else "info", width),
            *field("Ends", f"{until(record.expires_at)}, in {countdown(left)}" if left > 0 else "over", "", width),
            *field("Group key", f"{record.fingerprint or 'not a member'}  epoch {record.epoch}", "", width),
            *field("Id", record.guild_id, "", width),
            *heading(f"Members {record.member_count}/{record.max_members}", width),
        ]
        for member in record.members:
            dot, style = ("● online ", "ok") if member.online else ("○ offline", "muted")
            name = fit(clip(plain(member.name) or short_peer(member.peer_id), 16), 16)
            lines.append((Span(name + " "), Span(f"{member.role:<9} ", "muted"), Span(dot, style)))
        if not record.members:
            lines.append((Span("Members show after joining.", "muted"),))
        if messages := self.bridge.messages.get(record.guild_id):
            lines += heading("Latest messages", width)
            for message in messages[-8:]:
                who = "" if message.system else f"{message.sender_name}: "
                lines += field(
                    clock_time(message.sent_at)[:5], who + message.text, "muted" if message.system else "", width, 6
                )
        return lines

    def empty(self) -> list[str]:
        return ["No guild announced.", "n  create one     J  join one by its invite code"]

    # --- actions ------------------------------------------------------------------------------------------------------

    def _mine(self, what: str) -> GuildView | None:
        guild = self.need("guild")
        if guild is not None and guild.state != "joined":
            self.say(f"You are not in {guild.name}, so you cannot {what}.")
            return None
        return guild

    def action_new(self) -> None:
        self.ask(CreateGuildScreen(self.bridge), self._joined)

    def action_join(self) -> None:
        guild = self.table.record
        seen = guild is not None and guild.state == "seen"
        self.ask(JoinGuildScreen(self.bridge, guild.guild_id if guild and seen else None), self._joined)

    def _joined(self, guild: GuildView) -> None:
        self.select(guild.guild_id)
        self.say(f"You are in {guild.name} as {guild.role}.")

    def action_invite(self) -> None:
        if guild := self._mine("invite others"):
            self.ask(InviteScreen(self.bridge, guild.guild_id))

    def action_message(self) -> None:
        if guild := self._mine("read its messages"):
            self.ask(MessagesScreen(self.bridge, guild.guild_id))

    def open(self, record: GuildView) -> None:
        if record.state == "seen":
            self.ask(JoinGuildScreen(self.bridge, record.guild_id), self._joined)
        else:
            super().open(record)

    def action_leave(self) -> None:
        if guild := self._mine("leave it"):
            self.ask(
                ConfirmScreen(f"Leave {guild.name}?", "You lose its key and can no longer send jobs in it.", "Leave"),
                lambda _: self.execute(LeaveGuild(guild=guild.guild_id), lambda view: f"You left {view.name}."),
            )

    def action_dissolve(self) -> None:
        if not (guild := self._mine("dissolve it")):
            return
        if guild.role != "creator":
            self.say("Only the creator can dissolve a guild; x leaves it.")
            return
        whom = "you, its only member" if guild.member_count == 1 else f"all {guild.member_count} members"
        self.ask(
            ConfirmScreen(f"Dissolve {guild.name}?", f"It ends now for {whom}.", "Dissolve"),
            lambda _: self.execute(DissolveGuild(guild=guild.guild_id), lambda view: f"{view.name} is dissolved."),
        )

    def action_kick(self) -> None:
        if not (guild := self._mine("remove members")):
            return
        if guild.role != "creator":
            self.say("Only the creator can remove members.")
            return
        members = {plain(m.name) or m.peer_id: m.peer_id for m in guild.members if m.role != "creator"}
        if not members:
            self.say(f"Nobody else is in {guild.name}.")
            return

        def kick(name: str) -> None:
            command = KickMember(guild=guild.guild_id, peer=members.get(name, name))
            self.execute(command, lambda view: f"{name} is no longer in {view.name}.")

        self.ask(
            TextInputScreen(f"Remove a member of {plain(guild.name)}", "Name or id: " + ", ".join(members), ""), kick
        )
