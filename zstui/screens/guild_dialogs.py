"""Windows about guilds: create, join, invite, talk."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import RichLog, Static

from zstui.bridge import Bridge
from zstui.engine.commands import CreateGuild, InviteToGuild, JoinGuild, ListMessages, SendMessage
from zstui.engine.views import Admission, GuildMessageView, GuildView, InviteView, Role
from zstui.screens.dialog import Dialog, Keys, Rows
from zstui.screens.form import Choice, Field, FieldError, Form, plain_input
from zstui.screens.values import named, parse_count, parse_duration, safe
from zstui.screens.widgets.text import countdown, until

ROLES: dict[str, str] = {
    "member": "You can submit jobs and talk. Your machine runs nothing for others.",
    "executor": "You consent to run the programs that members of this guild send, sandboxed and at your price, until you leave "
    "or the guild ends. You can also submit jobs.",
    "observer": "You can see the guild and read along. You submit nothing and run nothing.",
}
MESSAGES = 500


def role_choice(role: str = "member") -> Choice:
    return Choice([(r, r) for r in ROLES], role, id="role-choice")


class CreateGuildScreen(Form[GuildView | None]):
    """Dismissed with the new guild, or None."""

    heading = "New guild"

    def content(self) -> ComposeResult:
        yield Field("Name", plain_input(placeholder="what others will see", limit=40), id="name")
        yield Field("Lasts", plain_input("1h"), id="ttl", unit="such as 30m, 1h, 2d; then it is gone")
        yield Field("Members", plain_input("50"), id="members", unit="at most, you included")
        choice = Choice(
            [("open", "announced, anybody joins"), ("knock", "announced, you let in"), ("invite", "by invite only")],
            "open",
            id="admission-choice",
        )
        yield Field("Open", choice, id="admission")
        yield Static(
            "You create it with its own encryption key and can dissolve it at any time.", classes="note", markup=False
        )

    def keys(self) -> Keys:
        return (("Enter", "Create"), ("Tab", "Next field"), ("←→", "Choose"), ("Esc", "Back"))

    def submit(self) -> None:
        name = self.text_of("name")
        if not name:
            raise FieldError("name", "A guild needs a name.")
        command = CreateGuild(
            name=name,
            ttl_s=self.read("ttl", parse_duration),
            max_members=self.read("members", lambda text: parse_count(text, 1, 1000)),
            admission=cast("Admission", self.query_one("#admission-choice", Choice).value),
        )
        self.send(command, self.dismiss)


class JoinGuildScreen(Form[GuildView | None]):
    """Joins the guild ``guild_id``, or one that was seen, or the one of a pasted invite. Dismissed with it, or None."""

    heading = "Join a guild"

    def __init__(self, bridge: Bridge, guild_id: str | None = None) -> None:
        super().__init__(bridge)
        self._fixed = None if guild_id is None else bridge.guilds.get(guild_id)
        self._seen = seen_guilds(bridge)
        if self._fixed is not None:
            self.heading = f"Join {safe(self._fixed.name)}"

    def content(self) -> ComposeResult:
        if self._fixed is not None:
            yield Rows(guild_fields(self._fixed), label_width=12)
            yield Field("Role", role_choice(), id="role")
        else:
            yield from join_fields(self._seen)
        yield Static(ROLES["member"], id="consent", classes="note", markup=False)

    def keys(self) -> Keys:
        return (("Enter", "Join"), ("Tab", "Next field"), ("←→", "Choose"), ("Esc", "Back"))

    def on_choice_changed(self, event: Choice.Changed) -> None:
        show_consent(self)

    def submit(self) -> None:
        role = cast("Role", self.query_one("#role-choice", Choice).value)
        guild = self._fixed.guild_id if self._fixed is not None else chosen_guild(self)
        if not guild:
            raise FieldError("invite", "No guild was seen; paste an invite.")
        self.send(JoinGuild(guild=guild, role=role), self.dismiss)


def seen_guilds(bridge: Bridge) -> list[GuildView]:
    """Those that can be joined, the fullest last."""
    guilds = (g for g in bridge.guilds.values() if g.state == "seen" and g.expires_at > time.time())
    return sorted(guilds, key=lambda g: (g.member_count >= g.max_members, g.name))


def guild_line(guild: GuildView) -> str:
    return f"{safe(guild.name, 24)}  by {safe(guild.creator_name, 16)}  {guild.member_count}/{guild.max_members}"


def guild_fields(guild: GuildView) -> Sequence[tuple[str, str]]:
    full = "  full" if guild.member_count >= guild.max_members else ""
    return (
        ("Creator", named(guild.creator_name, guild.creator)),
        ("Members", f"{guild.member_count} of {guild.max_members}{full}"),
        ("Ends", f"in {countdown(guild.expires_at - time.time())}"),
    )


def join_fields(seen: Sequence[GuildView]) -> ComposeResult:
    """The fields to choose a guild and a role; ``chosen_guild`` reads them."""
    options = [
        (g.guild_id, f"{safe(g.name, 24)}  by {safe(g.creator_name, 16)}  {g.member_count}/{g.max_members}")
        for g in seen
    ]
    yield Field("Seen", Choice(options, id="seen-choice", spin=True), id="seen")
    yield Field("Or invite", plain_input(placeholder="paste an invite, used before the list", limit=4000), id="invite")
    yield Field("Role", role_choice(), id="role")


def chosen_guild(form: Form[Any]) -> str:
    """The pasted invite, else the chosen guild's id, else ""."""
    return form.text_of("invite") or form.query_one("#seen-choice", Choice).value


