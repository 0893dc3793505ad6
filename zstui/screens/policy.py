"""Windows about what may be paid without a key press, and how much credit peers have."""

from __future__ import annotations

from typing import ClassVar, Literal, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from zstui.bridge import Bridge
from zstui.engine.commands import SetGrant, SetLimits, ShowPolicy
from zstui.engine.money import format_amount, parse_amount
from zstui.engine.views import GrantView, PolicyView
from zstui.screens.dialog import Keys
from zstui.screens.form import Choice, Field, FieldError, Form, plain_input
from zstui.screens.values import named, parse_duration, safe
from zstui.screens.widgets.text import short_id, until


class PolicyScreen(Form[PolicyView | None]):
    """Limits to edit and grants to add or take away. Dismissed with the policy, or None."""

    heading = "Spending policy"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f2", "grant", "New grant", id="policy.grant"),
        Binding("delete", "revoke", "Take away", id="policy.revoke"),
    ]

    def __init__(self, bridge: Bridge) -> None:
        super().__init__(bridge)
        self._policy: PolicyView | None = None

    def content(self) -> ComposeResult:
        yield Field("Type above", plain_input(), id="typed", unit="payments above this: the amount must be typed")
        yield Field("Members", plain_input(), id="member", unit="credit of a peer in a guild of mine")
        yield Field("Strangers", plain_input(), id="stranger", unit="credit of anybody else")
        yield Static("Grants: what is paid without asking", classes="section", markup=False)
        yield OptionList(id="grants", markup=False, compact=True)

    def keys(self) -> Keys:
        return (("Enter", "Save limits"), ("F2", "New grant"), ("Delete", "Take the grant away"), ("Esc", "Back"))

    def on_mount(self) -> None:
        self.run_worker(self.attempt(ShowPolicy(), self._loaded))

    def _loaded(self, policy: PolicyView) -> None:
        amounts = (policy.typed_above_u, policy.credit_member_u, policy.credit_stranger_u)
        for field, amount in zip(("typed", "member", "stranger"), amounts, strict=True):
            self.query_one(f"#{field}", Field).set_text(format_amount(amount))
        self._list(policy)

    def _list(self, policy: PolicyView) -> None:
        self._policy = policy
        grants = self.query_one("#grants", OptionList)
        grants.clear_options()
        if policy.grants:
            grants.add_options([Option(self._line(g), str(i)) for i, g in enumerate(policy.grants)])
        else:
            grants.add_option(Option("none: every payment asks", disabled=True))
        self.call_after_refresh(self.bound_body)

    def _line(self, grant: GrantView) -> str:
        end = "" if grant.expires_at is None else f"  until {until(grant.expires_at)}"
        return (
            f"{self._subject(grant)}: {format_amount(grant.per_payment_u)} each, "
            f"{format_amount(grant.spent_day_u)} of {format_amount(grant.per_day_u)} a day, "
            f"{format_amount(grant.spent_total_u)} of {format_amount(grant.total_u)} in all{end}"
        )

    def _subject(self, grant: GrantView) -> str:
        peer, guild = self.bridge.peers.get(grant.subject), self.bridge.guilds.get(grant.subject)
        if peer is not None:
            return named(peer.name, peer.peer_id, 16)
        if guild is not None:
            return f"guild {safe(guild.name, 20)}"
        return f"{grant.scope} {short_id(grant.subject)}" if grant.subject else "anybody"

    def submit(self) -> None:
        command = SetLimits(
            typed_above_u=self.read("typed", parse_amount),
            credit_member_u=self.read("member", parse_amount),
            credit_stranger_u=self.read("stranger", parse_amount),
        )
        self.send(command, self.dismiss)

    def action_grant(self) -> None:
        self.app.push_screen(GrantScreen(self.bridge), lambda policy: self._list(policy) if policy else None)

    def action_revoke(self) -> None:
        grants = self.query_one("#grants", OptionList)
        at = grants.highlighted
        if self._policy is None or at is None or at >= len(self._policy.grants) or not grants.has_focus:
            self.say("Choose a grant with Tab and the arrows first.")
            return
        grant = self._policy.grants[at]
        self.execute(SetGrant(scope=grant.scope, subject=grant.subject), self._list)


class GrantScreen(Form[PolicyView | None]):
    """One new grant, every limit of it finite. Dismissed with the policy, or None."""

    heading = "Pay without asking: a new grant"

    def content(self) -> ComposeResult:
        guilds = [g for g in self.bridge.guilds.values() if g.state == "joined"]
        subjects = [(f"peer {p.peer_id}", named(p.name, p.peer_id)) for p in self.bridge.peers.values()]
        subjects += [(f"guild {g.guild_id}", f"anybody in {safe(g.name, 24)}") for g in guilds]
        subjects.append(("node ", "anybody"))
        yield Field("To", Choice(subjects, id="subject-choice", spin=True), id="subject")
        yield Field("Each", plain_input(placeholder="such as 0.5"), id="each", unit="at most in one payment")
        yield Field("A day", plain_input(placeholder="such as 5"), id="day", unit="at most in any 24 hours")
        yield Field(
            "In all", plain_input(placeholder="such as 20"), id="total", unit="at most, then the grant is used up"
        )
        yield Field("Lasts", plain_input("7d"), id="expires", unit="then every payment asks again")
        yield Static(
            "Only verified receipts are paid by a grant, and never one that must be typed.",
            classes="note",
            markup=False,
        )

    def keys(self) -> Keys:
        return (("Enter", "Grant"), ("Tab", "Next field"), ("←→", "Choose"), ("Esc", "Back"))

    def submit(self) -> None:
        scope, _, subject = self.query_one("#subject-choice", Choice).value.partition(" ")
        limits = {field: self.read(field, parse_amount) for field in ("each", "day", "total")}
        for field, amount in limits.items():
            if amount == 0:
                raise FieldError(field, "Every limit must be above zero.")
        command = SetGrant(
            scope=cast("Literal['node', 'guild', 'peer']", scope),
            subject=subject,
            per_payment_u=limits["each"],
            per_day_u=limits["day"],
            total_u=limits["total"],
            expires_s=self.read("expires", parse_duration),
        )
        self.send(command, self.dismiss)
