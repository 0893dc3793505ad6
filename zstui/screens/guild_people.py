"""Who is in a guild and who asks to be: windows of those who run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from zstui.bridge import Bridge
from zstui.engine.commands import AdmitPeer, NameOfficer, RefusePeer
from zstui.engine.views import GuildMemberView, GuildView, KnockView
from zstui.screens.dialog import Keys
from zstui.screens.guild_details import keeper, presence
from zstui.screens.guild_dialogs import KickScreen
from zstui.screens.guild_rows import needs_words
from zstui.screens.list_dialog import ListDialog
from zstui.screens.values import long_key, safe
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import Span, duration, now, plain, short_peer

OFFICE = "An officer admits, invites and removes members, and keeps the guild while the creator is away."
ROLE_ASKED = {
    "member": "it could submit jobs and talk",
    "executor": "it would run members' jobs, submit its own and talk",
    "observer": "it could only read along",
}


class MembersScreen(ListDialog[None, GuildMemberView]):
    """Members of one guild; its creator names officers and, as they do, removes members here."""

    SORT = "Role"
    GUARDED = frozenset({"office"})
    FREE = ListDialog.FREE | {"K", "y"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "office", "Officer", id="members.office"),
        Binding("K", "kick", "Remove", id="members.kick"),
        Binding("y", "copy", "Copy id", id="members.copy"),
    ]

    def __init__(self, bridge: Bridge, guild: GuildView) -> None:
        self._guild = guild
        super().__init__(bridge)
        self.heading = f"Members of {safe(guild.name)}"

    def columns(self) -> Sequence[Column[GuildMemberView]]:
        order = {"creator": 0, "executor": 2, "member": 3, "observer": 4}

        def rank(member: GuildMemberView) -> tuple[int, str]:
            return (1 if member.officer else order[member.role], member.name.casefold())

        return (
            Column("Name", 16, lambda m: Span(plain(m.name) or "-", "strong"), lambda m: m.name.casefold(), flex=2),
            Column("Role", 8, lambda m: m.role, rank),
            Column("Office", 7, lambda m: Span("officer", "accent") if m.officer else Span("-", "faint"), above=50),
            Column("Presence", 14, lambda m: Span(*presence(m))),
            Column("Key", 9, lambda m: Span(short_peer(m.peer_id), "muted"), above=60),
        )

    def key(self, record: GuildMemberView) -> str:
        return record.peer_id

    def content(self) -> ComposeResult:
        yield from super().content()
        yield Static("", id="about", classes="note", markup=False)

    def keys(self) -> Keys:
        member, mine = self.table.record, self._guild.role == "creator"
        keys: list[tuple[str, str]] = []
        if mine and self._may_office(member):
            keys.append(("o", "Take the office back" if member is not None and member.officer else "Name officer"))
        if self._may_kick(member):
            keys.append(("K", "Remove"))
        return (*keys, ("y", "Copy id"), ("Esc", "Close"))

    def _may_office(self, member: GuildMemberView | None) -> bool:
        return member is not None and self._guild.role == "creator" and member.role in ("member", "executor")

    def _may_kick(self, member: GuildMemberView | None) -> bool:
        if member is None or member.role == "creator" or member.peer_id == self._me:
            return False
        return self._guild.role == "creator" or (self._guild.officer and not member.officer)

    @property
    def _me(self) -> str:
        return self.bridge.status.peer_id if self.bridge.status else ""

    def on_mount(self) -> None:
        self.follow("guilds", self._reload)
        self._reload()

    def _reload(self) -> None:
        self._guild = self.bridge.guilds.get(self._guild.guild_id, self._guild)
        self.show(self._guild.members)

    def chosen(self, record: GuildMemberView | None) -> None:
        who = keeper(self._guild)[0]
        text = f"Keeper now: {who}. {OFFICE}"
        if record is not None:
            text = f"{safe(record.name, 24)}  {long_key(record.peer_id)}\n{text}"
        self.query_one("#about", Static).update(Content(text))

    def action_office(self) -> None:
        member = self.table.record
        if member is None or not self._may_office(member):
            why = (
                "Only the creator names officers."
                if self._guild.role != "creator"
                else "Members and executors can be officers."
            )
            self.say(why, "error")
            return
        command = NameOfficer(guild=self._guild.guild_id, peer=member.peer_id, remove=member.officer)
        word = "is no officer any more" if member.officer else "is an officer now"
        self.execute(command, lambda _: self.say(f"{safe(member.name, 24)} {word}.", "done"))

    def action_kick(self) -> None:
        member = self.table.record
        if member is None or not self._may_kick(member):
            self.say(
                "You cannot remove this member: the creator removes all others, officers all but each other.", "error"
            )
            return

        def removed(guild: GuildView | None) -> None:
            self.disarm()
            if guild is not None:
                self.say(f"{safe(member.name, 24)} is no longer in {safe(guild.name)}.", "done")

        self.app.push_screen(KickScreen(self.bridge, self._guild, member), removed)

    def action_copy(self) -> None:
        if self.table.record is not None:
            self.app.copy_to_clipboard(self.table.record.peer_id)
            self.say(f"Copied, if the terminal allows it: {safe(self.table.record.peer_id, 80)}", "done")


class KnocksScreen(ListDialog[None, KnockView]):
    """Who asks to be let in, in all guilds that I help to run. A new one changes neither focus nor cursor."""

    heading = "Asking to be let in"
    SORT = "Waits"
    GUARDED = frozenset({"admit", "refuse"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("A", "admit", "Let in", id="knocks.admit"),
        Binding("R", "refuse", "Refuse", id="knocks.refuse"),
    ]

    def columns(self) -> Sequence[Column[KnockView]]:
        return (
            Column("Who", 16, lambda k: Span(plain(k.name) or short_peer(k.peer_id), "strong"), flex=2),
            Column("Key", 9, lambda k: Span(short_peer(k.peer_id), "muted"), above=60),
            Column("As", 8, lambda k: k.role),
            Column("Guild", 14, lambda k: plain(k.guild_name), flex=1),
            Column("Waits", 6, lambda k: duration(now() - k.asked_at), lambda k: k.asked_at, align="right"),
            Column("Now", 7, lambda k: Span("online", "ok") if k.online else Span("away", "muted")),
        )

    def key(self, record: KnockView) -> str:
        return f"{record.guild_id} {record.peer_id}"

    def content(self) -> ComposeResult:
        yield from super().content()
        yield Static("", id="about", classes="note", markup=False)

    def empty(self) -> str:
        return "Nobody asks to be let in."

    def keys(self) -> Keys:
        if self.table.record is None:
            return (("Esc", "Close"),)
        return (("A", "Let in"), ("R", "Refuse"), ("↑↓", "Choose"), ("Esc", "Later"))

    def on_mount(self) -> None:
        self.follow("guilds", self._reload)
        self.set_interval(1.0, self.table.repaint)
        self._reload()

    def _reload(self) -> None:
        self.show(knock for guild in self.bridge.guilds.values() for knock in guild.knocks)

    def chosen(self, record: KnockView | None) -> None:
        self.query_one("#about", Static).update(Content("" if record is None else self._about(record)))

    def _about(self, knock: KnockView) -> str:
        peer, guild = self.bridge.peers.get(knock.peer_id), self.bridge.guilds.get(knock.guild_id)
        known = f"score {peer.score:.2f}" if peer is not None and peer.score is not None else "no score yet"
        lines = [
            f"{safe(knock.name, 24)}  {long_key(knock.peer_id)}  {known}",
            f"As {knock.role} {ROLE_ASKED.get(knock.role, '')}; letting it in gives that role and no more.",
        ]
        if guild is not None:
            lines.append(f"{safe(guild.name)} has {guild.member_count} of {guild.max_members} members.")
            if knock.role == "executor" and (needs := needs_words(guild.needs)):
                lines[-1] += f" Executors need {needs}; its card says it has them."
        return "\n".join((*lines, "Whoever is refused may ask again in an hour."))

    def action_admit(self) -> None:
        if (knock := self.table.record) is not None:
            command = AdmitPeer(guild=knock.guild_id, peer=knock.peer_id)
            done = f"{safe(knock.name, 24)} is in {safe(knock.guild_name)} as {knock.role}."
            self.execute(command, lambda _: self.say(done, "done"), closed=done)

    def action_refuse(self) -> None:
        if (knock := self.table.record) is not None:
            command = RefusePeer(guild=knock.guild_id, peer=knock.peer_id)
            done = f"{safe(knock.name, 24)} was not let into {safe(knock.guild_name)}."
            self.execute(command, lambda _: self.say(done, "done"), closed=done)