def show_consent(form: Form[Any]) -> None:
    form.query_one("#consent", Static).update(Content(ROLES[form.query_one("#role-choice", Choice).value]))


class InviteScreen(Dialog[None]):
    """Shows a fresh invite of one guild."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("y", "copy", "Copy", id="invite.copy")]

    def __init__(self, bridge: Bridge, guild_id: str) -> None:
        super().__init__(bridge)
        self._guild_id = guild_id
        self._invite = ""
        guild = bridge.guilds.get(guild_id)
        self.heading = f"Invite to {safe(guild.name)}" if guild else "Invite"

    def content(self) -> ComposeResult:
        yield Rows(id="invite")

    def keys(self) -> Keys:
        return ((("y", "Copy the invite"),) if self._invite else ()) + (("Esc", "Close"),)

    def on_mount(self) -> None:
        self.say("Asking the node…")
        self.execute(InviteToGuild(guild=self._guild_id), self._show)

    def _show(self, view: InviteView) -> None:
        self._invite = view.invite
        self.say("")
        self.show_keys()
        self.query_one(Rows).show(
            (
                ("Code", Content.styled(safe(view.code, 60), "bold")),
                ("", "The other side sees this code too. Read it aloud; if it differs, do not join."),
                ("", ""),
                ("Invite", safe(view.invite, 2000)),
                ("", ""),
                ("Valid", f"until {until(view.expires_at)}"),
            )
        )
        self.call_after_refresh(self.bound_body)

    def action_copy(self) -> None:
        if self._invite:
            self.app.copy_to_clipboard(self._invite)
            self.say("Copied, if the terminal allows it.", "done")


class MessagesScreen(Form[None]):
    """The encrypted talk of one guild."""

    tall = True

    def __init__(self, bridge: Bridge, guild_id: str) -> None:
        super().__init__(bridge)
        self._guild_id = guild_id
        self._shown: list[GuildMessageView] = []
        guild = bridge.guilds.get(guild_id)
        self.heading = f"Messages of {safe(guild.name)}" if guild else "Messages"

    def content(self) -> ComposeResult:
        log = RichLog(id="messages", max_lines=MESSAGES * 4, min_width=20, wrap=True, markup=False)
        log.can_focus = False
        yield log
        yield Field("Say", plain_input(placeholder="a message to all members", limit=1000), id="text")

    def keys(self) -> Keys:
        return (("Enter", "Send"), ("PgUp PgDn", "Scroll"), ("Esc", "Close"))

    def on_mount(self) -> None:
        self.follow("messages", self._fetch)
        self._fetch()

    def _fetch(self) -> None:
        self.run_worker(self._load(), exclusive=True, name="messages")

    async def _load(self) -> None:
        await self.attempt(ListMessages(guild=self._guild_id), self._show)

    def _show(self, messages: list[GuildMessageView]) -> None:
        messages = messages[-MESSAGES:]
        log = self.query_one(RichLog)
        known = len(self._shown)
        if not known or messages[:known] != self._shown:
            log.clear()
            known = 0
        for message in messages[known:]:
            log.write(_message_line(message))
        if not messages:
            log.write(Text("Nothing was said yet.", "dim"))
        self._shown = messages

    def submit(self) -> None:
        text = self.text_of("text")
        if text:
            self.send(SendMessage(guild=self._guild_id, text=text), self._sent)

    def _sent(self, _: GuildMessageView) -> None:
        self.say("")
        self.query_one("#text", Field).set_text("")
        self._fetch()

    def action_page(self, direction: int) -> None:
        log = self.query_one(RichLog)
        log.scroll_relative(y=direction * max(1, log.size.height - 1), animate=False)


def _message_line(message: GuildMessageView) -> Text:
    at = time.strftime("%H:%M ", time.localtime(message.sent_at))
    words = safe(message.text, 4000)
    if message.system:
        return Text.assemble((at, "dim"), (words, "italic dim"))
    return Text.assemble((at, "dim"), (f"{named(message.sender_name, message.sender, 20)}  ", "bold"), words)
