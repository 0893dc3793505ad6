"""Windows that begin, lengthen, leave and end a guild. Each decides with a key or word of its own."""

from __future__ import annotations

import time
from typing import ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, Static

from zstui.bridge import Bridge
from zstui.engine.commands import CreateGuild, DissolveGuild, ExtendGuild, KickMember, LeaveGuild
from zstui.engine.errors import BadInput
from zstui.engine.views import Admission, GuildMemberView, GuildView
from zstui.screens.dialog import Guarded, Keys, Rows
from zstui.screens.form import Choice, Field, FieldError, Form, plain_input
from zstui.screens.values import named, parse_count, parse_duration, safe
from zstui.screens.widgets.text import countdown, until

WHO_JOINS = {
    "open": "It is announced to your peers, and anybody joins.",
    "knock": "It is announced to your peers. Who wants to join asks, and you or an officer you name lets them in.",
    "invite": "Nobody sees it. Who has an invite of yours joins; you make invites with i.",
}


def _tags(text: str) -> tuple[str, ...]:
    return tuple(tag.strip() for tag in text.split(",") if tag.strip())


class CreateGuildScreen(Form[GuildView | None]):
    """Dismissed with the new guild, or None."""

    heading = "New guild"

    def content(self) -> ComposeResult:
        yield Field("Name", plain_input(placeholder="what others will see", limit=48), id="name")
        yield Field("Lasts", plain_input("1h"), id="ttl", unit="1m to 24h; you can extend it later")
        yield Field("Members", plain_input("50"), id="members", unit="at most, you included")
        choice = Choice(
            [("open", "anybody"), ("knock", "who is let in"), ("invite", "by invite only")],
            "open",
            id="admission-choice",
        )
        yield Field("Joins", choice, id="admission")
        yield Static(WHO_JOINS["open"], id="who", classes="note", markup=False)
        yield Static("Executors need", classes="section", markup=False)
        yield Field("Memory", plain_input("0"), id="memory", unit="MiB for one job, 0 for any")
        yield Field("Cores", plain_input("0"), id="cores", unit="at least, 0 for any")
        yield Field("Tags", plain_input(placeholder="such as gpu, quiet; none for any", limit=140), id="tags")

    def keys(self) -> Keys:
        return (("Enter", "Create"), ("Tab", "Next field"), ("←→", "Choose"), ("Esc", "Back"))

    def on_choice_changed(self, event: Choice.Changed) -> None:
        self.query_one("#who", Static).update(Content(WHO_JOINS[event.choice.value]))

    def submit(self) -> None:
        name = self.text_of("name")
        if not name:
            raise FieldError("name", "A guild needs a name.")
        command = CreateGuild(
            name=name,
            ttl_s=self.read("ttl", parse_duration),
            max_members=self.read("members", lambda text: parse_count(text, 2, 50)),
            admission=cast("Admission", self.query_one("#admission-choice", Choice).value),
            need_memory_mib=self.read("memory", lambda text: parse_count(text, 0, 2**20)),
            need_cores=self.read("cores", lambda text: parse_count(text, 0, 4096)),
            need_tags=_tags(self.text_of("tags")),
        )
        self.send(command, self.dismiss)


class ExtendGuildScreen(Form[GuildView | None]):
    """More time for a guild of mine. Dismissed with the guild, or None."""

    def __init__(self, bridge: Bridge, guild: GuildView) -> None:
        super().__init__(bridge)
        self._guild = guild
        self.heading = f"Extend {safe(guild.name)}"

    def content(self) -> ComposeResult:
        yield Field("By", plain_input("1h"), id="by", unit="1m to 24h at a time, 30 days in all")
        yield Rows(id="ends", label_width=12, classes="gap")

    def keys(self) -> Keys:
        return (("Enter", "Extend"), ("Esc", "Back"))

    def on_mount(self) -> None:
        self.follow("guilds", self._show)
        self.set_interval(1.0, self._show)
        self._show()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._show()

    def _show(self) -> None:
        self._guild = guild = self.bridge.guilds.get(self._guild.guild_id, self._guild)
        try:
            then = f"at {until(guild.expires_at + parse_duration(self.text_of('by')))}"
        except BadInput:
            then = "-"
        left = countdown(guild.expires_at - time.time())
        self.query_one("#ends", Rows).show(
            (("Ends now", f"at {until(guild.expires_at)}, in {left}"), ("Would end", Content.styled(then, "bold")))
        )

    def submit(self) -> None:
        command = ExtendGuild(guild=self._guild.guild_id, by_s=self.read("by", parse_duration))
        self.send(command, self.dismiss)


