"""Invites: making one, showing it as string, words and QR code, the list of all, and taking one back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import zip_longest
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from zstui.bridge import Bridge
from zstui.engine.commands import InviteToGuild, ListInvites, RevokeInvite, ShowInvite
from zstui.engine.views import GuildView, InviteDetailView, IssuedInviteView
from zstui.qr import half_blocks
from zstui.screens.dialog import Dialog, Guarded, Keys, Rows
from zstui.screens.form import Field, Form, plain_input
from zstui.screens.guild_rows import runs
from zstui.screens.list_dialog import ListDialog
from zstui.screens.values import parse_count, parse_duration, safe
from zstui.screens.widgets.lines import LinesView, paragraph
from zstui.screens.widgets.table import Column
from zstui.screens.widgets.text import Line, Span, clip, countdown, now, plain, until

STATES = {"open": "ok", "used up": "muted", "revoked": "muted", "expired": "muted"}
COLOURS = "#ffffff on #000000"
GAP = 2
"""Cells between a QR code and the words beside it."""
LEAST = 18
"""Cells that the words beside a QR code need."""


class InviteScreen(Form[IssuedInviteView | None]):
    """Makes an invite to one guild. Dismissed with it, or None."""

    def __init__(self, bridge: Bridge, guild_id: str) -> None:
        super().__init__(bridge)
        self._guild_id = guild_id
        guild = bridge.guilds.get(guild_id)
        self.heading = f"Invite to {safe(guild.name)}" if guild else "Invite"

    def content(self) -> ComposeResult:
        yield Field("Good for", plain_input("1"), id="uses", unit="peers that join with it, 50 at most")
        yield Field("Valid", plain_input("1h"), id="ttl", unit="1m to 24h, and no longer than the guild")
        yield Static(
            "Whoever holds the invite joins without being asked. All members see that it exists; you can revoke it.",
            classes="note",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("Enter", "Make the invite"), ("Tab", "Next field"), ("Esc", "Back"))

    def submit(self) -> None:
        command = InviteToGuild(
            guild=self._guild_id,
            uses=self.read("uses", lambda text: parse_count(text, 1, 50)),
            ttl_s=self.read("ttl", parse_duration),
        )
        self.say("Asking the node…")
        self.execute(
            command,
            lambda made: self.dismiss(
                IssuedInviteView(
                    guild_id=self._guild_id,
                    invite_id=made.invite_id,
                    issuer="",
                    issuer_name="",
                    issued_at=int(now()),
                    expires_at=made.expires_at,
                    uses=made.uses,
                    used=0,
                    state="open",
                    invite=made.invite,
                    code=made.code,
                )
            ),
        )


class InviteTextScreen(Dialog[None]):
    """One invite of mine: its string to send, its words to read aloud, its QR code by key."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "copy", "Copy", id="invite.copy"),
        Binding("r", "code", "QR code", id="invite.code"),
    ]

    def __init__(self, bridge: Bridge, invite: IssuedInviteView) -> None:
        super().__init__(bridge)
        self._invite = invite
        guild = bridge.guilds.get(invite.guild_id)
        self.heading = f"Invite to {safe(guild.name)}" if guild else "Invite"

    def content(self) -> ComposeResult:
        invite = self._invite
        left = invite.uses - invite.used
        yield Rows(
            (
                ("Code", Content.styled(safe(invite.code, 60), "bold")),
                ("", "The other side sees this code too. Read it aloud; if it differs, do not join."),
                ("", ""),
                ("Invite", safe(invite.invite, 2000)),
                ("", ""),
                ("Good for", f"{left} more peer{'' if left == 1 else 's'} of {invite.uses}"),
                ("Valid", f"until {until(invite.expires_at)}"),
            )
        )

    def keys(self) -> Keys:
        return (("y", "Copy the invite"), ("r", "QR code"), ("Esc", "Close"))

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._invite.invite)
        self.say("Copied, if the terminal allows it.", "done")

    def action_code(self) -> None:
        self.execute(
            ShowInvite(invite=self._invite.invite, qr=True),
            lambda detail: self.app.push_screen(QrScreen(detail, self._invite.invite)),
        )


class QrScreen(ModalScreen[None]):
    """An invite's QR code over the whole terminal; where that is too small, the size it needs and the string."""

    CSS_PATH = "dialog.tcss"
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter,r", "close", "Back", id="qr.close")]

    def __init__(self, invite: InviteDetailView, text: str) -> None:
        super().__init__()
        self._detail = invite
        self._text = text
        self.view = LinesView(id="qr")

    def compose(self) -> ComposeResult:
        yield self.view

    def on_lines_view_resized(self) -> None:
        self.view.show(self._lines())

    def _lines(self) -> list[Line]:
        width, height = self.app.size
        code = half_blocks(self._detail.qr)
        columns = len(code[0])
        if width < columns or height < len(code):
            return self._too_small(width, columns, len(code))
        room = width - columns - GAP
        words = self._words(room) if room >= LEAST else []
        style = "" if self.app.no_color else COLOURS
        return [
            (Span(line, style), Span(" " * GAP), *(word or ())) for line, word in zip_longest(code, words[: len(code)])
        ]

    def _words(self, room: int) -> list[Line]:
        return [
            (),
            (Span(clip(plain(self._detail.name), room), "strong"),),
            *paragraph(f"until {until(self._detail.expires_at)}", "muted", room),
            (),
            *((Span(word, "accent strong"),) for word in plain(self._detail.code).split("-")),
            (),
            *paragraph("Scan the code. The other side sees these words too; if they differ, do not join.", "", room),
            (),
            *paragraph("Esc goes back.", "muted", room),
        ]

    def _too_small(self, width: int, columns: int, lines: int) -> list[Line]:
        text = f"The QR code needs a window of {columns}x{lines}. Make it larger, or send the string:"
        return [
            *paragraph(text, "warn", width),
            (),
            *paragraph(self._text, "", width),
            (),
            *paragraph(f"Code: {self._detail.code}   Esc goes back.", "", width),
        ]

    def action_close(self) -> None:
        self.dismiss(None)


