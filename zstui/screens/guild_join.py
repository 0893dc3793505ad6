"""Joining a guild: what it is and what an invite to it says, read before anything is sent, and the role taken."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from zstui.bridge import Bridge
from zstui.engine.commands import JoinGuild, ShowInvite
from zstui.engine.errors import ZsError
from zstui.engine.views import GuildView, InviteDetailView, Role
from zstui.screens.dialog import ARM_DELAY, MUTED, Dialog, Fields, Keys, Rows
from zstui.screens.form import Choice, Field, FieldError, Form
from zstui.screens.guild_rows import ADMISSIONS, needs_words
from zstui.screens.values import named, safe
from zstui.screens.widgets.text import countdown, short_address, until

ROLES: dict[str, str] = {
    "member": "You can submit jobs and talk. Your machine runs nothing for others.",
    "executor": "You consent to run the programs that members of this guild send, sandboxed and at your price, until you leave "
    "or the guild ends. You can also submit jobs.",
    "observer": "You can see the guild and read along. You submit nothing and run nothing.",
}
LATER = "later: I join none now"
_GUILD_ID = re.compile(r"[0-9a-f]{64}\Z")


class InviteInput(Input):
    """A pasted invite may be broken into lines, as mail and terminals do."""

    def _on_paste(self, event: events.Paste) -> None:
        event.prevent_default()
        event.stop()
        self.insert_text_at_cursor("".join(event.text.split()))


class JoinFields(Vertical):
    """A guild, seen, by invite or by its whole id, and a role. ``target`` is what ``JoinGuild`` takes."""

    DEFAULT_CSS = "JoinFields { height: auto; }"

    def __init__(self, bridge: Bridge, guild: GuildView | None = None, *, optional: bool = False) -> None:
        """``guild``: that one and no other. ``optional``: none may be chosen too."""
        super().__init__()
        self._bridge = bridge
        self._fixed = guild
        self._optional = optional
        self._read: InviteDetailView | None = None
        """What the invite in the field says."""
        self._read_at = 0.0
        self._asking = False
        """The inviter is being asked how it stands."""
        self._problem = ""
        """Why the node cannot read it."""

    def compose(self) -> ComposeResult:
        if self._fixed is None:
            yield Field("Seen", Choice(self._seen(), id="seen-choice", spin=True), id="seen")
            box = InviteInput(
                placeholder="paste an invite, or the whole id of an open guild",
                compact=True,
                max_length=4000,
                select_on_focus=False,
            )
            yield Field("Or invite", box, id="invite")
        yield Rows(label_width=12, id="about", classes="gap" if self._fixed is None else None)
        role = Field("My role", Choice([(role, role) for role in ROLES], "member", id="role-choice"), id="role")
        yield role.add_class("gap")
        yield Static(ROLES["member"], id="consent", classes="note", markup=False)

    def on_mount(self) -> None:
        self._show()

    @property
    def role(self) -> Role:
        return cast("Role", self.query_one("#role-choice", Choice).value)

    def offer(self) -> None:
        """Other guilds may have been seen; the chosen one stays."""
        if self._fixed is None:
            self.query_one("#seen-choice", Choice).offer(self._seen())
            if not self._pasted:
                self._show()

    def target(self) -> str:
        """The pasted invite, once it was shown, or the guild's id, or "" for none. Raises FieldError."""
        if self._fixed is not None:
            return self._fixed.guild_id
        if self._pasted:
            if not _GUILD_ID.match(self._pasted):
                self._check_read()
            return self._pasted
        chosen = self.query_one("#seen-choice", Choice).value
        if not chosen and not self._optional:
            raise FieldError("invite", "No guild was seen; paste an invite.")
        return chosen

    def _check_read(self) -> None:
        if self._read is None:
            raise FieldError("invite", self._problem or "Reading the invite; press Enter again.")
        if self._read.expired:
            raise FieldError("invite", "This invite has expired; ask for a new one.")
        if self._read.usable is False:
            raise FieldError("invite", self._read.standing)
        if time.monotonic() - self._read_at < ARM_DELAY:
            raise FieldError("invite", "Compare what it says below, then press Enter.")

    @property
    def _pasted(self) -> str:
        if self._fixed is not None:
            return ""
        return self.query_one("#invite Input", Input).value.strip()

    def _seen(self) -> list[tuple[str, str]]:
        guilds = [(g.guild_id, guild_line(g)) for g in seen_guilds(self._bridge)]
        return [("", LATER), *guilds] if self._optional else guilds

    # --- what is known of it

    def on_choice_changed(self, event: Choice.Changed) -> None:
        event.stop()
        self.query_one("#consent", Static).update(Content(ROLES[self.role]))
        self._show()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._read, self._problem, self._asking = None, "", False
        if event.value.strip() and not _GUILD_ID.match(event.value.strip()):
            self.run_worker(self._inspect(event.value.strip()), exclusive=True, group="inspect")
        else:
            self.query_one("#invite", Field).fail("")
            self._show()

    async def _inspect(self, text: str) -> None:
        try:
            detail = await self._bridge.execute(ShowInvite(invite=text))
        except ZsError as error:
            self._problem = str(error)
        else:
            self._read, self._read_at = detail, time.monotonic()
        self.query_one("#invite", Field).fail(self._problem)
        self._show()
        if self._read is not None and self._is_linked(self._read.issuer):
            await self._ask(text)

    def _is_linked(self, peer_id: str) -> bool:
        peer = self._bridge.peers.get(peer_id)
        return peer is not None and peer.state == "online"

    def ask(self) -> None:
        """Ask the inviter how often the pasted invite can still be used."""
        if self._read is not None:
            self._asking = True
            self._show()
            self.run_worker(self._ask(self._pasted), exclusive=True, group="inspect")

    async def _ask(self, text: str) -> None:
        try:
            detail = await self._bridge.execute(ShowInvite(invite=text, ask=True))
        except ZsError as error:
            self._problem = str(error)
        else:
            self._read = detail
        self._asking = False
        self._show()

    def _show(self) -> None:
        about = self.query_one("#about", Rows)
        pasted = bool(self._pasted)
        if self._fixed is None:
            self.query_one("#seen").display = not pasted
        guild = self._fixed
        if guild is None and not pasted:
            guild = self._bridge.guilds.get(self.query_one("#seen-choice", Choice).value)
        fields = (
            invite_fields(self._read, asking=self._asking)
            if self._read is not None
            else guild_fields(guild)
            if guild
            else ()
        )
        about.display = bool(fields)
        about.show(fields)
        if isinstance(self.screen, Dialog):
            self.call_after_refresh(self.screen.bound_body)


