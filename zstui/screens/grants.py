"""Windows about one grant: set it, and see beforehand what it would have done with the payments of the last month."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Literal, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Input, Static

from zstui.bridge import Bridge
from zstui.engine.commands import RehearsePolicy, SetGrant
from zstui.engine.errors import ZsError
from zstui.engine.money import format_amount, parse_amount
from zstui.engine.views import GrantView, PolicyView, RehearsalView, RehearsedCount
from zstui.screens.dialog import Keys
from zstui.screens.form import Choice, Field, FieldError, Form, plain_input
from zstui.screens.record_dialogs import ReadScreen
from zstui.screens.values import named, parse_duration, safe
from zstui.screens.widgets.text import fit, now, short_id, until

DAYS = 30
"""How far back a rehearsal looks."""
SETTLE_S = 0.4
"""After the last change of a field before it is rehearsed."""
LIMITS = ("each", "day", "total")
WOULD = {"auto": "paid", "ask": "asked", "block": "blocked"}


def subject_of(bridge: Bridge, grant: GrantView) -> str:
    """Whom or what a grant is about, by name."""
    peer, guild = bridge.peers.get(grant.subject), bridge.guilds.get(grant.subject)
    if peer is not None:
        return named(peer.name, peer.peer_id, 16)
    if guild is not None:
        return f"guild {safe(guild.name, 20)}"
    return f"{grant.scope} {short_id(grant.subject)}" if grant.subject else "anybody"


class GrantScreen(Form[PolicyView | None]):
    """One grant, every limit of it finite, new or to be changed. What it would have done shows while it is typed and
    changes nothing. Dismissed with the policy, or None."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("f5", "rehearsal", "Rehearsal", id="grant.rehearsal")]

    def __init__(self, bridge: Bridge, grant: GrantView | None = None) -> None:
        super().__init__(bridge)
        self._grant = grant
        self._rehearsal: RehearsalView | None = None
        self._pause: Timer | None = None
        self.heading = "Pay without asking: change a grant" if grant else "Pay without asking: a new grant"

    def content(self) -> ComposeResult:
        grant = self._grant
        each, day, total = (
            (format_amount(u) for u in (grant.per_payment_u, grant.per_day_u, grant.total_u)) if grant else ("", "", "")
        )
        left = max(60, int(grant.expires_at - now())) if grant and grant.expires_at is not None else 7 * 86_400
        yield Field("To", Choice(self._subjects(), id="subject-choice", spin=True), id="subject")
        yield Field("Each", plain_input(each, placeholder="such as 0.5"), id="each", unit="at most in one payment")
        yield Field("A day", plain_input(day, placeholder="such as 5"), id="day", unit="at most in any 24 hours")
        yield Field(
            "In all",
            plain_input(total, placeholder="such as 20"),
            id="total",
            unit="at most, then the grant is used up",
        )
        yield Field("Lasts", plain_input(_typed(left)), id="expires", unit="then every payment asks again")
        yield Static(
            "Only verified receipts and notes are paid by a grant, and never one that must be typed.",
            classes="note",
            markup=False,
        )
        yield Static("", id="rehearsal", classes="gap", markup=False)

    def _subjects(self) -> list[tuple[str, str]]:
        grant, bridge = self._grant, self.bridge
        if grant is not None:
            return [(f"{grant.scope} {grant.subject}", subject_of(bridge, grant))]
        guilds = [g for g in bridge.guilds.values() if g.state == "joined"]
        subjects = [(f"peer {p.peer_id}", named(p.name, p.peer_id)) for p in bridge.peers.values()]
        subjects += [(f"guild {g.guild_id}", f"anybody in {safe(g.name, 24)}") for g in guilds]
        return [*subjects, ("node ", "anybody")]

    def keys(self) -> Keys:
        details: Keys = (("F5", "Rehearsal"),) if self._rehearsal is not None and self._rehearsal.payments else ()
        return (("Enter", "Grant"), ("Tab", "Next field"), ("←→", "Choose"), *details, ("Esc", "Back"))

    def on_mount(self) -> None:
        self._rehearse()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._soon()

    def on_choice_changed(self) -> None:
        self._soon()

    def _soon(self) -> None:
        if self._pause is not None:
            self._pause.stop()
        self._pause = self.set_timer(SETTLE_S, self._rehearse)

    def _rehearse(self) -> None:
        """See what it would have done, once all of it is typed."""
        try:
            values = self._values()
        except FieldError:
            self._rehearsal = None
            text = f"Once all limits are given, this shows what they would have done in the last {DAYS} days."
            self.query_one("#rehearsal", Static).update(Content.styled(text, "$text-muted"))
            self.show_keys()
            return
        command = RehearsePolicy(**values, days=DAYS)  # type: ignore[arg-type]
        self.reread(partial(self._ask, command))

    async def _ask(self, command: RehearsePolicy) -> None:
        try:
            self._rehearsal = await self.bridge.execute(command)
        except ZsError as error:
            self._rehearsal = None
            self.query_one("#rehearsal", Static).update(Content(str(error)))
        else:
            self.query_one("#rehearsal", Static).update(summary(self._rehearsal))
        self.show_keys()
        self.call_after_refresh(self.bound_body)

    def action_rehearsal(self) -> None:
        if self._rehearsal is not None:
            self.app.push_screen(RehearsalScreen(self.bridge, self._rehearsal))

    def _values(self) -> dict[str, object]:
        """What was typed, as the commands take it. Raises FieldError."""
        scope, _, subject = self.query_one("#subject-choice", Choice).value.partition(" ")
        limits = {field: self.read(field, parse_amount) for field in LIMITS}
        for field, amount in limits.items():
            if amount == 0:
                raise FieldError(field, "Every limit must be above zero.")
        return {
            "scope": cast("Literal['node', 'guild', 'peer', 'job']", scope),
            "subject": subject,
            "per_payment_u": limits["each"],
            "per_day_u": limits["day"],
            "total_u": limits["total"],
            "expires_s": self.read("expires", parse_duration),
        }

    def submit(self) -> None:
        self.send(SetGrant(**self._values()), self.dismiss)  # type: ignore[arg-type]