class RevokeInviteScreen(Guarded[list[IssuedInviteView] | None]):
    """Ends an invite. Dismissed with the guild's invites, or None."""

    GUARDED = frozenset({"revoke"})
    BINDINGS: ClassVar[list[BindingType]] = [Binding("R", "revoke", "Revoke", id="revoke.yes")]

    def __init__(self, bridge: Bridge, invite: IssuedInviteView) -> None:
        super().__init__(bridge)
        self._invite = invite
        self.heading = f"Revoke the invite {safe(invite.code or invite.invite_id[:8])}?"

    def content(self) -> ComposeResult:
        used = (
            f"Whoever joined with it ({self._invite.used}) stays."
            if self._invite.used
            else "Nobody has joined with it."
        )
        yield Static(Content(f"From now on nobody joins with it. {used}"), markup=False)

    def keys(self) -> Keys:
        return (("R", "Revoke it"), ("Esc", "Back, keep it"))

    def action_revoke(self) -> None:
        command = RevokeInvite(guild=self._invite.guild_id, invite=self._invite.invite_id)
        self.execute(command, self.dismiss, closed="The invite is revoked.")


class InvitesScreen(ListDialog[None, IssuedInviteView]):
    """All invites of one guild. Where there is none yet, making one is asked first."""

    SORT = "State"
    FREE = ListDialog.FREE | {"n", "enter", "R"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New", id="invites.new"),
        Binding("R", "revoke", "Revoke", id="invites.revoke"),
    ]

    def __init__(self, bridge: Bridge, guild: GuildView) -> None:
        super().__init__(bridge)
        self._guild = guild
        self._asked = False
        self.heading = f"Invites to {safe(guild.name)}"

    def columns(self) -> Sequence[Column[IssuedInviteView]]:
        order = ("open", "used up", "expired", "revoked")

        def rank(invite: IssuedInviteView) -> tuple[int, int]:
            return (order.index(invite.state), -invite.issued_at)

        return (
            Column("Code", 19, lambda i: Span(plain(i.code) or "not mine", "strong" if i.code else "faint"), flex=1),
            Column("Id", 8, lambda i: Span(i.invite_id[:8], "muted"), above=60),
            Column("By", 12, lambda i: plain(i.issuer_name), flex=1),
            Column("Used", 7, lambda i: f"{i.used} of {i.uses}"),
            Column("Ends", 6, lambda i: countdown(i.expires_at - now()) if i.state == "open" else "-", align="right"),
            Column("State", 8, lambda i: Span(i.state, STATES[i.state]), rank),
        )

    def key(self, record: IssuedInviteView) -> str:
        return record.invite_id

    def empty(self) -> str:
        return "No invite yet. n makes one."

    def keys(self) -> Keys:
        invite = self.table.record
        show = (("Enter", "Show"),) if invite is not None and invite.invite else ()
        revoke = (("R", "Revoke"),) if invite is not None and invite.state == "open" else ()
        return (("n", "New invite"), *show, *revoke, ("Esc", "Close"))

    def on_mount(self) -> None:
        self.set_interval(1.0, self.table.repaint)
        self._unwatch.append(self.bridge.watch("guilds", self._changed))
        self._fetch()

    def _changed(self) -> None:
        if self._guild.guild_id in self.bridge.changed.get("guilds", ()):
            self.call_later(self._if_open, self._fetch)

    def _fetch(self) -> None:
        self.reread(partial(self.attempt, ListInvites(guild=self._guild.guild_id), self._loaded))

    def _loaded(self, invites: list[IssuedInviteView]) -> None:
        self.show(invites)
        if not invites and not self._asked and runs(self._guild):
            self.action_new()
        self._asked = True

    def action_new(self) -> None:
        def made(invite: IssuedInviteView | None) -> None:
            if invite is not None:
                self._fetch()
                self.app.push_screen(InviteTextScreen(self.bridge, invite))

        self._asked = True
        self.app.push_screen(InviteScreen(self.bridge, self._guild.guild_id), made)

    def on_line_table_opened(self) -> None:
        invite = self.table.record
        if invite is not None and invite.invite:
            self.app.push_screen(InviteTextScreen(self.bridge, invite))
        elif invite is not None:
            self.say("Only its maker has the string." if not invite.code else "This invite is over.", "error")

    def action_revoke(self) -> None:
        invite = self.table.record
        if invite is None or invite.state != "open":
            self.say("This invite is over already." if invite else "There is no invite.", "error")
            return

        def revoked(invites: list[IssuedInviteView] | None) -> None:
            if invites is not None:
                self.show(invites)
                self.say("It is revoked.", "done")

        self.app.push_screen(RevokeInviteScreen(self.bridge, invite), revoked)