class LeaveGuildScreen(Guarded[GuildView | None]):
    """Out of a guild, or no longer waiting to get in. Dismissed with the guild, or None."""

    GUARDED = frozenset({"leave"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("L", "leave", "Leave", id="leave.yes")]

    def __init__(self, bridge: Bridge, guild: GuildView) -> None:
        super().__init__(bridge)
        self._guild = guild
        self._waits = guild.state == "knocking"
        self.heading = f"{'Stop asking at' if self._waits else 'Leave'} {safe(guild.name)}?"

    def content(self) -> ComposeResult:
        name = safe(self._guild.name)
        if self._waits:
            text = f"Your request to be let into {name} is taken back."
        else:
            text = (
                f"You lose the group key of {name}: you read nothing that is written from now on and can send no jobs in it. "
                "Jobs under way end as agreed, and channels stay open. What you have read stays here."
            )
        yield Static(Content(text), markup=False)

    def keys(self) -> Keys:
        return (("L", "Take it back" if self._waits else "Leave"), ("Esc", "Stay"))

    def action_leave(self) -> None:
        done = f"You left {safe(self._guild.name)}."
        self.execute(LeaveGuild(guild=self._guild.guild_id), self.dismiss, closed=done)


class KickScreen(Guarded[GuildView | None]):
    """Somebody else out of a guild. Dismissed with the guild, or None."""

    danger = True
    GUARDED = frozenset({"kick"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("K", "kick", "Remove", id="kick.yes")]

    def __init__(self, bridge: Bridge, guild: GuildView, member: GuildMemberView) -> None:
        super().__init__(bridge)
        self._guild = guild
        self._member = member
        self._who = safe(member.name, 24)
        self.heading = f"REMOVE {self._who} from {safe(guild.name)}?"

    def content(self) -> ComposeResult:
        role = f"{self._member.role}, officer" if self._member.officer else self._member.role
        yield Rows((("Member", named(self._member.name, self._member.peer_id)), ("Role", role)))
        yield Static(
            Content(
                "The group key changes at once, so this peer reads nothing written from now on. What it has read already it "
                "keeps. Only a new invite lets it back in. All members are told."
            ),
            classes="gap",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("K", f"Remove {self._who}"), ("Esc", "Back, keep the member"))

    def action_kick(self) -> None:
        command = KickMember(guild=self._guild.guild_id, peer=self._member.peer_id)
        self.say("Working…")
        self.execute(command, self.dismiss, closed=f"{self._who} is no longer in {safe(self._guild.name)}.")


class DissolveGuildScreen(Form[GuildView | None]):
    """The end of a guild for everybody. The word must be typed. Dismissed with the guild, or None."""

    danger = True
    WORD = "dissolve"

    def __init__(self, bridge: Bridge, guild: GuildView) -> None:
        super().__init__(bridge)
        self._guild = guild
        self.heading = f"DISSOLVE {safe(guild.name)}: ends it for everybody"

    def content(self) -> ComposeResult:
        guild = self._guild
        whom = "you, its only member" if guild.member_count == 1 else f"all {guild.member_count} members"
        jobs = f" Under way in it: {guild.jobs} job{'' if guild.jobs == 1 else 's'}." if guild.jobs else ""
        yield Static(
            Content(
                f"{safe(guild.name)} ends now for {whom}. Nobody can send jobs or messages in it any more, and it cannot be "
                f"opened again.{jobs}"
            ),
            markup=False,
        )
        yield Field("Type it", plain_input(placeholder="the word dissolve, then Enter"), id="word").add_class("gap")

    def keys(self) -> Keys:
        return (("Enter", "Dissolve the guild"), ("Esc", "Back, keep the guild"))

    def submit(self) -> None:
        if self.text_of("word").lower() != self.WORD:
            raise FieldError("word", "Type the word dissolve to end this guild, or Esc to keep it.")
        self.send(DissolveGuild(guild=self._guild.guild_id), self.dismiss)