def _typed(seconds: int) -> str:
    """A duration as a person would type it, rounded down."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return "1m"


def _count(count: RehearsedCount) -> str:
    return f"{count.number} ({format_amount(count.amount_u)})"


def summary(view: RehearsalView) -> Content:
    """Two lines: what would have been done, and what was."""
    if not view.payments:
        return Content(f"Nothing was asked for in the last {view.days} days, so there is nothing to rehearse.")
    return Content.assemble(
        f"Rehearsal: {view.payments} payment{'' if view.payments == 1 else 's'} of {format_amount(view.amount_u)} asked for in "
        f"the last {view.days} days. With this grant ",
        (f"{_count(view.auto)} would have been paid without asking", "bold"),
        f", {_count(view.ask)} asked, {_count(view.block)} blocked. In truth {_count(view.was_auto)} paid without asking.",
    )


class RehearsalScreen(ReadScreen):
    """A rehearsal in full: by peer, by guild, and examples with the rule that decides each."""

    def __init__(self, bridge: Bridge, view: RehearsalView) -> None:
        super().__init__(bridge, f"Rehearsal over {view.days} days; nothing was changed", "\n".join(_rehearsal(view)))


def _rehearsal(view: RehearsalView) -> Iterator[str]:
    yield summary(view).plain
    yield ""
    yield f"{'By':26}{'Paid':>16}{'Asked':>16}{'Blocked':>16}"
    for part in (*view.peers, *view.guilds):
        name = f"{part.scope} {safe(part.name or short_id(part.subject), 18)}"
        yield fit(name, 26) + "".join(f"{_count(count):>16}" for count in (part.auto, part.ask, part.block))
    yield ""
    yield "Examples"
    for e in view.examples:
        truth = f"was {e.became}{' by itself' if e.automatic else ''}"
        what = f"{format_amount(e.amount_u)} to {safe(e.peer_name, 16)} for {safe(e.module, 20)}"
        yield f"{until(e.at)}  {WOULD[e.action]:8}{what}: {safe(e.why, 60)} ({e.rule}; {truth})"