class JoinGuildScreen(Form[GuildView | None]):
    """Joins the guild ``guild_id``, or one that was seen, or the one of a pasted invite. Dismissed with it, or None."""

    heading = "Join a guild"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f2", "ask", "Ask the inviter", show=False, id="join.ask")]

    def __init__(self, bridge: Bridge, guild_id: str | None = None) -> None:
        super().__init__(bridge)
        guild = None if guild_id is None else bridge.guilds.get(guild_id)
        self._fields = JoinFields(bridge, guild)
        self._fixed = guild is not None
        self._asks = guild is not None and guild.admission == "knock"
        if guild is not None:
            self.heading = f"{'Ask to join' if self._asks else 'Join'} {safe(guild.name)}"

    def content(self) -> ComposeResult:
        yield self._fields

    def keys(self) -> Keys:
        word = "Ask to be let in" if self._asks else "Join"
        ask = () if self._fixed else (("F2", "Ask the inviter"),)
        return (("Enter", word), ("Tab", "Next field"), ("←→", "Choose"), *ask, ("Esc", "Back"))

    def on_mount(self) -> None:
        self.follow("guilds", self._fields.offer)

    def action_ask(self) -> None:
        self._fields.ask()

    def submit(self) -> None:
        command = JoinGuild(guild=self._fields.target(), role=self._fields.role)
        self.say("Asking the guild…")
        self.execute(command, self.dismiss)


def seen_guilds(bridge: Bridge) -> list[GuildView]:
    """Those that can be joined, the fullest last."""
    guilds = (g for g in bridge.guilds.values() if g.state == "seen" and g.expires_at > time.time())
    return sorted(guilds, key=lambda g: (g.member_count >= g.max_members, g.name))


def guild_line(guild: GuildView) -> str:
    return f"{safe(guild.name, 24)}  by {safe(guild.creator_name, 16)}  {guild.member_count}/{guild.max_members}"


def guild_fields(guild: GuildView) -> Fields:
    """What was announced of a guild."""
    full = "  full" if guild.member_count >= guild.max_members else ""
    needs = needs_words(guild.needs)
    rows: Sequence[tuple[str, str | Content]] = (
        ("Creator", named(guild.creator_name, guild.creator)),
        ("Members", f"{guild.member_count} of {guild.max_members}{full}"),
        ("Ends", f"in {countdown(guild.expires_at - time.time())}"),
        ("Joining", ADMISSIONS[guild.admission]),
    )
    return (*rows, ("Executors", f"need {needs}")) if needs else rows


def invite_fields(invite: InviteDetailView, *, asking: bool = False) -> Fields:
    """What an invite says, to be compared with the one who sent it, and how it stands as far as that was asked."""
    over = Content.styled("  EXPIRED, ask for a new one", "bold $text-error") if invite.expired else Content("")
    rows: list[tuple[str, str | Content]] = [
        ("Guild", Content.styled(safe(invite.name), "bold")),
        ("Creator", named(invite.creator_name, invite.creator)),
        ("Its key", safe(invite.fingerprint, 60)),
        (
            "Code",
            Content.assemble(
                (safe(invite.code, 60), "bold"), "  read it aloud: the inviter sees the same, or do not join"
            ),
        ),
        ("Valid", Content.assemble(f"until {until(invite.expires_at)}", over)),
        ("Uses", _uses(invite, asking)),
        ("Role", "any: an invite does not limit it, you choose it below"),
    ]
    if invite.issuer != invite.creator:
        rows.insert(2, ("Invited by", named(invite.issuer_name, invite.issuer)))
    if invite.addresses:
        places = ", ".join(short_address(address) for address in invite.addresses[:3])
        rows.append(("Found at", safe(places, 120)))
    if invite.joined:
        rows.append(
            ("", Content.styled("You are in this guild already; joining again changes your role.", "$text-warning"))
        )
    return rows


def _uses(invite: InviteDetailView, asking: bool) -> str | Content:
    if asking:
        return "asking the inviter…"
    if not invite.standing:
        return Content.styled("not in the invite: F2 asks the inviter, which connects to it", MUTED)
    style = "" if invite.usable else "$text-warning" if invite.usable is None else "bold $text-error"
    return Content.styled(safe(invite.standing, 200), style)
